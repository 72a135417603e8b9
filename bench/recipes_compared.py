"""The winner's ResNet-34 recipe against our own default at the same compute: scores, seconds per epoch, memory.

Both learn from random weights, localization first, then damage grown from it. A run may use as many multiply-accumulates
of the forward pass (GMAC, summed over all crops that it learns from) as the other: a third for localization, the rest
for damage. Crops are 256 px in both. Run it again to go on where it stopped.

    python bench/recipes_compared.py --data REAL:prepared-folder --data SYNTHETIC:other-folder -o build/compared
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from aftermap.config import load_config
from aftermap.data.loading.sampling import EpochSampling, repetitions
from aftermap.data.scene import Manifest
from aftermap.models.build import build_model
from aftermap.workflows.training.config import TrainRecipe

ROOT = Path(__file__).resolve().parents[1]
ARMS = {
    "ours": (ROOT / "recipes/localization.yaml", ROOT / "recipes/damage.yaml"),
    "winner": (
        ROOT / "recipes/xview2/localization-resnet34.yaml",
        ROOT / "recipes/xview2/damage-resnet34.yaml",
    ),
}
CROP_PX = 256


def gmacs_per_crop(recipe: Path) -> float:
    """Multiply-accumulates, in 1e9, of one forward pass of a crop."""
    config = load_config(TrainRecipe, recipe, ["data.manifests=[x]"])
    with torch.device("meta"):
        model = build_model(config.model.model_copy(update={"encoder_weights": None})).train()
        image = torch.empty(2, model.dates, 3, CROP_PX, CROP_PX)
        with FlopCounterMode(display=False) as counter:
            model(image)
    return counter.get_total_flops() / 2 / 2e9


def run(words: list[str], log: Path) -> tuple[float, float]:
    """Run a command of aftermap; seconds of processor time and the largest memory so far, in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(Path(sys.executable).with_name("aftermap")), *words]
    with log.open("a") as file:
        done = subprocess.run(command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: see {log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024


def train(arm: str, data: Path, seed: int, budget: float, folder: Path) -> dict[str, float]:
    """Train localization and damage; what it took."""
    took: dict[str, float] = {}
    parent: Path | None = None
    for part, recipe, share in zip(("localization", "damage"), ARMS[arm], (1 / 3, 2 / 3), strict=True):
        out, state = folder / part, folder / f"{part}.json"
        if not state.exists():
            batch = 16 if part == "localization" else 12
            steps = max(1, round(budget * share / gmacs_per_crop(recipe) / batch))
            words = [
                "train", str(recipe), f"data.manifests=[{data}]", f"steps={steps}", f"evaluate_every={steps}",
                f"seed={seed}", f"sampling.batch_size={batch}", f"sampling.crop_px={CROP_PX}",
                "validation_scenes=24", "save_every=50", "threads=1", "-o", str(out),
            ]  # fmt: skip
            if arm == "winner":
                words += winner_words(recipe, steps, batch, data)
            else:
                words.append("model.encoder_weights=null")
            if parent is not None:
                words.append(f"init_from={parent}")
            if (out / "resume").exists():
                words = ["train", "--resume", str(out)]
            seconds, megabytes = run(words, folder / "log.txt")
            steps = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"]  # whole epochs
            facts = {"steps": steps, "batch": batch, "cpu_seconds": seconds, "peak_mb": megabytes}
            state.write_text(json.dumps(facts))
        parent = out / "model"
        took |= {f"{part}_{k}": v for k, v in json.loads(state.read_text()).items()}
    return took


def winner_words(recipe: Path, steps: int, batch: int, data: Path) -> list[str]:
    """The winner's schedule squeezed into fewer epochs, on the manifest's own splits."""
    config = load_config(TrainRecipe, recipe, ["data.manifests=[x]"])
    assert isinstance(config.sampling, EpochSampling)
    scenes = [s for s in Manifest.load(data).scenes if s.split == "train"]
    crops = sum(
        repetitions({k for k, n in enumerate(s.class_pixels) if n}, config.sampling.repeat) for s in scenes
    )
    assert config.epochs is not None and config.optimizer.schedule.kind == "multistep"
    epochs = max(1, round(steps / (crops // batch)))
    squeezed = sorted({round(m * epochs / config.epochs) for m in config.optimizer.schedule.milestones})
    return [
        "model.encoder_weights=null",
        "sampling.compat_steps=false",  # the same crops, resampled once instead of up to four times
        "data.holdout=null",
        f"epochs={epochs}",
        f"evaluate_every={epochs}",
        "evaluate_first=null",
        f"optimizer.schedule.milestones={[m for m in squeezed if 0 < m < epochs]}",
    ]


def score(arm: str, data: Path, folder: Path) -> dict[str, object]:
    """Scores on the test scenes, without test-time augmentation."""
    model = folder / "damage" / "model"
    if arm == "winner":
        model = folder / "ensemble"
        if not model.exists():
            words = ["ensemble", str(folder / "localization" / "model"), str(folder / "damage" / "model")]
            words += ["--roles", "localization,damage", "--class-thresholds", "0.38,0.13,0.13,0.14"]
            run([*words, "--minor-dilation", "compat", "-o", str(model)], folder / "log.txt")
    command = [str(Path(sys.executable).with_name("aftermap")), "evaluate", str(model), str(data)]
    command += ["--split", "test", "--bootstrap", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"evaluation failed: {done.stderr[-300:]}")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="NAME:FOLDER, prepared and split")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="default: both")
    parser.add_argument("--seeds", default="0,1,2", help="so that several processes can share the work")
    parser.add_argument("--gmacs", type=float, default=40_000, help="forward GMAC that a run may learn with")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/compared"))
    wanted = parser.parse_args()
    for named in wanted.data:
        name, _, path = named.partition(":")
        for seed in map(int, wanted.seeds.split(",")):
            for arm in wanted.arm or ARMS:
                folder = wanted.out / name / f"{arm}-{seed}"
                result = folder / "result.json"
                if result.exists():
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                started = time.monotonic()
                took = train(arm, Path(path).resolve(), seed, wanted.gmacs, folder)
                scores = score(arm, Path(path).resolve(), folder)
                result.write_text(json.dumps({"took": took, "scores": scores}, indent=1))
                print(
                    f"{name} {arm} seed {seed}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True
                )
    table(wanted.out)


def table(folder: Path) -> None:
    """Mean and range over the seeds, as Markdown."""
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for file in sorted(folder.glob("*/*/result.json")):
        arm = re.sub(r"-\d+$", "", file.parent.name)
        rows.setdefault((file.parent.parent.name, arm), []).append(flat(json.loads(file.read_text())))
    if not rows:
        return
    keys = list(next(iter(rows.values()))[0])
    print("| data | recipe | seeds | " + " | ".join(keys) + " |\n|---" * 1 + "|---" * (len(keys) + 2) + "|")
    for (data, arm), found in rows.items():
        cells = []
        for key in keys:
            values = [f[key] for f in found]
            middle = statistics.mean(values)
            cells.append(
                f"{middle:.0f}" if middle > 10 else f"{middle:.3f} ({min(values):.3f} to {max(values):.3f})"
            )
        print(f"| {data} | {arm} | {len(found)} | " + " | ".join(cells) + " |")


def flat(result: dict) -> dict[str, float]:
    """The numbers of the table."""
    scores = result["scores"]
    took = result["took"]
    steps, seconds = took["damage_steps"], took["damage_cpu_seconds"]
    return {
        "official": scores["score"],
        "classes present": scores["absent_class_rule"]["score"],
        "localization F1": scores["localization_f1"],
        **{f"F1 {k}": v or 0.0 for k, v in scores["damage_f1_per_class"].items()},
        "building macro F1": scores["buildings"]["macro_f1"],
        "s per 1000 crops": 1000 * seconds / steps / took["damage_batch"],
        "peak MB": took["damage_peak_mb"],
    }


if __name__ == "__main__":
    main()
