"""Points and buildings one to one, against SciPy and by hand."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from shapely.geometry import Point, box

from aftermap.workflows.comparing import assignment
from aftermap.workflows.comparing.assignment import assign
from aftermap.workflows.comparing.matching import match


def pairs_of(table):
    """{(point, building): distance} as columns."""
    points, buildings = np.array(list(table), int).T
    return points, buildings, np.array(list(table.values()), float)


def chosen(table):
    return {list(table)[at] for at in assign(*pairs_of(table))}


def test_a_point_with_two_houses_leaves_the_other_point_its_only_one():
    assert chosen({(0, 0): 1.0, (0, 1): 5.0, (1, 0): 1.5}) == {(0, 1), (1, 0)}


def test_the_sum_of_distances_decides_where_all_find_one():
    # the closest pair first would take (0, 0) for 1 and leave (1, 1) for 9.9
    assert chosen({(0, 0): 1.0, (0, 1): 2.0, (1, 0): 1.5, (1, 1): 9.9}) == {(0, 1), (1, 0)}


def test_of_points_that_are_alike_the_earlier_one_gets_the_house():
    assert chosen({(3, 7): 2.0, (5, 7): 2.0}) == {(3, 7)}
    square = {(0, 0): 2.0, (0, 1): 2.0, (1, 0): 2.0, (1, 1): 2.0}
    assert len(chosen(square)) == 2 and chosen(square) == chosen(square)


def test_no_pairs_are_no_assignment():
    none = np.zeros(0, int)
    assert assign(none, none, np.zeros(0)) == []


@pytest.mark.parametrize("seed", range(6))
def test_as_many_pairs_and_as_short_as_scipys(seed):
    rng = np.random.default_rng(seed)
    near = rng.random((14, 11)) < 0.2
    distances = np.where(near, rng.integers(0, 40, near.shape) / 4, 1e6)
    points, buildings = np.nonzero(near)
    got = assign(points, buildings, distances[points, buildings])
    assert len(set(points[got])) == len(set(buildings[got])) == len(got)
    rows, cols = linear_sum_assignment(distances)
    theirs = distances[rows, cols][near[rows, cols]]
    assert len(got) == len(theirs)
    assert distances[points[got], buildings[got]].sum() == pytest.approx(theirs.sum())


def test_a_group_beyond_all_measure_is_matched_by_the_closest_pair(monkeypatch):
    monkeypatch.setattr(assignment, "MOST", 1)
    assert chosen({(0, 0): 1.0, (0, 1): 5.0, (1, 0): 1.5}) == {(0, 0)}


def test_points_beside_houses_are_matched_so():
    """Two points in a gap: the left house is nearest to both, the right one within reach of the second only."""
    houses = np.array([box(0, 0, 10, 10), box(18, 0, 28, 10)], dtype=object)
    marks = np.array([Point(11, 5), Point(13, 5)], dtype=object)
    found = match(marks, houses, within=6, iou=0.2)
    assert list(zip(found.marks.tolist(), found.buildings.tolist(), strict=True)) == [(0, 0), (1, 1)]
    assert found.distances.tolist() == [1.0, 5.0] and set(found.how) == {"near"}
