"""What a few labelled scenes of a new event are worth: the model in the box adapted with 1, 3 and 5 of them.

    OMP_NUM_THREADS=1 python bench/adapt.py xbd-prepared --events santa-rosa-wildfire hurricane-harvey

For every event the first scenes of one draw are learned from, and the same other scenes, drawn in the same way from
what is left, are scored throughout.
Batch normalisation keeps its running statistics (frozen) or follows the new images (updated).
"""

import argparse
import json
import time
from pathlib import Path

import torch

from aftermap.artefacts.store import load_model
from aftermap.data.checking.splits import buildings
from aftermap.data.scene import Manifest
from aftermap.inference.predictor import Predictor
from aftermap.workflows.adaptation.config import AdaptConfig
from aftermap.workflows.adaptation.scenes import choose_scenes, draw_scenes
from aftermap.workflows.adaptation.with_labels import fine_tune
from aftermap.workflows.scoring.evaluate import decisive_score, evaluate

SHOTS = (1, 3, 5)


def main() -> None:
    """Adapt, score and print a table in Markdown; every row also goes to a file as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a prepared dataset")
    parser.add_argument("--model", default="box")
    parser.add_argument("--events", nargs="+", default=["santa-rosa-wildfire", "hurricane-harvey"])
    parser.add_argument("--norms", nargs="+", default=["frozen", "updated"])
    parser.add_argument("--tune", nargs="+", default=["all"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument(
        "--evaluated", type=int, default=6, help="scenes that are scored, drawn like the others"
    )
    parser.add_argument("--steps", type=int, default=AdaptConfig.model_fields["steps"].default)
    parser.add_argument("--lr", type=float, default=AdaptConfig.model_fields["lr"].default)
    parser.add_argument("--out", type=Path, default=Path("adapt.jsonl"))
    words = parser.parse_args()
    torch.set_num_threads(1)
    manifest = Manifest.load(words.data)
    titles = ("event", "seed", "scenes", "buildings", "tuned", "norm", "loc F1", "mean F1 of classes")
    titles += ("no / minor / major / destroyed", "decisive score", "CPU s")
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for event in words.events:
        for seed in words.seeds:
            base = AdaptConfig(
                model=words.model,
                data=words.data,
                event=event,
                scenes=max(words.shots),
                seed=seed,
                steps=words.steps,
                lr=words.lr,
            )
            parent = load_model(words.model)
            chosen, others = choose_scenes(manifest, base, parent.card)
            rich = [scene for scene in others if buildings(scene)]
            others = draw_scenes(rich, min(words.evaluated, len(rich)), seed=1000 + seed)
            row(
                words.out,
                {"event": event, "seed": seed, "scenes": 0, "tuned": "-", "norm": "-"},
                0,
                parent,
                others,
                0.0,
            )
            for count in words.shots:
                for tune in words.tune:
                    for norm in words.norms:
                        started = time.process_time()
                        child = load_model(words.model)
                        config = base.model_copy(update={"norm": norm, "tune": tune, "scenes": count})
                        for _ in fine_tune(child, chosen[:count], config):
                            pass
                        facts = {"event": event, "seed": seed, "scenes": count, "tuned": tune, "norm": norm}
                        seen = sum(buildings(scene) for scene in chosen[:count])
                        row(words.out, facts, seen, child, others, time.process_time() - started)


def row(out: Path, facts: dict, seen: int, loaded, others: list, seconds: float) -> None:
    """Score a model and print its row."""
    pixels = evaluate(Predictor(loaded), others).report.pixels
    per_class = list(pixels.damage_f1_per_class.values())
    occurring = [f1 for level, f1 in enumerate(per_class, 1) if sum(pixels.confusion[level])]
    mean = sum(occurring) / len(occurring)
    score = decisive_score(pixels)
    classes = " / ".join(
        f"{f1:.3f}" if sum(pixels.confusion[level]) else "–" for level, f1 in enumerate(per_class, 1)
    )
    numbers = (f"{pixels.localization_f1:.3f}", f"{mean:.3f}", classes, f"{score:.3f}", f"{seconds:.0f}")
    named = (facts["event"], facts["seed"], facts["scenes"], seen, facts["tuned"], facts["norm"])
    print(f"| {' | '.join(map(str, (*named, *numbers)))} |", flush=True)
    record = facts | {
        "buildings": seen,
        "evaluated": len(others),
        "localization_f1": pixels.localization_f1,
        "mean_f1": mean,
        "official": pixels.score,
        "per_class": per_class,
        "score": score,
        "cpu_seconds": seconds,
    }
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
