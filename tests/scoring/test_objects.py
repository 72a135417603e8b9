"""Scores per building: votes, matches and the figures that follow from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from aftermap.scoring.instances import (
    Instances,
    building_classes,
    label_classes,
    label_components,
    match_buildings,
)
from aftermap.scoring.objects import BuildingScore


def canvas(*blocks: tuple[int, int, int, int, int], size: int = 40) -> np.ndarray:
    """A mask with (row, col, height, width, value) blocks."""
    mask = np.zeros((size, size), np.uint8)
    for row, col, height, width, value in blocks:
        mask[row : row + height, col : col + width] = value
    return mask


def scored(predicted: np.ndarray, target: np.ndarray, **options: object) -> BuildingScore:
    score = BuildingScore()
    score.add(predicted, predicted, (target > 0) * np.uint8(1), target, event="e", scene="s", **options)
    return score


def test_the_class_of_a_building_is_the_vote_of_its_pixels() -> None:
    instances = canvas((0, 0, 4, 4, 1), (10, 10, 4, 4, 2), (20, 20, 4, 4, 3))
    predicted = canvas((0, 0, 4, 4, 1), (0, 0, 3, 3, 4), (10, 10, 4, 3, 2), (20, 20, 4, 1, 3))
    assert building_classes(predicted, instances).tolist() == [4, 2, 0]


def test_a_tie_goes_to_the_lower_class() -> None:
    assert building_classes(np.array([[4, 4, 2, 2]]), np.array([[1, 1, 1, 1]])).tolist() == [2]


def test_half_background_still_finds_a_building() -> None:
    assert building_classes(np.array([[0, 0, 3, 3]]), np.array([[1, 1, 1, 1]])).tolist() == [3]
    assert building_classes(np.array([[0, 0, 0, 3]]), np.array([[1, 1, 1, 1]])).tolist() == [0]


def test_a_number_without_pixels_is_missed() -> None:
    assert building_classes(np.array([[1, 1]]), np.array([[3, 3]])).tolist() == [0, 0, 1]


def test_no_building_gives_no_class() -> None:
    assert building_classes(np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.int32)).shape == (0,)


def test_probabilities_vote_with_their_size() -> None:
    # two weak pixels for class 1 against one certain pixel for class 4
    probabilities = np.zeros((5, 1, 3))
    probabilities[1, 0, :2], probabilities[4, 0, :2] = 0.55, 0.45
    probabilities[4, 0, 2] = 1
    assert building_classes(probabilities, np.array([[1, 1, 1]])).tolist() == [4]
    assert building_classes(probabilities.argmax(axis=0), np.array([[1, 1, 1]])).tolist() == [1]


@given(
    arrays(np.uint8, (6, 7), elements=st.integers(0, 4)), arrays(np.int32, (6, 7), elements=st.integers(0, 5))
)
@settings(max_examples=100)
def test_votes_equal_a_loop_over_buildings(predicted: np.ndarray, instances: np.ndarray) -> None:
    expected = []
    for number in range(1, instances.max() + 1):
        votes = np.bincount(predicted[instances == number], minlength=5)
        missed = votes[1:].sum() == 0 or votes[0] > votes[1:].sum()
        expected.append(0 if missed else int(votes[1:].argmax()) + 1)
    assert building_classes(predicted, instances).tolist() == expected
    onehot = np.stack([(predicted == k).astype(float) for k in range(5)])
    assert building_classes(onehot, instances).tolist() == expected


def test_components_are_numbered_and_slivers_left_out() -> None:
    labels = label_components(canvas((0, 0, 5, 5, 1), (10, 10, 2, 2, 1), (20, 20, 2, 5, 1)) > 0)
    assert labels.max() == 2
    assert [np.count_nonzero(labels == k) for k in (1, 2)] == [25, 10]


def test_parts_that_touch_at_a_corner_are_two_buildings() -> None:
    assert label_components(canvas((0, 0, 5, 5, 1), (5, 5, 5, 5, 1)) > 0).max() == 2


def test_touching_buildings_of_unlike_damage_stay_apart() -> None:
    labels = label_classes(canvas((0, 0, 5, 5, 1), (0, 5, 5, 5, 4), (0, 10, 5, 5, 1)))
    assert labels.max() == 3
    assert len({labels[0, 0], labels[0, 5], labels[0, 10]}) == 3


def test_matches_exceed_the_overlap_and_are_unique() -> None:
    target = canvas((0, 0, 10, 10, 1), (20, 20, 10, 10, 2))
    predicted = canvas((0, 0, 10, 6, 1), (20, 20, 10, 5, 2), (0, 6, 10, 4, 3))
    assert match_buildings(predicted, target).tolist() == [[1, 1]]


def test_below_half_overlap_each_building_is_matched_once_best_first() -> None:
    target = canvas((0, 0, 10, 10, 1))
    predicted = canvas((0, 0, 10, 4, 1), (0, 4, 10, 6, 2))
    assert match_buildings(predicted, target, iou=0.3).tolist() == [[2, 1]]


@given(
    arrays(np.int32, (6, 8), elements=st.integers(0, 4)), arrays(np.int32, (6, 8), elements=st.integers(0, 4))
)
@settings(max_examples=100)
def test_matches_equal_a_loop_over_all_pairs(predicted: np.ndarray, target: np.ndarray) -> None:
    expected = set()
    for p in range(1, 5):
        for t in range(1, 5):
            union = np.count_nonzero((predicted == p) | (target == t))
            if union and np.count_nonzero((predicted == p) & (target == t)) / union > 0.5:
                expected.add((p, t))
    assert {tuple(pair) for pair in match_buildings(predicted, target).tolist()} == expected


def example() -> tuple[np.ndarray, np.ndarray]:
    """Six buildings: two right, a wrong class, one missed, one right, a wrong class; and one false alarm."""
    places = [(0, 0), (0, 8), (0, 16), (8, 0), (8, 8), (8, 16)]
    target = canvas(*[(r, c, 5, 5, k) for (r, c), k in zip(places, (1, 1, 2, 3, 4, 4), strict=True)])
    predicted = canvas(*[(r, c, 5, 5, k) for (r, c), k in zip(places, (1, 1, 3, 0, 4, 2), strict=True)])
    return predicted + canvas((30, 30, 5, 5, 4)), target


def test_the_confusion_of_buildings_by_hand() -> None:
    result = scored(*example()).result()
    assert result.confusion == (
        (0, 0, 0, 0, 1),
        (0, 2, 0, 0, 0),
        (0, 0, 0, 1, 0),
        (1, 0, 0, 0, 0),
        (0, 0, 1, 0, 1),
    )
    assert (result.buildings, result.missed, result.false_alarms) == (6, 1, 1)


def test_the_figures_of_buildings_by_hand() -> None:
    result = scored(*example()).result()
    assert result.f1_destroyed == pytest.approx(2 / 3)  # tp 1, fn 1: the false alarm is no target building
    assert result.f1_damaged == pytest.approx(6 / 7)  # tp 3 of 4, the missed one is a false negative
    assert list(result.f1_per_class.values()) == pytest.approx([1, 0, 0, 2 / 3])
    assert result.macro_f1 == pytest.approx(5 / 12)
    assert result.accuracy == pytest.approx(3 / 6)
    assert result.localization_f1 == pytest.approx(2 * 5 / (2 * 5 + 1 + 1))
    assert result.localization_precision == pytest.approx(5 / 6)
    assert result.localization_recall == pytest.approx(5 / 6)


def test_the_macro_mean_over_present_classes_leaves_absent_ones_out() -> None:
    mask = canvas((0, 0, 5, 5, 1), (10, 10, 5, 5, 4))
    result = scored(mask, mask).result()
    assert result.macro_f1 == pytest.approx(0.5)
    assert result.macro_f1_present == pytest.approx(1)


def test_given_instances_keep_touching_buildings_apart() -> None:
    target = canvas((0, 0, 6, 12, 1))
    instances = canvas((0, 0, 6, 6, 1), (0, 6, 6, 6, 2)).astype(np.int32)
    result = scored(canvas((0, 0, 6, 6, 1)), target, target_instances=instances).result()
    assert (result.buildings, result.missed) == (2, 1)
    assert result.localization_recall == pytest.approx(0.5)
    assert scored(canvas((0, 0, 6, 6, 1)), target).result().buildings == 1


def test_buildings_of_unknown_damage_are_not_judged_but_are_found() -> None:
    target = canvas((0, 0, 5, 5, 1), (10, 10, 5, 5, 255))
    building = canvas((0, 0, 5, 5, 1), (10, 10, 5, 5, 1))
    score = BuildingScore()
    score.add(building, building, building, target, event="e", scene="s")
    result = score.result()
    assert (result.buildings, result.false_alarms) == (1, 0)
    assert result.localization_f1 == 1


def test_a_prediction_where_the_target_is_unknown_is_no_false_alarm() -> None:
    target = canvas((0, 0, 5, 5, 1), (10, 10, 20, 20, 255))
    predicted = canvas((0, 0, 5, 5, 1), (12, 12, 5, 5, 4))
    score = BuildingScore()
    score.add(predicted, predicted, target, target, event="e", scene="s")
    result = score.result()
    assert result.false_alarms == 0
    assert result.localization_precision == 1


def test_an_empty_scene_has_no_figures() -> None:
    figures = scored(canvas(), canvas()).result().as_dict()
    assert figures["buildings"] == 0
    assert figures["macro_f1"] is None
    assert figures["localization"]["f1"] is None


def test_classes_of_given_buildings_are_counted_directly() -> None:
    score = BuildingScore()
    score.add_classes(np.array([4, 4, 1, 0, 2]), np.array([4, 1, 1, 4, 255]), event="e", scene="s")
    result = score.result()
    assert result.buildings == 4
    assert result.f1_destroyed == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))


def test_events_and_intervals_come_with_the_buildings() -> None:
    score = BuildingScore()
    for number in range(6):
        predicted, target = example()
        if number % 2:
            predicted = target
        score.add(predicted, predicted, target, target, event="ab"[number % 2], scene=str(number))
    result = score.result()
    assert result.events["b"].macro_f1 == 1
    assert result.events["a"].macro_f1 == pytest.approx(5 / 12)
    low, high = result.intervals["macro_f1"]
    assert low < result.macro_f1 < high
    assert score.result().intervals == result.intervals


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_instances_of_a_mask_are_its_labels_looked_up_once(share: float) -> None:
    rng = np.random.default_rng(5)
    damage = np.where(rng.random((40, 50)) < share, rng.integers(1, 4, (40, 50)), 0).astype(np.uint8)
    expected, count = ndimage.label(damage > 0)
    for found in (
        Instances.components(damage > 0, min_area_px=1),
        Instances.classes((damage > 0).astype(np.uint8), min_area_px=1),
    ):
        np.testing.assert_array_equal(found.labels, expected)
        assert found.count == count
    for found in (Instances.components(damage > 0, min_area_px=3), Instances.classes(damage, min_area_px=2)):
        again = Instances.of(found.labels)
        order = np.argsort(found.inside)
        np.testing.assert_array_equal(found.inside[order], again.inside)
        np.testing.assert_array_equal(found.numbers[order], again.numbers)
        assert found.count == again.count == found.labels.max()
