"""What a training recipe can say. The numbers live in YAML files; this is their vocabulary."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from aftermap.artefacts.card import Activation, Channel0, Normalisation
from aftermap.classes import BUILDING, DAMAGE, ClassScheme
from aftermap.config import Config
from aftermap.data.augment.operations import DEFAULT, Operations
from aftermap.data.loading.sampling import BestCrop, ClassSampling, EpochSampling, SamplingConfig
from aftermap.data.scene import Split
from aftermap.learning.configs.adapting import NormLearning, Part
from aftermap.learning.configs.distillation import DistillationConfig
from aftermap.learning.configs.distillation_terms import teacher_of
from aftermap.learning.configs.heads import HeadsConfig
from aftermap.learning.configs.mean_teacher import MeanTeacherConfig
from aftermap.learning.configs.optimizer import OptimizerConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.experiments.notify import NotifyConfig
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.precision import Precision
from aftermap.models.configs import LateFusionConfig, ModelConfig

LearnedTask = Literal["building", "damage"]


def _objective_kind(value: Any) -> str:
    """Which objective a recipe means: learning from labels where it does not say."""
    unsaid = "supervised"
    return str(value.get("kind", unsaid) if isinstance(value, dict) else getattr(value, "kind", unsaid))


ObjectiveConfig = Annotated[
    Annotated[SupervisedConfig, Tag("supervised")]
    | Annotated[DistillationConfig, Tag("distillation")]
    | Annotated[MeanTeacherConfig, Tag("mean-teacher")]
    | Annotated[HeadsConfig, Tag("heads")],
    Discriminator(_objective_kind),
]


class HoldoutConfig(Config):
    """A random share of the training scenes as validation set, instead of a split of the manifest.

    Scenes are drawn one by one, so neighbours and events are on both sides: use it to repeat the winner's runs.

    Attributes:
        seed: of the draw; every fold of the winner is one.
        compat_train_on_all: the validation scenes are learned from too, as in the winner's tuning runs; the scores
            of such a run are not honest.
    """

    fraction: float = Field(default=0.1, gt=0, lt=1)
    seed: int = 0
    compat_train_on_all: bool = False


class SelectionConfig(Config):
    """Which step of a run is kept.

    Attributes:
        metric: `official` is the official score over the classes that occur (localization: pooled pixel F1);
            `jaccard` is the intersection over union of building pixels, pooled over the scenes; `xview2` and
            `metadamagenet` are the measures by which the published systems chose; `information` in the answers needs no
            labels: the validation scenes may have none, and nothing is tuned; see `recipes.guard`.
        localization: for `xview2`: a folder of building probabilities per scene (`<scene>.png`, 8 bits), from models
            that did not learn from the scene; None takes the model's own.
        keep: `last` keeps the end of the run whatever its score.
        tune: choose building threshold and class weights on the validation scenes and write them into the card.
    """

    metric: Literal["official", "jaccard", "xview2", "metadamagenet", "information"] = "official"
    localization: Path | None = None
    keep: Literal["best", "last"] = "best"
    tune: bool = True


class DataConfig(Config):
    """Which prepared datasets are learned from.

    Attributes:
        manifests: folders or files made by `aftermap data prepare` or `data synth`; their scenes are pooled.
        train_splits: splits that are learned from.
        validation_split: split that chooses the best step and the threshold.
        holdout: validation scenes are drawn from the training splits instead.
        exclude_events: events left out of training and validation.
        unlabelled: scenes of the training splits without labels take part too; teachers, or soft labels, tell about
            them.
        licence: said on the card in place of what the manifests say.
    """

    manifests: list[Path]
    train_splits: tuple[Split, ...] = ("train",)
    validation_split: Split = "validation"
    holdout: HoldoutConfig | None = None
    exclude_events: list[str] = Field(default_factory=list)
    unlabelled: bool = False
    description: str = ""
    licence: str = "not stated"


class TrainRecipe(Config):
    """One training run.

    Attributes:
        task: `building` learns localization on one date, `damage` the joint damage scale on two.
        encoder_licence: of what `model.encoder_weights` names; needed where that is a file whose metadata say none.
        init_from: a model folder whose encoder and decoder are the start (siamese from localization).
        second_from: a model folder that the second network of a `late-fusion` is at the start, whole.
        tune: which part of the model learns; the others stay as they start.
        norm: whether its batch normalisation does.
        steps: optimizer steps.
        epochs: passes over the scenes instead of `steps`; needs a sampling of kind `epochs`.
        keep_optimizer: keep the state of the optimizer in the run folder, for another run to begin with.
        optimizer_from: the folder of a run of the same model that did, whose moments this one begins with.
        evaluate_every: steps (epochs, where the recipe counts in them) between two evaluations; the end is always
            evaluated.
        evaluate_first: the first evaluation, where it is not `evaluate_every`.
        bands: order of the channels that the model sees.
        activation: what turns the logits into probabilities where the model is used; a model with one logit is
            always a sigmoid.
        validation_scenes: at most this many scenes per evaluation (spread evenly); 0 takes all.
        save_every: steps between two saved states to resume from; 0 means at evaluations only.
        teacher_check: score the teachers on some validation scenes first, and warn of one that is no better than chance.
    """

    name: str
    task: LearnedTask
    data: DataConfig
    model: ModelConfig = Field(discriminator="kind")
    encoder_licence: str = ""
    init_from: Path | None = None
    second_from: Path | None = None
    objective: ObjectiveConfig = SupervisedConfig()
    sampling: SamplingConfig = ClassSampling()
    augment: Operations | None = DEFAULT
    tune: Part = "all"
    norm: NormLearning = "learned"
    optimizer: OptimizerConfig = OptimizerConfig()
    keep_optimizer: bool = False
    optimizer_from: Path | None = None
    selection: SelectionConfig = SelectionConfig()
    activation: Activation = "softmax"
    bands: tuple[Literal["red", "green", "blue"], ...] = ("red", "green", "blue")
    normalisation: Normalisation = Normalisation()
    resolution_m: tuple[float, float] = (0.3, 1.2)
    precision: Precision = "auto"
    steps: int = Field(default=1000, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    evaluate_first: int | None = None
    validation_scenes: int = Field(default=40, ge=0)
    save_every: int = Field(default=0, ge=0)
    teacher_check: bool = True
    records: RecordsConfig = RecordsConfig()
    notify: NotifyConfig = NotifyConfig()
    seed: int = 0
    threads: int = Field(default=0, ge=0)
    weights_dtype: Literal["float32", "float16"] = "float32"
    licence: str = "not stated"
    limits: str = ""

    @property
    def scheme(self) -> ClassScheme:
        """Class scheme of the task."""
        return BUILDING if self.task == "building" else DAMAGE

    @property
    def channel_0(self) -> Channel0:
        """What the first of several channels is taught: the background, or that there is a building."""
        return "background" if self.objective.targets is None else self.objective.targets.channel_0

    @field_validator("resolution_m")
    @classmethod
    def _finest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError(
                f"{list(value)} is no range of metres per pixel, finest first, such as [0.3, 1.2]"
            )
        return value

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> "TrainRecipe":
        if self.model.classes == 1 and self.task == "building" and self.activation != "sigmoid":
            raise ValueError("a model with one logit needs activation: sigmoid")
        one_logit = self.model.classes == 1 and self.task == "building"
        if self.model.classes != len(self.scheme) and not one_logit:
            raise ValueError(
                f"task {self.task} has {len(self.scheme)} classes, model.classes is {self.model.classes}"
            )
        if self.second_from is not None and not isinstance(self.model, LateFusionConfig):
            raise ValueError(f"second_from is for model.kind late-fusion, and this is {self.model.kind}")
        self.objective.check_classes(self.model.classes)
        if isinstance(self.objective, MeanTeacherConfig) and self.objective.activation != self.activation:
            raise ValueError(
                f"objective.activation is {self.objective.activation}, activation is {self.activation}: the teacher's "
                "answers would be read in another way than the model's, give both the same"
            )
        if self.sampling.date_dropout:
            self._check_date_dropout()
        if (
            self.data.unlabelled
            and isinstance(self.objective, SupervisedConfig | HeadsConfig)
            and self.objective.soft is None
        ):
            raise ValueError(
                "data.unlabelled gives images without labels: objective.soft learns from their soft labels, "
                "objective.kind distillation and mean-teacher from what a teacher says"
            )
        key, given, default = _class_weights(self.sampling)
        if given != default and len(given) != len(self.scheme):
            raise ValueError(
                f"{key} has {len(given)} values, task {self.task} has {len(self.scheme)} classes, background first"
            )
        return self

    def _check_date_dropout(self) -> None:
        """Refuse what cannot leave out the classes that one date does not tell apart."""
        objective = self.objective
        if self.task != "damage":
            raise ValueError(f"sampling.date_dropout is for task damage, task is {self.task}: leave it out")
        if isinstance(
            objective, DistillationConfig
        ):  # its teachers are not asked about samples that lack a date
            plain = objective.targets is None and all(teacher_of(term) for term in objective.distil)
        else:
            plain = (
                isinstance(objective, SupervisedConfig)
                and objective.targets is None
                and objective.soft is None
            )
        if not plain or self.activation != "softmax":
            raise ValueError(
                "sampling.date_dropout goes with activation softmax and an objective of plain terms, beside which only "
                "terms of teachers may stand: no targets, soft labels or heads"
            )


def _class_weights(
    sampling: ClassSampling | EpochSampling,
) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Key, values and default of the class weights of a sampling."""
    if isinstance(sampling, ClassSampling):
        return "sampling.class_weights", sampling.class_weights, ClassSampling().class_weights
    return "sampling.crop.class_weights", sampling.crop.class_weights, BestCrop().class_weights
