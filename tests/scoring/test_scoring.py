"""Pixel scores, against the official formulas written out once more and numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aftermap.scoring.counts import harmonic_mean, resample
from aftermap.scoring.pixels import DAMAGE_CLASSES, Score


def rows(text: str) -> np.ndarray:
    return np.array([[int(digit) for digit in row] for row in text.split()], np.uint8)


# Two 4 x 4 scenes with known results of the competition's scorer.
TARGET = [rows("1234 1234 0000 0000"), rows("0000 0220 0410 0130")]
BUILDING = [rows("1111 0110 0000 1000"), rows("1000 0110 0100 0100")]
DAMAGE = [rows("1234 1334 1111 1111"), rows("1111 1221 1411 1231")]


def two_scenes() -> Score:
    score = Score()
    for k in range(2):
        target = TARGET[k]
        score.add(BUILDING[k], DAMAGE[k], target > 0, target, event=f"event-{k}", scene=str(k))
    return score


def official(scenes: list[tuple[np.ndarray, ...]]) -> dict[str, float]:
    """The competition's formulas, pixel by pixel over all scenes together."""
    lp, dp, lt, dt = (np.concatenate([np.ravel(scene[k]) for scene in scenes]).astype(int) for k in range(4))

    def f1(predicted: np.ndarray, target: np.ndarray) -> float:
        tp = int((predicted & target).sum())
        if tp == 0:
            return 0.0
        precision, recall = tp / predicted.sum(), tp / target.sum()
        return 2 * precision * recall / (precision + recall)

    localization = f1(lp > 0, lt > 0)
    credited = np.where(lp > 0, dp, 0)[dt > 0]
    judged = dt[dt > 0]
    classes = [f1(credited == c, judged == c) for c in (1, 2, 3, 4)]
    damage = 4 / sum(1 / (f + 1e-6) for f in classes)
    present = [f for c, f in enumerate(classes, 1) if (credited == c).any() or (judged == c).any()]
    return {
        "localization_f1": localization,
        "damage_f1": damage,
        "score": 0.3 * localization + 0.7 * damage,
        "damage_f1_present": len(present) / sum(1 / (f + 1e-6) for f in present) if present else float("nan"),
        **dict(zip(DAMAGE_CLASSES, classes, strict=True)),
    }


def masks(highest: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.uint8, (5, 6), elements=st.integers(0, highest))


def scenes_strategy() -> st.SearchStrategy[list[tuple[np.ndarray, ...]]]:
    scene = st.integers(0, 4).flatmap(lambda top: st.tuples(masks(1), masks(4), masks(1), masks(top)))
    return st.lists(scene, min_size=1, max_size=4)


def test_the_worked_example_gives_the_official_numbers() -> None:
    result = two_scenes().result()
    assert list(result.damage_f1_per_class.values()) == pytest.approx([0.4, 0.75, 2 / 3, 0.8])
    assert result.damage_f1 == pytest.approx(0.607596, abs=5e-7)
    assert result.localization_f1 == pytest.approx(0.769231, abs=5e-7)
    assert result.score == pytest.approx(0.656086, abs=5e-7)


def test_a_missed_pixel_is_a_false_negative_and_not_no_damage() -> None:
    target = rows("0112 2334 4100 2311").reshape(1, 16)
    predicted = rows("0102 1344 4110 2213").reshape(1, 16)
    score = Score()
    score.add(predicted > 0, predicted, target > 0, target, event="e", scene="s")
    result = score.result()
    assert list(result.damage_f1_per_class.values()) == pytest.approx([2 / 3, 2 / 3, 0.4, 0.8])
    assert result.damage_f1 == pytest.approx(0.592594, abs=5e-7)


@given(scenes_strategy())
@settings(max_examples=150)
def test_scores_equal_a_pixel_by_pixel_reference_also_with_absent_classes(scenes: list) -> None:
    score = Score()
    for number, (lp, dp, lt, dt) in enumerate(scenes):
        score.add(lp, dp, lt, dt, event="e", scene=str(number))
    result, expected = score.result(bootstrap=0), official(scenes)
    assert result.score == pytest.approx(expected["score"], abs=1e-12)
    assert result.localization_f1 == pytest.approx(expected["localization_f1"], abs=1e-12)
    assert result.damage_f1 == pytest.approx(expected["damage_f1"], abs=1e-12)
    assert result.damage_f1_present == pytest.approx(expected["damage_f1_present"], abs=1e-12, nan_ok=True)
    for name in DAMAGE_CLASSES:
        assert result.damage_f1_per_class[name] == pytest.approx(expected[name], abs=1e-12)


@given(scenes_strategy())
@settings(max_examples=30)
def test_streamed_scenes_score_like_one_big_image(scenes: list) -> None:
    streamed, whole = Score(), Score()
    for number, masks_ in enumerate(scenes):
        streamed.add(*masks_, event="e", scene=str(number))
    whole.add(*(np.concatenate([s[k] for s in scenes]) for k in range(4)), event="e", scene="all")
    assert streamed.result(bootstrap=0).as_dict() | {"scenes": 1, "events": {}} == whole.result(
        bootstrap=0
    ).as_dict() | {"events": {}}


def test_an_absent_class_is_zero_officially_and_takes_no_part_under_the_rule() -> None:
    target = rows("1122 0000")
    score = Score()
    score.add(target > 0, target, target > 0, target, event="e", scene="s")
    result = score.result()
    assert result.absent_classes == ("major-damage", "destroyed")
    assert result.damage_f1_present == pytest.approx(1, abs=2e-6)
    assert result.damage_f1 == pytest.approx(4 / (2 / 1.000001 + 2 / 1e-6), rel=1e-9)
    assert result.score == pytest.approx(0.3, abs=2e-6)
    assert result.score_present == pytest.approx(1, abs=2e-6)


def test_a_class_that_is_only_predicted_still_counts_against_the_score() -> None:
    target, predicted = rows("1111 2222"), rows("1113 2222")
    score = Score()
    score.add(predicted > 0, predicted, target > 0, target, event="e", scene="s")
    result = score.result()
    assert result.absent_classes == ("destroyed",)
    assert result.damage_f1_present == pytest.approx(3 / (1 / (6 / 7 + 1e-6) + 1 / (1 + 1e-6) + 1e6))


def test_unknown_pixels_take_no_part() -> None:
    target_building, target_damage = rows("1100"), rows("1400")
    known = Score()
    known.add(rows("1010"), rows("1010"), target_building, target_damage, event="e", scene="s")
    unknown = Score()
    wide = [
        np.hstack([mask, extra])
        for mask, extra in (
            (rows("1010"), rows("1101")),
            (rows("1010"), rows("2301")),
            (target_building, np.full((1, 4), 255, np.uint8)),
            (target_damage, np.full((1, 4), 255, np.uint8)),
        )
    ]
    unknown.add(*wide, event="e", scene="s")
    assert unknown.result().as_dict() == known.result().as_dict()


def test_a_building_of_unknown_damage_counts_in_localization_only() -> None:
    score = Score()
    score.add(
        rows("1101"), rows("1201"), rows("1110"), np.array([[1, 255, 255, 0]], np.uint8), event="e", scene="s"
    )
    result = score.result()
    assert result.localization_f1 == pytest.approx(2 / 3)
    assert np.sum(result.confusion[1:]) == 1


def test_without_damage_labels_only_localization_is_a_number() -> None:
    score = Score()
    score.add(rows("1100"), None, rows("1110"), None, event="e", scene="s")
    figures = score.result().as_dict()
    assert figures["localization_f1"] == pytest.approx(0.8)
    assert figures["score"] is None
    assert figures["damage_f1"] is None
    assert set(figures["damage_f1_per_class"].values()) == {None}


def test_localization_precision_recall_and_iou_by_hand() -> None:
    score = Score()
    score.add(
        rows("1110 0000"), rows("1110 0000"), rows("0111 1000"), rows("0111 1000"), event="e", scene="s"
    )
    result = score.result()
    assert result.localization_precision == pytest.approx(2 / 3)
    assert result.localization_recall == pytest.approx(2 / 4)
    assert result.localization_iou == pytest.approx(2 / 5)


def test_the_confusion_matrix_counts_pixels_with_missed_ones_in_column_zero() -> None:
    result = two_scenes().result()
    assert result.confusion[1:] == ((2, 1, 1, 0, 0), (0, 0, 3, 1, 0), (1, 0, 0, 2, 0), (1, 0, 0, 0, 2))


def test_a_predicted_building_without_a_class_is_scored_as_missed_damage() -> None:
    score = Score()
    score.add(rows("11"), rows("01"), rows("11"), rows("11"), event="e", scene="s")
    result = score.result()
    assert result.localization_f1 == 1
    assert result.confusion[1] == (1, 1, 0, 0, 0)


def test_events_are_scored_on_their_own_scenes() -> None:
    result = two_scenes().result()
    alone = official([(BUILDING[1], DAMAGE[1], TARGET[1] > 0, TARGET[1])])
    assert list(result.events) == ["event-0", "event-1"]
    assert result.events["event-1"].score == pytest.approx(alone["score"])
    assert result.events["event-1"].scenes == 1


def test_parts_of_a_scene_are_summed_into_one_scene() -> None:
    parts = Score()
    for half in (slice(0, 2), slice(2, 4)):
        parts.add(
            BUILDING[0][half], DAMAGE[0][half], TARGET[0][half] > 0, TARGET[0][half], event="e", scene="s"
        )
    whole = Score()
    whole.add(BUILDING[0], DAMAGE[0], TARGET[0] > 0, TARGET[0], event="e", scene="s")
    assert parts.result() == whole.result()
    assert len(parts) == 1


def random_scenes(count: int) -> Score:
    generator = np.random.default_rng(3)
    score = Score()
    for number in range(count):
        target = generator.integers(0, 5, (8, 8))
        predicted = np.where(generator.random((8, 8)) < 0.3 + 0.5 * number / count, target, 1)
        score.add(predicted > 0, predicted, target > 0, target, event="e", scene=str(number))
    return score


def test_intervals_are_the_same_for_the_same_seed_and_hold_the_figure() -> None:
    score = random_scenes(12)
    first, again, other = score.result(), score.result(), score.result(seed=1)
    assert first.intervals == again.intervals
    assert first.intervals != other.intervals
    low, high = first.intervals["score"]
    assert low < first.score < high


def test_intervals_equal_those_of_scenes_drawn_one_by_one() -> None:
    counts = np.array([[1.0, 3.0], [4.0, 1.0], [2.0, 2.0], [9.0, 1.0]])

    def share(pooled: np.ndarray) -> dict[str, np.ndarray]:
        return {"share": pooled[..., 0] / pooled.sum(axis=-1)}

    low, high = resample(counts, share, resamples=4000, seed=0)["share"]
    generator = np.random.default_rng(9)
    drawn = [share(counts[generator.integers(0, 4, 4)].sum(axis=0))["share"] for _ in range(4000)]
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)


def test_the_number_of_resamples_at_once_does_not_change_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    score = random_scenes(5)
    expected = score.result(bootstrap=50).intervals
    monkeypatch.setattr("aftermap.scoring.counts._RESAMPLES_AT_ONCE", 7)
    assert score.result(bootstrap=50).intervals == expected


def test_one_scene_has_no_intervals() -> None:
    assert random_scenes(1).result().intervals == {}


def test_large_masks_are_counted_band_by_band(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = two_scenes().result()
    monkeypatch.setattr("aftermap.scoring.pixels._PIXELS_AT_ONCE", 5)
    assert two_scenes().result() == expected


def test_what_is_kept_does_not_grow_with_the_image() -> None:
    score = Score()
    for number, size in enumerate((8, 512)):
        target = np.ones((size, size), np.uint8)
        score.add(target, target, target, target, event="e", scene=str(number))
    assert score._tables.counts.shape == (2, 108)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_damage": np.full((4, 4), 5, np.uint8)}, "prediction_damage holds 5, expected 0 to 4"),
        ({"prediction_building": np.full((4, 4), 255, np.uint8)}, "prediction_building holds 255"),
        ({"target_damage": np.full((4, 4), 9)}, "target_damage holds 9, expected 0 to 4 or 255"),
        ({"target_damage": np.full((4, 4), -1)}, "target_damage holds -1 to -1"),
        ({"prediction_damage": np.zeros((4, 5), np.uint8)}, r"\(4, 5\), expected the target's \(4, 4\)"),
        ({"prediction_damage": np.zeros((4, 4))}, "float64, expected integer class indices"),
    ],
)
def test_a_wrong_mask_is_refused_by_name(change: dict, message: str) -> None:
    good = dict.fromkeys(
        ("prediction_building", "prediction_damage", "target_building", "target_damage"), TARGET[0]
    )
    with pytest.raises(ValueError, match=message):
        Score().add(**(good | change), event="e", scene="s")


def test_scoring_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no scene was added"):
        Score().result()


def test_the_harmonic_mean_of_equal_values_is_that_value() -> None:
    assert harmonic_mean(np.array([0.5, 0.5, 0.5, 0.5])) == pytest.approx(0.5, abs=2e-6)


def test_the_json_states_the_rule_beside_the_official_figure() -> None:
    figures = two_scenes().result().as_dict()
    assert list(figures)[:4] == ["score", "localization_f1", "damage_f1", "damage_f1_per_class"]
    assert "takes no part" in figures["absent_class_rule"]["rule"]
    assert figures["absent_class_rule"]["score"] == pytest.approx(figures["score"])
