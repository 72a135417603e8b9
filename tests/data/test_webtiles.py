import numpy as np
import pytest

from aftermap.data.readers.webtiles import EDGE_M, WebTile, tile_at


@pytest.mark.parametrize(
    ("stem", "tile"),
    [
        ("OAM-1238424-1046544-21", WebTile(1238424, 1046544, 21)),
        ("1238424_1046544_21", WebTile(1238424, 1046544, 21)),
        ("area-7-image_3-1-2", WebTile(3, 1, 2)),
        ("0-0-0", WebTile(0, 0, 0)),
    ],
)
def test_names_end_in_the_tile_numbers(stem, tile):
    assert WebTile.parse(stem) == tile


@pytest.mark.parametrize("stem", ["scene_00000012", "2020-01-01", "4-0-2", "1-1-27", "12-13-4b", ""])
def test_other_names_are_no_tiles(stem):
    assert WebTile.parse(stem) is None


def test_the_whole_world_is_tile_0():
    grid = WebTile(0, 0, 0).grid(height=256, width=256)
    assert np.allclose(grid.bounds, (-EDGE_M, -EDGE_M, EDGE_M, EDGE_M))


def test_a_tile_lies_where_the_slippy_map_has_it():
    # longitude and latitude of a tile's upper left corner, as the OpenStreetMap wiki computes them
    x, y, zoom = 1238424, 1046544, 21
    lon, lat = WebTile(x, y, zoom).grid(height=256, width=256).lonlat(np.array([0.0]), np.array([0.0]))
    assert lon[0] == pytest.approx(x / 2**zoom * 360 - 180, abs=1e-9)
    assert lat[0] == pytest.approx(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y / 2**zoom)))), abs=1e-7)


def test_the_resolution_is_that_of_the_ground_and_not_of_the_projection():
    # at 60 degrees north a web-mercator metre is about half a metre long
    grid = WebTile(0, 76126, 18).grid(height=256, width=256)
    _, lat = grid.lonlat(np.array([128.0]), np.array([128.0]))
    assert lat[0] == pytest.approx(60, abs=0.01)
    assert grid.transform.a == pytest.approx(0.597164, abs=1e-6)
    assert grid.resolution_m == pytest.approx(0.597164 * 0.5, rel=0.01)


def test_a_parent_holds_its_children():
    child = WebTile(1238427, 1046547, 21)
    assert child.parent(19) == WebTile(309606, 261636, 19)
    assert child.parent(19).name == "309606-261636"
    assert child.parent(21) == child
    with pytest.raises(ValueError, match="no parent of zoom 22"):
        child.parent(22)


def test_four_children_fill_their_parent():
    parent = WebTile(5, 9, 4).grid(height=64, width=64).bounds
    children = [WebTile(x, y, 5).grid(height=64, width=64).bounds for x in (10, 11) for y in (18, 19)]
    edges = np.array(children)
    assert np.allclose(parent, [*edges[:, :2].min(0), *edges[:, 2:].max(0)])


def test_the_tile_at_a_point_is_the_one_whose_grid_holds_it():
    for tile in (WebTile(3, 1, 2), WebTile(1238424, 1046544, 21)):
        left, bottom, right, top = tile.grid(height=8, width=8).bounds
        assert tile_at((left + right) / 2, (bottom + top) / 2, tile.zoom) == tile
    assert tile_at(-1e9, 1e9, 3) == WebTile(0, 0, 3)
