import numpy as np
import pytest
import rasterio
from affine import Affine

from aftermap.data.stretch import Stretch
from aftermap.errors import RasterError
from aftermap.geo.raster import RasterSource

PUBLISHED = (np.arange(192.0) ** 1.3).reshape(3, 8, 8)


def test_the_limits_are_the_published_ones():
    stretch = Stretch.measure(PUBLISHED)
    assert stretch.low == pytest.approx([5.722360], abs=1e-6)
    assert stretch.high == pytest.approx([899.368417], abs=1e-6)


def test_the_pixels_are_the_published_ones():
    pixels = Stretch.measure(PUBLISHED, compat_truncate=True).apply(PUBLISHED)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0, 0].tolist() == [0, 61, 154]
    assert pixels[:, 4, 4].tolist() == [28, 111, 214]
    assert pixels[:, 7, 7].tolist() == [60, 153, 255]
    assert int(pixels.sum()) == 21596


def test_without_the_switch_values_are_rounded():
    image = np.array([[[0, 100, 99.8, 50.1]]])
    assert Stretch((0.0,), (100.0,)).apply(image).ravel().tolist() == [0, 255, 254, 128]
    truncated = Stretch((0.0,), (100.0,), compat_truncate=True)
    assert truncated.apply(image).ravel().tolist() == [0, 255, 254, 127]


def test_limits_per_band_bring_every_band_to_the_whole_range():
    image = np.stack([np.arange(101.0), np.arange(101.0) * 10 + 5])[:, None]
    stretch = Stretch.measure(image, (0, 100), per_band=True)
    assert (stretch.low, stretch.high) == ((0, 5), (100, 1005))
    assert (stretch.apply(image)[0] == stretch.apply(image)[1]).all()


def test_pixels_that_do_not_count_do_not_move_the_limits():
    image = np.concatenate([np.zeros(50), np.arange(100.0, 201.0)])[None, None]
    assert Stretch.measure(image, (0, 100), valid=image[0] > 0).low == (100,)
    assert Stretch.measure(image, (0, 100)).low == (0,)


def test_values_that_are_not_finite_become_0():
    image = np.array([[[np.nan, 1.0, np.inf, 3.0]]])
    stretch = Stretch.measure(image, (0, 100))
    assert (stretch.low, stretch.high) == ((1,), (3,))
    assert stretch.apply(image).ravel().tolist() == [0, 0, 0, 255]


def test_one_value_cannot_be_stretched():
    with pytest.raises(RasterError, match=r"a\.tif is 7 at both percentiles, 2 and 98"):
        Stretch.measure(np.full((3, 4, 4), 7), name="a.tif")


def test_no_data_cannot_be_stretched():
    with pytest.raises(RasterError, match="holds no data"):
        Stretch.measure(np.ones((3, 4, 4)), valid=np.zeros((4, 4), bool))


@pytest.mark.parametrize("percentiles", [(98, 2), (-1, 50), (0, 101)])
def test_percentiles_rise_from_0_to_100(percentiles):
    with pytest.raises(ValueError, match="two rising numbers"):
        Stretch.measure(PUBLISHED, percentiles)


def test_a_raster_is_measured_where_it_holds_data(tmp_path):
    values = np.tile(np.arange(1, 65, dtype=np.uint16) * 100, (3, 64, 1))
    values[:, :, :20] = 0
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=64, height=64, count=3, dtype="uint16", nodata=0,
        crs="EPSG:32616", transform=Affine(0.5, 0, 500_000, 0, -0.5, 3_300_000),
    ) as file:  # fmt: skip
        file.write(values)
    stretch = Stretch.measure_source(RasterSource.open(tmp_path / "a.tif"), (0, 100))
    assert (stretch.low, stretch.high) == ((2100,), (6400,))
