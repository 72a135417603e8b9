"""What can be said about an adaptation to an event."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from aftermap.artefacts.card import Card
from aftermap.config import Config
from aftermap.data.loading.few_shot_tasks import ShotConfig
from aftermap.data.loading.targets import DamageTargets
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.loop import Precision
from aftermap.learning.objectives.terms import (
    DEFAULT,
    BinaryCrossEntropyTerm,
    RegionTerm,
    SupervisedConfig,
)
from aftermap.learning.trainable import Part


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
    """

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
