"""Damaged vector files that took a library down; `tests/fuzz` walks the kind."""

import pytest


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
