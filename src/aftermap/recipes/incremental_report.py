"""What came of incremental runs: `incremental.json`, `incremental.md` and pictures of one, a comparison of several."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftermap.errors import InputError
from aftermap.inference.class_scores import ClassScores, Confusion
from aftermap.inference.continual import ContinualScores
from aftermap.inference.continual_tables import class_table, step_table
from aftermap.products.provenance import write_file, write_json
from aftermap.recipes.incremental_scores import SCORES_NAME, read_scores

REPORT_NAME = "incremental.json"


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
        return "joint training" if self.facts["joint"] else str(self.facts["method"])


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


def report_run(folder: Path) -> dict[str, Any]:
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
        "compat_steps": _compat(run),
    }
    write_json(folder / REPORT_NAME, tree)
    write_file(folder / "incremental.md", _markdown(run))
    return tree


def _compat(run: ScoredRun) -> list[dict[str, Any]] | None:
    """Scores of the published system's test, where they were taken."""
    if any(step["compat_confusion"] is None for step in run.steps):
        return None
    return [
        ClassScores.of(
            Confusion.of(step["compat_confusion"]), names=step["names"], compat_macro=True
        ).as_dict()
        for step in run.steps
    ]


def _markdown(run: ScoredRun) -> str:
    lines = [
        f"# Task {run.facts['task']}: {run.method}",
        "",
        *(f"- {line}" for line in run.protocol["description"]),
        "",
        f"Scores of {run.steps[-1]['tiles']} test tiles, every pixel counted once, with the labels of all classes seen "
        "by then.",
        "",
        step_table(run.scores),
        "IoU of each class:",
        "",
        class_table(run.scores),
    ]
    return "\n".join(lines)
