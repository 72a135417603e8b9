"""Measures of the published systems: P7, P8 and P19 of the winner, 14.4 of MetaDamageNet."""

import numpy as np
import pytest

from aftermap.classes import IGNORE
from aftermap.scoring.original_scores import (
    MetaDamageNetDamageScore,
    MetaDamageNetLocalizationScore,
    Xview2DamageScore,
    Xview2LocalizationScore,
    background_and_building,
    dice,
    intersection_over_union,
    original_score,
    stored_localization,
)
from aftermap.scoring.pixels import Score


def rows(text):
    return np.array([[int(c) for c in row] for row in text.split()], np.uint8)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, float)))


# P8: target, localization and predicted class of two images
SCENES = [
    (rows("1234 1234 0000 0000"), rows("1111 0110 0000 1000"), rows("1234 1334 1111 1111")),
    (rows("0000 0220 0410 0130"), rows("1000 0110 0100 0100"), rows("1111 1221 1411 1231")),
]


def one_hot_logits(classes):
    logits = np.zeros((5, *classes.shape), np.float32)
    logits[0] = -1
    np.put_along_axis(logits, classes[None].astype(np.int64), 4.0, axis=0)
    return logits


def winner_damage(scenes=SCENES, **options):
    score = Xview2DamageScore(**options)
    for target, localization, classes in scenes:
        score.update(one_hot_logits(classes), target > 0, target, localization > 0)
    return score


def test_the_winners_localization_score_is_a_mean_of_dice_above_one_half():
    score = Xview2LocalizationScore()
    for logits, target in (
        ([[2, -1], [0, 1]], [[1, 0], [1, 1]]),
        ([[-3, -3], [-3, -3]], [[0, 0], [0, 0]]),
        ([[0.0001, 3], [3, -2]], [[0, 1], [0, 0]]),
    ):
        score.update(sigmoid(logits), np.array(target, np.uint8))
    assert score._values == pytest.approx([0.8, 1, 0.5])
    assert score.result()["score"] == pytest.approx(0.766667, abs=5e-7)


def test_the_winners_damage_score_with_pooled_localization():
    score = winner_damage()
    assert score.counts().tolist() == [[3, 2, 1], [3, 1, 1], [2, 1, 1], [2, 0, 1]]
    result = score.result()
    classes = [v for k, v in result.items() if k.startswith("xview2_f1_")]
    assert classes == pytest.approx([0.666667, 0.75, 0.666667, 0.8], abs=5e-7)
    assert result["xview2_damage_f1"] == pytest.approx(0.716419, abs=5e-7)
    assert result["xview2_localization"] == pytest.approx(20 / 26)
    assert result["score"] == pytest.approx(0.732262, abs=5e-7)


def test_the_winners_damage_score_with_localization_per_image():
    result = winner_damage(building="per-image").result()
    assert result["xview2_localization"] == pytest.approx(0.763636, abs=5e-7)
    assert result["score"] == pytest.approx(0.730584, abs=5e-7)


def test_the_official_score_of_the_winners_example():
    score = Score()
    for number, (target, localization, classes) in enumerate(SCENES):
        score.add(localization, classes, target, target, event="e", scene=str(number))
    result = score.result(bootstrap=0)
    assert list(result.damage_f1_per_class.values()) == pytest.approx([0.4, 0.75, 2 / 3, 0.8], abs=5e-7)
    assert result.damage_f1 == pytest.approx(0.607596, abs=5e-7)
    assert result.localization_f1 == pytest.approx(0.769231, abs=5e-7)
    assert result.score == pytest.approx(0.656086, abs=5e-7)


def without_destroyed():
    return [
        tuple(np.where(a == 4, b, a).astype(np.uint8) for a, b in zip(scene, (3, 1, 3), strict=True))
        for scene in SCENES
    ]


def test_an_absent_class_makes_the_winners_score_nan_only_where_asked():
    assert np.isnan(winner_damage(without_destroyed(), compat_nan=True).result()["score"])


def test_an_absent_class_takes_no_part_by_default():
    result = winner_damage(without_destroyed()).result()
    values = [result[f"xview2_f1_{name}"] for name in ("no-damage", "minor-damage", "major-damage")]
    assert np.isnan(result["xview2_f1_destroyed"])
    expected = 3 / sum(1 / (v + 1e-6) for v in values)
    assert result["xview2_damage_f1"] == pytest.approx(expected)


def test_both_forms_agree_where_every_class_occurs():
    assert winner_damage().result() == winner_damage(compat_nan=True).result()


def test_a_building_pixel_without_damage_label_is_no_damage_to_the_winner():
    score = Xview2DamageScore()
    target = rows("00")
    score.update(rows("12"), rows("11"), target, np.array([[True, True]]))
    assert score.counts().tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_the_winners_score_takes_class_indices_as_it_takes_probabilities():
    score = Xview2DamageScore()
    for target, localization, classes in SCENES:
        score.update(classes, target > 0, target, localization > 0)
    assert score.result() == winner_damage().result()


def test_without_a_localization_the_prediction_is_asked():
    score = Xview2DamageScore()
    p = np.array([[[0.69, 0.71]], [[0.31, 0.29]], *[[[0.0, 0.0]]] * 3])
    score.update(p, rows("11"), rows("11"))
    assert score.result()["xview2_localization"] == pytest.approx(2 / 3)


def test_localization_as_probabilities_is_cut_at_three_tenths():
    score = Xview2DamageScore()
    score.update(rows("11"), rows("11"), rows("11"), np.array([[0.3, 0.31]]))
    assert score.result()["xview2_localization"] == pytest.approx(2 / 3)


def test_a_stored_map_is_building_from_byte_77_on():
    assert stored_localization(np.array([76, 77], np.uint8)).tolist() == [False, True]


def test_bytes_are_not_taken_for_a_mask():
    with pytest.raises(ValueError, match="stored_localization"):
        Xview2DamageScore().update(rows("11"), rows("11"), rows("11"), rows("11"))


# MetaDamageNet, 14.4


def meta_probabilities():
    return np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 4, 4)


def meta_target():
    return np.array([i % 3 != 0 for i in range(32)], np.uint8).reshape(2, 4, 4)


def test_localization_of_metadamagenet_pools_the_pixels():
    score = MetaDamageNetLocalizationScore()
    for p, t in zip(meta_probabilities(), meta_target(), strict=True):
        score.update(p, t)
    assert score._counts.tolist() == [11, 5, 10]
    assert score.result()["score"] == pytest.approx(0.594595, abs=5e-7)
    for p, t in zip(0.9 * meta_probabilities(), 1 - meta_target(), strict=True):
        score.update(p, t)
    assert score.result()["score"] == pytest.approx(0.516129, abs=5e-7)


def test_localization_of_metadamagenet_without_any_building_is_0():
    score = MetaDamageNetLocalizationScore()
    score.update(np.zeros((4, 4)), np.zeros((4, 4), np.uint8))
    assert score.result()["score"] == 0.0


def test_exactly_one_half_is_a_building_to_metadamagenet():
    score = MetaDamageNetLocalizationScore()
    score.update(np.full((2, 4, 4), 0.5), np.ones((4, 4), np.uint8))
    assert score.result()["score"] == 1.0


TARGET = rows("0112 2334 4100 2311")
PREDICTED = rows("0102 1344 4110 2213")


def meta_damage(target=TARGET, predicted=PREDICTED, score=None):
    score = score or MetaDamageNetDamageScore()
    probabilities = 0.6 * np.eye(5)[predicted].transpose(2, 0, 1) + 0.08
    for half in (slice(0, 2), slice(2, 4)):
        score.update(probabilities[:, half], target[half] > 0, target[half])
    return score


def test_damage_of_metadamagenet_takes_missed_pixels_for_no_damage():
    result = meta_damage().result()
    classes = [v for k, v in result.items() if k.startswith("metadamagenet_f1_")]
    assert classes == pytest.approx([0.8, 2 / 3, 0.4, 0.8])
    assert result["metadamagenet_damage"] == pytest.approx(0.615386, abs=5e-7)
    assert result["metadamagenet_localization"] == pytest.approx(0.923077, abs=5e-7)
    assert result["score"] == pytest.approx(0.707693, abs=5e-7)


def test_a_class_that_the_target_lacks_takes_no_part_in_metadamagenet():
    target = np.where(TARGET == 4, 0, TARGET).astype(np.uint8)
    assert meta_damage(target).result()["metadamagenet_damage"] == pytest.approx(0.571430, abs=5e-7)


def test_damage_of_metadamagenet_without_any_building_is_1():
    assert meta_damage(np.zeros_like(TARGET)).result()["metadamagenet_damage"] == 1.0


def test_a_class_without_a_hit_ruins_the_mean_of_metadamagenet():
    worse = np.where(PREDICTED == 3, 1, PREDICTED).astype(np.uint8)
    result = meta_damage(predicted=worse).result()
    assert result["metadamagenet_damage"] == pytest.approx(0.000004, abs=5e-7)
    assert result["score"] == pytest.approx(0.276926, abs=5e-7)
    both = meta_damage(predicted=worse, score=meta_damage()).result()
    assert both["score"] == pytest.approx(0.628144, abs=5e-7)


def test_the_official_score_of_metadamagenets_example():
    score = Score()
    score.add(PREDICTED, PREDICTED, TARGET, TARGET, event="e", scene="s")
    result = score.result(bootstrap=0)
    assert list(result.damage_f1_per_class.values()) == pytest.approx([2 / 3, 2 / 3, 0.4, 0.8])
    assert result.damage_f1 == pytest.approx(0.592594, abs=5e-7)


def test_ignored_pixels_take_no_part_in_any_measure():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), (8, 8)).transpose(2, 0, 1)
    target = rng.integers(0, 5, (8, 8)).astype(np.uint8)
    hidden = target.copy()
    hidden[:, 5:] = IGNORE
    for system in ("xview2", "metadamagenet"):
        for task in ("building", "damage"):
            whole, part = original_score(system, task), original_score(system, task)
            p = probabilities if task == "damage" else probabilities[1]
            whole.update(p, np.where(hidden == IGNORE, IGNORE, hidden > 0), hidden)
            part.update(p[..., :5], target[:, :5] > 0, target[:, :5])
            assert whole.result() == part.result(), (system, task)


def test_masks_of_another_size_are_refused():
    for system in ("xview2", "metadamagenet"):
        with pytest.raises(ValueError, match="shape"):
            original_score(system, "damage").update(rows("11"), rows("111"), rows("11"))


def test_dice_and_iou_of_masks():
    first, second, empty = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]), np.zeros(4)
    assert dice(empty, empty) == intersection_over_union(empty, empty) == 1.0
    assert dice(first, second) == pytest.approx(0.666667, abs=5e-7)
    assert intersection_over_union(first, second) == 0.5


def test_five_channels_become_two():
    assert background_and_building(np.arange(5)).tolist() == [0, 10]
    assert background_and_building(np.ones((2, 5, 3)), axis=1).tolist() == [[[1] * 3, [4] * 3]] * 2
