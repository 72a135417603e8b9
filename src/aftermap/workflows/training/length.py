"""How long a run is, and when it is evaluated."""

from dataclasses import dataclass
from typing import Protocol, Self

from aftermap.errors import RecipeError
from aftermap.learning.optimizer import OptimizerConfig


class Counted(Protocol):
    """A recipe that counts in steps, or in epochs where it says how many."""

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def epochs(self) -> int | None: ...  # noqa: D102
    @property
    def evaluate_every(self) -> int: ...  # noqa: D102
    @property
    def optimizer(self) -> OptimizerConfig: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class RunLength:
    """Length of a run and its evaluations, all in optimizer steps.

    Attributes:
        steps_per_epoch: 0 where the recipe does not count epochs.
        every, first: distance of evaluations, and the first.
    """

    steps: int
    steps_per_epoch: int
    every: int
    first: int

    @classmethod
    def of(cls, recipe: Counted, batches: int, *, processes: int = 1) -> Self:
        """The length of a recipe whose pass over the scenes has so many batches, shared by so many processes.

        Raises:
            RecipeError: it counts epochs, and they are shorter than a step.
        """
        every = recipe.evaluate_every
        first = getattr(recipe, "evaluate_first", None) or every
        if recipe.epochs is None:
            return cls(recipe.steps, 0, every, first)
        per_epoch = batches // (recipe.optimizer.accumulate * processes)
        if per_epoch == 0:
            raise RecipeError(
                f"an epoch has {batches} batches, fewer than one optimizer step takes: lower sampling.batch_size"
            )
        return cls(recipe.epochs * per_epoch, per_epoch, every * per_epoch, first * per_epoch)

    def is_evaluated(self, step: int) -> bool:
        """Whether the model is evaluated after this step, counted from 1."""
        return step == self.steps or (step >= self.first and (step - self.first) % self.every == 0)
