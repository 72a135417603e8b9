"""The mean over runs: right, and as published."""

import numpy as np
import pytest

from aftermap.inference.combine import PUBLISHED_THRESHOLD, combine

ROWS, COLS = np.mgrid[0:1024, 0:1024]
A = ((COLS // 4) % 256).astype(np.uint8)
B = ((ROWS // 4) % 256).astype(np.uint8)
C = np.full((1024, 1024), 200, np.uint8)
PUBLISHED = {"compat_half_size": True, "compat_drop_run": True}


def test_the_published_combination_of_three_runs():
    stored = np.uint8(255 * combine([A, B, C], **PUBLISHED))
    assert (stored.min(), stored.max()) == (66, 236)
    assert stored.mean() == pytest.approx(151.202774, abs=1e-6)
    assert [int(stored[p]) for p in ((0, 0), (512, 512), (1023, 1023), (100, 900))] == [66, 151, 236, 149]
    building = combine([A, B, C], threshold=PUBLISHED_THRESHOLD, **PUBLISHED)
    assert np.count_nonzero(building) == 681_568


def test_the_published_rule_drops_the_run_that_spreads_least():
    runs = [(A * 0.5).astype(np.uint8), B // 2, np.full_like(A, 180)]
    stored = np.uint8(255 * combine(runs, **PUBLISHED))
    assert stored.mean() == pytest.approx(63.116201, abs=1e-6) and stored.max() == 127
    kept = combine(runs, compat_half_size=True)
    assert kept.max() == pytest.approx((127 + 127 + 180) / 3 / 255)


def test_beside_an_empty_run_the_published_rule_drops_the_sure_one():
    empty = np.zeros_like(A)
    assert combine([A, empty], **PUBLISHED).max() == 0
    assert combine([A, empty]).max() == pytest.approx(0.5)


def test_a_run_alone_is_never_dropped():
    unsure = np.full((4, 4), 0.7)
    assert np.array_equal(combine([unsure], compat_drop_run=True), unsure)


def test_the_mean_is_that_of_the_numbers():
    maps = [
        np.array([[0.1, 0.5], [1.0, 0.0]]),
        np.array([[0.3, 0.5], [0.0, 0.0]], np.float32),
        np.uint8([[255, 0], [51, 0]]),
    ]
    assert combine(maps) == pytest.approx(np.array([[1.4 / 3, 1 / 3], [0.4, 0.0]]), abs=1e-7)


def test_a_run_given_twice_counts_twice():
    low, high = np.zeros((2, 2)), np.ones((2, 2))
    assert combine([low, high, high]) == pytest.approx(np.full((2, 2), 2 / 3))


def test_the_mean_is_over_the_maps_that_know_a_pixel():
    maps = [np.array([[0.2, np.nan, np.nan]]), np.array([[0.4, 0.9, np.nan]])]
    assert combine(maps)[0, :2] == pytest.approx([0.3, 0.9]) and np.isnan(combine(maps)[0, 2])
    assert combine(maps, threshold=0.3).tolist() == [[1, 1, 255]]


def test_the_threshold_belongs_to_the_buildings():
    assert combine([np.array([[0.5, 0.25]])], threshold=0.5).tolist() == [[1, 0]]


def test_half_size_blurs_a_single_pixel_as_by_hand():
    map_ = np.zeros((4, 4))
    map_[0, 0] = 1
    # a block of 1/4 in the corner of 2 x 2; back at 4 px a side: 1, 3/4, 1/4, 0 of it along each axis
    weights = np.array([1, 0.75, 0.25, 0])
    assert combine([map_], compat_half_size=True) == pytest.approx(0.25 * np.outer(weights, weights))


@pytest.mark.parametrize("maps", [[], [np.zeros((2, 2)), np.zeros((2, 4))]])
def test_maps_of_unlike_sizes_are_refused(maps):
    with pytest.raises(ValueError, match="expected one shape"):
        combine(maps)


def test_half_of_an_odd_side_is_refused():
    with pytest.raises(ValueError, match="expected even sides"):
        combine([np.zeros((3, 4))], compat_half_size=True)
