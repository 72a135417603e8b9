"""Learning to adapt, and adapting a part of a model, as data."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.learning.configs.optimizer import OptimizerConfig

NormPolicy = Literal["frozen", "batch"]


class MetaConfig(Config):
    """How tasks are drawn and learned.

    Attributes:
        inner_lr: learning rate of the SGD steps on the support.
        inner_steps: how many of them.
        support_shots: crops per task that are adapted to.
        query_shots: crops per task that measure the adapted weights.
        task_set_size: tasks per meta step, each of another event.
        first_order: leave out the derivative of the inner steps (cheaper, a little wrong).
        reduction: whether a meta step follows the mean of its tasks' gradients or their sum.
        norm: what batch normalisation does while weights adapt: `frozen` keeps the running statistics that the model
            brings along, `batch` takes those of the images at hand. Neither changes the running statistics, so that
            no task sees another's.
        images_per_pass: crops per forward pass (with `batch` they share statistics); 0 takes all of them at once.
        optimizer: of the meta step.
        momentum: of `sgd`.
    """

    inner_lr: Annotated[float, Field(gt=0)] = 1e-3
    inner_steps: Annotated[int, Field(ge=1)] = 5
    support_shots: Annotated[int, Field(ge=1)] = 4
    query_shots: Annotated[int, Field(ge=1)] = 8
    task_set_size: Annotated[int, Field(ge=1)] = 4
    first_order: bool = False
    reduction: Literal["mean", "sum"] = "mean"
    norm: NormPolicy = "frozen"
    images_per_pass: Annotated[int, Field(ge=0)] = 0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _gradient_is_not_discarded(cls, values: Any) -> Any:
        if isinstance(values, dict) and "compat_discard_meta_gradient" in values:
            raise ValueError(
                "compat_discard_meta_gradient is refused: a run that throws its gradient away learns nothing, and the "
                "weights it ends with are those it starts from"
            )
        return values

    def meta_step(self, optimizer: OptimizerConfig) -> OptimizerConfig:
        """The optimizer of the meta step, which looks at a set of tasks."""
        changes: dict[str, Any] = {"accumulate": self.task_set_size}
        if self.optimizer == "sgd":
            changes |= {"algorithm": "sgd", "betas": (self.momentum, 0.0), "decay_all": True}
        return optimizer.model_copy(update=changes)


Part = Literal["all", "decoder", "head"]
NormLearning = Literal["learned", "fixed", "fixed-encoder", "compat-fixed"]
"""Whether batch normalisation learns.

`fixed-encoder` lets the encoder alone be as it is in use, its statistics kept and nothing dropped out, which with `tune:
decoder` is a frozen encoder. `compat-fixed` fixes its factors and terms and leaves its statistics moving, as the option
`fix_bn` of MiB does, whose loop puts the layers back into training.
"""
