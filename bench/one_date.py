"""What models tell from one of two dates, on events that they have not seen: one row by event and mode.

    python bench/one_date.py /tmp/events 'runs/field-{event}/model' --scenes 12

`both` is the pair, `post-only` and `pre-only` one image of it, as `aftermap map --task` shows it. Localization is the F1
of building pixels at the card's threshold; the rest is with true footprints: how well destroyed rank above others, how
often destroyed or not is right from one half on, and how often calling none destroyed would be. A model that was not
trained for a mode is asked all the same, with "no" in the column `trained`: that is what the refusal is for.

The last lines say from which p(destroyed) on a building should be called destroyed after the disaster, by the mean F1 of
destroyed over events with at least ten of them, and that F1 of each event where the others chose. `--write MODEL` puts
the choice of all into a card.
"""

import argparse
from pathlib import Path

import numpy as np

import aftermap
from aftermap.artefacts.edit import rewrite_card
from aftermap.artefacts.store import load_card
from aftermap.classes import IGNORE
from aftermap.data.readers.xbd import read_label_file
from aftermap.data.scene import Scene, read_mask
from aftermap.inference.objects.one_date import DestroyedEvidence, DestroyedPredictor
from aftermap.inference.objects.painting import Painter
from aftermap.inference.objects.presence import OneDatePredictor
from aftermap.inference.postprocess import unweighted
from aftermap.inference.predictor import AnyPredictor
from aftermap.workflows.scoring.evaluate import predict_scene, read_images, spread
from events import LEVELS, SOURCE, auc, f1, scenes_of

MODES = ("both", "post-only", "pre-only")
THRESHOLDS = np.round(1 / (1 + np.exp(-np.linspace(-7, 7, 57))), 4)
LEAST_DESTROYED = 10


def shown(model: AnyPredictor, scene: Scene, mode: str) -> np.ndarray:
    """Probabilities (3, H, W) of background, not destroyed, destroyed; (2, H, W) of background and building before."""
    images = read_images(scene, dates=2)
    if mode == "post-only":
        return predict_scene(DestroyedPredictor(model), images[1:])
    if mode == "pre-only":
        return predict_scene(OneDatePredictor(model), images[:1])
    found = predict_scene(model, images)
    if model.damage_weights is not None:
        found = unweighted(found, model.damage_weights)
    return np.stack([found[0], found[1:-1].sum(axis=0), found[-1]])


def counted(probabilities: np.ndarray, scene: Scene, threshold: float) -> tuple[np.ndarray, ...]:
    """Counts of building pixels (3,); p(destroyed) and truth of the given buildings, none of them before."""
    mask = read_mask(scene, target="building")
    found, target, judged = probabilities[0] < 1 - threshold, mask == 1, mask != IGNORE
    pixels = np.array([(found & target).sum(), (found & ~target & judged).sum(), (~found & target).sum()])
    if len(probabilities) == 2:
        return pixels, np.zeros(0), np.zeros(0, bool)
    assert scene.post is not None
    label = read_label_file(scene.post.parent.parent / "labels" / f"{scene.post.stem}.json")
    known = [(p, s) for p, s in zip(label.polygons, label.subtypes, strict=True) if s in LEVELS]
    height, width = probabilities.shape[-2:]
    evidence = DestroyedEvidence(len(known))
    for labels in Painter([polygon for polygon, _ in known], width).paint(0, height):
        evidence.add(labels, probabilities, np.zeros((height, width), np.uint8))
    seen = evidence.pixels[:, 0] > 0
    share = evidence.levels[seen, 0] / evidence.pixels[seen, 0]
    return pixels, share, np.array([level == "destroyed" for _, level in known], bool)[seen]


def f1_destroyed(share: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """F1 of destroyed buildings at every threshold."""
    called = share >= THRESHOLDS[:, None]
    hits, said = (called & truth).sum(axis=1), called.sum(axis=1)
    return np.asarray(2 * hits / np.maximum(said + truth.sum(), 1))


def choose(scores: dict[str, np.ndarray]) -> float | None:
    """Print what every event gets from the choice of the others; the choice of all."""
    for event, own in scores.items():
        others = [values for name, values in scores.items() if name != event]
        if others:
            place = int(np.mean(others, axis=0).argmax())
            half = own[list(THRESHOLDS).index(0.5)]
            print(
                f"{event}: F1 of destroyed {own[place]:.3f} from {THRESHOLDS[place]:g} on, {half:.3f} from 0.5 on"
            )
    if not scores:
        return None
    mean = np.mean(list(scores.values()), axis=0)
    best = float(THRESHOLDS[int(mean.argmax())])
    half = mean[list(THRESHOLDS).index(0.5)]
    print(
        f"chosen by all: destroyed from {best:g} on, mean F1 of destroyed {mean.max():.3f}, {half:.3f} from 0.5 on"
    )
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="that of events.py")
    parser.add_argument("template", help="models by event, with {event}, or one for all")
    parser.add_argument("--data", type=Path, default=SOURCE)
    parser.add_argument("--scenes", type=int, default=0, help="of each event at most, spread evenly; 0: all")
    parser.add_argument("--write", type=Path, metavar="MODEL", help="whose card takes the threshold")
    options = parser.parse_args()
    scores: dict[str, np.ndarray] = {}
    print("| event | mode | trained | buildings | localization | AUC destroyed | accuracy | none |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for event, scenes in scenes_of(options.folder, options.data).items():
        path = options.template.format(event=event)
        if "{event}" in options.template and not Path(path).exists():
            continue
        model = aftermap.open_model(path)
        trained = ("both", *model.card.one_date)
        model.card = model.card.model_copy(update={"one_date": MODES[1:]})
        for mode in MODES:
            rows = [
                counted(shown(model, scene, mode), scene, model.card.building_threshold)
                for scene in spread(scenes, options.scenes)
            ]
            pixels = np.sum([row[0] for row in rows], axis=0)
            share, truth = (np.concatenate([row[place] for row in rows]) for place in (1, 2))
            words = [event, mode, "yes" if mode in trained else "no", f"{len(truth):,}", f"{f1(*pixels):.3f}"]
            if mode == "post-only" and truth.sum() >= LEAST_DESTROYED:
                scores[event] = f1_destroyed(share, truth)
            if len(truth):
                right = ((share >= 0.5) == truth).mean()
                words += [f"{auc(share, truth):.3f}", f"{right:.3f}", f"{(~truth).mean():.3f}"]
            else:
                words += ["-", "-", "-"]
            print(f"| {' | '.join(words)} |", flush=True)
    print()
    best = choose(scores)
    if options.write is not None and best is not None:
        card = load_card(options.write)
        rewrite_card(options.write, card.model_copy(update={"destroyed_threshold": best}))


if __name__ == "__main__":
    main()
