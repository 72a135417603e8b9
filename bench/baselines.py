"""Baselines at equal compute: published networks and ours, each trained for the same processor time, on one leaderboard.

    python bench/baselines.py xbd-prepared -o build/baselines -m box -m 'field=build/field/field-{fold}/model' \
        --folds santa-rosa-wildfire hurricane-michael --seconds 150

`--seconds` is what a training may take of the processor, batches included, evaluations and start-up not: a step of every
network is timed first, and the number of steps follows. What learns in two parts (localization, then damage from it)
gives a third of it to the first. All crops are of 256 px, all batches of 4; the rate rises for 10 steps and falls along
a cosine.
Run it again to go on where it stopped: steps are timed once, trainings resume, and `aftermap benchmark` does the rest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from aftermap.config import read_tree
from aftermap.data.scene import Manifest
from aftermap.workflows.benchmark.protocol import make_protocol
from aftermap.workflows.benchmark.trained import fold_manifest
from aftermap.workflows.training.recipe_files import recipe_path

SHORT = {
    "sampling": {"crop_px": 256, "batch_size": 4},
    "validation_scenes": 6,
    "evaluate_every": 100_000,
    "save_every": 10,
    "threads": 1,
}
SCHEDULE = {"kind": "cosine", "warmup_steps": 10}
COLUMNS = {
    "localization_f1": "localization F1",
    "official_score": "xView2 score",
    "found_f1": "buildings found",
    "phantoms": "phantoms",
    "auc_damaged": "AUC damaged",
    "accuracy": "accuracy",
    "ece": "ECE",
}
IMAGENET_LITE = {"encoder_name": "tf_efficientnet_lite0", "encoder_weights": "imagenet"}
HALF = {"mean": [127.5, 127.5, 127.5], "std": [127.5, 127.5, 127.5]}


def laid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, groups merged but for `model`, which is replaced."""
    merged = dict(below)
    for key, value in above.items():
        grouped = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "model"
        merged[key] = {**merged[key], **value} if grouped else value
    return merged


def short(recipe: str, **changes: Any) -> dict[str, Any]:
    """A shipped recipe for a short run."""
    tree = laid(laid(read_tree(recipe_path(recipe)), SHORT), changes)
    tree["optimizer"]["schedule"] = SCHEDULE
    return tree


def published(recipe: str) -> dict[str, Any]:
    """A recipe of the winner for a short run: network, losses, targets, choice of crops and augmentation stay."""
    tree = short(recipe, precision="bf16")
    tree["sampling"]["compat_steps"] = False  # the same crops, resampled once instead of up to four times
    tree["model"].pop("encoder_weights", None)
    tree["optimizer"]["lr"] = 0.001  # 1.5e-4 and 2e-4 are for 55 and 20 epochs
    for key in ("epochs", "evaluate_first"):
        tree.pop(key, None)
    tree["data"].pop("holdout")
    return tree


def baselines() -> dict[str, list[tuple[str, dict[str, Any], float]]]:
    """By name: (stage, recipe, share of the processor time); the last stage is what the others lead to."""
    smp = {"kind": "smp", "architecture": "unet", "dates": 2, "fusion": "concat", "classes": 5}
    return {
        "winner-resnet34": [
            ("localization", published("xview2/localization-resnet34.yaml"), 1 / 3),
            ("damage", published("xview2/damage-resnet34.yaml"), 2 / 3),
        ],
        "smp-unet-lite0": [
            ("damage", short("damage.yaml", model=smp | IMAGENET_LITE, normalisation=HALF, precision="no"), 1)
        ],
        "changeos-r18": [
            (
                "damage",
                short(
                    "damage.yaml",
                    model={"kind": "torchange", "encoder_name": "resnet18"},
                    normalisation={"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
                    precision="bf16",
                ),
                1,
            )
        ],
        "ours-damage": [
            ("localization", short("localization.yaml"), 1 / 3),
            ("damage", short("damage.yaml"), 2 / 3),
        ],
    }


def seconds_of_a_step(recipe: Path, data: Path) -> float:
    """Processor seconds of a step, the loader's threads included: the median of three after one."""
    import torch

    from aftermap.workflows.training.config import TrainRecipe
    from aftermap.workflows.training.recipe_files import load_recipe
    from aftermap.workflows.training.run import OrdinaryTraining
    from aftermap.workflows.training.scenes import choose_scenes

    torch.set_num_threads(1)
    settings = load_recipe(TrainRecipe, recipe, [f"data.manifests=[{data}]"])
    made = OrdinaryTraining(settings, choose_scenes(settings.data, settings.task), "bench")
    taken = []
    for _ in range(4):
        begun = time.process_time()
        made.training.advance(made.source)
        taken.append(time.process_time() - begun)
    made.close()
    return statistics.median(taken[1:])


def write_plan(name: str, out: Path, data: Path, seconds: float) -> Path:
    """A plan of a baseline, its steps chosen by what one takes; times are kept in `steps.json`."""
    folder, kept = out / "plans" / name, out / "steps.json"
    folder.mkdir(parents=True, exist_ok=True)
    times = json.loads(kept.read_text()) if kept.exists() else {}
    stages: list[dict[str, Any]] = []
    for stage, tree, share in baselines()[name]:
        recipe = folder / f"{stage}.yaml"
        recipe.write_text(yaml.safe_dump(tree, sort_keys=False))
        key = f"{name} {stage}"
        if key not in times:
            times[key] = seconds_of_a_step(recipe, data)
            kept.write_text(json.dumps(times, indent=1) + "\n")
        steps = max(1, round(seconds * share / times[key]))
        print(f"{key}: {times[key]:.2f} s a step, {steps} steps", flush=True)
        before = {"init_from": stages[-1]["name"]} if stages else {}
        stages.append(
            {"kind": "train", "name": stage, "recipe": recipe.name, "overrides": {"steps": steps}, **before}
        )
    if name.startswith("winner"):
        stages.append(
            {
                "kind": "ensemble",
                "name": "both",
                "localization": ["localization"],
                "damage": ["damage"],
                "class_thresholds": [0.38, 0.13, 0.13, 0.14],
                "minor_dilation": "compat",
            }
        )
    plan = {"name": name, "data": {"manifests": [str(data)]}, "stages": stages}
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(plan, sort_keys=False))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared, two dates, labels of damage")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/baselines"))
    parser.add_argument("-m", "--model", action="append", default=[], help="models to show beside them")
    parser.add_argument("--folds", nargs="*", default=[], help="events left out in turn; all by default")
    parser.add_argument("--seconds", type=float, default=900, help="of the processor, for each training")
    parser.add_argument("--only", nargs="*", default=list(baselines()), help="of the baselines")
    wanted = parser.parse_args()
    runs = wanted.out.resolve().parent / f"{wanted.out.name}-runs"
    manifest = Manifest.load(wanted.data)
    first = make_protocol(manifest, "leave-one-event-out", events=wanted.folds).folds[0]
    data = fold_manifest(first, manifest).save(runs / f"{first.name}.json")
    plans = {name: write_plan(name, runs, data, wanted.seconds) for name in wanted.only}
    words = ["benchmark", str(wanted.data), "-o", str(wanted.out)]
    words += [part for fold in wanted.folds for part in ("--event", fold)]
    words += [part for model in wanted.model for part in ("-m", model)]
    words += [part for name, plan in plans.items() for part in ("-r", f"{name}={plan}")]
    run([*words, "--overwrite"])
    print(markdown(json.loads((wanted.out / "benchmark.json").read_text())))


def markdown(report: dict[str, Any]) -> str:
    """The means of a `benchmark.json` as a table for docs/benchmarks.md."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " | CPU s/Mpx | CPU s of training |"]
    lines.append("|---|" + "---:|" * (len(COLUMNS) + 2))
    for row in report["entrants"]:
        values, edges = row["mean"]["values"], row["mean"]["intervals"]
        cells = [_cell(values[name], edges.get(name)) for name in COLUMNS]
        trained = row.get("training_cpu_seconds")
        cells += [f"{row['cpu_seconds_per_mpx']:.2f}", "" if trained is None else f"{trained:.0f}"]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, edges: list[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ({edges[0]:.3f} to {edges[1]:.3f})" if edges else "")


def run(words: list[str]) -> None:
    """Run a command of aftermap on one thread; ends this one where it fails."""
    command = [sys.executable, "-m", "aftermap.cli.app", *words]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
