"""Turned images in other colours, for features that are to stay as they are."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aftermap.learning.configs.incremental_terms import ColourJitter

_GREY = (0.2989, 0.587, 0.114)


def jittered(
    images: Tensor, jitter: ColourJitter, mean: Sequence[float], std: Sequence[float], *, alike: bool = False
) -> Tensor:
    """Normalised images (B, T, C, H, W) with brightness, contrast and saturation of their own, in random order.

    Args:
        images: all dates of a sample change alike.
        jitter: how far.
        mean: of every band, in units of 0 to 255, that was subtracted.
        std: what was divided by.
        alike: one draw for the whole batch.

    Source: torchvision's ColorJitter, on values of 0 to 1.
    """
    count, bands = len(images), images.shape[2]
    shape = (1, 1, bands, 1, 1)
    middle, width = (images.new_tensor(v).reshape(shape) / 255 for v in (mean, std))
    values = images if jitter.compat_clipped else images * width + middle
    for number in torch.randperm(3).tolist():
        amount = (jitter.brightness, jitter.contrast, jitter.saturation)[number]
        draws = torch.rand(1).expand(count) if alike else torch.rand(count)
        if not amount or (number == 2 and bands != len(_GREY)):
            continue
        factor = (1 + amount * (2 * draws - 1)).to(images).reshape(-1, 1, 1, 1, 1)
        values = _blended(values, factor, number)
    return values if jitter.compat_clipped else (values - middle) / width


def _blended(values: Tensor, factor: Tensor, number: int) -> Tensor:
    """Values of 0 to 1 moved away from black, from their mean grey or from the grey of each pixel."""
    if number == 0:
        return (factor * values).clamp(0, 1)
    weights = values.new_tensor(
        _GREY if values.shape[2] == len(_GREY) else [1 / values.shape[2]] * values.shape[2]
    )
    grey = (values * weights.reshape(1, 1, -1, 1, 1)).sum(dim=2, keepdim=True)
    other = grey.mean(dim=(-3, -2, -1), keepdim=True) if number == 1 else grey
    return (factor * values + (1 - factor) * other).clamp(0, 1)
