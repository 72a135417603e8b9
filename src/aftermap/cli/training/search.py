"""`aftermap search`: a learning-rate range test, and studies over the keys of a recipe."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_dataset, check_place, check_recipe
from aftermap.cli.options import Flag, Json, MaybeOut, Workers
from aftermap.cli.output import print_json, say, wide_console
from aftermap.cli.progress import bar, progress
from aftermap.wording import counted

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import Console

    from aftermap.workflows.search.run import Search, SearchListener
    from aftermap.workflows.training.training_kind import TrainingProgress


def search(
    recipe: Path | None = None,
    *overrides: str,
    space: Path | None = None,
    trials: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    workers: Workers = 1,
    keep_models: bool = False,
    range_test: Flag = False,
    range_steps: int = 100,
    lr_min: float = 1e-6,
    lr_max: float = 1.0,
    resume: Path | None = None,
    out: MaybeOut = None,
    json_output: Json = False,
) -> int:
    """Find better values for the keys of a training recipe.

    A space file names the keys, their ranges and how many trials; every trial is a training run:

        aftermap search recipes/localization.yaml --space recipes/search/small.yaml
            data.manifests='[xbd-prepared]' --trials 20 -o runs/search

    The best trial is a complete recipe: aftermap train runs/search/best.yaml -o runs/best. A search that was stopped,
    in whatever way, goes on with:

        aftermap search --resume runs/search

    With --range-test the learning rate rises over a hundred steps instead, and one is suggested:

        aftermap search recipes/localization.yaml --range-test data.manifests='[xbd-prepared]' -o range

    Exits with 1 where no trial was complete, or no learning rate can be suggested.

    Args:
        recipe: A YAML file; see the folder recipes/.
        overrides: Pairs of dotted.key=value for the recipe.
        space: A YAML file with study, space and fixed; see docs/search.md.
        trials: How many, instead of the number in the space file.
        workers: Processes that train at the same time; the processor's threads are shared out among them.
        keep_models: Keep the models of all complete trials, not only of the best one.
        range_test: Try rising learning rates instead of a study.
        range_steps: Steps of the range test.
        lr_min: Learning rate at its beginning.
        lr_max: Learning rate at its end.
        resume: Folder of a search to go on with, instead of a recipe; --trials may ask for more.
        out: The folder; by default runs/<date>-<name>-search, or -range.
        json_output: Print the results as JSON.
    """
    from aftermap.errors import RecipeError
    from aftermap.extras import needs

    needs("aftermap search", "train", *(() if range_test else ("search",)))
    if resume is not None:
        if (
            recipe is not None
            or overrides
            or space is not None
            or range_test
            or out is not None
            or keep_models
        ):
            raise RecipeError(
                "a search is resumed as it was begun: give --resume FOLDER and at most --trials and --workers"
            )
        return _study(_resumed(resume, trials), workers, json_output)
    if recipe is None:
        raise RecipeError(
            "no recipe given: aftermap search recipes/localization.yaml --space recipes/search/small.yaml"
        )
    if range_test:
        if space is not None or trials is not None or workers != 1 or keep_models:
            raise RecipeError(
                "--range-test is no study: leave --space, --trials, --workers, --keep-models out"
            )
        return _range_test(recipe, list(overrides), (range_steps, lr_min, lr_max), out, json_output)
    if space is None:
        raise RecipeError("no space given: pass --space recipes/search/small.yaml, or --range-test")
    return _study(_begun(recipe, list(overrides), space, trials, keep_models, out), workers, json_output)


def _begun(
    recipe: Path, overrides: list[str], space: Path, trials: int | None, keep_models: bool, out: Path | None
) -> "Search":
    from aftermap.learning.experiments.tracking import safe_command
    from aftermap.workflows.search.run import Search
    from aftermap.workflows.search.space import load_space, recipe_tree

    tree = recipe_tree(recipe, overrides)
    wanted = load_space(space, [] if trials is None else [f"study.trials={trials}"])
    for manifest in tree["data"]["manifests"]:
        check_dataset(Path(manifest), whole=True)
    folder = out or Path("runs") / f"{date.today().isoformat()}-{tree['name']}-search"
    check_place(folder)
    command = "aftermap " + safe_command(sys.argv[1:])
    return Search.create(tree, wanted, folder, keep_models=keep_models, command=command)


def _resumed(folder: Path, trials: int | None) -> "Search":
    from aftermap.workflows.search.run import Search

    return Search.open(folder, trials=trials)


def _study(search: "Search", workers: int, json_output: bool) -> int:
    """Do what is left of a search and show its results."""
    from rich.console import Console

    from aftermap.workflows.search.report import write_results
    from aftermap.workflows.search.worker import run_workers

    errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    try:
        with _display(search, errors, workers) as display:
            if workers == 1:
                search.run(display.listener())
            else:
                run_workers(search, workers, on_change=display.on_change)
    except KeyboardInterrupt:
        write_results(search)
        raise KeyboardInterrupt(
            f"interrupted after {len(search.ended())} of {counted(search.wanted, 'trial')}: "
            f"aftermap search --resume {search.folder} goes on"
        ) from None
    report = write_results(search)
    if json_output:
        print_json(report)
    else:
        _show(search, report)
    return 0 if report["best"] else 1


def _range_test(
    recipe: Path,
    overrides: list[str],
    settings: tuple[int, float, float],
    out: Path | None,
    json_output: bool,
) -> int:
    from aftermap.workflows.training.config import TrainRecipe
    from aftermap.workflows.training.recipe_files import load_recipe

    wanted = load_recipe(TrainRecipe, recipe, overrides)
    check_recipe(wanted)
    folder = out or Path("runs") / f"{date.today().isoformat()}-{wanted.name}-range"
    check_place(folder)

    from aftermap.workflows.training.range_test import RangeSettings, range_test

    chosen = RangeSettings(*settings)
    with bar("range test", chosen.steps) as advance:
        result = range_test(wanted, folder, chosen, on_step=lambda step: advance())
    found = result.suggestion
    if json_output:
        print_json(result.as_dict())
    elif found is None:
        say(f"no suggestion: the loss did not fall up to a learning rate of {result.lr[-1]:.1e}")
    else:
        say(
            f"optimizer.lr={found.lr:.1e}  ({found.why}; the lower of two, since a rate too low costs time and one "
            f"too high the run)\nsteepest descent {found.steepest:.1e}, tenth of the lowest loss's "
            f"{found.tenth:.1e}; {result.stopped}\nwrote {folder / 'range.png'}"
        )
    return 0 if found else 1


class _Display:
    """Lines on standard error: a trial that begins or ends, with the time that is left."""

    def __init__(self, search: "Search", console: "Console", workers: int, task: Any) -> None:
        self._search = search
        self._console = console
        self._workers = workers
        self._task = task
        self._states: dict[int, str] = {t.number: t.state.name for t in search.trials()}
        self._begun: dict[int, float] = {}

    def listener(self) -> "SearchListener":
        """For a search in this process."""
        from aftermap.workflows.search.run import SearchListener

        return SearchListener(self.on_trial, self.on_step, self.on_end)

    def on_trial(self, number: int, values: Mapping[str, Any], resumed: bool) -> None:
        """A trial begins, or goes on."""
        self._begun[number] = time.monotonic()
        words = "  ".join(f"{key}={_shown(value)}" for key, value in values.items())
        self._console.print(f"trial {number} {'goes on' if resumed else 'begins'}: {words}", markup=False)

    def on_step(self, number: int, progress: "TrainingProgress") -> None:
        """A step of a trial that runs here."""
        score = "-" if progress.score is None else f"{progress.score:.3f}"
        text = f"trial {number}: step {progress.done}/{progress.total}  score {score}"
        self._task(len(self._search.ended()) if progress.done == 1 else None, text)

    def on_end(self, trial: "FrozenTrial") -> None:
        """A trial ended."""
        from aftermap.workflows.search.report import write_results

        report = write_results(self._search, picture=False)
        row = report["trials"][trial.number]
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        reason = f" ({row['reason']})" if row["reason"] else ""
        best = report["best"]
        best_text = "" if best is None else f"; best {best['value']:.4f} in trial {best['number']}"
        self._console.print(
            f"trial {trial.number} {row['state']}: {value}{reason}{best_text}; {self._left(report)}",
            markup=False,
        )
        self._task(len(self._search.ended()), "")

    def on_change(self, trials: "list[FrozenTrial]") -> None:
        """Something changed in a study that others work on."""
        for trial in trials:
            state = trial.state.name
            is_drawn = len(trial.params) == len(self._search.settings.search.space)
            if self._states.get(trial.number) == state or not is_drawn:
                continue
            self._states[trial.number] = state
            if state == "RUNNING":
                self.on_trial(trial.number, self._search.settings.search.values(trial.params), False)
            elif state in ("COMPLETE", "PRUNED", "FAIL"):
                self.on_end(trial)

    def _left(self, report: Mapping[str, Any]) -> str:
        """How many trials are left, and how long they will take if they are like the others."""
        left = report["trials_left"]
        minutes = [row["minutes"] for row in report["trials"] if row["minutes"]]
        if not left or not minutes:
            return f"{left} left"
        seconds = int(60 * left * sum(minutes) / len(minutes) / self._workers)
        return f"{left} left, about {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


@contextmanager
def _display(search: "Search", console: "Console", workers: int) -> Iterator[_Display]:
    """A line per trial, and how many there were."""
    ended = len(search.ended())
    with progress() as show:

        def update(completed: int | None, now: str) -> None:
            nonlocal ended
            ended = ended if completed is None else completed
            show("trials", ended, search.wanted, now)

        yield _Display(search, console, workers, update)


def _show(search: "Search", report: Mapping[str, Any]) -> None:
    """A table of the trials, the importances, and where everything is."""
    from rich.table import Table

    keys = list(report["space"])
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right")
    table.add_column("state", no_wrap=True)
    table.add_column(report["study"]["metric"], justify="right", no_wrap=True)
    for key in keys:
        table.add_column(key.replace(".", ".\n", 1), justify="right")
    table.add_column("minutes", justify="right")
    table.add_column("reason")
    best = report["best"]
    for row in report["trials"]:
        is_best = best is not None and row["number"] == best["number"]
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        minutes = "-" if row["minutes"] is None else f"{row['minutes']:.2f}"
        cells = [_shown(row["values"].get(key)) for key in keys]
        table.add_row(
            str(row["number"]),
            row["state"],
            value,
            *cells,
            minutes,
            row["reason"] or "",
            style="bold" if is_best else None,
        )
    wide_console().print(table)
    shares = sorted(report["importance"]["share"].items(), key=lambda item: -item[1])
    if shares:
        text = ", ".join(f"{key} {share:.2f}" for key, share in shares)
        say(f"importance ({report['importance']['method']}): {text}")
    if best is not None:
        say(
            f"best: trial {best['number']}, {report['study']['metric']} {best['value']:.4f}; aftermap train "
            f"{report['best_recipe']} -o runs/best trains it again\nwrote {search.folder}/search.json, search.png"
        )


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
