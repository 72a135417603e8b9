"""`aftermap benchmark` of some models against one `aftermap evaluate` of an older version for each: processor seconds.

    python bench/benchmark_speed.py PREPARED --base ../older/src --model box --model box --model box --pairs 4 20

Both are run on as many pairs as `--pairs` says (the same share of every event). From two numbers follow what a pair costs
and what a command costs before the first one, and from these what all pairs of the dataset cost. On the fewest pairs the
figures are compared with those of `evaluate` of this version. One thread; a model that is named several times is run
once by the older version, and counted as often.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from aftermap.data.scene import Manifest

SOURCE = Path(__file__).resolve().parents[1] / "src"


def part(manifest: Manifest, pairs: int) -> Manifest:
    """Every n-th scene of the dataset in the order of events, all in split test."""
    scenes = sorted((s for s in manifest.scenes if s.is_labelled), key=lambda s: (s.event, s.name))
    chosen = [scenes[(2 * i + 1) * len(scenes) // (2 * pairs)] for i in range(pairs)]
    return manifest.model_copy(update={"scenes": [s.model_copy(update={"split": "test"}) for s in chosen]})


def run(source: Path, words: list[str]) -> tuple[float, Any]:
    """Processor seconds of a command of a version, and the JSON that it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(source)}
    command = [sys.executable, "-m", "aftermap.cli.app", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return taken, json.loads(done.stdout)


def compare(report: Any, evaluated: list[Any]) -> None:
    """Print by how much two figures differ from those of `evaluate`, which are rounded otherwise."""
    gaps = []
    for row, found in zip(report["entrants"], evaluated, strict=True):
        values = row["mean"]["values"]
        gaps += [
            abs(values["localization_f1"] - found["localization_f1"]),
            abs(values["official_score"] - found["score"]),
        ]
    print(f"figures differ from those of evaluate by {max(gaps):.6f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", type=Path, help="src of the older version; without it evaluate of this one")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--pairs", type=int, nargs="+", default=[4, 20])
    wanted = parser.parse_args()
    manifest = Manifest.load(wanted.data)
    every = sum(scene.is_labelled for scene in manifest.scenes)
    seconds: dict[str, list[float]] = {"evaluate": [], "benchmark": []}
    for pairs in wanted.pairs:
        with tempfile.TemporaryDirectory() as folder:
            data = part(manifest, pairs).save(Path(folder) / "manifest.json")
            base = wanted.base or SOURCE
            each = {model: run(base, ["evaluate", model, str(data)])[0] for model in set(wanted.model)}
            words = ["benchmark", str(data), "--protocol", "split", "-o", f"{folder}/out"]
            words += [w for n, model in enumerate(wanted.model) for w in ("-m", f"model-{n}={model}")]
            together, report = run(SOURCE, words)
            if pairs == wanted.pairs[0]:
                now = {model: run(SOURCE, ["evaluate", model, str(data)])[1] for model in set(wanted.model)}
                compare(report, [now[model] for model in wanted.model])
        seconds["evaluate"].append(sum(each[model] for model in wanted.model))
        seconds["benchmark"].append(together)
        told = ", ".join(f"{name} {taken[-1]:.1f} s" for name, taken in seconds.items())
        ratio = seconds["benchmark"][-1] / seconds["evaluate"][-1]
        print(f"{pairs} pairs: {told}, ratio {ratio:.2f}", flush=True)
    if len(wanted.pairs) > 1:
        first, last = wanted.pairs[0], wanted.pairs[-1]
        whole = {}
        for name, taken in seconds.items():
            slope = (taken[-1] - taken[0]) / (last - first)
            whole[name] = taken[-1] + slope * (every - last)
            print(
                f"{name}: {taken[0] - slope * first:.1f} s and {slope:.3f} s a pair, {whole[name]:.0f} s for {every}"
            )
        print(f"ratio for {every} pairs: {whole['benchmark'] / whole['evaluate']:.2f}")


if __name__ == "__main__":
    main()
