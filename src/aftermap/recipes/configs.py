"""What a training recipe can say. The numbers live in YAML files; this is their vocabulary."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from aftermap.artefacts.card import Normalisation
from aftermap.classes import BUILDING, DAMAGE, ClassScheme
from aftermap.config import Config
from aftermap.data.augment import AugmentConfig
from aftermap.data.loader import SamplingConfig
from aftermap.learning.loop import Precision
from aftermap.learning.objectives.supervised import SupervisedConfig
from aftermap.learning.optimizer import OptimizerConfig
from aftermap.models.build import ModelConfig


class DataConfig(Config):
    """Which prepared datasets are learned from.

    Attributes:
        manifests: folders or files made by `aftermap data prepare` or `data synth`; their scenes are pooled.
        train_splits: splits that are learned from.
        validation_split: split that chooses the best step and the threshold.
        exclude_events: events left out of training and validation.
        licence: said on the model's card.
    """

    manifests: list[Path]
    train_splits: tuple[Literal["train", "validation", "test", "unassigned"], ...] = ("train",)
    validation_split: Literal["train", "validation", "test", "unassigned"] = "validation"
    exclude_events: list[str] = Field(default_factory=list)
    description: str = ""
    licence: str = "not stated"


class TrainRecipe(Config):
    """One training run.

    Attributes:
        task: `building` learns localization on one date, `damage` the joint damage scale on two.
        init_from: a model folder whose encoder and decoder are the start (siamese from localization).
        steps: optimizer steps.
        evaluate_every: steps between two evaluations; the best step is kept.
        validation_scenes: at most this many scenes per evaluation (spread evenly); 0 takes all.
        save_every: steps between two saved states to resume from; 0 means at evaluations only.
    """

    name: str
    task: Literal["building", "damage"]
    data: DataConfig
    model: ModelConfig = Field(discriminator="kind")
    init_from: Path | None = None
    objective: SupervisedConfig = SupervisedConfig()
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig | None = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    normalisation: Normalisation = Normalisation()
    resolution_m: tuple[float, float] = (0.3, 1.2)
    precision: Precision = "auto"
    steps: int = 1000
    evaluate_every: int = 250
    validation_scenes: int = 40
    save_every: int = 0
    seed: int = 0
    threads: int = 0
    weights_dtype: Literal["float32", "float16"] = "float32"
    licence: str = "not stated"
    limits: str = ""

    @property
    def scheme(self) -> ClassScheme:
        """Class scheme of the task."""
        return BUILDING if self.task == "building" else DAMAGE

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> "TrainRecipe":
        if self.model.classes != len(self.scheme):
            raise ValueError(
                f"task {self.task} has {len(self.scheme)} classes, model.classes is {self.model.classes}"
            )
        weights = self.objective.class_weights
        if weights is not None and len(weights) != len(self.scheme):
            raise ValueError(
                f"objective.class_weights has {len(weights)} values, expected {len(self.scheme)}"
            )
        return self
