import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.classes import IGNORE
from aftermap.data.augment.geometric import draw_step, draw_steps
from aftermap.data.augment.operations import Flip, Rotate90, RotateScale, Shift
from aftermap.data.loading.crops import choose_window, crop_best, take
from aftermap.data.loading.geometry import (
    Crop,
    Mirror,
    Move,
    RotateAbout,
    Turn,
    View,
    best_window,
    class_planes,
    merge_planes,
    resample,
    resample_in_steps,
    resample_mask,
)
from aftermap.data.loading.sampling import BestCrop, EpochSampling

SIXTEEN = np.arange(16, dtype=np.float32).reshape(4, 4)


class Fixed:
    """A generator whose uniform draws are given."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def uniform(self, low, high):
        return self.draws.pop(0)


def seen(image, *steps):
    return resample(image, View.whole(*image.shape[:2]).then(*steps))


# --- published values ---


def test_a_shift_with_swapped_axes_is_the_published_one():
    operation = Shift(whole_px=False, compat_swapped_axes=True)
    step = draw_step(operation, Fixed(0.5, 0.25), height=4, width=4)  # x = .5, y = .25
    assert step == Move(1.0, 2.0)
    expected = [[9, 8, 9, 10], [5, 4, 5, 6], [1, 0, 1, 2], [5, 4, 5, 6]]
    assert np.allclose(seen(SIXTEEN, step), expected, atol=1e-6)


def test_a_shift_moves_x_sideways_and_y_downwards():
    assert draw_step(Shift(), Fixed(0.5, 0.25), height=4, width=4) == Move(2, 1)


def test_rotation_and_scale_about_a_point_are_the_published_ones():
    expected = [
        [0.9503, 1.6268, 3.1535, 4.2582],
        [3.5233, 5.0500, 6.5767, 7.9972],
        [6.9465, 8.4733, 10.0, 11.5267],
        [10.3698, 11.8965, 13.4233, 14.5249],
    ]
    # OpenCV before 5 rounds positions to 1/32 pixel
    assert np.allclose(seen(SIXTEEN, RotateAbout(2, 2, 10, 1.1)), expected, atol=1e-4)


def test_the_best_window_is_the_published_one():
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    mask = np.zeros((8, 8), np.uint8)
    mask[4:, 4:] = 1
    frame = View.whole(8, 8)
    windows = [Crop(0, 0, 4, 4, corners=True), Crop(4, 4, 4, 4, corners=True)]
    config = BestCrop(relative_to="scene", class_weights=(0, 1))
    assert choose_window(mask, frame, windows, config, mode="truncated") == 1
    expected = [
        [36, 37.3333, 38.6667, 38],
        [46.6667, 48, 49.3333, 48.6667],
        [57.3333, 58.6667, 60, 59.3333],
        [52, 53.3333, 54.6667, 54],
    ]
    assert np.allclose(resample(image, frame.then(windows[1])), expected, atol=1e-4)


# --- one map ---


@pytest.mark.parametrize("shape", [(6, 9), (8, 8)])
def test_mirrors_and_turns_are_exact(shape):
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    assert np.array_equal(seen(image, Mirror("vertical")), image[::-1])
    assert np.array_equal(seen(image, Mirror("horizontal")), image[:, ::-1])
    for quarters in range(4):
        assert np.array_equal(seen(image, Turn(quarters)), np.rot90(image, quarters))


def test_one_map_equals_one_resampling_per_step_where_nothing_is_interpolated():
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    steps = [Mirror("vertical"), Turn(1), Move(5, -3), Mirror("horizontal"), Crop(8, 12, 24, 24)]
    assert np.array_equal(seen(image, *steps), resample_in_steps(image, steps))


def test_one_map_equals_one_resampling_per_step_inside_a_smooth_scene():
    y, x = np.mgrid[:128, :160].astype(np.float32)
    image = np.sin(x / 9) + np.cos(y / 7)
    steps = [Turn(1), Move(7, 4), RotateAbout(60, 70, 8, 1.07), Crop(30, 40, 61, 48)]
    assert np.abs(seen(image, *steps) - resample_in_steps(image, steps)).max() < 0.02


def test_a_crop_reads_what_lies_beyond_it_from_the_scene():
    image = np.arange(40 * 40, dtype=np.float32).reshape(40, 40)
    turned = seen(image, Crop(15, 15, 10, 10), RotateAbout(4.5, 4.5, 30, 1))
    # a plane is reproduced exactly by bilinear sampling, corners included: nothing is mirrored
    whole = seen(image, RotateAbout(19.5, 19.5, 30, 1))
    assert np.allclose(turned, whole[15:25, 15:25], atol=1e-2)


def test_a_halved_window_averages_four_pixels():
    assert np.allclose(seen(SIXTEEN, Crop(0, 0, 4, 2)), [[2.5, 4.5], [10.5, 12.5]])


def test_beyond_the_scene_lies_its_mirror_image():
    assert seen(SIXTEEN, Move(2, 0))[0].tolist() == [2, 1, 0, 1]


# --- masks ---


def random_steps(seed, height, width):
    operations = [
        Flip(direction="vertical", p=0.5),
        Rotate90(p=0.9),
        Shift(p=0.9),
        RotateScale(degrees=(-45, 45), scale=(0.5, 2), center=(0.2, 0.8), p=0.9),
    ]
    return draw_steps(operations, np.random.default_rng(seed), height=height, width=width)


@given(st.integers(0, 2**31))
@settings(max_examples=25)
def test_no_geometry_invents_a_class(seed):
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 1, 4, IGNORE], (40, 48)).astype(np.uint8)
    view = View.whole(40, 48).then(*random_steps(seed, 40, 48), Crop(3.3, 4.7, 20.5, 24))
    assert set(np.unique(resample_mask(mask, view))) <= {0, 1, 4, IGNORE}
    assert set(np.unique(resample_mask(mask, view, mode="per-class"))) <= {0, 1, 4, IGNORE}


@pytest.mark.parametrize("mode", ["nearest", "per-class", "truncated"])
def test_unknown_pixels_are_never_blended(mode):
    mask = np.full((32, 32), IGNORE, np.uint8)
    mask[:, 16:] = 1
    view = View.whole(32, 32).then(RotateAbout(15.5, 15.5, 20, 1.3))
    result = resample_mask(mask, view, mode=mode)
    nearest = resample_mask(mask, view)
    assert np.array_equal(result == IGNORE, nearest == IGNORE)
    assert (result == 1).sum() > 0.8 * (nearest == 1).sum()


def test_per_class_masks_keep_the_class_that_has_half_of_a_pixel():
    mask = np.repeat(np.array([[1, 2, 3, 4]], np.uint8), 4, axis=0)
    halfway = View(np.array([[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]), 4, 3)
    assert resample_mask(mask, halfway, mode="per-class")[0].tolist() == [2, 2, 3]
    quarter = View(np.array([[1, 0, 0.25], [0, 1, 0], [0, 0, 1]]), 4, 3)
    assert resample_mask(mask, quarter, mode="per-class")[0].tolist() == [1, 2, 3]


def test_per_class_masks_leave_background_where_no_class_has_half_of_a_pixel():
    mask = np.kron(np.array([[1, 2], [3, 4]], np.uint8), np.ones((2, 2), np.uint8))
    view = View(np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]), 3, 3)
    assert resample_mask(mask, view, mode="per-class").tolist() == [[1, 2, 2], [3, 0, 2], [3, 3, 4]]


def test_truncated_masks_make_lower_classes_of_the_border():
    mask = np.zeros((3, 8), np.uint8)
    mask[:, 4:] = 4
    view = View(np.array([[1, 0, 0.3], [0, 1, 0], [0, 0, 1]]), 3, 7)
    assert resample_mask(mask, view, mode="truncated")[1].tolist() == [0, 0, 0, 1, 4, 4, 4]
    assert resample_mask(mask, view)[1].tolist() == [0, 0, 0, 0, 4, 4, 4]


def test_of_two_classes_minor_damage_wins_then_major_then_destroyed():
    full = np.full((1, 1), 255, np.uint8)
    none = np.zeros((1, 1), np.uint8)
    assert merge_planes([full, full, full, full])[0, 0] == 2
    assert merge_planes([full, none, full, full])[0, 0] == 3
    assert merge_planes([full, none, none, full])[0, 0] == 4
    assert merge_planes([full, none, none, none])[0, 0] == 1


def test_planes_hold_one_class_each():
    planes = class_planes(np.array([[0, 1, 2, IGNORE]], np.uint8), classes=3)
    assert [plane.tolist() for plane in planes] == [[[0, 255, 0, 0]], [[0, 0, 255, 0]]]


# --- the best window ---


def test_of_equal_windows_the_first_is_taken():
    weight = np.zeros((8, 8))
    weight[0, 0] = weight[7, 7] = 1
    assert best_window(weight, [Crop(1, 1, 4, 4), Crop(4, 4, 4, 4), Crop(0, 0, 4, 4)]) == 1
    assert best_window(np.zeros((8, 8)), [Crop(1, 1, 4, 4), Crop(4, 4, 4, 4)]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_chosen_window_is_that_of_the_warped_mask(seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 5, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    steps = random_steps(seed, 96, 96)
    frame = View.whole(96, 96).then(*steps)
    windows = [Crop(int(c), int(r), 40, 32) for c, r in rng.integers(0, 57, (10, 2))]
    warped = resample_mask(mask, frame)
    weights = np.array([0, 1, 5, 5, 2])
    sums = [weights[warped[w.row : w.row + 40, w.column : w.column + 40]].sum() for w in windows]
    config = BestCrop(class_weights=(0, 1, 5, 5, 2))
    assert choose_window(mask, frame, windows, config, mode="nearest") == int(np.argmax(sums))


@pytest.mark.parametrize("seed", range(3))
def test_with_steps_of_their_own_window_and_mask_are_the_winners(seed):
    mask = np.kron(np.random.default_rng(9).integers(0, 5, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    image = np.dstack([mask * 50] * 3)
    sampling = EpochSampling(
        crop_px=32,
        compat_mask="per-class",
        compat_steps=True,
        crop=BestCrop(size=(1.1, 1.5), tries=(6, 6), class_weights=(0, 1, 5, 5, 2)),
    )
    geometry = [Shift(), RotateScale(whole_degrees=True)]
    rng = np.random.default_rng(seed)
    sample = crop_best([image], mask, sampling=sampling, geometry=geometry, classes=5, rng=rng)

    rng = np.random.default_rng(seed)
    steps = draw_steps(geometry, rng, height=96, width=96)
    assert rng.integers(6, 7) == 6
    rng.random()
    side = int(rng.integers(35, 49))
    corners = [(int(rng.integers(97 - side)), int(rng.integers(97 - side))) for _ in range(6)]
    planes = [resample_in_steps((mask == c).astype(np.uint8) * 255, steps) for c in (1, 2, 3, 4)]
    scores = [
        sum(w * int(p[y : y + side, x : x + side].sum()) for w, p in zip((1, 5, 5, 2), planes, strict=True))
        for x, y in corners
    ]
    window = Crop(*corners[int(np.argmax(scores))], side, 32)
    assert np.array_equal(sample.images[0], resample_in_steps(image, [*steps, window]))
    assert np.array_equal(sample.mask, merge_planes([resample_in_steps(p, [window]) for p in planes]))


def test_both_dates_and_the_mask_go_through_the_same_map():
    mask = np.kron(np.random.default_rng(2).integers(0, 5, (8, 8)), np.ones((8, 8))).astype(np.uint8)
    image = np.dstack([mask * 60] * 3)
    sample = take([image, 255 - image], mask, [Turn(1), Crop(10, 5, 32, 32)], mode="nearest", classes=5)
    assert np.array_equal(sample.images[0, ..., 0], sample.mask * 60)
    assert np.array_equal(sample.images[1], 255 - sample.images[0])


# --- draws ---


def test_drawn_steps_stay_in_their_ranges():
    rng = np.random.default_rng(0)
    shift = [draw_step(Shift(x=(-0.3125, 0.3125)), rng, height=1024, width=1024) for _ in range(300)]
    assert {type(s.right) for s in shift} == {int}
    assert -320 <= min(s.right for s in shift) < -290 and 290 < max(s.right for s in shift) <= 320
    operation = RotateScale(center=(0.1875, 0.8125), whole_degrees=True)
    turns = [draw_step(operation, rng, height=1024, width=1024) for _ in range(300)]
    assert {t.degrees for t in turns} == set(range(-10, 11))
    assert all(192 <= t.x <= 832 and 192 <= t.y <= 832 and 0.9 <= t.scale <= 1.1 for t in turns)


def test_operations_fire_as_often_as_they_say():
    rng = np.random.default_rng(0)
    fired = sum(bool(draw_steps([Flip(p=0.3)], rng, height=8, width=8)) for _ in range(2000))
    assert fired / 2000 == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / 2000) ** 0.5)


def test_a_turned_scene_is_shifted_by_its_new_sides():
    rng = np.random.default_rng(0)
    steps = draw_steps([Rotate90(turns=(1,)), Shift(x=(1, 1), y=(0, 0))], rng, height=30, width=50)
    assert steps == [Turn(1), Move(30, 0)]


@pytest.mark.parametrize("window", [(1.25, 2.5, 3.0), (0.0, 0.5, 5.5), (2.0, 3.0, 4.0), (3.75, 0.1, 4.25)])
def test_of_cut_pixels_the_part_inside_a_window_counts(window):
    column, row, side = window
    weight = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    edges = np.arange(9)

    def covered(low):
        return np.clip(np.minimum(edges[1:], low + side) - np.maximum(edges[:-1], low), 0, None)

    expected = covered(row) @ weight @ covered(column) / side**2
    # a flat field of a little more or a little less than that tells the two means apart
    padded = np.concatenate([weight, np.full((8, 8), expected * 1.001, np.float32)], axis=1)
    assert best_window(padded, [Crop(column, row, side, 8), Crop(9, 0, 4, 8)]) == 1
    padded[:, 8:] = expected * 0.999
    assert best_window(padded, [Crop(column, row, side, 8), Crop(9, 0, 4, 8)]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_chosen_window_is_the_one_whose_enlarged_mask_sums_highest(seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 2, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    frame = View.whole(96, 96).then(*random_steps(seed, 96, 96))
    sides = rng.uniform(30, 60, 5)
    windows = [Crop(*(rng.random(2) * (96 - side)), side, 256) for side in sides]
    sums = [resample(mask.astype(np.float32), frame.then(window)).sum() for window in windows]
    config = BestCrop(relative_to="scene", class_weights=(0, 1))
    assert choose_window(mask, frame, windows, config, mode="truncated") == int(np.argmax(sums))


def test_whole_degrees_are_equally_likely_the_ends_too():
    rng = np.random.default_rng(0)
    operation = RotateScale(degrees=(-2, 2), whole_degrees=True)
    drawn = [draw_step(operation, rng, height=8, width=8).degrees for _ in range(5000)]
    counts = {value: drawn.count(value) for value in set(drawn)}
    assert sorted(counts) == [-2, -1, 0, 1, 2]
    assert all(abs(count - 1000) < 5 * 28.3 for count in counts.values())  # five standard deviations
