"""A trained model adapted to an event, with labels of a few scenes or from its images alone."""

import time
from pathlib import Path

import torch

from aftermap.artefacts.ensemble import is_ensemble
from aftermap.artefacts.store import load_model
from aftermap.errors import ModelError
from aftermap.workflows.adaptation.adaptation_kind import run_adaptation
from aftermap.workflows.adaptation.config import AdaptConfig, AdaptEventRecipe
from aftermap.workflows.adaptation.with_answers import WithAnswers
from aftermap.workflows.adaptation.with_labels import AdaptedWithLabels, WithLabels
from aftermap.workflows.adaptation.without_labels import AdaptedWithoutLabels, WithoutLabels
from aftermap.workflows.training.training_kind import OnProgress, unseen


def adapt(
    recipe: AdaptConfig | AdaptEventRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: OnProgress = unseen,
) -> AdaptedWithLabels | AdaptedWithoutLabels:
    """Adapt a model to an event and write it, with what speaks for it: the entry of adaptations.

    With labels (`AdaptConfig`) the event's other labelled scenes are scored before and after; without
    (`AdaptEventRecipe`) guard rails judge. Where it did not help, the folder gets the parent's weights, unless
    `recipe.force`. See `run_adaptation` for what is written.

    Args:
        recipe: what to do.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on from the saved state, to the same weights as without the interruption.
        command: how the user asked for it; goes to the card.
        on_progress: called after every scene, step and stage.

    Raises:
        DataError: the event has no scenes, or too few, or labels that the model does not tell.
        ModelError: there is no such model, it is an ensemble, or has nothing that could be adapted.
        RecipeError: crops or an objective that the model does not take.
        OutputError: the run folder exists or cannot be written.
        TrainingError: a loss is not finite, or there is nothing to resume.
    """
    started = time.monotonic()
    if is_ensemble(recipe.model):
        raise ModelError(
            f"{recipe.model} is an ensemble: adapt its members one by one, they are its sub-folders"
        )
    parent = load_model(recipe.model)
    if isinstance(recipe, AdaptConfig):
        kind = WithAnswers if recipe.answers else WithLabels
        return run_adaptation(
            kind(recipe, parent), folder, resume, started, command=command, on_progress=on_progress
        )
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    return run_adaptation(
        WithoutLabels(recipe, parent), folder, resume, started, command=command, on_progress=on_progress
    )
