"""GeoParquet 1.1: for DuckDB, pandas, BigQuery and QGIS; types and every digit are kept."""

from pathlib import Path

import geopandas

from aftermap.geo.vectors.table import unique_names

ROWS_A_GROUP = 20_000
"""A reader of a part of the ground skips the groups of rows whose box lies elsewhere."""


def write_geoparquet(frame: geopandas.GeoDataFrame, path: Path) -> None:
    """Write outlines as WKB in the frame's reference system, with the box of each in a column that readers filter by.

    A frame without reference system (pixels) says that it has none. That column is called `bbox`; one of the user's of
    that name gets a number.

    Raises:
        OSError: it cannot be written.
    """
    taken = [str(name) for name in frame.columns if name != "bbox"]
    (renamed,) = unique_names(["bbox"], ["bbox", *taken])
    frame.rename(columns={"bbox": renamed}).to_parquet(
        path,
        index=False,
        compression="zstd",
        schema_version="1.1.0",
        write_covering_bbox=True,
        row_group_size=ROWS_A_GROUP,
    )
