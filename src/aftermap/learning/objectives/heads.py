"""Learning of a network with heads for cells and for images, as the Open Cities system does.

Source: third place of the Open Cities AI challenge (2020).
"""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from aftermap.config import Config
from aftermap.data.batch import Batch
from aftermap.data.loading.targets import DamageTargets
from aftermap.errors import RecipeError
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
from aftermap.learning.objectives.terms import SoftLabelConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.fpn import FpnEfficientnet, Heads
from aftermap.models.taps import unwrapped

NotNegative = Annotated[float, Field(ge=0)]


class HeadWeights(Config):
    """Factors of the heads' terms; 0 leaves a head untrained.

    Attributes:
        map: focal loss of the class of each cell.
        dice: overlap of any class but the background, pooled over the batch.
        presence: focal loss of whether an image shows any such class.
        scale: error of the logarithm of the ground resolution; the original never trained this head.
    """

    map: NotNegative = 1.0
    dice: NotNegative = 0.1
    presence: NotNegative = 1.0
    scale: NotNegative = 0.0


class HardPixels(Config):
    """Cross-entropy of the costliest cells instead of the focal loss.

    Attributes:
        share: of all cells of a batch that is kept, costliest first.
        dropped: of these, the very costliest, which are passed over.
    """

    share: float = Field(default=2 / 3, gt=0, le=1)
    dropped: float = Field(default=0.1, ge=0, lt=1)


class HeadsConfig(Config):
    """What the heads of a `fpn-efficientnet` learn, at their own resolution of four pixels.

    Attributes:
        weights: of the terms.
        gamma: of the focal losses; how much easy cells and images are passed over.
        class_weights: of the focal loss of cells, by their true class, the background first.
        hard_pixels: learn from the costliest cells instead; None takes the focal loss.
        reference_m: ground resolution in metres whose scale is 0.
        soft: how scenes with soft labels are learned from, by the map head alone (with kind `hard` by the Dice head
            too); None leaves them out.
        compat_truncate: only cells wholly within a class are taken for it, for the map and for presence.
        compat_detached: no gradient through the focal losses' factor of difficulty.
        compat_dice_floor: shares of a cell below this are taken for 0 by the Dice head (0.4 in the original).
    """

    kind: Literal["heads"] = "heads"
    weights: HeadWeights = HeadWeights()
    gamma: NotNegative = 2.0
    class_weights: tuple[NotNegative, ...] = (0.25, 0.75)
    hard_pixels: HardPixels | None = None
    reference_m: float = Field(default=0.07, gt=0)
    soft: SoftLabelConfig | None = None
    compat_truncate: bool = False
    compat_detached: bool = False
    compat_dice_floor: float = Field(default=0.0, ge=0, lt=1)

    @property
    def targets(self) -> DamageTargets | None:
        """None: the heads look at the classes of the mask as they are."""
        return None

    @model_validator(mode="after")
    def _something_is_minimised(self) -> Self:
        weights = self.weights
        if not any((weights.map, weights.dice, weights.presence, weights.scale)):
            raise ValueError("every term has weight 0")
        return self

    def check_classes(self, classes: int) -> None:
        """Raise ValueError where the terms do not fit a model with so many logits."""
        if len(self.class_weights) != classes:
            raise ValueError(
                f"objective.class_weights has {len(self.class_weights)} values, the model has {classes} classes"
            )


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
