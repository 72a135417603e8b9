"""Real single-date images with known buildings: found in a folder, placed on the ground, read by window."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import geopandas
import numpy as np
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import Polygon, box

from aftermap.errors import DataError, DataWarning, FootprintError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.polygons import to_pixels, trace
from aftermap.geo.raster import RasterSource
from aftermap.geo.vectors import read_footprints

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
MASK_FOLDERS = ("masks", "masks_index", "masks_derived")
SMALLEST_PX = 64
FINEST_M = 0.25
USUAL_HOUSE_M = 11.0
"""Side of a square as large as a usual house, to guess the resolution of images without georeference."""

_TILE = re.compile(r"(?:^|[-_])(\d+)[-_](\d+)[-_](\d+)$")
_WORLD_M = 20037508.342789244


@dataclass(frozen=True)
class Photo:
    """A real image and where its buildings are known from: a vector file or a mask.

    Attributes:
        grid: of the whole image; in pixels where it has no georeference.
    """

    path: Path
    grid: Grid
    footprints: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Cutout:
    """A square window of a photo.

    Attributes:
        image: RGB uint8 (H, W, 3).
        buildings: outlines in pixels of the window.
        grid: of the window. gsd_m: metres per pixel, guessed from the buildings without georeference.
    """

    image: np.ndarray
    buildings: list[Polygon]
    grid: Grid
    gsd_m: float


def find_photos(backdrop: Path, footprints: Path | None) -> list[Photo]:
    """Images that disasters can be painted on, sorted by name.

    With `footprints` the images must be georeferenced, or be web map tiles named `...-x-y-z.png`. Without, a folder
    `masks` (or `masks_index`, `masks_derived`) beside the images must hold a mask of each: 255 or 1 on buildings.

    Raises:
        DataError: nothing usable was found.
        FootprintError: the vector file cannot be used for any image.
    """
    folder = backdrop / "images" if (backdrop / "images").is_dir() else backdrop
    files = (
        [folder]
        if folder.is_file()
        else sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    )
    if not files:
        raise DataError(
            f"{backdrop} holds no images ({', '.join(IMAGE_SUFFIXES)}): give a folder of images for --backdrop"
        )
    return _with_footprints(files, footprints) if footprints is not None else _with_masks(files, backdrop)


def _with_footprints(files: list[Path], footprints: Path) -> list[Photo]:
    photos: list[Photo] = []
    reason: FootprintError | None = None
    for path in files:
        grid = image_grid(path)
        if not grid.is_georeferenced:
            raise DataError(
                f"{path} has no georeference, so {footprints.name} cannot be laid on it: give georeferenced images, "
                "tiles named like OAM-x-y-z.png, or a masks folder instead of --footprints"
            )
        try:
            _read_silently(footprints, grid) if photos else read_footprints(
                footprints, grid=grid, named=False
            )
        except FootprintError as error:
            reason = error
            continue
        photos.append(Photo(path, grid, footprints=footprints))
    if not photos:
        assert reason is not None
        raise reason
    return photos


def _with_masks(files: list[Path], backdrop: Path) -> list[Photo]:
    roots = [backdrop, files[0].parent.parent]
    folders = [root / name for root in roots for name in MASK_FOLDERS if (root / name).is_dir()]
    if not folders:
        raise DataError(
            f"{backdrop} comes without known buildings: pass --footprints, or put a folder 'masks' beside the images"
        )
    photos = []
    for path in files:
        mask = next(
            (p for p in sorted(folders[0].glob(f"{path.stem}.*")) if p.suffix.lower() in IMAGE_SUFFIXES), None
        )
        if mask is not None:
            photos.append(Photo(path, image_grid(path), mask=mask))
    if not photos:
        raise DataError(
            f"no file in {folders[0]} has the name of an image in {files[0].parent}: names must agree"
        )
    return photos


def image_grid(path: Path) -> Grid:
    """Grid of an image: from its georeference, from a tile name `x-y-z`, or in pixels."""
    grid = RasterSource.open(path).grid
    found = _TILE.search(path.stem)
    if grid.is_georeferenced or found is None:
        return grid
    x, y, zoom = map(int, found.groups())
    if zoom > 24 or x >= 2**zoom or y >= 2**zoom:
        return grid
    side = 2 * _WORLD_M / 2**zoom
    step_x, step_y = side / grid.width, side / grid.height
    transform = Affine(step_x, 0, x * side - _WORLD_M, 0, -step_y, _WORLD_M - y * side)
    return Grid(CRS.from_epsg(3857), transform, grid.width, grid.height)


def cut(rng: np.random.Generator, photo: Photo, size_px: int) -> Cutout:
    """Cut a random square of at most `size_px` out of a photo; images finer than 0.25 m are made coarser first.

    Raises:
        DataError: the image is not 8-bit RGB, or smaller than 64 px.
    """
    height, width = photo.grid.shape
    if min(height, width) < SMALLEST_PX:
        raise DataError(
            f"{photo.path} has {width} x {height} pixels: at least {SMALLEST_PX} are needed to paint on"
        )
    known = photo.grid.resolution_m
    gsd = known or _guess_gsd(photo)
    factor = (
        float(np.clip(rng.uniform(0.3, 0.5) / gsd, 1, min(height, width) / SMALLEST_PX))
        if gsd < FINEST_M
        else 1.0
    )
    side = min(round(size_px * factor), height, width)
    row, col = (int(rng.integers(0, extent - side + 1)) for extent in (height, width))
    window = Window(row, col, side, side)
    image = _read_rgb(photo, window)
    buildings = _outlines(photo, window)
    out = round(side / factor)
    if out != side:
        image = cv2.resize(image, (out, out), interpolation=cv2.INTER_AREA)
    scale = out / side
    scaled = [Polygon(np.array(p.exterior.coords) * scale) for p in buildings]
    grid = photo.grid.crop(window)
    grid = Grid(grid.crs, grid.transform * Affine.scale(1 / scale), out, out)
    frame = box(0, 0, out, out)
    pieces = [
        piece for p in scaled for piece in _polygons(p.buffer(0).intersection(frame)) if piece.area >= 12
    ]
    return Cutout(np.ascontiguousarray(image), pieces, grid, gsd / scale)


def _polygons(shape: object) -> list[Polygon]:
    parts = getattr(shape, "geoms", [shape])
    return [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]


def _read_rgb(photo: Photo, window: Window) -> np.ndarray:
    source = RasterSource.open(photo.path)
    patch = source.read(source.grid.crop(window))
    if patch.array.dtype != np.uint8 or patch.array.shape[0] < 3:
        found = f"{patch.array.shape[0]} bands of {patch.array.dtype}"
        raise RasterError(
            f"{photo.path} has {found}: painting needs 8-bit red, green and blue, convert it first"
        )
    image: np.ndarray = patch.array[:3].transpose(1, 2, 0)
    return image


def _outlines(photo: Photo, window: Window) -> list[Polygon]:
    """Buildings in a window, in its pixels."""
    if photo.footprints is None:
        assert photo.mask is not None
        return trace(
            _read_mask(photo)[window.slices], Grid.pixels(window.width, window.height), min_area_px=30
        )
    grid = photo.grid.crop(window)
    try:
        frame = _read_silently(photo.footprints, grid)
    except FootprintError:  # none in this window; the file itself was checked when the photo was found
        return []
    return [part for shape in frame.geometry for part in _polygons(to_pixels(shape, grid))]


def _read_silently(footprints: Path, grid: Grid) -> geopandas.GeoDataFrame:
    """Read footprints without the warnings that the first reading has already given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return read_footprints(footprints, grid=grid, named=False)


def _read_mask(photo: Photo) -> np.ndarray:
    mask = cv2.imread(str(photo.mask), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2 or mask.shape != photo.grid.shape:
        raise DataError(f"{photo.mask} is not a single-band mask of the size of {photo.path.name}")
    two_tone = bool(np.isin(mask, (0, 255)).all())
    buildings: np.ndarray = mask == (255 if two_tone else 1)
    return buildings


def _guess_gsd(photo: Photo) -> float:
    sides = np.sqrt([p.area for p in _outlines(photo, photo.grid.window)] or [USUAL_HOUSE_M / 0.5])
    return float(np.clip(USUAL_HOUSE_M / np.median(sides), 0.1, 1.0))
