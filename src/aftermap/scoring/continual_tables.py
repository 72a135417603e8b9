"""Incremental runs as Markdown tables: one run step by step, and methods side by side over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from aftermap.files import markdown_table
from aftermap.scoring.class_scores import ClassScores
from aftermap.scoring.continual import ContinualScores, StepScores, group
from aftermap.scoring.counts import plain
from aftermap.wording import counted

COLUMNS = {
    "old": "IoU old",
    "new": "IoU new",
    "all": "IoU all",
    "all_with_background": "IoU with background",
    "average": "IoU all, mean of steps",
    "forgetting": "forgetting",
    "intransigence": "intransigence",
    "micro_f1": "micro F1",
    "average_micro_f1": "micro F1, mean of steps",
}
"""Headings of a comparison; old and new are those of the last step."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A measure over the seeds that have it.

    Attributes:
        mean: over the seeds, NaN without any.
        deviation: sample standard deviation, NaN below two seeds.
        seeds: how many.
    """

    mean: float
    deviation: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of the numbers among `values`."""
        known = [value for value in values if not math.isnan(value)]
        deviation = statistics.stdev(known) if len(known) > 1 else math.nan
        return cls(statistics.fmean(known) if known else math.nan, deviation, len(known))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Methods on one task.

    Attributes:
        rows: by method, then by the keys of COLUMNS.
        seeds: runs of each method.
        joint: name of the row of joint training, or None.
    """

    rows: Mapping[str, Mapping[str, Spread]]
    seeds: Mapping[str, int]
    joint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; None where nothing could be measured."""
        tree = {
            method: {
                "seeds": self.seeds[method],
                **{name: {"mean": s.mean, "deviation": s.deviation} for name, s in row.items()},
            }
            for method, row in self.rows.items()
        }
        result: dict[str, Any] = plain(tree)
        return result


def compare(
    runs: Mapping[str, Sequence[ContinualScores]],
    *,
    joint: Sequence[ContinualScores] = (),
    joint_name: str = "joint training",
) -> Comparison:
    """Put methods side by side.

    Args:
        runs: by method, one per seed; all of one task and complete.
        joint: runs that learned the same classes in one step, in any order. Their old and new classes are those of
            the task's last step, and runs without a joint model of their own are measured against the mean of them.
        joint_name: what their row is called.

    Raises:
        ValueError: nothing to compare, runs of different tasks, or one that is not complete.
    """
    every = [run for seeds in runs.values() for run in seeds]
    if not every or any(not seeds for seeds in runs.values()):
        raise ValueError("no run to compare, expected one or more of every method")
    names, heads = every[0].names, every[0].heads
    for method, run in ((method, run) for method, seeds in runs.items() for run in seeds):
        if (run.names, run.heads) != (names, heads):
            raise ValueError(
                f"{method} learned {class_order(run)}, expected {class_order(every[0])}: compare runs of one task"
            )
        if not run.is_complete:
            raise ValueError(
                f"{method} has {len(run.steps)} of {counted(len(heads), 'step')}: let it run to its end"
            )
    for run in joint:
        if len(run.heads) != 1 or set(run.names) != set(names):
            raise ValueError(
                f"the joint run learned {class_order(run)}, expected {', '.join(names)} in one step"
            )
    bound = _bound(joint, names)
    rows = {method: _spreads([_measures(run, bound) for run in seeds]) for method, seeds in runs.items()}
    seeds_of = {method: len(seeds) for method, seeds in runs.items()}
    if joint:
        rows[joint_name] = _spreads([_joint_measures(run.final.scores, names, heads) for run in joint])
        seeds_of[joint_name] = len(joint)
    return Comparison(rows, seeds_of, joint_name if joint else None)


def comparison_table(comparison: Comparison) -> str:
    """Markdown: a row per method, mean ± standard deviation over the seeds; columns that nobody has are left out."""
    shown = [
        name
        for name in COLUMNS
        if any(not math.isnan(row[name].mean) for row in comparison.rows.values() if name in row)
    ]
    rows = [
        (method, comparison.seeds[method], *(_spread(row[name]) if name in row else "" for name in shown))
        for method, row in comparison.rows.items()
    ]
    return _lines(["method", "seeds", *(COLUMNS[name] for name in shown)], rows)


def step_table(run: ContinualScores) -> str:
    """Markdown: a row per step of a run, then its means over the steps."""
    headings = ["step", "learned", "IoU old", "IoU new", "IoU all", "with background", "F1 all", "micro F1"]
    headings += ["forgetting"] + ["intransigence"] * (run.joint is not None)
    rows = []
    for step in run.steps:
        values = [step.old.iou, step.new.iou, step.all.iou, step.all_with_background.iou, step.all.f1]
        values += [step.micro_f1, step.mean_forgetting]
        values += [step.mean_intransigence] * (run.joint is not None)
        rows.append([step.step, ", ".join(step.learned), *map(_number, values)])
    mean = run.average
    values = [mean["old"], mean["new"], mean["all"], mean["all_with_background"]]
    values += [_nanmean([step.all.f1 for step in run.steps]), mean["micro_f1"]]
    last = [""] + [_number(run.intransigence)] * (run.joint is not None)
    return _lines(headings, [*rows, ["mean", "", *map(_number, values), *last]])


def class_table(run: ContinualScores) -> str:
    """Markdown: a row per class with its IoU after every step, what of it was forgotten, and that of joint training."""
    headings = ["class", *(f"step {step.step}" for step in run.steps), "forgotten"]
    headings += ["joint"] * (run.joint is not None)
    rows = []
    for index, name in enumerate(run.names):
        values = run.iou(name)
        if index and run.learned_at(name) >= len(run.steps):
            continue  # a class still to come
        values = [*values, run.final.forgetting.get(name, math.nan)]
        if run.joint is not None:
            values.append(run.joint.iou[index] if run.joint.support[index] else math.nan)
        rows.append([name, *map(_number, values)])
    return _lines(headings, rows)


def _measures(run: ContinualScores, bound: Mapping[str, float]) -> dict[str, float]:
    final, average = run.final, run.average
    intransigence = run.intransigence
    if run.joint is None:
        gaps = [
            bound[name] - _iou(step, name) for step in run.steps for name in step.learned if name in bound
        ]
        intransigence = _nanmean(gaps)
    return {
        "old": final.old.iou,
        "new": final.new.iou,
        "all": final.all.iou,
        "all_with_background": final.all_with_background.iou,
        "average": average["all"],
        "forgetting": run.forgetting,
        "intransigence": intransigence,
        "micro_f1": final.micro_f1,
        "average_micro_f1": average["micro_f1"],
    }


def _joint_measures(scores: ClassScores, names: Sequence[str], heads: Sequence[int]) -> dict[str, float]:
    """The measures that joint training has, with the task's last step as the new classes."""
    place = {name: index for index, name in enumerate(scores.names)}
    indices = [place[name] for name in names]
    last = [0, *accumulate(heads)][-2]
    old, new = indices[1:last], indices[max(last, 1) :]
    return {
        "old": group(scores, old).iou,
        "new": group(scores, new).iou,
        "all": group(scores, old + new).iou,
        "all_with_background": group(scores, indices).iou,
        "micro_f1": scores.micro.f1,
    }


def _bound(joint: Sequence[ContinualScores], names: Sequence[str]) -> dict[str, float]:
    """IoU of every class under joint training, mean over its seeds."""
    return {name: _nanmean([_iou(run.final, name) for run in joint]) for name in names} if joint else {}


def _iou(step: StepScores, name: str) -> float:
    index = step.scores.names.index(name)
    return step.scores.iou[index] if step.scores.support[index] else math.nan


def _spreads(seeds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    return {name: Spread.of([seed[name] for seed in seeds]) for name in seeds[0]}


def _nanmean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def class_order(run: ContinualScores) -> str:
    """The classes of a run, steps parted by arrows."""
    seen = [1, *accumulate(run.heads)]
    steps = (run.names[first:stop] for first, stop in pairwise(seen))
    return " -> ".join(", ".join(step) for step in steps)


def _lines(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return "\n".join(markdown_table(headings, rows)) + "\n"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:z.3f}"


def _spread(spread: Spread) -> str:
    beside = "" if math.isnan(spread.deviation) else f" ± {spread.deviation:.3f}"
    return _number(spread.mean) + beside
