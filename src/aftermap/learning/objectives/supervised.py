"""Learning from labels: the weighted terms of a recipe on one forward pass.

A recipe's `objective: {terms: [{loss: focal, weight: 10}, {loss: dice}]}` becomes the terms `focal` and `dice`, whose sum
is the loss; which losses there are stands in docs/losses.md, and their values in `learning.losses`.
"""

import torch
from torch import Tensor

from aftermap.data.batch import Batch
from aftermap.learning.configs.terms import SoftLabelConfig, SupervisedConfig
from aftermap.learning.losses.custom import require_custom
from aftermap.learning.losses.one_date import merged
from aftermap.learning.losses.pixel import harden, soft_kl, widened
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.terms import term_names, term_value, truth_of
from aftermap.models.networks.dense import DenseModel


class Supervised(Objective):
    """Sum of the configured terms; losses are computed in 32 bits at least, whatever the model ran in."""

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        require_custom(config.terms)
        self.config = config
        for number, term in enumerate(config.terms):
            weights = None if term.class_weights is None else torch.tensor(term.class_weights)
            self.register_buffer(f"class_weights_{number}", weights)

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Terms of one forward pass; see `values`. What soft labels add are terms of their own.

        Of samples that lack a date, what their one image shows is learned; see `losses.one_date`.
        """
        logits = model(batch.image)
        if batch.dates is not None:
            logits = merged(widened(logits), batch.mask, batch.dates)
        terms = self.values(logits, batch.mask)
        if self.config.soft is not None and batch.soft is not None:
            terms |= self.soft_values(logits, batch.soft, self.config.soft)
        return terms

    def soft_values(self, logits: Tensor, soft: Tensor, config: SoftLabelConfig) -> dict[str, Tensor]:
        """Terms of soft labels (B, K, H, W), weighted."""
        if config.kind == "hard":
            hard = self.values(logits, harden(soft, *config.ignored))
            return {f"pseudo {name}": config.weight * value for name, value in hard.items()}
        with torch.autocast(logits.device.type, enabled=False):
            value = soft_kl(widened(logits), soft, compat_class_mean=config.compat_class_mean)
        return {"soft labels": config.weight * value}

    def values(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Terms by the name of their loss, as far as their weight is not 0.

        Args:
            logits: (B, K, H, W).
            mask: (B, H, W); a batch without any known class gives terms of 0.

        Raises:
            ValueError: the logits are not those of the mask's pixels.
        """
        logits = widened(logits)
        if logits.ndim != 4 or (*logits.shape[:1], *logits.shape[2:]) != tuple(mask.shape):
            raise ValueError(
                f"the model answers {tuple(logits.shape)} to a mask {tuple(mask.shape)}, expected (B, K, H, W)"
            )
        # no lower precision inside: probabilities near 0 and 1 would be rounded to them
        with torch.autocast(logits.device.type, enabled=False):
            truth = truth_of(mask, logits.shape[1], self.config.targets)
            terms: dict[str, Tensor] = {}
            for number, (name, term) in enumerate(
                zip(term_names(self.config.terms), self.config.terms, strict=True)
            ):
                if term.weight:
                    weights: Tensor | None = getattr(self, f"class_weights_{number}")
                    terms[name] = term.weight * term_value(term, logits, truth, weights)
        return terms
