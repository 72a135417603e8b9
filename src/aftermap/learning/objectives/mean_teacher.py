"""Mean teacher: a student that must say of a changed image what its own moving average says of the image as it is.

The teacher is what is evaluated and saved. It needs no labels; where some crops have them, they count as usual.

Source: Tarvainen and Valpola 2017; confidence threshold: French et al. 2020; alignment of the class shares: Berthelot et
al. 2020 (ReMixMatch).
"""

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.learning.configs.mean_teacher import MeanTeacherConfig
from aftermap.learning.configs.schedule import factor
from aftermap.learning.losses.pixel import widened
from aftermap.learning.meta import norm_policy
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.strong_views import strong_view
from aftermap.learning.objectives.supervised import Supervised
from aftermap.models.networks.dense import DenseModel

_SHARES_KEPT = 0.9  # of the running class shares, per step


class MeanTeacher(Objective):
    """Terms of the labels, and `consistency` with the teacher.

    Attributes:
        teacher: the moving average of the model, running statistics included; counters are copied.
    """

    shares: Tensor
    _limits: Tensor
    _weights: Tensor

    def __init__(self, config: MeanTeacherConfig, model: DenseModel) -> None:
        """Begin with a teacher that is the model as it is."""
        super().__init__()
        self.config = config
        self.hard = None if config.hard is None else Supervised(config.hard)
        self.teacher: DenseModel = copy.deepcopy(model).requires_grad_(False).eval()
        given = config.confidence
        limits = given if isinstance(given, tuple) else (given,) * model.classes
        self.register_buffer("_limits", torch.tensor(limits), persistent=False)
        weights = config.class_weights or (1.0,) * model.classes
        self.register_buffer("_weights", torch.tensor(weights), persistent=False)
        self.register_buffer("shares", torch.zeros(model.classes), persistent=False)
        self._factor = config.weight * factor(config.schedule, 0, 1)

    def train(self, mode: bool = True) -> "MeanTeacher":
        """The teacher is never in training."""
        super().train(mode)
        self.teacher.eval()
        return self

    def before_step(self, step: int, steps: int) -> None:
        """Take the weight that the schedule gives at this step."""
        self._factor = self.config.weight * factor(self.config.schedule, step, steps)

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Terms by name; crops without any label are shown to the student strongly changed, the others as they are."""
        unknown = batch.mask == IGNORE
        bare = unknown.flatten(1).all(dim=1)
        changed, shown = strong_view(batch.image, self.config.strong)
        changed = torch.where(bare[:, None, None, None, None], changed, batch.image)
        with norm_policy(model, "frozen") if self.config.norm == "frozen" else nullcontext():
            logits = model(changed)
        counted = torch.ones_like(unknown) if self.config.everywhere else unknown
        if not self.config.strong.cutout_counts:
            counted = counted & (shown | ~bare[:, None, None])
        terms: dict[str, Tensor] = {}
        if self.hard is not None:
            terms |= self.hard.values(logits, batch.mask)
        if (self._factor and bool(counted.any())) or not terms:
            rows = counted.flatten(1).any(dim=1)
            value = self.consistency(logits[rows], self.answer(batch.image[rows]), counted[rows])
            terms["consistency"] = self._factor * value
        return terms

    @torch.no_grad()
    def answer(self, image: Tensor) -> Tensor:
        """The teacher's probabilities (B, K, H, W) of images (B, T, C, H, W), aligned with the prior if there is one."""
        flips: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2)) if self.config.mirrored else ((),)
        total: Tensor | None = None
        for axes in flips:
            logits = widened(self.teacher(image.flip(axes) if axes else image))
            p = self._activated(logits)
            p = p.flip(axes) if axes else p
            total = p if total is None else total + p
        assert total is not None
        mean = total / len(flips)
        if self.config.prior is None or not len(mean):
            return mean
        now = mean.mean(dim=(0, 2, 3)).to(self.shares)
        first = bool(self.shares.sum() == 0)
        self.shares.copy_(now if first else _SHARES_KEPT * self.shares + (1 - _SHARES_KEPT) * now)
        wanted = self.shares.new_tensor(self.config.prior)
        scaled = mean * (wanted / self.shares.clamp(min=1e-6)).to(mean)[:, None, None]
        return scaled / scaled.sum(dim=1, keepdim=True)

    def consistency(self, logits: Tensor, answer: Tensor, counted: Tensor) -> Tensor:
        """Mean over the counted pixels of which the teacher is sure; 0 where it is sure of none.

        Args:
            logits: the student's, (B, K, H, W).
            answer: the teacher's probabilities, of the same shape.
            counted: bool (B, H, W).
        """
        logits = widened(logits)
        sigmoid = self.config.activation == "sigmoid"
        with torch.autocast(logits.device.type, enabled=False):
            if self.config.loss == "mse":
                values = (self._activated(logits) - answer).square()
            elif sigmoid:
                values = nn.functional.binary_cross_entropy_with_logits(logits, answer, reduction="none")
            else:
                values = -answer * torch.log_softmax(logits, dim=1)
            limits, weights = self._limits.to(logits), self._weights.to(logits)
            if sigmoid:  # every channel is a question of its own
                sure = torch.maximum(answer, 1 - answer) >= limits[:, None, None]
                weight = (sure & counted[:, None]) * weights[:, None, None]
                return (values * weight).sum() / weight.sum().clamp(min=1e-6)
            best, index = answer.max(dim=1)
            weight = (counted & (best >= limits[index])) * weights[index]
            return (values.sum(dim=1) * weight).sum() / weight.sum().clamp(min=1e-6)

    @torch.no_grad()
    def after_step(self, model: DenseModel, step: int) -> None:
        """Move the teacher towards the student."""
        decay = min(self.config.decay, step / (step + 1)) if self.config.decay_ramp else self.config.decay
        student = model.state_dict()
        for name, value in self.teacher.state_dict().items():
            if value.is_floating_point():
                value.lerp_(student[name].to(value), 1 - decay)
            else:
                value.copy_(student[name])

    def evaluated(self, model: DenseModel) -> DenseModel:
        """The teacher."""
        return self.teacher

    def kept(self) -> dict[str, Tensor]:
        """The teacher's weights and the running shares."""
        return {"shares": self.shares} | {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}

    def restore(self, kept: dict[str, Tensor]) -> None:
        """Take them back."""
        self.shares.copy_(kept["shares"])
        weights = {k.removeprefix("teacher."): v for k, v in kept.items() if k.startswith("teacher.")}
        self.teacher.load_state_dict(weights)

    def _activated(self, logits: Tensor) -> Tensor:
        if self.config.activation == "sigmoid":
            return torch.sigmoid(logits)
        return torch.softmax(logits, dim=1)
