"""A training run from its first step to its last, whatever is learned: steps, evaluations, the model that is kept.

Kinds of runs (ordinary and distilled ones, the steps of an incremental task, meta-training) say what they learn from,
what they minimise and how a model is judged; all else is here, once.
"""

import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from aftermap.artefacts.card import Parent, TrainingRecord
from aftermap.artefacts.licences import UNSAID, joined_licences
from aftermap.artefacts.store import save_model
from aftermap.data.scene import Manifest, manifest_file
from aftermap.errors import DataError
from aftermap.files import writing
from aftermap.learning.experiments.notify import Notifier, NotifyConfig
from aftermap.learning.experiments.tracking import RecordsConfig
from aftermap.learning.loop import BatchSource, Step, Training, fit
from aftermap.learning.processes import agree
from aftermap.learning.run import Run, machine
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.training.run_folder import open_run
from aftermap.workflows.training.start import RunLength


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What may be shown of a run, whatever its kind.

    Attributes:
        stage: what is going on, such as `training`, `scoring the model`.
        done, total: optimizer steps, scenes, or tiles of the stage.
        round: of a self-training, from 1; 0 where there are none.
        task_step: of an incremental task, from 0; None where there are none.
        step: the optimizer step, while a model learns.
        seconds_left: of the stage, where it is known.
        score: of the last evaluation.
    """

    stage: str
    done: int
    total: int
    round: int = 0
    task_step: int | None = None
    step: Step | None = None
    seconds_left: float | None = None
    score: float | None = None


OnProgress = Callable[[TrainingProgress], None]


def unseen(progress: TrainingProgress) -> None:
    """Show nothing of a run."""


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


class TrainingKind(ABC):
    """What a kind of training run does in its own way.

    Attributes:
        name: of the run.
        tree: its recipe as plain values.
        training: model, objective and optimizer.
        source: batches.
        length: when the model is evaluated.
        records: the experiment database.
        notify: who is told.
        save_every: steps between two saved states; 0 means at evaluations only.
        keep: the best evaluation, or the last.
        patience: the run ends after so many evaluations in a row that are no better than the best; None never.
        weights_dtype: of the saved model.
        keep_optimizer: the state of its optimizer is kept in `optimizer.pt` at the end.
        samples: evaluations draw samples.
        terms_told: the means of the loss's terms are written with each evaluation.
        unit: what a step is called.
        compat_overwrite_first: until an evaluation beats the first, each is kept in its place, better or not (MiB-CD).
    """

    name: str
    tree: Mapping[str, Any]
    training: Training
    source: BatchSource
    length: RunLength
    records: RecordsConfig
    notify: NotifyConfig
    save_every: int = 0
    keep: Literal["best", "last"] = "best"
    patience: int | None = None
    weights_dtype: Literal["float32", "float16"] = "float32"
    keep_optimizer: bool = False
    samples: bool = False
    terms_told: bool = True
    unit: str = "step"
    compat_overwrite_first: bool = False

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What `run.json` says of its data; asked for when a new run begins."""

    @abstractmethod
    def assess(self, model: DenseModel, run: Run, step: int, minutes: float) -> tuple[dict[str, float], Any]:
        """Metrics of a model, `score` among them, and the card that `save` takes: a `Card`, but where `save` is its own.

        Args:
            model: as the objective gives it to be scored.
            run: the run folder.
            step: after which it is scored.
            minutes: that the run has taken.
        """

    def begin(self, run: Run) -> None:  # noqa: B027
        """Called before the first step of a new run; nothing by default."""

    def close(self) -> None:
        """Stop reading batches ahead, where the source does so."""
        close = getattr(self.source, "close", None)
        if close is not None:
            close()

    def save(self, folder: Path, model: DenseModel, card: Any) -> None:
        """Write a model folder."""
        save_model(folder, model, card, dtype=self.weights_dtype)

    def told(self, metrics: Mapping[str, float]) -> str:
        """An evaluation in words, for the log."""
        return f"score {metrics['score']:.4f}"


def run_training(
    kind: TrainingKind,
    folder: Path,
    *,
    resume: bool,
    started: float,
    on_progress: OnProgress = unseen,
    on_score: Callable[[int, float], None] | None = None,
) -> Trained:
    """Run a training to its end and keep one evaluation's model in `folder/model`.

    Args:
        kind: what is learned and how it is judged.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on from the saved state, to the same weights as without the interruption.
        started: when the run began, by `time.monotonic`.
        on_progress: called after every step.
        on_score: called after every evaluation with the step and its score; what it raises ends the run.

    Raises:
        TrainingError: a loss is not finite, or there is nothing to resume.
        OutputError: the run folder exists or cannot be written.
        RecordsError: the experiment database cannot be reached.
    """
    training, length = kind.training, kind.length
    model, objective, main = training.model, training.objective, training.accelerator.is_main_process
    best, behind, begun = -math.inf, 0, time.process_time()
    with (
        closing(kind),
        open_run(
            folder,
            kind.tree,
            kind.facts,
            resume=resume,
            records=kind.records,
            samples=kind.samples,
            main=main,
        ) as (run, records),
        Notifier(kind.notify, kind.name, folder, enabled=main) as notifier,
    ):
        saved = resume and run.has_state
        if saved:
            training.load(run.resume)
        pending: dict[str, Any] | None = run.facts().get("evaluating") if saved else None
        if pending is not None and pending["step"] != training.step:
            pending = None
        # an evaluation that was interrupted is made again, whatever it had written
        for line in run.metrics(up_to_step=training.step - (pending is not None)):
            best, behind = _ranked(line["score"], best, behind)
        if resume:
            run.log(f"resumed at {kind.unit} {training.step}")
        if not saved:
            kind.begin(run)
        first_step, score, terms, judged = training.step, None, _TermMeans(), training.step
        lowered = False

        def evaluate(line: dict[str, Any]) -> None:
            """Judge the model as it is, keep it where it is the best, and save the state behind it."""
            nonlocal best, behind, score, lowered
            minutes, number = (time.monotonic() - started) / 60, line["step"]
            network = objective.evaluated(model)
            metrics, card = kind.assess(network, run, number, minutes)
            score = metrics["score"]
            line = {**line, **metrics}
            run.append_metrics(line)
            run.log(f"{kind.unit} {number}: loss {line['loss']:.4f}, {kind.told(metrics)}")
            # a score that cannot be measured (no building among the scenes) is kept for want of another
            kept = score > best or kind.keep == "last" or not run.model.exists()
            if kind.compat_overwrite_first:
                kept |= behind == len(run.metrics()) - 2  # the best so far is the first
            best, behind = _ranked(score, best, behind)
            if kept:
                with writing(folder, resumable=True):
                    kind.save(run.model, network, card)
                notifier.best(number, score)
            records.log(number, line, kept=kept)
            lowered = training.judged(score)
            training.save(run.resume)
            if on_score is not None:
                on_score(number, score)

        try:
            if main and pending is not None:
                evaluate(pending)
                run.record(evaluating=None)
            if saved and training.plateau is not None and agree(lowered) and not main:
                training.lower()
            pending = None
            has_ended = saved and kind.patience is not None and agree(behind >= kind.patience)
            for step in () if has_ended else fit(training, kind.source):
                evaluated = length.is_evaluated(step.number)
                if main:
                    terms.add(step.terms)
                    seconds = time.monotonic() - started
                    if evaluated:
                        means = terms.take() if kind.terms_told else {}
                        pending = {"step": step.number, "loss": step.loss, "lr": step.lr, **means}
                        evaluate(pending)
                        pending, judged = None, step.number
                    elif kind.save_every and step.number % kind.save_every == 0:
                        training.save(run.resume)
                    left = seconds / (step.number - first_step) * (length.steps - step.number)
                    on_progress(
                        TrainingProgress(
                            "training", step.number, length.steps, step=step, seconds_left=left, score=score
                        )
                    )
                if evaluated and training.plateau is not None and agree(lowered) and not main:
                    training.lower()
                if evaluated and kind.patience is not None and agree(behind >= kind.patience):
                    run.log(f"ended at {kind.unit} {step.number}: no better for {behind} evaluations")
                    break
        except KeyboardInterrupt:
            due = training.last  # a step whose end was waited for has not been seen by anybody
            if main and pending is None and due is not None and due.number != judged:
                terms.add(due.terms)
                means = terms.take() if kind.terms_told else {}
                if length.is_evaluated(due.number):
                    pending = {"step": due.number, "loss": due.loss, "lr": due.lr, **means}
            training.save(run.resume)
            run.record(step=training.step, evaluating=pending, cpu_seconds=_cpu_seconds(run, begun))
            raise
        minutes = (time.monotonic() - started) / 60
        if not main:
            return Trained(run.model, {}, minutes)
        chosen = run.metrics()[-1] if kind.keep == "last" else _best(run.metrics())
        run.record(minutes=round(minutes, 2), cpu_seconds=_cpu_seconds(run, begun), best=chosen)
        if kind.keep_optimizer:
            training.save_optimizer(folder / "optimizer.pt")
    shutil.rmtree(run.resume, ignore_errors=True)
    return Trained(run.model, chosen, minutes)


def _cpu_seconds(run: Run, begun: float) -> float:
    """Processor time of a run so far: of this process since `begun`, and of those that were interrupted before it."""
    return round(float(run.facts().get("cpu_seconds", 0)) + time.process_time() - begun, 1)


class DescribedData(Protocol):
    """What a recipe says about its data."""

    @property
    def manifests(self) -> list[Path]: ...  # noqa: D102
    @property
    def description(self) -> str: ...  # noqa: D102
    @property
    def licence(self) -> str: ...  # noqa: D102


def training_record(
    data: DescribedData,
    *,
    command: str,
    parent_sha256: str | None,
    steps: int = 0,
    minutes: float = 0.0,
    parents: tuple[Parent, ...] = (),
    events: Iterable[str] = (),
) -> TrainingRecord:
    """What a card says of the training that a model comes from; the licence is that of the manifests if not said."""
    return TrainingRecord(
        data=data.description or ", ".join(path.name for path in data.manifests),
        data_licence=data_licence(data),
        command=command,
        steps=steps,
        minutes=round(minutes, 1),
        hardware=machine(),
        parent_sha256=parent_sha256,
        parents=parents,
        events=tuple(sorted(set(events))),
    )


def data_licence(data: DescribedData) -> str:
    """Under which licences a recipe's data come: what the recipe says, else what its manifests do, each once."""
    if data.licence != UNSAID:
        return data.licence
    files = [manifest_file(path) for path in data.manifests]
    return joined_licences(_licence_of(file, file.stat().st_mtime_ns) for file in files if file.is_file())


@lru_cache(maxsize=32)
def _licence_of(manifest: Path, _changed: int) -> str:
    """Read once: a card is made at every evaluation."""
    try:
        return Manifest.load(manifest).licence or UNSAID
    except DataError:
        return UNSAID


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
