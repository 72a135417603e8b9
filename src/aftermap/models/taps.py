"""Features from inside a network, caught on the way of one ordinary forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from aftermap.errors import RecipeError
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.unet import upsample
from aftermap.wording import counted


class Tap:
    """What the encoder gave while the tap was open.

    Attributes:
        calls: how often the encoder ran.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._deepest: list[Tensor] = []

    def keep(self, output: Any) -> None:
        """Take one answer of the encoder."""
        self.calls += 1
        self._deepest.append(deepest(output))

    def features(self, samples: int) -> tuple[Tensor, ...]:
        """The deepest features of each date, (B, C, h, w) each, in the precision that the network ran in.

        Args:
            samples: B. An encoder that saw the dates as one batch, all pre before all post, is taken apart by it.

        Raises:
            RecipeError: the encoder ran on something else than whole dates.
        """
        parts = [part for whole in self._deepest for part in _dates(whole, samples)]
        if not parts:
            raise RecipeError("the model ran without its encoder: features cannot be learned from it")
        return tuple(parts)


@contextmanager
def tapped(model: nn.Module) -> Iterator[Tap]:
    """Catch the encoder's features of the forward passes inside the block; their graph stays.

    Args:
        model: a `DenseModel` with an encoder, or a wrapper around one that trains on several devices.

    Raises:
        RecipeError: the model has no encoder.
    """
    tap = Tap()
    encoder = encoder_of(model)
    handle = encoder.register_forward_hook(lambda module, inputs, output: tap.keep(output))
    try:
        yield tap
    finally:
        handle.remove()


def encoder_of(model: nn.Module) -> nn.Module:
    """The encoder of a model.

    Raises:
        RecipeError: it has none.
    """
    bare = unwrapped(model)
    encoder = getattr(bare, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise RecipeError(
            f"{type(bare).__name__} has no encoder, so its features cannot be learned from: leave the terms on "
            "features out, or take another model"
        )
    return encoder


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without what distributed training or compilation puts around it."""
    while not isinstance(model, DenseModel):
        inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def deepest(output: Any) -> Tensor:
    """The last feature map (B, C, h, w) that an encoder gave; tokens beside the maps are passed over.

    Raises:
        RecipeError: there is none.
    """
    if isinstance(output, tuple) and output and isinstance(output[0], Sequence):
        output = output[0]  # a vision transformer: maps, then tokens
    stages = [output] if isinstance(output, Tensor) else list(output)
    maps = [s for s in stages if isinstance(s, Tensor) and s.ndim == 4 and s.shape[1]]
    if not maps:
        raise RecipeError("the encoder gives no feature maps (B, C, h, w), which terms on features need")
    return maps[-1]


def encode(model: DenseModel, image: Tensor) -> tuple[Tensor, ...]:
    """The deepest features of each date of images (B, T, C, H, W), by the encoder alone.

    T may be less than the dates that the model looks at; nothing but the encoder runs.

    Raises:
        RecipeError: the model has no encoder, or not one that gives feature maps.
    """
    both = image.transpose(0, 1).flatten(0, 1)  # (T*B, C, H, W): all pre, then all post
    if internal_px := getattr(model, "internal_px", None):
        both = upsample(both, (internal_px, internal_px))
    return tuple(_dates(deepest(encoder_of(model)(both)), len(image)))


@torch.no_grad()
def feature_channels(model: DenseModel, *, bands: int = 3) -> int:
    """Channels of the deepest features, found by showing the model a small image.

    Raises:
        RecipeError: the model has no encoder, or not one that gives feature maps.
    """
    fixed = getattr(model, "fixed_px", None)
    height, width = fixed or (max(model.stride, getattr(model, "least_px", 1), 32),) * 2
    some = next(model.parameters())
    training = [module for module in model.modules() if module.training]
    model.eval()  # statistics of normalisation stay as they are
    try:
        with tapped(model) as tap:
            model(torch.zeros(1, model.dates, bands, height, width, device=some.device, dtype=some.dtype))
    finally:
        for module in training:
            module.training = True
    return tap.features(1)[0].shape[1]


def _dates(features: Tensor, samples: int) -> Sequence[Tensor]:
    count, rest = divmod(len(features), samples)
    if rest or not count:
        raise RecipeError(
            f"the encoder saw {counted(len(features), 'image')} for {samples} samples: expected one or more per sample"
        )
    return features.chunk(count)
