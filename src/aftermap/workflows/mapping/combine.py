"""The mean of building probability maps over folders of runs, file by file and window by window."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterioWindow

from aftermap.classes import IGNORE
from aftermap.errors import AftermapError, DataError, GeoreferenceError, OutputError
from aftermap.files import restore, write_text, writing
from aftermap.files.folders import put_in_place
from aftermap.geo.grid import Grid, Window
from aftermap.geo.opening.limits import one_line, opened
from aftermap.inference.combine import combine
from aftermap.inference.postprocess import SCALE
from aftermap.products.cog import RasterWriter
from aftermap.wording import counted

RECORD_NAME = "combine.json"

_ENDINGS = {".tif", ".tiff", ".png"}
_LOSSY = {".jpg", ".jpeg"}
_FULL = {"uint8": 255, "uint16": 65535}
_ROWS_PX = 512
_VALUES_AT_ONCE = 1 << 24  # of all runs together, 8 bytes each and a few copies
_SLACK = 1e-3


@dataclass(frozen=True, slots=True)
class Combined:
    """What was combined.

    Attributes:
        folder: the combined maps, and `combine.json`, which says of what they are made.
        runs: folders of maps, one per run.
        files: maps in the folder.
        written: those of them that were made now and not by an interrupted run before.
        threshold: building from this probability on; None where probabilities were written.
        compat: whether runs were combined as published.
    """

    folder: Path
    runs: tuple[Path, ...]
    files: int
    written: int
    threshold: float | None
    compat: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "folder": str(self.folder),
            "runs": [str(run) for run in self.runs],
            "files": self.files,
            "written": self.written,
            "threshold": self.threshold,
            "compat": self.compat,
        }


def combine_folders(
    folders: Sequence[Path],
    out: Path,
    *,
    pattern: str = "*",
    threshold: float | None = None,
    compat: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Combined:
    """Average the maps of the same name over folders; the result is there whole or not at all.

    Maps are GeoTIFF or PNG: floats from 0 to 1; 8 or 16 bits, whose largest value is 1 unless the file has a scale or
    255 as nodata, where 254 is 1. An interrupted run goes on with the files that it has.

    Args:
        folders: one per run; a folder that is given twice counts twice.
        out: a new folder: `<stem>.tif` for every name, float32 probabilities with NaN where nothing is known, or with
            a threshold uint8 with 1 for building and 255 for unknown.
        pattern: which files, such as `*_building.tif`.
        threshold: building from this probability on.
        compat: the rule of the third place of Open Cities: averaged at half the size, one run left out where no pixel
            is sure, probabilities cut to 8 bits (255 is 1), buildings as 255.
        overwrite: replace an earlier result.
        progress: called with (files done, files) after each.

    Raises:
        DataError: folders of unlike files, maps of unlike sizes, or files that are no probabilities.
        GeoreferenceError: maps of one name that lie elsewhere.
        OutputError: the folder exists or cannot be written.
    """
    if not folders:
        raise DataError("no folder of maps was given: expected one per run")
    if threshold is not None and not 0 < threshold <= 1:
        raise DataError(
            f"a threshold of {threshold:g} is no probability: expected a number from 0 to 1, such as 0.54"
        )
    names = _common_names(folders, pattern)
    record: dict[str, Any] = {
        "runs": [str(folder.resolve()) for folder in folders],
        "pattern": pattern,
        "threshold": threshold,
        "compat": compat,
        "files": len(names),
    }
    part = _claim(out, record, overwrite=overwrite)
    written = 0
    try:
        for number, name in enumerate(names, 1):
            target = part / f"{Path(name).stem}.tif"
            if not target.exists():
                _combine_files(
                    [folder / name for folder in folders], target, threshold=threshold, compat=compat
                )
                written += 1
            if progress is not None:
                progress(number, len(names))
    except AftermapError:
        if not any(part.glob("*.tif")):  # nothing that another try could go on with
            shutil.rmtree(part)
        raise
    _put_in_place(part, out)
    return Combined(out, tuple(folders), len(names), written, threshold, compat)


def _common_names(folders: Sequence[Path], pattern: str) -> list[str]:
    """Names of the maps, the same in every folder."""
    first, *others = folders
    names = _names(first, pattern)
    for other in others:
        found = _names(other, pattern)
        for here, there, lacking in ((other, first, names - found), (first, other, found - names)):
            if lacking:
                raise DataError(
                    f"{here} lacks {len(lacking)} of the maps of {there}, the first is {min(lacking)}: every run needs "
                    "the same names"
                )
    stems: dict[str, str] = {}
    for name in sorted(names):
        twin = stems.setdefault(Path(name).stem, name)
        if twin != name:
            raise DataError(f"{twin} and {name} would both become {Path(name).stem}.tif: choose by --pattern")
    return sorted(names)


def _names(folder: Path, pattern: str) -> set[str]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: expected one folder of maps per run")
    files = [file for file in folder.glob(pattern) if file.is_file()]
    names = {file.name for file in files if file.suffix.lower() in _ENDINGS}
    if not names:
        lossy = any(file.suffix.lower() in _LOSSY for file in files)
        raise DataError(
            f"{folder} holds no map ({pattern} as .tif, .tiff or .png)"
            + (": JPEG loses what probabilities say, write them as GeoTIFF or PNG" if lossy else "")
        )
    return names


def _combine_files(files: Sequence[Path], target: Path, *, threshold: float | None, compat: bool) -> None:
    with ExitStack() as stack:
        maps = [stack.enter_context(opened(file)) for file in files]
        grid = _common_grid(files, maps)
        in_bytes = threshold is not None or compat
        if in_bytes and maps[0].count != 1:
            raise DataError(
                f"{files[0]} has {maps[0].count} bands, and a threshold and --compat are for maps of buildings alone, "
                "with 1: leave both out to average all bands"
            )
        writer = stack.enter_context(
            RasterWriter(
                target,
                grid,
                count=maps[0].count,
                dtype="uint8" if in_bytes else "float32",
                nodata=None if compat else (IGNORE if in_bytes else float("nan")),
                scale=1 / 255 if compat and threshold is None else None,
            )
        )
        if compat:
            window = Window(0, 0, grid.height, grid.width)
            mean = _published(
                files, [_read(file, map_, window) for file, map_ in zip(files, maps, strict=True)]
            )
            if threshold is not None:
                mean = (mean >= threshold).astype(np.float64)
            writer.write(window, (255 * mean).astype(np.uint8))
            return
        rows = max(1, min(_ROWS_PX, _VALUES_AT_ONCE // (len(maps) * maps[0].count * grid.width)))
        for row in range(0, grid.height, rows):
            window = Window(row, 0, min(rows, grid.height - row), grid.width)
            parts = [_read(file, map_, window) for file, map_ in zip(files, maps, strict=True)]
            writer.write(window, combine(parts, threshold=threshold))


def _published(files: Sequence[Path], maps: list[np.ndarray]) -> np.ndarray:
    height, width = maps[0].shape[-2:]
    if height % 2 or width % 2:
        raise DataError(
            f"{files[0]} has {width} x {height} pixels, and --compat averages at half the size: expected even sides"
        )
    known = [np.nan_to_num(map_) for map_ in maps]  # the original knows no unknown pixels
    return combine(known, compat_half_size=True, compat_drop_run=True)


def _common_grid(files: Sequence[Path], maps: Sequence[DatasetReader]) -> Grid:
    """The grid of all maps, once they fit together."""
    first = maps[0]
    for file, map_ in zip(files, maps, strict=True):
        kind = map_.dtypes[0]
        if (
            map_.colorinterp[0].name == "palette" and map_.scales[0] == 1
        ):  # with a scale the colours are a ramp
            raise DataError(
                f"{file} has a colour table, so it holds classes: expected probabilities (see --pattern)"
            )
        if kind not in _FULL and not kind.startswith("float"):
            raise DataError(f"{file} holds {kind}, expected probabilities as uint8, uint16 or floats")
        if (map_.width, map_.height, map_.count) != (first.width, first.height, first.count):
            raise DataError(
                f"{file} has {_size(map_)}, but {files[0]} has {_size(first)}: every run's maps need the same size"
            )
        apart = map_.crs != first.crs or (
            first.crs is not None
            and not map_.transform.almost_equals(first.transform, _SLACK * abs(first.transform.a))
        )
        if apart:
            raise GeoreferenceError(
                f"{file} lies elsewhere than {files[0]}: expected maps of the same ground"
            )
    if first.crs is None:
        return Grid.pixels(first.width, first.height)
    return Grid(first.crs, first.transform, first.width, first.height)


def _size(map_: DatasetReader) -> str:
    return f"{map_.width} x {map_.height} pixels in {counted(map_.count, 'band')}"


def _read(file: Path, map_: DatasetReader, window: Window) -> np.ndarray:
    """Probabilities (C, H, W) float64 of a window, NaN where unknown."""
    try:
        stored = map_.read(window=RasterioWindow(window.col, window.row, window.width, window.height))
    except RasterioError as error:
        raise DataError(f"{file} cannot be read: {one_line(error)}") from None
    kind = map_.dtypes[0]
    scale = float(map_.scales[0])
    unknown = np.isnan(stored) if kind.startswith("float") else np.zeros(stored.shape, bool)
    if map_.nodata is not None:
        unknown |= stored == map_.nodata
    if kind in _FULL and scale == 1:
        scale = 1 / (SCALE if kind == "uint8" and map_.nodata == IGNORE else _FULL[kind])
    values: np.ndarray = stored * scale
    values[unknown] = np.nan
    low, high = np.nanmin(values, initial=0), np.nanmax(values, initial=0)
    if low < -_SLACK or high > 1 + _SLACK:
        raise DataError(
            f"{file} holds values from {low:g} to {high:g}, expected probabilities from 0 to 1: are they logits?"
        )
    return values


def _claim(out: Path, record: dict[str, Any], *, overwrite: bool) -> Path:
    """The folder in which the result is made: that of an interrupted run with the same options, or an empty one."""
    if out.exists():
        if not overwrite:
            raise OutputError(f"{out} exists: pass --overwrite to replace it, or choose another folder")
        if not (out / RECORD_NAME).is_file():
            raise OutputError(
                f"{out} holds no {RECORD_NAME}, so it is no combined map: choose another folder"
            )
    part = out.with_name(out.name + ".part")
    text = json.dumps(record, indent=1) + "\n"
    with writing(out):
        restore(out)
        if part.exists() and not (part / RECORD_NAME).is_file() and any(part.iterdir()):
            raise OutputError(f"{part} is in the way, and it is none of an interrupted run: remove it")
        if (part / RECORD_NAME).is_file() and (part / RECORD_NAME).read_text() != text:
            shutil.rmtree(part)
        write_text(part / RECORD_NAME, text, parents=True)
    return part


def _put_in_place(part: Path, out: Path) -> None:
    with writing(out):
        put_in_place(part, out, ours=(RECORD_NAME, "*.tif"))
        shutil.rmtree(part, ignore_errors=True)
