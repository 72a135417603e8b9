"""`aftermap runs`: what the experiment database knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from aftermap.cli.options import Json, Out
from aftermap.cli.output import print_json, say, wide_console
from aftermap.extras import needs
from aftermap.wording import counted

if TYPE_CHECKING:
    from aftermap.workflows.training.runs import Comparison, RecordedRun

app = App(name="runs", help="List, compare, plot and export recorded runs.")

StatusName = Literal["running", "complete", "interrupted", "failed"]
StoreOption = Annotated[str | None, Parameter(name="--store")]

_KEY_METRICS = {"localization_f1": "loc F1", "official_score": "official", "building_macro_f1": "building F1"}


@app.default
def list_command(
    *,
    where: str = "",
    name: str | None = None,
    status: StatusName | None = None,
    limit: int = 50,
    store: StoreOption = None,
    experiment: str = "aftermap",
    json_output: Json = False,
) -> None:
    """List recorded runs, the newest first.

        aftermap runs --where "metrics.best_score > 0.5 and params.task = 'damage'"

    Metrics with a dash stand in backticks: metrics.`best_f1_no-damage` > 0.4.

    Args:
        where: A filter in MLflow's language on metrics, params, tags and attributes.
        name: A part of the name, or a pattern with * and ?.
        status: Only runs in this state; one that was killed stays "running".
        limit: At most so many; 0 shows all.
        store: Database file, folder or URL; by default AFTERMAP_TRACKING, else runs/mlflow.db.
        experiment: Name of the MLflow experiment.
        json_output: Print JSON.
    """
    needs("aftermap runs", "track")
    from aftermap.workflows.training.runs import list_runs, open_records

    connection = open_records(store, experiment=experiment)
    runs = list_runs(connection, where=where, name=name, status=status, limit=limit)
    if json_output:
        print_json([run.as_dict() for run in runs])
    elif not runs:
        say(f"no runs in {connection.store.shown}" + (" fit" if where or name or status else ""))
    else:
        console = wide_console()
        console.print(_list_table(runs, console.width))
        if len(runs) == limit:
            say(f"the newest {limit}; --limit 0 shows all")


@app.command(name="compare")
def compare_command(
    *runs: str, store: StoreOption = None, experiment: str = "aftermap", json_output: Json = False
) -> None:
    """Show runs side by side: the parameters that differ, and the metrics of the kept steps.

        aftermap runs compare 3f2a91c0 77aa01bc

    Args:
        runs: The beginning of an id, a whole name, or a run folder.
        store: Database file, folder or URL; by default AFTERMAP_TRACKING, else runs/mlflow.db.
        experiment: Name of the MLflow experiment.
        json_output: Print JSON.
    """
    needs("aftermap runs compare", "track")
    from aftermap.errors import RecordsError
    from aftermap.workflows.training.runs import compare_runs, find_runs, open_records

    if len(runs) < 2:
        raise RecordsError("name at least two runs to compare; 'aftermap runs' lists them")
    comparison = compare_runs(find_runs(open_records(store, experiment=experiment), runs))
    if json_output:
        print_json(comparison.as_dict())
    else:
        say(_comparison_table(comparison))


@app.command(name="plot")
def plot_command(
    *runs: str,
    out: Out,
    store: StoreOption = None,
    experiment: str = "aftermap",
) -> None:
    """Draw score, loss, learning rate and F1 by class of some runs as PNG.

        aftermap runs plot 3f2a91c0 77aa01bc -o runs.png

    Args:
        runs: Up to 12: the beginning of an id, a whole name, or a run folder.
        out: The picture.
        store: Database file, folder or URL; by default AFTERMAP_TRACKING, else runs/mlflow.db.
        experiment: Name of the MLflow experiment.
    """
    needs("aftermap runs plot", "track")
    from aftermap.errors import RecordsError
    from aftermap.workflows.training.runs import find_runs, open_records, plot_runs

    if not runs:
        raise RecordsError("name at least one run to draw; 'aftermap runs' lists them")
    connection = open_records(store, experiment=experiment)
    say(f"wrote {plot_runs(connection, find_runs(connection, runs), out)}")


@app.command(name="export")
def export_command(
    *,
    out: Out,
    where: str = "",
    name: str | None = None,
    status: StatusName | None = None,
    store: StoreOption = None,
    experiment: str = "aftermap",
) -> None:
    """Write runs as CSV, a line each: facts, parameters, metrics of the kept step.

        aftermap runs export --status complete -o runs.csv

    Args:
        out: The file.
        where: A filter in MLflow's language on metrics, params, tags and attributes.
        name: A part of the name, or a pattern with * and ?.
        status: Only runs in this state.
        store: Database file, folder or URL; by default AFTERMAP_TRACKING, else runs/mlflow.db.
        experiment: Name of the MLflow experiment.
    """
    needs("aftermap runs export", "track")
    from aftermap.workflows.training.runs import export_csv, list_runs, open_records

    runs = list_runs(open_records(store, experiment=experiment), where=where, name=name, status=status)
    say(f"wrote {counted(len(runs), 'run')} to {export_csv(runs, out)}")


@app.command(name="import")
def import_command(*folders: Path, store: StoreOption = None, experiment: str = "aftermap") -> None:
    """Record run folders afterwards, or fill in what their entries lack.

        aftermap runs import runs/2026-11-20-damage

    Args:
        folders: Run folders.
        store: Database file or URL; by default what a run in that folder would use.
        experiment: Name of the MLflow experiment.
    """
    needs("aftermap runs import", "track")
    from aftermap.errors import RecordsError
    from aftermap.learning.experiments.tracking import find_store, open_store
    from aftermap.workflows.training.runs import import_run

    if not folders:
        raise RecordsError("name at least one run folder")
    for folder in folders:
        if not (folder / "run.json").is_file():
            raise RecordsError(f"{folder} is no run folder: it holds no run.json")
        found = find_store(store, folder)
        if found is None:
            raise RecordsError("records are off: pass --store with a database")
        run_id = import_run(open_store(found, experiment=experiment), folder)
        say(f"{folder} is run {run_id[:8]} in {found.shown}")


@app.command(name="ui")
def ui_command(*, host: str = "127.0.0.1", port: int = 5000, store: StoreOption = None) -> int:
    """Open MLflow's pages on the recorded runs, until Ctrl-C; needs the extra "track".

        aftermap runs ui --port 5001

    Args:
        host: Address to serve at; anyone who reaches it can read and change the records.
        port: Port to serve at.
        store: Database file, folder or URL; by default AFTERMAP_TRACKING, else runs/mlflow.db.
    """
    needs("aftermap runs ui", "track")
    import subprocess
    import tempfile

    from aftermap.errors import RecordsError
    from aftermap.workflows.training.runs import chosen_store, ui_command, ui_environment

    found = chosen_store(store)
    if found.uri.startswith(("http://", "https://")):
        say(f"MLflow is served at {found.shown}")
        return 0
    words = ui_command(host, port)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, env=ui_environment(found), stdout=said, stderr=said)
        try:
            if _answers(process, host, port):
                say(f"{found.shown} at http://{host}:{port} (Ctrl-C ends it)")
            process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()
            process.wait(10)
        said.seek(0)
        lines = [line.strip() for line in said if line.strip()]
    raise RecordsError(f"MLflow's server ended: {lines[-1] if lines else 'it gave no reason'}")


def _answers(process: Any, host: str, port: int) -> bool:
    """Wait until somebody listens; False where the process ended first."""
    import socket
    import time

    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return True
        time.sleep(0.2)
    return False


def _list_table(runs: "list[RecordedRun]", width: int) -> Any:
    """A line per run; columns are left out from the middle where the terminal is too narrow for all."""
    from rich.table import Table
    from rich.text import Text

    colours = {"complete": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}
    columns = {
        "id": [Text(run.id[:8]) for run in runs],
        "name": [Text(run.name) for run in runs],
        "status": [Text(run.status, style=colours[run.status]) for run in runs],
        "started (UTC)": [Text(f"{run.started:%Y-%m-%d %H:%M}") for run in runs],
        "task": [Text(run.tags.get("task", "-")) for run in runs],
        "score": [Text(_number(run.score)) for run in runs],
    }
    for key, heading in _KEY_METRICS.items():
        if any(key in run.metrics for run in runs):
            columns[heading] = [Text(_number(run.metrics.get(key))) for run in runs]
    columns["time"] = [Text(_duration(run.minutes)) for run in runs]
    taken = {name: 2 + max(len(name), *(len(cell) for cell in cells)) for name, cells in columns.items()}
    for heading in (*reversed(_KEY_METRICS.values()), "task", "started (UTC)", "time"):
        if sum(taken.values()) > width and heading in columns:
            del columns[heading], taken[heading]
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for heading in columns:
        is_number = heading in ("score", "time", *_KEY_METRICS.values())
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=heading != "name")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _comparison_table(comparison: "Comparison") -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def table(title: str) -> Table:
        made = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 2))
        made.add_column("")
        for run in comparison.runs:
            made.add_column(Text(f"{run.name}\n{run.id[:8]}"), justify="right")
        return made

    parameters, metrics = table("parameters that differ"), table("metrics of the kept step (highest in bold)")
    for key, values in comparison.parameters.items():
        parameters.add_row(key, *(Text("-" if value is None else value) for value in values))
    for name, numbers in comparison.metrics.items():
        highest = max((number for number in numbers if number is not None), default=None)
        plain = name in ("lr", "epoch") or name.startswith("loss") or len(set(numbers)) == 1
        styles = ["bold" if number == highest and not plain else "" for number in numbers]
        cells = [Text(_number(number), style=style) for number, style in zip(numbers, styles, strict=True)]
        metrics.add_row(name, *cells)
    return Group(parameters if comparison.parameters else "all parameters are the same", "", metrics)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
