"""Learning from labels: cross-entropy, Dice and focal terms on the class mask."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aftermap.config import Config
from aftermap.data.batch import Batch
from aftermap.learning.losses.segmentation import cross_entropy, focal, soft_dice
from aftermap.learning.objectives.base import Objective
from aftermap.models.dense import DenseModel


class SupervisedConfig(Config):
    """Weights of the terms; 0 leaves a term out.

    Attributes:
        class_weights: one per class, used by all terms; None weighs all alike.
    """

    cross_entropy: float = 1.0
    dice: float = 1.0
    focal: float = 0.0
    focal_gamma: float = 2.0
    class_weights: tuple[float, ...] | None = None


class Supervised(Objective):
    """Sum of the configured terms on the logits of one forward pass."""

    class_weights: Tensor | None

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        self.config = config
        weights: Sequence[float] | None = config.class_weights
        self.register_buffer("class_weights", None if weights is None else torch.tensor(weights))

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Terms `cross_entropy`, `dice` and `focal`, as far as their weight is not 0."""
        logits = model(batch.image).float()
        c, w = self.config, self.class_weights
        terms = {}
        if c.cross_entropy:
            terms["cross_entropy"] = c.cross_entropy * cross_entropy(logits, batch.mask, w)
        if c.dice:
            terms["dice"] = c.dice * soft_dice(logits, batch.mask, w)
        if c.focal:
            terms["focal"] = c.focal * focal(logits, batch.mask, c.focal_gamma, w)
        return terms
