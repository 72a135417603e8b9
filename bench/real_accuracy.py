"""Train on the real pairs in ../shared/data/xbd-real and score held-out ground; print a Markdown table.

    python bench/real_accuracy.py /tmp/real                       # split by spatial block inside each event
    python bench/real_accuracy.py /tmp/harvey --hold-out hurricane-harvey
    python bench/real_accuracy.py /tmp/real --only-evaluate       # runs that exist already
    python bench/real_accuracy.py /tmp/real --seed 1              # another run of each, beside that of seed 0

The data is non-commercial: weights trained here stay here.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "xbd-real"
AFTERMAP = Path(sys.executable).with_name("aftermap")
CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed")


def aftermap(*words: object) -> str:
    """Run a command, pass its progress on, and return what it printed."""
    line = [str(AFTERMAP), *map(str, words)]
    print("$ aftermap", *line[1:], file=sys.stderr)
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def prepare(folder: Path, hold_out: str | None) -> Path:
    data = folder / "data"
    if not (data / "manifest.json").exists():
        aftermap("data", "prepare", "xbd", SOURCE, "-o", data)
        fractions = "0.8,0.2,0" if hold_out else "0.6,0.1,0.3"
        split = ("--by", "block", "--fractions", fractions, "--seed", 0)
        aftermap("data", "split", data, *split, *(("--hold-out", hold_out) if hold_out else ()))
        aftermap("data", "check", data)
    return data


def train(folder: Path, data: Path, steps: dict[str, int], seed: int) -> Path:
    manifests = (f"data.manifests=['{data}']", f"seed={seed}")
    if not (folder / "localization" / "model").exists():
        recipe = ROOT / "recipes" / "localization.yaml"
        aftermap("train", recipe, *manifests, f"steps={steps['localization']}", "-o", folder / "localization")
    if not (folder / "damage" / "model").exists():
        start = f"init_from={folder / 'localization' / 'model'}"
        recipe = ROOT / "recipes" / "damage.yaml"
        aftermap("train", recipe, *manifests, start, f"steps={steps['damage']}", "-o", folder / "damage")
    return folder / "damage" / "model"


def row(name: str, pixels: dict, buildings: dict) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    per_class = [number(pixels["damage_f1_per_class"][c]) for c in CLASSES]
    cells = [
        number(pixels["localization_f1"]),
        number(pixels["score"]),
        number(pixels["absent_class_rule"]["score"]),
        *per_class,
        number(buildings["f1_destroyed"]),
        number(buildings["macro_f1"]),
        number(buildings["macro_f1_present"]),
    ]
    return f"| {name} | {pixels['scenes']} | " + " | ".join(cells) + " |"


def table(report: dict, title: str) -> str:
    head = [
        "scenes",
        "loc F1",
        "official",
        "official, present classes",
        *(f"F1 {name}" for name in CLASSES),
        "building F1 destroyed",
        "building macro-F1",
        "same, present classes",
    ]
    lines = [f"| {title} | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    lines.append(row("**all**", report, report["buildings"]))
    for event, pixels in report["events"].items():
        lines.append(row(event, pixels, report["buildings"]["events"][event]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hold-out", metavar="EVENT")
    parser.add_argument("--localization-steps", type=int, default=1200)
    parser.add_argument("--damage-steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the runs; data are split the same way")
    parser.add_argument("--only-evaluate", action="store_true")
    parser.add_argument("--models", nargs="*", default=["box"], help="further models for the same scenes")
    options = parser.parse_args()
    data = prepare(options.folder, options.hold_out)
    steps = {"localization": options.localization_steps, "damage": options.damage_steps}
    runs = options.folder / f"seed-{options.seed}" if options.seed else options.folder
    model = runs / "damage" / "model"
    if not options.only_evaluate:
        model = train(runs, data, steps, options.seed)
    for name, path in {"trained here": model, **{m: m for m in options.models}}.items():
        report = json.loads(aftermap("evaluate", path, data, "--split", "test", "--json"))
        (runs / f"scores-{Path(str(name)).name.replace(' ', '-')}.json").write_text(
            json.dumps(report, indent=1)
        )
        print(table(report, name), end="\n\n")


if __name__ == "__main__":
    main()
