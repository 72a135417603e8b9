"""A run's folder with its entry in the experiment database: new or gone on with, alike for every kind of run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import yaml

from aftermap.errors import TrainingError
from aftermap.files import Claim
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import RecordsConfig, connect
from aftermap.learning.run import Run


def check_folder(folder: Path, *, resume: bool, ended: bool = False) -> None:
    """Refuse a folder that holds another run, or none to go on with.

    A run that broke off before its first saved state goes on from its beginning.

    Args:
        folder: the run folder.
        resume: a run in it is to go on.
        ended: it may go on although it has come to its end.

    Raises:
        OutputError: there is a run, and a new one is wanted; or another process is at it.
        TrainingError: there is none that could go on.
    """
    if not resume:
        Run.check_new(folder)
        return
    run = Run(folder)
    begun = (folder / "run.json").is_file() and (folder / "recipe.yaml").is_file()
    if not begun or (not ended and run.facts().get("status") == "complete"):
        raise TrainingError(f"{folder} holds no interrupted run to resume")
    Claim(folder).release()  # said before anything is loaded


@contextmanager
def open_run(
    folder: Path,
    tree: Mapping[str, Any],
    facts: Callable[[], dict[str, Any]],
    *,
    resume: bool,
    records: RecordsConfig | None = None,
    samples: bool = False,
    main: bool = True,
) -> Iterator[tuple[Run, Records]]:
    """Begin a run, or go on with one; leaving the block records how it ended.

    Args:
        folder: the run folder; new, or that of the run to go on with.
        tree: the recipe as plain values.
        facts: what `run.json` says of a new run; asked for once the database has answered.
        resume: go on with the run in the folder.
        records: the experiment database; None keeps the status in `run.json` only.
        samples: the run draws samples.
        main: False in processes of a training that do not write.

    Raises:
        RecordsError: the database cannot be reached; the folder is not made then.
        OutputError: the folder holds a run already, or cannot be written.
    """
    connection = None if records is None else connect(records, folder, enabled=main)
    with Claim(folder) if main else nullcontext():
        if not main:
            run: Run = _ReadOnly(folder)
        elif resume:
            run = Run(folder)
            run.restore()
            run.record(status="running")
        else:
            run = Run.start(folder, yaml.safe_dump(dict(tree), sort_keys=False), facts())
        if main and not samples:
            with suppress(OSError):  # not there, or not empty
                (folder / "samples").rmdir()
        with Records(connection, run, tree) as kept:
            yield run, kept


class _ReadOnly(Run):
    """A run folder as the processes of a training see it that do not write."""

    def record(self, **facts: Any) -> None:
        """Nothing."""

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Nothing."""

    def metrics(self, *, up_to_step: int | None = None) -> list[dict[str, Any]]:
        """All evaluations, or those up to a step."""
        return [line for line in self.read_metrics() if up_to_step is None or line["step"] <= up_to_step]

    def log(self, text: str) -> None:
        """Nothing."""
