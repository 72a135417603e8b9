"""What can be said about an adaptation to an event, with labels of it or without."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aftermap.artefacts.card import Activation, Card, Channel0, Normalisation
from aftermap.config import Config, build_config, read_tree
from aftermap.data.augment.operations import Flip, Operations, Rotate90
from aftermap.data.loading.damage_targets import DamageTargets
from aftermap.data.loading.sampling import ShotConfig
from aftermap.data.scene import Split
from aftermap.learning.configs.adapting import MetaConfig, Part
from aftermap.learning.configs.mean_teacher import MeanTeacherConfig, Share
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.configs.terms import DEFAULT, BinaryCrossEntropyTerm, RegionTerm, SupervisedConfig
from aftermap.learning.experiments.notify import NotifyConfig
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.precision import MetaPrecision, Precision
from aftermap.models.configs import ModelConfig
from aftermap.workflows.adaptation.guard import GuardConfig
from aftermap.workflows.training.config import LearnedTask
from aftermap.workflows.training.recipe_files import recipe_path


class AdaptConfig(Config):
    """How a model is adapted.

    Attributes:
        model: folder of the model, or `box`.
        data: a prepared dataset.
        event: whose scenes are used; their splits do not matter.
        scenes: how many labelled scenes are learned from, drawn with the seed, see `draw_scenes`.
        names: these scenes instead.
        steps: optimizer steps.
        lr: their learning rate, after a short warm-up and before a cosine to nothing.
        tune: which weights change: `all`, all but the encoder's (`decoder`), or those of the `head`.
        norm: `frozen` keeps the running statistics of batch normalisation; `updated` learns with those of the batch and
            lets the running ones follow, as in ordinary training.
        evaluated: at most this many of the other scenes are scored, spread evenly; 0 scores all.
        force: keep the adapted weights even where they score lower than the parent's.
        answers: the data are a reviewer's answers (`answer_scenes`): single buildings are known and nothing else.
    """

    kind: Literal["adapt"] = "adapt"
    model: str
    data: Path
    event: str
    scenes: int = Field(default=3, ge=1)
    names: tuple[str, ...] = ()
    steps: int = Field(default=80, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    tune: Part = "all"
    norm: Literal["frozen", "updated"] = "frozen"
    objective: SupervisedConfig | None = None
    shots: ShotConfig = ShotConfig(turn=True)
    batch_size: int = Field(default=4, ge=1)
    evaluated: int = Field(default=0, ge=0)
    seed: int = 0
    force: bool = False
    answers: bool = False
    device: str = "cpu"
    precision: Precision = "auto"
    records: RecordsConfig = RecordsConfig()


def default_objective(card: Card) -> SupervisedConfig:
    """What a model is fine-tuned with where nothing else is asked for: cross-entropy and Dice, in the card's terms."""
    if card.activation == "softmax" and card.channel_0 == "background":
        return SupervisedConfig(terms=DEFAULT)
    overlapping = DamageTargets(dilation_px=1, channel_0="building") if card.channel_0 == "building" else None
    terms = (
        BinaryCrossEntropyTerm(loss="binary-cross-entropy", weight=1.0),
        RegionTerm(loss="dice", weight=1.0, activation="sigmoid"),
    )
    return SupervisedConfig(targets=overlapping if card.model.classes > 1 else None, terms=terms)


ORIENTATIONS: tuple[Flip | Rotate90, ...] = (
    Flip(direction="horizontal", p=0.5),
    Rotate90(turns=(1, 2, 3), p=0.75),
)
"""The eight ways to lay a crop: the teacher is shown nothing that changes its colours."""


class EventGuard(GuardConfig):
    """Guard rails of an event: labels say nothing, even where there are some, unless they are asked."""

    labels: bool = False


class SourceConfig(Config):
    """Labelled scenes of other events that are learned from as well, so that the model does not forget them.

    Attributes:
        manifests: prepared datasets; the scenes of the event itself are left out.
        splits: whose scenes are taken.
        share: of the crops of a batch.
    """

    manifests: tuple[Path, ...] = Field(min_length=1)
    splits: tuple[Split, ...] = ("train",)
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


class AdaptEventRecipe(Config):
    """How a model is adapted.

    Labels of the event's scenes are used neither for learning nor, but for `guard.labels`, for the verdict.

    Attributes:
        model: folder of the model, or `box`; no ensemble.
        data: prepared datasets that hold scenes of the event.
        event: whose scenes are learned from; None takes those of all events.
        splits: only scenes of these splits; none takes all.
        names: only these scenes; none takes all.
        method: `mean-teacher`; or `batch-norm`, which moves the running statistics of batch normalisation towards those
            of the event's images and learns nothing.
        statistics: with `batch-norm`: how far, 1 takes those of the images alone.
        steps: optimizer steps; batches that the statistics are taken from.
        lr: learning rate, after a short warm-up and before a cosine to a tenth.
        tune: which weights change.
        source: labelled scenes of other events; None learns from the event alone.
        guard: when the adapted model is kept.
        evaluate: where scenes of the event have labels after all, the truth before and after is reported beside the
            verdict, which does not know it.
        evaluated: at most this many scenes, spread evenly; 0 takes all.
        force: keep the adapted weights whatever the verdict.
        save_every: steps between two saved states to resume from.

    Source: batch-norm: Li et al. 2017 (AdaBN), Schneider et al. 2020 (partly).
    """

    kind: Literal["adapt-event"] = "adapt-event"
    name: str = "adapt-event"
    model: str = "box"
    data: tuple[Path, ...] = Field(min_length=1)
    event: str | None = None
    splits: tuple[Split, ...] = ()
    names: tuple[str, ...] = ()
    method: Literal["mean-teacher", "batch-norm"] = "mean-teacher"
    statistics: Share = 0.5
    steps: int = Field(default=60, ge=1)
    lr: float = Field(default=5e-4, gt=0)
    tune: Part = "all"
    objective: MeanTeacherConfig = MeanTeacherConfig(terms=(), decay=0.98)
    source: SourceConfig | None = None
    crop_px: int = Field(default=256, ge=1)
    batch_size: int = Field(default=4, ge=1)
    augment: Operations | None = ORIENTATIONS
    guard: EventGuard = EventGuard()
    evaluate: bool = True
    evaluated: int = Field(default=0, ge=0)
    force: bool = False
    save_every: int = Field(default=50, ge=1)
    seed: int = 0
    device: str = "cpu"
    threads: int = Field(default=0, ge=0)
    precision: Precision = "auto"
    records: RecordsConfig = RecordsConfig()

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if self.method == "batch-norm" and self.source is not None:
            raise ValueError("method batch-norm learns nothing, so source has no use: leave it out")
        if self.method == "batch-norm" and self.statistics == 0:
            raise ValueError("statistics is 0, which changes nothing: give a share up to 1")
        if self.source is not None and self.objective.hard is None:
            raise ValueError("source gives labels, and objective.terms is empty: give terms, or no source")
        return self


class MetaDataConfig(Config):
    """Events to learn from, and events to see how well adapting goes.

    Attributes:
        manifests: prepared datasets; their labelled scenes are pooled, whatever split they are in.
        validation_events: held out; they choose the best step.
        exclude_events: left out altogether.
        licence: said on the card in place of what the manifests say.
    """

    manifests: list[Path]
    validation_events: list[str] = Field(min_length=1)
    exclude_events: list[str] = Field(default_factory=list)
    description: str = ""
    licence: str = "not stated"


class MetaRecipe(Config):
    """One run of meta-learning.

    Attributes:
        task: `building` adapts localization on one date, `damage` the joint damage scale on two.
        init_from: a model folder to start from, with its bands, normalisation and way of deciding.
        model: a fresh model instead.
        meta: tasks, inner steps and the meta step.
        optimizer: learning rate, weight decay, clipping and schedule of the meta step.
        steps: task sets.
        epochs: as many task sets as let every event come up so often on average, instead of `steps`.
        evaluate_every: task sets (epochs, where the recipe counts in them) between two evaluations.
        validation_draws: tasks per held-out event in an evaluation, the same every time.
        save_every: task sets between two saved states; 0 means at evaluations only.
        records: the experiment database.
        notify: who is told.
    """

    name: str
    task: LearnedTask
    data: MetaDataConfig
    init_from: Path | None = None
    model: ModelConfig | None = None
    objective: SupervisedConfig = SupervisedConfig()
    shots: ShotConfig = ShotConfig()
    meta: MetaConfig = MetaConfig()
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=1e-4, weight_decay=0.0, schedule=CosineConfig(warmup_steps=5)
    )
    bands: tuple[Literal["red", "green", "blue"], ...] = ("red", "green", "blue")
    normalisation: Normalisation = Normalisation()
    activation: Activation = "softmax"
    channel_0: Channel0 = "background"
    resolution_m: tuple[float, float] = (0.3, 1.2)
    precision: MetaPrecision = "no"
    steps: int = Field(default=200, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    evaluate_every: int = Field(default=20, ge=1)
    validation_draws: int = Field(default=2, ge=1)
    save_every: int = Field(default=0, ge=0)
    records: RecordsConfig = RecordsConfig()
    notify: NotifyConfig = NotifyConfig()
    seed: int = 0
    threads: int = 0
    licence: str = "not stated"
    limits: str = ""

    @model_validator(mode="after")
    def _start_is_one_and_usable(self) -> "MetaRecipe":
        if (self.model is None) == (self.init_from is None):
            raise ValueError("give either init_from (a model folder to start from) or model (a fresh one)")
        if self.model is not None and self.meta.norm == "frozen":
            raise ValueError(
                "meta.norm frozen keeps the running statistics that a model brings along, and a fresh one has none: "
                "give init_from, or meta.norm: batch"
            )
        if self.optimizer.accumulate != 1:
            raise ValueError("optimizer.accumulate is meta.task_set_size here: leave it out")
        return self


def wanted_adaptation(
    model: str | Path, data: Path, *, labels: bool = True, **said: Any
) -> AdaptConfig | AdaptEventRecipe:
    """What is asked for, laid over the defaults with labels, or over the shipped recipe adapt-event without.

    Raises:
        RecipeError: a key or value is wrong.
    """
    if labels:
        return build_config(AdaptConfig, {"model": str(model), "data": data, **said}, source="adapt")
    tree = read_tree(recipe_path("adapt-event.yaml"))
    return build_config(
        AdaptEventRecipe, tree | {"model": str(model), "data": [data], **said}, source="adapt"
    )
