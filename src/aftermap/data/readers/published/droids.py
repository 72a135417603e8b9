"""CRASAR-U-DROIDs: drone orthomosaics with polygons of buildings, their damage, and the vectors by which they are off.

What each layout was taken from, and what could not be confirmed, stands with its release in `releases.RELEASES`.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from shapely import Polygon

from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.geotransform import scene_grid
from aftermap.data.masks import draw_damage_mask
from aftermap.data.preparing.class_image import source_state
from aftermap.data.preparing.cut_plan import grid_at, scale_to
from aftermap.data.preparing.cutter import CutTile, TileForm, cut
from aftermap.data.preparing.dataset import Labels, Made, PreparedFolder, SourceScene
from aftermap.data.preparing.tile_grid import windows
from aftermap.data.readers.class_labels import LABEL
from aftermap.data.readers.published.release import Found, split_of
from aftermap.errors import DataError
from aftermap.files import read_json
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import RasterSource, require_bands

Imagery = Literal["UAS", "CREWED", "SATELLITE"]
ADJUSTMENTS = "adjustments"
"""Role of the file of the vectors."""

VALUES = {
    "no damage": 1,
    "minor damage": 2,
    "major damage": 3,
    "destroyed": 4,
    "un-classified": IGNORE,
    "obscured": IGNORE,
}
"""Mask value of each label."""

WITHOUT_BUILDING, WITHOUT_DATA = "without building", "without enough data"
_LEAST_VALID = 0.25
_FARTHEST = 1e7


def find_droids(source: Path, imagery: Imagery = "UAS") -> Found:
    """`{train,test}/imagery/UAS/N.tif` with JSON of N's name in folders of `annotations/`.

    The event is what `statistics.csv` says of the orthomosaic in its column Event, else the source's name.
    """
    roots = [root for root in (source, *sorted(source.glob("*"))) if (root / "imagery" / imagery).is_dir()]
    roots += [root for root in sorted(source.glob("*/*")) if (root / "imagery" / imagery).is_dir()]
    events = _events(source)
    scenes: list[SourceScene] = []
    for root in roots:
        labels, vectors = (
            _annotations(root, imagery, folder)
            for folder in ("building_damage_assessment", "building_alignment_adjustments")
        )
        split, published = split_of(root.name)
        for image in sorted((root / "imagery" / imagery).glob("*.tif")):
            roles = {LABEL: labels.get(image.name), ADJUSTMENTS: vectors.get(image.name)}
            scenes.append(
                SourceScene(
                    name=image.name.removesuffix(".tif").removesuffix(".geo"),
                    event=events.get(image.name, source.resolve().name),
                    pre=image,
                    labels={role: path for role, path in roles.items() if path is not None},
                    split=split,
                    source_split=published,
                )
            )
    return Found(tuple(scenes))


@dataclass(frozen=True, slots=True)
class Buildings:
    """What an annotation file says, in pixels of the orthomosaic: (N,) polygons, their labels, and who drew them."""

    polygons: np.ndarray
    labels: tuple[str, ...]
    drawn_here: tuple[bool, ...]


def read_buildings(path: Path) -> Buildings:
    """The buildings of an annotation file.

    Raises:
        DataError: unreadable, of another form, or with a label that is not known.
    """
    tree = read_json(path, error=DataError)
    if not isinstance(tree, list):
        raise _other_form(path, "no list of buildings")
    polygons, labels, drawn = [], [], []
    for entry in tree:
        if not isinstance(entry, dict) or not isinstance(entry.get("pixels"), list):
            raise _other_form(path, "a building without pixels")
        if entry.get("label") not in VALUES:
            raise DataError(
                f"{path} has the label {str(entry.get('label'))[:40]!r}, expected {', '.join(VALUES)}"
            )
        points = [_point(point, path) for point in entry["pixels"]]
        if len(points) < 3:
            continue  # a point or a line, which covers no ground
        polygons.append(Polygon(points))
        labels.append(str(entry["label"]))
        drawn.append(str(entry.get("geometry_source", entry.get("source", ""))).lower() == "custom")
    return Buildings(np.array(polygons, object), tuple(labels), tuple(drawn))


def read_adjustments(path: Path) -> np.ndarray:
    """Vectors (N, 2, 2), each from (x, y) to (x, y) in pixels of the orthomosaic.

    Raises:
        DataError: unreadable, or of another form.
    """
    tree = read_json(path, error=DataError)
    try:
        vectors = np.asarray(tree, float).reshape(-1, 2, 2)
    except (TypeError, ValueError):
        raise _other_form(path, "expected [[x, y], [x, y]] for every vector") from None
    if not (np.abs(vectors) < _FARTHEST).all():
        raise _other_form(path, "a vector that lies on no image")
    return vectors


def adjust(buildings: Buildings, vectors: np.ndarray) -> np.ndarray:
    """The polygons where they lie on the image: each moved by the vector that begins nearest to one of its corners.

    Buildings that annotators drew on the image itself stay. Without vectors all stay.

    Source: `adjustment_utils.py` and `Alignment.py` of CRASAR/CRASAR-U-DROIDs-BDA.
    """
    if not len(vectors):
        return buildings.polygons
    moved = buildings.polygons.copy()
    for number, (polygon, stays) in enumerate(zip(buildings.polygons, buildings.drawn_here, strict=True)):
        if stays:
            continue
        corners = shapely.get_coordinates(polygon)
        apart = np.linalg.norm(corners[:, None] - vectors[None, :, 0], axis=2).min(axis=0)
        start, end = vectors[int(apart.argmin())]
        moved[number] = shapely.transform(polygon, lambda xy, by=end - start: xy + by)
    return moved


@dataclass(frozen=True, slots=True)
class DroneTiles:
    """Cuts an orthomosaic into tiles around its buildings.

    Attributes:
        tile_px: width and height of a tile.
        overlap_px: pixels that neighbours have in common.
        resolution_m: metres per pixel of the tiles; None for the image's own.
        aligned: polygons are moved by their vectors.
    """

    tile_px: int
    overlap_px: int = 0
    resolution_m: float | None = None
    aligned: bool = True

    def __call__(self, source: SourceScene, folder: PreparedFolder, /) -> Made:
        """The tiles of one orthomosaic.

        Raises:
            InputError: an image or a file of annotations that cannot be used.
            OutputError: a tile cannot be written.
        """
        buildings = None
        shapes = np.zeros(0, object)
        if LABEL in source.labels:
            buildings = read_buildings(source.labels[LABEL])
            vectors = source.labels.get(ADJUSTMENTS) if self.aligned else None
            shapes = adjust(buildings, np.zeros((0, 2, 2)) if vectors is None else read_adjustments(vectors))
        with closing(RasterSource.open(source.pre)) as raster:
            require_bands(raster)
            if raster.dtype != "uint8":
                raise DataError(f"{source.pre} has pixels of {raster.dtype}, expected 8 bits")
            image = _Mosaic(self, source, raster, buildings, shapes)
            return Made(tuple(cut(image, source, folder)), image.dropped)


class _Mosaic:
    """An orthomosaic with its buildings, opened."""

    def __init__(
        self,
        how: DroneTiles,
        source: SourceScene,
        raster: RasterSource,
        buildings: Buildings | None,
        shapes: np.ndarray,
    ) -> None:
        self.how, self.source, self.raster, self.buildings = how, source, raster, buildings
        scale = scale_to(raster.grid, how.resolution_m)
        self.grid: Grid = grid_at(raster.grid, how.resolution_m)
        self.shapes = shapely.transform(shapes, lambda xy: xy / scale) if scale != (1.0, 1.0) else shapes
        self.form = TileForm(len(DAMAGE), state=source_state(source))
        self.dropped: Counter[str] = Counter()

    @property
    def planned(self) -> int:
        """How many windows there are."""
        return len(self.windows)

    @cached_property
    def windows(self) -> list[Window]:
        """Tiles that cover the image, side by side."""
        return windows(self.grid.height, self.grid.width, self.how.tile_px, self.how.overlap_px)

    @cached_property
    def tree(self) -> shapely.STRtree:
        """Finds the buildings of a window."""
        return shapely.STRtree(self.shapes)

    def tiles(self) -> "Iterator[_Piece]":
        """The windows that hold a building; of an image without labels all."""
        for window in self.windows:
            frame = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
            inside = np.sort(self.tree.query(frame, predicate="intersects"))
            if self.buildings is not None and not len(inside):
                self.dropped[WITHOUT_BUILDING] += 1
            else:
                yield _Piece(self, window, inside)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A window of an orthomosaic."""

    mosaic: _Mosaic
    window: Window
    inside: np.ndarray
    place: None = None

    @property
    def name(self) -> str:
        return f"{self.mosaic.source.name}_r{self.window.row:05d}_c{self.window.col:05d}"

    def keep(self) -> None:
        """All tiles are kept."""

    def cut(self) -> CutTile | None:
        """Its pixels and mask; None where the image shows too little ground."""
        mosaic, window = self.mosaic, self.window
        grid = mosaic.grid.crop(window)
        patch = mosaic.raster.read(grid)
        if patch.valid.mean() < _LEAST_VALID:
            mosaic.dropped[WITHOUT_DATA] += 1
            return None
        labels = Labels(grid=scene_grid(grid))
        if mosaic.buildings is not None:
            shapes = shapely.transform(mosaic.shapes[self.inside], lambda xy: xy - (window.col, window.row))
            names = [mosaic.buildings.labels[number] for number in self.inside]
            values = [VALUES[name] for name in names]
            mask = draw_damage_mask(list(shapes), values, height=window.height, width=window.width)
            mask[~patch.valid] = IGNORE
            counts = Counter(_OURS.get(name, name) for name in names)
            labels = Labels({"classes": mask}, dict(counts), scene_grid(grid))
        pixels = patch.array.copy()
        pixels[:, ~patch.valid] = 0
        return CutTile(pixels, labels, grid)


_OURS = {name: DAMAGE.names[value] for name, value in VALUES.items() if value != IGNORE}


def _annotations(root: Path, imagery: str, folder: str) -> dict[str, Path]:
    """Files of one kind by the name of their image; those of the imagery's own folder, or of one for all."""
    places = (root / "annotations" / imagery / folder, root / "annotations" / folder)
    found = next((place for place in places if place.is_dir()), None)
    return {} if found is None else {path.name.removesuffix(".json"): path for path in found.glob("*.json")}


def _events(source: Path) -> Mapping[str, str]:
    """The event of each orthomosaic, from `statistics.csv`: the column Event, beside one that names files."""
    file = next(
        (path for path in (source / "statistics.csv", source.parent / "statistics.csv") if path.is_file()),
        None,
    )
    if file is None:
        return {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    return {
        Path(value).name: row["Event"]
        for row in rows
        if row.get("Event")
        for value in row.values()
        if isinstance(value, str) and value.endswith(".tif")
    }


def _point(point: Any, path: Path) -> tuple[float, float]:
    try:
        x, y = float(point["x"]), float(point["y"])
    except (TypeError, KeyError, ValueError):
        raise _other_form(path, f"the point {str(point)[:40]}") from None
    if not (math.isfinite(x) and math.isfinite(y) and abs(x) < _FARTHEST and abs(y) < _FARTHEST):
        raise _other_form(path, f"the point {str(point)[:40]}")
    return x, y


def _other_form(path: Path, what: str) -> DataError:
    return DataError(f"{path} is no file of annotations of CRASAR-U-DROIDs: {what}")
