"""Optimizers and learning-rate schedules: AdamW with a cosine of our own, or steps at milestones as published."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, assert_never

import torch
from pydantic import Field
from torch import nn

from aftermap.config import Config
from aftermap.errors import RecipeError


class CosineConfig(Config):
    """Linear warm-up, then a half cosine.

    Attributes:
        warmup_steps: steps from 0 to the full learning rate.
        final_fraction: learning rate at the end, as a fraction of `lr`.
    """

    kind: Literal["cosine"] = "cosine"
    warmup_steps: int = 50
    final_fraction: float = 0.01


class MultistepConfig(Config):
    """The learning rate is multiplied by `gamma` once each milestone is reached.

    Attributes:
        milestones: epochs, counted from 0, that start with a lower rate.
        gamma: factor per milestone.
        compat_one_epoch_late: the winner asked for the new rate after the epoch that a milestone names, so that
            every drop comes one epoch later than its number says.

    Source: xView2 first place, `step(epoch)` of MultiStepLR.
    """

    kind: Literal["multistep"]
    milestones: tuple[int, ...]
    gamma: float = 0.5
    compat_one_epoch_late: bool = False


ScheduleConfig = Annotated[CosineConfig | MultistepConfig, Field(discriminator="kind")]


class OptimizerConfig(Config):
    """AdamW and its schedule.

    Attributes:
        clip_norm: largest L2 norm of all gradients together; 0 does not clip.
        accumulate: batches per optimizer step.
        decay_all: weight decay on biases and normalisation too, as in the published systems.
        compat_epsilon: `epsilon` is added to the root of the second moment before its bias is corrected (the
            winner's own AdamW), which matters for gradients below about 1e-6.
    """

    lr: float = 1e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    accumulate: int = 1
    decay_all: bool = False
    compat_epsilon: bool = False
    schedule: ScheduleConfig = CosineConfig()


class BiasedEpsilonAdamW(torch.optim.AdamW):
    """AdamW whose epsilon counts before the bias correction: `m / (sqrt(v) + epsilon) * sqrt(1 - beta2^t) / ...`.

    Dividing by the corrected root plus e is the same as that form when e = epsilon / sqrt(1 - beta2^t).

    Source: xView2 first place, its optimizer.
    """

    def __init__(self, params: Any, *, eps: float, **options: Any) -> None:
        super().__init__(params, eps=eps, **options)
        self._epsilon = eps

    def step(self, closure: Any = None) -> Any:
        """One update; see the class."""
        for group in self.param_groups:
            steps = [float(self.state[p]["step"]) for p in group["params"] if "step" in self.state.get(p, {})]
            t = max(steps, default=0.0) + 1
            group["eps"] = self._epsilon / math.sqrt(1 - group["betas"][1] ** t)
        return super().step(closure)


def build_optimizer(
    config: OptimizerConfig, model: nn.Module, *, also: Iterable[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """AdamW over the parameters of a model that learn, and others such as an objective's."""
    learned = [p for p in model.parameters() if p.requires_grad] + list(also)
    if config.decay_all:
        groups = [{"params": learned, "weight_decay": config.weight_decay}]
    else:
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
    kind = BiasedEpsilonAdamW if config.compat_epsilon else torch.optim.AdamW
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.epsilon)


def lr_factor(schedule: ScheduleConfig, step: int, *, steps: int, steps_per_epoch: int = 0) -> float:
    """Factor of the learning rate at a step.

    Args:
        schedule: which schedule.
        step: counted from 0.
        steps: length of the run.
        steps_per_epoch: length of an epoch; a multistep schedule needs it.

    Raises:
        RecipeError: a multistep schedule without epochs.
    """
    match schedule:
        case CosineConfig():
            if step < schedule.warmup_steps:
                return (step + 1) / schedule.warmup_steps
            progress = min(1.0, (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps))
            final = schedule.final_fraction
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
        case MultistepConfig():
            if steps_per_epoch < 1:
                raise RecipeError(
                    "optimizer.schedule multistep counts epochs, and this recipe has none: "
                    "give epochs and a sampling of kind epochs, or the cosine schedule"
                )
            epoch = step // steps_per_epoch - int(schedule.compat_one_epoch_late)
            return schedule.gamma ** sum(milestone <= epoch for milestone in schedule.milestones)
        case _:
            assert_never(schedule)
