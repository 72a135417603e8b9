"""How a command ends where somebody ends it: Ctrl-C, and the signals of whoever runs it, which do the same.

SIGTERM (docker stop, SLURM, systemd) and SIGHUP (a terminal that is closed) interrupt a command exactly as Ctrl-C does,
so that whatever is saved, said or cleaned up there is here too. The exit status is 128 and the number of the signal:
130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from aftermap.cli.output import say

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


@dataclass
class Ending:
    """What ended the command: Ctrl-C until another signal has come."""

    by: signal.Signals = signal.SIGINT

    @property
    def status(self) -> int:
        """The exit status."""
        return 128 + self.by

    @property
    def word(self) -> str:
        """What became of the command."""
        return WORDS[self.by]


@contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """Interrupt the block on SIGTERM and SIGHUP as Ctrl-C would; later ones leave it to what it is finishing.

    Signals that are ignored (`nohup`) or handled already stay so. Processes forked from this one end at once.
    """
    ending = Ending()
    owner = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if ending.by is signal.SIGINT:
            ending.by = signal.Signals(number)
            raise KeyboardInterrupt

    chosen = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL
    ]
    try:
        for number in chosen:
            signal.signal(number, interrupt)
    except ValueError:  # not the main thread, where signals do not arrive
        chosen = []
    try:
        yield ending
    finally:
        for number in chosen:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Tell how to go on with a result folder after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        from aftermap.files import work_path

        if work_path(out).exists():
            say(f"{work_path(out)} keeps what was done: pass --resume to continue", error=True)
        raise
