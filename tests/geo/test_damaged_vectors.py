"""Files that were cut, overwritten or garbled: one line each, and no library goes down with them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_files_are_read_or_refused_in_one_line(seed):
    paths = os.pathsep.join([str(HERE), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, str(HERE / "vector_mutations.py"), str(seed), "400"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused, of = map(int, done.stdout.replace(" refused", "").split(" of "))
    assert of == 800 and 100 < refused < 800


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
