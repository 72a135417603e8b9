"""One model per ground resolution and one for all, each scored at every resolution on other ground, several seeds.

    aftermap data prepare folder oam-ggaba --footprints labels.geojson --group-zoom 19 -o tiles
    python bench/resolutions.py tiles --test 309606-261636 309614-261633 --validation 309613-261633 -o build/resolutions

Run it again to go on where it stopped.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from aftermap.data.scene import Manifest, Scene, Split
from commands import aftermap


def band(scene: Scene) -> str:
    """The scene's ground resolution in metres, in whole centimetres."""
    assert scene.resolution_m is not None, f"{scene.name} has no known ground resolution"
    return f"{scene.resolution_m:.2f}"


def write_parts(options: argparse.Namespace) -> dict[str, Path]:
    """A manifest for every resolution and one for all, split by event; by name."""
    manifest = Manifest.load(options.data)

    def split(event: str) -> Split:
        return "test" if event in options.test else "validation" if event in options.validation else "train"

    scenes = [s.model_copy(update={"split": split(s.event)}) for s in manifest.scenes]
    unknown = {*options.test, *options.validation} - {s.event for s in scenes}
    if unknown:
        raise SystemExit(
            f"no event {', '.join(sorted(unknown))}: there are {sorted({s.event for s in scenes})}"
        )
    bands = sorted({band(s) for s in scenes}, reverse=True)
    parts = {}
    for name in [*bands, "mixed"]:
        folder = options.out / f"data-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        mine = [s for s in scenes if name in ("mixed", band(s))]
        chosen = manifest.model_copy(
            update={"scenes": mine, "options": manifest.options | {"split": "group"}}
        )
        chosen.save(folder)
        parts[name] = folder
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="recipes/opencities/small.yaml")
    parser.add_argument("--test", nargs="+", required=True, help="events that are scored on")
    parser.add_argument("--validation", nargs="+", required=True, help="events that choose the step")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--set", nargs="*", default=[], help="key=value words for all runs")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/resolutions"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    parts = write_parts(options)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in map(int, options.seeds.split(",")):
        for arm, data in parts.items():
            run = options.out / f"{arm}-{seed}"
            log = options.out / f"{arm}-{seed}.log"
            if not (run / "model").exists() or (run / "resume").exists():
                words = ["train", options.recipe, f"data.manifests=[{data}]", f"seed={seed}", "threads=1"]
                words += [f"steps={options.steps}", f"evaluate_every={options.steps}", *options.set]
                again = ["train", "--resume", str(run)]
                aftermap(again if (run / "resume").exists() else [*words, "-o", str(run)], log)
            for where, scored in parts.items():
                file = options.out / f"{arm}-{seed}-at-{where}.json"
                if not file.exists():
                    words = ["evaluate", str(run / "model"), str(scored), "--bootstrap", "0", "--json"]
                    file.write_text(aftermap([*words, "--backend", "torch"], log))
                found.setdefault((arm, where), []).append(scores(json.loads(file.read_text())))
            print(arm, seed, found[arm, "mixed"][-1], file=sys.stderr, flush=True)
    show(found, list(parts))


def scores(report: dict) -> dict[str, float]:
    """Jaccard index of the buildings' pixels, and F1 of buildings found."""
    return {
        "jaccard": report["localization"]["iou"],
        "objects": report["buildings"]["localization"]["f1"],
    }


def show(found: dict[tuple[str, str], list[dict[str, float]]], names: list[str]) -> None:
    """Tables in Markdown: rows are what was learned from, columns what was scored on."""
    for key, title in (("jaccard", "Jaccard index"), ("objects", "F1 of buildings at IoU 0.5")):
        print(f"\n{title}\n\n| learned at | " + " | ".join(f"scored at {name}" for name in names) + " |")
        print("|---" * (len(names) + 1) + "|")
        for arm in names:
            cells = []
            for where in names:
                values = [each[key] for each in found[arm, where]]
                spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.3f}{spread}")
            print(f"| {arm} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
