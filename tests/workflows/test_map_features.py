"""A map that keeps what its buildings look like."""

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from shapely import affinity

import aftermap
from aftermap.errors import InputError
from aftermap.workflows.mapping.features import FILE, read_features

SIDE = 128
TRANSFORM, CRS = Affine(0.5, 0, 400_000, 0, -0.5, 4_100_000), "EPSG:32615"


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "map"
    random = np.random.default_rng(0)
    images = random.integers(80, 110, (2, 3, SIDE, SIDE)).astype(np.uint8)
    boxes = [shapely.box(x, y, x + 16, y + 12) for x in (8, 50, 90) for y in (10, 60, 100)]
    for number, box in enumerate(boxes):
        left, top, right, bottom = map(int, box.bounds)
        images[:, :, top:bottom, left:right] = 200 - 10 * number
    shapes = [affinity.affine_transform(box, TRANSFORM.to_shapely()) for box in boxes]
    names = [f"h{n}" for n in range(len(boxes))]
    frame = geopandas.GeoDataFrame({"building_id": names}, geometry=shapes, crs=CRS)
    aftermap.map(*images, folder, grid=(TRANSFORM, CRS), footprints=frame, features=True)
    return folder


def test_features_are_those_of_the_given_buildings(mapped):
    found = read_features(mapped, ["h3", "h0"])
    colour = found.values[:, found.names.index("in mean pre 0")]
    assert colour == pytest.approx([170, 200], abs=0.5)


def test_the_file_is_one_of_the_map(mapped):
    import json

    assert FILE in json.loads((mapped / "provenance.json").read_text())["files"]


def test_features_of_other_buildings_are_refused(mapped):
    with pytest.raises(InputError, match="of other buildings: 'h99' is missing"):
        read_features(mapped, ["h99"])


def test_a_damaged_file_is_told(mapped, tmp_path):
    (tmp_path / FILE).write_bytes((mapped / FILE).read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be used: it is no archive of arrays"):
        read_features(tmp_path, ["h0"])
    assert read_features(tmp_path / "elsewhere", ["h0"]) is None


def test_features_are_for_maps_of_damage(tmp_path):
    image = np.full((3, 64, 64), 90, np.uint8)
    with pytest.raises(InputError, match="features are kept of maps of damage"):
        aftermap.map(image, None, tmp_path / "map", grid=(TRANSFORM, CRS), task="buildings", features=True)
