"""`aftermap run`: a plan of training runs and what comes between them."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from aftermap.cli.checks import check_dataset, check_place
from aftermap.cli.options import Json, MaybeOut
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import progress

if TYPE_CHECKING:
    from aftermap.workflows.plans.plan import Job
    from aftermap.workflows.plans.stages import PlanListener, State
    from aftermap.workflows.training.training_kind import TrainingProgress


def run(
    plan: Path,
    *overrides: str,
    out: MaybeOut = None,
    only: list[str] | None = None,
    redo: list[str] | None = None,
    listing: Annotated[bool, Parameter(name="--list", negative=())] = False,
    json_output: Json = False,
) -> None:
    """Run a plan: several trainings, and the ensembles and predictions made of them.

    Done stages are passed over and broken ones go on, so the same command continues an interrupted plan:

        aftermap run recipes/xview2/plan.yaml data.manifests='[xbd-prepared]' seeds='[0]' -o runs/winner

    Keys of the plan are overridden by key=value words; each.KEY=value sets a key of every training recipe.

    Args:
        plan: A YAML file; see recipes/xview2/plan.yaml.
        overrides: Pairs of dotted.key=value.
        out: Folder with one folder per job; by default runs/<name of the plan>.
        only: Do only these stages (what they need must be done), to spread a plan over machines.
        redo: Delete the results of these stages and of all made from them, and make them again.
        listing: Show the jobs and how far they are, and do nothing.
        json_output: Print the jobs as JSON at the end.
    """
    from aftermap.errors import RecipeError
    from aftermap.extras import needs

    needs("aftermap run", "train")
    from aftermap.workflows.plans.plan import load_plan, plan_jobs

    settings, recipes = load_plan(plan, list(overrides))
    folder = out or Path("runs") / settings.name
    jobs = plan_jobs(settings, recipes, folder.resolve())
    known = {job.stage.name for job in jobs}
    for name in only or []:
        if name not in known:
            raise RecipeError(f"the plan has no stage {name!r}: it has {', '.join(sorted(known))}")
    if not listing:
        for manifest in settings.data.get("manifests") or []:
            check_dataset(Path(manifest), whole=True)
        check_place(folder / "job")

    from aftermap.learning.experiments.tracking import safe_command
    from aftermap.workflows.plans.stages import discard, job_state, run_jobs

    if redo and not listing:
        made = ", ".join(discard(jobs, folder, redo)) or "nothing, none was made"
        say(f"deleted, to be made again: {made}", error=True)
    if not listing:
        chosen = [job for job in jobs if not only or job.stage.name in only]
        command = "aftermap " + safe_command(sys.argv[1:])
        try:
            with _display(len(chosen)) as listener:
                for _ in run_jobs(settings, chosen, folder, command=command, listener=listener):
                    pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted: the same command goes on (without --redo)") from None
    rows = [
        {
            "job": job.name,
            "kind": job.stage.kind,
            "state": job_state(job, folder),
            "folder": str(folder / job.name),
            "score": _score(folder / job.name),
        }
        for job in jobs
    ]
    if json_output:
        print_json(rows)
    else:
        _table(rows)


def _score(folder: Path) -> float | None:
    """Score of a training's best step, or of a submission."""
    if (folder / "run.json").is_file():
        best = json.loads((folder / "run.json").read_text()).get("best") or {}
        score = best.get("score")
        return score if score is not None and math.isfinite(score) else None
    if (folder / "score.json").is_file():
        found: float = json.loads((folder / "score.json").read_text())["score"]
        return found
    return None


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("job", "kind", "state", "score")
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:.3f}"
        table.add_row(row["job"], row["kind"], row["state"], score)
    say(table)


@contextmanager
def _display(jobs: int) -> Iterator["PlanListener"]:
    """One line per job on standard error, and how far the one is that is at work."""
    from aftermap.workflows.plans.stages import PlanListener

    words = {"done": "done already", "started": "goes on", "waiting": "begins"}
    with progress() as show:
        names: list[str] = []

        def on_job(job: "Job", state: "State") -> None:
            names.append(job.name)
            say(f"[{len(names)}/{jobs}] {job.name}: {words[state]}", error=True)

        def on_step(now: "TrainingProgress") -> None:
            score = "" if now.score is None else f"  score {now.score:.3f}"
            loss = "" if now.step is None else f"loss {now.step.loss:.3f}"
            show(names[-1], now.done, now.total, f"{loss}{score}")

        def on_scene(done: int, total: int) -> None:
            show(f"{names[-1]}, scenes", done, total)

        yield PlanListener(on_job, on_step, on_scene)
