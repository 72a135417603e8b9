"""Uploads are looked at by a process of their own: a file that a library stumbles over ends that, and not the server."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from aftermap.errors import AftermapError, InputError
from aftermap.workflows.service.uploads import Purpose, TooLargeError, check_file

SECONDS = 120
"""That a look may take: of the clock, and of the processor."""

MEMORY_BYTES = 6 << 30

_KINDS = {"too large": TooLargeError, "wrong": InputError}


def check_apart(path: Path, purpose: Purpose, pixels: int) -> dict[str, Any]:
    """What is in a file, as `check_file` says it, from a process with limits of memory and time.

    Raises:
        TooLargeError: it is beyond a budget.
        InputError: it is not what it is to be, or whoever looked at it did not come back.
    """
    asked = json.dumps({"path": str(path), "purpose": purpose, "pixels": pixels})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "aftermap.workflows.service.checking"],
            input=asked.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{path.name} takes more than {SECONDS} s to look at") from None
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise InputError(f"{path.name} cannot be read: what looked at it ended ({done.returncode})") from None
    if "found" in told:
        found: dict[str, Any] = told["found"]
        return found
    raise _KINDS[told["kind"]](told["error"])


def main() -> None:
    """Look at the file that standard input names, and say on standard output what is in it."""
    asked = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        told: dict[str, Any] = {"found": check_file(Path(asked["path"]), asked["purpose"], asked["pixels"])}
    except TooLargeError as error:
        told = {"kind": "too large", "error": str(error)}
    except AftermapError as error:
        told = {"kind": "wrong", "error": str(error)}
    except MemoryError:
        told = {"kind": "wrong", "error": f"{Path(asked['path']).name} takes too much memory to look at"}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
