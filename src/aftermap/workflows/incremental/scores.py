"""The model of a step against all test tiles, stitched, with the labels of all classes that it has seen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from aftermap.artefacts.store import load_model
from aftermap.data.scene import Scene, read_mask
from aftermap.files import write_bytes, write_json
from aftermap.inference.predictor import Predictor
from aftermap.inference.stitching import evaluate_classes
from aftermap.scoring.class_scores import Confusion
from aftermap.workflows.incremental.config import ReportConfig
from aftermap.workflows.incremental.tiles import TaskTiles

SCORES_NAME = "scores.json"
STRIPS = "strips"


def score_step(
    folder: Path,
    common: Path,
    material: TaskTiles,
    step: int,
    *,
    report: ReportConfig,
    on_tile: Callable[[int], None],
) -> None:
    """Write `scores.json`, the confusion matrix of a step, and its maps of the tiles that are drawn.

    Where steps add places, the tiles of those seen by then are scored, and each step's places by themselves as well.

    A step that has been scored is left as it is.

    Args:
        folder: of the step, with its model.
        common: images and truth of the tiles that are drawn go here, once for all steps.
        material: the test tiles.
        step: of the task.
        report: what is drawn.
        on_tile: called with the number of tiles so far.
    """
    if (folder / SCORES_NAME).is_file():
        return
    loaded = load_model(folder / "model")
    predictor = Predictor(loaded, device="cuda" if torch.cuda.is_available() else "cpu")
    protocol, test = material.protocol, material.tested(step)
    lookups, classes = material.lookups(test, step, "test"), protocol.channels(step)
    drawn = {scene.name for scene in drawn_tiles(material, report.strips)}
    final = material.lookups(test, len(protocol.steps) - 1, "test")
    parts = [test]
    if protocol.places:
        parts = [
            test.pick([n for n, scene in enumerate(test.scenes) if scene.event in added])
            for added in protocol.places[: step + 1]
        ]
    last = {scene.name: lookup for scene, lookup in zip(test.scenes, final, strict=True)}
    done = 0

    def keep(scene: Scene, images: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> None:
        nonlocal done
        done += 1
        if scene.name in drawn:
            _write(folder / STRIPS / f"{scene.name}.png", predicted)
            shown = images[-1, :3].transpose(1, 2, 0)
            _write(common / f"{scene.name}-image.png", shown[..., ::-1])
            _write(
                common / f"{scene.name}-truth.png", last[scene.name][read_mask(scene, target=material.target)]
            )
        on_tile(done)

    found = [
        evaluate_classes(
            predictor,
            part.scenes,
            lookups=material.lookups(part, step, "test"),
            classes=classes,
            target=material.target,
            on_scene=keep,
        )
        if len(part)
        else Confusion.of(np.zeros((classes, classes), np.int64))
        for part in parts
    ]
    matrix = np.sum([confusion.matrix for confusion in found], axis=0)
    compat = None
    if report.compat_tiles:
        first = (0 if protocol.places else protocol.old_classes(step)) or 1
        counted = evaluate_classes(
            predictor,
            test.scenes,
            lookups=lookups,
            classes=classes,
            target=material.target,
            compat_tiles=range(first, classes),
        )
        compat = counted.matrix.tolist()
    tree = {
        "step": step,
        "sha256": loaded.sha256,
        "protocol_sha256": protocol.sha256,
        "names": list(protocol.channel_names(step)),
        "heads": protocol.heads(step),
        "tiles": len(test),
        "confusion": matrix.tolist(),
        "published_confusion": compat,
    }
    if protocol.places:
        tree["by_place"] = [
            {"places": list(added), "tiles": len(part), "confusion": confusion.matrix.tolist()}
            for added, part, confusion in zip(protocol.places, parts, found, strict=False)
        ]
    write_json(folder / SCORES_NAME, tree)


def drawn_tiles(material: TaskTiles, most: int) -> list[Scene]:
    """Test tiles that show most: each the one with most classes that those before lack, of another image, with most."""
    learned = set(material.protocol.seen(len(material.protocol.steps) - 1))
    left = {n: labels & learned for n, labels in enumerate(material.test.labels)}
    chosen: list[int] = []
    met: set[int] = set()
    images = [scene.name if scene.tile is None else scene.tile.source for scene in material.test.scenes]
    shown: set[str] = set()
    while left and len(chosen) < most:
        best = max(left, key=lambda n: (len(left[n] - met), images[n] not in shown, len(left[n]), -n))
        met |= left.pop(best)
        shown.add(images[best])
        chosen.append(best)
    return [material.test.scenes[n] for n in sorted(chosen)]


def read_scores(folder: Path) -> dict[str, Any]:
    """What `score_step` wrote of a step."""
    tree: dict[str, Any] = json.loads((folder / SCORES_NAME).read_text())
    return tree


def _write(path: Path, array: np.ndarray) -> None:
    encoded = cv2.imencode(".png", np.ascontiguousarray(array, dtype=np.uint8))[1]
    write_bytes(path, encoded.tobytes(), parents=True, sync=False)
