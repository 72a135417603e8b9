"""What is told of the jobs of a run: a table, and a log with the time of every event."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aftermap.files import csv_text, write_text
from aftermap.worklist.job import Outcome

TABLE, LOG = "jobs.csv", "jobs.log"
_FACTS = ("buildings", "damaged", "megapixels", "resident_mb")
_COLUMNS = (
    "name",
    "state",
    "seconds",
    "attempts",
    "buildings",
    "damaged",
    "megapixels",
    "resident_mb",
    "cause",
    "reason",
)


class Log:
    """A log file that is only ever added to; each line is one event with its time."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()

    def __call__(self, line: str) -> None:
        """Write a line."""
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(f"{moment} {' '.join(line.split())}\n")


def write_table(outcomes: Sequence[Outcome], path: Path) -> Path:
    """Write the table of jobs: state, seconds, attempts, counts, reason.

    Raises:
        OutputError: it cannot be written.
    """
    rows = [
        [
            *(outcome.name, outcome.state, f"{outcome.seconds:.2f}", outcome.attempts),
            *(outcome.facts.get(name) for name in _FACTS),
            *(outcome.cause, outcome.reason),
        ]
        for outcome in outcomes
    ]
    return write_text(path, csv_text([_COLUMNS, *rows]))
