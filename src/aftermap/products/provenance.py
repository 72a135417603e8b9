"""Says where a result comes from: inputs with checksums, versions, options, model and measured shift."""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.errors import InputError, OutputError
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
_CHUNK_BYTES = 2**20


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


def write_json(path: Path, tree: Any) -> Path:
    """Write plain values, dataclasses, paths and numpy values as indented JSON; NaN becomes null.

    Raises:
        OutputError: the file cannot be written; an older one stays.
    """
    text = json.dumps(to_plain(tree), indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path, text + "\n")
    return path


def write_file(path: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8, under a temporary name, then rename it to `path`.

    Raises:
        OutputError: it cannot be written; an older file stays.
    """
    temporary = path.with_name(f".part-{path.name}")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def to_plain(value: Any) -> Any:
    """A tree of values that JSON can hold; numbers that are not finite become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def _checksum(path: Path, name: str) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return {"name": name, "bytes": size, "sha256": digest.hexdigest()}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
