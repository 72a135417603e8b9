"""Drawn operations carried out: one exhaustive match from configuration to function for bytes, one for floats."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from aftermap.data.augment import eight_bit, photometry
from aftermap.data.augment.chain import Drawn
from aftermap.data.augment.misregistration import Misregistration
from aftermap.data.augment.operations import (
    BoxBlur,
    Brightness,
    ChannelDropout,
    ChannelShift,
    Clahe,
    Contrast,
    Cutout,
    Dilation,
    EightBit,
    Elastic,
    Gamma,
    GaussianBlur,
    Grayscale,
    GridDistortion,
    HsvShift,
    Leaf,
    MotionBlur,
    Noise,
    OpticalDistortion,
    Saturation,
    Warp,
    is_eight_bit,
)

_ON_COLOURS = (ChannelShift, HsvShift, Clahe, Saturation, Grayscale)


def apply_to_bytes(drawn: Sequence[Drawn], images: np.ndarray) -> list[Drawn]:
    """Change uint8 images (B, T, H, W, C) in place; returns the operations that work on floats.

    The first three bands are red, green and blue; further ones are left as they are.
    """
    for entry in drawn:
        if is_eight_bit(entry.operation):
            for sample, date, state in zip(entry.samples, entry.dates, entry.state, strict=True):
                bgr = np.ascontiguousarray(images[sample, date, ..., 2::-1])
                images[sample, date, ..., :3] = _on_bytes(entry.operation, bgr, state)[..., ::-1]
    return [entry for entry in drawn if not is_eight_bit(entry.operation)]


@torch.no_grad()
def apply_to_floats(
    drawn: Sequence[Drawn], image: Tensor, mask: Tensor, soft: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Change images float (B, T, C, H, W) in 0..1, masks int64 (B, H, W) and soft labels (B, K, H, W).

    All stay on their device; new ones are returned. The mask and soft labels are read at the nearest pixel.

    Only what was drawn is touched, so nothing that an operation makes of other images can leak into them.
    """
    image, mask = image.clone(), mask.clone()
    soft = None if soft is None else soft.clone()
    for entry in drawn:
        samples = torch.from_numpy(entry.samples).to(image.device)
        operation = entry.operation
        if isinstance(operation, Dilation):
            mask[samples] = photometry.dilate(mask[samples], size_px=operation.size_px)
            continue
        dates = torch.from_numpy(entry.dates).to(image.device)
        state = torch.from_numpy(entry.state).to(image.device, image.dtype)
        chosen = image[samples, dates]  # (N, C, H, W)
        if isinstance(operation, Misregistration):
            image[samples, dates] = photometry.misregister(chosen, mask[samples], state)
            continue
        if isinstance(operation, Warp):
            offset = _offset(operation, entry.state, chosen)
            image[samples, dates] = photometry.displace(chosen, offset).clamp(0, 1)
            if not (isinstance(operation, Elastic) and operation.compat_image_only):
                moved = photometry.displace(mask[samples, None].to(image.dtype), offset, nearest=True)
                mask[samples] = moved[:, 0].round().long()
                if soft is not None:
                    soft[samples] = photometry.displace(soft[samples], offset, nearest=True)
            continue
        image[samples, dates] = _on_floats(operation, chosen, state, entry.state)
    return image, mask, soft


def _on_bytes(operation: Leaf, image: np.ndarray, state: np.ndarray) -> np.ndarray:
    """One operation on one image (H, W, 3), blue, green and red."""
    assert isinstance(operation, EightBit)
    match operation:
        case ChannelShift():
            red, green, blue = (int(value) for value in state)
            return eight_bit.shift_channels(image, blue, green, red)
        case HsvShift():
            return eight_bit.shift_hsv(image, *(int(value) for value in state))
        case Clahe(clip_limit=clip_limit, grid=grid):
            return eight_bit.equalize(image, clip_limit=clip_limit, grid=grid)
        case Noise():
            field = np.random.default_rng(int(state[0])).normal(
                eight_bit.NOISE_MEAN, eight_bit.NOISE_STD, image.shape
            )
            return eight_bit.add_noise(image, field)
        case BoxBlur():
            return eight_bit.blur_box(image)
        case Saturation():
            return eight_bit.change_saturation(image, float(state[0]))
        case Brightness():
            return eight_bit.change_brightness(image, float(state[0]))
        case Contrast():
            return eight_bit.change_contrast(image, float(state[0]))
        case _:
            assert_never(operation)


def _on_floats(operation: Leaf, image: Tensor, state: Tensor, exact: np.ndarray) -> Tensor:
    """One operation on images (N, C, H, W) with state (N, k); `exact` is the state before rounding to floats.

    What works on colours looks at the first three bands, and leaves the others.
    """
    if image.shape[1] > 3 and isinstance(operation, _ON_COLOURS):
        return torch.cat([_on_floats(operation, image[:, :3], state, exact), image[:, 3:]], dim=1)
    match operation:
        case ChannelShift():
            return photometry.shift_channels(image, state)
        case HsvShift():
            return photometry.shift_hsv(image, state)
        case Clahe(clip_limit=clip_limit, grid=grid):
            return photometry.equalize(image, clip_limit=clip_limit, grid=grid)
        case Noise(std=std):
            fields = [_field(seed, tuple(image.shape[1:]), normal=True) for seed in exact[:, 0]]
            return photometry.add_noise(image, std * torch.from_numpy(np.stack(fields)).to(image))
        case BoxBlur():
            return photometry.blur_box(image)
        case GaussianBlur():
            return photometry.blur_gaussian(image, state[:, 0])
        case Saturation():
            return photometry.change_saturation(image, state[:, 0])
        case Brightness():
            return photometry.change_brightness(image, state[:, 0], state[:, 1])
        case Contrast(about=about):
            return photometry.change_contrast(image, state[:, 0], about_mean=about == "mean")
        case Gamma():
            return photometry.change_gamma(image, state[:, 0])
        case Grayscale():
            return photometry.to_gray(image)
        case Cutout(size_px=size_px):
            return photometry.cut_out(image, state, size_px=size_px)
        case ChannelDropout(modality=modality):
            return photometry.drop_channels(image, exact, modality=modality)
        case MotionBlur():
            return photometry.blur_motion(image, state[:, 0], state[:, 1])
        case Elastic() | GridDistortion() | OpticalDistortion() | Dilation() | Misregistration():
            raise AssertionError(f"{operation.op} looks at the mask as well")
        case _:
            assert_never(operation)


def _offset(operation: Warp, state: np.ndarray, image: Tensor) -> Tensor:
    """Displacements (N, 2, H, W) from what was drawn for each image."""
    height, width = image.shape[-2:]
    if isinstance(operation, GridDistortion):
        return grid_displacement(torch.from_numpy(state).to(image), height=height, width=width)
    if isinstance(operation, OpticalDistortion):
        return lens_displacement(torch.from_numpy(state[:, 0]).to(image), height=height, width=width)
    fields = np.stack([_field(seed, (2, *image.shape[-2:]), normal=False) for seed in state[:, 0]])
    amount = torch.from_numpy(state[:, 1:].repeat(2, axis=1)).to(image)
    if operation.compat_rows_only:
        amount[:, 0] = 0
    return photometry.displacement(torch.from_numpy(fields).to(image), amount, sigma_px=operation.sigma_px)


def _field(seed: float, shape: tuple[int, ...], *, normal: bool) -> np.ndarray:
    """Noise, drawn on the CPU so that every device gets the same: standard normal, or uniform in -1..1."""
    rng = np.random.default_rng(int(seed))
    if normal:
        return rng.standard_normal(shape, np.float32)
    return rng.random(shape, np.float32) * 2 - 1


def grid_displacement(factors: Tensor, *, height: int, width: int) -> Tensor:
    """Of a grid whose cells are as many as there are factors, each read with the given stretch.

    Args:
        factors: (N, 2 C), of the columns and then of the rows; 1 leaves a cell as it is.
        height: of the image.
        width: of the image.

    Source: albumentations 0.4, `GridDistortion`: cells of whole pixels, one more for what is left over, which is
    read up to the frame.
    """
    cells = factors.shape[1] // 2
    across = _stretched(factors[:, :cells], width)
    down = _stretched(factors[:, cells:], height)
    size = (len(factors), height, width)
    return torch.stack([across[:, None].expand(size), down[:, :, None].expand(size)], dim=1)


def _stretched(factors: Tensor, length: int) -> Tensor:
    """Offsets (N, L) along one axis: each cell goes on where the one before it ended."""
    count, cells = factors.shape
    step = length // cells
    source = factors.new_zeros(count, length)
    at = factors.new_zeros(count)
    for cell in range(cells + 1):
        first, end = cell * step, (cell + 1) * step
        if end > length:  # what is left over, up to the frame
            end, after = length, torch.full_like(at, float(length))
        else:
            after = at + step * factors[:, min(cell, cells - 1)]
        if first < end:
            share = torch.linspace(0, 1, end - first, device=factors.device, dtype=factors.dtype)
            source[:, first:end] = at[:, None] + share * (after - at)[:, None]
        at = after
    return source - torch.arange(length, device=factors.device, dtype=factors.dtype)


def lens_displacement(strength: Tensor, *, height: int, width: int) -> Tensor:
    """Of a lens with strength k (N,): what is at radius r is read at r (1 + k r^2 + k r^4).

    Radii are in widths, from the point (width / 2, height / 2); negative k looks like a barrel.

    Source: albumentations 0.4, `OpticalDistortion`, which goes through OpenCV's camera model.
    """
    x = (torch.arange(width, device=strength.device, dtype=strength.dtype) - width / 2) / width
    y = (torch.arange(height, device=strength.device, dtype=strength.dtype) - height / 2) / width
    square = x**2 + y[:, None] ** 2
    growth = strength[:, None, None] * (square + square**2) * width
    return torch.stack([growth * x, growth * y[:, None]], dim=1)
