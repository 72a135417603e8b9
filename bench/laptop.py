"""A student with and without its teacher: the same start, steps and crops, several seeds, scored on other scenes.

    python bench/laptop.py recipes/laptop/distilled.yaml --data PREPARED --teacher runs/damage/model -o build/laptop

Both arms start from the teacher's weights (`--start none`: from random ones). Run it again to go on where it stopped.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from aftermap.config import load_config
from aftermap.workflows.training.config import TrainRecipe
from commands import aftermap

ARMS = ("alone", "distilled")
CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed")


def train(options: argparse.Namespace, arm: str, seed: int) -> Path:
    """The model folder of one run, trained unless it is there."""
    run = options.out / f"{arm}-{seed}"
    if not (run / "model").exists() or (run / "resume").exists():
        words = ["train", str(options.recipe), f"seed={seed}", "threads=1", f"steps={options.steps}"]
        words += [f"evaluate_every={options.steps}", f"data.manifests=[{','.join(map(str, options.learn))}]"]
        words += [] if options.start == "none" else [f"init_from={options.teacher}"]
        if arm == "alone":
            recipe = load_config(TrainRecipe, options.recipe, [])
            terms = [term.model_dump(mode="json") for term in recipe.objective.terms]
            words.append(f"objective={json.dumps({'terms': terms})}")
        else:
            words.append(f"objective.teachers.main.model={options.teacher}")
        if (run / "resume").exists():
            words = ["train", "--resume", str(run)]
        else:
            words += [*options.set, "-o", str(run)]
        aftermap(words, options.out / f"{arm}-{seed}.log")
    return run / "model"


def score(options: argparse.Namespace, model: Path, name: str) -> dict[str, float]:
    """Scores of a model on the test scenes, measured unless they are there."""
    file = options.out / f"{name}.json"
    if not file.exists():
        words = [
            "evaluate",
            str(model),
            str(options.data),
            "--split",
            options.split,
            "--bootstrap",
            "0",
            "--json",
        ]
        file.write_text(aftermap([*words, "--backend", "torch"], options.out / f"{name}.log"))
    report: dict[str, Any] = json.loads(file.read_text())
    return {
        "official": report["score"],
        "localization F1": report["localization_f1"],
        **{f"F1 {kind}": report["damage_f1_per_class"][kind] for kind in CLASSES},
        "building macro F1": report["buildings"]["macro_f1"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="prepared data that is scored on")
    parser.add_argument(
        "--learn", type=Path, nargs="*", help="prepared data that is learned from; --data by default"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--start", choices=["teacher", "none"], default="teacher")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--set", nargs="*", default=[], help="key=value words for both arms")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/laptop"))
    options = parser.parse_args()
    options.learn = options.learn or [options.data]
    rows: dict[str, list[dict[str, float]]] = {"teacher": [score(options, options.teacher, "teacher")]}
    for seed in map(int, options.seeds.split(",")):
        for arm in options.arms.split(","):
            model = train(options, arm, seed)
            rows.setdefault(arm, []).append(score(options, model, f"{arm}-{seed}"))
    names = list(rows["teacher"][0])
    print("| model | seeds | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for arm, found in rows.items():
        cells = []
        for name in names:
            values = [scores[name] for scores in found]
            mean = f"{statistics.mean(values):.3f}"
            cells.append(mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})")
        print(f"| {arm} | {len(found)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
