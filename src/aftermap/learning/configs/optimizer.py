"""Optimizers and schedules of the learning rate, as data."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config


class CosineConfig(Config):
    """Linear warm-up, then a half cosine.

    Attributes:
        warmup_steps: steps from 0 to the full learning rate.
        final_fraction: learning rate at the end, as a fraction of `lr`.
    """

    kind: Literal["cosine"] = "cosine"
    warmup_steps: int = Field(default=50, ge=0)
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


class OneCycleConfig(Config):
    """Up and down again once in a run, the momentum the other way round; both along half cosines.

    `lr` is the peak. A run shorter than `1 / warmup_share` steps starts at it.

    Attributes:
        warmup_share: share of the run in which the rate rises.
        div: the first rate is the peak's, divided by this.
        final_div: the last rate is the first, divided by this.
        momentum: the momentum at the peak of the rate and at both ends; None leaves it alone. It is beta1 of the
            algorithms that have betas.
        compat_step_first: the schedule moves on before the optimizer steps, so that a run of T steps uses the rates
            1 to T instead of 0 to T - 1; the last one is past the end, where the cosine rises again.

    Source: Smith and Topin 2018, in the form of torch's OneCycleLR; Open Cities third place.
    """

    kind: Literal["one-cycle"]
    warmup_share: float = Field(default=0.3, gt=0, lt=1)
    div: float = Field(default=25.0, ge=1)
    final_div: float = Field(default=1e4, ge=1)
    momentum: tuple[float, float] | None = (0.85, 0.95)
    compat_step_first: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.momentum is not None and not 0 <= self.momentum[0] <= self.momentum[1] < 1:
            raise ValueError(
                f"momentum {list(self.momentum)}: expected [lowest, highest], both from 0 to below 1"
            )
        return self


class ExponentialConfig(Config):
    """The learning rate is multiplied by `gamma` after every epoch."""

    kind: Literal["exponential"]
    gamma: float = Field(default=0.96, gt=0, le=1)


class CompatCosineConfig(Config):
    """A half cosine of `period` epochs that goes on past its end: down to 0, up again, and so on.

    The rate changes once per epoch and is 0 during epochs `period`, `3 * period`, ... A run that stops early may stop
    anywhere on the wave. `cosine` is what was meant.

    Source: MiB-CD, CosineAnnealingLR with T_max 10 in runs of up to 100 epochs.
    """

    kind: Literal["compat-cosine"]
    period: int = Field(default=10, ge=1)


class PolyConfig(Config):
    """The learning rate falls to 0 as a power of the share of the run that is left, at every step.

    Attributes:
        power: 1 is a straight line.
        floor: least rate, as a fraction of `lr`.

    Source: MiB and PLOP, whose least rate is 1e-6.
    """

    kind: Literal["poly"]
    power: float = Field(default=0.9, gt=0)
    floor: float = Field(default=0.0, ge=0, le=1)


class StepConfig(Config):
    """The learning rate is multiplied by `gamma` after every so many optimizer steps."""

    kind: Literal["step"]
    every: int = Field(default=5000, ge=1)
    gamma: float = Field(default=0.1, gt=0, le=1)


class PlateauConfig(Config):
    """The learning rate is multiplied by `gamma` when evaluations no longer get better.

    Attributes:
        patience: evaluations in a row without a gain that are waited for.
        threshold: a gain is a score above the best by more than this share of it.
        cooldown: evaluations after a drop that are not counted.
        floor: least rate, as a fraction of `lr`.

    Source: torch's ReduceLROnPlateau, of the largest score.
    """

    kind: Literal["plateau"]
    gamma: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=10, ge=0)
    threshold: float = Field(default=1e-4, ge=0)
    cooldown: int = Field(default=0, ge=0)
    floor: float = Field(default=0.0, ge=0, le=1)


ScheduleConfig = Annotated[
    CosineConfig
    | MultistepConfig
    | OneCycleConfig
    | ExponentialConfig
    | CompatCosineConfig
    | PolyConfig
    | StepConfig
    | PlateauConfig,
    Field(discriminator="kind"),
]


Algorithm = Literal["adamw", "adam", "radam", "lookahead-radam", "novograd", "sgd"]


class OptimizerConfig(Config):
    """An optimizer and its schedule.

    Attributes:
        algorithm: `adamw`; `adam`, whose decay is added to the gradient and goes into the moments; `radam` (decoupled
            decay); `lookahead-radam`, the same with slow weights that take half a step every sixth; `novograd`, one
            second moment per tensor; `sgd` with momentum. The decay of the last two is added to the gradient.
        lr: the rate that the schedule's factors multiply.
        betas: decay of the moments; None is (0.9, 0.999), and (0.95, 0.98) for novograd. The first is the momentum of
            sgd, which has no second.
        clip_norm: largest L2 norm of all gradients together; 0 does not clip.
        accumulate: batches per optimizer step.
        decay_all: weight decay on biases and normalisation too, as in the published systems.
        nesterov: `sgd` looks ahead along its momentum.
        compat_epsilon: `epsilon` is added to the root of the second moment before its bias is corrected (the
            winner's own AdamW), which matters for gradients below about 1e-6.
    """

    algorithm: Algorithm = "adamw"
    lr: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-2, ge=0, allow_inf_nan=False)
    betas: tuple[float, float] | None = None
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    accumulate: int = Field(default=1, ge=1)
    decay_all: bool = False
    nesterov: bool = False
    compat_epsilon: bool = False
    schedule: ScheduleConfig = CosineConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.compat_epsilon and self.algorithm != "adamw":
            raise ValueError(f"compat_epsilon is of the algorithm adamw, and this one is {self.algorithm}")
        if self.nesterov and self.algorithm != "sgd":
            raise ValueError(f"nesterov is of the algorithm sgd, and this one is {self.algorithm}")
        return self
