"""How far a training run is, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aftermap.cli.progress import progress

if TYPE_CHECKING:
    from aftermap.workflows.training.training_kind import TrainingProgress


@contextmanager
def training_display() -> Iterator[Callable[["TrainingProgress"], None]]:
    """What it gives shows stage, loss, learning rate, score and time left of a run, whatever its kind."""
    with progress() as show:
        smooth: dict[str, float] = {}

        def tell(now: "TrainingProgress") -> None:
            stage = now.stage + (f", round {now.round}" if now.round else "")
            stage += "" if now.task_step is None else f", step {now.task_step}"
            note = ""
            if now.step is not None:
                loss = now.step.loss
                smooth[stage] = 0.95 * smooth.get(stage, loss) + 0.05 * loss
                score = "-" if now.score is None else f"{now.score:.3f}"
                note = f"loss {smooth[stage]:.3f}  lr {now.step.lr:.1e}  score {score}"
            show(stage, now.done, now.total, note)

        yield tell
