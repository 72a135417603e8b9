"""Encoders whose weights were trained on red, green and blue, for images with more bands."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from aftermap.errors import ModelError
from aftermap.models.configs.encoder import EncoderWeights, ExtraBands
from aftermap.models.weights.pretrained import create_timm, encoder_file, read_weights

RGB = 3


def create_banded(
    name: str,
    *,
    in_channels: int,
    weights: EncoderWeights,
    extra_bands: ExtraBands = "red",
    fold: int = 1,
    compat_band_order: bool = False,
    **options: Any,
) -> nn.Module:
    """A timm model as `create_timm` makes it; weights for three bands are widened to the bands of the image.

    Args:
        name: timm's name, with or without a tag.
        in_channels: bands of the image; the first three are those that the weights know, in their order.
        weights: where they come from; weights that have the image's bands already are taken as they are.
        extra_bands: how bands behind the third start.
        fold: blocks of so many pixels squared reach the model as channels, the bands of one pixel side by side.
        compat_band_order: see `widened`.
        options: passed on to timm.

    Raises:
        ModelError: the weights are not there, cannot be fetched, or do not fit.
    """
    if weights is None or in_channels <= RGB:
        return create_timm(name, in_channels=in_channels * fold**2, weights=weights, **options)
    model = create_timm(name, in_channels=in_channels * fold**2, **options)
    own = model.state_dict()
    path = encoder_file(name, weights)
    state = read_weights(path)
    if all(key in state and state[key].shape == value.shape for key, value in own.items()):
        model.load_state_dict({key: state[key] for key in own})
        return model
    three = create_timm(name, in_channels=RGB, weights=path, **options).state_dict()
    first = [key for key in own if own[key].shape != three[key].shape]
    if len(first) != 1:
        raise ModelError(
            f"encoder {name} has {len(first)} weights that depend on the number of bands, expected its first "
            f"convolution alone: give it {RGB} bands, or no weights"
        )
    wide = widened(three[first[0]], in_channels, extra_bands, compat_band_order=compat_band_order)
    if fold > 1:
        wide = wide.repeat(1, fold**2, 1, 1) / fold**2  # each block of pixels by its mean
    if wide.shape != own[first[0]].shape:
        found, wanted = tuple(wide.shape), tuple(own[first[0]].shape)
        raise ModelError(
            f"{first[0]} of encoder {name} would be {found}, expected {wanted}: give it no weights"
        )
    model.load_state_dict(three | {first[0]: wide})
    return model


def widened(
    weight: Tensor, bands: int, extra_bands: ExtraBands = "red", *, compat_band_order: bool = False
) -> Tensor:
    """A first convolution for three bands as one for more of them.

    A stem that folds blocks of pixels into channels lists the bands of one pixel side by side: channel
    `pixel * bands + band`. Each pixel of the block gets the further bands behind its own three.

    Args:
        weight: (O, 3 * P, h, w); P is 1 for a plain convolution and 16 for a stem that folds 4 x 4 pixels.
        bands: more than 3.
        extra_bands: how the further ones start.
        compat_band_order: append copies of the first P channels at the end instead, as if the bands were planes: with
            P > 1 nearly all weights then meet another band or pixel than they were trained for.

    Returns:
        (O, bands * P, h, w).

    Raises:
        ModelError: the channels are not those of three bands.
    """
    outputs, channels, height, width = weight.shape
    pixels, rest = divmod(channels, RGB)
    if rest:
        raise ModelError(
            f"a first convolution on {channels} channels does not look at {RGB} bands: no weights fit"
        )
    if compat_band_order:
        return torch.cat([weight, *[weight[:, :pixels]] * (bands - RGB)], dim=1)
    rgb = weight.reshape(outputs, pixels, RGB, height, width)
    if extra_bands == "timm":
        wide = rgb.repeat(1, 1, math.ceil(bands / RGB), 1, 1)[:, :, :bands] * (RGB / bands)
    else:
        extra = rgb[:, :, :1] if extra_bands == "red" else rgb.mean(dim=2, keepdim=True)
        wide = torch.cat([rgb, *[extra] * (bands - RGB)], dim=2)
    return wide.reshape(outputs, pixels * bands, height, width)
