"""How far a training run is, on standard error: a bar for every stage, plain lines where it is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aftermap.workflows.training.training_kind import TrainingProgress


@contextmanager
def training_display() -> Iterator[Callable[["TrainingProgress"], None]]:
    """What it gives shows stage, loss, learning rate, score and time left of a run, whatever its kind."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as display:
        tasks: dict[str, Any] = {}
        smooth: dict[str, float] = {}

        def show(progress: "TrainingProgress") -> None:
            title = progress.stage + (f", round {progress.round}" if progress.round else "")
            title += "" if progress.task_step is None else f", step {progress.task_step}"
            if title not in tasks:
                tasks[title] = display.add_task(title, total=progress.total, now="")
            now = ""
            if progress.step is not None:
                loss = progress.step.loss
                smooth[title] = 0.95 * smooth.get(title, loss) + 0.05 * loss
                score = "-" if progress.score is None else f"{progress.score:.3f}"
                minutes, seconds = divmod(int(progress.seconds_left or 0), 60)
                now = f"loss {smooth[title]:.3f}  lr {progress.step.lr:.1e}  score {score}  {minutes}:{seconds:02d} left"
            display.update(tasks[title], completed=progress.done, total=progress.total, now=now)
            whole = progress.done == progress.total
            if not console.is_terminal and (whole or (progress.done and progress.done % 50 == 0)):
                console.print(f"{title}: {progress.done}/{progress.total}  {now}".rstrip(), markup=False)

        yield show
