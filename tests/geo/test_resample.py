import numpy as np
import pytest

from aftermap.geo.resample import reduce_blocks


def scene(dtype, largest):
    rng = np.random.default_rng(0)
    array = (rng.random((3, 24, 36)) * largest).astype(dtype)
    valid = rng.random((24, 36)) > 0.4
    array[:, ~valid] = 0
    return array, valid


@pytest.mark.parametrize(
    ("dtype", "largest"), [("uint8", 255), ("int16", 30_000), ("uint32", 4e9), ("float32", 1)]
)
@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_block_is_the_mean_of_its_valid_pixels(dtype, largest, step):
    array, valid = scene(dtype, largest)

    means, kept = reduce_blocks(array, valid, step, mean=True)

    for row in range(24 // step):
        for col in range(36 // step):
            block = np.s_[row * step : (row + 1) * step, col * step : (col + 1) * step]
            seen = array[:, *block][:, valid[block]].astype(np.float64)
            expected = seen.mean(axis=1) if seen.size else np.zeros(3)
            if np.dtype(dtype).kind in "iu":
                expected = np.rint(expected)
            np.testing.assert_allclose(means[:, row, col], expected, rtol=1e-6)
            assert kept[row, col] == (valid[block].mean() >= 0.5)


def test_large_blocks_of_16_bit_values_do_not_overflow():
    array = np.full((1, 512, 512), 65_535, np.uint16)

    means, _ = reduce_blocks(array, np.ones((512, 512), bool), 256, mean=True)

    assert (means == 65_535).all()
