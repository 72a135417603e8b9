"""Says where a result comes from: inputs with checksums, versions, options, model and measured shift."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aftermap.errors import InputError
from aftermap.files import sha256_of
from aftermap.geo.grid import Grid

_LIBRARIES = (
    "numpy",
    "torch",
    "timm",
    "rasterio",
    "pyproj",
    "shapely",
    "geopandas",
    "pyogrio",
    "opencv-python-headless",
)


def describe_file(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a file, or of every file below a folder; no absolute paths.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_dir():
            members = sorted(member for member in path.rglob("*") if member.is_file())
            return {
                "name": path.name,
                "files": [_checksum(m, m.relative_to(path).as_posix()) for m in members],
            }
        return _checksum(path, path.name)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def describe_input(
    files: Sequence[Path], grid: Grid, *, dtype: str | None = None, bands: Sequence[int] | int | None = None
) -> dict[str, Any]:
    """One date, or another raster input: its files with checksums, its grid and its pixels.

    Args:
        files: the files it was read from, in mosaic order.
        grid: the native grid of the mosaic.
        dtype: numpy type of its pixels.
        bands: which bands were used (from 1), or how many there are.
    """
    return {
        "files": [describe_file(path) for path in files],
        "grid": describe_grid(grid),
        "dtype": dtype,
        "bands": list(bands) if isinstance(bands, Sequence) else bands,
    }


def describe_grid(grid: Grid) -> dict[str, Any]:
    """Reference system (authority code, else WKT), transform a to f, size and metres per pixel."""
    return {
        "crs": grid.crs.to_string() if grid.crs is not None else None,
        "transform": list(grid.transform)[:6],
        "width": grid.width,
        "height": grid.height,
        "resolution_m": grid.resolution_m,
    }


def versions() -> dict[str, str | None]:
    """Versions of aftermap, Python and the libraries that can change a result; None where one is absent."""
    found: dict[str, str | None] = {"aftermap": _version("aftermap"), "python": platform.python_version()}
    return found | {name: _version(name) for name in _LIBRARIES}


def _checksum(path: Path, name: str) -> dict[str, Any]:
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
