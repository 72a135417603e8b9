"""What a recipe begins with: its model, its objective and its crops."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, assert_never

from aftermap.artefacts.card import Card, Parent
from aftermap.artefacts.ensemble import read_card
from aftermap.artefacts.licences import with_others
from aftermap.artefacts.store import load_card, load_model
from aftermap.data.loading.loader import CropSource
from aftermap.data.scene import Scene
from aftermap.errors import ModelError, RecipeError
from aftermap.learning.configs.distillation import DistillationConfig
from aftermap.learning.configs.heads import HeadsConfig
from aftermap.learning.configs.mean_teacher import MeanTeacherConfig
from aftermap.learning.configs.optimizer import OptimizerConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.distillation import build_distillation
from aftermap.learning.objectives.heads import HeadsObjective, require_heads
from aftermap.learning.objectives.mean_teacher import MeanTeacher
from aftermap.learning.objectives.supervised import Supervised
from aftermap.models.build import build_model, trust_own
from aftermap.models.configs.encoder import EncoderRecord
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.late_fusion import LateFusion
from aftermap.models.weights.brought import brought_encoder
from aftermap.models.weights.transfer import transfer_trunk
from aftermap.workflows.training.config import TrainRecipe


def start_model(recipe: TrainRecipe) -> tuple[DenseModel, str | None]:
    """A fresh model, or one grown from `init_from`, with the parent's hash."""
    trust_own(recipe.model)
    model = build_model(recipe.model)
    dates = 2 if recipe.task == "damage" else 1
    if model.dates != dates:
        raise RecipeError(
            f"model.kind {recipe.model.kind} is for {model.dates} date(s), task {recipe.task} has {dates}: "
            "choose another model, or task"
        )
    if recipe.sampling.crop_px % model.stride:
        near = max(1, round(recipe.sampling.crop_px / model.stride)) * model.stride
        raise RecipeError(
            f"sampling.crop_px {recipe.sampling.crop_px}: this model takes multiples of {model.stride}, such as {near}"
        )
    if recipe.second_from is not None:
        _begin_second(model, recipe.second_from)
    if recipe.init_from is None:
        return model, None
    parent = load_model(recipe.init_from)
    transfer_trunk(parent.model, model)
    return model, parent.sha256


def _begin_second(model: DenseModel, folder: Path) -> None:
    """Give the second network of a late fusion all weights of another model.

    Raises:
        ModelError: the model is of another make.
    """
    assert isinstance(model, LateFusion)
    given, own = load_model(folder).model.state_dict(), model.second.state_dict()
    strange = [
        name
        for name in given.keys() | own.keys()
        if name not in given or name not in own or given[name].shape != own[name].shape
    ]
    if strange:
        raise ModelError(
            f"second_from {folder} does not fit model.second: {len(strange)} weights differ, such as {min(strange)}"
        )
    model.second.load_state_dict(given)


def began_with(recipe: TrainRecipe) -> EncoderRecord | None:
    """The file of encoder weights that a run begins with, or that its parent began with.

    Raises:
        RecipeError: nobody says the file's licence.
    """
    if recipe.init_from is not None:
        return load_card(recipe.init_from).encoder
    return brought_encoder(recipe.model, recipe.encoder_licence)


def parents_of(recipe: TrainRecipe) -> tuple[Parent, ...]:
    """The models that a recipe begins with, and those that it is taught by."""
    named: list[tuple[Literal["start", "second", "teacher"], Path | None]] = [
        ("start", recipe.init_from),
        ("second", recipe.second_from),
    ]
    if isinstance(recipe.objective, DistillationConfig):
        named += [("teacher", teacher.model) for teacher in recipe.objective.teachers.values()]
    parents = []
    for part, path in named:
        if path is None:
            continue
        card = read_card(path)
        weights = card.weights if isinstance(card, Card) else None
        sha256 = weights.sha256 if weights else None
        parents.append(
            Parent(part=part, name=card.name, version=card.version, licence=card.licence, sha256=sha256)
        )
    return tuple(parents)


def licence_with(recipe: TrainRecipe, encoder: EncoderRecord | None, parents: tuple[Parent, ...] = ()) -> str:
    """The licence of a model: what its recipe says, with that of encoder weights and of parents that limit its use."""
    own = recipe.licence
    if encoder is not None:
        own = f"{own}; encoder weights: {encoder.licence}"
    elif (
        recipe.encoder_licence and recipe.init_from is None and getattr(recipe.model, "encoder_weights", None)
    ):
        own = f"{own}; encoder weights: {recipe.encoder_licence}"
    return with_others(own, ((str(parent).rpartition(":")[0], parent.licence) for parent in parents))


def start_objective(recipe: TrainRecipe, model: DenseModel) -> Objective:
    """What is minimised; teachers are opened here."""
    match recipe.objective:
        case SupervisedConfig():
            return Supervised(recipe.objective)
        case HeadsConfig():
            require_heads(model)
            return HeadsObjective(recipe.objective)
        case MeanTeacherConfig():
            return MeanTeacher(recipe.objective, model)
        case DistillationConfig():
            return build_distillation(
                recipe.objective,
                model,
                mean=recipe.normalisation.mean,
                std=recipe.normalisation.std,
                bands=recipe.bands,
                dates=model.dates,
                classes=model.classes,
                crop_px=recipe.sampling.crop_px,
            )
        case _:
            assert_never(recipe.objective)


def start_crops(recipe: TrainRecipe, scenes: Sequence[Scene], model: DenseModel) -> CropSource:
    """Crops of the scenes as the recipe draws them."""
    return CropSource(
        scenes,
        target=recipe.task,
        dates=model.dates,
        sampling=recipe.sampling,
        augment=recipe.augment,
        bands=recipe.bands,
        mean=recipe.normalisation.mean,
        std=recipe.normalisation.std,
        seed=recipe.seed,
    )


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
