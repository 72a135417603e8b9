"""One date that lies beside the other, by hand."""

import numpy as np
import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.data.augment.apply import apply_to_floats
from aftermap.data.augment.chain import Drawn, draw, draw_state, effective_probabilities
from aftermap.data.augment.misregistration import Misregistration
from aftermap.data.augment.operations import Brightness


def moved(image, mask, state, *, dates="post"):
    """A sample (T, H, W) of one band after a move of (right, down, right and down of buildings besides)."""
    date = int(dates == "post")
    entry = Drawn(Misregistration(dates=dates), np.array([0]), np.array([date]), np.array([state], float))
    found, kept, _ = apply_to_floats([entry], image[None, :, None], mask[None])
    assert torch.equal(kept[0], mask)
    return found[0, :, 0]


def test_one_date_moves_and_the_other_and_the_mask_stay():
    image = torch.arange(40.0, dtype=torch.float64).reshape(2, 4, 5) / 40
    mask = torch.zeros(4, 5, dtype=torch.long)
    found = moved(image, mask, [2, 1, 0, 0])
    assert torch.equal(found[0], image[0])
    torch.testing.assert_close(found[1, 1:, 2:], image[1, :3, :3])  # two to the right, one down
    found = moved(image, mask, [-1, 0, 0, 0], dates="pre")
    torch.testing.assert_close(found[0, :, :4], image[0, :, 1:])
    assert torch.equal(found[1], image[1])


def test_half_a_pixel_is_the_mean_of_two():
    image = torch.tensor([[0.0, 0.2, 0.6, 1.0]], dtype=torch.float64).expand(2, 1, 4).repeat(1, 2, 1)
    found = moved(image, torch.zeros(2, 4, dtype=torch.long), [0.5, 0, 0, 0])
    assert found[1, 0, 1:].tolist() == pytest.approx([0.1, 0.4, 0.8])


def test_roofs_lean_over_the_ground_beside_them_and_leave_a_wall():
    row = torch.tensor([0.1, 0.1, 0.1, 0.5, 0.6, 0.7, 0.2, 0.3, 0.4], dtype=torch.float64)
    image = row.expand(2, 2, 9).clone()
    # a building of unknown damage stays
    mask = torch.tensor([0, 0, 0, 2, 1, 4, 0, IGNORE, 0]).expand(2, 9).clone()
    found = moved(image, mask, [0, 0, 2, 0])
    # the roof 0.5, 0.6, 0.7 comes to lie two pixels to the right; where it stood its pixels stay
    assert found[1, 0].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.5, 0.6, 0.5, 0.6, 0.7, 0.4])
    found = moved(image, mask, [-1, 0, 2, 0])  # and all of it moves, too
    assert found[1, 0, :8].tolist() == pytest.approx([0.1, 0.1, 0.5, 0.6, 0.5, 0.6, 0.7, 0.4])


def test_moves_are_drawn_within_their_reach_and_in_every_direction():
    state = draw_state(Misregistration(shift_px=3, lean_px=4), np.random.default_rng(0), 2000)
    shifts, leans = state[:, :2], np.hypot(state[:, 2], state[:, 3])
    assert np.abs(shifts).max() == pytest.approx(3, abs=0.02) and np.abs(shifts.mean(axis=0)).max() < 0.15
    assert leans.max() == pytest.approx(4, abs=0.02) and leans.mean() == pytest.approx(2, abs=0.1)
    assert np.abs(state[:, 2:].mean(axis=0)).max() < 0.15


def test_only_the_date_that_is_meant_is_moved_or_toned():
    operations = [Misregistration(p=0.5), Brightness(dates="post", add=(0.1, 0.1))]
    found = {(c.operation.op, c.date): c.probability for c in effective_probabilities(operations, dates=2)}
    assert found == {("misregistration", 1): 0.5, ("brightness", 1): 1.0}
    drawn = draw(operations, np.random.default_rng(0), batch=1, dates=2)
    image, mask = torch.full((1, 2, 3, 4, 4), 0.5), torch.zeros(1, 4, 4, dtype=torch.long)
    found, _, _ = apply_to_floats(drawn, image, mask)
    assert torch.equal(found[:, 0], image[:, 0])
    torch.testing.assert_close(found[:, 1], image[:, 1] + 0.1)
