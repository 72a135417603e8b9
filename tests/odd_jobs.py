"""Work for the tests of work lists: jobs that end well, badly, or with their worker."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftermap.errors import InputError, ModelError
from aftermap.worklist.job import Do, Job


@dataclass(frozen=True)
class OddWork:
    """Does what its jobs say, and writes one line for each time that it was begun.

    Attributes:
        folder: for the lines.
        model: `missing` where it cannot be started, `deadly` where that ends the worker, `slow` where it takes a while.
    """

    folder: Path
    model: str = "there"

    def start(self) -> Do:
        if self.model == "missing":
            raise ModelError("no model at nowhere")
        if self.model == "slow":
            time.sleep(5)
        if self.model == "deadly":
            os._exit(3)
        return self._do

    def _do(self, job: Job) -> Mapping[str, Any]:
        begun = self.folder / job.name
        before = len(begun.read_text().splitlines()) if begun.exists() else 0
        with begun.open("a") as file:
            file.write(f"{os.getpid()}\n")
        match job.what["end"]:
            case "input":
                raise InputError("pre.tif is no image")
            case "bug":
                raise ZeroDivisionError("division by zero")
            case "second" if before == 0:
                raise ValueError("not yet")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed-once" if before == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            case "large":
                held = bytearray(400_000_000)
                held[::4096] = b"1" * len(held[::4096])
                time.sleep(20)
            case "long":
                time.sleep(20)
        return {"by": os.getpid()}
