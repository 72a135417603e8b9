"""A search of 20 trials on a small recipe: stopped twice, resumed, its best trial trained again.

Buildings on synthetic scenes, one date, one core. The search is interrupted (SIGINT) within one trial and killed
(SIGKILL) within another, and goes on each time; a second search of the same trials runs without a pause. Both must
end with the same trials, and the best one trained again must reach its score.

    python bench/search.py -o build/search
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

RECIPE = {
    "name": "small-buildings",
    "task": "building",
    "model": {
        "kind": "unet",
        "encoder_name": "resnet10t",
        "encoder_depth": 3,
        "decoder_channels": [32, 24, 16],
        "head_stride": 2,
        "classes": 2,
    },
    "objective": {"terms": [{"loss": "cross-entropy"}, {"loss": "dice"}]},
    "sampling": {"crop_px": 128, "batch_size": 4, "class_share": 0.6},
    "augment": None,
    "optimizer": {"lr": 0.002, "schedule": {"kind": "cosine", "warmup_steps": 5}},
    "selection": {"tune": False},
    "steps": 90,
    "evaluate_every": 30,
    "save_every": 10,
    "threads": 1,
}
SPACE = {
    "study": {
        "metric": "score",
        "trials": 20,
        "startup": 6,
        "pruner": "median",
        "pruner_startup": 5,
        "seed": 0,
    },
    "space": {
        "optimizer.lr": {"log": [1e-4, 1e-1]},
        "optimizer.weight_decay": {"log": [1e-6, 1e-1]},
        "sampling.class_share": {"uniform": [0.0, 1.0], "step": 0.25},
        "objective.terms.1.weight": {"uniform": [0.25, 2.0]},
    },
}
AFTERMAP = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from aftermap.cli.app import main
main()
"""


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Run aftermap beside this process."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", AFTERMAP, *words],
            stdout=file,
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": "1", "AFTERMAP_TRACKING": "off"},
        )


def finish(words: list[str], log: Path) -> float:
    """Run aftermap to its end; seconds."""
    began = time.monotonic()
    if start(words, log).wait():
        raise SystemExit(f"{' '.join(words)} failed: see {log}")
    return time.monotonic() - began


def stop(words: list[str], log: Path, trial: Path, step: int, how: signal.Signals) -> None:
    """Run a search and stop it within a trial, once a state of at least this step is saved."""
    process = start(words, log)
    while process.poll() is None:
        try:
            if json.loads((trial / "resume" / "step.json").read_text())["step"] >= step:
                process.send_signal(how)
                break
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    process.wait()


def trials(folder: Path) -> list[dict]:
    """What a search found, without what time it took and where."""
    told = json.loads((folder / "search.json").read_text())["trials"]
    return [{key: row[key] for key in ("number", "state", "value", "values", "at_steps")} for row in told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    log = out / "log.txt"
    finish(["data", "synth", "-o", str(out / "towns"), "--scenes", "12", "--size", "256"], log)
    finish(["data", "split", str(out / "towns"), "--by", "random"], log)
    recipe, space = out / "recipe.yaml", out / "space.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"data": {"manifests": [str(out / "towns")]}}))
    space.write_text(yaml.safe_dump(SPACE))
    begin = ["search", str(recipe), "--space", str(space)]
    broken, whole = out / "broken", out / "whole"
    stop([*begin, "-o", str(broken)], log, broken / "trials/0004", 10, signal.SIGINT)
    stop(["search", "--resume", str(broken)], log, broken / "trials/0011", 10, signal.SIGKILL)
    finish(["search", "--resume", str(broken)], log)
    seconds = finish([*begin, "-o", str(whole)], log)
    finish(["train", str(broken / "best.yaml"), "-o", str(out / "best")], log)
    report = json.loads((broken / "search.json").read_text())
    again = json.loads((out / "best" / "run.json").read_text())["best"]["score"]
    best = report["best"]
    print("| trial | state | score | lr | weight decay | class share | Dice weight |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for row in report["trials"]:
        values = row["values"]
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        shown = f"**{value}**" if row["number"] == best["number"] else value
        print(
            f"| {row['number']} | {row['state']} | {shown} | {values['optimizer.lr']:.1e} | "
            f"{values['optimizer.weight_decay']:.1e} | {values['sampling.class_share']:.2f} | "
            f"{values['objective.terms.1.weight']:.2f} |"
        )
    states = [row["state"] for row in report["trials"]]
    print(f"\n{len(states)} trials, {states.count('pruned')} pruned, {seconds:.0f} s without a pause")
    print(f"the same trials with and without the stops: {trials(broken) == trials(whole)}")
    print(f"best {best['value']:.6f}, trained again {again:.6f}, equal: {best['value'] == again}")
    shares = report["importance"]["share"].items()
    print("importance: " + ", ".join(f"{key} {share:.2f}" for key, share in shares))
    print(f"picture: {broken / 'search.png'}")


if __name__ == "__main__":
    main()
