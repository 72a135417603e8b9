"""Commands that are ended by a signal at one of the files that they open, and gone on with as a user would.

    export PYTHONPATH=tests:tests/cli:src
    python tests/cli/ended_commands.py                       # those that need no PyTorch, at six files each
    python tests/cli/ended_commands.py --heavy --points 4    # those that do, at four

SIGTERM, SIGINT and SIGHUP take turns. Right is the status of the signal, a line of ours on standard error, and after
going on the files that the command makes undisturbed: rasters, masks and weights byte by byte.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wrong_input import make_surroundings

from light_process import Ended, LightProcess

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EXACT = {".tif", ".png", ".safetensors", ".bin"}
HEAVY = (
    "torch", "matplotlib.pyplot", "aftermap.workflows.training.run", "aftermap.workflows.plans.stages",
    "aftermap.workflows.export.run", "aftermap.workflows.adaptation.run",
    "aftermap.workflows.search.run",
)  # fmt: skip
TINY = (
    "{name: tiny, task: building, data: {manifests: [data]}, sampling: {crop_px: 32, batch_size: 2}, steps: 2, "
    "evaluate_every: 1, precision: 'no', model: {kind: unet, encoder_name: resnet10t, encoder_depth: 3, "
    "encoder_options: {channels: [8, 16, 16, 16], stem_width: 8}, "
    "decoder_channels: [8, 8, 8]}}"
)
PLAN = "{name: two, data: {manifests: [data]}, stages: [{kind: train, name: first, recipe: tiny.yaml}]}"


@dataclass(frozen=True)
class Command:
    """A command and how a user goes on with it.

    Attributes:
        words: the command.
        again: what is done instead where `begun` is there.
        begun: a file that says that something was begun.
    """

    words: str
    again: str = ""
    begun: str = "nothing"


MAP = "map pre.tif post.tif -o out --window 64"
LIGHT_COMMANDS = {
    "map": Command(MAP, f"{MAP} --resume", "out.work/journal.json"),
    "predict": Command("predict box data -o out --targets truth"),
    "evaluate": Command("evaluate box data --split all"),
    "score": Command("score data/masks data/masks -o out"),
    "combine": Command("combine maps maps -o out"),
    "data prepare": Command("data prepare xbd xbd -o out"),
    "data synth": Command("data synth -o out --scenes 2 --size 64"),
    "data check": Command("data check data"),
}
HEAVY_COMMANDS = {
    "train": Command("train tiny.yaml -o out", "train --resume out", "out/recipe.yaml"),
    "run": Command("run two.yaml -o out"),
    "adapt": Command(
        "adapt box data --event synthetic-wind --scenes 1 --steps 2 --force -o out",
        "train --resume out",
        "out/recipe.yaml",
    ),
    "export": Command("export box --to openvino -o out --scenes 1"),
    "search": Command("search tiny.yaml --space space.yaml --trials 1 -o out", "search --resume out", "out"),
}


def surroundings(folder: Path) -> None:
    """What the commands work on."""
    folder.mkdir()
    make_surroundings(folder)
    shutil.copy(folder / "pre.tif", folder / "post.tif")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "two.yaml").write_text(PLAN)


def made(folder: Path) -> dict[str, bytes]:
    """What a command has made: names of files, and the bytes of those that are the same each time."""
    files = [path for name in ("out", "truth") for path in (folder / name).rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.suffix in EXACT else b""
        for path in files
        if path.name not in (".lock", "overview.png") and "resume" not in path.parts
    }


def clear(folder: Path) -> None:
    """Remove what a command has made."""
    for path in (*folder.glob("out*"), *folder.glob(".*"), folder / "truth"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def walk(
    process: LightProcess, command: Command, folder: Path, *, points: int
) -> Iterator[tuple[int, Ended, str | None]]:
    """End a command at some of the files that it opens; yields the file's number, how it ended, and what was wrong."""
    clear(folder)
    whole = process.command(*command.words.split(), cwd=folder, signal_at=(10**9, 0))
    assert whole.code == 0, whole.err
    wanted, files = made(folder), whole.opened
    step = max(1, files // points)
    for turn, number in enumerate(range(1 + step // 2, files + 1, step)):
        clear(folder)
        by = SIGNALS[turn % len(SIGNALS)]
        ended = process.command(*command.words.split(), cwd=folder, signal_at=(number, by))
        yield number, ended, _fault(process, command, folder, by, ended, wanted)


def _fault(
    process: LightProcess,
    command: Command,
    folder: Path,
    by: signal.Signals,
    ended: Ended,
    wanted: dict[str, bytes],
) -> str | None:
    lines = [
        line for line in ended.err.splitlines() if line and not line.startswith(("warning: ", "backend "))
    ]
    if ended.code != 128 + by:
        return f"exit code {ended.code}"
    if "Traceback" in ended.err or not lines or not lines[-1].startswith("aftermap: "):
        return "no line of ours"
    if made(folder) == wanted:  # it was done but for its last words
        return None
    begun = command.again and (folder / command.begun).exists()
    words = (command.again if begun else command.words).split()
    again = process.command(*words, cwd=folder)
    if again.code != 0:
        return f"does not go on: {again.code} {again.err[-300:]}"
    now = made(folder)
    other = sorted(name for name in wanted.keys() | now.keys() if wanted.get(name) != now.get(name))
    return f"made something else: {', '.join(other)}" if other else None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heavy", action="store_true")
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    commands = HEAVY_COMMANDS if given.heavy else LIGHT_COMMANDS
    process = LightProcess(*(HEAVY if given.heavy else ()))
    faults = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "user"
        surroundings(folder)
        for name, command in commands.items():
            if given.only not in name:
                continue
            count = 0
            for number, ended, found in walk(process, command, folder, points=given.points):
                count += 1
                if found:
                    faults += 1
                    print(f"{name}, file {number}: {found} | {ended.err[-400:]!r}", flush=True)
            print(f"{name}: {count} signals", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
