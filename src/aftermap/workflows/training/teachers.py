"""Teachers before they teach: what they score on the validation scenes, with a warning where that is chance."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.scene import Scene, has_labels, read_mask
from aftermap.errors import TeacherWarning
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.learning.configs.distillation import TeacherConfig
from aftermap.scoring.pixels import PixelScores
from aftermap.wording import counted
from aftermap.workflows.scoring.evaluate import evaluate, spread

SCENES = 8
"""How many scenes a teacher is scored on, at most."""

LEAST_F1 = 0.1
"""Pixel F1 below which a localization says nothing, however rare buildings are."""

_ROUNDING = 1e-6  # a teacher that always says the same is not above chance by it


@dataclass(frozen=True, slots=True)
class TeacherScores:
    """What a teacher is worth, beside what somebody would score who has not seen the images.

    Attributes:
        model: where it is.
        sha256: identifies its weights.
        scenes: how many it was scored on; 0 where none has the labels and dates that it is about, and all others
            are then None.
        localization_f1: pixel F1 of buildings.
        localization_chance: that of calling every pixel a building.
        damage_f1: mean pixel F1 of the damage classes that occur, on the buildings that it finds; None for a teacher
            of localization, and where fewer than two classes occur.
        damage_chance: that of calling all of them what most of them are.
    """

    model: str
    sha256: str
    scenes: int
    localization_f1: float | None = None
    localization_chance: float | None = None
    damage_f1: float | None = None
    damage_chance: float | None = None

    @property
    def trouble(self) -> str | None:
        """What is wrong with it, or None."""
        found, chance = self.localization_f1, self.localization_chance
        if found is None or not chance:  # without a labelled building there is nothing to find
            return None
        if found < LEAST_F1:
            return f"finds no building (pixel F1 {found:.3f})"
        if found <= chance + _ROUNDING:
            return f"finds buildings no better than chance (pixel F1 {found:.3f}, all pixels {chance:.3f})"
        damage, chance = self.damage_f1, self.damage_chance
        if damage is None or chance is None or damage > chance + _ROUNDING:
            return None
        return (
            f"tells damage no better than chance (mean F1 of the classes {damage:.3f}, "
            f"one class for all {chance:.3f})"
        )

    def facts(self) -> dict[str, Any]:
        """Plain values for `run.json`; what is not known is left out."""
        values = asdict(self).items()
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in values if v is not None}

    def __str__(self) -> str:
        if self.localization_f1 is None:
            return "not scored, no validation scene has the labels that it is about"
        damage = "" if self.damage_f1 is None else f", mean damage F1 {self.damage_f1:.3f}"
        return f"localization F1 {self.localization_f1:.3f}{damage} on {counted(self.scenes, 'scene')}"


def check_teachers(
    teachers: Mapping[str, TeacherConfig], validation: Sequence[Scene], *, device: str = "cpu"
) -> dict[str, TeacherScores]:
    """Score every teacher on the validation scenes that have labels for it.

    A teacher whose weights never arrived teaches without complaint. It is scored as it would map, without mirrorings,
    on at most `SCENES` scenes spread evenly.

    Args:
        teachers: by name.
        validation: scenes of the run.
        device: that the teachers run on.

    Returns:
        Scores by name.

    Warns:
        TeacherWarning: a teacher finds no building, or is no better than chance.

    Source: the distillation system whose damage teacher was silently not loaded (K2 in docs/quirks.md).
    """
    found = {name: _scores(config, validation, device) for name, config in teachers.items()}
    for name, scores in found.items():
        if scores.trouble:
            warnings.warn(
                f"teacher {name} ({scores.model}) {scores.trouble} on {scores.scenes} validation scenes: perhaps its "
                "weights were never loaded, its bands or normalisation are others, or it never saw such imagery",
                TeacherWarning,
                stacklevel=2,
            )
    return found


def _scores(config: TeacherConfig, validation: Sequence[Scene], device: str) -> TeacherScores:
    predictor = open_predictor(config.model, Options(device=device))
    tells_damage = len(predictor.card.classes) > 2
    scenes = [
        scene
        for scene in validation
        if has_labels(scene, "damage" if tells_damage else "building")
        and (scene.post is not None or predictor.dates == 1)
    ]
    scenes = spread(scenes, SCENES)
    if not scenes:
        return TeacherScores(str(config.model), predictor.sha256, 0)
    pixels = evaluate(predictor, scenes).report.pixels
    damage, chance = _damage(pixels) if tells_damage else (None, None)
    return TeacherScores(
        str(config.model),
        predictor.sha256,
        len(scenes),
        localization_f1=0.0 if math.isnan(pixels.localization_f1) else pixels.localization_f1,
        localization_chance=_f1_of_everything(scenes),
        damage_f1=damage,
        damage_chance=chance,
    )


def _f1_of_everything(scenes: Sequence[Scene]) -> float:
    """Pixel F1 of calling everything a building: precision is the share p of buildings, so 2 p / (1 + p)."""
    building = labelled = 0
    for scene in scenes:
        mask = read_mask(scene, target="building")
        building += int(((mask > 0) & (mask != IGNORE)).sum())
        labelled += int((mask != IGNORE).sum())
    return 2 * building / (building + labelled) if labelled else 0.0


def _damage(pixels: PixelScores) -> tuple[float | None, float | None]:
    """Mean F1 of the damage classes on buildings that were found, and that of one class for all of them.

    Missed buildings are a matter of localization. None where fewer than two classes occur.
    """
    counts = np.array(pixels.confusion)[1:, 1:]  # rows target, columns prediction
    true, predicted = counts.sum(axis=1), counts.sum(axis=0)
    occurring = true > 0
    if occurring.sum() < 2:
        return None, None
    f1 = 2 * counts.diagonal()[occurring] / (true + predicted)[occurring]
    most = true.max()
    return float(f1.mean()), float(2 * most / (true.sum() + most) / occurring.sum())
