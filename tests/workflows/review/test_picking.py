"""Which buildings come up next: those in doubt, unlike each other and unlike those that were answered."""

import geopandas
import numpy as np
import pytest
import shapely

from aftermap.workflows.review.picking import pick


def table(shares: np.ndarray) -> geopandas.GeoDataFrame:
    count = len(shares)
    columns = dict(zip(("p_no_damage", "p_minor", "p_major", "p_destroyed"), shares.T, strict=True))
    return geopandas.GeoDataFrame(
        {"building_id": [f"b{n}" for n in range(count)], "damage": ["no-damage"] * count, **columns}
        | {"p_building": [0.9] * count, "area_m2": [100.0] * count},
        geometry=[shapely.box(n, 0, n + 0.5, 1) for n in range(count)],
    )


SURE, DOUBTFUL = [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]


def test_buildings_in_doubt_come_up_more_often_than_sure_ones():
    shares = np.array([SURE] * 50 + [DOUBTFUL] * 50)
    features = np.random.default_rng(0).normal(size=(100, 5))
    picked = [name for seed in range(20) for name in pick(table(shares), features, [], 5, seed)]
    doubtful = sum(int(name[1:]) >= 50 for name in picked)
    assert doubtful > 80  # of 100; doubt is 21 times as large


def test_picks_lie_among_what_was_not_answered_yet():
    shares = np.array([DOUBTFUL] * 60)
    groups = np.repeat(np.eye(3), 20, axis=0)  # three kinds of buildings, 20 of each, all alike
    picked = pick(table(shares), groups, ["b0"], 2, 1)
    assert sorted(int(name[1:]) // 20 for name in picked) == [1, 2]


def test_answered_and_unassessed_buildings_are_not_picked():
    buildings = table(np.array([DOUBTFUL] * 6))
    buildings.loc[2, ["damage", "p_no_damage"]] = ["not-assessed", np.nan]
    assert sorted(pick(buildings, None, ["b0", "b1", "of another map"], 10, 0)) == ["b3", "b4", "b5"]


def test_the_same_arguments_give_the_same_picks():
    buildings, features = (
        table(np.array([DOUBTFUL, SURE] * 30)),
        np.random.default_rng(3).normal(size=(60, 40)),
    )
    assert pick(buildings, features, [], 8, 5) == pick(buildings, features, [], 8, 5)
    assert len(set(pick(buildings, features, [], 60, 5))) == 60


def test_nothing_is_picked_of_nothing():
    assert pick(table(np.zeros((0, 4))), None, [], 5, 0) == []
    assert pick(table(np.array([SURE])), None, ["b0"], 5, 0) == []


def test_features_of_another_table_are_refused():
    with pytest.raises(ValueError, match="features of 3 buildings for a table of 1"):
        pick(table(np.array([SURE])), np.zeros((3, 2)), [], 1, 0)


def test_a_map_without_metres_is_picked_from_without_a_word(recwarn):
    frame = table(np.array([DOUBTFUL] * 12)).assign(area_m2=np.nan)
    features = np.random.default_rng(0).normal(size=(12, 3))
    features[:, 1] = np.nan
    assert len(pick(frame, None, [], 3, 0)) == len(pick(frame, features, [], 3, 0)) == 3
    assert not recwarn.list
