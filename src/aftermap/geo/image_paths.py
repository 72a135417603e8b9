"""Which image files a path stands for: itself, those in a folder and in its folders, or those in a zip archive."""

from collections.abc import Sequence
from pathlib import Path

from aftermap.errors import RasterError
from aftermap.geo.archives import unpack
from aftermap.geo.limits import SUFFIXES


def find_images(path_or_paths: str | Path | Sequence[str | Path]) -> tuple[list[Path], str]:
    """All image files meant by the arguments, folders and archives expanded and sorted, and a name for them.

    Raises:
        RasterError: nothing was given, or a folder or archive without images.
    """
    single = isinstance(path_or_paths, (str, Path))
    given = (
        [Path(path_or_paths)] if isinstance(path_or_paths, (str, Path)) else [Path(p) for p in path_or_paths]
    )
    if not given:
        raise RasterError("no image was given, expected a file, several files or a folder of tiles")
    found: list[Path] = []
    for path in given:
        folder = unpack(path, SUFFIXES) if path.suffix.lower() == ".zip" and path.is_file() else path
        if not folder.is_dir():
            found.append(path)
            continue
        tiles = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and _is_shown(p, folder))
        if not tiles:
            raise RasterError(f"{path} holds no images: expected tiles ending in {', '.join(SUFFIXES)}")
        found.extend(tiles)
    return found, given[0].name if single else f"{given[0].name} and {len(given) - 1} more"


def _is_shown(path: Path, folder: Path) -> bool:
    """False for hidden files, files of hidden folders, and folders."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
