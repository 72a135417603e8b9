import numpy as np
import pytest

from aftermap.data.augment.chain import draw, draw_state, effective_probabilities
from aftermap.data.augment.operations import (
    BoxBlur,
    Brightness,
    ChannelShift,
    Clahe,
    Contrast,
    Dilation,
    HsvShift,
    Noise,
    OneOf,
    Saturation,
)


def counted(operations, *, dates, batches=40, batch=250, seed=0):
    """Share of samples on which each leaf fired, by date; and how many leaves fired per sample at most."""
    rng = np.random.default_rng(seed)
    fired, most = {}, 0
    for _ in range(batches):
        per_sample = np.zeros((batch, dates), int)
        for entry in draw(operations, rng, batch=batch, dates=dates):
            np.add.at(per_sample, (entry.samples, entry.dates), 1)
            for date in entry.dates:
                key = entry.operation.op, int(date)
                fired[key] = fired.get(key, 0) + 1
        most = max(most, int(per_sample.max()))
    return {key: value / batches / batch for key, value in fired.items()}, most


def group_a(outer, inner, **given):
    """The winner's two nested chains."""
    first = OneOf(p=outer, of=(Clahe(p=inner), Noise(p=inner), BoxBlur(p=inner)))
    second = OneOf(p=outer, of=(Saturation(p=inner), Brightness(p=inner), Contrast(p=inner)))
    return OneOf(of=(first, second), **given)


def chances(operations, dates):
    return [c.probability for c in effective_probabilities(operations, dates=dates)]


def test_group_a_has_the_published_probabilities():
    # p = .9, q = .96 are thresholds: gates of .1 and .04
    p, q = 0.9, 0.96
    first = [(1 - p) * (1 - q), (1 - p) * (1 - q) * q, (1 - p) * (1 - q) * q**2]
    expected = [*first, *(value * p for value in first)]
    assert chances([group_a(0.1, 0.04)], 1) == pytest.approx(expected)


def test_a_chain_over_each_date_has_the_same_probabilities_on_both():
    single = chances([group_a(0.1, 0.04)], 1)
    both = effective_probabilities([group_a(0.1, 0.04, dates="independent")], dates=2)
    assert [c.probability for c in both if c.date == 0] == pytest.approx(single)
    assert [c.probability for c in both if c.date == 1] == pytest.approx(single)


def test_first_date_else_second():
    chain = OneOf(of=(ChannelShift(p=0.04, dates="pre"), ChannelShift(p=0.04, dates="post")))
    found = effective_probabilities([chain], dates=2)
    assert [(c.date, c.probability) for c in found] == [(0, 0.04), (1, pytest.approx(0.96 * 0.04))]


def test_a_chain_tries_its_members_in_turn():
    assert chances([OneOf(of=(Clahe(p=0.5), Noise(p=0.5)))], 1) == [0.5, 0.25]


def test_nested_small_probabilities_multiply():
    chain = OneOf(of=(OneOf(p=0.01, of=(Clahe(p=0.01),)),), compat_per_batch=True)
    assert chances([chain], 1) == [pytest.approx(1e-4)]


def test_a_member_that_fires_on_either_date_ends_the_chain():
    chain = OneOf(of=(Clahe(p=0.5, dates="independent"), Noise(p=1.0, dates="both")))
    assert chances([chain], 2) == pytest.approx([0.5, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("operations", "dates"),
    [
        ([OneOf(of=(Clahe(p=0.5), Noise(p=0.5)))], 1),
        ([group_a(0.5, 0.4, dates="independent")], 2),
        ([OneOf(p=0.8, of=(ChannelShift(p=0.3, dates="pre"), HsvShift(p=0.6, dates="post")))], 2),
        ([OneOf(of=(Clahe(p=0.5, dates="independent"), Noise(p=1.0, dates="both")))], 2),
        ([Clahe(p=0.3, dates="both"), Noise(p=0.7)], 2),
    ],
)
def test_operations_fire_with_their_effective_probability(operations, dates):
    found, _ = counted(operations, dates=dates)
    for chance in effective_probabilities(operations, dates=dates):
        share = found.get((chance.operation.op, chance.date), 0.0)
        sigma = (chance.probability * (1 - chance.probability) / 10_000) ** 0.5
        assert share == pytest.approx(chance.probability, abs=4 * sigma)


def test_a_chain_changes_an_image_at_most_once():
    _, most = counted([group_a(0.9, 0.9, dates="independent")], dates=2, batches=4)
    assert most == 1


def test_gates_can_be_drawn_once_per_batch():
    chain = OneOf(of=(Clahe(p=0.5), Noise(p=0.5)), compat_per_batch=True)
    rng, seen = np.random.default_rng(0), []
    for _ in range(400):
        drawn = draw([chain], rng, batch=6, dates=1)
        assert len(drawn) <= 1 and all(len(entry.samples) == 6 for entry in drawn)
        seen.append(drawn[0].operation.op if drawn else None)
    assert seen.count("clahe") / 400 == pytest.approx(0.5, abs=0.1)
    assert seen.count("noise") / 400 == pytest.approx(0.25, abs=0.09)


def test_both_dates_share_their_draws_and_independent_ones_do_not():
    rng = np.random.default_rng(0)
    (shared,) = draw([ChannelShift(dates="both")], rng, batch=3, dates=2)
    assert shared.samples.tolist() == [0, 0, 1, 1, 2, 2] and shared.dates.tolist() == [0, 1] * 3
    assert np.array_equal(shared.state[::2], shared.state[1::2])
    pre, post = draw([ChannelShift()], rng, batch=3, dates=2)
    assert set(pre.dates) == {0} and set(post.dates) == {1}
    assert not np.array_equal(pre.state, post.state)


def test_masks_are_dilated_once_whatever_the_dates():
    (entry,) = draw([Dilation()], np.random.default_rng(0), batch=3, dates=2)
    assert entry.samples.tolist() == [0, 1, 2]


def test_whole_steps_are_drawn_for_bytes():
    rng = np.random.default_rng(0)
    state = draw_state(ChannelShift(amount=0.0196, compat_uint8=True), rng, 500)
    assert set(np.unique(state)) == set(range(-5, 6))
    state = draw_state(HsvShift(compat_uint8=True), rng, 500)
    assert set(np.unique(state)) == set(range(-5, 6))


def test_fractions_are_drawn_for_floats():
    state = draw_state(HsvShift(hue=0.01, saturation=0.02, value=0.03), np.random.default_rng(0), 1000)
    assert np.abs(state).max(0) == pytest.approx([0.01, 0.02, 0.03], rel=0.02)
    state = draw_state(Brightness(factor=(0.9, 1.1), add=(-0.2, 0)), np.random.default_rng(0), 1000)
    assert state.min(0) == pytest.approx([0.9, -0.2], abs=2e-3) and state.max(0) == pytest.approx(
        [1.1, 0], abs=2e-3
    )
