"""Features of buildings: hand-computed on flat ground, the same however the scene is cut, absent where unseen."""

import numpy as np
import pytest
import shapely

from aftermap.inference.objects.features import MARGIN_PX, Features, FeatureSums

HEIGHT, WIDTH = 60, 80
HOUSE, SHED = shapely.box(10, 12, 30, 26), shapely.box(50, 30, 60, 44)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey ground of 100 with a house of 180 that is 60 afterwards; the shed stays. Images, probabilities, missing."""
    images = np.full((2, 3, HEIGHT, WIDTH), 100, np.uint8)
    images[0, :, 12:26, 10:30] = 180
    images[1, :, 12:26, 10:30] = 60
    images[:, :, 30:44, 50:60] = 140
    probabilities = np.zeros((5, HEIGHT, WIDTH), np.uint8)
    probabilities[0], probabilities[1] = 127, 127
    return images, probabilities, np.zeros((HEIGHT, WIDTH), np.uint8)


def gathered(size: int, *, resolution_m: float | None = None, missing: np.ndarray | None = None) -> Features:
    """Features of both buildings, the scene read in squares."""
    images, probabilities, seen = scene()
    missing = seen if missing is None else missing
    sums = FeatureSums([HOUSE, SHED], WIDTH, resolution_m)
    for row in range(0, HEIGHT, size):
        for col in range(0, WIDTH, size):
            below, right = min(row + size, HEIGHT), min(col + size, WIDTH)
            top, left = max(row - MARGIN_PX, 0), max(col - MARGIN_PX, 0)
            sums.add(
                images[..., top : below + MARGIN_PX, left : right + MARGIN_PX],
                probabilities[:, row:below, col:right],
                missing[row:below, col:right],
                row=top,
                col=left,
                inner=(slice(row - top, below - top), slice(col - left, right - left)),
            )
    return sums.features()


def column(features: Features, name: str) -> np.ndarray:
    return features.values[:, features.names.index(name)]


def test_colours_within_and_around_are_the_means_of_their_pixels():
    found = gathered(200)
    assert column(found, "in mean pre 0").tolist() == [180, 140]
    assert column(found, "in difference 1").tolist() == [-120, 0]
    assert column(found, "ring mean post 2").tolist() == [100, 100]
    assert column(found, "beside mean post 0").tolist() == [-40, 40]
    assert column(found, "in change").tolist() == [120, 0]


def test_what_did_not_change_is_alike():
    found = gathered(200)
    assert column(found, "ring structure")[1] == pytest.approx(1, abs=1e-4)
    assert column(found, "ring correlation")[0] < 0  # the edge of the house turned over
    assert column(found, "in likeness")[1] == pytest.approx(1, abs=1e-4)


def test_probabilities_are_shares_of_the_levels():
    found = gathered(200)
    assert column(found, "in logit building") == pytest.approx([0, 0], abs=1e-6)  # 127 of 254
    assert (column(found, "in logit minor") < -6).all()


@pytest.mark.parametrize("size", [16, 37])
def test_pieces_add_up_to_the_whole(size):
    whole, pieces = gathered(200), gathered(size)
    assert pieces.names == whole.names
    np.testing.assert_allclose(pieces.values, whole.values, rtol=2e-4, atol=2e-4)


def test_a_building_that_was_not_seen_has_no_features():
    missing = np.zeros((HEIGHT, WIDTH), np.uint8)
    missing[:, 40:] = 1
    values = gathered(200, missing=missing).values
    assert np.isfinite(values[0]).all() and np.isnan(values[1]).all()


def test_the_ring_is_four_metres_wide():
    assert FeatureSums([HOUSE], WIDTH, 0.5).ring_px == 8
    assert FeatureSums([HOUSE], WIDTH, 10.0).ring_px == 3  # at least so many pixels
    assert FeatureSums([HOUSE], WIDTH, 0.05).ring_px == 16
