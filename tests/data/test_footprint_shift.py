"""How far outlines lie beside the buildings in their images."""

import numpy as np
import pytest
from scipy import ndimage

from aftermap.data.checking.footprint_shift import by_resolution, measure_shift, measure_shifts
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.geo.alignment.edges import slopes
from prepared_datasets import cut_tiles
from towns_in_rasters import footprints, write_raster

HOUSES = [(x, y, x + 11 + (x + y) % 7, y + 9 + x % 5) for x in range(14, 230, 31) for y in range(14, 230, 27)]


def tiles(folder, *, shift, config=None):
    image = write_raster(folder / "town.tif", HOUSES, size=256, shift=shift)
    return cut_tiles(image, footprints(HOUSES), folder / "out", config or CutConfig(size_px=128))


@pytest.mark.parametrize("shift", [(5, 0), (-4, 7), (2, -1)])
def test_a_shift_is_measured_to_the_pixel(tmp_path, shift):
    found = measure_shift(tiles(tmp_path, shift=shift))
    assert (found.dx_px, found.dy_px) == shift
    assert found.tiles == 4


def test_a_long_shift_is_clear(tmp_path):
    found = measure_shift(tiles(tmp_path, shift=(-4, 7)))
    assert found.is_clear
    assert found.gain > 0.5
    assert not found.is_beyond


def test_a_short_shift_is_not_worth_a_warning(tmp_path):
    assert not measure_shift(tiles(tmp_path, shift=(2, -1))).is_clear


def test_outlines_that_fit_are_left_where_they_are(tmp_path):
    found = measure_shift(tiles(tmp_path, shift=(0, 0)))
    assert (found.dx_px, found.dy_px, found.gain, found.is_clear) == (0, 0, 0.0, False)


def test_an_image_without_buildings_shows_no_clear_shift(tmp_path):
    image = write_raster(tmp_path / "bare.tif", [], size=256)
    found = measure_shift(cut_tiles(image, footprints(HOUSES), tmp_path / "out", CutConfig(size_px=128)))
    assert not found.is_clear


def test_a_shift_at_the_edge_of_the_search_may_be_longer(tmp_path):
    assert measure_shift(tiles(tmp_path, shift=(12, 0))).is_beyond


def test_each_resolution_is_measured_in_its_own_pixels(tmp_path):
    config = CutConfig(size_px=64, resolutions=(0.5, 1.0))
    shifts = measure_shifts(tiles(tmp_path, shift=(6, -4), config=config))
    assert [(round(s.resolution_m, 2), s.dx_px, s.dy_px) for s in shifts] == [(0.5, 6, -4), (1.0, 3, -2)]


def test_tiles_without_buildings_take_no_part(tmp_path):
    image = write_raster(tmp_path / "town.tif", HOUSES[:1], size=128)
    scenes = cut_tiles(image, footprints(HOUSES[:1]), tmp_path / "out", CutConfig(size_px=64))
    assert [[scene.name for scene in group] for group in by_resolution(scenes)] == [
        ["town_500mm_r00000_c00000"]
    ]
    assert measure_shifts([scene for scene in scenes if not scene.class_pixels[1]]) == []


@pytest.mark.real
def test_real_footprints_of_another_year_lie_beside_the_houses(shared_data, tmp_path):
    folder = shared_data / "joplin-geotiff"
    labels = folder / "footprints" / "joplin.geojson"
    (found,) = measure_shifts(cut_tiles(folder / "pre", labels, tmp_path / "out", CutConfig()))
    assert found.is_clear
    assert (found.dx_px, found.dy_px) == (pytest.approx(2, abs=1), pytest.approx(4, abs=1))
    assert found.gain == pytest.approx(0.2, abs=0.08)


@pytest.mark.parametrize("shape", [(64, 64), (7, 9)])
def test_slopes_are_those_of_a_gaussian_blur(shape):
    values = np.random.default_rng(0).uniform(0, 255, shape)
    across, down = (ndimage.gaussian_filter(values, 1.0, order=order) for order in ((0, 1), (1, 0)))
    np.testing.assert_allclose(slopes(values), across + 1j * down, rtol=0, atol=1e-12)
