"""What a step of a task begins with: its model, its crops and its length; and what is refused before any is run."""

import copy
from pathlib import Path

import torch

from aftermap.artefacts.card import Card
from aftermap.artefacts.store import LoadedModel, load_model
from aftermap.data.incremental.protocol import Protocol
from aftermap.data.loading.sampling import BestCrop, ClassSampling, SamplingConfig
from aftermap.errors import ModelError, RecipeError
from aftermap.learning.processes import process_count
from aftermap.models.build import build_model, trust_own, without_weights
from aftermap.models.configs import AnyModelConfig
from aftermap.models.growth import class_rows, grow, with_classes
from aftermap.models.networks.dense import DenseModel
from aftermap.models.taps import encoder_of
from aftermap.models.weights.transfer import transfer_trunk
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.training.start import RunLength


def check_model(recipe: IncrementalRecipe, model: DenseModel, protocol: Protocol, *, last: int) -> None:
    """Refuse what could not be learned, before anything is.

    Args:
        recipe: what is to be learned.
        model: see `models.growth.blank`.
        protocol: of the task.
        last: step to which it is run.

    Raises:
        ModelError: models of this kind cannot grow.
        RecipeError: crops, features or class weights that do not fit the model.
    """
    if recipe.sampling.crop_px % model.stride:
        near = max(1, round(recipe.sampling.crop_px / model.stride)) * model.stride
        raise RecipeError(
            f"sampling.crop_px {recipe.sampling.crop_px}: this model takes multiples of {model.stride}, such as {near}"
        )
    bands = getattr(recipe.model, "in_channels", len(recipe.bands))
    if bands != len(recipe.bands):
        raise RecipeError(
            f"model.in_channels is {bands}, the recipe has {len(recipe.bands)} bands ({', '.join(recipe.bands)}): "
            f"say model.in_channels={len(recipe.bands)}"
        )
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise RecipeError("precision fp16 needs a GPU: say precision=no")
    if last:
        class_rows(model, with_classes(recipe.model, 2))
    contrastive = recipe.objective.contrastive
    embedded = contrastive is not None and contrastive.features == "embedding"
    if embedded and not getattr(model, "has_embedding", False):
        raise RecipeError(
            f"objective.contrastive.features is embedding, a {recipe.model.kind} has none: take trunk, or model.kind "
            "residual-unet"
        )
    if recipe.objective.features is not None and last:
        encoder_of(model)
    try:
        recipe.objective.check_classes(protocol.channels(last))
    except ValueError as error:
        raise RecipeError(str(error)) from None


def begin_model(
    recipe: IncrementalRecipe, protocol: Protocol, step: int, before: Path
) -> tuple[DenseModel, AnyModelConfig, LoadedModel | None]:
    """A new model, or that of the step before with the classes of this one, if it adds any.

    Args:
        recipe: what the model is.
        protocol: its classes.
        step: of the task.
        before: model folder of the step before; not looked at where there is none.

    Returns:
        The model, its configuration, and the model of the step before.

    Raises:
        ModelError: the model of the step before cannot be used.
        RecipeError: it was made for other images than the recipe says, or is of another kind.
    """
    if step == 0:
        trust_own(recipe.model)
        config = with_classes(recipe.model, protocol.channels(0))
        model = build_model(config)
        if recipe.init_from is not None:
            transfer_trunk(load_model(recipe.init_from).model, model)
        return model, config, None
    parent = load_model(before)
    check_parent(parent.card, recipe, protocol, step, name=str(before))
    if not protocol.new_classes(step):
        return copy.deepcopy(parent.model), parent.card.model, parent
    model, grown = grow(
        parent.model,
        parent.card.model,
        heads=protocol.heads(step - 1),
        added=protocol.new_classes(step),
        initialisation=recipe.objective.initialisation,
    )
    return model, grown, parent


def check_parent(card: Card, recipe: IncrementalRecipe, protocol: Protocol, step: int, *, name: str) -> None:
    """Refuse a model of another task, of other images or of another kind than the recipe's to begin a step from.

    Raises:
        ModelError: it has learned other classes, or in another order.
        RecipeError: it was made for other bands or numbers, or is another network.
    """
    wanted = protocol.channel_names(step - 1)
    if card.classes.names != wanted:
        raise ModelError(
            f"{name} has learned {', '.join(card.classes.names[1:])}, step {step} of task {protocol.task} begins "
            f"from {', '.join(wanted[1:])}, in this order"
        )
    for key in ("bands", "normalisation"):
        found, said = getattr(card, key), getattr(recipe, key)
        if found != said:
            shown = f"{list(found)}" if key == "bands" else f"mean {list(found.mean)}, std {list(found.std)}"
            raise RecipeError(f"{name} was made for {key} {shown}: say the same in the recipe")
    own = without_weights(with_classes(card.model, 2))
    if own != without_weights(with_classes(recipe.model, 2)):
        raise RecipeError(
            f"{name} is another {card.model.kind} than the recipe's {recipe.model.kind} model: copy `model` "
            "from its card"
        )


def sampling_of(sampling: SamplingConfig, classes: int) -> SamplingConfig:
    """The same, with its own class weights reaching over all classes where the recipe does not say any."""
    if isinstance(sampling, ClassSampling):
        if sampling.class_weights != ClassSampling().class_weights:
            return sampling
        return sampling.model_copy(update={"class_weights": (1, *[2] * (classes - 1))})
    if sampling.crop.class_weights != BestCrop().class_weights:
        return sampling
    crop = sampling.crop.model_copy(update={"class_weights": (0, *[1] * (classes - 1))})
    return sampling.model_copy(update={"crop": crop})


def step_length(recipe: IncrementalRecipe, batches: int) -> tuple[RunLength, int]:
    """Length of the step, and of an epoch, which is as long as all processes together need for it."""
    shared = recipe.optimizer.accumulate * process_count()
    length = RunLength.of(recipe, batches, processes=process_count())
    return length, length.steps_per_epoch or max(1, batches // shared)
