"""How far the probabilities of given buildings can be believed, on held-back real ground; prints a Markdown table.

    python bench/probabilities.py /tmp/probabilities                # 12 scenes of each event
    python bench/probabilities.py /tmp/probabilities --scenes 0     # all of them
    python bench/probabilities.py /tmp/probabilities --model runs/damage/model

Footprints are the labels' own. "with decision weights" are the shares by which the class is decided, which maps reported
before; "of the model" are those that they report now. Three ways of looking at each:

    ECE       expected calibration error of the most probable class, 15 bins of equal width
    Brier     mean over buildings of the squared distance to the truth, summed over the four classes
    accuracy  of the most probable class

The data is non-commercial: nothing of it goes into the project.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import aftermap
from aftermap.classes import DAMAGE
from aftermap.data.readers.xbd import read_label_file
from aftermap.data.scene import Scene, read_images
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.objects.painting import Painter
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "xbd-real"
LEVELS = DAMAGE.names[1:]
BINS = 15


def test_scenes(folder: Path, at_most: int) -> list[Scene]:
    """Labelled scenes of the test blocks that `real_accuracy.py` scores, spread evenly over each event."""
    data = folder / "data"
    if not (data / "manifest.json").exists():
        command = [sys.executable, "-m", "aftermap.cli.app", "data", "prepare", "xbd", SOURCE, "-o", data]
        subprocess.run([*map(str, command)], check=True, stdout=sys.stderr)
        aftermap.split(data, by="block", fractions=(0.6, 0.1, 0.3), seed=0)
    by_event: dict[str, list[Scene]] = {}
    for scene in aftermap.Manifest.load(data).select("test"):
        by_event.setdefault(scene.event, []).append(scene)
    chosen = []
    for scenes in by_event.values():
        places = np.linspace(0, len(scenes) - 1, min(at_most or len(scenes), len(scenes))).round().astype(int)
        chosen += [scenes[place] for place in places]
    return chosen


def judged(model: AnyPredictor, scenes: list[Scene]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By scene: shares of the decision (n, 4), of the model (n, 4), and the true class (n,) of its buildings."""
    for scene in scenes:
        label = read_label_file(scene.post.parent.parent / "labels" / f"{scene.post.stem}.json")
        known = [
            (polygon, LEVELS.index(subtype))
            for polygon, subtype in zip(label.polygons, label.subtypes, strict=True)
            if subtype in LEVELS
        ]
        images = read_images(scene, dates=2)
        if not known:
            continue
        height, width = images.shape[-2:]
        probabilities = predict_scene(model, images)
        painter = Painter([polygon for polygon, _ in known], width)
        evidence = Evidence(len(known), model.damage_weights)
        for labels in painter.paint(0, height):
            evidence.add(labels, probabilities, np.zeros((height, width), np.uint8))
        seen = evidence.pixels[:, 0] > 0
        means = evidence.levels[seen] / evidence.pixels[seen, :1]
        truth = np.array([kind for _, kind in known])[seen]
        print(f"{scene.name}: {len(truth)} buildings", file=sys.stderr)
        yield means[:, :4], means[:, 4:8], truth


def figures(shares: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Expected calibration error, Brier score and accuracy."""
    best, sure = shares.argmax(axis=1), shares.max(axis=1)
    right = best == truth
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    brier = ((shares - np.eye(4)[truth]) ** 2).sum(axis=1).mean()
    return float(sum(gaps)), float(brier), float(right.mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the prepared data")
    parser.add_argument("--model", default="box")
    parser.add_argument("--scenes", type=int, default=12, help="of each event at most; 0 takes all")
    options = parser.parse_args()
    model = aftermap.open_model(options.model)
    parts = zip(*judged(model, test_scenes(options.folder, options.scenes)), strict=True)
    decided, own, truth = (np.concatenate(part) for part in parts)
    kept = decided.argmax(axis=1) == truth
    print(f"{len(truth):,} buildings; classes as decided are right for {kept.mean():.3f}\n")
    print("| probabilities | ECE | Brier | accuracy |\n|---|---|---|---|")
    for name, shares in (("with decision weights", decided), ("of the model", own)):
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures(shares, truth)) + " |")
    for level in (1, 2, 3):
        chosen = decided.argmax(axis=1) == level
        if chosen.any():
            told = own[chosen, level].mean(), decided[chosen, level].mean(), (truth[chosen] == level).mean()
            print(
                f"\n{LEVELS[level]}, decided {int(chosen.sum()):,} times: right {told[2]:.3f}, mean confidence "
                f"{told[1]:.3f} before and {told[0]:.3f} now",
                end="",
            )
    print()


if __name__ == "__main__":
    main()
