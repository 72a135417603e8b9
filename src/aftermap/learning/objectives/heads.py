"""Learning of a network with heads for cells and for images, as the Open Cities system does.

Source: third place of the Open Cities AI challenge (2020).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.heads import HeadsConfig
from aftermap.learning.configs.terms import SoftLabelConfig
from aftermap.learning.losses import pixel, region
from aftermap.learning.losses.heads import (
    cell_targets,
    hard_pixel_cross_entropy,
    image_focal,
    resolution_error,
    soft_cells,
)
from aftermap.learning.losses.pixel import harden, soft_kl, widened
from aftermap.learning.objectives.base import Objective
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.fpn import FpnEfficientnet, Heads
from aftermap.models.taps import unwrapped

NotNegative = Annotated[float, Field(ge=0)]


def require_heads(model: nn.Module) -> None:
    """Refuse a model that has no such heads.

    Raises:
        RecipeError: it is of another kind.
    """
    if not isinstance(model, FpnEfficientnet):
        raise RecipeError(
            f"objective heads is for models of kind fpn-efficientnet, this one is a {type(model).__name__}: take "
            "that kind, or objective supervised"
        )


class HeadsObjective(Objective):
    """Weighted terms of all heads on one forward pass; in 32 bits at least, whatever the model ran in."""

    class_weights: Tensor

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("class_weights", torch.tensor(config.class_weights))

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Terms of one forward pass; see `values` and `soft_values`.

        Raises:
            RecipeError: the model has no such heads.
        """
        require_heads(unwrapped(model))
        heads: Heads = model(batch.image, heads=True)
        heads = Heads(*(widened(answer) for answer in heads))
        # no lower precision inside: probabilities near 0 and 1 would be rounded to them
        with torch.autocast(heads.map.device.type, enabled=False):
            terms = self.values(heads, batch.mask, batch.resolution)
            if self.config.soft is not None and batch.soft is not None:
                terms |= self.soft_values(heads, batch.soft, self.config.soft)
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                # training on several devices waits for a gradient of every head, trained or not
                first = next(iter(terms))
                terms[first] = terms[first] + 0.0 * torch.stack([answer.sum() for answer in heads]).sum()
        return terms

    def values(self, heads: Heads, mask: Tensor, resolution: Tensor | None = None) -> dict[str, Tensor]:
        """Terms `map`, `dice`, `presence` and `scale`, as far as their weight is not 0.

        Args:
            heads: answers of the network.
            mask: class indices (B, H, W), IGNORE where unknown; what is unknown takes no part.
            resolution: metres per pixel (B,), NaN where unknown.
        """
        config, weights = self.config, self.config.weights
        size = (heads.map.shape[-2], heads.map.shape[-1])
        target = cell_targets(mask, size, classes=heads.map.shape[1], compat_truncate=config.compat_truncate)
        terms: dict[str, Tensor] = {}
        if weights.map:
            terms["map"] = weights.map * self._map(heads.map, target.index)
        if weights.dice:
            share = target.share[:, 1:].sum(1, keepdim=True)
            share = torch.where(share < config.compat_dice_floor, 0.0, share)
            terms["dice"] = weights.dice * _dice(heads.dice, share, target.known)
        if weights.presence:
            terms["presence"] = weights.presence * image_focal(
                heads.presence, target.presence, gamma=config.gamma, compat_detached=config.compat_detached
            )
        if weights.scale:
            if resolution is None:
                resolution = heads.scale.new_full((len(mask),), torch.nan)
            terms["scale"] = weights.scale * resolution_error(heads.scale, resolution, config.reference_m)
        return terms

    def soft_values(self, heads: Heads, soft: Tensor, config: SoftLabelConfig) -> dict[str, Tensor]:
        """Terms of soft labels (B, K, H, W), weighted; presence and scale do not learn from them."""
        size = (heads.map.shape[-2], heads.map.shape[-1])
        cells = soft_cells(soft, size)
        if config.kind == "soft":
            value = soft_kl(heads.map, cells, compat_class_mean=config.compat_class_mean)
            return {"soft labels": config.weight * value}
        target = cell_targets(harden(cells, *config.ignored), size, classes=heads.map.shape[1])
        terms: dict[str, Tensor] = {}
        if self.config.weights.map:
            terms["pseudo map"] = config.weight * self.config.weights.map * self._map(heads.map, target.index)
        if self.config.weights.dice:
            share = target.share[:, 1:].sum(1, keepdim=True)
            value = _dice(heads.dice, share, target.known)
            terms["pseudo dice"] = config.weight * self.config.weights.dice * value
        return terms

    def _map(self, logits: Tensor, index: Tensor) -> Tensor:
        hard = self.config.hard_pixels
        if hard is not None:
            return hard_pixel_cross_entropy(logits, index, share=hard.share, dropped=hard.dropped)
        return pixel.focal(
            logits,
            index,
            gamma=self.config.gamma,
            class_weights=self.class_weights,
            normalise=False,
            compat_detached=self.config.compat_detached,
        )


def _dice(logits: Tensor, share: Tensor, known: Tensor) -> Tensor:
    """Overlap loss of logits (B, 1, h, w) and shares, pooled over the batch; 0 where nothing is known."""
    return region.dice(torch.sigmoid(logits), share, known, smooth=1.0)[0]
