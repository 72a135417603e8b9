"""From an address to a file of this machine: the windows of a COG that are needed, or all of a file."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from rasterio.windows import Window as RasterioWindow

from aftermap.errors import DataWarning, FootprintError, RasterError
from aftermap.files import replacing
from aftermap.files.origins import note_origin
from aftermap.geo.grid import Grid, Window
from aftermap.geo.online.cog import blocks_of, opened_remote
from aftermap.geo.online.kept import gathered, kept
from aftermap.geo.online.ranges import RangeReader
from aftermap.geo.opening.files import RasterFile
from aftermap.geo.opening.georeference import native_grid
from aftermap.geo.opening.limits import GDAL_OPTIONS, image_format
from aftermap.remote import Address, Online, Stat

Progress = Callable[[str, int, int], None]
"""Told the stage, the pixels done and the pixels in all."""

MARGIN_PX = 256
"""Ground around an area of interest that is copied too, for the measure of the shift between the dates."""

_NEARLY_ALL = 0.8
_STRIP_PX = 16_000_000
_TILE_PX = 512


def fetch_image(
    address: Address,
    online: Online,
    *,
    aoi: Path | None = None,
    part: Window | None = None,
    progress: Progress | None = None,
) -> Path:
    """Copy an image, or of a COG the blocks that an area touches.

    A copy of blocks holds the same pixels, mask, nodata, colours, date and place, as `gdal_translate -srcwin` would
    make it. A file that is no tiled TIFF, leaves blocks out, or is needed nearly whole is copied as it is.

    Args:
        address: of a GeoTIFF, PNG, JPEG, WebP or JPEG 2000.
        online: reads it.
        aoi: vector file with the polygons that are needed; without it all of the image is.
        part: the window that an earlier run copied, in place of an area.
        progress: told the pixels that were copied.

    Raises:
        RemoteError: it cannot be read.
        RasterError: it is no image, or of another size than it was.
        GeoreferenceError: the area does not touch it.
        FootprintError: the area cannot be read.
    """
    report: Progress = progress or (lambda stage, done, total: None)
    reader = RangeReader(address, online)
    kind = image_format(reader.read(0, 16), reader.name)
    if kind == "VRT":
        raise RasterError(f"{address.shown} is a VRT, which names other files: pass their addresses")
    if kind != "TIFF":
        return _whole(address, reader.stat, online, report, 0)
    with opened_remote(reader) as dataset:
        window = part if part is not None or aoi is None else _needed(dataset, address, aoi)
        if part is not None and not _within(part, dataset):
            raise RasterError(
                f"{address.shown} has changed: it has {dataset.width} x {dataset.height} pixels now"
            )
        if window is None:
            return _whole(address, reader.stat, online, report, dataset.width * dataset.height)
        name = _name(address, ".tif")
        told = _told(reader.stat, window=[window.col, window.row, window.width, window.height])

        def make(path: Path) -> None:
            _cut(dataset, reader, window, path, report)

        return _noted(kept(address, reader.stat, name, make, part=told["window"]), told)


def fetch_vectors(address: Address, online: Online) -> Path:
    """Copy a vector file.

    Raises:
        RemoteError: it cannot be read.
        FootprintError: its name has no ending that is known.
    """
    from aftermap.geo.vectors import FORMATS
    from aftermap.geo.vectors.extracts import is_extract

    suffix = Path(address.name).suffix.lower()
    if suffix not in FORMATS and not is_extract(Path(address.name)):
        raise FootprintError(
            f"{address.shown} ends in {suffix or 'no suffix'}, expected one of {', '.join(FORMATS)}"
        )
    return _whole(address, online.stat(address), online, lambda stage, done, total: None, 0)


def gather(tiles: Sequence[tuple[Path, Mapping[str, Any]]]) -> Path:
    """One path for the tiles of a date: the only one, or a folder of this process that holds them all.

    Args:
        tiles: files of this machine, in the order in which they cover each other, with what records say of each.
    """
    if len(tiles) == 1:
        return _noted(*tiles[0])
    folder = gathered([path for path, _ in tiles])
    for number, (path, told) in enumerate(tiles, start=1):
        _noted(folder / f"{number:03d}-{path.name}", told)
    return folder


def _needed(dataset: rasterio.DatasetReader, address: Address, aoi: Path) -> Window | None:
    """The blocks that an area touches, or None where all of the image is needed or parts of it cannot be cut out."""
    from aftermap.geo.vectors import read_area_of_interest

    named = Path(address.name)
    grid = native_grid(dataset, named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # told again where the map is made
        inside = read_area_of_interest(aoi, grid=grid)
    rows, cols = dataset.block_shapes[0]
    if not dataset.profile.get("tiled", False) or dataset.gcps[0]:
        warnings.warn(
            f"{address.shown} is no cloud-optimised GeoTIFF (it has no tiles), so all of it is read",
            DataWarning,
            stacklevel=3,
        )
        return None
    left, top, right, bottom = inside.bounds
    first_col, first_row = (max(0, math.floor(v) - MARGIN_PX) for v in (left, top))
    first_col, first_row = first_col // cols * cols, first_row // rows * rows
    last_col = min(dataset.width, -(-(math.ceil(right) + MARGIN_PX) // cols) * cols)
    last_row = min(dataset.height, -(-(math.ceil(bottom) + MARGIN_PX) // rows) * rows)
    window = Window(first_row, first_col, last_row - first_row, last_col - first_col)
    nearly_all = window.width * window.height > _NEARLY_ALL * dataset.width * dataset.height
    file = RasterFile.of(dataset, named, Grid.pixels(dataset.width, dataset.height), "declared")
    return None if nearly_all or file.is_sparse else window


def _cut(
    dataset: rasterio.DatasetReader, reader: RangeReader, window: Window, path: Path, report: Progress
) -> None:
    """Write a window of an open image as a GeoTIFF of its own."""
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": window.width,
        "height": window.height,
        "count": dataset.count,
        "dtype": dataset.dtypes[0],
        "crs": dataset.crs,
        "transform": dataset.transform * Affine.translation(window.col, window.row),
        "nodata": dataset.nodata,
        "tiled": True,
        "blockxsize": _TILE_PX,
        "blockysize": _TILE_PX,
        "compress": "deflate",
        "zlevel": 1,
        "predictor": 3 if dataset.dtypes[0].startswith("float") else 2,
        "interleave": "pixel",
        "bigtiff": "if_safer",
    }
    tags = dataset.tags()
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if bits is not None:
        profile |= {"nbits": bits, "predictor": 1}
    colours = dataset.colormap(1) if dataset.count == 1 and dataset.colorinterp[0].name == "palette" else None
    if colours is None and dataset.count >= 3 and dataset.colorinterp[0].name == "red":
        profile["photometric"] = "rgb"
    if any(colour.name == "alpha" for colour in dataset.colorinterp):
        profile["alpha"] = "unspecified"
    masked = _has_mask(dataset)
    rows = max(dataset.block_shapes[0][0], _TILE_PX, _STRIP_PX // max(1, window.width) // _TILE_PX * _TILE_PX)
    with (
        rasterio.Env(**GDAL_OPTIONS, GDAL_TIFF_INTERNAL_MASK=True),
        replacing(path, shared=True) as part,
        rasterio.open(part, "w", **profile) as copy,
    ):
        copy.update_tags(**{name: value for name, value in tags.items() if not name.startswith("STATISTICS")})
        copy.colorinterp = dataset.colorinterp
        if colours is not None:
            copy.write_colormap(1, colours)
        for row in range(0, window.height, rows):
            strip = Window(window.row + row, window.col, min(rows, window.height - row), window.width)
            report("fetching", row * window.width, window.height * window.width)
            reader.prefetch(blocks_of(dataset, strip))
            source = RasterioWindow(strip.col, strip.row, strip.width, strip.height)
            target = RasterioWindow(0, row, strip.width, strip.height)
            copy.write(dataset.read(window=source), window=target)
            if masked:
                copy.write_mask(dataset.read_masks(1, window=source), window=target)
    report("fetching", window.height * window.width, window.height * window.width)


def _has_mask(dataset: rasterio.DatasetReader) -> bool:
    flags = {flag.name for flag in dataset.mask_flag_enums[0]}
    return "per_dataset" in flags and "alpha" not in flags


def _within(window: Window, dataset: rasterio.DatasetReader) -> bool:
    return (
        min(window.row, window.col) >= 0
        and window.row + window.height <= dataset.height
        and window.col + window.width <= dataset.width
    )


def _whole(address: Address, stat: Stat, online: Online, report: Progress, pixels: int) -> Path:
    def copied(done: int, total: int) -> None:
        if pixels:
            report("fetching", pixels * done // total, pixels)

    def make(path: Path) -> None:
        online.download(address, path, progress=copied)

    return _noted(kept(address, stat, _name(address, ""), make), _told(stat))


def _told(stat: Stat, **more: Any) -> dict[str, Any]:
    """What records say of the file at the address."""
    return {
        "address": stat.address.shown,
        "etag": stat.etag,
        "modified": None if stat.modified is None else stat.modified.isoformat(),
        "bytes_there": stat.size,
        **more,
    }


def _noted(path: Path, told: Mapping[str, Any]) -> Path:
    note_origin(path, told)
    return path


def _name(address: Address, suffix: str) -> str:
    """A file name like that of an address, which any system can hold."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in address.name)
    stem, dot, ending = name.lstrip(".").rpartition(".")
    if not dot:
        stem, ending = name, ""
    ending = suffix.lstrip(".") or ending
    return f"{stem[-80:] or 'image'}{'.' if ending else ''}{ending[-12:]}"
