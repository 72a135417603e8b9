"""Damaged vector files that took a library down; `tests/fuzz` walks the kind."""

import geopandas
import pytest
from shapely.geometry import box

from aftermap.errors import FootprintError
from aftermap.geo.vectors.files import read_table


def test_a_shapefile_without_its_index_is_refused(tmp_path):
    geopandas.GeoSeries([box(0, 0, 9, 9)], crs=32615).to_file(tmp_path / "a.shp")
    (tmp_path / "a.shx").unlink()
    with pytest.raises(FootprintError, match=r"a\.shp: a\.shx is missing: a Shapefile is several files"):
        read_table(tmp_path / "a.shp", "footprints", columns=False)


def test_a_shapefile_whose_table_is_cut_short_is_refused(tmp_path):
    from test_read_vectors import GRID, store

    from aftermap.errors import FootprintError
    from aftermap.geo.vectors import read_buildings

    path = store(tmp_path / "f.shp", {"osm_id": [1, 2, 3]})
    table = path.with_suffix(".dbf")
    table.write_bytes(table.read_bytes()[:-10])
    with pytest.raises(FootprintError, match=r"f\.dbf is cut short or damaged"):
        read_buildings(path, grid=GRID)
    path.with_suffix(".dbf").unlink()
    assert len(read_buildings(path, grid=GRID).frame) == 3
