"""Processor seconds and peak memory of what a user waits for first: imports, a map, a mistake, a list.

    python bench/start_up.py --base ../older/src
    python bench/start_up.py --base ../older/src --repeats 7 --size 1024 --out start_up.json

Two source folders are compared in one run: each task is done by either in turn, in a process of its own, on one
thread, so that whatever else the machine does falls on both. The first round is not counted: it fills the caches of
both, with what was measured or converted as well. Processor seconds (the median) count all threads of a process; peak
memory is the largest. Prints a Markdown table.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "src"

IMPORTS = """
from importlib import import_module
ways = (
    ("aftermap.cli.map", "aftermap.workflows.mapping.damage", "aftermap.inference.backends.openvino"),
    ("aftermap.cli.map", "aftermap.recipes.map", "aftermap.inference.backends.openvino"),
)
for way in ways:
    try:
        for name in way:
            import_module(name)
        break
    except ModuleNotFoundError as missing:
        if not str(missing.name).startswith("aftermap"):
            raise
else:
    raise SystemExit("none of the known ways to a map is there")
"""
COMMAND = "import sys; from aftermap.cli.app import main; main(sys.argv[1:])"


def run(source: Path, code: str, words: list[str], cwd: Path, exit_code: int) -> tuple[float, float]:
    """Processor seconds and peak memory in MB of a process that runs `code` on a source folder.

    This process imports nothing large, as the peak that the system tells of another is at least that of the one that
    started it.
    """
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "OMP_NUM_THREADS": "1",
        "AFTERMAP_TRACKING": "off",
        "PYTHONDONTWRITEBYTECODE": "",  # compiled once, as an installation is
        "PYTHONPYCACHEPREFIX": str(cwd / "bytecode"),
        "AFTERMAP_CACHE": str(cwd / "cache"),
    }
    log = cwd / "log.txt"
    with log.open("wb") as file:
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        command = [sys.executable, "-c", f"import os; os.chdir({str(cwd)!r})\n{code}", *words]
        child = os.posix_spawn(sys.executable, command, environment, file_actions=actions)
        _, status, used = os.wait4(child, 0)
    found = os.waitstatus_to_exitcode(status)
    if found != exit_code:
        raise SystemExit(f"{source}: {words or 'imports'} ended with {found}:\n{log.read_text()[-2000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="the older source folder")
    parser.add_argument("--new", type=Path, default=HERE, help="the newer one; this project's by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="side of the pair that is mapped, in pixels")
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    arguments = parser.parse_args()
    sources = {"before": arguments.base.resolve(), "now": arguments.new.resolve()}
    megapixels = arguments.size**2 / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders = {side: folder / side for side in sources}
        for each in folders.values():
            each.mkdir()
        synth = ["data", "synth", "-o", str(folder / "town"), "--scenes", "1", "--size", str(arguments.size)]
        run(sources["now"], COMMAND, synth, folder, 0)
        pre, post = (
            str(next((folder / "town" / "geotiff").glob(f"*_{date}.tif"))) for date in ("pre", "post")
        )
        tasks: dict[str, tuple[str, list[str], int]] = {
            "imports of a map with the box": (IMPORTS, [], 0),
            f"`aftermap map`, {megapixels:.1f} Mpx": (
                COMMAND,
                ["map", pre, post, "-o", "map", "--overwrite"],
                0,
            ),
            "`aftermap map`, a file is missing": (COMMAND, ["map", "none.tif", post, "-o", "no"], 2),
            "`aftermap models`": (COMMAND, ["models"], 0),
        }
        figures: dict[str, dict[str, list[tuple[float, float]]]] = {
            task: {side: [] for side in sources} for task in tasks
        }
        for turn in range(arguments.repeats + 1):
            for task, (code, words, exit_code) in tasks.items():
                for side in sources:
                    found = run(sources[side], code, words, folders[side], exit_code)
                    if turn:
                        figures[task][side].append(found)
                print(f"round {turn} of {arguments.repeats}: {task}", file=sys.stderr)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")
    print("| | CPU s before | now | times less | peak MB before | now | times less |")
    print("|---|---|---|---|---|---|---|")
    for task, by_side in figures.items():
        seconds = [statistics.median(s for s, _ in by_side[side]) for side in sources]
        peaks = [max(peak for _, peak in by_side[side]) for side in sources]
        cells = [f"{v:.2f}" for v in seconds] + [f"{seconds[0] / seconds[1]:.1f}"]
        cells += [f"{v:,.0f}" for v in peaks] + [f"{peaks[0] / peaks[1]:.1f}"]
        print(f"| {task} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
