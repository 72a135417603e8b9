"""The training loop: a generator of steps on accelerate, resumable to the bit.

All randomness of a step (crops, augmentation, dropout) is drawn from generators seeded by (seed, step), so that the
state of a run is its weights, its optimizer and its step, and nothing else. Accelerate is named in this file only.
"""

import json
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from aftermap.data.batch import Batch
from aftermap.errors import TrainingError
from aftermap.files import replacing, replacing_folder, writing
from aftermap.heap import keeping
from aftermap.learning.configs.optimizer import OptimizerConfig, PlateauConfig
from aftermap.learning.fastest_precision import usual_precision
from aftermap.learning.objectives.base import Objective
from aftermap.learning.optimizer import Plateau, build_optimizer, lr_factor, momentum_at, set_momentum
from aftermap.learning.precision import Precision
from aftermap.models.networks.dense import DenseModel


class BatchSource(Protocol):
    """Batches by number: the same number gives the same batch, in every process and after every interruption.

    `data.loading` has those of recipes: crops of scenes, augmented and normalised.
    """

    def batch(self, index: int) -> Batch:
        """Batch `index`, on the CPU or any device."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimizer step did.

    Attributes:
        number: from 1.
        loss: the sum of the terms, a mean over the step's batches.
        terms: of the loss, weighted, by their names in the objective.
        lr: the learning rate that it was made with.
        gradient_norm: over all that is trained, before clipping.
    """

    number: int
    loss: float
    terms: dict[str, float]
    lr: float
    gradient_norm: float


@dataclass
class Training:
    """Everything a run changes: model, objective, optimizer, schedule and step count.

    `fit` below makes its steps; `workflows.training.training_kind` does what comes between two of them: evaluations,
    records, the model that is kept.

    Attributes:
        model: what learns, as it is saved; the accelerated wrapper of it lives inside.
        objective: what is minimised, from a model and a batch.
        config: optimizer, schedule, batches of a step (`accumulate`), clipping.
        steps: of the whole run.
        seed: of all that is drawn.
        precision: of the forward pass; `auto` takes `usual_precision`. One that is gone on with keeps its own.
        steps_per_epoch: for schedules that count epochs.
        step: how many are done.
        accelerator: of accelerate: device, precision, processes.
        last: what the last step did.
        plateau: lowers the rate when evaluations get no better, where the schedule asks for it.
    """

    model: DenseModel
    objective: Objective
    config: OptimizerConfig
    steps: int
    seed: int
    precision: Precision = "auto"
    steps_per_epoch: int = 0
    step: int = 0
    accelerator: Accelerator = field(init=False)
    last: "Step | None" = field(init=False, default=None)
    plateau: Plateau | None = field(init=False, default=None)
    _in_step: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if isinstance(self.config.schedule, PlateauConfig):
            self.plateau = Plateau(self.config.schedule)
        self._arrange(usual_precision() if self.precision == "auto" else self.precision)

    def _arrange(self, precision: Literal["no", "bf16", "fp16"]) -> None:
        """Make what works in an arithmetic: the accelerator, the optimizer and its schedule."""
        self._arithmetic = precision
        # accelerate keeps one precision per process, and the runs of a plan differ in theirs
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(mixed_precision=precision)
        self.objective.to(self.accelerator.device)
        self.model.to(memory_format=torch.channels_last)
        optimizer = build_optimizer(self.config, self.model, also=self._adapters().values())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        self._wrapped, self._optimizer = self.accelerator.prepare(self.model, optimizer)
        self._schedule = schedule

    def _keep_to(self, precision: str | None) -> None:
        """Go on in the arithmetic that a run began with, whatever is fastest now."""
        if precision in ("no", "bf16", "fp16") and precision != self._arithmetic:
            self.model = self.accelerator.unwrap_model(self._wrapped, keep_fp32_wrapper=False)
            self._arrange(precision)  # type: ignore[arg-type]

    def advance(self, source: BatchSource) -> Step:
        """Run one optimizer step: forward and backward over its batches, clipping, the optimizer, the schedule.

        Step `n` of a run takes the batches `n * accumulate` and following, shared out among its processes, so that a
        run that is gone on with sees what it would have seen.

        Args:
            source: where the batches are from.

        Returns:
            What the step did; `self.step` is one more.

        Raises:
            TrainingError: a term of the loss is not finite.
        """
        self._in_step = True  # batch statistics and teachers change before the step is counted
        self._wrapped.train()
        self.objective.train()
        torch.manual_seed(_mix(self.seed, self.step) + self.accelerator.process_index)
        self.objective.before_step(self.step, self.steps)
        sums: dict[str, float] = {}
        count = self.config.accumulate
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        for part in range(count):
            batch = source.batch((self.step * count + part) * processes + rank).to(self.accelerator.device)
            with self.accelerator.autocast():
                terms = self.objective(self._wrapped, batch)
            for name, value in terms.items():
                number = float(value.detach())
                if not math.isfinite(number):
                    raise TrainingError(
                        f"step {self.step}: term {name} is {number}; try a lower optimizer.lr"
                    )
                sums[name] = sums.get(name, 0.0) + number / count
            self.accelerator.backward(torch.stack(list(terms.values())).sum() / count)
        if processes > 1:  # the wrapper brings the model's gradients together, not these
            for parameter in self._adapters().values():
                if parameter.grad is not None:  # None, on all alike, while the schedule of its term is at 0
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        trained = [*self._wrapped.parameters(), *self._adapters().values()]
        # changes nothing yet, but takes out the scale of fp16
        norm: Any = self.accelerator.clip_grad_norm_(trained, math.inf)
        # where it is not, the optimizer passes over this step, as it does in fp16 at times
        if math.isfinite(float(norm)):
            self.objective.after_backward(self.model, self.step)
        if self.config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(trained, self.config.clip_norm, norm)
        lr = float(self._schedule.get_last_lr()[0])
        momentum = momentum_at(self.config.schedule, self.step, steps=self.steps)
        if momentum is not None:
            set_momentum(self._optimizer, momentum)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.objective.after_step(self.model, self.step)
        self.step += 1
        self._in_step = False
        self.last = Step(self.step, sum(sums.values()), sums, lr, float(norm))
        return self.last

    def _lr_factor(self, step: int) -> float:
        lowered = 1.0 if self.plateau is None else self.plateau.factor
        return lowered * lr_factor(
            self.config.schedule, step, steps=self.steps, steps_per_epoch=self.steps_per_epoch
        )

    def judged(self, score: float) -> bool:
        """Tell the schedule how good an evaluation was; whether the learning rate is lowered by it."""
        if self.plateau is None or not self.plateau.judge(score):
            return False
        self._take_rate()
        return True

    def lower(self) -> None:
        """Lower the learning rate, as another process was told to by an evaluation."""
        if self.plateau is not None:
            self.plateau.lower()
            self._take_rate()

    def _take_rate(self) -> None:
        """The rate of the step to come, which the schedule had set before the evaluation."""
        rates = [base * self._lr_factor(self.step) for base in self._schedule.base_lrs]
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._schedule._last_lr = rates

    def _adapters(self) -> dict[str, torch.nn.Parameter]:
        """The objective's own parameters that are trained."""
        return {name: p for name, p in self.objective.named_parameters() if p.requires_grad}

    def save(self, folder: Path) -> None:
        """Write the state of the run, whole or not at all; in the midst of a step, the state before it stays.

        Raises:
            OutputError: it cannot be written; an older state stays.
        """
        if not self.accelerator.is_main_process or self._in_step:
            return
        state = {
            "model": self.model.state_dict(),
            "adapters": {name: p.detach() for name, p in self._adapters().items()},
            "kept": self.objective.kept(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "plateau": {} if self.plateau is None else self.plateau.state(),
        }
        position = {"step": self.step, "seed": self.seed, "precision": self._arithmetic}
        # where the disk is full, torch raises a RuntimeError
        with (
            writing(folder.parent, resumable=True),
            replacing_folder(folder, ours=("*",), also=(RuntimeError,)) as part,
        ):
            torch.save(state, part / "state.pt")
            (part / "step.json").write_text(json.dumps(position))

    def load(self, folder: Path) -> None:
        """Go on from a saved state.

        Raises:
            TrainingError: there is none, or it belongs to another model.
        """
        device = self.accelerator.device
        # several processes on processors are on `cpu:0`, a place that torch.load does not know
        place = "cpu" if device.type == "cpu" else device
        try:
            state = torch.load(folder / "state.pt", weights_only=True, map_location=place)
            position = json.loads((folder / "step.json").read_text())
            self._keep_to(position.get("precision"))
            self.model.load_state_dict(state["model"])
            for name, parameter in self._adapters().items():
                parameter.data.copy_(state["adapters"][name])
            self.objective.restore(state.get("kept", {}))
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            if self.plateau is not None:
                self.plateau.restore(state["plateau"])
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(f"cannot resume from {folder}: {str(error).splitlines()[0]}") from None
        self.step = int(position["step"])

    def save_optimizer(self, file: Path) -> None:
        """Write the state of the optimizer, for another run to begin with.

        Raises:
            OutputError: it cannot be written.
        """
        with writing(file.parent, resumable=True), replacing(file) as part:
            torch.save(self._optimizer.state_dict(), part)

    def load_optimizer(self, file: Path) -> None:
        """Begin with the moments of another run's optimizer; rates, decay and schedule stay those of this run.

        Raises:
            TrainingError: there is none, or it belongs to another model or algorithm.
        """
        own = [{k: v for k, v in group.items() if k != "params"} for group in self._optimizer.param_groups]
        try:
            self._optimizer.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
            state = self._optimizer.state_dict()["state"]
            for group, before in zip(self._optimizer.param_groups, own, strict=True):
                if group.keys() - {"params"} != before.keys():
                    raise ValueError("it is of another algorithm")
                group.update(before)
                for parameter in group["params"]:
                    moments = self._optimizer.state.get(parameter, {})
                    if any(
                        torch.is_tensor(m) and m.ndim and m.shape != parameter.shape for m in moments.values()
                    ):
                        raise ValueError("it is of another model")
        except (
            OSError,
            RuntimeError,
            KeyError,
            ValueError,
            AttributeError,
            EOFError,
            UnpicklingError,
        ) as error:
            raise TrainingError(
                f"cannot begin with the optimizer of {file}: {str(error).splitlines()[0]}"
            ) from None
        if not state:
            raise TrainingError(f"cannot begin with the optimizer of {file}: it holds no moments")


def fit(training: Training, source: BatchSource) -> Iterator[Step]:
    """Yield step after step until `training.steps`; between two steps the caller is ordinary Python."""
    with keeping():
        while training.step < training.steps:
            with whole_step():
                step = training.advance(source)
            yield step


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step * 7_919 + 17) % (2**63)


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def whole_step() -> Iterator[None]:
    """Let a step end before Ctrl-C (or what ends a process like it) takes effect; the second one does so at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            handlers[number](number, frame)

    caught = [number for number, handler in handlers.items() if callable(handler)]
    for number in caught:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, handlers[number])
    if came:
        handlers[came[0]](came[0], None)
