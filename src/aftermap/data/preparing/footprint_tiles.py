"""Training tiles from rasters and vector files: one image with its footprints, or datasets of many."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import geopandas
import numpy as np
import shapely

from aftermap.classes import BUILDING
from aftermap.data.file_content import checksum, read_bytes
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.cutter import cut
from aftermap.data.preparing.dataset import Dataset, Made, PreparedFolder, Progress, SourceScene
from aftermap.data.preparing.outlined_image import OutlinedImage
from aftermap.data.preparing.prepare import prepare
from aftermap.data.scene import Manifest
from aftermap.data.stretch import Stretch
from aftermap.errors import DataError, DataWarning, InputError, RasterError
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.geo.ground import Nodata
from aftermap.geo.opening.files import RasterFile
from aftermap.geo.polygons import to_pixels
from aftermap.geo.raster import RasterSource
from aftermap.geo.vectors import part_layer, read_footprints

FOOTPRINTS = "footprints"
"""Role of the file of an image's buildings; an image without one has no labels."""

MissingLabels = Literal["unlabelled", "background"]
Measure = Callable[[RasterSource], Stretch | None]
"""The stretch of one image, or None for pixels as they are; raises `EmptyImageError` for those to leave out."""

_EMPTY = "empty"


class EmptyImageError(RasterError):
    """An image that holds nothing but fill; it is left out."""


@dataclass(frozen=True, slots=True)
class CutResult:
    """What came of cutting one image.

    Attributes:
        manifest: the prepared tiles.
        buildings: footprints that lie on the image.
        windows: how many were looked at.
        dropped: windows that became no tile, by reason.
    """

    manifest: Manifest
    buildings: int
    windows: int
    dropped: Mapping[str, int]


def from_footprints(
    image: Path | Sequence[Path],
    footprints: Path,
    out: Path,
    config: CutConfig,
    *,
    event: str | None = None,
    bands: Sequence[int] | None = None,
    nodata: Nodata | None = None,
    stretch: tuple[float, float] | None = None,
    jpeg_quality: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CutResult:
    """Make a prepared dataset of one image (or mosaic) and the buildings on it.

    Started again after an interruption, it goes on where it stopped.

    Args:
        image: a file, or a folder or several files that make one mosaic; of any size, read window by window.
        footprints: building outlines in any reference system.
        out: folder for `images/`, `masks/` and the manifest.
        config: what is cut, and how.
        event: name of the event; by default the image's name.
        bands: red, green and blue among the image's bands, from 1; the first three by default.
        nodata: what is missing ground in the image; see `geo.ground.Nodata`.
        stretch: percentiles that become 0 and 255; needed for other than 8-bit images.
        jpeg_quality: store tiles as JPEG of this quality (1 to 100) instead of without loss.
        overwrite: cut again into a folder whose tiles were cut otherwise; those are removed.
        progress: called with the number of finished windows and of all.

    Raises:
        InputError: image, footprints and options do not go together, or no window makes a tile.
        OutputError: `out` cannot be used.
    """
    with closing(RasterSource.open(image, bands, nodata=_rule(nodata, config))) as raster:
        if warning := raster.guess_warning():
            warnings.warn(warning, DataWarning, stacklevel=2)
        name = Path(raster.files[0] if len(raster.files) == 1 else raster.name).stem
        shapes = footprints_in_pixels(footprints, raster.grid)
        opened = OutlinedImage(
            raster, shapes, config, name, measure_percentiles(raster, stretch), jpeg_quality
        )

        def make(source: SourceScene, folder: PreparedFolder, /) -> Made:
            return Made(tuple(cut(opened, source, folder)), opened.dropped)

        dataset = Dataset(
            kind="tiles",
            scheme=BUILDING.name,
            scenes=[SourceScene(name, event or name, raster.files[0], labels={FOOTPRINTS: footprints})],
            make=make,
            options=_options(raster, footprints, config, event or name, stretch, jpeg_quality)
            | ({} if nodata is None else {"nodata": str(nodata)}),
            is_cut=True,
        )
        manifest = prepare(dataset, out, overwrite=overwrite, progress=progress)
    return CutResult(manifest, len(shapes), opened.windows, dict(opened.dropped))


@dataclass(frozen=True, slots=True)
class FootprintScenes:
    """Cuts an image with its footprints into tiles.

    Attributes:
        config: what is cut, and how.
        measure: stretch of an image; must be picklable where several processes are wanted.
        bands: red, green and blue among the bands, from 1; None for images of just these.
        jpeg_quality: store tiles as JPEG of this quality instead of without loss.
        without_label: what images without footprints are.
    """

    config: CutConfig
    measure: Measure
    bands: Sequence[int] | None = None
    jpeg_quality: int | None = None
    without_label: MissingLabels = "unlabelled"

    def __call__(self, source: SourceScene, folder: PreparedFolder, /) -> Made:
        """The tiles of one image.

        Raises:
            InputError: image, footprints and options do not go together.
            OutputError: a tile cannot be written.
        """
        with closing(RasterSource.open(source.pre, self.bands, nodata=_rule(None, self.config))) as raster:
            try:
                stretch = self.measure(raster)
            except EmptyImageError:
                return Made((), {_EMPTY: 1})
            footprints = self._footprints(source.labels.get(FOOTPRINTS))
            shapes = None if footprints is None else footprints_in_pixels(footprints, raster.grid)
            image = OutlinedImage(raster, shapes, self.config, source.name, stretch, self.jpeg_quality)
            return Made(tuple(cut(image, source, folder)), image.dropped)

    def _footprints(self, path: Path | None) -> Path | geopandas.GeoDataFrame | None:
        """The file, or an empty frame where it is a GeoJSON that states that there is no building."""
        nothing = geopandas.GeoDataFrame(geometry=[], crs="EPSG:4326")
        if path is None:
            return nothing if self.without_label == "background" else None
        if path.suffix.lower() not in (".geojson", ".json"):
            return path
        try:
            tree = json.loads(read_bytes(path))
        except (ValueError, RecursionError):
            return path  # its reader says what is wrong
        return nothing if isinstance(tree, dict) and tree.get("features") == [] else path


def footprint_dataset(
    scenes: Sequence[SourceScene],
    make: FootprintScenes,
    *,
    kind: str,
    options: Mapping[str, str],
    notes: Mapping[str, str],
) -> Dataset:
    """A dataset of large images, each with its footprints.

    Args:
        scenes: its images, with their footprints where there are any.
        make: how they are cut.
        kind: name of the reader.
        options: choices of the reader that change tiles.
        notes: further entries for the manifest's options.

    Raises:
        DataError: images that differ in their bands, where it is not said which to take.
    """
    if make.bands is None:
        _check_bands(scenes)
    return Dataset(
        kind=kind,
        scheme=BUILDING.name,
        scenes=scenes,
        make=make,
        options={
            **options,
            "images": _state(scenes),
            "cut": make.config.model_dump_json(exclude_defaults=True),
            "bands": "" if make.bands is None else ",".join(map(str, make.bands)),
            "jpeg_quality": "" if make.jpeg_quality is None else str(make.jpeg_quality),
            "without_label": make.without_label,
        },
        notes=notes,
        is_cut=True,
        conclude=_empty_images,
    )


def measure_percentiles(raster: RasterSource, percentiles: tuple[float, float] | None) -> Stretch | None:
    """The stretch between two percentiles of an image's data; None for pixels as they are."""
    return None if percentiles is None else Stretch.measure_source(raster, percentiles)


def require_files(scenes: Sequence[SourceScene], listed_in: Path) -> None:
    """Refuse a dataset whose files are not all there.

    Raises:
        DataError: with the first one and their number.
    """
    files = [path for scene in scenes for path in scene.files.values()]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} files named in {listed_in} are missing, the first is {missing[0]}: "
            "fetch them, or choose those that are there by area or tier"
        )


def _empty_images(made: Mapping[str, Made]) -> dict[str, str]:
    empty = [name for name, one in made.items() if _EMPTY in one.counts]
    return {"empty_images": ",".join(empty)} if empty else {}


def _check_bands(scenes: Sequence[SourceScene]) -> None:
    """Refuse sets in which the images differ in their bands."""
    first: RasterFile | None = None
    for scene in scenes:
        try:
            file = RasterFile.inspect(scene.pre)
        except InputError:
            continue  # it is left out when its turn comes
        first = first or file
        if file.count != first.count:
            raise DataError(
                f"{first.path} has {first.count} bands, {file.path} has {file.count}: pass --bands 1,2,3 to take red, "
                "green and blue from the same bands of all"
            )


def _state(scenes: Sequence[SourceScene]) -> str:
    """Changes when an image or label does; large files are known by size and time, not by content."""
    lines = []
    for scene in scenes:
        stats = [_stat(path) for path in scene.files.values()]
        lines.append((scene.name, scene.event, scene.source_split, stats))
    return checksum(repr(lines).encode())[:16]


def _stat(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def _options(
    raster: RasterSource,
    footprints: Path,
    config: CutConfig,
    event: str,
    stretch: tuple[float, float] | None,
    jpeg_quality: int | None,
) -> dict[str, str]:
    """Everything that the tiles depend on; a large image is known by its size and time, not by its content."""
    files = raster.files
    return {
        "image": str(files[0].resolve() if len(files) == 1 else files[0].parent.resolve()),
        "image_state": checksum(repr([_stat(path) for path in files]).encode())[:16],
        "footprints": str(footprints.resolve()),
        "footprints_state": checksum(read_bytes(part_layer(footprints)[0]))[:16],
        "cut": config.model_dump_json(exclude_defaults=True),
        "bands": ",".join(map(str, raster.bands)),
        "stretch": "" if stretch is None else f"{stretch[0]:g},{stretch[1]:g}",
        "jpeg_quality": "" if jpeg_quality is None else str(jpeg_quality),
        "event": event,
    }


def _rule(nodata: Nodata | None, config: CutConfig) -> Nodata | None:
    """What is ground; tiles as the original cuts them show what is stored, without guesses."""
    return "declared" if nodata is None and config.compat_every_building else nodata


def footprints_in_pixels(footprints: Path | geopandas.GeoDataFrame, grid: Grid) -> np.ndarray:
    """Building outlines (N,) in pixels of `grid`, those that lie nowhere on it left out.

    Args:
        footprints: a vector file (or `FILE:LAYER`), or a frame of polygons in any reference system (none: its own).
        grid: of the image.

    Raises:
        FootprintError: no usable polygons, or none that lies on the image, with the likely reason.
    """
    if isinstance(footprints, geopandas.GeoDataFrame):
        frame = footprints
        if frame.crs is not None and grid.crs is not None:
            with transforming():
                frame = frame.to_crs(grid.crs.to_wkt())
    else:
        frame = read_footprints(footprints, grid=grid, named=False)
    shapes = np.array([to_pixels(shape, grid) for shape in frame.geometry if shape is not None], dtype=object)
    if not len(shapes):
        return shapes
    on_image: np.ndarray = shapely.intersects(shapes, shapely.box(0, 0, grid.width, grid.height))
    kept: np.ndarray = shapes[on_image]
    return kept
