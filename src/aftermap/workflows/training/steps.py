"""The inside of a training run, whatever is learned: steps, evaluations, the best model, what there is to go on from."""

import math
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from aftermap.artefacts.card import Card
from aftermap.artefacts.store import save_model
from aftermap.learning.experiments.notify import Notifier, NotifyConfig
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import Connection
from aftermap.learning.loop import BatchSource, Step, Training, fit
from aftermap.learning.processes import agree
from aftermap.learning.run import Run
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.training.selection import Pace


@dataclass(frozen=True, slots=True)
class Progress:
    """What a face may show after every step."""

    step: Step
    steps: int
    seconds_left: float
    score: float | None


@dataclass(frozen=True, slots=True)
class Trained:
    """The outcome of a run.

    Attributes:
        model: the model folder of the best step.
        metrics: its evaluation.
        minutes: training time of this process, evaluations included.
    """

    model: Path
    metrics: dict[str, float]
    minutes: float


class Source(BatchSource, Protocol):
    """Batches that are read ahead until it is closed."""

    def close(self) -> None:
        """Stop reading ahead."""
        ...


Assess = Callable[[DenseModel, int, float], tuple[dict[str, float], Card]]
"""Told a network, the step and the minutes so far: metrics, `score` among them, and the card to save it with."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Which evaluation is kept, and what is written of a run.

    Attributes:
        name: of the recipe, for notifications.
        tree: the recipe, for records.
        connection: to the database of experiments; None without one.
        notify: who is told.
        keep: the best evaluation, or the last.
        save_every: steps between two saved states; 0 means at evaluations only.
        weights_dtype: of the saved model.
        patience: the run ends after so many evaluations in a row that are no better than the best; None never.
        compat_overwrite_first: until an evaluation beats the first, each is kept in its place, better or not (MiB-CD).
    """

    name: str
    tree: dict[str, Any]
    connection: Connection | None
    notify: NotifyConfig
    keep: Literal["best", "last"] = "best"
    save_every: int = 0
    weights_dtype: Literal["float32", "float16"] = "float32"
    patience: int | None = None
    compat_overwrite_first: bool = False


def run_training(
    run: Run,
    training: Training,
    source: Source,
    pace: Pace,
    assess: Assess,
    keeping: Keeping,
    *,
    resume: bool,
    started: float,
    on_progress: Callable[[Progress], None] | None = None,
    on_score: Callable[[int, float], None] | None = None,
) -> Trained:
    """Run a training to its end and keep one evaluation's model in `run.model`.

    Args:
        run: the run folder, there already.
        training: model, objective and optimizer.
        source: batches; closed at the end.
        pace: when the model is evaluated.
        assess: evaluates it.
        keeping: what is kept.
        resume: go on from `run.resume`, to the same weights as without the interruption.
        started: when the run began, by `time.monotonic`.
        on_progress: called after every step.
        on_score: called after every evaluation with the step and its score; what it raises ends the run.

    Raises:
        TrainingError: a loss is not finite, or there is nothing to resume.
    """
    model, objective, main = training.model, training.objective, training.accelerator.is_main_process
    best, behind = -math.inf, 0
    if resume:
        training.load(run.resume)
        for line in run.metrics(up_to_step=training.step):
            best, behind = _ranked(line["score"], best, behind)
        run.log(f"resumed at step {training.step}")
    first_step, score, terms = training.step, None, _TermMeans()
    with (
        closing(source),
        Records(keeping.connection, run, keeping.tree) as records,
        Notifier(keeping.notify, keeping.name, run.folder, enabled=main) as notifier,
    ):
        try:
            for step in fit(training, source):
                evaluated = pace.is_evaluated(step.number)
                if main:
                    terms.add(step.terms)
                    done = step.number - first_step
                    left = (time.monotonic() - started) / done * (pace.steps - step.number)
                    if evaluated:
                        minutes = (time.monotonic() - started) / 60
                        metrics, card = assess(objective.evaluated(model), step.number, minutes)
                        score = metrics["score"]
                        line = {
                            "step": step.number,
                            "loss": step.loss,
                            "lr": step.lr,
                            **terms.take(),
                            **metrics,
                        }
                        run.append_metrics(line)
                        run.log(f"step {step.number}: loss {step.loss:.4f}, score {score:.4f}")
                        # a score that cannot be measured (no building among the scenes) is kept for want of another
                        kept = score > best or keeping.keep == "last" or not run.model.exists()
                        if keeping.compat_overwrite_first:
                            kept |= behind == len(run.metrics()) - 2  # the best so far is the first
                        best, behind = _ranked(score, best, behind)
                        if kept:
                            save_model(
                                run.model, objective.evaluated(model), card, dtype=keeping.weights_dtype
                            )
                            notifier.best(step.number, score)
                        records.log(step.number, line, kept=kept)
                        training.save(run.resume)
                        if on_score is not None:
                            on_score(step.number, score)
                    elif keeping.save_every and step.number % keeping.save_every == 0:
                        training.save(run.resume)
                    if on_progress is not None:
                        on_progress(Progress(step, pace.steps, left, score))
                if evaluated and keeping.patience is not None and agree(behind >= keeping.patience):
                    if main:
                        run.log(f"ended at step {step.number}: no better for {behind} evaluations")
                    break
        except KeyboardInterrupt:
            training.save(run.resume)
            run.record(step=training.step)
            raise
        if not main:
            return Trained(run.model, {}, (time.monotonic() - started) / 60)
        shutil.rmtree(run.resume, ignore_errors=True)
        chosen = run.metrics()[-1] if keeping.keep == "last" else _best(run.metrics())
        minutes = (time.monotonic() - started) / 60
        run.record(minutes=round(minutes, 2), best=chosen)
    return Trained(run.model, chosen, minutes)


def _ranked(score: float, best: float, behind: int) -> tuple[float, int]:
    """The best score so far, and how many evaluations in a row were no better."""
    return (score, 0) if score > best else (best, behind + 1)


class _TermMeans:
    """Mean of every term of the loss over the steps since the last evaluation, or since the run was resumed.

    Values are as they enter the loss, weights included; a term that is left out of a step counts 0 there, so that
    the means add up to the mean loss.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0

    def add(self, terms: dict[str, float]) -> None:
        """Count a step."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def take(self) -> dict[str, float]:
        """The means as `loss_<name>`; counting starts again."""
        means = {f"loss_{name}": total / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means


def _best(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation with the highest score, the first of equal ones; those without a score come last."""
    return max(metrics, key=lambda m: m["score"] if math.isfinite(m["score"]) else -math.inf, default={})
