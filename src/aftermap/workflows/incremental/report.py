"""What came of incremental runs: `incremental.json`, `incremental.md` and pictures of one, a comparison of several."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from aftermap.classes import IGNORE, ClassScheme
from aftermap.config import load_yaml
from aftermap.data.incremental.protocol import Protocol
from aftermap.data.legends import Legend
from aftermap.errors import InputError
from aftermap.files import make_folder, markdown_table, write_json, write_text
from aftermap.products.figures.class_figure import Place, draw_confusion, draw_strips
from aftermap.products.figures.incremental_figure import draw_classes, draw_curves
from aftermap.scoring.class_scores import ClassScores, Confusion
from aftermap.scoring.continual import ContinualScores
from aftermap.scoring.continual_tables import (
    class_order,
    class_table,
    compare,
    comparison_table,
    step_table,
)
from aftermap.scoring.counts import plain
from aftermap.wording import counted
from aftermap.workflows.incremental.scores import SCORES_NAME, STRIPS, read_scores

REPORT_NAME = "incremental.json"
COMPARISON_NAME = "comparison.json"
METHODS = {
    "fine-tuning": "fine-tuning",
    "unbiased-fine-tuning": "unbiased fine-tuning",
    "lwf": "LwF",
    "lwf-mc": "LwF-MC",
    "ilt": "ILT",
    "ewc": "EWC",
    "pi": "PI",
    "rw": "RW",
    "mib": "MiB",
    "mib-cd": "MiB-CD",
    "plop": "PLOP",
}
"""Methods as they are called in tables and pictures, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run as its folder tells it.

    Attributes:
        folder: of the run.
        facts: `run.json`.
        protocol: `protocol.json`, its legend among it.
        first: the first step that was scored; later than 0 where the run began from a model of that step.
        steps: `scores.json` of each step from there on.
        scores: what came of them; all classes of the first step scored count as those of one step.
    """

    folder: Path
    facts: dict[str, Any]
    protocol: dict[str, Any]
    first: int
    steps: tuple[dict[str, Any], ...]
    scores: ContinualScores

    @property
    def method(self) -> str:
        """Its name in tables."""
        return "joint training" if self.facts["joint"] else METHODS[self.facts["method"]]

    @property
    def scheme(self) -> ClassScheme:
        """All classes of the task, in order of channel."""
        protocol = Protocol.model_validate(
            {key: self.protocol[key] for key in Protocol.model_fields if key in self.protocol}
        )
        legend = Legend.model_validate(self.protocol["legend"])
        return protocol.legend(len(protocol.steps) - 1, legend).scheme

    @property
    def name(self) -> str:
        """That of its recipe."""
        return str(load_yaml((self.folder / "recipe.yaml").read_text())["name"])


def read_run(folder: Path) -> ScoredRun:
    """Read a run that has scored at least one step.

    Raises:
        InputError: it is no incremental run, or has scored none.
    """
    try:
        facts = json.loads((folder / "run.json").read_text())
        protocol = json.loads((folder / "protocol.json").read_text())
    except (OSError, ValueError):
        raise InputError(
            f"{folder} is no folder of an incremental run: it has no run.json and protocol.json"
        ) from None
    found = [n for n in range(len(protocol["steps"])) if (folder / "steps" / str(n) / SCORES_NAME).is_file()]
    if not found:
        raise InputError(f"{folder} has not scored a step yet: let it run, or go on with --resume")
    first = found[0]
    steps = tuple(read_scores(folder / "steps" / str(n)) for n in found)
    heads = steps[-1]["heads"]
    scores = ContinualScores.of(
        [Confusion.of(step["confusion"]) for step in steps],
        names=steps[-1]["names"],
        heads=[sum(heads[: first + 1]), *heads[first + 1 :]],
    )
    return ScoredRun(folder, facts, protocol, first, steps, scores)


def report_run(folder: Path, *, pictures: bool = True) -> dict[str, Any]:
    """Write the report of a run as far as it has come, and return the content of `incremental.json`."""
    run = read_run(folder)
    tree: dict[str, Any] = {
        "task": run.facts["task"],
        "method": run.facts["method"],
        "joint": run.facts["joint"],
        "seed": run.facts["seed"],
        "protocol_sha256": run.facts["protocol_sha256"],
        "first_step": run.first,
        "models": [step["sha256"] for step in run.steps],
        "test_tiles": run.steps[-1]["tiles"],
        **run.scores.as_dict(),
        "published_steps": _published(run),
    }
    if run.protocol.get("places"):
        tree["by_place"] = _by_place(run)
    write_text(folder / "incremental.md", _markdown(run))
    if pictures:
        _draw(run)
    write_json(folder / REPORT_NAME, tree)
    return tree


def _draw(run: ScoredRun) -> None:
    """`curves.png`, `classes.png`, `confusion.png` and `strips.png` of a run."""
    folder = run.folder
    title = f"task {run.facts['task']}: {run.method}"
    if len(run.steps) > 1:
        draw_curves(folder / "curves.png", {run.method: [run.scores]}, title=title)
        draw_classes(folder / "classes.png", {run.method: [run.scores]}, title=title)
    after = f"after step {run.steps[-1]['step']}"
    draw_confusion(folder / "confusion.png", run.scores.final.scores, title=f"{title}, {after}")
    places = _places(run, {f"after step {step['step']}": (run, step["step"]) for step in run.steps})
    if places:
        draw_strips(folder / "strips.png", places, scheme=run.scheme, title=title)


def compare_runs(
    folders: Sequence[Path], out: Path, *, by: Literal["method", "name"] = "method"
) -> dict[str, Any]:
    """Put runs of one task side by side: methods, seeds, and joint training as a bound.

    Written are `comparison.json`, `comparison.md`, `curves.png`, `classes.png` and `strips.png`.

    Args:
        folders: run folders.
        out: a folder.
        by: what makes runs one row, with their seeds as its spread: the method, or the recipe's name.

    Returns:
        The content of `comparison.json`.

    Raises:
        InputError: a folder is no run, or the runs are not of one task and complete.
        OutputError: a file cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    joint = [run for run in runs if run.facts["joint"]]
    others = [run for run in runs if not run.facts["joint"]]
    _check_comparable(others, joint)
    rows: dict[str, list[ScoredRun]] = {}
    known = list(METHODS.values())
    for run in sorted(others, key=lambda run: (known.index(run.method), run.facts["seed"])):
        row = run.method if by == "method" else run.name
        for other in rows.setdefault(row, []):
            if other.facts["seed"] == run.facts["seed"]:
                hint = "say --by name" if by == "method" else "give one of them, or other names"
                raise InputError(
                    f"{other.folder} and {run.folder} are both {row} with seed {run.facts['seed']}: {hint}"
                )
        rows[row].append(run)
    scores = {name: [run.scores for run in seeds] for name, seeds in rows.items()}
    bound = [run.scores for run in joint]
    try:
        comparison = compare(scores, joint=bound)
    except ValueError as error:
        raise InputError(str(error)) from None
    task = others[0].facts["task"]
    heading = f"task {task} by {counted(len(rows), 'method')}"
    tree = {
        "task": task,
        "runs": [
            {"folder": str(run.folder), "row": name, "seed": run.facts["seed"]}
            for name, seeds in [*rows.items(), ("joint training", joint)]
            for run in seeds
        ],
        "rows": comparison.as_dict(),
    }
    make_folder(out)
    write_text(out / "comparison.md", f"# {heading.capitalize()}\n\n{comparison_table(comparison)}")
    if len(others[0].scores.heads) > 1:
        draw_curves(out / "curves.png", scores, title=heading, joint=bound)
        draw_classes(out / "classes.png", scores, title=heading, joint=bound)
    shown = {name: seeds[0] for name, seeds in rows.items()}
    shown |= {"joint training": joint[0]} if joint else {}
    maps = {name: (run, run.steps[-1]["step"]) for name, run in shown.items()}
    places = _places(others[0], maps)
    if places:
        draw_strips(
            out / "strips.png", places, scheme=others[0].scheme, title=f"{heading}, after the last step"
        )
    write_json(out / COMPARISON_NAME, tree)
    return tree


def _check_comparable(others: Sequence[ScoredRun], joint: Sequence[ScoredRun]) -> None:
    """Refuse runs on different tiles or of different tasks."""
    if not others:
        raise InputError("there is no run to compare: give at least one that learned step by step")
    first = others[0]
    for run in [*others, *joint]:
        if run.facts["data_checksum"] != first.facts["data_checksum"]:
            raise InputError(
                f"{run.folder} was trained or tested on other tiles than {first.folder}: compare runs on the same data"
            )
        places = first.protocol.get("places")
        if not run.facts["joint"] and run.protocol.get("places") != places:
            raise InputError(
                f"{run.folder} has learned other places than {first.folder}, or in another order: compare "
                "runs of one task"
            )
        if run.first:
            raise InputError(
                f"{run.folder} began after step {run.first}: compare runs from the first step on"
            )
        learned, expected = class_order(run.scores), class_order(first.scores)
        if not run.facts["joint"] and learned != expected:
            raise InputError(
                f"{run.folder} has learned {learned}, {first.folder} {expected}: compare runs of one task"
            )


def _places(base: ScoredRun, maps: Mapping[str, tuple[ScoredRun, int]]) -> list[Place]:
    """Tiles that are drawn, with the maps of runs after a step, in the classes of `base`."""
    places = []
    scheme = base.scheme
    for file in sorted((base.folder / STRIPS).glob("*-image.png")):
        name = file.name.removesuffix("-image.png")
        predictions: dict[str, np.ndarray] = {}
        for title, (run, step) in maps.items():
            found = run.folder / "steps" / str(step) / STRIPS / f"{name}.png"
            if found.is_file():
                predictions[title] = _to_classes(run.scheme, scheme)[_read(found)]
        image = _read(file)[..., ::-1]
        places.append(Place(name, image, _read(file.with_name(f"{name}-truth.png")), predictions))
    return places


def _to_classes(own: ClassScheme, other: ClassScheme) -> np.ndarray:
    """What each class of one scheme is in another with the same classes, uint8 (256,)."""
    table = np.full(256, IGNORE, np.uint8)
    for index, name in enumerate(own.names):
        table[index] = other.names.index(name)
    return table


def _read(path: Path) -> np.ndarray:
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise InputError(f"{path} cannot be read")
    return np.asarray(array, np.uint8)


def _published(run: ScoredRun) -> list[dict[str, Any]] | None:
    """Scores of the published system's test, where they were taken."""
    if any(step["published_confusion"] is None for step in run.steps):
        return None
    return [
        ClassScores.of(
            Confusion.of(step["published_confusion"]), names=step["names"], compat_macro=True
        ).as_dict()
        for step in run.steps
    ]


def _by_place(run: ScoredRun) -> list[list[float | None]]:
    """After each step, the mean IoU on the places of each step up to it; None without a test tile."""
    return [
        [
            plain(
                ClassScores.of(
                    Confusion.of(own["confusion"]), names=step["names"]
                ).macro_without_background.iou
            )
            for own in step["by_place"]
        ]
        for step in run.steps
    ]


def _place_table(run: ScoredRun) -> list[str]:
    """The same as lines of Markdown: what is still known of the places of earlier steps."""
    rows = [
        [step["step"], *("" if value is None else f"{value:.3f}" for value in values)]
        for step, values in zip(run.steps, _by_place(run), strict=True)
    ]
    headings = ["after step", *(", ".join(own["places"]) for own in run.steps[-1]["by_place"])]
    padded = [[*row, *[""] * (len(headings) - len(row))] for row in rows]
    return ["Mean IoU on the places of each step:", "", *markdown_table(headings, padded)]


def _markdown(run: ScoredRun) -> str:
    lines = [
        f"# Task {run.facts['task']}: {run.method}",
        "",
        *(f"- {line}" for line in run.protocol["description"]),
        "",
        f"Scores of {run.steps[-1]['tiles']} test tiles, every pixel counted once, with the labels of all classes seen "
        "by then." + " They are those of the places seen by then." * bool(run.protocol.get("places")),
        "",
        step_table(run.scores),
        "IoU of each class:",
        "",
        class_table(run.scores),
    ]
    if run.protocol.get("places"):
        lines += _place_table(run)
    return "\n".join(lines)
