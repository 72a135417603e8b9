"""Which windows of a large image become tiles."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.cut_plan import grid_at, plan_cuts
from aftermap.data.preparing.cut_windows import building_window, building_windows, empty_windows, grid_windows
from aftermap.errors import GeoreferenceError
from aftermap.geo.grid import Grid, Window


def metric(width, height, resolution=0.5):
    """A grid in UTM, near the central meridian."""
    return Grid(CRS.from_epsg(32636), Affine(resolution, 0, 500_000, 0, -resolution, 100_000), width, height)


def holds(window, box):
    left, top, right, bottom = box
    return (
        window.col <= left
        and window.row <= top
        and right <= window.col + window.width
        and bottom <= window.row + window.height
    )


def covered(windows, width, height):
    """How often each pixel is in a window."""
    times = np.zeros((height, width), int)
    for window in windows:
        times[window.slices] += 1
    return times


def test_the_originals_window_has_the_published_size():
    window = building_window(shapely.box(2000, 2500, 2100.5, 2580.25), Grid.pixels(5000, 5000))
    assert window == Window(row=964, col=464, height=3153, width=3173)


def test_the_originals_window_ends_with_the_image():
    window = building_window(shapely.box(10, 20, 60, 70), Grid.pixels(5000, 5000))
    assert window == Window(0, 0, 1606, 1596)


def test_grid_windows_cover_every_pixel_once():
    windows = grid_windows(Window(0, 0, 100, 70), 32)
    assert (covered(windows, 70, 100) == 1).all()


def test_grid_windows_overlap_as_asked():
    windows = grid_windows(Window(0, 0, 32, 80), 32, overlap_px=8)
    assert [(w.col, w.width) for w in windows] == [(0, 32), (24, 32), (48, 32)]


boxes = st.lists(
    st.tuples(st.integers(0, 180), st.integers(0, 180), st.integers(1, 30), st.integers(1, 30)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60)
@given(boxes, st.integers(0, 20), st.integers(0, 5))
def test_every_building_lies_whole_in_a_window(sizes, padding, jitter):
    shapes = np.array([(x, y, min(200, x + w), min(200, y + h)) for x, y, w, h in sizes], float)
    config = CutConfig(by="building", size_px=64, padding_px=padding, jitter_px=jitter)
    windows = building_windows(shapes, Window(0, 0, 200, 200), config, np.random.default_rng(0))
    assert all(any(holds(window, box) for window in windows) for box in shapes)
    assert all(window.height == window.width == 64 for window in windows)
    assert covered(windows, 200, 200).sum() == 64 * 64 * len(windows)  # none reaches beyond the image


def test_a_building_larger_than_a_tile_is_covered_in_parts():
    box = np.array([[10, 10, 190, 40.0]])
    config = CutConfig(by="building", size_px=64)
    windows = building_windows(box, Window(0, 0, 200, 200), config, np.random.default_rng(0))
    assert len(windows) == 3
    assert (covered(windows, 200, 200)[10:40, 10:190] > 0).all()


def test_neighbours_share_a_window():
    columns = np.arange(6) * 10.0
    shapes = np.column_stack([columns, columns * 0, columns + 8, columns * 0 + 8])
    config = CutConfig(by="building", size_px=64)
    windows = building_windows(shapes, Window(0, 0, 64, 512), config, np.random.default_rng(0))
    assert len(windows) == 1


def test_dense_ground_is_not_cut_again_for_every_building():
    places = [(x, y) for x in range(0, 505, 12) for y in range(0, 505, 12)]
    shapes = [shapely.box(x, y, x + 8, y + 8) for x, y in places]
    cuts = plan_cuts(shapes, Grid.pixels(512, 512), CutConfig(by="building", size_px=128, block_tiles=0))
    ground = covered([cut.window for cut in cuts], 512, 512)
    assert len(shapes) == 1849
    assert ground.sum() / np.count_nonzero(ground) < 1.6


def test_windows_do_not_leave_their_block():
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 500, (120, 2))
    shapes = [shapely.box(x, y, x + 12, y + 9) for x, y in corners]
    cuts = plan_cuts(shapes, Grid.pixels(512, 512), CutConfig(by="building", size_px=64, block_tiles=2))
    for cut in cuts:
        assert cut.window.row // 128 == (cut.window.row + 63) // 128
        assert cut.window.col // 128 == (cut.window.col + 63) // 128


@pytest.mark.parametrize(("pixels", "resolution"), [(600, 0.5), (375, 0.8)])
def test_blocks_have_the_same_lines_at_every_resolution(pixels, resolution):
    block_m = 2 * 64 * 0.8
    side = (block_m / resolution,) * 2
    cuts = plan_cuts([], metric(pixels, pixels, resolution), CutConfig(size_px=64), block_px=side)
    left = np.array([cut.window.col for cut in cuts]) * resolution
    right = left + np.array([cut.window.width for cut in cuts]) * resolution
    assert (left // block_m == (right - 1e-6) // block_m).all()
    assert set(left // block_m) == {0, 1, 2}


def test_empty_windows_keep_away_from_buildings_and_from_each_other():
    rng = np.random.default_rng(0)
    shapes = [shapely.box(x, y, x + 10, y + 10) for x, y in rng.integers(0, 500, (12, 2))]
    config = CutConfig(by="empty", size_px=64, margin_px=9)
    windows = empty_windows(shapely.STRtree(shapes), Window(0, 0, 512, 512), config, rng)
    assert len(windows) >= 8
    assert covered(windows, 512, 512).max() == 1
    for window in windows:
        box = shapely.box(window.col, window.row, window.col + 64, window.row + 64)
        assert min(shape.distance(box) for shape in shapes) > 9


def test_where_buildings_are_everywhere_there_is_no_empty_window():
    tree = shapely.STRtree([shapely.box(0, 0, 512, 512)])
    config = CutConfig(by="empty", size_px=64)
    assert empty_windows(tree, Window(0, 0, 512, 512), config, np.random.default_rng(0)) == []


def test_a_cut_knows_its_buildings_but_not_those_that_only_touch_it():
    shapes = [shapely.box(10, 10, 20, 20), shapely.box(60, 10, 70, 20), shapely.box(64, 30, 80, 40)]
    cuts = plan_cuts(shapes, Grid.pixels(128, 64), CutConfig(size_px=64))
    assert [cut.buildings.tolist() for cut in cuts] == [[0, 1], [1, 2]]


def test_tiles_without_buildings_come_last_where_their_number_is_limited():
    shapes = [shapely.box(200, 200, 210, 210)]
    cuts = plan_cuts(shapes, Grid.pixels(256, 256), CutConfig(size_px=64, max_empty_ratio=1))
    assert [len(cut.buildings) for cut in cuts] == [1] + [0] * 15


def test_a_grid_in_other_pixels_lies_on_the_same_ground():
    coarse = grid_at(metric(100, 60, 0.5), 1.0)
    size = (
        0.5 * np.sqrt(np.prod(metric(100, 60).pixel_size_m)) / 0.25
    )  # ground metres in a metre of the projection
    assert coarse.shape == (int(60 / 2 * size), int(100 / 2 * size))
    assert coarse.resolution_m == pytest.approx(1.0, rel=1e-4)
    assert coarse.transform.c == 500_000


def test_pixels_in_degrees_become_square_on_the_ground():
    degrees = Grid(CRS.from_epsg(4326), Affine(1e-5, 0, 30, 0, -1e-5, 60), 400, 400)
    across, along = grid_at(degrees, 1.0).pixel_size_m
    assert across == pytest.approx(1.0, rel=1e-3)
    assert along == pytest.approx(1.0, rel=1e-3)


def test_a_resolution_in_degrees_is_refused_with_what_it_means():
    with pytest.raises(GeoreferenceError, match=r"3e-06 m is asked .* 0.5 m per pixel.* about 0.33 m"):
        grid_at(metric(100, 100), 0.000003)


def test_a_resolution_coarser_than_the_image_is_refused():
    with pytest.raises(GeoreferenceError, match="is only"):
        grid_at(metric(100, 100), 50)


def test_a_resolution_without_reference_system_is_refused():
    with pytest.raises(GeoreferenceError, match="no reference system"):
        grid_at(Grid.pixels(100, 100), 0.5)


def test_an_overlap_of_a_whole_tile_is_refused():
    with pytest.raises(ValueError, match="cannot overlap by 64 px"):
        CutConfig(size_px=64, overlap_px=64)


def test_the_originals_way_takes_scales_instead_of_resolutions():
    with pytest.raises(ValueError, match="compat_scales, not at resolutions"):
        CutConfig(compat_every_building=True, resolutions=(0.1,))
