"""Displacements that move images, masks and soft labels together, in pixels (N, 2, H, W), right and down."""

import torch
from torch import Tensor


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
