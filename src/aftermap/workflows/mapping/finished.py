"""A finished map, of two dates or of one, opened again: what reviews, totals, areas and reports start from."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import shapely

from aftermap.classes import BUILDING, DAMAGE, DESTROYED_OR_NOT, ClassScheme, OneDate
from aftermap.errors import DataWarning, FootprintError, InputError
from aftermap.files import read_json
from aftermap.geo.grid import Grid, quiet_without_georeference
from aftermap.geo.vectors.files import read_table
from aftermap.products.vectors import DAMAGE_LAYER, LAYER, ONE_DATE_LAYER, Layer, normalise
from aftermap.workflows.mapping.result import MapRaster
from aftermap.workflows.mapping.work import MARKER


@dataclass(frozen=True, repr=False)
class FinishedMap:
    """A finished map of damage.

    Attributes:
        folder: the output folder of `aftermap map`.
        buildings: the table of buildings, in the grid's reference system, with the columns of `products.vectors` and
            the user's.
        grid: what was mapped.
        summary: what `summary.json` holds.
        provenance: what `provenance.json` holds.
    """

    folder: Path
    buildings: geopandas.GeoDataFrame
    grid: Grid
    summary: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def one_date(self) -> OneDate | None:
        """Which of two dates it rests on alone; None for both."""
        return one_date_of(self.provenance)

    @property
    def scheme(self) -> ClassScheme:
        """The classes of its pixels."""
        return _KEPT[self.one_date][0]

    @property
    def raster(self) -> Path:
        """Its classes by pixel."""
        return self.folder / _KEPT[self.one_date][1]

    def __repr__(self) -> str:
        return f"<finished map of {len(self.buildings)} buildings in {self.folder}>"

    @cached_property
    def outlines_sha256(self) -> str:
        """SHA-256 of ids and outlines, in order: these are the same buildings, whatever their class."""
        digest = hashlib.sha256()
        for name, shape in zip(self.buildings["building_id"], self.buildings.geometry, strict=True):
            digest.update(str(name).encode() + b"\0" + shapely.to_wkb(shapely.normalize(shape)))
        return digest.hexdigest()

    @cached_property
    def identity(self) -> str:
        """SHA-256 of ids, outlines and classes: what was counted of another table is of an earlier map."""
        return identity_of(self.buildings)


_KEPT: dict[OneDate | None, tuple[ClassScheme, str, Layer]] = {
    None: (DAMAGE, "damage.tif", DAMAGE_LAYER),
    "post-only": (DESTROYED_OR_NOT, "destroyed.tif", ONE_DATE_LAYER),
    "pre-only": (BUILDING, "classes.tif", ONE_DATE_LAYER),
}
"""Classes, raster and table of a map of both dates, and of each alone."""

_REFUSED: dict[OneDate, str] = {
    "post-only": "is a map of the image after alone, which tells destroyed from not: this needs one of two dates "
    "('aftermap map BEFORE AFTER')",
    "pre-only": "is a map of the image before alone, where no damage is told: map the image after too",
}


def one_date_of(provenance: Mapping[str, Any]) -> OneDate | None:
    """Which date a map rests on alone, by its `provenance.json`; None for both, or for a map of something else."""
    scale, mode = provenance.get("scale"), provenance.get("mode")
    if scale == DESTROYED_OR_NOT.name:
        return "post-only"
    return "pre-only" if scale == BUILDING.name and mode == "pre-only" else None


SIDE_FILES = ("areas/*.json", "totals/totals.json")
"""What was counted of a map, with its identity as `map`."""


def identity_of(buildings: geopandas.GeoDataFrame) -> str:
    """See `FinishedMap.identity`; of a table as `buildings.gpkg` holds it."""
    digest = hashlib.sha256()
    columns = (buildings["building_id"], buildings["damage"], buildings.geometry)
    for name, damage, shape in zip(*columns, strict=True):
        digest.update(f"{name}\0{damage}\0".encode() + shapely.to_wkb(shapely.normalize(shape)))
    return digest.hexdigest()


def made_for_another(folder: Path, identity: str) -> list[str]:
    """Side files of a map's folder that say that they were made for another table, as paths in the folder."""
    found = []
    for pattern in SIDE_FILES:
        for path in sorted(folder.glob(pattern)):
            try:
                tree = read_json(path)
            except InputError:
                continue
            if isinstance(tree, dict) and tree.get("map", identity) != identity:
                found.append(path.relative_to(folder).as_posix())
    return found


def tell_stale(folder: Path, buildings: geopandas.GeoDataFrame) -> None:
    """Warn of side files that were counted of the table before this one."""
    if not any(any(folder.glob(pattern)) for pattern in SIDE_FILES):
        return
    stale = made_for_another(folder, identity_of(buildings))
    if stale:
        warnings.warn(
            f"{', '.join(stale)} in {folder} {'is' if len(stale) == 1 else 'are'} of the map before: repeat the commands "
            "that made them",
            DataWarning,
            stacklevel=3,
        )


def open_map(folder: Path, *, also: tuple[OneDate, ...] = ()) -> FinishedMap:
    """Open the folder of a finished map of damage.

    Args:
        folder: of the map.
        also: maps of one date that will do too.

    Raises:
        InputError: there is none, it is not finished, it is a map of something else, or a file of it is missing or
            altered.
    """
    if not (folder / MARKER).is_file():
        if (folder.parent / f"{folder.name}.work").is_dir():
            raise InputError(f"the map {folder} is not finished: repeat its command with --resume")
        raise InputError(f"{folder} is not a finished map: pass the output folder of 'aftermap map'")
    provenance, summary = read_json(folder / MARKER), read_json(folder / "summary.json")
    if not isinstance(provenance, dict) or not isinstance(summary, dict):
        raise InputError(f"{folder / MARKER} is not the report of a map")
    one_date = one_date_of(provenance)
    if one_date is None and provenance.get("scale") != DAMAGE.name:
        raise InputError(f"{folder} is not a map of damage: this needs one of two dates")
    if one_date is not None and one_date not in also:
        raise InputError(f"{folder} {_REFUSED[one_date]}")
    _, name, layer = _KEPT[one_date]
    table, raster = folder / f"{LAYER}.gpkg", folder / name
    for path in (table, raster):
        if not path.is_file():
            raise InputError(f"{path} is missing: map again")
    try:
        with quiet_without_georeference():
            grid = MapRaster.open(raster).grid
        frame = normalise(read_raw_buildings(table, grid), layer)
    except (FootprintError, ValueError, OSError) as error:
        raise InputError(f"{table} cannot be used: {error}") from None
    return FinishedMap(folder, frame, grid, summary, provenance)


def read_buildings(folder: Path, grid: Grid) -> geopandas.GeoDataFrame:
    """The table of buildings in a folder, checked.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    table = folder / f"{LAYER}.gpkg"
    try:
        return normalise(read_raw_buildings(table, grid))
    except (FootprintError, ValueError, OSError) as error:
        raise InputError(f"{table} cannot be used: {error}") from None


def read_raw_buildings(path: Path, grid: Grid) -> geopandas.GeoDataFrame:
    """The table with every digit: pandas' reader makes decimals of whole numbers, and of yes and no, with gaps."""
    found = read_table(path.with_name(f"{path.name}:{LAYER}"), "footprints", columns=True)
    return geopandas.GeoDataFrame(
        found.columns, geometry=found.shapes, crs=None if grid.crs is None else grid.crs.to_wkt()
    )
