"""The strongly changed images that a student of its own teacher is shown, drawn and made on the device of the batch."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from aftermap.learning.configs.mean_teacher import StrongConfig


def strong_view(image: Tensor, config: StrongConfig) -> tuple[Tensor, Tensor]:
    """Another version of normalised images (B, T, C, H, W), by torch's random numbers.

    Returns:
        The images, and bool (B, H, W): what is shown of them.
    """
    b, t, c, height, width = image.shape
    one, band = (b, t, 1, 1, 1), (b, t, c, 1, 1)
    # half of what all bands share, half of what each has for itself, so that colours change less than light
    power = 0.75 * _between(one, image) + 0.25 * _between(band, image)
    offset = 0.75 * _between(one, image) + 0.25 * _between(band, image)
    changed = image * (1 + config.contrast) ** power + config.brightness * offset
    smooth = avg_pool2d(changed.flatten(0, 1), 3, 1, 1, count_include_pad=False).reshape(changed.shape)
    changed = torch.where(_random(one, image) < config.blur, smooth, changed)
    changed = changed + torch.randn_like(changed) * config.noise * _random(one, image)
    rows, cols = -(-height // config.cutout_px), -(-width // config.cutout_px)
    shown = (_random((b, 1, rows, cols), image) >= config.cutout).to(image.dtype)
    grown = interpolate(shown, scale_factor=float(config.cutout_px), mode="nearest")[:, 0, :height, :width]
    return changed * grown[:, None, None], grown > 0


def _random(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.rand(shape, device=like.device, dtype=like.dtype)


def _between(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """From -1 to 1."""
    return 2 * _random(shape, like) - 1
