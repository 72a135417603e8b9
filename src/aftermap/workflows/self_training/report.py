"""What a self-training reports: the scenes that show what was made of the pool, and the picture of it all."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aftermap.classes import IGNORE, ClassScheme
from aftermap.data.scene import Scene, read_pixels
from aftermap.data.soft_labels import read_soft
from aftermap.products.figures.self_training_figure import LabelSample, RoundFacts, draw_self_training
from aftermap.workflows.self_training.pseudo_labels import ChosenLabels, Predicted, levels

REPORT_NAME = "self-training.json"
PICTURE_NAME = "self-training.png"

_SHOWN = 3
_LARGEST_PX = 512


def sample_names(
    predicted: Sequence[Predicted], selection: ChosenLabels, negatives: Sequence[Scene]
) -> dict[str, list[str]]:
    """Names of scenes to be shown: sure and unsure ones of those accepted, rejected ones, and negatives.

    Sure ones show a building wherever any does; no scene is shown twice.
    """
    accepted = {scene.name for scene in selection.accepted}
    ranked = sorted(
        (p for p in predicted if p.scene.name in accepted),
        key=lambda p: (not sum(p.pixels[1:]), -p.confidence, p.scene.name),
    )
    sure = [p.scene.name for p in ranked[:_SHOWN]]
    unsure = [p.scene.name for p in sorted(ranked[_SHOWN:], key=lambda p: (p.confidence, p.scene.name))]
    negative = [scene.name for scene in negatives[:_SHOWN]]
    rejected = [name for name in selection.rejected if name not in negative]
    return {
        "sure": sure,
        "unsure": unsure[:_SHOWN],
        "rejected": rejected[:_SHOWN],
        "negative": negative,
    }


def draw_report(
    path: Path, report: dict[str, Any], folder: Path, pool: Sequence[Scene], scheme: ClassScheme
) -> Path:
    """Draw the picture of a report.

    Args:
        path: the PNG to write.
        report: as it is written beside the picture.
        folder: the run folder, for labels and predictions of the last round.
        pool: the scenes that its names refer to.
        scheme: names and colours of the classes.

    Raises:
        OutputError: the picture cannot be written.
    """
    last = report["rounds"][-1]
    by_name = {scene.name: scene for scene in pool}
    samples = [
        _sample(by_name[name], kind, folder / f"round-{last['round']}", dates=1 if len(scheme) == 2 else 2)
        for kind, names in last["samples"].items()
        for name in names
        if name in by_name
    ]
    kept = "a student replaced the teacher" if report["kept"] == "student" else "the teacher was kept"
    title = (
        f"{report['name']}: {kept}; {report['labelled_scenes']} labelled scenes, "
        f"{report['pool_scenes']} without labels"
    )
    rounds = [_facts(entry) for entry in report["rounds"]]
    return draw_self_training(path, rounds, samples, scheme=scheme, title=title)


def _facts(entry: dict[str, Any]) -> RoundFacts:
    counts = {"accepted": entry["accepted"]} | {
        f"rejected: {reason}": count for reason, count in entry["rejected_because"].items()
    }
    counts["negatives"] = entry["negatives"]["used"]
    shares = {
        name: (values["labelled"], values["predicted"], values["learned"])
        for name, values in entry["shares"].items()
    }
    verdict = entry["verdict"] or {"classes": {}}
    scores = {
        name: (_number(found["before"]), _number(found["after"]), bool(found["accepted"]))
        for name, found in verdict["classes"].items()
    }
    if entry["before"] is not None:
        both = _number(entry["before"]["score"]), _number(entry["after"]["score"])
        scores = {"score": (*both, entry["kept"] == "student")} | scores
    return RoundFacts(
        f"Round {entry['round']}: {entry['kept']} kept, {entry['reason']}", counts, shares, scores
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _sample(scene: Scene, kind: str, folder: Path, *, dates: int) -> LabelSample:
    """A scene with what was stored of it, reduced to the size of the picture."""
    source = {"negative": None, "rejected": "predictions"}.get(kind, "labels")
    image = read_pixels(scene.post if dates == 2 and scene.post is not None else scene.pre)
    if source is None:
        classes = np.zeros(image.shape[:2], np.uint8)
    else:
        stored = read_soft(scene.model_copy(update={"soft": folder / source / f"{scene.name}.tif"}))
        every, known = levels(stored.transpose(2, 0, 1))
        classes = np.where(known, every.argmax(axis=0), IGNORE).astype(np.uint8)
    height, width = image.shape[:2]
    scale = min(1.0, _LARGEST_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return LabelSample(
        kind,
        scene.name,
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST),
    )
