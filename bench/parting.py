"""Touching houses parted or left as one shape: how many whole buildings are found, against the polygons of xBD.

    python bench/parting.py /tmp/events box 'runs/field-{event}/model'

Scenes, models and kept predictions are those of events.py. There the truth is a mask, in which houses that touch are one
component; here every polygon that was drawn is a building of its own, so that a wall between two of them counts. Shapes
below the card's object threshold are left out, as in a map. F1 of traced against true buildings that overlap by more
than half.
"""

import argparse
from pathlib import Path

import numpy as np

import aftermap
from aftermap.classes import IGNORE
from aftermap.data.readers.xbd import read_label_file
from aftermap.data.scene import Scene, read_mask
from aftermap.inference.objects.painting import Painter
from aftermap.scoring.instances import match_buildings, shares
from events import SOURCE, f1, kept_in, predicted, scenes_of, traced_shapes

LEAST_PX = 4


def true_buildings(scene: Scene) -> np.ndarray:
    """Polygons of the image after as numbers int32 (H, W); where two overlap the later one."""
    label = read_label_file(scene.post.parent.parent / "labels" / f"{scene.post.stem}.json")
    numbers = np.zeros((scene.height, scene.width), np.int32)
    for labels in Painter(list(label.polygons), scene.width).paint(0, scene.height):
        numbers = np.where(labels > 0, labels, numbers)
    small = np.bincount(numbers.ravel()) < LEAST_PX
    kept = np.where(small, 0, np.cumsum(~small) - 1)
    kept[0] = 0
    return kept[numbers].astype(np.int32)


def without_unlikely(traced: np.ndarray, building: np.ndarray, threshold: float) -> np.ndarray:
    """Shapes whose mean p(building) reaches the card's object threshold, numbered anew."""
    sizes = np.maximum(np.bincount(traced.ravel()), 1)
    mean = np.bincount(traced.ravel(), weights=building.ravel()) / 255 / sizes
    likely = (mean >= threshold) & (np.arange(len(mean)) > 0)
    return np.where(likely, np.cumsum(likely), 0)[traced].astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="that of events.py")
    parser.add_argument("models", nargs="+", help="a model, or a template with {event}")
    parser.add_argument("--data", type=Path, default=SOURCE)
    options = parser.parse_args()
    for template in options.models:
        name = Path(template.replace("/model", "")).name.replace("-{event}", "") or template
        print(f"\n| {name} | buildings | whole | parted |\n|---|---:|---:|---:|")
        means = []
        for event, scenes in scenes_of(options.folder, options.data).items():
            model = aftermap.open_model(template.format(event=event))
            kept = kept_in(options.folder, name, model)
            counts = np.zeros((2, 3))
            for scene in scenes:
                stored = predicted(model, scene, kept)["building"]
                true, unknown = true_buildings(scene), read_mask(scene, target="building") == IGNORE
                for row, part in enumerate((False, True)):
                    traced = traced_shapes(stored, model.card.building_threshold, scene, part=part)
                    traced = without_unlikely(traced, stored, model.card.object_threshold)
                    matched = match_buildings(traced, true)
                    judged = ~(shares(unknown, traced) > 0.5)
                    judged[matched[:, 0] - 1] = True
                    hits = len(matched)
                    counts[row] += hits, judged.sum() - hits, int(true.max(initial=0)) - hits
            scores = [f1(*each) for each in counts]
            means.append(scores)
            total = int(counts[0, 0] + counts[0, 2])
            print(f"| {event} | {total:,} | {scores[0]:.3f} | {scores[1]:.3f} |", flush=True)
        print("| mean over events | | " + " | ".join(f"{each:.3f}" for each in np.mean(means, axis=0)) + " |")


if __name__ == "__main__":
    main()
