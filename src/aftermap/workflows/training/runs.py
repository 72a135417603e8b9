"""What the experiment database knows: lists, comparisons, pictures, tables, and runs recorded afterwards."""

import fnmatch
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from aftermap.config import load_yaml
from aftermap.errors import RecordsError, TrainingError
from aftermap.extras import needs
from aftermap.files import csv_text, write_text
from aftermap.learning.experiments.records import STATUS_NAMES, Records, Status, run_identity
from aftermap.learning.experiments.tracking import (
    DATABASE,
    EXPERIMENT,
    VARIABLE,
    Connection,
    Store,
    one_line,
    open_store,
    parse_store,
)
from aftermap.learning.run import Run
from aftermap.products.figures.curves import MAX_RUNS, RunCurves, draw_runs
from aftermap.wording import counted

_WORDS = {name: word for word, name in STATUS_NAMES.items()}
_KEPT = "best_"


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as the database has it.

    Attributes:
        id: MLflow's.
        status: `running`, `complete`, `interrupted` or `failed`; a run that was killed stays `running`.
        started: when, UTC.
        minutes: the time it has taken, pauses left out.
        score: the best.
        metrics: of the step that was kept; of the last one where none was.
        parameters: the recipe by dotted key.
        tags: facts of the run folder, such as `git`, `machine`, `data_checksum`, `reason`.
    """

    id: str
    name: str
    status: Status
    started: datetime
    minutes: float
    score: float | None
    metrics: dict[str, float]
    parameters: dict[str, str]
    tags: dict[str, str]

    @property
    def label(self) -> str:
        """Name and short id."""
        return f"{self.name} ({self.id[:8]})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "reason": self.tags.get("reason"),
            "started": self.started.isoformat(timespec="seconds"),
            "minutes": self.minutes,
            "task": self.tags.get("task"),
            "score": self.score,
            "metrics": self.metrics,
            "folder": self.tags.get("run_folder"),
            "model": self.tags.get("model"),
            "parameters": self.parameters,
            "tags": {key: value for key, value in self.tags.items() if not key.startswith("mlflow.")},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; values by key in the order of the runs, None where a run has none.

    Attributes:
        parameters: those that differ.
        metrics: of the steps that were kept.
    """

    runs: tuple[RecordedRun, ...]
    parameters: dict[str, tuple[str | None, ...]]
    metrics: dict[str, tuple[float | None, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "runs": [{"id": run.id, "name": run.name} for run in self.runs],
            "parameters": {key: list(values) for key, values in self.parameters.items()},
            "metrics": {key: list(values) for key, values in self.metrics.items()},
        }


def chosen_store(address: str | None) -> Store:
    """The database that is asked: the one given, else AFTERMAP_TRACKING, else that of `runs/` or of this folder.

    Raises:
        RecordsError: there is none.
    """
    here = Path.cwd()
    given = address or os.environ.get(VARIABLE)
    if given:
        store = parse_store(given, artefacts=here / "runs")
        if store is None:
            raise RecordsError(f"{VARIABLE} is {given}: pass --store with a database")
    else:
        folder = here / "runs" if (here / "runs" / DATABASE).exists() else here
        store = parse_store(str(folder / DATABASE), artefacts=folder)
        assert store is not None
    file = Path(store.uri.removeprefix("sqlite:///"))
    if store.uri.startswith("sqlite:///") and not file.exists():
        where = file if given else f"runs/{DATABASE} or {DATABASE} here"
        raise RecordsError(f"there is no experiment database {where}: train a model first, or pass --store")
    return store


def open_records(address: str | None, *, experiment: str = EXPERIMENT) -> Connection:
    """Open the database of `chosen_store`.

    Raises:
        RecordsError: there is none, or it cannot be reached.
    """
    return open_store(chosen_store(address), experiment=experiment)


def list_runs(
    connection: Connection,
    *,
    where: str = "",
    name: str | None = None,
    status: Status | None = None,
    limit: int = 0,
) -> list[RecordedRun]:
    """Runs, the newest first.

    Args:
        connection: an open database.
        where: a filter in MLflow's language, such as `metrics.best_score > 0.5 and params.task = 'damage'`.
        name: a part of the name, or a pattern with `*` and `?`.
        status: only these.
        limit: at most so many; 0 means all.

    Raises:
        RecordsError: the filter cannot be understood, or the database does not answer.
    """
    from mlflow.exceptions import MlflowException

    found: list[RecordedRun] = []
    token = None
    while True:
        try:
            page = connection.client.search_runs(
                [connection.experiment_id], where, order_by=["attributes.start_time DESC"], page_token=token
            )
        except MlflowException as error:
            asked = f"the filter {where!r} " if where else ""
            raise RecordsError(f"{asked}cannot be answered: {one_line(error, connection.store)}") from None
        for entry in page:
            run = _recorded(entry)
            if (name is None or _fits(run.name, name)) and status in (None, run.status):
                found.append(run)
                if len(found) == limit:
                    return found
        token = page.token
        if not token:
            return found


def find_runs(connection: Connection, keys: Sequence[str]) -> list[RecordedRun]:
    """Runs by the beginning of their id, by their whole name, or by run folder.

    Raises:
        RecordsError: a key fits no run, or several.
    """
    every = list_runs(connection)
    return [_find(every, key) for key in keys]


def compare_runs(runs: Sequence[RecordedRun]) -> Comparison:
    """Parameters that differ and metrics of the kept steps, side by side."""
    parameters = {
        key: values
        for key, values in _columns([run.parameters for run in runs]).items()
        if len(set(values)) > 1
    }
    metrics = _columns([run.metrics for run in runs])
    return Comparison(tuple(runs), parameters, metrics)


def plot_runs(connection: Connection, runs: Sequence[RecordedRun], path: Path) -> Path:
    """Draw score, loss, learning rate and F1 by class of up to 12 runs; by epoch where all runs count epochs.

    Raises:
        RecordsError: too many runs, or none has been evaluated.
        OutputError: the picture cannot be written.
    """
    if len(runs) > MAX_RUNS:
        raise RecordsError(
            f"{counted(len(runs), 'run')} are too many for one picture: name at most {MAX_RUNS}"
        )
    histories = [
        {key: _history(connection, run.id, key) for key in ("score", "loss", "lr", "epoch")} for run in runs
    ]
    by_epoch = all(history["epoch"] for history in histories)
    curves = []
    for run, history in zip(runs, histories, strict=True):
        epochs = dict(history.pop("epoch"))
        series: dict[str, list[tuple[float, float]]] = {
            key: [(epochs[step], value) for step, value in points if step in epochs]
            if by_epoch
            else list(points)
            for key, points in history.items()
        }
        curves.append(RunCurves(run.label, series, run.metrics))
    title = runs[0].name if len(runs) == 1 else f"{counted(len(runs), 'run')}"
    try:
        return draw_runs(path, curves, title=title, axis="epoch" if by_epoch else "step")
    except ValueError as error:
        raise RecordsError(f"nothing to draw: {error}") from None


def export_csv(runs: Sequence[RecordedRun], path: Path) -> Path:
    """Write a table with a line per run: facts, then `params.*`, then `metrics.*` of the kept step.

    Raises:
        OutputError: the file cannot be written.
    """
    parameters = sorted({key for run in runs for key in run.parameters})
    metrics = sorted({key for run in runs for key in run.metrics})
    facts = ("id", "name", "status", "reason", "started", "minutes", "task", "score", "folder", "model")
    rows: list[list[Any]] = [
        [*facts, *(f"params.{key}" for key in parameters), *(f"metrics.{key}" for key in metrics)]
    ]
    for run in runs:
        known = run.as_dict()
        rows.append(
            [known[key] for key in facts]
            + [run.parameters.get(key) for key in parameters]
            + [run.metrics.get(key) for key in metrics]
        )
    write_text(path, csv_text(rows))
    return path


def import_run(connection: Connection, folder: Path) -> str:
    """Record a run folder afterwards, or fill in what its entry lacks; twice is as good as once.

    Returns:
        MLflow's id of the run.

    Raises:
        RecordsError: it is no run folder, or the database refuses it.
    """
    run = Run(folder)
    try:
        facts = run.facts()
        recipe = load_yaml((folder / "recipe.yaml").read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError, TrainingError) as error:
        raise RecordsError(f"{folder} is no run folder: {one_line(error)}") from None
    status = facts.get("status")
    if status not in STATUS_NAMES or not isinstance(recipe, dict):
        raise RecordsError(f"{folder} is no run folder: its run.json says no status that is known ({status})")
    records = Records(connection, run, recipe)
    if status != "running":
        records.finish(status, reason=facts.get("reason"), ended=facts.get("ended") or _ended(facts))
    return records.run_id


def ui_command(host: str, port: int) -> list[str]:
    """The command that serves MLflow's pages; the database's address goes to it by `ui_environment`.

    Raises:
        RecordsError: the port is taken.
        MissingExtraError: MLflow's pages are not installed.
    """
    needs("MLflow's pages", "track")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RecordsError(
                f"cannot serve at {host}:{port} ({error.strerror}): pass another --port"
            ) from None
    return [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]


def ui_environment(store: Store) -> dict[str, str]:
    """Environment for `ui_command`: passwords must not stand in a command line."""
    return dict(os.environ) | {
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVE_ARTIFACTS": "true",
    }


def _recorded(entry: Any) -> RecordedRun:
    info, data = entry.info, entry.data
    values = dict(data.metrics)
    minutes = values.pop("minutes", 0.0)
    kept = {k.removeprefix(_KEPT): v for k, v in values.items() if k.startswith(_KEPT)}
    last = {k: v for k, v in values.items() if not k.startswith(_KEPT)}
    kept.pop("minutes", None)
    return RecordedRun(
        id=info.run_id,
        name=info.run_name,
        status=_WORDS.get(info.status, "running"),
        started=datetime.fromtimestamp(info.start_time / 1000, UTC),
        minutes=minutes,
        score=kept.get("score"),
        metrics=kept or last,
        parameters=dict(data.params),
        tags=dict(data.tags),
    )


def _find(every: Sequence[RecordedRun], key: str) -> RecordedRun:
    found = [run for run in every if run.id.startswith(key) or run.name == key]
    if not found and (Path(key) / "run.json").is_file():
        facts = json.loads((Path(key) / "run.json").read_text())
        found = [run for run in every if run.tags.get("aftermap_run") == run_identity(facts)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RecordsError(f"no run is called {key}: 'aftermap runs' lists them")
    ids = ", ".join(run.id[:8] for run in found[:6])
    raise RecordsError(f"{counted(len(found), 'run')} are called {key}: name one by its id ({ids})")


def _fits(name: str, wanted: str) -> bool:
    return wanted in name or fnmatch.fnmatchcase(name, wanted)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Values by key, in the order in which keys first occur."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: tuple(row.get(key) for row in rows) for key in keys}


def _history(connection: Connection, run_id: str, key: str) -> list[tuple[int, float]]:
    points = connection.client.get_metric_history(run_id, key)
    return sorted({point.step: point.value for point in points}.items())


def _ended(facts: Mapping[str, Any]) -> str | None:
    """When a run ended that does not say so: its start and the minutes it took."""
    started, minutes = facts.get("started"), facts.get("minutes")
    if not started or minutes is None:
        return None
    moment = datetime.fromisoformat(started).timestamp() + 60 * float(minutes)
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
