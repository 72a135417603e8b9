"""GeoPackage, FlatGeobuf and Shapefile through GDAL's drivers, GeoParquet through Arrow.

A file is opened only once its first bytes have told what it is, so that no other driver can take it.
"""

import json
import re
import sqlite3
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyogrio import raw
from pyproj import CRS

from aftermap.errors import FootprintError
from aftermap.geo.vectors.table import Table, frame_of, known_crs, on_the_ground, text_of, unique_names

_ODD_IN_PATHS = re.compile(r"[!;?%#:\[\]]")
_RUNS = re.compile(
    r"virtual\s+table(?!.*using\s+[\"'`]?(rtree|fts[345]|rtree_i32)\b)|\b(ogr|gdal)_\w+\s*\(|load_extension",
    re.I | re.S,
)
NESTED = re.compile(rb"(?:(?:\x01[\x04-\x07].\x00.|\x00.\x00.[\x04-\x07])(?:.{4}){1,2}){9}", re.DOTALL)
"""Well-known binary of collections in collections, nine deep."""

_OUTLINES = ("Polygon", "Surface", "TIN", "Triangle")


@dataclass(frozen=True)
class Layer:
    """A layer of a file.

    Attributes:
        name: as the file has it.
        kind: its type of geometry, such as Polygon; Unknown where any may occur.
        count: of its features.
    """

    name: str
    kind: str
    count: int

    @property
    def may_hold_outlines(self) -> bool:
        """Whether its type allows polygons."""
        return self.kind.startswith(("Unknown", "Geometry")) or any(kind in self.kind for kind in _OUTLINES)

    @property
    def may_hold_points(self) -> bool:
        """Whether its type allows points."""
        return self.kind.startswith(("Unknown", "Geometry")) or "Point" in self.kind


def layers_of(path: Path, what: str) -> list[Layer]:
    """The layers with geometries of a GeoPackage, FlatGeobuf or Shapefile.

    Raises:
        FootprintError: the file cannot be read.
    """
    if path.suffix.lower() == ".gpkg":
        _check_package(path, what)
    elif path.suffix.lower() == ".shp":
        _check_dbase(path, what)
    with _reading(path, what) as place:
        named = [(str(name), str(kind)) for name, kind in pyogrio.list_layers(place) if kind is not None]
        counts = [
            int(pyogrio.read_info(place, layer=name, force_feature_count=True)["features"])
            for name, _ in named
        ]
    return [
        Layer(path.stem if len(named) == 1 and path.suffix.lower() != ".gpkg" else name, kind, count)
        for (name, kind), count in zip(named, counts, strict=True)
    ]


def holds_outlines(path: Path, layer: Layer, what: str) -> bool:
    """Whether a layer of any geometries has a polygon among its first ones."""
    if not layer.kind.startswith(("Unknown", "Geometry")):
        return layer.may_hold_outlines
    with _reading(path, what) as place:
        _, _, geometry, _ = raw.read(place, layer=layer.name, columns=[], max_features=1000)
    shapes = shapely.from_wkb(geometry, on_invalid="ignore")
    return bool(np.isin(shapely.get_type_id(shapes), (3, 6, 7)).any())


def read_layer(path: Path, layer: Layer, what: str, *, columns: bool) -> Table:
    """Read a layer of a GeoPackage, FlatGeobuf or Shapefile.

    Raises:
        FootprintError: it cannot be read, or is in a reference system that is not known.
    """
    package = path.suffix.lower() == ".gpkg"
    options: dict[str, Any] = {"layer": layer.name} if package else {}
    if path.suffix.lower() == ".shp":
        options["ADJUST_TYPE"] = "YES"  # else whole numbers of 19 digits come as floats
    with _reading(path, what) as place:
        chosen: list[str] | None = None if columns else []
        meta, fids, geometry, values = raw.read(
            place, columns=chosen, return_fids=True, datetime_as_string=True, force_2d=True, **options
        )
        exact = {
            name: _exact(place, name, fids, options)
            for name, kind, found in zip(meta["fields"], meta["dtypes"], values, strict=True)
            if str(kind).startswith(("int", "uint")) and found.dtype.kind == "f"
        }
    shapes = shapely.from_wkb(geometry, on_invalid="fix")
    read = {
        str(name): exact.get(name) or _plain(found, str(kind))
        for name, kind, found in zip(meta["fields"], meta["dtypes"], values, strict=True)
    }
    ids = [str(fid) for fid in fids.tolist()] if package else ()
    crs = known_crs(_named(meta["crs"]), str(path))
    return Table(shapes, crs, frame_of({text_of(k): v for k, v in read.items()}, len(shapes)), ids)


def read_parquet(path: Path, what: str, *, columns: bool) -> Table:
    """Read a GeoParquet file.

    Raises:
        FootprintError: pyarrow is not installed, or the file is no GeoParquet.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise FootprintError(
            f"reading {path} needs pyarrow, which is not installed: pip install 'aftermap[parquet]', or give {what} as "
            "GeoPackage or GeoJSON"
        ) from None
    try:
        schema = parquet.read_schema(path)
        geometry = _geometry_of(schema.metadata or {}, path)
        cells = parquet.read_table(path, columns=[geometry]).column(0)
        if pyarrow.types.is_binary(cells.type) or pyarrow.types.is_large_binary(cells.type):
            deep = sum(NESTED.search(cell) is not None for cell in cells.to_pylist() if cell is not None)
            if deep:
                raise FootprintError(f"cannot read {what} {path}: {deep} geometries are nested too deeply")
        frame = geopandas.read_parquet(path, columns=[geometry])
        names = [name for name in schema.names if columns and name != geometry]
        table = parquet.read_table(path, columns=names)
        read = {text_of(name): [_told(value) for value in table.column(name).to_pylist()] for name in names}
    except (
        pyarrow.ArrowException,
        RuntimeError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        shapely.errors.ShapelyError,
    ) as error:
        raise FootprintError(f"cannot read {what} {path}: {_reason(error)}") from None
    crs = None if frame.crs is None else on_the_ground(CRS(frame.crs), str(path))
    return Table(np.asarray(frame.geometry.array, dtype=object), crs, frame_of(read, len(frame)))


def plain_frame(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """A user's table as any format can hold it: an index with a name as a column, every column of one type."""
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    table = frame.reset_index(names=frame.index.names) if len(named) == frame.index.nlevels else frame
    others = [name for name in table.columns if name != table.geometry.name]
    names = unique_names([text_of(str(name)) for name in others])
    columns = {
        new: [_told(v.item() if isinstance(v, np.generic) else v) for v in table[old].astype(object)]
        for old, new in zip(others, names, strict=True)
    }
    tidied = frame_of(columns, len(table))
    return geopandas.GeoDataFrame(tidied, geometry=table.geometry.to_numpy(), crs=table.crs)


@contextmanager
def _reading(path: Path, what: str) -> Iterator[Path]:
    """A name for the file that GDAL takes for nothing but a file; what libraries say, in one line."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = path.absolute()
        if _ODD_IN_PATHS.search(str(place)) or str(place).startswith("/vsi"):
            for part in path.parent.glob("*"):
                if part.stem == path.stem:
                    (Path(folder) / f"layer{part.suffix}").symlink_to(part.absolute())
            place = Path(folder) / f"layer{path.suffix}"
        try:
            yield place
        except NameError:  # pyogrio's own, where a reference system is damaged
            raise FootprintError(f"cannot read {what} {path}: its reference system is damaged") from None
        except (RuntimeError, ValueError, OSError, shapely.errors.ShapelyError) as error:
            raise FootprintError(f"cannot read {what} {path}: {_reason(error)}") from None


def _check_package(path: Path, what: str) -> None:
    """Refuse a database that would run something when it is read."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as database:
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            told = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            tables = {str(name).lower() for name, _ in told}
    except sqlite3.Error as error:
        raise FootprintError(f"cannot read {what} {path}: {error}") from None
    if "gpkg_contents" not in tables:
        raise FootprintError(f"cannot read {what} {path}: it is an SQLite database, expected a GeoPackage")
    for name, sql in told:
        if _RUNS.search(str(sql)):
            raise FootprintError(
                f"cannot read {what} {path}: its {text_of(str(name))[:40]} is computed by functions that read other "
                "files: save the layer as a plain table"
            )


def _check_dbase(path: Path, what: str) -> None:
    """Refuse a Shapefile without its index, or whose table is shorter than it says, which GDAL crashes on."""
    parts = [part for part in path.parent.iterdir() if part.stem == path.stem]
    if not any(part.suffix.lower() == ".shx" for part in parts):
        raise FootprintError(
            f"cannot read {what} {path}: {path.stem}.shx is missing: a Shapefile is several files, keep them together"
        )
    for table in parts:
        if table.suffix.lower() == ".dbf":
            head = table.read_bytes()[:32]
            rows, start, width = struct.unpack("<4xIHH", head[:12]) if len(head) == 32 else (1, 1, 1)
            if table.stat().st_size < start + rows * width or (rows and width < 1):
                raise FootprintError(f"cannot read {what} {path}: {table.name} is cut short or damaged")


def _exact(place: Path, name: str, fids: np.ndarray, options: dict[str, Any]) -> list[int | None]:
    """A column of whole numbers with gaps, which would come as floats."""
    quoted = name.replace('"', '""')
    _, known, _, (values,) = raw.read(
        place,
        columns=[name],
        where=f'"{quoted}" IS NOT NULL',
        return_fids=True,
        read_geometry=False,
        **options,
    )
    found = dict(zip(known.tolist(), values.tolist(), strict=True))
    return [found.get(fid) for fid in fids.tolist()]


def _plain(values: np.ndarray, kind: str) -> list[Any]:
    """Values as plain Python, None where missing."""
    if kind == "bool" and values.dtype.kind != "b":
        return [None if value != value else bool(value) for value in values.tolist()]
    if values.dtype.kind in "biu":
        return list(values.tolist())
    return [value if type(value) is str else _told(value) for value in values.tolist()]


def _told(value: Any) -> Any:
    """A value as JSON could hold it; dates and times as ISO 8601 text, bytes as hexadecimal."""
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool | int | float | str | list | dict):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _named(crs: Any) -> str | None:
    return None if crs is None or "undefined" in str(crs).lower() else str(crs)


def _geometry_of(metadata: dict[bytes, bytes], path: Path) -> str:
    """The column that holds the geometries."""
    told = metadata.get(b"geo")
    if told is None:
        raise FootprintError(
            f"{path} is Parquet without the geo metadata of GeoParquet: save it as GeoParquet"
        )
    return str(json.loads(told)["primary_column"])


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).partition("; It might help")[0].rstrip(".") or type(error).__name__
