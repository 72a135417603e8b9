"""SpaceNet 8: pairs on grids of their own, with buildings and roads that are flooded or not.

What each layout was taken from, and what could not be confirmed, stands with its release in `releases.RELEASES`.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.features import rasterize

from aftermap.classes import IGNORE
from aftermap.data.file_content import checksum, read_bytes
from aftermap.data.geotransform import scene_grid
from aftermap.data.legends import SPACENET8
from aftermap.data.preparing.class_image import source_state
from aftermap.data.preparing.cutter import write_tile
from aftermap.data.preparing.dataset import Labels, Made, PreparedFolder, SourceScene
from aftermap.data.preparing.journal import IMAGES
from aftermap.data.preparing.scene_files import has_its_files, write_scene
from aftermap.data.readers.class_labels import LABEL
from aftermap.data.readers.published.release import Found
from aftermap.errors import DataError
from aftermap.geo.datum import transforming
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import to_pixels
from aftermap.geo.raster import RasterSource, require_bands

ROAD_M = 3.0
"""Metres to each side of a road's line. Source: the baseline's and the winner's masks."""

_MAPPING, _REFERENCE = "_label_image_mapping.csv", "_reference.csv"
_PRE, _POST, _POST_2 = "pre-event image", "post-event image 1", "post-event image 2"
SECOND = "second"
"""Role of the second image from after, where there is one: it shows ground that the first does not."""
_SHAPES = ("POLYGON", "MULTIPOLYGON", "LINESTRING", "MULTILINESTRING")
_FARTHEST = 360.0
_FLOODED = {"true": 1, "false": 0}


def find_floods(source: Path) -> Found:
    """Rows of `AOI_label_image_mapping.csv`, with images in `PRE-event/` and `POST-event/` and `AOI_reference.csv`.

    Each area is an event. Areas without reference, which are the tests, are without labels.

    Raises:
        DataError: a table without the columns that are needed.
    """
    images = {
        folder: {path.name: path for path in source.glob(f"**/{folder}/*.tif")}
        for folder in ("PRE-event", "POST-event")
    }
    scenes: list[SourceScene] = []
    unpaired: list[Path] = []
    for table in sorted(source.glob(f"**/*{_MAPPING}")):
        area = table.name.removesuffix(_MAPPING)
        reference = table.with_name(f"{area}{_REFERENCE}")
        labels = {LABEL: reference} if reference.is_file() else {}
        for row in _rows(table, (_PRE, _POST), also=(_POST_2,)):
            pre, post = images["PRE-event"].get(row[_PRE]), images["POST-event"].get(row[_POST])
            if pre is None or post is None:
                unpaired.append(Path(row[_PRE]))
                continue
            second = images["POST-event"].get(row[_POST_2])
            is_test = "test" in area.lower()
            scenes.append(
                SourceScene(
                    name=pre.stem,
                    event=area.partition("_T")[0] or area,
                    pre=pre,
                    post=post,
                    labels=labels if second is None else {**labels, SECOND: second},
                    split="test" if is_test else "unassigned",
                    source_split="test" if is_test else "train",
                )
            )
    return Found(tuple(scenes), tuple(unpaired))


@dataclass(frozen=True, slots=True)
class Outline:
    """A building or road of a reference: in longitude and latitude, with its value in a mask."""

    geometry: Any
    value: int
    is_road: bool


def read_reference(path: Path, image: str) -> list[Outline]:
    """What a reference says of an image; nothing where it is not in it.

    Buildings and roads of unknown state are `IGNORE`.

    Raises:
        DataError: a table of another form, or a geometry that is none.
    """
    found = []
    for row in _by_image(path).get(image, ()):
        kind, flooded = row["Object"].lower(), row["Flooded"].strip().lower()
        geometry = _geometry(row["Wkt_Geo"])
        if geometry is None or kind not in ("building", "road"):
            raise DataError(
                f"{path} holds {row['Object'][:20]} {row['Wkt_Geo'][:40]}, expected buildings and roads"
            )
        if geometry.is_empty:
            continue
        state = _FLOODED.get(flooded)
        is_road = kind == "road"
        value = IGNORE if state is None else (3 if is_road else 1) + state
        found.append(Outline(geometry, value, is_road))
    return found


def _geometry(text: str) -> Any:
    """A geometry in longitude and latitude; None for other text."""
    if text.split("(", 1)[0].strip().upper().removesuffix(" EMPTY") not in _SHAPES:
        return None  # others may be nested without end
    try:
        geometry = shapely.from_wkt(text)
    except shapely.GEOSException:
        return None
    points = shapely.get_coordinates(geometry)
    return geometry if (np.abs(points) <= _FARTHEST).all() else None


def draw_flood_mask(outlines: Sequence[Outline], grid: Grid) -> np.ndarray:
    """uint8 (H, W) of the legend: roads `ROAD_M` to each side of their line, buildings above them."""
    across, along = grid.pixel_size_m or (1.0, 1.0)
    with transforming():
        transformer = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
        drawn = []
        for outline in sorted(outlines, key=lambda one: not one.is_road):
            ground = shapely.transform(
                outline.geometry, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
            )
            shape = to_pixels(ground, grid)
            if outline.is_road:
                metres = shapely.transform(shape, lambda xy: xy * (across, along)).buffer(ROAD_M)
                shape = shapely.transform(metres, lambda xy: xy / (across, along))
            drawn.append((shape, outline.value))
    if not drawn:
        return np.zeros(grid.shape, np.uint8)
    mask: np.ndarray = rasterize(drawn, out_shape=grid.shape, transform=Affine.identity(), dtype="uint8")
    return mask


@dataclass(frozen=True, slots=True)
class FloodPairs:
    """Makes pairs: the image from before stays, that from after is brought to its grid.

    Attributes:
        meaning: value in a mask of damage of each class; None keeps the classes.
    """

    meaning: Mapping[str, int] | None = None

    def __call__(self, source: SourceScene, folder: PreparedFolder, /) -> Made:
        """One pair.

        Raises:
            InputError: images or a reference that cannot be used.
            OutputError: a file cannot be written.
        """
        assert source.post is not None
        state = source_state(source)
        known = folder.known.get(source.name)
        path = folder.path / IMAGES / f"{source.name}_post.tif"
        if (
            known is not None
            and known.checksums.get("source") == state
            and has_its_files(known)
            and path.is_file()
        ):
            return Made((known.model_copy(update={"split": source.split}),))
        with (
            closing(RasterSource.open(source.pre)) as before,
            closing(RasterSource.open(source.post)) as after,
        ):
            for raster in (before, after):
                require_bands(raster)
                if raster.dtype != "uint8" or not raster.is_georeferenced:
                    raise DataError(f"{raster.name} is no georeferenced image of 8 bits")
            grid = before.grid
            seen = before.read(grid).valid
            patch = after.read(grid)
        pixels, shown = patch.array.copy(), patch.valid.copy()
        if SECOND in source.labels:
            with closing(RasterSource.open(source.labels[SECOND])) as later:
                require_bands(later)
                if later.dtype != "uint8" or not later.is_georeferenced:
                    raise DataError(f"{later.name} is no georeferenced image of 8 bits")
                other = later.read(grid)
            fills = other.valid & ~shown
            pixels[:, fills] = other.array[:, fills]
            shown |= fills
        pixels[:, ~shown] = 0
        write_tile(path, pixels, grid)
        masks: dict[str, np.ndarray] = {}
        counts: dict[str, int] = defaultdict(int)
        if LABEL in source.labels:
            outlines = read_reference(source.labels[LABEL], source.name)
            mask = draw_flood_mask(outlines, grid)
            mask[~(seen & shown)] = IGNORE
            for outline in outlines:
                counts["unknown" if outline.value == IGNORE else SPACENET8.names[outline.value]] += 1
            if self.meaning is None:
                masks["classes"] = mask
            else:
                lookup = np.full(256, IGNORE, np.uint8)
                lookup[: len(SPACENET8.names)] = [self.meaning[name] for name in SPACENET8.names]
                masks["damage"] = lookup[mask]
        scene = write_scene(
            folder.path,
            source,
            Labels(masks, dict(counts), scene_grid(grid)),
            name=source.name,
            pre=source.pre,
            post=path,
            size=grid.shape,
            resolution_m=grid.resolution_m,
            classes=len(SPACENET8.names),
            checksums={
                "pre": checksum(read_bytes(source.pre)),
                "post": checksum(read_bytes(path)),
                "source": state,
            },
        )
        return Made((scene,))


def _rows(path: Path, columns: Sequence[str], *, also: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows with the columns that are needed, and those that may be there; empty where nothing stands."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if lacking := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise DataError(f"{path} has no column {lacking[0]}: expected {', '.join(columns)}")
            return [{name: row.get(name) or "" for name in (*columns, *also)} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from None


def _by_image(path: Path) -> Mapping[str, Sequence[Mapping[str, str]]]:
    return _table(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _table(path: Path, _changed: int) -> Mapping[str, Sequence[Mapping[str, str]]]:
    """Rows of a reference by image; read once for all images of an area."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _rows(path, ("ImageId", "Object", "Flooded", "Wkt_Geo")):
        rows[row["ImageId"]].append(row)
    return dict(rows)
