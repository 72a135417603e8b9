import numpy as np
import pytest

from aftermap.data.loading.sampling import (
    BestCrop,
    ClassSampling,
    EpochSampling,
    batches_per_epoch,
    draw_windows,
    epoch_order,
    post_chance,
    repetitions,
)


@pytest.mark.parametrize(
    ("classes", "train", "tune"),
    [((), 1, 1), ((1,), 1, 1), ((4,), 2, 2), ((2,), 3, 2), ((3,), 3, 2), ((1, 4), 2, 2), ((2, 4), 3, 2)],
)
def test_scenes_are_repeated_as_published(classes, train, tune):
    assert repetitions(classes, "train") == train
    assert repetitions(classes, "tune") == tune
    assert repetitions(classes, "none") == 1


def test_a_pass_shows_every_scene_as_often_as_it_is_repeated():
    order = epoch_order([1, 3, 2], EpochSampling(), seed=0, epoch=0)
    assert np.bincount(order).tolist() == [1, 3, 2]


def test_every_pass_has_an_order_of_its_own_that_follows_from_the_seed():
    def order(seed, epoch):
        return epoch_order([1] * 20, EpochSampling(), seed=seed, epoch=epoch).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) and order(0, 0) != order(1, 0)
    assert epoch_order([1] * 20, EpochSampling(shuffle=False), seed=0, epoch=3).tolist() == list(range(20))


def test_a_pass_leaves_out_or_keeps_its_last_part():
    assert batches_per_epoch(EpochSampling(batch_size=16), 50) == 3
    assert batches_per_epoch(EpochSampling(batch_size=16, drop_last=False), 50) == 4
    assert batches_per_epoch(EpochSampling(batch_size=16), 5) == 1
    assert batches_per_epoch(ClassSampling(batch_size=16), 50) == 4


@pytest.mark.parametrize(
    ("crop", "by", "low", "high"),
    [
        (736, (1.2, 0.8), 613, 920),
        (512, (1.1, 0.9), 465, 568),
        (480, (1.1, 0.9), 436, 533),
        (608, (1.15, 0.85), 528, 715),
        (512, (1.15, 0.85), 445, 602),
        (448, (1.15, 0.85), 389, 527),
        (608, (1.1, 0.9), 552, 675),
        (448, (1.1, 0.9), 407, 497),
    ],
)
def test_windows_have_the_published_range_of_sizes(crop, by, low, high):
    config = BestCrop(size=(round(1 / by[0], 4), round(1 / by[1], 4)), tries=(1, 1))
    rng = np.random.default_rng(0)
    sides = {draw_windows(config, crop, rng, height=1024, width=1024)[0].side for _ in range(6000)}
    assert (min(sides), max(sides)) == (low, high)


def test_windows_lie_inside_the_frame_and_share_one_size():
    config = BestCrop(size=(0.5, 2), tries=(1, 10))
    rng, counts = np.random.default_rng(0), set()
    for _ in range(300):
        windows = draw_windows(config, 32, rng, height=48, width=60)
        counts.add(len(windows))
        assert len({w.side for w in windows}) == 1 and windows[0].side <= 48
        assert all(0 <= w.row <= 48 - w.side and 0 <= w.column <= 60 - w.side for w in windows)
        assert all(w.output_px == 32 for w in windows)
    assert counts == set(range(1, 11))


def test_windows_relative_to_the_scene_have_sizes_of_their_own():
    config = BestCrop(size=(0.6, 0.9), relative_to="scene", tries=(5, 5))
    rng = np.random.default_rng(0)
    for _ in range(50):
        windows = draw_windows(config, 32, rng, height=100, width=120)
        assert len({w.side for w in windows}) == 5
        assert all(60 <= w.side <= 90 and w.row + w.side <= 100 and w.column + w.side <= 120 for w in windows)


def test_the_size_is_drawn_as_often_as_it_says():
    config, rng = BestCrop(size=(0.5, 0.9), p=0.3), np.random.default_rng(0)
    drawn = sum(draw_windows(config, 100, rng, height=200, width=200)[0].side != 100 for _ in range(3000))
    assert drawn / 3000 == pytest.approx(0.3, abs=3 * (0.21 / 3000) ** 0.5)


def test_the_inverted_swap_keeps_the_first_date_as_rarely_as_it_should_have_left_it():
    assert post_chance(EpochSampling(date_swap=0.015)) == 0.015
    assert post_chance(EpochSampling(date_swap=0.015, compat_inverted_swap=True)) == pytest.approx(0.985)
