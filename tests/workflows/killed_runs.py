"""Lets real runs die before each of their file operations, and goes on with them as a user would.

    export PYTHONPATH=tests:src
    python tests/workflows/killed_runs.py map         # of every walk some points, as the tests take them
    AFTERMAP_CRASH_STRIDE=1 python tests/workflows/killed_runs.py plan export adapt

Started by test_killed_runs in processes in which nothing has run: PyTorch refuses to learn in a child of a process that
has learned, so that here every run is in a child. Prints how many points there were and how many were gone on from.
"""

import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_points import crash_points, in_child

os.environ.update(AFTERMAP_TRACKING="off", AFTERMAP_TRUST="all", OMP_NUM_THREADS="1")
EVENT = "squares"


@dataclass(frozen=True)
class Walk:
    """A run that is killed.

    Attributes:
        begin: makes what the run finds.
        run: the run itself.
        go_on: what a user does after a kill.
        outcome: what must be the same as without the kill.
        stride: every so many points of different states are gone on from, where nothing else is asked for.
        load: imports what the run imports, and draws nothing that takes longer than the run.
    """

    begin: Callable[[Path], object]
    run: Callable[[Path], object]
    go_on: Callable[[Path], object]
    outcome: Callable[[Path], object]
    stride: int
    load: Callable[[], object]


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    """Files below a folder by their name there; with names only these, and None for the others."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if not names or p.name in names else b""
        for p in files
    }


# A map of two dates with the exported model in the box


def begin_map(folder: Path) -> None:
    import towns_in_rasters as town

    for name, shift in (("pre.tif", (0, 0)), ("post.tif", (1, 0))):
        town.write_raster(folder / name, size=96, shift=shift)
    town.footprints().to_file(folder / "houses.gpkg")


def run_map(folder: Path, **how: bool) -> None:
    from aftermap import api

    dates = folder / "pre.tif", folder / "post.tif"
    api.map(
        *dates, folder / "out", footprints=folder / "houses.gpkg", window_px=64, halo_px=16, threads=1, **how
    )


def go_on_with_map(folder: Path) -> None:
    """What was begun is resumed or begun again, by turns: both must do."""
    begun, there = (folder / "out.work" / "journal.json").is_file(), (folder / "out").is_dir()
    resume = begun and len(list((folder / "out.work").rglob("*"))) % 2 == 1
    if begun or not there:
        run_map(folder, resume=resume, overwrite=there or (begun and not resume))


def map_made(folder: Path) -> object:
    exact = (
        "damage.tif",
        "probabilities.tif",
        "buildings.csv",
        "buildings.geojson",
        "summary.json",
        "damage.qml",
    )
    assert {p.name for p in folder.iterdir()} - {"out.work"} == {"pre.tif", "post.tif", "houses.gpkg", "out"}
    if (folder / "out.work").exists():  # a kill while the finished work folder is removed
        assert not (folder / "out.work" / "journal.json").exists()
    return contents(folder / "out", *exact)


# A plan: a training, an ensemble of its model, a submission


def begin_plan(folder: Path) -> None:
    import yaml

    from squares import make_dataset

    make_dataset(folder / "data", scenes=4)
    training = {
        "name": "tiny",
        "task": "building",
        "data": {"manifests": ["elsewhere"]},
        "model": {"kind": "custom", "target": "small_networks:Small", "classes": 2},
        "sampling": {"crop_px": 32, "batch_size": 2},
        "steps": 2,
        "evaluate_every": 1,
        "licence": "MIT",
        "seed": 5,
    }
    stages = [
        {"kind": "train", "name": "first", "recipe": "tiny.yaml"},
        {"kind": "train", "name": "second", "recipe": "tiny.yaml", "init_from": "first"},
        {"kind": "submission", "name": "answers", "model": "second", "split": "validation", "tta": "none"},
    ]
    (folder / "tiny.yaml").write_text(yaml.safe_dump(training))
    plan = {"name": "two", "data": {"manifests": [str(folder / "data")]}, "stages": stages}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))


def run_plan(folder: Path) -> None:
    from aftermap.workflows.plans.plan import load_plan, plan_jobs
    from aftermap.workflows.plans.stages import PlanListener, run_jobs

    plan, recipes = load_plan(folder / "plan.yaml", [])
    jobs = plan_jobs(plan, recipes, folder / "runs")
    for _ in run_jobs(plan, jobs, folder / "runs", command="", listener=PlanListener()):
        pass


def plan_made(folder: Path) -> object:
    runs = folder / "runs"
    states = {
        name: json.loads((runs / name / "stage.json").read_text())["status"] for name in plan_jobs_made(runs)
    }
    weights = [(runs / name / "model" / "model.safetensors").read_bytes() for name in ("first-0", "second-0")]
    lines = [
        {key: value for key, value in json.loads(line).items() if key != "minutes"}
        for name in ("first-0", "second-0")
        for line in (runs / name / "metrics.jsonl").read_text().splitlines()
    ]
    left = {p.name for name in ("first-0", "second-0") for p in (runs / name).iterdir()}
    return states, weights, lines, contents(runs / "answers" / "predictions"), left - {"resume", ".lock"}


def plan_jobs_made(runs: Path) -> list[str]:
    return sorted(p.name for p in runs.iterdir() if p.is_dir())


# An export to OpenVINO, over an older one in which the user keeps a file


def begin_export(folder: Path) -> None:
    from aftermap.artefacts.card import Card, TrainingRecord
    from aftermap.artefacts.store import save_model
    from aftermap.models.configs import CustomConfig
    from small_networks import Small

    card = Card(
        name="small",
        model=CustomConfig(target="small_networks:Small", classes=2),
        dates=1,
        scheme="building",
        training=TrainingRecord(data="none", data_licence="none"),
        licence="CC0-1.0",
    )
    save_model(folder / "model", Small(), card)


def run_export(folder: Path, *, overwrite: bool = False) -> None:
    from aftermap.workflows.export import run as export

    made = export.synthetic_tiles(1, size_px=128)
    export.synthetic_tiles = lambda: made
    export.export_model(
        folder / "model", folder / "out", export.ExportOptions(to="openvino"), overwrite=overwrite
    )


def go_on_with_export(folder: Path) -> None:
    run_export(folder, overwrite=(folder / "out").exists())


def export_made(folder: Path) -> object:
    assert {p.name for p in folder.iterdir()} == {"model", "out"}
    return contents(folder / "out", "model.bin")


# An adaptation with labels


def begin_adaptation(folder: Path) -> None:
    from squares import make_dataset

    begin_export(folder)
    make_dataset(folder / "data", scenes=4)


def run_adaptation(folder: Path, *, resume: bool = False) -> None:
    from aftermap.workflows.adaptation.config import wanted_adaptation
    from aftermap.workflows.kinds import interrupted_recipe, train_recipe

    run = folder / "run"
    said: dict[str, Any] = {"event": EVENT, "scenes": 1, "steps": 2, "force": True}
    wanted = (
        interrupted_recipe(run)[1] if resume else wanted_adaptation(folder / "model", folder / "data", **said)
    )
    train_recipe(wanted, run, resume=resume)


def go_on_with_adaptation(folder: Path) -> None:
    file = folder / "run" / "run.json"
    if file.is_file() and json.loads(file.read_text())["status"] == "complete":
        return
    run_adaptation(folder, resume=file.is_file() and (folder / "run" / "recipe.yaml").is_file())


def adaptation_made(folder: Path) -> object:
    run = folder / "run"
    report = json.loads((run / "adaptation.json").read_text())
    left = {p.name for p in run.iterdir()} - {"resume", ".lock"}
    facts = json.loads((run / "run.json").read_text())
    scores = {key: report[key] for key in ("before", "after", "scenes", "evaluated")}
    return facts["status"], (run / "model" / "model.safetensors").read_bytes(), scores, left


# All of them


def load_light() -> None:
    import towns_in_rasters  # noqa: F401


def load_heavy() -> None:
    import torch

    import aftermap.workflows.adaptation.adaptation_kind as adaptation
    import small_networks  # noqa: F401

    torch.set_num_threads(1)
    adaptation.write_comparison = lambda *_, **__: None


def load_export() -> None:
    load_heavy()
    import aftermap.workflows.export.run  # noqa: F401


WALKS = {
    "map": Walk(begin_map, run_map, go_on_with_map, map_made, 12, load_light),
    "plan": Walk(begin_plan, run_plan, run_plan, plan_made, 30, load_heavy),
    "export": Walk(begin_export, run_export, go_on_with_export, export_made, 12, load_export),
    "adapt": Walk(begin_adaptation, run_adaptation, go_on_with_adaptation, adaptation_made, 20, load_heavy),
}


def state_of(folder: Path) -> object:
    return sorted((p.relative_to(folder).as_posix(), p.stat().st_size) for p in folder.rglob("*"))


def differences(made: object, expected: object) -> str:
    """Where two outcomes differ, in short."""
    if isinstance(made, dict) and isinstance(expected, dict):
        keys = [key for key in made.keys() | expected.keys() if made.get(key) != expected.get(key)]
        return ", ".join(f"{key}: {differences(made.get(key), expected.get(key))}" for key in sorted(keys))
    if isinstance(made, tuple) and isinstance(expected, tuple):
        parts = enumerate(zip(made, expected, strict=True))
        return "; ".join(f"{n}: {differences(a, b)}" for n, (a, b) in parts if a != b)
    return f"{made!r:.300} and not {expected!r:.300}"


def walk(name: str, stride: int) -> tuple[int, int, int]:
    """Points, different states among them, and how many of these were gone on from."""
    wanted = WALKS[name]
    wanted.load()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        (scratch / "whole").mkdir()
        (scratch / "walk").mkdir()

        def all_of_it(folder: Path) -> None:
            wanted.begin(folder)
            wanted.run(folder)

        told = in_child(all_of_it, scratch / "whole")
        assert not told, told
        expected = wanted.outcome(scratch / "whole")
        shutil.rmtree(scratch / "whole")
        points = states = walked = 0
        before: object = None

        def begin(folder: Path) -> None:
            assert not (told := in_child(wanted.begin, folder)), told

        for point in crash_points(wanted.run, begin, scratch / "walk"):
            points += 1
            state = state_of(point.folder)
            if state == before:
                continue
            before, states = state, states + 1
            if (states - 1) % stride:
                continue
            where = f"{name}, point {point.number} ({point.operation})"
            told = in_child(wanted.go_on, point.folder)
            assert not told, f"{where}: {told}"
            made = wanted.outcome(point.folder)
            assert made == expected, f"{where}: {differences(made, expected)}"
            walked += 1
    return points, states, walked


def main() -> None:
    os.fsync = lambda _: None  # type: ignore[assignment]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["AFTERMAP_CACHE"] = cache
        for name in sys.argv[1:]:
            stride = int(os.environ.get("AFTERMAP_CRASH_STRIDE", WALKS[name].stride))
            print(name, *walk(name, stride), flush=True)


if __name__ == "__main__":
    sys.exit(main())
