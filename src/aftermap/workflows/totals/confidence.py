"""Confidence on this event, sets of classes and silence: side columns to the table of a map.

OUT/totals/confidence.csv     by building: confidence, damage_set, told
OUT/totals/confidence.json    how they came about, and the curve of risk against what is told
OUT/totals/risk.png           the curve
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED
from aftermap.files import csv_text, write_json, write_text
from aftermap.products.summary import UNCALIBRATED
from aftermap.workflows.totals.calibration import (
    FEWEST,
    UNCHANGED,
    Calibrated,
    Points,
    Silence,
    calibrate,
    conformal_sets,
    silence,
)
from aftermap.workflows.totals.estimate import PHANTOM, Looked
from aftermap.workflows.totals.sampling import Sample

SETS_LEVEL = 0.9
UNDECIDED = "model undecided"
"""Why a building is not told although it was looked at by the model."""


@dataclass(frozen=True)
class Confidence:
    """What the answers say of the model's confidence.

    Attributes:
        calibrated: how it was calibrated; None below `calibration.FEWEST` answers.
        confidence: of each building of the sample's map in its class, (N,).
        sets: whether each class is in a building's set, bool (N, K); K is 2 where only destroyed is told from not.
        quiet: from which confidence on the map speaks.
        answers: that are behind all this.
    """

    calibrated: Calibrated | None
    confidence: np.ndarray
    sets: np.ndarray
    quiet: Silence
    answers: int

    @property
    def state(self) -> str:
        """What to say beside a confidence."""
        if self.calibrated is None:
            return UNCALIBRATED
        if self.calibrated.method == UNCHANGED:
            return f"the model's own: {self.answers} answers of this event were tried, no calibration of it did better"
        return f"calibrated on this event by {self.answers} answers ({self.calibrated.method})"

    def told(self) -> np.ndarray:
        """Whether the map speaks of each building, bool (N,)."""
        if self.quiet.threshold is None:
            return np.zeros(len(self.confidence), bool)
        return np.asarray(self.confidence >= self.quiet.threshold - 5e-4)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = self.told()
        return {
            "confidence": self.state,
            "answers": self.answers,
            "answers_wanted": FEWEST,
            "calibration": None
            if self.calibrated is None
            else {"method": self.calibrated.method, "cross_validated_loss": self.calibrated.losses},
            "sets": {"level": SETS_LEVEL, "mean_size": float(self.sets.sum(axis=1).mean())},
            "silence": {
                "risk": self.quiet.risk,
                "threshold": self.quiet.threshold,
                "told": int(told.sum()),
                "undecided": int((~told).sum()),
            },
            "risk_curve": list(self.quiet.curve),
        }


def confidence_of(sample: Sample, looked: Looked, *, risk: float) -> Confidence | None:
    """What the answers of a sample say of the model's confidence; None without an answer that names a class."""
    usable = (looked.codes >= 0) & (looked.codes < PHANTOM)
    if not usable.any():
        return None
    rows = looked.rows[usable]
    counts = np.bincount(sample.stratum[looked.rows[looked.codes >= 0]], minlength=len(sample.strata))
    stands_for = np.divide(sample.sizes, np.maximum(counts, 1))[sample.stratum]
    probabilities, predicted, truth = sample.probabilities, sample.predicted, looked.codes[usable]
    if sample.binary:
        probabilities, predicted, truth = probabilities[:, [0, -1]], _is_worst(predicted), _is_worst(truth)
    points = Points(probabilities[rows], predicted[rows], truth, stands_for[rows])
    calibrated = calibrate(points)
    shares = calibrated.apply(probabilities) if calibrated else probabilities
    confidence = shares[np.arange(len(shares)), predicted]
    sets = conformal_sets(points, probabilities, predicted, stands_for, level=SETS_LEVEL)
    return Confidence(calibrated, confidence, sets, silence(points, confidence[rows], risk=risk), len(points))


def _is_worst(codes: np.ndarray) -> np.ndarray:
    """Verdicts as 1 for destroyed and 0 for all else."""
    return np.asarray(codes == len(DAMAGE.names) - 2, np.int64)


def write_confidence(found: Confidence, sample: Sample, folder: Path) -> list[Path]:
    """Write the table, its report and the curve into an existing folder; returns the files.

    Raises:
        OutputError: one cannot be written.
    """
    from aftermap.products.figures.totals_figure import draw_risk

    told, levels = found.told(), (DESTROYED_OR_NOT if sample.binary else DAMAGE).names[1:]
    predicted = _is_worst(sample.predicted) if sample.binary else sample.predicted
    rows: list[tuple[Any, ...]] = [("building_id", "damage", "confidence", "damage_set", "told", "reason")]
    for number, name in enumerate(sample.ids):
        inside = [level for level, is_in in zip(levels, found.sets[number], strict=True) if is_in]
        rows.append(
            (
                name,
                levels[predicted[number]],
                f"{found.confidence[number]:.4f}",
                " or ".join(inside),
                levels[predicted[number]] if told[number] else NOT_ASSESSED,
                "" if told[number] else UNDECIDED,
            )
        )
    files = [
        write_text(folder / "confidence.csv", csv_text(rows)),
        write_json(folder / "confidence.json", found.as_dict()),
    ]
    if len(found.quiet.curve) > 1:
        files.append(
            draw_risk(folder / "risk.png", found.quiet.curve, risk=found.quiet.risk, note=found.state)
        )
    return files
