"""`aftermap package OUT --format ...`: the buildings of a finished map in the formats that other people open."""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas
from pyogrio.errors import DataLayerError, DataSourceError

from aftermap.classes import DAMAGE, ClassScheme, OneDate
from aftermap.errors import DataWarning, GeoreferenceError, InputError
from aftermap.extras import Extra, needs
from aftermap.files import make_folder, replacing, to_plain
from aftermap.geo.vectors.table import unique_names
from aftermap.products.lineage import Lineage
from aftermap.products.styles import DAMAGE_STYLE, ONE_DATE_STYLE, Style
from aftermap.products.summary import summarise, summarise_one_date
from aftermap.products.vectors import as_cells
from aftermap.wording import counted
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.mapping.result import MapRaster

Format = Literal["geoparquet", "flatgeobuf", "envi", "shapefile", "kmz", "pmtiles", "csv", "xlsx", "stac"]
FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: dict[Format, str] = {
    "geoparquet": ".parquet",
    "flatgeobuf": ".fgb",
    "shapefile": ".shp.zip",
    "kmz": ".kmz",
    "pmtiles": ".pmtiles",
    "csv": ".csv",
    "xlsx": ".xlsx",
    "envi": ".envi.zip",
    "stac": ".stac.json",
}
"""What comes after the name of each file."""

FOLDER = "package"
"""Below a map's folder, where nothing else is named."""

SCALE_COLUMN = "damage_scale"
_EXTRAS: dict[Format, Extra] = {"geoparquet": "parquet", "xlsx": "report"}
_NEEDS_GROUND: tuple[Format, ...] = ("kmz", "pmtiles", "stac")


@dataclass(frozen=True)
class Job:
    """What every writer gets.

    Attributes:
        map: the finished one.
        frame: its buildings as they are handed on.
        name: of the files, without ending.
        steps: the way from the new files to the map's folder.
    """

    map: FinishedMap
    frame: geopandas.GeoDataFrame
    name: str
    steps: str

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader of a table must know of the map."""
        lineage = self.lineage
        return {
            "scale": self.map.scheme.name,
            **({} if self.map.one_date is None else {"rests on": _RESTS[self.map.one_date]}),
            "assessment": "remote sensing: rapid assessment, not validated in the field",
            "dates compared": lineage.mode,
            "image from before": lineage.before,
            "image from after": lineage.after,
            "model": lineage.model,
            "licence of the model": lineage.licence,
            "coordinates": self.map.grid.crs.to_string() if self.map.grid.crs is not None else "pixels",
            "map made": lineage.created,
        }

    @property
    def style(self) -> Style:
        """Its classes and their colours."""
        if self.map.one_date == "pre-only":  # none is assessed
            return replace(ONE_DATE_STYLE, entries=ONE_DATE_STYLE.entries[-1:])
        return DAMAGE_STYLE if self.map.one_date is None else ONE_DATE_STYLE

    @property
    def lineage(self) -> Lineage:
        """What the map was made of."""
        return Lineage.of(self.map.provenance)


_RESTS: dict[OneDate, str] = {
    "post-only": "the image after alone: destroyed is told from not, and no lesser damage",
    "pre-only": "the image before alone: no damage is told",
}


def write_formats(
    folder: Path, formats: Sequence[str], *, to: Path | None = None, name: str = "buildings"
) -> list[Path]:
    """Write the buildings of a finished map in other formats, all of them or none.

    Args:
        folder: of the map.
        formats: some of `FORMATS`.
        to: where to write; by default the folder `package` in the map's.
        name: of the files, without ending.

    Returns:
        The files, in the order of the formats.

    Raises:
        InputError: there is no finished map of damage, no such format, or a format cannot hold the map.
        MissingExtraError: a format needs a library that is not installed.
        OutputError: they cannot be written.
    """
    chosen = check_formats(formats)
    if not name or Path(name).name != name or name.startswith("."):
        raise InputError(f"--name {name!r} is no name for a file: give one without a path, such as joplin")
    found = open_map(folder, also=("post-only", "pre-only"))
    if found.grid.crs is None and (placeless := [each for each in chosen if each in _NEEDS_GROUND]):
        raise GeoreferenceError(
            f"{', '.join(placeless)} needs longitude and latitude, and {folder} is a map in pixels: leave it out"
        )
    if found.buildings.empty and "pmtiles" in chosen:
        warnings.warn(
            f"{folder} holds no building, and tiles of nothing cannot be written: pmtiles is left out",
            DataWarning,
            stacklevel=2,
        )
        chosen = tuple(each for each in chosen if each != "pmtiles")
    target = make_folder(folder / FOLDER if to is None else to)
    job = Job(found, handed_on(found.buildings, found.scheme), name, _steps(target, folder))
    files = [target / f"{name}{ENDINGS[each]}" for each in chosen]
    with ExitStack() as stack:
        errors = (DataSourceError, DataLayerError)
        parts = [stack.enter_context(replacing(path, also=errors)) for path in files]
        for each, part in zip(chosen, parts, strict=True):
            if each != "stac":
                _WRITERS[each](job, part)
        if "stac" in chosen:  # it tells the checksums of the others
            written = zip(chosen, files, parts, strict=True)
            others = {path.name: part for each, path, part in written if each != "stac"}
            _write_stac(job, parts[chosen.index("stac")], others)
    return files


def check_formats(formats: Sequence[str]) -> tuple[Format, ...]:
    """The formats that are meant, each once, in our order; `all` stands for all of them.

    Raises:
        InputError: there is no such format.
        MissingExtraError: one needs a library that is not installed.
    """
    named = {each.strip().lower() for each in formats if each.strip()}
    unknown = sorted(named - {*FORMATS, "all"})
    if unknown or not named:
        raise InputError(
            f"there is no format {unknown[0] if unknown else ''!r}: --format takes {', '.join(FORMATS)} or all"
        )
    chosen = tuple(each for each in FORMATS if each in named or "all" in named)
    for each in chosen:
        if each in _EXTRAS:
            needs(f"--format {each}", _EXTRAS[each])
    return chosen


def handed_on(buildings: geopandas.GeoDataFrame, scheme: ClassScheme = DAMAGE) -> geopandas.GeoDataFrame:
    """The table with the scale of its classes beside them, in every row."""
    taken = [str(name) for name in buildings.columns]
    (name,) = unique_names([SCALE_COLUMN], taken)
    frame = buildings.copy()
    frame.insert(taken.index("damage") + 1, name, scheme.name)
    return frame


def _write_csv(job: Job, path: Path) -> None:
    as_cells(job.frame).to_csv(path, index=False, lineterminator="\n")


def _write_geoparquet(job: Job, path: Path) -> None:
    from aftermap.products.exchange.geoparquet import write_geoparquet

    write_geoparquet(job.frame, path)


def _write_flatgeobuf(job: Job, path: Path) -> None:
    from aftermap.products.exchange.gdal_files import write_flatgeobuf

    write_flatgeobuf(job.frame, path, job.name)


def _write_shapefile(job: Job, path: Path) -> None:
    from aftermap.products.exchange.shapefile import write_shapefile

    write_shapefile(job.frame, path, job.name)


def _write_kmz(job: Job, path: Path) -> None:
    from aftermap.products.exchange.kmz import write_kmz

    write_kmz(job.frame, path, title=job.name, description=_told(job.facts), style=job.style)


def _write_pmtiles(job: Job, path: Path) -> None:
    from aftermap.products.exchange.gdal_files import write_pmtiles

    write_pmtiles(job.frame, path, job.name, description=_told(job.facts))


def _write_xlsx(job: Job, path: Path) -> None:
    from aftermap.products.exchange.workbook import legend_rows, summary_rows, write_workbook

    one_date = job.map.one_date
    if one_date is None:
        summary = summarise(job.map.buildings, job.map.grid)
    else:
        summary = summarise_one_date(job.map.buildings, job.map.grid, mode=one_date)
    if one_date == "pre-only":  # classes of damage were never asked
        summary["classes"] = {}
    cut = write_workbook(
        job.frame,
        path,
        summary=summary_rows(summary, job.facts),
        legend=legend_rows(job.map.scheme.name, job.style),
    )
    if cut:
        warnings.warn(
            f"{counted(cut, 'text')} longer than a cell of Excel can hold: cut in the XLSX, whole in the other formats",
            DataWarning,
            stacklevel=3,
        )


def _write_envi(job: Job, path: Path) -> None:
    from aftermap.products.exchange.envi import write_envi

    raster = MapRaster.open(job.map.raster)
    write_envi(path, job.name, raster.rows(), raster.grid, job.map.scheme)


def _write_stac(job: Job, path: Path, others: Mapping[str, Path]) -> None:
    from aftermap.products.exchange.stac import stac_item
    from aftermap.workflows.package.collection import imagery_of, sources_of

    item = stac_item(
        job.map.folder,
        job.map.grid,
        job.lineage,
        name=job.name,
        also=others,
        steps=job.steps,
        sources=sources_of(job.map.provenance),
        properties=imagery_of(job.map.provenance),
        scheme=job.map.scheme,
    )
    text = json.dumps(to_plain(item), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


_WRITERS: dict[Format, Callable[[Job, Path], None]] = {
    "geoparquet": _write_geoparquet,
    "flatgeobuf": _write_flatgeobuf,
    "shapefile": _write_shapefile,
    "kmz": _write_kmz,
    "pmtiles": _write_pmtiles,
    "csv": _write_csv,
    "xlsx": _write_xlsx,
    "envi": _write_envi,
}


def _steps(target: Path, folder: Path) -> str:
    """The way from new files to the map's folder."""
    return Path(os.path.relpath(folder.resolve(), target.resolve())).as_posix() + "/"


def _told(facts: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts.items() if value)
