"""How far a command is, on standard error: bars on a terminal, and elsewhere (a log file, CI) a line now and then."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

EVERY_SECONDS = 30.0
"""Time between two lines; a command that takes less prints none. The variable AFTERMAP_PROGRESS_SECONDS sets another."""


_held: list[str] = []


def say_when_working(line: str) -> None:
    """Keep a line for standard error until a stage goes on, or the command ends well."""
    _held.append(line)


def say_held() -> None:
    """Print the lines that were kept."""
    while _held:
        print(_held.pop(0), file=sys.stderr, flush=True)


def forget_held() -> None:
    """Leave out the lines that were kept: there was no work."""
    _held.clear()


class Progress(Protocol):
    """Told how far a stage is."""

    def __call__(self, stage: str, done: float, total: float | None, note: str = "") -> None:
        """Take note.

        Args:
            stage: what is done; each has a bar, and a time left, of its own.
            done: so much of it, in the unit of the command.
            total: of so much; None where nobody knows.
            note: what else there is to say now, such as a loss.
        """


@contextmanager
def progress(unit: str = "") -> Iterator[Progress]:
    """Bars, or lines where standard error is no terminal.

    Args:
        unit: Of what is counted, such as Mpx; by default things are.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False, emoji=False)
    if not console.is_terminal:
        lines = Lines(unit)

        def tell(stage: str, done: float, total: float | None, note: str = "") -> None:
            say_held()
            lines(stage, done, total, note)

        yield tell
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: float, total: float | None, note: str = "") -> None:
            say_held()
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, count="", note="")
            bars.update(
                tasks[stage], completed=done, total=total, count=amount_done(done, total, unit), note=note
            )

        yield show


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """How far a command of one stage is, as a function of finished and all."""
    with progress() as show:
        yield lambda done, total: show(title, done, total)


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """The same where the number is known; calling what it gives advances by one."""
    numbers = itertools.count(1)
    with progress_bar(title) as show:
        show(0, total)
        yield lambda: show(next(numbers), total)


@dataclass
class _Stage:
    """When a stage was first heard of, how far it was then, and whether a line was printed about it."""

    since: float
    first: float
    is_said: bool = False


class Lines:
    """Prints a line where none was for 30 seconds, or as long as was asked for, and one at the end of a stage with any.

    Args:
        unit: Of what is counted.
        clock: Seconds that only ever grow.
        write: Takes a line; by default standard error.
    """

    def __init__(
        self,
        unit: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._write = write or (lambda line: print(line, file=sys.stderr, flush=True))
        self._stages: dict[str, _Stage] = {}
        self._every = _every_seconds()
        self._said = clock()

    def __call__(self, stage: str, done: float, total: float | None, note: str = "") -> None:
        """Print a line if it is time for one; see `Progress`."""
        now = self._clock()
        known = self._stages.setdefault(stage, _Stage(now, done))
        is_end = total is not None and done >= total
        if now - self._said < self._every and not (is_end and known.is_said):
            return
        self._said, known.is_said = now, not is_end
        line = f"{stage}: {amount_done(done, total, self._unit)}"
        if is_end:
            line += f", done in {clock_time(now - known.since)}"
        elif total:
            line += f", {100 * done / total:.0f} %"
            if done > known.first:
                left = (now - known.since) * (total - done) / (done - known.first)
                line += f", {clock_time(left)} left"
        self._write(f"{line}  {note}".rstrip())


def _every_seconds() -> float:
    """What a program that shows our lines asked for, else what suits a log file."""
    try:
        return max(float(os.environ["AFTERMAP_PROGRESS_SECONDS"]), 0.0)
    except (KeyError, ValueError):
        return EVERY_SECONDS


def amount_done(done: float, total: float | None, unit: str = "") -> str:
    """So much of so much: `12.3 of 35.0 Mpx`, `350 of 1000`."""
    amount = f"{done:.1f}" if unit else f"{done:.0f}"
    if total is not None:
        amount += f" of {total:.1f}" if unit else f" of {total:.0f}"
    return f"{amount} {unit}".rstrip()


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds: `0:42`, `12:05`, `2:00:00`."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
