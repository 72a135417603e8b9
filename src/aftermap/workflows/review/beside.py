"""Where the images of a map lie, by the names, sizes and checksums that the map kept of them.

A map names no folders, so that it can be handed on. Its images are looked for near it: below the folder in which it lies
and the one above that, and below the current folder.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftermap.errors import RasterError
from aftermap.files import sha256_of
from aftermap.geo.opening.archives import find_images

MOST_ENTRIES = 50_000
"""Files and folders looked at, before the search is given up."""


@dataclass(frozen=True)
class Nearby:
    """What a search found of one date.

    Attributes:
        path: the image, or its folder of tiles; None where it is not there.
        changed: a file that has the name of the image and is another one, where nothing else was found.
    """

    path: Path | None
    changed: Path | None = None


def find_nearby(map_folder: Path, files: Sequence[dict[str, Any]]) -> Nearby:
    """Look for an image of a map, or for the folder of its tiles.

    Args:
        map_folder: of the map.
        files: `name`, `bytes` and `sha256` of each file of the date, in mosaic order, as `provenance.json` has them.
    """
    changed = None
    if not files:
        return Nearby(None)
    first = str(files[0]["name"])
    for folder in _folders(map_folder.absolute()):
        candidate = folder / first
        if not candidate.is_file():
            continue
        if not is_same(candidate, files[0]):
            changed = changed or candidate
        elif len(files) == 1:
            return Nearby(candidate)
        else:
            for place in (folder, folder.parent):
                if _holds(place, files):
                    return Nearby(place)
    return Nearby(None, changed)


def is_same(path: Path, file: dict[str, Any]) -> bool:
    """Whether a file has the size and the checksum that a map kept."""
    try:
        return path.stat().st_size == int(file["bytes"]) and sha256_of(path) == str(file["sha256"])
    except OSError:
        return False


def _holds(folder: Path, files: Sequence[dict[str, Any]]) -> bool:
    """Whether the images of a folder are those files, and no others."""
    try:
        paths = find_images(folder)[0]
        return [(path.name, path.stat().st_size) for path in paths] == [
            (str(file["name"]), file["bytes"]) for file in files
        ]
    except (OSError, RasterError):
        return False


def _folders(map_folder: Path) -> Iterator[Path]:
    """Folders near a map, the nearest first, each once; hidden ones and links to folders are passed over."""
    seen: set[Path] = {map_folder}
    entries = 0
    for top, depth in ((map_folder.parent, 4), (map_folder.parent.parent, 2), (Path.cwd(), 3)):
        waiting = deque([(top, depth)] if top != Path(top.anchor) else [])
        while waiting and entries < MOST_ENTRIES:
            folder, deeper = waiting.popleft()
            if folder not in seen:
                yield folder
            seen.add(folder)
            if not deeper:
                continue
            try:
                with os.scandir(folder) as found:
                    below = [
                        entry.name
                        for entry in found
                        if (entries := entries + 1) and entry.is_dir(follow_symlinks=False)
                    ]
            except OSError:
                continue
            kept = sorted(name for name in below if not name.startswith("."))
            waiting.extend((folder / name, deeper - 1) for name in kept if folder / name != map_folder)
