"""What a map's `provenance.json` says: model, inputs, options, warnings, times."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from aftermap.errors import InputError
from aftermap.files import sha256_of
from aftermap.files.origins import origin_of
from aftermap.geo.alignment.footprint_shifts import FootprintShifts
from aftermap.geo.grid import Grid
from aftermap.inference.ensemble import EnsemblePredictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.workflows.mapping.inputs.dates import Inputs
from aftermap.workflows.mapping.inputs.imagery import described_imagery


def describe_run(
    inputs: Inputs,
    predictor: AnyPredictor,
    options: dict[str, Any],
    messages: Sequence[str],
    vectors: Mapping[str, Path],
    seconds: tuple[float, Mapping[str, float]],
    start_row: int,
    *,
    mode: str,
    scheme: str,
    dates: Mapping[str, date | None],
    notes: Sequence[str],
    footprint_shift: FootprintShifts | None = None,
) -> dict[str, Any]:
    """What `provenance.json` says of a map.

    Args:
        inputs: what was mapped.
        predictor: the model, after it ran.
        options: those that decide the pixels.
        messages: what the user was warned about.
        vectors: the user's vector files, by what they are.
        seconds: wall time so far, in all and by stage.
        start_row: the row from which an interrupted run went on.
        mode: which dates were looked at, and how.
        scheme: class scheme of the map.
        dates: when each image was taken; None where not known.
        notes: what was decided without a warning.
        footprint_shift: how the user's footprints were moved; None where that was not asked for.
    """
    card = predictor.card
    described = {
        name: describe_input(source.files, source.grid, dtype=source.dtype, bands=source.bands)
        for name, source in inputs.sources.items()
    }
    for name, day in dates.items():
        described[name]["acquired"] = None if day is None else day.isoformat()
    described |= {name: describe_file(path) for name, path in vectors.items()}
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": mode,
        "scale": scheme,
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": predictor.sha256,
            "licence": card.licence,
            "training_data": card.training.data,
            "training_data_licence": card.training.data_licence,
            "classes": list(card.classes.names),
            "building_threshold": None if card.legend else card.building_threshold,
            "class_thresholds": card.class_thresholds,
            "minor_dilation": card.minor_dilation,
            "limits": card.limits,
        },
        "inputs": described,
        "grid": describe_grid(inputs.grid),
        "shift": inputs.shift,
        "local_shift": inputs.local_shift,
        "footprint_shift": None if footprint_shift is None else footprint_shift.as_dict(),
        "stretch": inputs.stretches or None,
        "options": options,
        "execution": predictor.execution or None,
        "warnings": list(messages),
        "notes": list(notes),
        "resumed_at_row": start_row or None,
        "gate": gate_counts(predictor),
        "seconds": round(seconds[0], 1),
        "stages": {stage: round(value, 2) for stage, value in seconds[1].items()},
        "versions": versions(),
    }


def gate_counts(predictor: AnyPredictor) -> dict[str, Any] | None:
    """What an ensemble's gate did since this run began."""
    gate = predictor.gate if isinstance(predictor, EnsemblePredictor) else None
    return gate.as_dict() if gate is not None else None


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
    """Name, size and SHA-256 of a file, or of every file below a folder, and where it was copied from; no absolute paths.

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
    imagery = described_imagery(files)
    return {
        "files": [describe_file(path) for path in files],
        **({} if imagery is None else {"imagery": imagery}),
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
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256_of(path), **origin_of(path)}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
