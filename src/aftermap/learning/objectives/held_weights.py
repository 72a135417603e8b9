"""The regulariser that a recipe of class-incremental learning asks for."""

from collections.abc import Mapping

from torch import Tensor

from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import RegulariserConfig
from aftermap.learning.published_regularisers import PublishedEWC, PublishedPI, PublishedRW
from aftermap.learning.regularisers import EWC, PI, RW, Regulariser
from aftermap.models.networks.dense import DenseModel


def regulariser_of(
    config: RegulariserConfig, teacher: DenseModel | None, carried: Mapping[str, Tensor], step: int
) -> Regulariser:
    """The regulariser of a step, with what the step before measured.

    Raises:
        RecipeError: that is not what it needs.
    """
    measure = "score:" if config.kind == "pi" else "fisher:"
    if step and not any(name.startswith(measure) for name in carried):
        raise RecipeError(
            f"step {step} has a regulariser of kind {config.kind} and step {step - 1} measured nothing for it: train "
            "every step with the same regulariser"
        )
    old = dict(teacher.named_parameters()) if step and teacher is not None else None
    state = carried if step else None
    published = config.compat_published
    if config.kind == "ewc":
        return (PublishedEWC if published else EWC)(state, old, alpha=config.alpha)
    if config.kind == "pi":
        return (PublishedPI if published else PI)(state, old)
    return (PublishedRW if published else RW)(state, old, alpha=config.alpha, interval=config.interval)
