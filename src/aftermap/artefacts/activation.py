"""From logits to channels to probabilities, whatever a network's channel 0 means.

*Channels* (B, C, H, W) are what is averaged over mirrorings, scales and members: p(building) alone, or p(building) in
channel 0 and a value per class after it. Only their ratios decide how p(building) is shared out, so that
a network with a sigmoid per class and one with a softmax can be averaged.
"""

import torch
from torch import Tensor

from aftermap.artefacts.card import Activation, Channel0


def to_channels(
    logits: Tensor, *, activation: Activation, channel_0: Channel0, temperature: float = 1.0
) -> Tensor:
    """Activate logits (B, K, H, W) and put p(building) into channel 0.

    Args:
        logits: one logit of building, or K of which the first belongs to what `channel_0` says.
        activation: of the logits.
        channel_0: what the network was taught there.
        temperature: logits are divided by it first.

    Returns:
        float32, the same shape.
    """
    logits = logits.float() / temperature
    if logits.shape[1] == 1:
        return torch.sigmoid(logits)
    if activation == "sigmoid":
        channels = torch.sigmoid(logits)
        return (
            channels if channel_0 == "building" else torch.cat([1 - channels[:, :1], channels[:, 1:]], dim=1)
        )
    channels = torch.softmax(logits, dim=1)
    if channel_0 == "building":
        return channels
    # The sum keeps the digits that 1 - p(background) loses where a building is very unlikely.
    return torch.cat([channels[:, 1:].sum(dim=1, keepdim=True), channels[:, 1:]], dim=1)


def to_probabilities(channels: Tensor) -> Tensor:
    """Class probabilities of channels: (1 - p, p), or the classes' shares of p(building) behind p(background).

    Returns:
        (B, 2, H, W) of one channel, else the same shape; sums to 1 over the classes.
    """
    building = channels[:, :1].clamp(0, 1)
    if channels.shape[1] == 1:
        return torch.cat([1 - building, building], dim=1)
    classes = channels[:, 1:]
    total = classes.sum(dim=1, keepdim=True)
    shared = torch.where(total > 0, classes * (building / total), building / classes.shape[1])
    return torch.cat([1 - building, shared], dim=1)


def truncated(channels: Tensor) -> Tensor:
    """Channels cut down to whole 255ths, as if they had been stored in 8-bit files.

    Source: xView2 first place, `predict*_loc.py` and `predict*cls.py`: `(mean * 255).astype('uint8')`.
    """
    return to_uint8(channels).float() / 255


def to_uint8(channels: Tensor) -> Tensor:
    """Channels as the bytes of such files: 255 p, cut and not rounded."""
    return (channels * 255).to(torch.uint8)
