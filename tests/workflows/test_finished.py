"""A finished map, opened again."""

import shutil

import numpy as np
import pytest

from aftermap import api
from aftermap.errors import InputError
from aftermap.geo.grid import Grid
from aftermap.workflows.mapping.finished import open_map

pytestmark = pytest.mark.filterwarnings("ignore::aftermap.errors.AftermapWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map of flat ground in pixels with two outlines that the user gave."""
    import geopandas
    import shapely

    out = tmp_path_factory.mktemp("finished") / "map"
    frame = geopandas.GeoDataFrame(
        {"building_id": ["a", "b"], "floors": [1, 2]},
        geometry=[shapely.box(8, 8, 24, 24), shapely.box(40, 40, 56, 56)],
    )
    image = np.random.default_rng(0).integers(60, 200, (3, 64, 64), dtype=np.uint8)
    result = api.map(image, image[:, ::-1], out, footprints=frame, align="off")
    return out, result


def test_it_is_what_was_made(made):
    out, result = made
    again = open_map(out)
    assert list(again.buildings["building_id"]) == ["a", "b"] and list(again.buildings["floors"]) == [1, 2]
    assert again.buildings["damage"].tolist() == result.buildings["damage"].tolist()
    assert again.grid == Grid(None, result.damage.grid.transform, 64, 64) and again.buildings.crs is None
    assert again.summary["buildings"] == 2 and len(again.outlines_sha256) == 64
    assert again.outlines_sha256 == open_map(out).outlines_sha256


def test_what_is_no_finished_map_is_told(made, tmp_path):
    with pytest.raises(InputError, match="is not a finished map"):
        open_map(tmp_path)
    (tmp_path / "new.work").mkdir()
    with pytest.raises(InputError, match="--resume"):
        open_map(tmp_path / "new")
    broken = shutil.copytree(made[0], tmp_path / "broken")
    (broken / "buildings.gpkg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"buildings\.gpkg cannot be used"):
        open_map(broken)
    (broken / "damage.tif").unlink()
    with pytest.raises(InputError, match=r"damage\.tif is missing"):
        open_map(broken)
