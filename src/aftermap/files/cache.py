"""Where programs keep what can be deleted at any time and comes back when it is needed."""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

CACHE_VARIABLE = "AFTERMAP_CACHE"
"""Environment variable with the folder to use."""


def cache_folder() -> Path:
    """AFTERMAP_CACHE, else `aftermap` in the user's cache folder, else a temporary folder of this program.

    The last is used where the first two cannot be written, and is removed at the end.
    """
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named).expanduser() if named else _users_folder()
    if folder is not None and _is_writable(folder):
        return folder
    return temporary_folder()


@cache
def temporary_folder() -> Path:
    """A folder that this program removes when it ends; the same one at every call."""
    folder = Path(tempfile.mkdtemp(prefix="aftermap-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _users_folder() -> Path | None:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "aftermap"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "aftermap" / "cache"
    try:
        home = Path.home()
    except RuntimeError:  # no such thing here
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "aftermap"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
