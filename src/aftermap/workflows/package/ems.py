"""The layout of Copernicus EMS Rapid Mapping grading products: shapefiles in EPSG:4326, a table of sources, a summary."""

import warnings
from datetime import date
from pathlib import Path
from typing import Any, Literal

import geopandas
import pandas as pd
import pyogrio
import shapely

from aftermap.classes import DESTROYED_OR_NOT
from aftermap.files import csv_text, write_text
from aftermap.products.exchange.shapefile import cut_text
from aftermap.products.vectors import in_degrees
from aftermap.workflows.package.release import Layout, Release

_AROUND_M = 50.0
_AUTOMATIC = "Automatic extraction"
_OPTIONS = {"ENCODING": "UTF-8", "DBF_DATE_LAST_UPDATE": "2000-01-01"}
_TOLD = ("Destroyed", "Not Applicable")
_STANDING = DESTROYED_OR_NOT.names[1:2]
_BEFORE, _AFTER, _OUTLINES = 1, 2, 3


def _stem(code: str, number: int) -> str:
    return f"{code}_AOI{number:02d}_GRA_PRODUCT"


def _write(release: Release, folder: Path) -> None:
    _sources(release, folder)
    _layer(release, folder, "areaOfInterestA", _area(release))
    _layer(release, folder, "imageFootprintA", _footprints(release))
    _layer(release, folder, "observedEventA", _event(release))
    _layer(release, folder, "builtUpA", _built(release))
    write_text(folder / f"{release.stem}_summaryTable_v{release.version}.csv", csv_text(_summary(release)))


def _sources(release: Release, folder: Path) -> None:
    """A0: what was looked at, a row each; `src_id` is what the layers refer to."""
    rows = [
        *(
            []
            if release.is_post_only
            else [
                _source("Image before", release.acquired("pre"), _gsd(release, "pre"), "Pre-event", _BEFORE)
            ]
        ),
        _source("Image after", release.acquired("post"), _gsd(release, "post"), "Post-event", _AFTER),
    ]
    footprints = release.map.provenance["inputs"].get("footprints")
    if footprints:
        rows.append(
            _source(str(footprints.get("name") or "Building outlines"), "", "", "Not applicable", _OUTLINES)
        )
    table = pd.DataFrame(rows).assign(scale=release.scale.name)
    path = folder / f"{release.stem}_source_v{release.version}.dbf"
    pyogrio.write_dataframe(table, path, driver="ESRI Shapefile", layer_options=_OPTIONS)


def _source(name: str, day: str, gsd: str, phase: str, number: int) -> dict[str, Any]:
    try:
        written = date.fromisoformat(day).strftime("%d/%m/%Y")
    except ValueError:
        written = ""
    return {
        "source_nam": cut_text(name),
        "src_date": written,
        "source_tm": "",
        "sensor_gsd": gsd,
        "eventphase": phase,
        "src_id": number,
    }


def _gsd(release: Release, name: Literal["pre", "post"]) -> str:
    grid = (release.map.provenance["inputs"].get(name) or {}).get("grid") or {}
    size = grid.get("resolution_m")
    return "" if size is None else f"{size:.2g} m"


def _area(release: Release) -> geopandas.GeoDataFrame:
    """A1."""
    row = {
        "name": cut_text(release.map.folder.resolve().name),
        "emsr_id": release.code,
        "area_id": release.number,
        "map_type": "Grading",
    }
    return _frame([row], [release.extent()])


def _footprints(release: Release) -> geopandas.GeoDataFrame:
    """A2: where each image lies."""
    rows = [
        {"obj_type": "Image footprint", "eventphase": "Pre-event", "or_src_id": _BEFORE},
        {"obj_type": "Image footprint", "eventphase": "Post-event", "or_src_id": _AFTER},
    ]
    extents = [release.extent("pre"), release.extent("post")]
    first = 1 if release.is_post_only else 0
    return _frame(rows[first:], extents[first:])


def _event(release: Release) -> geopandas.GeoDataFrame:
    """B1: the ground within 50 m of damaged buildings; no row where there are none."""
    buildings = release.map.buildings
    hit = buildings[buildings["damage"].isin(release.damaged)]
    columns = ("event_type", "obj_desc", "det_method", "notation", "dmg_src_id")
    if hit.empty:
        return _frame([], [], columns)
    metric = hit.geometry.to_crs(hit.estimate_utm_crs())
    around = geopandas.GeoDataFrame(
        geometry=[metric.buffer(_AROUND_M, quad_segs=4).union_all()], crs=metric.crs
    )
    row = {
        "event_type": cut_text(release.event or "Not stated"),
        "obj_desc": "Not stated",
        "det_method": _AUTOMATIC,
        "notation": f"Ground within {_AROUND_M:g} m of buildings graded as damaged",
        "dmg_src_id": _AFTER,
    }
    return _frame([row], list(in_degrees(around)))


def _built(release: Release) -> geopandas.GeoDataFrame:
    """C1: every building with its grade."""
    frame = release.frame
    has_outlines = bool(release.map.provenance["inputs"].get("footprints"))
    table = pd.DataFrame(
        {
            "obj_type": "Unknown",
            "name": "",
            "info": "",
            "damage_gra": frame["grade"],
            "det_method": _AUTOMATIC,
            "notation": "Building",
            "or_src_id": _OUTLINES if has_outlines else _AFTER if release.is_post_only else _BEFORE,
            "dmg_src_id": _AFTER,
            "bldg_id": [cut_text(str(name)) for name in frame["building_id"]],
            "confidence": frame["confidence"],
        },
        index=frame.index,
    )
    return geopandas.GeoDataFrame(table, geometry=frame.geometry.to_numpy(), crs=frame.crs)


def _summary(release: Release) -> list[list[Any]]:
    """Group E: buildings by grade."""
    counts = release.frame["grade"].value_counts()
    rows: list[list[Any]] = [["category", "unit", "grade", "total", "scale"]]
    grades = [grade.name for grade in reversed(release.scale.grades)]
    rows += [["Built-up", "No.", grade, int(counts.get(grade, 0)), release.scale.name] for grade in grades]
    if release.is_post_only:  # none of these grades was asked for, so none of them is zero
        rows = [row for row in rows if row[2] in ("grade", *_TOLD)]
        rows.append(
            [
                "Built-up",
                "No.",
                "No grade: not destroyed",
                int(release.frame["damage"].isin(_STANDING).sum()),
                "",
            ]
        )
    rows.append(["Built-up", "No.", "Total", len(release.frame), release.scale.name])
    return rows


def _frame(
    rows: list[dict[str, Any]], shapes: list[shapely.Geometry], columns: tuple[str, ...] = ()
) -> geopandas.GeoDataFrame:
    table = pd.DataFrame(rows, columns=None if rows else list(columns), dtype=None if rows else object)
    return geopandas.GeoDataFrame(table, geometry=shapes, crs="EPSG:4326")


def _layer(release: Release, folder: Path, name: str, frame: geopandas.GeoDataFrame) -> None:
    frame = frame.assign(scale=release.scale.name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(Possibly several|ring).*")
        frame.to_file(
            folder / f"{release.stem}_{name}_v{release.version}.shp",
            driver="ESRI Shapefile",
            geometry_type="MultiPolygon",
            promote_to_multi=True,
            layer_options=_OPTIONS,
        )


EMS = Layout(
    agency="ems",
    title="Copernicus EMS Rapid Mapping grading products",
    scale="copernicus-ems-grading",
    stem=_stem,
    code="EMSR000",
    write=_write,
    confirmed=(
        "names (EMSRNNN_AOINN_GRA_PRODUCT_FEATURENAME with A for areas and a version), groups A0 to C1 and E, "
        "attributes of the sources, EPSG:4326, and of builtUpA obj_type, name, info, damage_gra, det_method, "
        "notation, or_src_id and dmg_src_id: online manual 138109, 138123 and 138257, and published packages "
        "(EMSR452, EMSR685, EMSR884)"
    ),
    unconfirmed=(
        "attributes of areaOfInterestA and imageFootprintA beyond or_src_id, the values of obj_type and "
        "det_method, and the columns of the summary table; scale, bldg_id and confidence are ours. observedEventA"
        " is drawn around damaged buildings, not from the event itself. EMSR000 is no activation"
    ),
)
