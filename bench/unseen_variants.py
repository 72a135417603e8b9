"""One change at a time, at equal steps, over seeds, on events that nobody has seen: what helps a model of `field`'s kind.

    python bench/unseen_variants.py build/variants --events hurricane-harvey santa-rosa-wildfire --seeds 0 1 2 --steps 150

Every variant is trained without the event that it is scored on, from the same start (ImageNet weights but for `random
encoder`), on the other events of ../shared/data/xbd-real, on synthetic disasters, and on Mexico City; crops of 192 px,
batches of 6. What is trained stays in the folder: the command goes on where it stopped, and `--table` only prints what
is there.

Measures are those of `events.py` that need no threshold, so that no variant is helped or hurt by the choice of one: the
best F1 of building pixels over thresholds, the AUC of damaged and of destroyed buildings with true footprints, and the
accuracy of the likeliest degree. Differences to `base` are by event and seed, in pairs; +- is the standard error of
their mean.

The data is non-commercial: weights trained here stay here.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import aftermap
from aftermap.classes import IGNORE
from aftermap.config import read_tree
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.files import write_json
from events import SOURCE, auc, f1, predicted, scenes_of

ROOT = Path(__file__).resolve().parents[1]
MEXICO = ROOT.parent / "shared" / "data" / "xbd-mexico"
OUTLINE = (255, 0, 255)
MISREGISTRATION = {"op": "misregistration", "p": 0.5, "shift_px": 3, "lean_px": 4}


def ordinal(logits: Tensor, channels: Tensor, index: Tensor, known: Tensor) -> Tensor:
    """Squared earth mover's distance between degrees of damage on buildings: none < minor < major < destroyed."""
    on = (index > 0) & known
    below = logits[:, 1:].softmax(1).cumsum(1)
    true = channels[:, 1:].float().cumsum(1)
    distance = ((below - true) ** 2).sum(1)
    return (distance * on).sum() / on.sum().clamp(min=1)


def objects(logits: Tensor, channels: Tensor, index: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of the mean logits of each building, and of the ring of 3 px around it for no building."""
    losses = []
    for answer, mask in zip(logits, index, strict=True):
        found = ((mask > 0) & (mask != IGNORE)).cpu().numpy().astype(np.uint8)
        count, labels = cv2.connectedComponents(found)
        numbers = torch.from_numpy(labels).long().flatten()
        sizes = torch.bincount(numbers, minlength=count).clamp(min=1)
        means = torch.zeros(count, len(answer)).index_add_(0, numbers, answer.flatten(1).T) / sizes[:, None]
        truth = torch.zeros(count).index_add_(0, numbers, mask.flatten().float()) / sizes
        truth = truth.round().long()
        ring = torch.from_numpy(cv2.dilate(found, np.ones((7, 7), np.uint8)) - found).bool() & (mask == 0)
        if count > 1 and ring.any():
            around = answer[:, ring].mean(1, keepdim=True).T
            losses.append(
                F.cross_entropy(torch.cat([around, means[1:]]), truth.index_fill(0, torch.tensor(0), 0))
            )
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def term(name: str) -> str:
    """The objective with a term of this file beside its own."""
    own = json.dumps({"loss": "custom", "target": f"unseen_variants:{name}"})
    return f"objective.terms=[{{loss: cross-entropy}}, {{loss: dice}}, {own}]"


RECIPE = ROOT / "recipes" / "field-buildings.yaml"
SHORT = (
    "name=variant",
    "init_from=null",
    "optimizer.lr=0.0015",
    "weights_dtype=float32",
    "sampling.crop_px=192",
    "sampling.batch_size=6",
    "optimizer.schedule.warmup_steps=15",
    "evaluate_every=100000",
    "validation_scenes=2",
    "save_every=50",
    "threads=1",
    "selection={keep: last, tune: false}",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "base": (),
    "random encoder": ("model.encoder_weights=null",),
    "fuse: encoder": ("model.fuse=encoder",),
    "full-resolution head": ("model.head_stride=1", "model.decoder_channels=[96, 64, 48, 32, 16]"),
    "misregistration": (f"augment={json.dumps([*read_tree(RECIPE)['augment'], MISREGISTRATION])}",),
    "date dropout": ("sampling.date_dropout={pre: 0.3, post: 0.1}",),
    "ordinal term": (term("ordinal"),),
    "object term": (term("objects"),),
    "outlines drawn": (),
}
"""Keys of `recipes/field-buildings.yaml` that each variant changes, besides those of SHORT."""


def command(*words: object) -> None:
    """Run an aftermap command, its progress on standard error."""
    line = [sys.executable, "-m", "aftermap.cli.app", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'bench'}"}
    subprocess.run(line, check=True, stdout=sys.stderr, env=environment)


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image (3, H, W) with the outlines of the buildings of a mask drawn on it."""
    shown = np.ascontiguousarray(image.transpose(1, 2, 0))
    outlines, _ = cv2.findContours((mask == 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(shown, outlines, -1, OUTLINE, 1).transpose(2, 0, 1)


def with_outlines(source: Path, made: Path) -> None:
    """A copy of a prepared dataset whose images show the outlines of the true buildings of the first date."""
    if (made / "manifest.json").exists():
        return
    manifest = aftermap.Manifest.load(source)
    scenes = []
    for scene in manifest.scenes:
        mask = read_mask(scene, target="building")
        paths = {}
        for date, image in zip(("pre", "post"), read_images(scene, dates=2), strict=True):
            path = made / scene.event / "images" / f"{getattr(scene, date).stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.ascontiguousarray(outlined(image, mask).transpose(1, 2, 0)[..., ::-1]))
            paths[date] = path
        labels = scene.pre.parent.parent / "labels"
        if labels.is_dir() and not (made / scene.event / "labels").exists():
            (made / scene.event / "labels").symlink_to(labels)
        kept = {role: value for role, value in scene.checksums.items() if role not in paths}
        scenes.append(scene.model_copy(update={**paths, "checksums": kept}))
    manifest.model_copy(update={"scenes": scenes}).save(made)


def prepared(folder: Path, events: list[str]) -> None:
    """The sets that variants learn from, once, plain and with outlines drawn."""
    sets = folder / "sets"
    if not (sets / "mexico" / "manifest.json").exists():
        command("data", "prepare", "xbd", MEXICO, "-o", sets / "mexico")
        command("data", "split", sets / "mexico", "--by", "random", "--fractions", "1,0,0")
    if not (sets / "synthetic" / "manifest.json").exists():
        command("data", "synth", "-o", sets / "synthetic", "--scenes", 100, "--size", 512, "--seed", 1)
        command("data", "split", sets / "synthetic", "--by", "random", "--fractions", "1,0,0")
    real = folder / "data"
    scenes_of(folder, SOURCE)
    for name, source in (("mexico", sets / "mexico"), ("synthetic", sets / "synthetic"), ("real", real)):
        with_outlines(source, folder / "outlined" / name)
    for event in events:
        for root in (real, folder / "outlined" / "real"):
            split = root / f"{event}.json"
            if not split.exists():
                fractions = ("--fractions", "0.95,0.05,0", "--hold-out", event)
                command("data", "split", root, "--by", "block", *fractions, "--out", split)


def sets_of(folder: Path, variant: str, event: str) -> list[str]:
    """Manifests that a variant learns from without an event."""
    drawn = variant == "outlines drawn"
    real = folder / "outlined" / "real" if drawn else folder / "data"
    others = folder / "outlined" if drawn else folder / "sets"
    mexico = [] if event.startswith("mexico") else [str(others / "mexico")]
    return [str(real / f"{event}.json"), *mexico, str(others / "synthetic")]


def run_of(folder: Path, variant: str, event: str, seed: int) -> Path:
    """The run folder of a variant."""
    return folder / "runs" / variant.replace(" ", "-").replace(":", "") / f"{event}-{seed}"


def trained(folder: Path, variant: str, event: str, seed: int, steps: int) -> Path:
    """The model of a variant, trained now if it is not there."""
    run = run_of(folder, variant, event, seed)
    if (run / "resume").exists():
        command("train", "--resume", run)
    elif not (run / "model" / "card.json").exists():
        data = f"data.manifests={json.dumps(sets_of(folder, variant, event))}"
        command(
            "train", RECIPE, *SHORT, *VARIANTS[variant], data, f"steps={steps}", f"seed={seed}", "-o", run
        )
    return run / "model"


def scored(folder: Path, model: Path, scenes: list[Scene]) -> dict[str, float]:
    """The measures of a model on the scenes of its event; kept beside it."""
    path = model.parent / "unseen.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    network = aftermap.open_model(str(model))
    counts, own, truth = np.zeros((2, 256)), [], []
    for scene in scenes:
        stored = predicted(network, scene, model.parent / "predictions")
        mask = read_mask(scene, target="building")
        for true in (0, 1):
            counts[true] += np.bincount(stored["building"][mask == true], minlength=256)
        own.append(stored["own"])
        truth.append(stored["truth"])
    above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    degrees, level = np.concatenate(own), np.concatenate(truth)
    found = {
        "localization": max(f1(hit, false, counts[1].sum() - hit) for false, hit in above.T),
        "AUC": auc(1 - degrees[:, 0], level > 0),
        "AUC destroyed": auc(degrees[:, 3], level == 3),
        "accuracy": float((degrees.argmax(axis=1) == level).mean()),
    }
    write_json(path, found)
    return found


def print_table(found: dict[tuple[str, str, int], dict[str, float]]) -> None:
    """One row a variant: means over events and seeds, and differences to the base in pairs."""
    names = list(dict.fromkeys(name for name, _, _ in found))
    measures = ("localization", "AUC", "AUC destroyed", "accuracy")
    print("| variant | runs | " + " | ".join(measures) + " |\n|---|---:" + "|---:" * len(measures) + "|")
    for name in names:
        pairs = [(e, s) for n, e, s in found if n == name and ("base", e, s) in found]
        cells = []
        for key in measures:
            values = np.array([found[name, e, s][key] for e, s in pairs])
            apart = values - [found["base", e, s][key] for e, s in pairs]
            error = apart.std(ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
            cells.append(
                f"{values.mean():.3f}" + ("" if name == "base" else f" ({apart.mean():+.3f} ± {error:.3f})")
            )
        print(f"| {name} | {len(pairs)} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", nargs="+", default=["hurricane-harvey", "santa-rosa-wildfire"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="only these and base; all without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    folder = options.folder.resolve()
    prepared(folder, options.events)
    chosen = [name for name in VARIANTS if name in ("base", *(options.variants or VARIANTS))]
    found = {}
    for seed in options.seeds:
        for event in options.events:
            for name in chosen:
                run = run_of(folder, name, event, seed)
                if options.table and not (run / "unseen.json").exists():
                    continue
                root = folder / "outlined" / "real" if name == "outlines drawn" else folder / "data"
                scenes = [s for s in aftermap.Manifest.load(root).scenes if s.event == event]
                model = trained(folder, name, event, seed, options.steps)
                found[name, event, seed] = scored(folder, model, scenes)
                print(
                    f"{name}, {event}, seed {seed}: {found[name, event, seed]}", file=sys.stderr, flush=True
                )
    print_table(dict(sorted(found.items(), key=lambda item: chosen.index(item[0][0]))))


if __name__ == "__main__":
    main()
