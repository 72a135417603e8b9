"""From logits to channels to probabilities, whatever a network's channel 0 means; arrays of NumPy or of PyTorch.

*Channels* (B, C, H, W) are what is averaged over mirrorings, scales and members: p(building) alone, or p(building) in
channel 0 and a value per class after it. Only their ratios decide how p(building) is shared out, so that
a network with a sigmoid per class and one with a softmax can be averaged.
"""

from aftermap.artefacts.arrays import (
    A,
    bytes_of,
    float32,
    joined,
    shared_out,
    sigmoid,
    softmax,
    total_of,
    within_unit,
)
from aftermap.artefacts.card import Activation, Channel0


def to_channels(logits: A, *, activation: Activation, channel_0: Channel0, temperature: float = 1.0) -> A:
    """Activate logits (B, K, H, W) and put p(building) into channel 0.

    Args:
        logits: one logit of building, or K of which the first belongs to what `channel_0` says.
        activation: of the logits.
        channel_0: what the network was taught there.
        temperature: logits are divided by it first.

    Returns:
        float32, the same shape.
    """
    logits = float32(logits) / temperature
    if logits.shape[1] == 1:
        return sigmoid(logits)
    if activation == "sigmoid":
        channels = sigmoid(logits)
        return channels if channel_0 == "building" else joined([1 - channels[:, :1], channels[:, 1:]])
    channels = softmax(logits)
    if channel_0 == "building":
        return channels
    # The sum keeps the digits that 1 - p(background) loses where a building is very unlikely.
    return joined([total_of(channels[:, 1:]), channels[:, 1:]])


def to_probabilities(channels: A) -> A:
    """Class probabilities of channels: (1 - p, p), or the classes' shares of p(building) behind p(background).

    Returns:
        (B, 2, H, W) of one channel, else the same shape; sums to 1 over the classes.
    """
    building = within_unit(channels[:, :1])
    if channels.shape[1] == 1:
        return joined([1 - building, building])
    return joined([1 - building, shared_out(building, channels[:, 1:])])


def truncated(channels: A) -> A:
    """Channels cut down to whole 255ths, as if they had been stored in 8-bit files.

    Source: xView2 first place, `predict*_loc.py` and `predict*cls.py`: `(mean * 255).astype('uint8')`.
    """
    return float32(to_uint8(channels)) / 255


def to_uint8(channels: A) -> A:
    """Channels as the bytes of such files: 255 p, cut and not rounded."""
    return bytes_of(channels * 255)
