"""Tries what a new user may get wrong with every command: files that are missing, empty or of another kind, folders where
files belong and the reverse, odd names, numbers out of range, options that contradict each other, places to write that
take nothing.

    export PYTHONPATH=tests:tests/cli:src
    python tests/cli/wrong_input.py                  # every try; what failed is printed, and a count by command
    python tests/cli/wrong_input.py --every 20       # every 20th, as the tests do

A try is a command in a forked child. It is right where it ends with exit code 2 and one line that begins with
`aftermap: `, or with 0 where the generator knows that what was given can be done; where the mistake is in the arguments,
PyTorch must not have been imported for it. Nothing but what the user had may lie in the folder afterwards.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from light_process import Ended, LightProcess, light_process

HEAVY = {"torch", "timm", "segmentation_models_pytorch", "kornia", "matplotlib", "mlflow", "nncf"}
LONGEST = 600


@dataclass(frozen=True)
class Try:
    """A command with one thing wrong.

    Attributes:
        command: its name.
        what: the thing.
        words: all of the command line after `aftermap`.
        may_work: it can also be done; nobody says that it is wrong.
        may_load: what is wrong is within a file that only the work itself reads, so that heavy imports may come first.
    """

    command: str
    what: str
    words: tuple[str, ...]
    may_work: bool = False
    may_load: bool = False


GOOD = {
    "image": "pre.tif",
    "vectors": "houses.geojson",
    "dataset": "data",
    "model": "box",
    "masks": "data/masks",
    "maps": "maps",
    "recipe": "recipe.yaml",
    "plan": "plan.yaml",
    "space": "space.yaml",
    "table": "events.csv",
    "tiles": "tiles",
    "source": "xbd",
    "run": "run",
    "out": "out",
}
"""What each kind of argument looks like where it is right."""

# every path of a command, by its kind; {out} is a new place
COMMANDS: dict[str, str] = {
    "map": "{image} {image:2} -o {out} --footprints {vectors} --aoi {vectors:2} --cloud-mask {image:3} -m {model}",
    "demo": "-o {out} --model {model}",
    "train": "{recipe} -o {out}",
    "train --resume": "{run}",
    "run": "{plan} -o {out}",
    "search": "{recipe} --space {space} --trials 1 -o {out}",
    "search --resume": "{run}",
    "incremental-report": "{run} -o {out}",
    "meta-train": "{recipe} -o {out}",
    "adapt": "{model} {dataset} --event wind -o {out}",
    "predict": "{model} {dataset} -o {out} --targets {out:2}",
    "evaluate": "{model} {dataset}",
    "tune-thresholds": "{model} {dataset} -o {out}",
    "ensemble": "{model} {model:2} -o {out}",
    "combine": "{maps} {maps:2} -o {out}",
    "score": "{masks} {masks:2} --events {table} -o {out}",
    "export": "{model} --to openvino --calibrate {dataset} --tiles {dataset:2} -o {out}",
    "bench": "{model} --data {dataset} -o {out}",
    "weights import": "{file} --as xview2-resnet34-localization -o {out}",
    "data check": "{dataset}",
    "data split": "{dataset} --out {out}",
    "data steps": "{dataset} --task 6s",
    "data synth": "-o {out} --scenes 1 --size 32 --backdrop {tiles} --footprints {vectors}",
    "data from-footprints": "{image} {vectors} -o {out}",
    "data prepare xbd": "{source} -o {out} --geotransforms {table}",
    "data prepare folder": "{source} -o {out} --footprints {vectors}",
    "data prepare opencities": "{source} -o {out}",
    "data prepare spacenet": "{source} -o {out}",
    "data prepare isprs": "{source} -o {out}",
    "data prepare isaid": "{source} -o {out}",
    "data prepare agrivision": "{source} -o {out}",
}

NOT_THERE = {
    "missing": "nowhere",
    "not ASCII": "наводнение-洪水-🌊",
    "long": "x" * 300,
    "long path": "/".join(["x" * 200] * 30),
    "below a file": "readme.txt/inside",
    "no name": "",
    "line break": "a\nb",
}
OTHER = {
    "empty file": "empty",
    "text": "readme.txt",
    "noise": "noise",
    "empty folder": "emptiness",
    "folder of other things": "things",
    "device": "/dev/null",
}
NOT_RECIPES = {
    "null": "null.yaml",
    "list": "list.yaml",
    "deep": "deep.yaml",
    "aliases": "aliases.yaml",
    "picture": "data/picture.png",
    "keys of null": "nulls.yaml",
    "another kind": "../recipes/plan.yaml",
}
WRONG: dict[str, dict[str, str]] = {
    "image": {**NOT_THERE, **OTHER, "vectors": "houses.geojson", "cut": "cut.tif"},
    "vectors": {
        **NOT_THERE,
        **OTHER,
        "image": "pre.tif",
        "null": "null.json",
        "deep": "deep.json",
        "layer": "houses.geojson:roofs",
    },
    "dataset": {
        **NOT_THERE,
        **OTHER,
        "image": "pre.tif",
        "null": "manifest-null",
        "deep": "manifest-deep",
        "list": "manifest-list",
    },
    "model": {
        **NOT_THERE,
        **OTHER,
        "null": "card-null",
        "deep": "card-deep",
        "dataset": "data",
        "hub": "hf://nobody/nothing:x y",
    },
    "masks": {**NOT_THERE, **OTHER, "images": "tiles"},
    "maps": {**NOT_THERE, **OTHER, "dataset": "data"},
    "recipe": {**NOT_THERE, **OTHER, **NOT_RECIPES},
    "plan": {**NOT_THERE, **OTHER, **NOT_RECIPES},
    "space": {**NOT_THERE, **OTHER, **NOT_RECIPES},
    "table": {**NOT_THERE, **OTHER, "null": "null.json", "deep": "deep.json"},
    "tiles": {**NOT_THERE, **OTHER},
    "source": {**NOT_THERE, **OTHER},
    "run": {**NOT_THERE, **OTHER, "model": "card-null"},
    "file": {**NOT_THERE, **OTHER},
    "out": {
        "a file": "readme.txt",
        "below a file": "readme.txt/inside",
        "folder of other things": "things",
        "long": "x" * 300,
        "nowhere to write": "/proc/aftermap/out",
        "read only": "sealed/out",
        "no name": "",
        "line break": "a\nb\x1b[31m",
    },
}
DONE_ALL_THE_SAME = {("out", "line break"), ("out", "no name"), ("out", "folder of other things")}
"""Odd places that a command may well write to, which then does all of its work; tried where that is quick."""

QUICK = ("combine", "score", "data split")
"""Commands that may do what can be done."""

MAY_WORK = DONE_ALL_THE_SAME | {("dataset", "list"), ("masks", "images")}

NINES = "9" * 25
NUMBERS = ("-1", "0", "nan", "inf", "1e400", NINES, "many", "", "1,2,x", "1;2")
OPTIONS: dict[str, str] = {
    "map": "bands stretch crs resolution nodata min-area pre-date post-date window threads scales device",
    "predict": "threads scales device precision split",
    "evaluate": "threshold bootstrap boundary-m event split",
    "score": "bootstrap seed iou",
    "train": "step",
    "search": "trials workers range-steps lr-min lr-max",
    "adapt": "scenes steps lr evaluated seed device",
    "tune-thresholds": "split by what",
    "ensemble": "weights class-thresholds gate-threshold gate-pixels gate-loss",
    "combine": "threshold",
    "export": "windows scenes budget",
    "bench": "size batch threads seconds backend device",
    "data split": "fractions seed group-zoom folds fold hold-out",
    "data synth": "scenes size seed kind workers",
    "data steps": "task seed rows",
    "data check": "workers",
    "data from-footprints": "size overlap padding jitter margin max-tiles max-empty-ratio min-valid min-building bands "
    "stretch resolutions jpeg-quality nodata",
    "data prepare xbd": "workers",
    "data prepare folder": "group-zoom tile-px overlap-px stretch first-value bands event-pattern",
    "data prepare opencities": "size tier area max-tiles max-empty-ratio seed resolutions stretch bands jpeg-quality",
    "data prepare isprs": "tile-px overlap-px",
}
MEANT = {
    ("map", "threads", "0"), ("map", "nodata", "-1"), ("map", "nodata", "0"), ("map", "nodata", "nan"),
    ("map", "min-area", "0"), ("predict", "threads", "0"), ("evaluate", "bootstrap", "0"), ("score", "bootstrap", "0"),
    ("score", "seed", "0"), ("score", "seed", NINES), ("data split", "seed", "0"), ("data split", "group-zoom", "0"),
    ("data synth", "seed", "0"),
    ("map", "min-area", NINES), ("evaluate", "threshold", "0"), ("data from-footprints", "size", NINES),
    ("data from-footprints", "max-empty-ratio", "inf"), ("data from-footprints", "max-empty-ratio", "1e400"),
}  # fmt: skip

CONTRADICTIONS: tuple[tuple[str, str], ...] = (
    ("map", "pre.tif -o out"),
    ("map", "pre.tif pre.tif --task buildings -o out"),
    ("map", "pre.tif --task buildings --align off -o out"),
    ("map", "pre.tif --task classes -o out"),
    ("map", "pre.tif pre.tif pre.tif -o out"),
    ("map", "pre.tif pre.tif"),
    ("map", "-o out"),
    ("map", "pre.tif pre.tif -o out --resume"),
    ("map", "pre.tif pre.tif -o out --resolution 5000"),
    ("map", "pre.tif pre.tif -o out --bands 4,5,6"),
    ("map", "pre.tif pre.tif -o out --averaging logits --compat-uint8"),
    ("map", "pre.tif pre.tif -o pre.tif"),
    ("train", ""),
    ("train", "recipe.yaml --resume run"),
    ("train", "recipe.yaml steps"),
    ("train", "recipe.yaml steps=many -o out"),
    ("train", "recipe.yaml steps=-5 -o out"),
    ("train", "recipe.yaml stepz=5 -o out"),
    ("train", "recipe.yaml a.b.c.d=1 -o out"),
    ("train", "recipe.yaml --step 1 -o out"),
    ("train", "recipe.yaml =5 -o out"),
    ("train", "recipe.yaml 'model={kind: nothing}' -o out"),
    ("train", "recipe.yaml model=null -o out"),
    ("train", "recipe.yaml data=null -o out"),
    ("train", "recipe.yaml data.manifests=[nowhere] -o out"),
    ("train", "recipe.yaml data.manifests=null -o out"),
    ("train", "recipe.yaml precision=f99 -o out"),
    ("run", ""),
    ("run", "plan.yaml --only nothing"),
    ("run", "plan.yaml --redo nothing"),
    ("search", ""),
    ("search", "recipe.yaml --resume run"),
    ("search", "recipe.yaml --trials 1 -o out"),
    ("search", "recipe.yaml --range-test --lr-min 1 --lr-max 0.1 -o out"),
    ("adapt", "box data -o out"),
    ("adapt", "box data --event nowhere -o out"),
    ("adapt", "box data --event wind --no-labels --scenes 3 -o out"),
    ("adapt", "box data --event synthetic-wind --scene nowhere -o out"),
    ("evaluate", "box"),
    ("evaluate", "box data --event nowhere"),
    ("evaluate", "box data --split never"),
    ("predict", "box data"),
    ("predict", "box data -o data/masks/wind.png"),
    ("score", "data/masks"),
    ("score", "data/masks data/masks -o out --iou 1"),
    ("score", "nowhere nowhere2 -o out"),
    ("ensemble", "-o out"),
    ("ensemble", "box box -o out --weights 1,2,3"),
    ("ensemble", "box box -o out --roles damage"),
    ("ensemble", "box box -o out --gate nowhere"),
    ("combine", "-o out"),
    ("combine", "maps -o maps"),
    ("combine", "maps maps -o out --pattern nothing*"),
    ("export", "box -o out"),
    ("export", "box --to tflite -o out"),
    ("export", "box --to onnx --precision int8 --budget speed=1 -o out"),
    ("bench", ""),
    ("bench", "box --precision f64"),
    ("bench", "reference:nothing"),
    ("tune-thresholds", "box data --split test --by best"),
    ("data split", "data --folds 5"),
    ("data split", "data --fold 1"),
    ("data split", "data --folds 5 --fold 9"),
    ("data split", "data --folds 5 --fold 1 --by event"),
    ("data split", "data --fractions 0.5,0.1,0.1"),
    ("data split", "data --hold-out nowhere"),
    ("data split", "data --by group --group-zoom 99"),
    ("data synth", ""),
    ("data synth", "-o out --kind volcano"),
    ("data synth", "-o out --footprints houses.geojson"),
    ("data synth", "-o out --backdrop emptiness"),
    ("data steps", "data"),
    ("data from-footprints", "pre.tif houses.geojson"),
    ("data from-footprints", "pre.tif houses.geojson -o out --by empty --padding 5"),
    ("data prepare folder", "xbd -o out --legend nothing"),
    ("data prepare folder", "xbd -o out --legend isprs --group-zoom 5"),
    ("data prepare folder", "xbd -o out --labels damage --stretch 2,98"),
    ("data prepare", "nothing"),
    ("data", "nothing"),
    ("", "nothing"),
    ("", "maps pre.tif post.tif"),
    ("", "--nothing"),
    ("runs", "nothing"),
    ("runs compare", ""),
    ("runs export", "nothing -o out"),
    ("weights import", "-o out"),
    ("weights import", "noise --as nothing -o out"),
    ("weights import", "noise --all things -o out"),
    ("weights pull", "nothing -o out"),
)


FURTHER_IN = {
    ("bench", "reference:nothing"), ("weights import", "noise --as nothing -o out"),
    ("adapt", "box data --event synthetic-wind --scene nowhere -o out"),
}  # fmt: skip
"""Mistakes that only networks, or the scenes of an event, can tell."""


def tries() -> Iterator[Try]:
    """All of them: one argument wrong at a time, one option wrong at a time, and what contradicts itself."""
    for command, text in COMMANDS.items():
        words = text.split()
        for number, word in enumerate(words):
            if not word.startswith("{"):
                continue
            kind = word.strip("{}").partition(":")[0]
            for what, wrong in WRONG[kind].items():
                if (kind, what) in DONE_ALL_THE_SAME and command not in QUICK:
                    continue
                given = tuple(wrong if n == number else _good(w) for n, w in enumerate(words))
                yield Try(
                    command,
                    f"{word.strip('{}')}: {what}",
                    (*command.split(), *given),
                    may_work=(kind, what) in MAY_WORK,
                )
    for command, names in OPTIONS.items():
        good = tuple(_good(word) for word in _plain(COMMANDS[command]))
        for number, name in enumerate(names.split()):
            for value in NUMBERS[number % 2 :: 2] if number else NUMBERS:
                yield Try(
                    command,
                    f"--{name} {value}",
                    (*command.split(), *good, f"--{name}={value}"),
                    may_work=(command, name, value) in MEANT,
                )
    for command, text in CONTRADICTIONS:
        may_load = (command, text) in FURTHER_IN
        yield Try(command, text or "nothing", (*command.split(), *shlex.split(text)), may_load=may_load)


def _plain(text: str) -> list[str]:
    """A command's words without its optional paths, which take time where they are right."""
    words, kept = text.split(), []
    for before, word in zip(["", *words], words, strict=False):
        is_path_of_option = word.startswith("{") and before.startswith("-") and before != "-o"
        is_such_an_option = word.startswith("--") and word not in ("--event", "--to", "--task")
        if not (is_path_of_option or is_such_an_option or word == "-m"):
            kept.append(word)
    return [word for word in kept if word not in ("32", "1")]


def _good(word: str) -> str:
    if not word.startswith("{"):
        return word
    name = word.strip("{}")
    kind, _, number = name.partition(":")
    return GOOD.get(kind, "noise") + (number if kind == "out" else "")


def make_surroundings(folder: Path) -> None:
    """What a user may have: data that is right, and files of every other kind."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    import aftermap

    aftermap.synth(folder / "xbd", scenes=4, size_px=64, seed=3, kinds=["wind"])
    shutil.copytree(folder / "xbd", folder / "data")
    aftermap.split(folder / "data", by="random", fractions=(0.5, 0.25, 0.25))
    pixels = np.random.default_rng(1).integers(1, 255, (3, 64, 64), np.uint8)
    place = {"crs": "EPSG:32615", "transform": from_origin(370000, 4100000, 0.5, 0.5)}
    with rasterio.open(
        folder / "pre.tif", "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", **place
    ) as file:
        file.write(pixels)
    (folder / "cut.tif").write_bytes((folder / "pre.tif").read_bytes()[:4000])
    house = [[[370005, 4099995], [370015, 4099995], [370015, 4099985], [370005, 4099985], [370005, 4099995]]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32615"}}
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": house}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": [shape]})
    (folder / "houses.geojson").write_text(text)
    for name in ("maps", "tiles", "emptiness", "things", "run"):
        (folder / name).mkdir()
    (folder / "things" / "holiday.txt").write_text("sun")
    with rasterio.open(
        folder / "maps" / "a.tif", "w", driver="GTiff", width=64, height=64, count=1, dtype="float32", **place
    ) as file:
        file.write(pixels[:1] / np.float32(255))
    shutil.copy(folder / "pre.tif", folder / "tiles" / "a.tif")
    (folder / "events.csv").write_text("scene,event\n")
    (folder / "empty").touch()
    (folder / "readme.txt").write_text("Read me: nothing here is data.\n")
    (folder / "noise").write_bytes(np.random.default_rng(2).bytes(3000))
    (folder / "data" / "picture.png").write_bytes(next((folder / "data").rglob("*.png")).read_bytes())
    deep = "[" * 20_000 + "]" * 20_000
    aliases = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    nulls = "name: null\ntask: null\ndata: null\nmodel: null\nstages: null\nsteps: null\nkeys: null\n"
    for name, said in {
        "null.json": "null", "deep.json": deep, "null.yaml": "null", "list.yaml": "- 1\n- 2\n", "deep.yaml": deep,
        "aliases.yaml": aliases, "nulls.yaml": nulls,
        "recipe.yaml": "name: r\ntask: building\ndata: {manifests: [data]}\n"
        "model: {kind: unet, encoder_name: resnet10t}\nsteps: 1\n",
        "plan.yaml": "name: p\ndata: {manifests: [data]}\nstages: [{kind: train, name: a, recipe: recipe.yaml}]\n",
        "space.yaml": "study: {metric: score, trials: 1}\nspace: {optimizer.lr: {log: [1e-4, 1e-2]}}\n",
    }.items():  # fmt: skip
        (folder / name).write_text(said)
    for name, said in {
        "manifest-null/manifest.json": "null", "manifest-deep/manifest.json": deep, "manifest-list/manifest.json": "[]",
        "card-null/card.json": "null", "card-deep/card.json": deep,
    }.items():  # fmt: skip
        (folder / name).parent.mkdir()
        (folder / name).write_text(said)
    (folder / "sealed").mkdir()


def listing(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def run(process: LightProcess, words: tuple[str, ...], folder: Path) -> tuple[Ended, list[str]]:
    """A command within a folder, and what it has left there, which is gone afterwards."""
    before = listing(folder)
    ended = process.command(*words, cwd=folder)
    left = sorted(listing(folder) - before, reverse=True)
    for path in (folder / name for name in left):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return ended, left


def fault(a_try: Try, ended: Ended, left: list[str]) -> str | None:
    """What is wrong with how a try ended."""
    lines = [line for line in ended.err.splitlines() if line.strip() and not line.startswith("warning: ")]
    if "Traceback" in ended.err:
        return "traceback"
    if ended.code == 0:
        return None if a_try.may_work else "done"
    if ended.code != 2:
        return f"exit code {ended.code}"
    if len(lines) != 1 or not lines[0].startswith("aftermap: "):
        return f"{len(lines)} lines"
    if len(lines[0]) > LONGEST or not lines[0].isprintable():
        return "no readable line"
    if ended.modules & HEAVY and not a_try.may_load:
        return f"imported {', '.join(sorted(ended.modules & HEAVY))} first"
    return f"left {', '.join(left[:3])}" if left else None


def all_of(chosen: list[Try]) -> Iterator[tuple[Try, Ended, str | None]]:
    """Run tries in a folder of their own, and say what was wrong with each."""
    process = light_process()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "user"
        folder.mkdir()
        make_surroundings(folder)
        with sealed(folder / "sealed") as is_sealed:
            for a_try in chosen:
                if is_sealed or "sealed/out" not in a_try.words:
                    ended, left = run(process, a_try.words, folder)
                    yield a_try, ended, fault(a_try, ended, left)


@contextmanager
def sealed(folder: Path) -> Iterator[bool]:
    """A folder of a file system that takes nothing, where this process may mount one."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=4k", "none", folder], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    chosen = [t for t in tries() if given.only in " ".join((t.command, t.what))][:: given.every]
    counts, faults = Counter[str](), Counter[str]()
    started = time.monotonic()
    for a_try, ended, found in all_of(chosen):
        counts[a_try.command] += 1
        faults[a_try.command] += found is not None
        if found or given.show:
            told = (a_try.command, a_try.what[:80], found, f"{ended.seconds:.2f} s", ended.err[-700:])
            print(" | ".join(repr(each) for each in told), flush=True)
    for command, count in counts.items():
        print(f"{command or 'aftermap'}: {count} tries, {faults[command]} failed")
    print(f"{counts.total()} tries, {faults.total()} failed, {time.monotonic() - started:.0f} s")
    return int(faults.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
