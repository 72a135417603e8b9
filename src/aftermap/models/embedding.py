"""One forward pass that also gives what a model saw on the way: its features and the feature maps of its encoder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aftermap.errors import RecipeError
from aftermap.models.networks.dense import DenseModel
from aftermap.models.taps import encoder_of, unwrapped

Features = Literal["none", "trunk", "embedding"]
"""Which features: `trunk` is what `forward_features` gives, at the resolution of the head and before a dropout that
ends it; `embedding` is what a residual U-Net's classifier sees at full resolution, after its dropout."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What came out of one forward pass.

    Attributes:
        logits: (B, K, H, W).
        features: (B, D, h, w), or None where none were asked for.
        stages: feature maps of the encoder, finest first, each (B, c, h, w), or (2B, c, h, w) of a model for two
            dates: all pre before all post. Empty where they were not asked for.
    """

    logits: Tensor
    features: Tensor | None = None
    stages: tuple[Tensor, ...] = ()


def forward_all(
    model: nn.Module, image: Tensor, *, features: Features = "none", stages: bool = False
) -> Outputs:
    """Run a model once, and keep what was asked for; gradients flow through all of it.

    Args:
        model: a `DenseModel`, or what distributed training or compilation puts around it.
        image: normalised, (B, T, C, H, W).
        features: which features to keep.
        stages: keep the encoder's feature maps.

    Raises:
        RecipeError: the model has no encoder, or no embedding.
    """
    with _caught_stages(model, wanted=stages) as maps:
        if features == "embedding":
            logits, kept = _embedded(model, image)
            return Outputs(logits, kept, _joined(maps))
        with _caught_trunk(model, wanted=features == "trunk") as trunk:
            logits = model(image)
        return Outputs(logits, trunk[-1] if trunk else None, _joined(maps))


def _embedded(model: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    bare = unwrapped(model)
    if not getattr(bare, "has_embedding", False):
        raise RecipeError(
            f"{type(bare).__name__} has no features at full resolution after a dropout: take features: trunk, or a "
            "model of kind residual-unet"
        )
    logits, embedding = model(image, embedding=True)
    return logits, embedding


@contextmanager
def _caught_trunk(model: nn.Module, *, wanted: bool) -> Iterator[list[Tensor]]:
    """What `forward_features` gives inside the block; where a dropout gives the last of it, what went into that."""
    caught: list[Tensor] = []
    if not wanted:
        yield caught
        return
    bare = unwrapped(model)
    if not isinstance(bare, DenseModel):
        raise RecipeError(f"{type(bare).__name__} is no dense model: its features cannot be learned from")
    original, attributes = bare.forward_features, vars(bare)
    own = attributes.get("forward_features")
    dropped: list[tuple[Tensor, Tensor]] = []  # the last dropout's output and input

    def keep(image: Tensor) -> Tensor:
        result = original(image)
        caught.append(dropped[-1][1] if dropped and dropped[-1][0] is result else result)
        dropped.clear()
        return result

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        dropped[:] = [(output, inputs[0])]

    handles = [
        module.register_forward_hook(watch)
        for module in bare.modules()
        if isinstance(module, nn.Dropout | nn.Dropout2d)
    ]
    attributes["forward_features"] = keep  # a method, which no hook can watch
    try:
        yield caught
    finally:
        del attributes["forward_features"]
        if own is not None:
            attributes["forward_features"] = own
        for handle in handles:
            handle.remove()


@contextmanager
def _caught_stages(model: nn.Module, *, wanted: bool) -> Iterator[list[tuple[Tensor, ...]]]:
    caught: list[tuple[Tensor, ...]] = []
    if not wanted:
        yield caught
        return
    encoder = encoder_of(model)

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        caught.append(feature_maps(output, image=inputs[0], pixel_skip=getattr(module, "pixel_skip", False)))

    handle = encoder.register_forward_hook(keep)
    try:
        yield caught
    finally:
        handle.remove()


def feature_maps(output: Any, *, image: Tensor, pixel_skip: bool = False) -> tuple[Tensor, ...]:
    """The feature maps (B, c, h, w) in what an encoder gave, without tokens, empty stages and the image itself.

    Raises:
        RecipeError: there is none.
    """
    if isinstance(output, tuple) and output and isinstance(output[0], Sequence):
        output = output[0]  # a vision transformer: maps, then tokens
    stages = [output] if isinstance(output, Tensor) else list(output)[1 if pixel_skip else 0 :]
    maps = tuple(s for s in stages if isinstance(s, Tensor) and s.ndim == 4 and s.shape[1] and s is not image)
    if not maps:
        raise RecipeError("the encoder gives no feature maps (B, c, h, w), which terms on features need")
    return maps


def _joined(passes: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The maps of one date after the other as one batch."""
    if len(passes) == 1:
        return passes[0]
    return tuple(torch.cat(maps) for maps in zip(*passes, strict=True))
