"""What models do on events that they have not seen: one table, by event, from the labels of xBD scenes.

    python bench/events.py /tmp/events box                                  # the same model for every event
    python bench/events.py /tmp/events 'runs/field-{event}/model'           # leave one event out: a model for each
    python bench/events.py /tmp/events box 'runs/field-{event}/model' --figures docs/images

Scenes are those of `--data` (by default ../shared/data/xbd-real, prepared into the folder at the first call). Predictions
are kept in the folder, by model, so that a second call only counts. Measures, all at once for a scene:

    localization    F1 of building pixels at the model's own threshold
    phantoms        share of traced buildings with less than a tenth of their pixels on a true building
    found           F1 of traced against true buildings that overlap by more than half (IoU 0.5)
    AUC             true footprints given: that a damaged building ranks above an undamaged one, by 1 - p(no damage)
    accuracy        true footprints given: of the class that is decided; `none` is that of "no damage" for all
    ECE, Brier      true footprints given: of the model's probabilities, 15 bins

"mean" is over events; accuracy and ECE of "all" are over buildings. The data is non-commercial: nothing of it goes into
the project.
"""

import argparse
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

import aftermap
from aftermap.artefacts.card import BaseCard
from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.readers.xbd import read_label_file
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.files import replacing
from aftermap.geo.grid import Grid
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.objects.painting import Painter
from aftermap.inference.objects.parting import part_shapes
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.scoring import given_buildings
from aftermap.scoring.instances import label_components, match_buildings, shares

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "xbd-real"
LEVELS = DAMAGE.names[1:]
BENEATH = 0.1
LEAST_M2 = 10.0
LEAST_PX = 20
DEPTH_PX = 3.0
MEASURES = ("localization", "phantoms", "found", "AUC", "accuracy", "none", "ECE", "Brier", "AUC destroyed")


@dataclass(frozen=True)
class Counted:
    """What is known of one scene after a model has seen it.

    Attributes:
        pixels: true positives, false positives and false negatives of building pixels.
        traced: number of traced buildings, of phantoms among them, of matches, of true buildings.
        own: the model's probabilities of the given buildings (n, 4). decided: class that is decided (n,).
        truth: class of the given buildings (n,), 0 for no damage.
    """

    pixels: np.ndarray
    traced: np.ndarray
    own: np.ndarray
    decided: np.ndarray
    truth: np.ndarray


def scenes_of(folder: Path, data: Path) -> dict[str, list[Scene]]:
    """Scenes by event; prepared at the first call."""
    prepared = folder / "data"
    if not (prepared / "manifest.json").exists():
        words = [sys.executable, "-m", "aftermap.cli.app", "data", "prepare", "xbd", data, "-o", prepared]
        subprocess.run([*map(str, words)], check=True, stdout=sys.stderr)
    by_event: dict[str, list[Scene]] = {}
    for scene in aftermap.Manifest.load(prepared).scenes:
        by_event.setdefault(scene.event, []).append(scene)
    return dict(sorted(by_event.items()))


def kept_in(folder: Path, name: str, model: AnyPredictor) -> Path:
    """Where predictions of a model are kept; a card that decides, or builds, otherwise has a place of its own."""
    said = np.asarray(model.damage_weights or (), np.float64).tobytes()
    said += repr(getattr(model.card, "model", "")).encode()
    return folder / "predictions" / f"{name}-{model.sha256[:12]}-{zlib.crc32(said):08x}"


def predicted(model: AnyPredictor, scene: Scene, kept: Path) -> dict[str, np.ndarray]:
    """p(building) in 255ths (H, W), and what the pixels of the given buildings say, from the folder or the model."""
    path = kept / f"{scene.name}.npz"
    if path.exists():
        with np.load(path) as stored:
            return dict(stored)
    probabilities = predict_scene(model, read_images(scene, dates=2))
    label = read_label_file(scene.post.parent.parent / "labels" / f"{scene.post.stem}.json")
    known = [
        (polygon, LEVELS.index(subtype))
        for polygon, subtype in zip(label.polygons, label.subtypes, strict=True)
        if subtype in LEVELS
    ]
    height, width = probabilities.shape[-2:]
    evidence = Evidence(len(known), model.damage_weights)
    for labels in Painter([polygon for polygon, _ in known], width).paint(0, height):
        evidence.add(labels, probabilities, np.zeros((height, width), np.uint8))
    seen = evidence.pixels[:, 0] > 0
    means = evidence.levels[seen] / evidence.pixels[seen, :1]
    arrays = {
        "building": np.round(255 * (1 - probabilities[0])).astype(np.uint8),
        "own": means[:, 4:8],
        "decided": means[:, :4].argmax(axis=1),
        "present": means[:, 8],
        "truth": np.array([level for _, level in known], np.int64)[seen],
    }
    with replacing(path, parents=True) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return arrays


def counted(
    stored: dict[str, np.ndarray], scene: Scene, card: BaseCard, *, part: bool, leave_out: bool
) -> Counted:
    """The counts of one scene as a map of the card has them: thresholds, correction, touching buildings parted."""
    mask = read_mask(scene, target="building")
    judged, target = mask != IGNORE, mask == 1
    found = stored["building"] > 255 * card.building_threshold
    pixels = np.array([(found & target).sum(), (found & ~target & judged).sum(), (~found & target).sum()])
    traced = traced_shapes(stored["building"], card.building_threshold, scene, part=part)
    if leave_out and traced.max(initial=0):
        sizes = np.maximum(np.bincount(traced.ravel()), 1)
        mean = np.bincount(traced.ravel(), weights=stored["building"].ravel()) / 255 / sizes
        likely = (mean >= card.object_threshold) & (np.arange(len(mean)) > 0)
        traced = np.where(likely, np.cumsum(likely), 0)[traced].astype(np.int32)
    true = label_components(target, min_area_px=4)
    beneath = shares(target, traced)
    of_unknown = shares(~judged, traced) > 0.5
    counts = [
        np.count_nonzero(~of_unknown),
        np.count_nonzero((beneath < BENEATH) & ~of_unknown),
        len(match_buildings(traced, true)),
        int(true.max(initial=0)),
    ]
    own = stored["own"] if card.calibration is None else card.calibration.apply(stored["own"])
    return Counted(pixels, np.array(counts), own, stored["decided"], stored["truth"])


def smallest(scene: Scene) -> int:
    """Pixels of the smallest shape that a map would trace."""
    if scene.grid is None:
        return LEAST_PX
    grid = Grid(CRS.from_string(scene.grid.crs), Affine(*scene.grid.transform), scene.width, scene.height)
    return max(4, round(LEAST_M2 / grid.resolution_m**2)) if grid.resolution_m else LEAST_PX


def traced_shapes(building: np.ndarray, threshold: float, scene: Scene, *, part: bool = True) -> np.ndarray:
    """Numbers int32 (H, W) of what a map would trace of p(building) in 255ths, touching buildings parted or not."""
    found = building > 255 * threshold
    if not part:
        return label_components(found, min_area_px=smallest(scene))
    strength = np.where(found, 1 + (254 * (building / 255)).astype(np.uint8), 0).astype(np.uint8)
    return part_shapes(strength, min_area_px=smallest(scene), depth_px=DEPTH_PX)[0]


def f1(hits: float, false: float, missed: float) -> float:
    """F1 of counts; 0 where nothing was there and nothing was said."""
    return 2 * hits / max(2 * hits + false + missed, 1)


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties by half; nan where one side is empty."""
    return float(given_buildings.auc(score, positive, np.ones((1, len(score))))[0])


def calibration(own: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Expected calibration error of the most probable class, and Brier score."""
    found = given_buildings.given_metrics(own, own.argmax(axis=1), truth, np.ones((1, len(truth))))
    return float(found["ece"][0]), float(found["brier"][0])


def measures(scenes: list[Counted]) -> dict[str, float]:
    """Every measure over scenes pooled."""
    pixels, traced = sum(s.pixels for s in scenes), sum(s.traced for s in scenes)
    own, decided, truth = (
        np.concatenate([getattr(s, n) for s in scenes]) for n in ("own", "decided", "truth")
    )
    error, brier = calibration(own, truth)
    return {
        "localization": f1(*pixels),
        "phantoms": traced[1] / max(traced[0], 1),
        "found": f1(traced[2], traced[0] - traced[2], traced[3] - traced[2]),
        "AUC": auc(1 - own[:, 0], truth > 0),
        "accuracy": float((decided == truth).mean()),
        "none": float((truth == 0).mean()),
        "ECE": error,
        "Brier": brier,
        "AUC destroyed": auc(own[:, 3], truth == 3),
        "buildings": len(truth),
    }


def rows(
    name: str, template: str, folder: Path, data: Path, only: list[str], part: bool, leave_out: bool
) -> Iterator[tuple[str, dict[str, float]]]:
    """The measures of a model by event, then over all."""
    everything: list[Counted] = []
    by_event = []
    for event, scenes in scenes_of(folder, data).items():
        if only and event not in only:
            continue
        model = aftermap.open_model(template.format(event=event))
        kept = kept_in(folder, name, model)
        print(f"{event}: {len(scenes)} scenes by {model.name}", file=sys.stderr)
        counts = [
            counted(predicted(model, scene, kept), scene, model.card, part=part, leave_out=leave_out)
            for scene in scenes
        ]
        called = sum(int((scene.decided > 0).sum()) for scene in counts)
        damaged = sum(int((scene.truth > 0).sum()) for scene in counts)
        print(f"{event}: {called} called damaged, {damaged} are", file=sys.stderr)
        everything += counts
        by_event.append(measures(counts))
        yield event, by_event[-1]
    mean = {key: float(np.nanmean([m[key] for m in by_event])) for key in (*MEASURES, "buildings")}
    yield "mean over events", mean
    yield "all buildings", measures(everything)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the prepared data and the predictions")
    parser.add_argument("models", nargs="+", help="a model, or a template with {event}")
    parser.add_argument("--data", type=Path, default=SOURCE)
    parser.add_argument("--events", nargs="*", default=[], help="only these")
    parser.add_argument("--whole", action="store_true", help="touching buildings are not parted")
    parser.add_argument(
        "--all-shapes", action="store_true", help="the card's object threshold is not applied"
    )
    options = parser.parse_args()
    for template in options.models:
        name = Path(template.replace("/model", "")).name.replace("-{event}", "") or template
        print(
            f"\n| {name} | buildings | "
            + " | ".join(MEASURES)
            + " |\n|---"
            + "|---:" * (len(MEASURES) + 1)
            + "|"
        )
        for event, values in rows(
            name,
            template,
            options.folder,
            options.data,
            options.events,
            not options.whole,
            not options.all_shapes,
        ):
            cells = [f"{values[key]:.3f}" for key in MEASURES]
            print(f"| {event} | {values['buildings']:,.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
