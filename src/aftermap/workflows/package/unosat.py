"""The layout of UNOSAT rapid damage assessments: points of damaged buildings, and squares of 500 m that are counted."""

import warnings
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED
from aftermap.files import csv_text, write_text
from aftermap.workflows.areas.squares import Squares, system_of
from aftermap.workflows.package.release import STATUS, Layout, Release

CELL_M = 500.0
_CODES = {"Destroyed": 1, "Severe Damage": 2, "Moderate Damage": 3, "Possible Damage": 4}


def _stem(code: str, number: int) -> str:
    return f"UNOSAT_Layout_{code}_AOI{number:02d}"


def _write(release: Release, folder: Path) -> None:
    path = folder / f"{release.stem}_v{release.version}.gpkg"
    points, cells = _points(release), _cells(release)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*GeoDataFrame.*")
        points.to_file(path, layer=f"Damage_Sites_{release.code}", driver="GPKG", geometry_type="Point")
        cells.to_file(
            path, layer=f"Damage_Cells_500m_{release.code}", driver="GPKG", geometry_type="Polygon", mode="a"
        )
    table = cells.drop(columns="geometry")
    rows = [list(table.columns), *table.itertuples(index=False, name=None)]
    write_text(folder / f"{release.stem}_cells_v{release.version}.csv", csv_text(rows))


def _points(release: Release) -> geopandas.GeoDataFrame:
    """A point within each damaged building; what shows no damage is in the cells only."""
    frame = release.frame
    hit = frame[frame["grade"].isin(list(_CODES))]
    table = pd.DataFrame(
        {
            "SiteID": hit["building_id"].astype(str),
            "SensorDate": release.acquired("post") or None,
            "Main_Damage_Site_Class": hit["grade"].map(_CODES).astype("int32"),
            "Damage_Class_Name": hit["grade"],
            "Site_Type": "Building",
            "FieldValidation": "Not yet field validated",
            "EventCode": release.code,
            "Confidence": hit["confidence"],
            "scale": hit["scale"],
        },
        index=hit.index,
    ).astype({"SensorDate": object})
    return geopandas.GeoDataFrame(table, geometry=hit.geometry.representative_point(), crs=frame.crs)


def _cells(release: Release) -> geopandas.GeoDataFrame:
    """Squares with buildings in them, each building in the one that its point lies in."""
    frame, grid = release.frame, release.map.grid
    squares = Squares(CELL_M, system_of(grid))
    points = frame.geometry.representative_point()
    keys = squares.locate(points.x.to_numpy(), points.y.to_numpy())
    found, row = np.unique(keys, return_inverse=True)
    cells = squares.describe(found)
    damage = frame["damage"].to_numpy()
    kinds = {
        "Buildings": np.ones(len(frame), bool),
        "Damaged": np.isin(damage, list(release.damaged)),
        "Destroyed": damage == DAMAGE.names[4],
        "Severe": damage == DAMAGE.names[3],
        "Moderate": damage == DAMAGE.names[2],
        "Not_Assessed": damage == NOT_ASSESSED,
    }
    if release.is_post_only:
        told = ("Buildings", "Destroyed", "Not_Assessed")
        kinds = {name: kinds[name] for name in told} | {"Not_Destroyed": damage == DESTROYED_OR_NOT.names[1]}
    counts = {
        name: np.bincount(row, weights=chosen, minlength=len(found)).astype(int)
        for name, chosen in kinds.items()
    }
    table = pd.DataFrame({"CellID": cells["area_id"], **counts})
    # without the image before, a cell in which nothing is destroyed may still be damaged
    struck, otherwise = ("Destroyed", "Not told") if release.is_post_only else ("Damaged", "No")
    table["Damage_In_Cell"] = np.where(table[struck] > 0, "Yes", otherwise)
    table["EventCode"], table["Status"], table["scale"] = release.code, STATUS, release.scale.name
    shapes = geopandas.GeoDataFrame(table, geometry=cells.geometry.to_numpy(), crs=squares.crs)
    return shapes.to_crs("EPSG:4326")


UNOSAT = Layout(
    agency="unosat",
    title="UNOSAT rapid damage building assessments",
    scale="unosat",
    stem=_stem,
    code="XX00000000XXX",
    write=_write,
    confirmed=(
        "squares of 500 m in which there are damaged buildings or not, points of damaged sites with SiteID, "
        "SensorDate and Main_Damage_Site_Class (1 destroyed, 2 severe, 3 moderate, 4 possible), and the words "
        "that nothing was validated in the field: descriptions on HDX (Sumy, Mariupol, Kharkiv 2022; Sinjar 2015)"
        " and users of the Gaza geodatabases"
    ),
    unconfirmed=(
        "names of files and layers, the other columns, and where the squares begin; ours are multiples of 500 m "
        "in the UTM zone. XX00000000XXX is no event"
    ),
)
