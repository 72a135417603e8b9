"""A network adapted with a reviewer's answers: single buildings of a map are known, everything else is not."""

from typing import Any

import numpy as np

from aftermap.artefacts.ensemble_card import Role
from aftermap.artefacts.store import LoadedModel
from aftermap.data.scene import read_images
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.workflows.adaptation.adaptation_kind import Told
from aftermap.workflows.adaptation.config import AdaptConfig
from aftermap.workflows.adaptation.guard import Verdict
from aftermap.workflows.adaptation.with_labels import WithLabels
from aftermap.workflows.scoring.evaluate import decide

SHARE = "building_share"
MOST_GROWTH = 1.25
"""Factor by which the area that is taken for buildings may grow or shrink: answers hardly say where there are none."""


class WithAnswers(WithLabels):
    """Learning from some answered buildings; the others, on other ground, say whether it helped."""

    def __init__(self, config: AdaptConfig, parent: LoadedModel) -> None:
        super().__init__(config, parent)
        self.licence = "not stated (answers of reviewers on imagery of the map)"

    def measure(self, model: AnyPredictor, parent: AnyPredictor | None, told: Told) -> dict[str, float]:
        """Metrics on the other answers, and the share of the ground that is taken for buildings."""
        return super().measure(model, parent, told) | {SHARE: self._share(model)}

    def verdict(self, before: dict[str, float], after: dict[str, float]) -> Verdict:
        """Whether the score has risen and buildings are still seen where they were."""
        change = f"the score went from {before['score']:.3f} to {after['score']:.3f}"
        growth = (after[SHARE] + 1e-4) / (before[SHARE] + 1e-4)
        if not after["score"] > before["score"]:
            return Verdict("teacher", change, {})
        if not 1 / MOST_GROWTH <= growth <= MOST_GROWTH:
            return Verdict("teacher", f"{change}, but buildings take {growth:.2f} times the ground", {})
        return Verdict("student", change, {})

    def better_part(self, before: dict[str, float], after: dict[str, float]) -> Role | None:
        """None: where there are no buildings is hardly known."""
        return None

    def _share(self, model: AnyPredictor) -> float:
        decision, found, pixels = Decision.of(model.card), 0, 0
        for scene in self.others:
            building, _ = decide(predict_scene(model, read_images(scene, dates=model.dates)), decision)
            found, pixels = found + int(np.count_nonzero(building)), pixels + building.size
        return found / max(pixels, 1)

    def facts(self) -> dict[str, Any]:
        """Event and scenes, and that they are answers."""
        return super().facts() | {"labels": "answers to single buildings"}
