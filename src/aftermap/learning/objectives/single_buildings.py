"""Learning which level of damage single known buildings have, without unlearning where buildings are."""

import copy

import torch
from torch import Tensor
from torch.nn import functional

from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.learning.losses.pixel import widened
from aftermap.learning.objectives.base import Objective
from aftermap.models.networks.dense import DenseModel


class SingleBuildings(Objective):
    """Labels of a few buildings amid unknown ground, for a model of background and levels under one softmax.

    A labelled building says which level it has, given that it is one: the cross-entropy is taken over the levels alone,
    so that nothing is said of the background, which labels of buildings would drive out. Ground labelled as none says
    background. What the model answered before to "building or not" is held everywhere, by its KL divergence from that.

    Args:
        model: that is adapted; a frozen copy of it is what is held to.
        hold: weight of that.
    """

    def __init__(self, model: DenseModel, *, hold: float = 10.0) -> None:
        super().__init__()
        self.hold = hold
        self.before = copy.deepcopy(model).eval().requires_grad_(False)

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Terms `level`, `background` and `held`; 0 where a batch knows nothing of the kind."""
        logits, mask = model(batch.image), batch.mask
        with torch.no_grad():
            before = self.before(batch.image)
        with torch.autocast(logits.device.type, enabled=False):
            logits, before = widened(logits), widened(before)
            known = (mask > 0) & (mask != IGNORE)
            levels = functional.cross_entropy(
                logits[:, 1:], (mask - 1).clamp(0, logits.shape[1] - 2), reduction="none"
            )
            ground = -functional.log_softmax(logits, dim=1)[:, 0]
            odds, odds_before = _building(logits), _building(before)
            held = functional.binary_cross_entropy_with_logits(odds, odds_before.sigmoid(), reduction="none")
            least = functional.binary_cross_entropy_with_logits(
                odds_before, odds_before.sigmoid(), reduction="none"
            )
            none = mask == 0
            labelled = (known | none).sum().clamp(min=1)
            return {
                "level": (levels * known).sum() / labelled,
                "background": (ground * none).sum() / labelled,
                "held": self.hold * ((held - least) * ~none).sum() / (~none).sum().clamp(min=1),
            }


def _building(logits: Tensor) -> Tensor:
    """Log odds of building against background (B, H, W)."""
    return torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]
