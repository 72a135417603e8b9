"""The layout of FEMA's geospatial damage assessments: a file geodatabase, and a table."""

import warnings
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd

from aftermap.files import csv_text, write_text
from aftermap.workflows.package.release import Layout, Release

LAYER = "Damage_Assessment"
_COLUMNS = (
    *("Building_ID", "Damage_Level", "Damage_Type", "Assessment_Type", "Inundation_Depth", "Wind_Exposure"),
    *("Image_Date", "Event_Code", "Latitude", "Longitude", "Confidence", "scale", "Joint_Damage_Scale"),
)


def _stem(code: str, number: int) -> str:
    return f"FEMA_Layout_{code}_AOI{number:02d}"


def _write(release: Release, folder: Path) -> None:
    table = _table(release)
    values = table[list(_COLUMNS)].itertuples(index=False, name=None)
    rows = [list(_COLUMNS), *([_cell(value) for value in row] for row in values)]
    write_text(folder / f"{release.stem}_v{release.version}.csv", csv_text(rows))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(laundered|Integer64|organizePolygons).*")
        table.to_file(
            folder / f"{release.stem}_v{release.version}.gdb",
            layer=LAYER,
            driver="OpenFileGDB",
            geometry_type="MultiPolygon",
            promote_to_multi=True,
        )


def _table(release: Release) -> geopandas.GeoDataFrame:
    """Buildings of which something may be claimed: Destroyed and Affected."""
    frame = release.frame
    hit = frame[frame["grade"].notna()]
    table = pd.DataFrame(
        {
            "Building_ID": hit["building_id"].astype(str),
            "Damage_Level": hit["grade"],
            "Damage_Type": release.event or None,
            "Assessment_Type": "Remote Sensing",
            "Inundation_Depth": pd.Series(float("nan"), hit.index, dtype=float),
            "Wind_Exposure": pd.Series(None, hit.index, dtype=object),
            "Image_Date": release.acquired("post") or None,
            "Event_Code": release.code,
            "Latitude": hit["lat"].astype(float),
            "Longitude": hit["lon"].astype(float),
            "Confidence": hit["confidence"].astype(float),
            "scale": hit["scale"],
            "Joint_Damage_Scale": hit["damage"],
        },
        index=hit.index,
    ).astype({"Damage_Type": object, "Image_Date": object})
    return geopandas.GeoDataFrame(table, geometry=hit.geometry.to_numpy(), crs=frame.crs)


def _cell(value: Any) -> Any:
    return None if value is None or value != value else value


FEMA = Layout(
    agency="fema",
    title="FEMA geospatial damage assessments",
    scale="fema-pda",
    stem=_stem,
    code="DR-0000",
    write=_write,
    confirmed=(
        "a file geodatabase first and a table second (fact sheet on sharing initial damage assessments); Damage "
        "Level, Damage Type, Assessment Type (Remote Sensing), Inundation Depth and Wind Exposure, and that "
        "images claim Destroyed and Affected only: data dictionary of the Historical Geospatial Damage Assessment"
        " Database"
    ),
    unconfirmed=(
        "spelling of the columns, names of files and layer; depth and wind are left empty, because no image tells"
        " them; the other columns are ours. DR-0000 is no disaster"
    ),
)
