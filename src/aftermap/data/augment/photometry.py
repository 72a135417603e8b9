"""Photometric operations on batches of floats, with everything drawn beforehand given as arguments.

Images are float (N, 3, H, W), red, green and blue in 0..1, and so are the results. Parameters are (N,) or (N, 3).
"""

import math

import kornia
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE


def shift_channels(image: Tensor, shift: Tensor) -> Tensor:
    """Add a value (N, 3) to each band."""
    return (image + shift[:, :, None, None]).clamp(0, 1)


def shift_hsv(image: Tensor, shift: Tensor) -> Tensor:
    """Add (N, 3) to hue (1 is the whole circle), saturation and value."""
    hue, saturation, value = kornia.color.rgb_to_hsv(image).unbind(1)
    by = shift[:, :, None, None]
    hue = (hue + by[:, 0] * (2 * torch.pi)) % (2 * torch.pi)
    hsv = torch.stack([hue, (saturation + by[:, 1]).clamp(0, 1), (value + by[:, 2]).clamp(0, 1)], dim=1)
    result: Tensor = kornia.color.hsv_to_rgb(hsv).clamp(0, 1)
    return result


def equalize(image: Tensor, *, clip_limit: float, grid: int) -> Tensor:
    """Contrast-limited adaptive histogram equalisation of each band, in `grid` x `grid` tiles (fewer if small)."""
    tiles = max(1, min(grid, *(side // 4 for side in image.shape[-2:])))
    equal: Tensor = kornia.enhance.equalize_clahe(image, clip_limit, (tiles, tiles))
    return equal.clamp(0, 1)


def add_noise(image: Tensor, noise: Tensor) -> Tensor:
    """Add noise of the image's shape."""
    return (image + noise).clamp(0, 1)


def blur_box(image: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels; mirrored at the frame."""
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def blur_gaussian(image: Tensor, sigma_px: Tensor) -> Tensor:
    """Gaussian mean of 5 x 5 pixels with a sigma (N,) for each image."""
    blurred: Tensor = kornia.filters.gaussian_blur2d(image, (5, 5), sigma_px[:, None].expand(-1, 2))
    return blurred.clamp(0, 1)


def change_saturation(image: Tensor, factor: Tensor) -> Tensor:
    """Multiply the saturation of HSV by (N,)."""
    hue, saturation, value = kornia.color.rgb_to_hsv(image).unbind(1)
    saturation = (saturation * factor[:, None, None]).clamp(0, 1)
    result: Tensor = kornia.color.hsv_to_rgb(torch.stack([hue, saturation, value], dim=1))
    return result.clamp(0, 1)


def change_brightness(image: Tensor, factor: Tensor, add: Tensor) -> Tensor:
    """Multiply by `factor` (N,), then add `add` (N,)."""
    return (image * factor[:, None, None, None] + add[:, None, None, None]).clamp(0, 1)


def change_contrast(image: Tensor, factor: Tensor, *, about_mean: bool) -> Tensor:
    """Stretch by (N,) about the mean grey of each image, or about zero."""
    by = factor[:, None, None, None]
    if not about_mean:
        return (image * by).clamp(0, 1)
    mean = kornia.color.rgb_to_grayscale(image[:, :3]).mean(dim=(1, 2, 3), keepdim=True)
    stretched: Tensor = (image * by + mean * (1 - by)).clamp(0, 1)
    return stretched


def change_gamma(image: Tensor, exponent: Tensor) -> Tensor:
    """Raise to the power (N,)."""
    result: Tensor = image.clamp(0, 1) ** exponent[:, None, None, None]
    return result


def to_gray(image: Tensor) -> Tensor:
    """The weighted grey in all three bands."""
    gray: Tensor = kornia.color.rgb_to_grayscale(image)
    return gray.expand(-1, 3, -1, -1)


def displacement(noise: Tensor, amount_px: Tensor, *, sigma_px: float) -> Tensor:
    """Displacements in pixels (N, 2, H, W), right and down, of noise in -1..1 and an amplitude (N,) or (N, 2)."""
    if sigma_px >= 1 / 3:
        # beyond three sigmas nothing is left, and a mirrored frame has to be wider than its margin
        radius = min(round(3 * sigma_px) + 1, min(noise.shape[-2:]) - 1)
        noise = kornia.filters.gaussian_blur2d(noise, (2 * radius + 1,) * 2, (sigma_px, sigma_px))
    amount = amount_px if amount_px.ndim == 2 else amount_px[:, None]
    return noise * amount[:, :, None, None]


def displace(image: Tensor, offset_px: Tensor, *, nearest: bool = False) -> Tensor:
    """Read every pixel (N, C, H, W) at its place plus an offset (N, 2, H, W) right and down; mirrored at the frame."""
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=image.device, dtype=image.dtype)
    columns = torch.arange(width, device=image.device, dtype=image.dtype)
    x = (columns + offset_px[:, 0]) * (2 / max(width - 1, 1)) - 1
    y = (rows[:, None] + offset_px[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([x, y], dim=-1)
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(image, grid, mode=mode, padding_mode="reflection", align_corners=True)


def misregister(image: Tensor, mask: Tensor, moved_px: Tensor) -> Tensor:
    """Move images (N, C, H, W), and what the mask (N, H, W) calls buildings a little further; mirrored at the frame.

    Args:
        image: is read between pixels where it moves by parts of them.
        mask: classes, in the place that they keep.
        moved_px: (N, 4), right and down of everything, then of buildings besides.
    """
    by, lean = moved_px[:, :2, None, None], moved_px[:, 2:, None, None]
    if lean.any():
        known = (mask > 0) & (mask != IGNORE)
        away = -lean.expand(-1, -1, *mask.shape[1:])
        # a pixel shows a roof where one comes to lie on it
        roof = displace(known[:, None].to(image.dtype), away, nearest=True)
        image = displace(image, away * roof)
    if by.any():
        image = displace(image, -by.expand(-1, -1, *mask.shape[1:]))
    return image.clamp(0, 1)


def dilate(mask: Tensor, *, size_px: int) -> Tensor:
    """Grow the classes (N, H, W) by a square; the higher class wins and IGNORE stays as it is."""
    ignored = mask == IGNORE
    planes = mask.masked_fill(ignored, 0).float()[:, None]
    before = (size_px - 1) // 2
    padded = F.pad(planes, (before, size_px - 1 - before) * 2, value=0.0)
    grown = F.max_pool2d(padded, size_px, stride=1)[:, 0]
    return torch.where(ignored, mask, grown.to(mask.dtype))


def cut_out(image: Tensor, corners: Tensor, *, size_px: int) -> Tensor:
    """Blacken squares; `corners` (N, 2 K) are fractions of what each may move down and right."""
    height, width = image.shape[-2:]
    result = image.clone()
    for sample, places in zip(result, corners.reshape(len(corners), -1, 2).tolist(), strict=True):
        for down, right in places:
            row = int(down * max(height - size_px + 1, 1))
            column = int(right * max(width - size_px + 1, 1))
            sample[:, row : row + size_px, column : column + size_px] = 0
    return result


def drop_channels(image: Tensor, drawn: np.ndarray, *, modality: bool) -> Tensor:
    """Blacken whole bands of images (N, C, H, W): so many as drawn (N, 2) says, with the seed of which.

    Args:
        image: of any number of bands; one stays at least.
        drawn: number of bands and seed.
        modality: the first three bands, or those after them.
    """
    bands = image.shape[1]
    result = image.clone()
    for sample, (number, seed) in zip(result, drawn.tolist(), strict=True):
        rng = np.random.default_rng(int(seed))
        if modality:
            gone = np.arange(3) if rng.integers(2) else np.arange(3, bands)
        else:
            gone = rng.permutation(bands)[: int(number)]
        if len(gone) < bands:
            sample[gone] = 0
    return result


def blur_motion(image: Tensor, size_px: Tensor, angle: Tensor) -> Tensor:
    """Mean along a line of odd length (N,) at an angle (N,) in radians, counter-clockwise from the right."""
    largest = int(size_px.max())
    reach = largest // 2
    kernels = image.new_zeros(len(image), largest, largest)
    for kernel, size, turn in zip(kernels, size_px.tolist(), angle.tolist(), strict=True):
        for step in range(-int(size // 2), int(size // 2) + 1):
            down, right = -round(step * math.sin(turn)), round(step * math.cos(turn))
            kernel[reach + down, reach + right] += 1 / size
    blurred: Tensor = kornia.filters.filter2d(image, kernels)
    return blurred
