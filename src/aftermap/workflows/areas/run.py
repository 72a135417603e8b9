"""`aftermap areas OUT`: a finished map counted by areas, with layers, a page and a picture."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import geopandas
import numpy as np

from aftermap.classes import NOT_ASSESSED
from aftermap.errors import DataWarning, GeoreferenceError, InputError
from aftermap.extras import needs
from aftermap.files import make_folder
from aftermap.products.areas.layers import write_area_layers
from aftermap.products.areas.on_map import put_on_page
from aftermap.products.areas.subject import Subject, worst_of
from aftermap.products.lineage import Lineage
from aftermap.products.page.stored import read_page
from aftermap.wording import counted
from aftermap.workflows.areas.basis import Basis
from aftermap.workflows.areas.counts import OUTSIDE, count_by, representative_points, totals_of
from aftermap.workflows.areas.ground import sample_ground
from aftermap.workflows.areas.polygons import PolygonAreas, read_areas, scene_areas, tile_areas
from aftermap.workflows.areas.sampled import add_estimates
from aftermap.workflows.areas.squares import Squares, system_of
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.review.answers import Journal
from aftermap.workflows.review.areas import Survey, surveyed_areas

FOLDER = "areas"
MOST_AREAS = 20_000


@dataclass(frozen=True, repr=False)
class AreaResult:
    """A map by areas.

    Attributes:
        name: of the files in `OUT/areas`.
        title: what the areas are.
        areas: one row each; the last may be what lies outside of all.
        totals: sums over all rows, which are the map's.
        raster_sums: of each raster, its sum over all areas and over those with a damaged
            building (destroyed, of a map of the image after alone; the map of the image before has none).
        subject: what is drawn of it.
        files: that were written.
    """

    name: str
    title: str
    areas: geopandas.GeoDataFrame
    totals: dict[str, Any]
    raster_sums: dict[str, dict[str, float | None]]
    subject: Subject
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return f"<{counted(len(self.areas), 'area')}: {self.title}>"

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        table = self.areas.drop(columns=self.areas.geometry.name)
        rows = [
            {key: None if value is None or value != value else value for key, value in row.items()}
            for row in table.astype(object).to_dict("records")
        ]
        return {
            "name": self.name,
            "title": self.title,
            "areas": rows,
            "totals": self.totals,
            "rasters": self.raster_sums,
            "files": list(self.files),
        }


class AreaOptions(TypedDict, total=False):
    """Keywords of `count_areas`."""

    h3: int | None
    grid: float | None
    grid_crs: str | None
    by: str | Path | None
    name: str | None
    pcode: str | None
    tiles: str | Path | None
    scenes: Literal["pre", "post"] | None
    rasters: Sequence[str | Path]


def write_areas(folder: Path, **asked: Unpack[AreaOptions]) -> list[AreaResult]:
    """Count a finished map by one or several kinds of areas, and write `OUT/areas/NAME.*` for each; see `count_areas`.

    Raises:
        InputError: there is no finished map of damage, it has no georeference, or the areas cannot be used.
        OutputError: the results cannot be written.
    """
    found = _opened(folder)
    results = _counted(found, **asked)
    target = make_folder(folder / FOLDER)
    written = [
        replace(each, files=tuple(write_area_layers(each.subject, target, identity=found.identity)))
        for each in results
    ]
    _show_on_page(found, [each.subject for each in written])
    return written


def _show_on_page(found: FinishedMap, subjects: Sequence[Subject]) -> None:
    """Make the areas a layer of the map's own page, where it has one."""
    path = found.folder / "map.html"
    if not path.is_file():
        return
    try:
        page = read_page(path)
    except InputError as error:
        warnings.warn(f"the areas are no layer of the map's page: {error}", DataWarning, stacklevel=4)
        return
    if page.data.get("objects") is not None:
        put_on_page(page, subjects, found.grid)


def count_areas(folder: Path, **asked: Unpack[AreaOptions]) -> list[AreaResult]:
    """Count a finished map by one or several kinds of areas, and write nothing; see `_counted`.

    Raises:
        InputError: there is no finished map of damage, it has no georeference, or the areas cannot be used.
    """
    return _counted(_opened(folder), **asked)


def _opened(folder: Path) -> FinishedMap:
    found = open_map(folder, also=("post-only", "pre-only"))
    if found.grid.crs is None:
        raise GeoreferenceError(f"{folder} is a map in pixels: areas of the ground need a georeference")
    return found


def _counted(
    found: FinishedMap,
    *,
    h3: int | None = None,
    grid: float | None = None,
    grid_crs: str | None = None,
    by: str | Path | None = None,
    name: str | None = None,
    pcode: str | None = None,
    tiles: str | Path | None = None,
    scenes: Literal["pre", "post"] | None = None,
    rasters: Sequence[str | Path] = (),
) -> list[AreaResult]:
    """Count a finished map by one or several kinds of areas.

    Args:
        found: the map.
        h3: resolution of H3 cells.
        grid: side of squares in metres.
        grid_crs: reference system of the squares; by default the UTM zone of the map's centre.
        by: a file of polygons, or `FILE:LAYER`.
        name: its column of names.
        pcode: its column of P-codes.
        tiles: the images, a folder or a file, that the map was made of.
        scenes: by the image files of a date, whose outlines the map keeps.
        rasters: to be summed by area, such as population.

    Raises:
        InputError: there is no finished map of damage, it has no georeference, or the areas cannot be used.
        MissingExtraError: the extra `areas` is needed and not installed.
    """
    bases: list[Basis] = []
    if h3 is not None:
        needs("--h3", "areas")
        from aftermap.workflows.areas.h3_cells import H3Cells

        bases.append(H3Cells(h3))
    if grid is not None:
        bases.append(Squares(grid, system_of(found.grid, grid_crs)))
    if by is not None:
        bases.append(read_areas(Path(by), found.grid, name=name, pcode=pcode))
    if scenes is not None:
        bases.append(scene_areas(found.folder, scenes, found.grid))
    if tiles is not None:
        bases.append(tile_areas(Path(tiles)))
    if not bases:
        raise InputError(
            "nothing to count by: pass --h3 9, --grid 500, --by FILE, --scenes post or --tiles FOLDER"
        )
    if rasters:
        needs("--raster", "areas")
    names = _names(bases)
    return [
        _count(found, basis, slug, [Path(each) for each in rasters])
        for basis, slug in zip(bases, names, strict=True)
    ]


def _count(found: FinishedMap, basis: Basis, slug: str, rasters: Sequence[Path]) -> AreaResult:
    points = representative_points(found.buildings, found.grid)
    ground = sample_ground(found.raster, found.grid, basis.edge_m)
    survey = surveyed_areas(found, Journal(found.folder).answers())
    if survey.is_marked:
        ground = ground.within(survey.ground, found.grid)
    surveyed = survey.inside if survey.is_marked else None
    counts = count_by(basis, found.buildings, points, ground, surveyed=surveyed, scheme=found.scheme)
    frame = counts.frame
    if len(frame) > MOST_AREAS:
        raise InputError(
            f"the map has {len(frame):,} {basis.title}, more than {MOST_AREAS:,}: choose larger ones"
        )
    _tell(basis, points, frame)
    if survey.is_marked and not survey.inside.all():
        _tell_survey(found, survey)
    add_estimates(frame, found, counts.building_area)
    sums: dict[str, dict[str, float | None]] = {}
    titles: dict[str, str] = {}
    for path in rasters:
        from aftermap.workflows.areas.exposure import sum_by_area

        column, values = sum_by_area(frame, path)
        column = _free(column, frame)
        frame[column] = np.round(values, 2)
        sums[column] = {"sum": round(float(np.nansum(values)), 2)}
        if worst := worst_of(frame):
            struck = (frame[worst] > 0).to_numpy() & np.isfinite(values)
            which = "damage" if worst == "damaged" else worst
            sums[column][f"in_areas_with_{which}"] = round(float(values[struck].sum()), 2)
        titles[column] = path.name
    lineage = Lineage.of(found.provenance)
    subject = Subject.of(slug, basis.title, frame, found.grid, lineage, found.folder.resolve().name, titles)
    return AreaResult(slug, basis.title, frame, totals_of(frame), sums, subject)


def _tell(basis: Basis, points: tuple[np.ndarray, np.ndarray], frame: geopandas.GeoDataFrame) -> None:
    """What is odd about the areas, with numbers."""
    outside = frame.loc[frame["area_id"] == OUTSIDE, "buildings"].sum()
    if outside:
        warnings.warn(
            f"{counted(int(outside), 'building')} of {frame['buildings'].sum():,} in none of the areas: counted as "
            f"'{OUTSIDE}'",
            DataWarning,
            stacklevel=4,
        )
    if isinstance(basis, PolygonAreas) and basis.shared:
        shared = basis.count_shared(*points)
        if shared:
            warnings.warn(
                f"{counted(shared, 'building')} in more than one area: each counts in the first of the file",
                DataWarning,
                stacklevel=4,
            )


def _tell_survey(found: FinishedMap, survey: Survey) -> None:
    damage = found.buildings["damage"].to_numpy()[~survey.inside]
    struck = int((~np.isin(damage, (found.scheme.names[1], NOT_ASSESSED))).sum())
    worst = "damaged" if found.one_date is None else "destroyed"
    warnings.warn(
        f"{counted(len(damage), 'building')} outside of the ground that people marked as surveyed: counted as not "
        f"surveyed, and in no class; the model takes {struck:,} of them for {worst}",
        DataWarning,
        stacklevel=4,
    )


def _names(bases: Sequence[Basis]) -> list[str]:
    """Names of files, which differ."""
    names: list[str] = []
    for basis in bases:
        name, number = basis.slug, 2
        while name.casefold() in (other.casefold() for other in names):
            name, number = f"{basis.slug}-{number}", number + 1
        names.append(name)
    return names


def _free(name: str, frame: geopandas.GeoDataFrame) -> str:
    chosen, number = name, 2
    while chosen in frame.columns:
        chosen, number = f"{name}_{number}", number + 1
    return chosen
