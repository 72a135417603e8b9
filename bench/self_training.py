"""Labels for a quarter of the training scenes: supervised on them, self-trained with the rest, supervised on all.

    python bench/self_training.py tiles --groups -o build/self-training/tiles
    python bench/self_training.py mexico -o build/self-training/mexico

The data are prepared and split. All arms take the same number of steps from the same start; labels of the other
three quarters are never looked at by the self-trained arm. Run it again to go on where it stopped.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.data.scene import Manifest, Scene
from commands import aftermap

ARMS = ("quarter", "self-trained", "all")


def labelled_quarter(scenes: list[Scene], seed: int, *, groups: bool) -> set[str]:
    """Names of a quarter of the training scenes; with `groups`, of a quarter of their events."""
    train = [s for s in scenes if s.split == "train"]
    rng = np.random.default_rng(seed)
    if groups:
        events = sorted({s.event for s in train})
        chosen = {events[i] for i in rng.permutation(len(events))[: max(1, len(events) // 4)]}
        return {s.name for s in train if s.event in chosen}
    return {train[i].name for i in rng.permutation(len(train))[: max(1, len(train) // 4)]}


def write_parts(options: argparse.Namespace, seed: int) -> tuple[Path, Path]:
    """Manifests of the quarter (with validation and test scenes), and of the rest."""
    manifest = Manifest.load(options.data)
    names = labelled_quarter(manifest.scenes, seed, groups=options.groups)
    labelled = [s for s in manifest.scenes if s.split != "train" or s.name in names]
    rest = [s for s in manifest.scenes if s.split == "train" and s.name not in names]
    folders = []
    for name, scenes in (("quarter", labelled), ("rest", rest)):
        folder = options.out / f"data-{name}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        manifest.model_copy(update={"scenes": scenes}).save(folder)
        folders.append(folder)
    return folders[0], folders[1]


def self_train(options: argparse.Namespace, seed: int) -> Path:
    """The folder of a self-training: its teacher is the model of the quarter."""
    quarter, rest = write_parts(options, seed)
    run = options.out / f"self-{seed}"
    if not (run / "self-training.json").exists():
        words = ["train", options.recipe, f"data.manifests=[{quarter}]", f"pool.manifests=[{rest}]"]
        words += ["pool.hide_labels=true", f"seed={seed}"]
        for role in ("teacher.recipe", "student"):
            words += [f"{role}.steps={options.steps}", f"{role}.evaluate_every={options.steps}"]
            words += [f"{role}.threads=1"]
        words += options.set
        again = ["train", "--resume", str(run)]
        aftermap(
            again if run.exists() else [*words, "-o", str(run)],
            options.out / f"self-{seed}.log",
            codes=(0, 1),
        )
    return run


def train_all(options: argparse.Namespace, seed: int) -> Path:
    """The model folder of the run on all labels."""
    run = options.out / f"all-{seed}"
    if not (run / "model").exists() or (run / "resume").exists():
        words = ["train", options.supervised, f"data.manifests=[{options.data}]", f"seed={seed}"]
        words += [f"steps={options.steps}", f"evaluate_every={options.steps}", "threads=1"]
        again = ["train", "--resume", str(run)]
        aftermap(
            again if (run / "resume").exists() else [*words, "-o", str(run)], options.out / f"all-{seed}.log"
        )
    return run / "model"


def score(options: argparse.Namespace, model: Path, name: str) -> dict[str, float]:
    """Scores on the test scenes, measured unless they are there."""
    file = options.out / f"{name}.json"
    if not file.exists():
        words = ["evaluate", str(model), str(options.data), "--bootstrap", "0", "--json"]
        file.write_text(aftermap([*words, "--backend", "torch"], options.out / f"{name}.log"))
    report: dict[str, Any] = json.loads(file.read_text())
    return {
        "Jaccard": report["localization"]["iou"],
        "F1": report["localization_f1"],
        "F1 of buildings": report["buildings"]["localization"]["f1"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="prepared and split")
    parser.add_argument("--recipe", default="recipes/self-training.yaml")
    parser.add_argument("--supervised", default="recipes/opencities/small.yaml")
    parser.add_argument("--groups", action="store_true", help="the quarter is a quarter of the events")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--set", nargs="*", default=[], help="key=value words for the self-training")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/self-training"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    verdicts = []
    for seed in map(int, options.seeds.split(",")):
        run = self_train(options, seed)
        report = json.loads((run / "self-training.json").read_text())
        models = {
            "quarter": run / "teacher" / "model",
            "self-trained": run / "round-1" / "student" / "model",
            "all": train_all(options, seed),
        }
        for arm in ARMS:
            rows[arm].append(score(options, models[arm], f"{arm}-{seed}"))
        gain = rows["self-trained"][-1]["Jaccard"] - rows["quarter"][-1]["Jaccard"]
        verdicts.append(f"seed {seed}: Jaccard {gain:+.3f} on the test scenes, kept the {report['kept']}")
        print(verdicts[-1], file=sys.stderr, flush=True)
    names = list(rows["all"][0])
    print("| learned from | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for arm, found in rows.items():
        cells = []
        for name in names:
            values = [scores[name] for scores in found]
            cells.append(f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        print(f"| {arm} | " + " | ".join(cells) + " |")
    print("\n" + "\n".join(f"- {verdict}" for verdict in verdicts))


if __name__ == "__main__":
    main()
