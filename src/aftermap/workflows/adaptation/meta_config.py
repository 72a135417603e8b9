"""What a recipe of meta-learning can say."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from aftermap.artefacts.card import Activation, Channel0, Normalisation
from aftermap.config import Config
from aftermap.data.loading.few_shot_tasks import ShotConfig
from aftermap.learning.experiments.notify import NotifyConfig
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.meta import MetaConfig
from aftermap.learning.objectives.terms import SupervisedConfig
from aftermap.learning.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.precision import MetaPrecision
from aftermap.models.configs import ModelConfig
from aftermap.workflows.training.config import LearnedTask


class MetaDataConfig(Config):
    """Events to learn from, and events to see how well adapting goes.

    Attributes:
        manifests: prepared datasets; their labelled scenes are pooled, whatever split they are in.
        validation_events: held out; they choose the best step.
        exclude_events: left out altogether.
        licence: said on the model's card.
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
