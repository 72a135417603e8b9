"""Processor seconds of preparing, checking, evaluating and scoring a dataset, of two source folders in one run.

    python bench/data_commands.py ../shared/data/xbd-real --base ../older/src --repeats 3
    python bench/data_commands.py ../shared/data/xbd-real --base ../older/src --pairs 40 --json costs.json

Each command runs in a process of its own on one thread, interpreter and imports included; the sources take turns. Both
read the same pairs; each checks and evaluates what it prepared itself, and scores what it predicted itself. The first
round is not counted. A ratio's interval is that of its rounds, lowest to highest. `check` finds nothing in the cache of
what images hold, `check again` what it has left there.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "src"
COMMANDS = ("prepare", "check", "check again", "evaluate", "score")


def cost(source: Path, words: Sequence[str], cache: Path, *, codes: Sequence[int] = (0,)) -> float:
    """Processor seconds of one command."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "OMP_NUM_THREADS": "1",
        "AFTERMAP_CACHE": str(cache),
        "AFTERMAP_TRACKING": "off",
        "PYTHONDONTWRITEBYTECODE": "",  # compiled once, as an installation is
        "PYTHONPYCACHEPREFIX": str(cache / "bytecode"),
    }
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "aftermap.cli.app", *words], stdout=log, stderr=log, env=environment
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in codes:
            log.seek(0)
            raise SystemExit(f"{source}: {' '.join(words)}: {log.read().decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime


def link_pairs(data: Path, folder: Path, count: int) -> None:
    """The first pairs of every event in turn, as links."""
    events = sorted(path for path in data.iterdir() if (path / "images").is_dir())
    by_event = [sorted((event / "images").glob("*_pre_disaster.*")) for event in events]
    order = sorted((number, event) for event, found in enumerate(by_event) for number in range(len(found)))
    for number, event in order[:count]:
        name = by_event[event][number].name.partition("_pre_disaster")[0]
        for kind in ("images", "labels"):
            place = folder / events[event].name / kind
            place.mkdir(parents=True, exist_ok=True)
            for path in (events[event] / kind).glob(f"{name}_p*"):
                (place / path.name).symlink_to(path.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="xBD pairs, a folder per event")
    parser.add_argument("--base", type=Path, required=True, help="the older source folder")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sources = {"before": arguments.base.resolve(), "now": HERE}
    taken: dict[str, dict[str, list[float]]] = {
        name: {side: [] for side in sources} for name in arguments.commands
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        pairs, prepared = folder / "pairs", {side: folder / side for side in sources}
        link_pairs(arguments.data, pairs, arguments.pairs)
        for side, source in sources.items():
            cost(source, ["data", "prepare", "xbd", str(pairs), "-o", str(prepared[side])], cache)
            if "score" in arguments.commands:
                truth, predicted = folder / f"{side}-truth", folder / f"{side}-predicted"
                words = ["predict", "box", str(prepared[side]), "-o", str(predicted), "--targets", str(truth)]
                cost(source, words, cache)
        for turn in range(arguments.repeats + 1):
            for side, source in sources.items():
                runs = {
                    "prepare": ["data", "prepare", "xbd", str(pairs), "-o", str(folder / "again")],
                    "check": ["data", "check", str(prepared[side])],
                    "check again": ["data", "check", str(prepared[side])],
                    "evaluate": ["evaluate", "box", str(prepared[side]), "--split", "all"],
                    "score": ["score", str(folder / f"{side}-predicted"), str(folder / f"{side}-truth")],
                }
                for command in arguments.commands:
                    shutil.rmtree(folder / "again", ignore_errors=True)
                    if command == "check":
                        shutil.rmtree(cache / "images", ignore_errors=True)
                    codes = (0, 1) if command.startswith("check") else (0,)
                    seconds = cost(source, runs[command], cache, codes=codes)
                    print(f"{command}, {side}: {seconds:.2f} s", file=sys.stderr, flush=True)
                    if turn:
                        taken[command][side].append(seconds)
    print("| command | before, CPU s | now | ratio | of its rounds |\n|---|---|---|---|---|")
    for command, sides in taken.items():
        ratios = [now / before for before, now in zip(sides["before"], sides["now"], strict=True)]
        before, now = (statistics.median(sides[side]) for side in ("before", "now"))
        print(
            f"| {command} | {before:.2f} | {now:.2f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(taken, indent=1) + "\n")


if __name__ == "__main__":
    main()
