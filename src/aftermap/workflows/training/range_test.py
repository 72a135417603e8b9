"""A recipe's learning-rate range test: its own data, model and objective, no model written."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from aftermap.errors import RecipeError
from aftermap.files import make_folder, write_json
from aftermap.learning.configs.optimizer import CosineConfig
from aftermap.learning.loop import Step
from aftermap.learning.range_test import RangeTest, RangeTraining, run_range_test
from aftermap.products.figures.range_figure import draw_range
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.scenes import choose_scenes
from aftermap.workflows.training.start import start_crops, start_model, start_objective


@dataclass(frozen=True, slots=True)
class RangeSettings:
    """The range of a test.

    Attributes:
        steps: to rise over.
        lr_min, lr_max: first and last learning rate.
    """

    steps: int = 100
    lr_min: float = 1e-6
    lr_max: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a range that does not rise.

        Raises:
            RecipeError: it does not, or has too few steps.
        """
        if not 0 < self.lr_min < self.lr_max:
            raise RecipeError(
                f"the learning rate cannot rise from {self.lr_min:g} to {self.lr_max:g}: "
                "give 0 < --lr-min < --lr-max"
            )
        if self.steps < 20:
            raise RecipeError(f"--range-steps {self.steps}: a range needs at least 20 steps")


def range_test(
    recipe: TrainRecipe,
    out: Path,
    settings: RangeSettings | None = None,
    *,
    on_step: Callable[[Step], None] = lambda step: None,
) -> RangeTest:
    """Try rising learning rates on a recipe; writes `range.json` and `range.png` into `out`.

    Args:
        recipe: its schedule and its learning rate play no part, all else does.
        out: a folder, made where it does not exist.
        settings: the range.
        on_step: called after every step.

    Raises:
        DataError: the data did not pass its check, or a split is empty.
        RecipeError: the model does not take the task's dates or the crops' size.
        TrainingError: the loss explodes at once.
        OutputError: nothing can be written to `out`.
    """
    settings = settings or RangeSettings()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    chosen = choose_scenes(recipe.data, recipe.task, unlabelled=recipe.data.unlabelled)
    torch.manual_seed(recipe.seed)
    model, _ = start_model(recipe)
    make_folder(out)
    training = RangeTraining(
        model,
        start_objective(recipe, model),
        recipe.optimizer.model_copy(update={"lr": settings.lr_min, "schedule": CosineConfig()}),
        steps=settings.steps,
        seed=recipe.seed,
        precision=recipe.precision,
    )
    training.lr_max = settings.lr_max
    source = start_crops(recipe, chosen.training, model)
    source.device = training.accelerator.device
    with closing(source):
        result = run_range_test(training, source, on_step=on_step)
    facts = {"recipe": recipe.name, "optimizer.lr": recipe.optimizer.lr, **result.as_dict()}
    write_json(out / "range.json", facts)
    draw_range(out / "range.png", result, title=f"{recipe.name}: learning-rate range test")
    return result
