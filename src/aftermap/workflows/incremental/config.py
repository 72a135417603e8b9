"""What an incremental recipe can say: which classes are learned in which step, and how."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from aftermap.artefacts.card import Normalisation
from aftermap.config import Config
from aftermap.data.augment.operations import DEFAULT, Operations
from aftermap.data.incremental.protocol import Filter, Future
from aftermap.data.loading.sampling import ClassSampling, EpochSampling, SamplingConfig
from aftermap.data.scene import Split
from aftermap.learning.configs.adapting import NormLearning, Part
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.configs.optimizer import OptimizerConfig
from aftermap.learning.experiments.notify import NotifyConfig
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.precision import Precision
from aftermap.models.configs import AnyModelConfig, ModelConfig


class ProtocolChoices(Config):
    """What a step sees of the data; see `data.protocol.Protocol` for the fields.

    Attributes:
        future: `background` is the default here: where every class of a dataset is a real one, nothing but the classes
            learned so far would be left to be wrong about, and a model that finds them everywhere would be perfect.
        places: events whose tiles each step learns from, where later steps add places and no class; `task` then names the
            classes of step 0, which are all.
    """

    future: Future = "background"
    filter: Filter = "overlapped"
    seed: int = 0
    compat_new_only: bool = False
    compat_ignored_is_background: bool = False
    compat_background_selects: bool = False
    compat_ignored_excludes: bool = False
    places: tuple[tuple[str, ...], ...] = ()


class TileHoldout(Config):
    """A share of the training tiles as validation set, instead of a split of the manifest.

    Attributes:
        fraction: share of the tiles.
        seed: of the draw.
        compat_tiles: draws tile by tile, each with chance `fraction`, so that tiles of one large image, which may
            overlap, are on both sides (MiB-CD); else whole images are drawn.
    """

    fraction: float = Field(default=0.1, gt=0, lt=1)
    seed: int = 1337
    compat_tiles: bool = False


class IncrementalDataConfig(Config):
    """Which prepared datasets are learned from.

    Attributes:
        manifests: folders or files made by `aftermap data prepare`; their scenes are pooled. Their classes may differ:
            those of one name are one, and what a dataset does not label is unknown in it.
        rename: classes by another name than the datasets', such as `{buildings: building}`; several may get the same. A
            class that keeps its name here is another one than that of a similar name.
        target: which masks are learned: those of the dataset's legend, buildings, or the damage of buildings on two
            dates. `auto` takes `classes` where the dataset has a legend, else `damage` for models of two dates and
            `building` for those of one.
        train_splits: splits that are learned from.
        validation_split: split that chooses the best evaluation of a step.
        holdout: validation tiles are drawn from the training splits instead.
        test_split: split that is scored after every step.
        exclude_events: events left out.
        licence: said on the card in place of what the manifests say.
    """

    manifests: list[Path] = Field(min_length=1)
    rename: dict[str, str] = Field(default_factory=dict)
    target: Literal["auto", "classes", "building", "damage"] = "auto"
    train_splits: tuple[Split, ...] = ("train",)
    validation_split: Split = "validation"
    holdout: TileHoldout | None = None
    test_split: Split = "test"
    exclude_events: list[str] = Field(default_factory=list)
    description: str = ""
    licence: str = "not stated"


class ReplayConfig(Config):
    """Tiles of earlier steps that are shown again, with the labels that they had then.

    Attributes:
        memory_mb: decoded size of what is kept, images and masks together; 0 keeps nothing.
        seed: of the choice.
    """

    memory_mb: float = Field(default=0.0, ge=0)
    seed: int = 0


class IncrementalSelection(Config):
    """Which evaluation of a step is kept.

    Attributes:
        metric: `miou` is the mean intersection over union of the classes learned so far that occur in the validation
            tiles; `micro-f1` is the share of pixels that are right, as in the published system, whose other monitors
            are `micro-iou`, `precision` and `recall` (means over the classes, the background among them).
        keep: `last` keeps the end of the step whatever its score.
        patience: a step ends after so many evaluations in a row without a gain; 0 never.
        compat_filtered: validation looks only at tiles that the filter of training would choose.
        compat_overwrite_first: until an evaluation beats the first, every one replaces the kept model, better or not.
    """

    metric: Literal["miou", "micro-f1", "micro-iou", "precision", "recall"] = "miou"
    keep: Literal["best", "last"] = "best"
    patience: int = Field(default=0, ge=0)
    compat_filtered: bool = False
    compat_overwrite_first: bool = False


class ReportConfig(Config):
    """What is drawn of a run.

    Attributes:
        strips: test tiles in `strips.png`; 0 draws none.
        compat_tiles: scores of the published system's test beside ours: only tiles with a class that the step added,
            pixels that tiles share counted in each.
    """

    strips: int = Field(default=4, ge=0)
    compat_tiles: bool = False


class StepChanges(Config):
    """What differs in some steps; None is as the recipe says."""

    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=0)
    lr: float | None = Field(default=None, gt=0)
    tune: Part | None = None
    norm: NormLearning | None = None


class IncrementalRecipe(Config):
    """Classes learned step after step, each step from the model of the one before.

    Attributes:
        task: name of a table of steps for the dataset's legend, or the classes of each step by name. In a recipe
            `classes: [unchanged, changed]` says the same for classes that are learned all at once, and steps may be
            written as `{classes: [...], places: [...]}`, which sets `protocol.places`.
        joint: learn all classes of the task in one step: the bound that the others are measured against.
        last_step: stop after this step of the task, counted from 0; None runs all.
        protocol: which tiles a step sees, and what becomes of classes that are not of the step.
        model: any model; its number of classes follows from the task.
        init_from: a model folder whose encoder and decoder are the start of the first step.
        objective: what keeps old classes from being forgotten.
        tune: which part of the model learns; `later: {tune: decoder}` freezes the encoder after the first step.
        norm: whether its batch normalisation does.
        steps: optimizer steps per step of the task.
        epochs: passes over the tiles of the step instead of `steps`.
        evaluate_every: optimizer steps (epochs, where the recipe counts in them) between two evaluations.
        first: what differs in the first step; `later`: in the others.
        validation_tiles: at most so many tiles per evaluation, spread evenly; 0 takes all.
        save_every: optimizer steps between two saved states to resume from; 0 means at evaluations only.
        bands: of the images, in the order that the model sees; `model.in_channels` follows from them where the model has
            it and the recipe does not say it.
        normalisation: of each band; its mean and deviation are 127.5 where the recipe does not say them.
        seed: of step t is `seed + t`.
        compat_seed: every step has the same seed (MiB-CD).
    """

    kind: Literal["incremental"]
    name: str
    task: str | tuple[tuple[str, ...], ...]
    joint: bool = False
    last_step: int | None = Field(default=None, ge=0)
    data: IncrementalDataConfig
    protocol: ProtocolChoices = ProtocolChoices()
    model: ModelConfig = Field(discriminator="kind")
    init_from: Path | None = None
    objective: IncrementalConfig = IncrementalConfig(kind="incremental", method="mib")
    replay: ReplayConfig = ReplayConfig()
    sampling: SamplingConfig = ClassSampling()
    augment: Operations | None = DEFAULT
    tune: Part = "all"
    norm: NormLearning = "learned"
    optimizer: OptimizerConfig = OptimizerConfig()
    selection: IncrementalSelection = IncrementalSelection()
    bands: tuple[str, ...] = ("red", "green", "blue")
    normalisation: Normalisation = Normalisation()
    resolution_m: tuple[float, float] = (0.05, 1.2)
    precision: Precision = "auto"
    steps: int = Field(default=500, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    first: StepChanges = StepChanges()
    later: StepChanges = StepChanges()
    validation_tiles: int = Field(default=0, ge=0)
    save_every: int = Field(default=0, ge=0)
    report: ReportConfig = ReportConfig()
    records: RecordsConfig = RecordsConfig()
    notify: NotifyConfig = NotifyConfig()
    seed: int = 0
    compat_seed: bool = False
    threads: int = 0
    weights_dtype: Literal["float32", "float16"] = "float32"
    licence: str = "not stated"
    limits: str = ""

    @field_validator("task", mode="before")
    @classmethod
    def _plain_numbers_are_names(cls, value: object) -> object:
        """YAML reads the name `321` of a table as a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="before")
    @classmethod
    def _classes_are_one_step(cls, tree: object) -> object:
        """`classes: [a, b]` is a task of one step."""
        if not isinstance(tree, dict) or "classes" not in tree:
            return tree
        rest = {key: value for key, value in tree.items() if key != "classes"}
        if rest.get("task") is not None:
            raise ValueError("task and classes both say what is learned: leave one out")
        return {**rest, "task": [tree["classes"]]}

    @model_validator(mode="before")
    @classmethod
    def _steps_may_name_places(cls, tree: object) -> object:
        """`task: [{classes: [a, b], places: [x]}, {places: [y]}]` is classes and places in two keys."""
        if not isinstance(tree, dict) or not isinstance(tree.get("task"), list | tuple):
            return tree
        steps = tree["task"]
        if not steps or not all(isinstance(step, Mapping) for step in steps):
            return tree
        for number, step in enumerate(steps):
            if strange := sorted(set(step) - {"classes", "places"}):
                raise ValueError(
                    f"step {number} of the task says {', '.join(strange)}: known are classes, places"
                )
        protocol = tree.get("protocol") or {}
        if isinstance(protocol, Mapping) and protocol.get("places"):
            raise ValueError("task and protocol.places both say which places are learned: leave one out")
        places = [step.get("places") or [] for step in steps]
        named = {**protocol, "places": places} if any(places) else protocol
        return {**tree, "task": [step.get("classes") or [] for step in steps], "protocol": named}

    @model_validator(mode="before")
    @classmethod
    def _numbers_follow_from_the_bands(cls, tree: object) -> object:
        """Input channels and normalisation for as many bands as there are, where they are not said."""
        if not isinstance(tree, dict) or not isinstance(tree.get("bands"), list | tuple):
            return tree
        count = len(tree["bands"])
        model, norm = tree.get("model"), tree.get("normalisation", {})
        changes: dict[str, object] = {}
        if isinstance(model, Mapping) and "in_channels" not in model and _takes_bands(model.get("kind")):
            changes["model"] = {**model, "in_channels": count}
        if isinstance(norm, Mapping):
            usual = (Normalisation().mean[0],) * count
            changes["normalisation"] = {"mean": usual, "std": usual, **norm}
        return {**tree, **changes}

    @model_validator(mode="after")
    def _counts_go_together(self) -> Self:
        for name, changes in (("first", self.first), ("later", self.later)):
            if changes.epochs is not None and changes.steps is not None:
                raise ValueError(f"{name} has both steps and epochs: say one")
        if len(self.bands) != len(self.normalisation.mean) or len(self.bands) != len(self.normalisation.std):
            raise ValueError(
                f"normalisation has {len(self.normalisation.mean)} means and {len(self.normalisation.std)} "
                f"deviations, there are {len(self.bands)} bands: {', '.join(self.bands)}; give normalisation.mean and "
                "normalisation.std a number for each"
            )
        if isinstance(self.sampling, EpochSampling) and self.sampling.repeat != "none":
            raise ValueError(
                f"sampling.repeat {self.sampling.repeat} is for the damage classes of an ordinary run"
            )
        return self

    def changed(self, step: int) -> "IncrementalRecipe":
        """The recipe of one step: with what `first` or `later` changes."""
        changes = self.first if step == 0 else self.later
        update: dict[str, object] = {}
        if changes.steps is not None:
            update |= {"steps": changes.steps, "epochs": None}
        if changes.epochs is not None:
            update |= {"epochs": changes.epochs}
        if changes.evaluate_every is not None:
            update |= {"evaluate_every": changes.evaluate_every}
        if changes.patience is not None:
            update |= {"selection": self.selection.model_copy(update={"patience": changes.patience})}
        if changes.lr is not None:
            update |= {"optimizer": self.optimizer.model_copy(update={"lr": changes.lr})}
        update |= {key: value for key in ("tune", "norm") if (value := getattr(changes, key)) is not None}
        return self.model_copy(update=update)

    def step_seed(self, step: int) -> int:
        """Seed of everything that is drawn in a step."""
        return self.seed if self.compat_seed else self.seed + step


def _takes_bands(kind: Any) -> bool:
    """Whether models of a kind can be told how many bands they see."""
    return any(
        model.model_fields["kind"].default == kind and "in_channels" in model.model_fields
        for model in get_args(AnyModelConfig)
    )


def joined(steps: Sequence[Sequence[str]]) -> list[list[str]]:
    """All steps as one, in the same order."""
    return [[name for names in steps for name in names]]
