"""Scores of building maps against values by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftermap.classes import IGNORE
from aftermap.errors import DataError
from aftermap.scoring.building_maps import BuildingMapScore, boundary_band, resolution_group
from aftermap.scoring.objects import BuildingScore
from aftermap.scoring.pixels import Score


def square(size, *boxes):
    """A mask with boxes (row, col, height, width)."""
    mask = np.zeros((size, size), np.uint8)
    for row, col, height, width in boxes:
        mask[row : row + height, col : col + width] = 1
    return mask


def scored(prediction, target, *, resolution_m=None, bootstrap=0, **options):
    score = BuildingMapScore(**options)
    score.add(prediction, target, event="e", scene="s", resolution_m=resolution_m)
    return score.result(bootstrap=bootstrap)


def test_overlap_of_pixels_by_hand():
    # 8 x 8 against the same moved by 2 columns: 48 both, 16 extra, 16 missed
    scores = scored(square(32, (4, 6, 8, 8)), square(32, (4, 4, 8, 8)))
    assert scores.jaccard == pytest.approx(48 / 80)
    assert scores.precision == scores.recall == scores.f1 == pytest.approx(48 / 64)
    assert scores.scenes == 1


def test_overlap_of_buildings_by_hand():
    # of three buildings the first is met at IoU 0.6, the second at 1/3, the third not at all; one is made up
    target = square(40, (2, 2, 8, 8), (2, 20, 8, 8), (20, 2, 8, 8))
    predicted = square(40, (2, 4, 8, 8), (2, 24, 8, 8), (25, 25, 8, 8))
    scores = scored(predicted, target)
    assert (scores.object_precision, scores.object_recall, scores.object_f1) == pytest.approx((1 / 3,) * 3)
    assert scored(predicted, target, iou=0.3).object_f1 == pytest.approx(2 / 3)


def test_the_band_of_a_square_is_its_frame():
    mask = square(20, (4, 4, 9, 9)).astype(bool)
    frame = mask & ~square(20, (6, 6, 5, 5)).astype(bool)
    assert np.array_equal(boundary_band(mask, 2), frame)
    assert np.array_equal(boundary_band(mask, 5), mask)


def test_the_edge_of_the_image_is_boundary_and_the_rim_of_unknown_ground_is_not():
    mask, unknown = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    frame = ~square(10, (1, 1, 8, 8)).astype(bool)
    assert np.array_equal(boundary_band(mask, 1), frame)
    unknown[4:6, 4:6] = True
    assert np.array_equal(boundary_band(mask & ~unknown, 1, unknown=unknown), frame)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_band_is_what_repeated_erosion_takes_away(seed, width):
    mask = np.random.default_rng(seed).random((12, 15)) < 0.8
    inner = np.pad(mask, width)
    for _ in range(width):
        inner = np.pad(inner, 1)
        inner = np.logical_and.reduce(
            [
                inner[r : r + inner.shape[0] - 2, c : c + inner.shape[1] - 2]
                for r in range(3)
                for c in range(3)
            ]
        )
    inner = inner[width:-width, width:-width]
    assert np.array_equal(boundary_band(mask, width), mask & ~inner)


def test_boundary_iou_of_two_squares_by_hand():
    # bands of 1 px: frames of 10 x 10 (36 px) and of the 8 x 8 inside it (28 px), which share no pixel
    outer, inner = square(40, (5, 5, 10, 10)), square(40, (6, 6, 8, 8))
    assert scored(inner, outer, boundary_share=0.02).boundary_iou == 0  # round(0.02 * 56.6) = 1 px
    # bands of 2 px: 10*10 - 6*6 = 64 px and 8*8 - 4*4 = 48 px, of which the 28 px of the shared ring are in both
    assert scored(inner, outer, boundary_m=1.0, resolution_m=0.5).boundary_iou == pytest.approx(28 / 84)


def test_boundary_iou_is_jaccard_where_the_band_fills_the_buildings():
    predicted, target = square(64, (4, 6, 8, 8)), square(64, (4, 4, 8, 8))
    scores = scored(predicted, target, boundary_share=0.1)
    assert scores.boundary_iou == scores.jaccard == pytest.approx(48 / 80)
    assert scores.boundary == "10 % of the diagonal"


def test_boundaries_in_metres_need_a_resolution():
    mask = square(16, (2, 2, 8, 8))
    with pytest.raises(DataError, match=r"scene s has no ground resolution.*0\.5 m wide"):
        scored(mask, mask, boundary_m=0.5)
    assert scored(mask, mask, boundary_m=0.5, resolution_m=0.1).boundary == "0.5 m"


@pytest.mark.parametrize("options", [{"boundary_share": 0.0}, {"boundary_m": -1.0}])
def test_a_band_without_width_is_refused(options):
    with pytest.raises(ValueError, match="expected a number above 0"):
        BuildingMapScore(**options)


def test_unknown_ground_takes_no_part():
    target = square(32, (4, 4, 8, 8))
    predicted = square(32, (4, 4, 8, 8), (20, 20, 8, 8))
    target[18:, 18:] = IGNORE
    scores = scored(predicted, target)
    assert (scores.jaccard, scores.boundary_iou, scores.object_f1) == (1, 1, 1)


def test_nothing_to_measure_is_not_a_number_and_null_in_json():
    scores = scored(square(16), square(16))
    assert all(np.isnan(getattr(scores, name)) for name in ("jaccard", "f1", "object_f1", "boundary_iou"))
    assert scores.as_dict()["jaccard"] is None and scores.as_dict()["by_scene"][0]["f1"] is None


def test_figures_agree_with_those_of_the_other_scores():
    rng = np.random.default_rng(3)
    target = np.kron(rng.random((8, 8)) < 0.4, np.ones((6, 6))).astype(np.uint8)
    predicted = np.roll(target, 1, axis=1) | np.kron(rng.random((8, 8)) < 0.1, np.ones((6, 6))).astype(
        np.uint8
    )
    target[30:40, :20] = IGNORE
    pixels, buildings = Score(), BuildingScore()
    for score in (pixels, buildings):
        score.add(predicted, None, target, None, event="e", scene="s")
    scores, pixel, building = (
        scored(predicted, target),
        pixels.result(bootstrap=0),
        buildings.result(bootstrap=0),
    )
    assert scores.jaccard == pytest.approx(pixel.localization_iou)
    assert scores.f1 == pytest.approx(pixel.localization_f1)
    assert scores.object_f1 == pytest.approx(building.localization_f1)
    assert scores.object_precision == pytest.approx(building.localization_precision)


def test_scenes_are_pooled_by_pixel_and_shown_one_by_one():
    score = BuildingMapScore()
    score.add(
        square(32, (0, 0, 16, 16)), square(32, (0, 0, 16, 16)), event="a", scene="1", resolution_m=0.075
    )
    score.add(square(32), square(32, (0, 0, 8, 8)), event="b", scene="1", resolution_m=0.3)
    result = score.result(bootstrap=0)
    assert result.jaccard == pytest.approx(256 / 320)
    assert [s.jaccard for s in result.by_scene] == [1, 0]
    assert {name: s.jaccard for name, s in result.events.items()} == {"a": 1, "b": 0}
    assert {name: s.jaccard for name, s in result.resolutions.items()} == {"0.075": 1, "0.3": 0}
    assert result.resolution_m == (0.075, 0.3) and result.events["b"].resolution_m == (0.3, 0.3)


def test_resolutions_come_finest_first_and_the_unknown_last():
    score = BuildingMapScore()
    mask = square(16, (2, 2, 8, 8))
    for number, resolution in enumerate((9.6, None, 0.3, 1.2)):
        score.add(mask, mask, event="e", scene=str(number), resolution_m=resolution)
    assert list(score.result(bootstrap=0).resolutions) == ["0.3", "1.2", "9.6", "unknown"]


@pytest.mark.parametrize(
    ("resolution_m", "group"),
    [
        (0.0746, "0.075"),
        (0.07, "0.075"),
        (0.149, "0.15"),
        (0.2986, "0.3"),
        (0.42, "0.3"),
        (0.43, "0.6"),
        (2, "2.4"),
    ],
)
def test_a_resolution_belongs_to_its_octave(resolution_m, group):
    assert resolution_group(resolution_m) == group


def test_parts_of_a_scene_are_one_scene():
    score = BuildingMapScore()
    for part in (square(32, (2, 2, 8, 8)), square(32)):
        score.add(part, square(32, (2, 2, 8, 8)), event="e", scene="s", resolution_m=0.3)
    result = score.result(bootstrap=0)
    assert result.scenes == 1 == len(result.by_scene) and result.jaccard == 0.5


def test_intervals_resample_the_scenes_and_repeat_with_the_seed():
    score = BuildingMapScore()
    mask = square(32, (2, 2, 8, 8))
    for number in range(6):
        score.add(mask if number % 2 else square(32), mask, event="e", scene=str(number))
    first, second = (score.result(bootstrap=200, seed=1) for _ in range(2))
    low, high = first.intervals["jaccard"]
    assert first.intervals == second.intervals and 0 < low < first.jaccard == 0.5 < high < 1


def test_masks_of_unlike_sizes_are_refused():
    with pytest.raises(ValueError, match="expected the target's"):
        scored(square(16), square(32))


def test_no_scene_is_refused():
    with pytest.raises(ValueError, match="no scene was added"):
        BuildingMapScore().result()
