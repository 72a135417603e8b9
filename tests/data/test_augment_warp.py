"""Operations of Open Cities: warps that move labels too, holes, and motion blur."""

import cv2
import numpy as np
import pytest
import torch

from aftermap.data.augment.apply import apply_to_floats, grid_displacement, lens_displacement
from aftermap.data.augment.chain import Drawn, draw
from aftermap.data.augment.operations import Cutout, GridDistortion, MotionBlur, OpticalDistortion
from aftermap.data.augment.photometry import blur_motion, cut_out


def test_factors_of_one_leave_whole_cells_stretched_to_their_ends():
    offset = grid_displacement(torch.ones(1, 4), height=8, width=8)
    # each cell of 4 px is read from its first to one past its last pixel, as the original's linspace does
    np.testing.assert_allclose(offset[0, 0, 0], [0, 1 / 3, 2 / 3, 1, 0, 1 / 3, 2 / 3, 1], atol=1e-6)


def test_cells_go_on_where_the_one_before_ended():
    factors = torch.tensor([[0.5, 1.5, 1.0, 1.0]])
    offset = grid_displacement(factors, height=8, width=9)
    source = offset[0, 0, 0] + torch.arange(9)
    np.testing.assert_allclose(source, [0, 2 / 3, 4 / 3, 2, 2, 4, 6, 8, 8], atol=1e-6)
    assert torch.equal(offset[0, 1, :, 0] + torch.arange(8), offset[0, 1, :, 5] + torch.arange(8))


def test_what_is_left_over_is_read_up_to_the_frame():
    offset = grid_displacement(torch.ones(1, 6), height=6, width=8)
    source = offset[0, 0, 0] + torch.arange(8)
    np.testing.assert_allclose(source, [0, 2, 2, 4, 4, 6, 6, 8], atol=1e-6)


@pytest.mark.parametrize("strength", [-0.4, 0.3, 2.0])
def test_the_lens_is_that_of_opencv(strength):
    height, width = 40, 56
    offset = lens_displacement(torch.tensor([strength], dtype=torch.float64), height=height, width=width)[0]
    camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float64)
    lens = np.array([strength, strength, 0, 0, 0], np.float64)
    x, y = cv2.initUndistortRectifyMap(camera, lens, None, camera, (width, height), cv2.CV_32FC1)
    np.testing.assert_allclose(offset[0] + torch.arange(width), x, atol=1e-3)
    np.testing.assert_allclose(offset[1] + torch.arange(height)[:, None], y, atol=1e-3)


@pytest.mark.parametrize("operation", [GridDistortion(limit=0.5), OpticalDistortion(limit=1.5)])
def test_dates_mask_and_soft_labels_move_together(operation):
    ramp = torch.linspace(0, 1, 48)[:, None] * torch.linspace(0.2, 1, 48)
    image = ramp.expand(2, 2, 3, 48, 48)
    mask = (ramp * 100).round().long().expand(2, 48, 48)
    soft = ramp.expand(2, 1, 48, 48)
    drawn = draw([operation], np.random.default_rng(3), batch=2, dates=2)
    out, moved, softer = apply_to_floats(drawn, image, mask, soft)
    assert (out[0] - image[0]).abs().max() > 0.02
    torch.testing.assert_close(out[:, 0], out[:, 1])
    assert (out[:, 0, 0] - moved / 100).abs().mean() < 0.01
    assert (out[:, 0, :1] - softer).abs().mean() < 0.01


def test_holes_are_black_and_as_many_as_asked_for():
    image = torch.ones(1, 3, 20, 20)
    out = cut_out(image, torch.tensor([[0.0, 0.0, 0.999, 0.999]]), size_px=4)
    assert out[0, 0, :4, :4].sum() == 0 and out[0, 0, 16:, 16:].sum() == 0
    assert int((out[0, 0] == 0).sum()) == 32 and image.min() == 1


def test_a_level_line_blurs_along_rows_only():
    image = torch.zeros(1, 3, 9, 9)
    image[:, :, 4, 4] = 1
    level = blur_motion(image, torch.tensor([5.0]), torch.tensor([0.0]))[0, 0]
    np.testing.assert_allclose(level[4], [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2, 0, 0], atol=1e-6)
    assert level.sum() == pytest.approx(1) and level[3].sum() == 0
    upright = blur_motion(image, torch.tensor([3.0]), torch.tensor([np.pi / 2]))[0, 0]
    np.testing.assert_allclose(upright[:, 4], [0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0], atol=1e-6)


def test_lengths_of_lines_are_odd_and_in_range():
    drawn = draw([MotionBlur(size_px=(3, 7))], np.random.default_rng(0), batch=200, dates=1)
    assert set(drawn[0].state[:, 0].tolist()) == {3.0, 5.0, 7.0}


def test_holes_leave_the_mask_alone():
    mask = torch.ones(1, 16, 16, dtype=torch.int64)
    drawn = [Drawn(Cutout(holes=2), np.array([0]), np.array([0]), np.array([[0.1, 0.1, 0.9, 0.9]]))]
    out, kept, _ = apply_to_floats(drawn, torch.ones(1, 1, 3, 16, 16), mask)
    assert torch.equal(kept, mask) and (out == 0).any()
