"""Optimizers and schedules: AdamW and others, with a cosine of our own, steps at milestones, one cycle, or per epoch."""

import math
from collections.abc import Iterable
from typing import Any, assert_never

import torch
from torch import nn

from aftermap.errors import RecipeError
from aftermap.learning.configs.optimizer import (
    CompatCosineConfig,
    CosineConfig,
    ExponentialConfig,
    MultistepConfig,
    OneCycleConfig,
    OptimizerConfig,
    PlateauConfig,
    PolyConfig,
    ScheduleConfig,
    StepConfig,
)

_BETAS: dict[str, tuple[float, float]] = {"novograd": (0.95, 0.98)}
_USUAL_BETAS = (0.9, 0.999)


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
) -> torch.optim.Optimizer:
    """The optimizer over the parameters of a model that learn, and others such as an objective's.

    Raises:
        RecipeError: the algorithm comes from a package that is not installed.
    """
    learned = [p for p in model.parameters() if p.requires_grad] + list(also)
    if config.decay_all:
        groups = [{"params": learned, "weight_decay": config.weight_decay}]
    else:
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
    lr, eps = config.lr, config.epsilon
    betas = config.betas or _BETAS.get(config.algorithm, _USUAL_BETAS)
    match config.algorithm:
        case "adamw":
            kind = BiasedEpsilonAdamW if config.compat_epsilon else torch.optim.AdamW
            return kind(groups, lr=lr, betas=betas, eps=eps)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps)
        case "radam":
            return torch.optim.RAdam(groups, lr=lr, betas=betas, eps=eps, decoupled_weight_decay=True)
        case "lookahead-radam":
            fast = torch.optim.RAdam(groups, lr=lr, betas=betas, eps=eps, decoupled_weight_decay=True)
            around: torch.optim.Optimizer = _library(config.algorithm).Lookahead(fast, k=6, alpha=0.5)
            return around
        case "novograd":
            novograd: torch.optim.Optimizer = _library(config.algorithm).NovoGrad(
                groups, lr=lr, betas=betas, eps=eps
            )
            return novograd
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=betas[0], nesterov=config.nesterov)
        case _:
            assert_never(config.algorithm)


def _library(algorithm: str) -> Any:
    try:
        import pytorch_optimizer
    except ImportError:
        raise RecipeError(
            f"optimizer.algorithm {algorithm} needs the package pytorch-optimizer: install it, or use adamw"
        ) from None
    return pytorch_optimizer


def lr_factor(schedule: ScheduleConfig, step: int, *, steps: int, steps_per_epoch: int = 0) -> float:
    """Factor of the learning rate at a step.

    Args:
        schedule: which schedule.
        step: counted from 0.
        steps: length of the run.
        steps_per_epoch: length of an epoch; multistep, exponential and compat-cosine need it.

    Raises:
        RecipeError: a schedule that counts epochs, without any.
    """
    match schedule:
        case CosineConfig():
            if step < schedule.warmup_steps:
                return (step + 1) / schedule.warmup_steps
            progress = min(1.0, (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps))
            final = schedule.final_fraction
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
        case MultistepConfig():
            epoch = _epoch(schedule.kind, step, steps_per_epoch) - int(schedule.compat_one_epoch_late)
            return schedule.gamma ** sum(milestone <= epoch for milestone in schedule.milestones)
        case OneCycleConfig():
            rising, share = _place_in_cycle(schedule, step, steps)
            first = 1 / schedule.div
            last = first / schedule.final_div
            return _half_cosine(first, 1.0, share) if rising else _half_cosine(1.0, last, share)
        case ExponentialConfig():
            return schedule.gamma ** _epoch(schedule.kind, step, steps_per_epoch)
        case CompatCosineConfig():
            return _half_cosine(1.0, 0.0, _epoch(schedule.kind, step, steps_per_epoch) / schedule.period)
        case PolyConfig():
            return float(max((1 - min(step, steps) / max(steps, 1)) ** schedule.power, schedule.floor))
        case StepConfig():
            return schedule.gamma ** (step // schedule.every)
        case PlateauConfig():
            return 1.0  # `Plateau` says by how much it has been lowered
        case _:
            assert_never(schedule)


class Plateau:
    """How far the learning rate has been lowered, by the scores of evaluations.

    Attributes:
        factor: of the rate.
    """

    def __init__(self, config: PlateauConfig) -> None:
        self._config = config
        self.factor = 1.0
        self._best, self._waited, self._rest = -math.inf, 0, 0

    def judge(self, score: float) -> bool:
        """Look at an evaluation; whether the rate is lowered. A score that is not a number is no gain."""
        config = self._config
        # a score below 0 has to come nearer to 0
        gain = abs(self._best) * config.threshold if math.isfinite(self._best) else 0.0
        if score > self._best + gain:
            self._best, self._waited = score, 0
        else:
            self._waited += 1
        if self._rest:
            self._rest -= 1
            self._waited = 0
        if self._waited <= config.patience:
            return False
        self._waited, self._rest = 0, config.cooldown
        self.lower()
        return True

    def lower(self) -> None:
        """Lower the rate once."""
        self.factor = max(self.factor * self._config.gamma, self._config.floor)

    def state(self) -> dict[str, float]:
        """What an interrupted run needs to go on."""
        return {"factor": self.factor, "best": self._best, "waited": self._waited, "rest": self._rest}

    def restore(self, state: dict[str, float]) -> None:
        """Take back what `state` gave."""
        self.factor, self._best = state["factor"], state["best"]
        self._waited, self._rest = int(state["waited"]), int(state["rest"])


def _epoch(kind: str, step: int, steps_per_epoch: int) -> int:
    if steps_per_epoch < 1:
        raise RecipeError(
            f"optimizer.schedule {kind} counts epochs, and this recipe has none: "
            "give epochs and a sampling of kind epochs, or the cosine schedule"
        )
    return step // steps_per_epoch


def momentum_at(schedule: ScheduleConfig, step: int, *, steps: int) -> float | None:
    """Momentum (beta1) of a step counted from 0; None where the schedule leaves it alone."""
    if not isinstance(schedule, OneCycleConfig) or schedule.momentum is None:
        return None
    low, high = schedule.momentum
    rising, share = _place_in_cycle(schedule, step, steps)
    return _half_cosine(high, low, share) if rising else _half_cosine(low, high, share)


def set_momentum(optimizer: torch.optim.Optimizer, momentum: float) -> None:
    """Set the momentum of all groups: beta1 where there are betas."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def _place_in_cycle(schedule: OneCycleConfig, step: int, steps: int) -> tuple[bool, float]:
    """Whether the rate rises, and the share of that half that lies behind; above 1 past the end."""
    number = step + int(schedule.compat_step_first)
    peak = max(0.0, schedule.warmup_share * steps - 1)
    if number <= peak and peak > 0:
        return True, number / peak
    return False, (number - peak) / max(1.0, steps - 1 - peak)


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
