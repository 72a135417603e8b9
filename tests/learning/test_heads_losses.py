"""Losses of the Open Cities heads: every row of section 16.1 of its notes, and what happens to unknown pixels."""

import numpy as np
import pytest
import torch

from aftermap.classes import IGNORE
from aftermap.learning.losses.heads import (
    cell_targets,
    hard_pixel_cross_entropy,
    hard_pixels,
    image_focal,
    resolution_error,
    soft_cells,
)
from aftermap.learning.losses.pixel import cross_entropy, focal, harden, soft_kl
from aftermap.learning.losses.region import dice
from aftermap.scoring.original_scores import OpenCitiesScore

WEIGHTS = torch.tensor([0.25, 0.75])


def lin(start, end, *shape):
    return torch.linspace(start, end, torch.Size(shape).numel()).reshape(shape)


def worked_outputs():
    """Map, Dice and presence logits of the worked supervised step."""
    logits = lin(-1.5, 1.5, 1, 2, 4, 4).clone()
    logits[:, 1] *= -1
    return logits, lin(-1, 2, 1, 1, 4, 4), torch.tensor([[0.2, 0.4]])


def worked_mask():
    mask = torch.zeros(1, 16, 16, dtype=torch.int64)
    mask[:, 2:11, 4:15] = 1
    return mask


class TestFocal:
    x = lin(-2, 2, 2, 2, 3, 3)
    t = (torch.arange(18) % 3 == 0).long().reshape(2, 3, 3)

    def test_has_the_published_values(self):
        assert float(focal(self.x, self.t, class_weights=WEIGHTS, normalise=False)) == pytest.approx(
            0.125967, abs=1e-6
        )
        assert 18 * float(focal(self.x, self.t, class_weights=WEIGHTS, normalise=False)) == pytest.approx(
            2.267406, abs=1e-5
        )
        assert float(focal(self.x, self.t)) == pytest.approx(0.489735, abs=1e-6)
        assert float(focal(self.x, self.t, gamma=0, alpha=0.5)) == pytest.approx(0.495686, abs=1e-6)

    def test_of_images_has_the_published_values(self):
        logits, target = torch.tensor([[0.5, -0.3], [1.2, 0.7]]), torch.tensor([1, 0])
        assert float(image_focal(logits, target)) == pytest.approx(0.217517, abs=1e-6)
        assert float(image_focal(torch.softmax(logits, 1), target)) == pytest.approx(0.133099, abs=1e-6)

    def test_without_a_gradient_through_its_factor_has_that_of_weighted_cross_entropy(self):
        x = self.x.clone().requires_grad_()
        focal(x, self.t, compat_detached=True).backward()
        p = torch.softmax(self.x, dim=1)
        truth = torch.nn.functional.one_hot(self.t, 2).permute(0, 3, 1, 2)
        factor = (1 - (p * truth).sum(1, keepdim=True)) ** 2
        torch.testing.assert_close(x.grad, factor * (p - truth) / 18, atol=1e-7, rtol=0)

    def test_with_it_has_another_gradient_and_the_same_value(self):
        values, gradients = [], []
        for detached in (False, True):
            x = self.x.clone().requires_grad_()
            values.append(focal(x, self.t, compat_detached=detached))
            gradients.append(torch.autograd.grad(values[-1], x)[0])
        assert torch.equal(*values) and not torch.allclose(*gradients)


def test_dice_has_the_published_values():
    p = torch.sigmoid(lin(-2, 2, 1, 1, 4, 4))
    t = (torch.arange(16) % 4 < 2).reshape(1, 1, 4, 4)
    empty = torch.zeros(1, 1, 4, 4)
    assert dice(p, t, smooth=1.0).item() == pytest.approx(0.517188, abs=1e-6)
    assert dice(p, empty, smooth=1.0).item() == pytest.approx(0.888889, abs=1e-6)
    assert dice(empty, empty, smooth=1.0).item() == 0


class TestSoftLabels:
    x = lin(-1, 1, 1, 2, 2, 4)
    soft = torch.cat([1 - lin(0, 1, 1, 1, 2, 4), lin(0, 1, 1, 1, 2, 4)], dim=1)

    def test_have_the_published_divergence(self):
        mean = float(soft_kl(self.x, self.soft, compat_class_mean=True))
        assert mean == pytest.approx(0.203137, abs=1e-6)
        assert 16 * mean == pytest.approx(3.250196, abs=1e-5)

    def test_made_hard_keep_the_published_pixels_and_value(self):
        hard = harden(self.soft, 0.4, 0.6)
        assert 2 * int((hard != IGNORE).sum()) == 12  # the original counts both channels
        assert float(cross_entropy(self.x, hard)) / 2 == pytest.approx(0.414549, abs=1e-6)

    def test_of_the_worked_step_have_the_published_values(self):
        p = (0.9 * worked_mask() + 0.05)[:, None]
        cells = soft_cells(torch.cat([1 - p, p], dim=1), (4, 4))
        logits = worked_outputs()[0]
        assert float(soft_kl(logits, cells, compat_class_mean=True)) == pytest.approx(0.219456, abs=1e-6)
        assert float(cross_entropy(logits, harden(cells, 0.4, 0.6))) / 2 == pytest.approx(0.349548, abs=1e-6)

    def test_of_partly_unknown_cells_are_those_of_what_is_known(self):
        soft = torch.zeros(1, 2, 4, 8)
        soft[:, :, 1, 1:3] = torch.tensor([0.2, 0.8])[
            :, None
        ]  # the other half of the cell's pixels is unknown
        soft[:, :, 1, 5] = torch.tensor([0.2, 0.8])  # three quarters of them are
        cells = soft_cells(soft, (1, 2))
        assert cells[0, :, 0].T.tolist() == [pytest.approx([0.2, 0.8]), [0, 0]]


class TestCellTargets:
    def test_share_is_the_mean_of_the_four_middle_pixels(self):
        share = cell_targets(worked_mask(), (4, 4)).share
        rows = [[0, 0.5, 0.5, 0.5], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
        assert share[0, 1].tolist() == rows
        assert torch.equal(share.sum(1), torch.ones(1, 4, 4))

    def test_half_a_cell_makes_a_building_and_a_whole_one_does_in_the_original(self):
        ours = cell_targets(worked_mask(), (4, 4))
        original = cell_targets(worked_mask(), (4, 4), compat_truncate=True)
        assert (int(ours.index.sum()), int(original.index.sum())) == (9, 6)

    def test_the_worked_step_has_the_published_terms(self):
        logits, overlap, presence = worked_outputs()
        target = cell_targets(worked_mask(), (4, 4), compat_truncate=True)
        share = target.share[:, 1:]
        on_map = focal(logits, target.index, class_weights=WEIGHTS, normalise=False)
        on_dice = dice(torch.sigmoid(overlap), share, smooth=1.0)[0]
        on_presence = image_focal(presence, target.presence)
        assert float(on_map) == pytest.approx(0.131096, abs=1e-6)
        assert float(on_dice) == pytest.approx(0.463013, abs=1e-6)
        assert float(on_presence) == pytest.approx(0.090909, abs=1e-6)
        assert float(on_map + 0.1 * on_dice + on_presence) == pytest.approx(0.268307, abs=1e-6)
        hard = (torch.softmax(logits, dim=1)[:, 1:] >= 0.5).float()
        assert dice(hard, share, smooth=1.0).item() == pytest.approx(0.393939, abs=1e-6)

    def test_the_originals_validation_takes_the_softmax_of_the_image_head_twice(self):
        presence = torch.softmax(worked_outputs()[2], dim=1)
        assert float(image_focal(presence, torch.tensor([1]))) == pytest.approx(0.109118, abs=1e-6)

    def test_an_image_shows_a_building_where_any_cell_is_one(self):
        mask = torch.zeros(3, 16, 16, dtype=torch.int64)
        mask[1, 5:7, 5:6] = 1  # half of a cell's four pixels
        mask[2] = IGNORE
        assert cell_targets(mask, (4, 4)).presence.tolist() == [0, 1, IGNORE]
        assert cell_targets(mask, (4, 4), compat_truncate=True).presence.tolist() == [0, 0, IGNORE]

    def test_unknown_pixels_take_no_part_in_their_cell(self):
        mask = torch.full((1, 4, 12), IGNORE)
        mask[0, 1:3, 1] = 1  # one column known, and built on
        mask[0, 1, 5] = 1  # one pixel of four known
        target = cell_targets(mask, (1, 3))
        assert target.share[0, 1, 0].tolist() == [1, 0, 0]
        assert target.index[0, 0].tolist() == [1, IGNORE, IGNORE]
        assert target.known[0, 0].tolist() == [True, False, False]

    def test_of_several_classes_the_largest_of_those_that_make_half_of_it_is_taken(self):
        mask = torch.zeros(1, 4, 8, dtype=torch.int64)
        mask[0, 1:3, 1:3] = torch.tensor([[2, 2], [1, 0]])
        mask[0, 1:3, 5:7] = torch.tensor([[2, 0], [0, 0]])
        assert cell_targets(mask, (1, 2), classes=3).index[0, 0].tolist() == [2, 0]
        assert cell_targets(mask, (1, 2), classes=3, compat_truncate=True).index[0, 0].tolist() == [0, 0]


class TestHardPixels:
    def test_are_the_published_ones_in_their_order(self):
        logits = lin(-3, 3, 1, 2, 5, 6).clone()
        logits[:, 1] *= -1
        target = (torch.arange(30) % 2).reshape(1, 5, 6)
        losses = torch.nn.functional.cross_entropy(logits, target, reduction="none").flatten()
        order = [2, 27, 4, 25, 6, 23, 21, 8, 10, 19, 12, 17, 14, 15, 16, 13, 18, 11]
        found = hard_pixels(losses).tolist()
        assert sorted(found) == sorted(order)
        # pairs of one cost, such as 8 and 21, stand in either order
        torch.testing.assert_close(losses[found], losses[order], atol=1e-6, rtol=0)
        value = hard_pixel_cross_entropy(logits, target)
        assert float(value) == pytest.approx(float(losses[order].mean()), abs=1e-6)

    def test_pass_over_unknown_pixels(self):
        logits, target = lin(-3, 3, 1, 2, 5, 6), (torch.arange(30) % 2).reshape(1, 5, 6)
        expected = hard_pixel_cross_entropy(logits[:, :, :4], target[:, :4])
        target[:, 4] = IGNORE
        assert torch.equal(hard_pixel_cross_entropy(logits, target), expected)

    def test_without_any_known_pixel_cost_nothing(self):
        logits = lin(-3, 3, 1, 2, 5, 6).requires_grad_()
        hard_pixel_cross_entropy(logits, torch.full((1, 5, 6), IGNORE)).backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_scale_head_learns_the_logarithm_of_known_resolutions():
    scale = torch.tensor([[0.5], [0.0], [7.0]], requires_grad=True)
    resolution = torch.tensor([0.07, 0.07 * np.e**2, torch.nan])
    value = resolution_error(scale, resolution, 0.07)
    value.backward()
    assert value.item() == pytest.approx((0.5 * 0.5**2 + (2 - 0.5)) / 2, abs=1e-6)
    assert scale.grad[:, 0].tolist() == pytest.approx([0.25, -0.5, 0], abs=1e-6)


class TestOriginalValidationScore:
    def test_counts_both_classes_at_once(self):
        score = OpenCitiesScore()
        truth, predicted = (np.array([v]) for v in ([1, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 1, 0, 0]))
        score.update(predicted, truth)
        assert score.result()["score"] == pytest.approx(0.6)  # the index of the buildings alone is 0.5

    def test_has_the_published_values_of_the_worked_step(self):
        logits, overlap, _ = worked_outputs()
        truth = cell_targets(worked_mask(), (4, 4), compat_truncate=True).index[0].numpy()
        for probability, expected in (
            (torch.softmax(logits, dim=1)[0, 1], 0.333333),
            (torch.sigmoid(overlap)[0, 0], 0.523810),
        ):
            score = OpenCitiesScore()
            score.update(probability.numpy(), truth)
            assert score.result()["score"] == pytest.approx(expected, abs=1e-6)

    def test_is_the_mean_of_the_scenes_and_passes_over_unknown_pixels(self):
        score = OpenCitiesScore()
        score.update(np.array([[1, 0, 1]]), np.array([[1, 0, IGNORE]]))
        score.update(np.array([[1, 0]]), np.array([[0, 1]]))
        score.update(np.array([[1]]), np.array([[IGNORE]]))
        assert score.result()["score"] == pytest.approx(0.5)
