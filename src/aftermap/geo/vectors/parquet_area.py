"""The part of a GeoParquet file that an area touches: groups of rows that lie elsewhere are not read."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import AftermapError, FootprintError
from aftermap.geo.vectors.binary import NESTED, _told
from aftermap.geo.vectors.table import Table, frame_of, on_the_ground, text_of

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_parquet_area(
    file: Any, name: str, area: BaseGeometry, *, columns: Sequence[str] | None = None
) -> Table:
    """Read the features of a GeoParquet file whose boxes touch an area.

    Args:
        file: a path, or an open file that can seek.
        name: of it, for messages.
        area: polygons in degrees.
        columns: to read, as far as they are there; None for all.

    Raises:
        FootprintError: pyarrow is not installed, or it is no GeoParquet of well-known binary.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise FootprintError(
            f"reading {name} needs pyarrow, which is not installed: pip install 'aftermap[parquet]'"
        ) from None
    try:
        return _read(parquet.ParquetFile(file), name, area, columns)
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        shapely.errors.ShapelyError,
    ) as error:
        failure = getattr(file, "failure", None)
        if isinstance(failure, AftermapError):
            raise failure from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FootprintError(f"cannot read {name}: {reason[:300]}") from None


def _read(file: Any, name: str, area: BaseGeometry, columns: Sequence[str] | None) -> Table:
    schema = file.schema_arrow
    told = (schema.metadata or {}).get(b"geo")
    if told is None:
        raise FootprintError(
            f"{name} is Parquet without the geo metadata of GeoParquet: save it as GeoParquet"
        )
    tree = json.loads(told)
    primary = str(tree["primary_column"])
    described = tree["columns"][primary]
    if described.get("encoding") != "WKB":
        raise FootprintError(
            f"{name} holds geometries as {str(described.get('encoding'))[:40]}, expected well-known binary (WKB)"
        )
    # GeoParquet: without a reference system longitude and latitude are meant, with null it is not known
    crs = pyproj.CRS("OGC:CRS84") if "crs" not in described else None
    if described.get("crs") is not None:
        crs = on_the_ground(pyproj.CRS.from_json_dict(described["crs"]), name)
    if crs is None:
        raise FootprintError(f"{name} names no reference system")
    box = _box_in(area, crs)
    sides = _sides(described, schema.names, schema)
    wanted = [each for each in schema.names if each != primary and (columns is None or each in columns)]
    boxed = sides is not None and sides[0][0] not in (columns or (sides[0][0],))
    names = [each for each in wanted if sides is None or each != sides[0][0] or boxed]
    shapes: list[np.ndarray] = []
    read: dict[str, list[Any]] = {text_of(each): [] for each in names}
    for table in _groups(file, [primary, *names], sides, box):
        cells = table.column(primary).to_pylist()
        deep = sum(NESTED.search(cell) is not None for cell in cells if cell is not None)
        if deep:
            raise FootprintError(f"cannot read {name}: {deep} geometries are nested too deeply")
        found = shapely.from_wkb(cells, on_invalid="fix")
        near = np.array(shapely.intersects(found, shapely.box(*box)), bool)
        rows = np.flatnonzero(near)
        shapes.append(np.array(found, dtype=object)[rows])
        kept = table.take(rows)
        for each in names:
            read[text_of(each)] += [_told(value) for value in kept.column(each).to_pylist()]
    everything = np.concatenate(shapes) if shapes else np.empty(0, dtype=object)
    return Table(everything, crs, frame_of(read, len(everything)))


def _groups(
    file: Any, names: Sequence[str], sides: Sequence[tuple[str, ...]] | None, box: Sequence[float]
) -> Iterator[Any]:
    """The rows of each group whose boxes touch a box; of groups that lie elsewhere nothing is read."""
    for group in range(file.metadata.num_row_groups):
        if sides is None:
            yield file.read_row_group(group, columns=list(names))
            continue
        if not _may_touch(file.metadata.row_group(group), sides, box):
            continue
        boxes = file.read_row_group(group, columns=[".".join(side) for side in sides])
        values = [_flat(boxes, side) for side in sides]
        rows = np.flatnonzero(
            (values[0] <= box[2]) & (values[2] >= box[0]) & (values[1] <= box[3]) & (values[3] >= box[1])
        )
        if len(rows):
            yield file.read_row_group(group, columns=list(names)).take(rows)


def _may_touch(group: Any, sides: Sequence[tuple[str, ...]], box: Sequence[float]) -> bool:
    """Whether what a group of rows says of its boxes leaves room for one that touches; true where it says nothing."""
    told = {}
    for index in range(group.num_columns):
        column = group.column(index)
        statistics = column.statistics
        if statistics is not None and statistics.has_min_max:
            told[column.path_in_schema] = (statistics.min, statistics.max)
    lowest_x, lowest_y, highest_x, highest_y = (told.get(".".join(side)) for side in sides)
    return not (
        (lowest_x is not None and lowest_x[0] > box[2])
        or (highest_x is not None and highest_x[1] < box[0])
        or (lowest_y is not None and lowest_y[0] > box[3])
        or (highest_y is not None and highest_y[1] < box[1])
    )


def _sides(described: Any, names: Sequence[str], schema: Any) -> list[tuple[str, ...]] | None:
    """Where the box of each feature is held: west, south, east, north; None where it is not."""
    covering = (described.get("covering") or {}).get("bbox")
    if isinstance(covering, dict) and all(side in covering for side in _SIDES):
        return [tuple(map(str, covering[side])) for side in _SIDES]
    if "bbox" in names:
        kind = schema.field("bbox").type
        if all(kind.get_field_index(side) >= 0 for side in _SIDES if hasattr(kind, "get_field_index")):
            return [("bbox", side) for side in _SIDES]
    return None


def _flat(table: Any, side: tuple[str, ...]) -> np.ndarray:
    column = table.column(side[0]).combine_chunks()
    for part in side[1:]:
        column = column.field(part)
    return np.asarray(column.to_numpy(zero_copy_only=False), float)


def _box_in(area: BaseGeometry, crs: pyproj.CRS) -> tuple[float, float, float, float]:
    """The box of an area of degrees in a reference system."""
    transformer = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    west, south, east, north = transformer.transform_bounds(*area.bounds)
    return float(west), float(south), float(east), float(north)
