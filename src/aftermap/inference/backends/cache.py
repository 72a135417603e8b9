"""What the backends keep on this computer: converted graphs; which backend was fastest is kept by `files.choices`.

All of it can be deleted at any time and comes back when it is needed. Entries are written under a temporary name and
renamed, so that several programs may use the folder at once.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from aftermap.files import writing
from aftermap.files.cache import cache_folder, temporary_folder

MOST_GRAPHS = 32
"""Converted graphs that are kept; beyond, those go first that were not used for longest."""

_CONTENTS = "contents.json"


def kept_graph(key: str, name: str, make: Callable[[Path], None], *, lasting: bool = True) -> Path:
    """A graph file from the cache, made where it is not there or not whole.

    Args:
        key: from `files.choices.digest`, of everything that the graph depends on.
        name: of the file that is wanted.
        make: writes it, and files that go with it, into the folder it is given.
        lasting: keep it for other programs; otherwise it goes when this one ends.

    Raises:
        OutputError: the folder cannot be written, the temporary one neither.
    """
    graphs = (cache_folder() if lasting else temporary_folder()) / "graphs"
    entry = graphs / key
    if _is_whole(entry):
        with contextlib.suppress(OSError):
            os.utime(entry)
        return entry / name
    with writing(entry):
        graphs.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(entry, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=graphs))
        try:
            make(part)
            sizes = {file.name: file.stat().st_size for file in part.iterdir()}
            (part / _CONTENTS).write_text(json.dumps(sizes) + "\n")
            try:
                part.rename(entry)
            except OSError:  # another program was quicker
                if not _is_whole(entry):
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    _prune(graphs)
    return entry / name


def _is_whole(entry: Path) -> bool:
    try:
        sizes = json.loads((entry / _CONTENTS).read_bytes())
        return all((entry / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _prune(graphs: Path) -> None:
    """Remove what was not used for longest."""
    with contextlib.suppress(OSError):
        entries = [path for path in graphs.iterdir() if not path.name.startswith(".")]
        for path in sorted(entries, key=lambda path: path.stat().st_mtime)[:-MOST_GRAPHS]:
            shutil.rmtree(path, ignore_errors=True)
