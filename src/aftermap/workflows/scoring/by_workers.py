"""Scenes of a dataset by several processes, or by Ray: a job for each scene, and one model for each worker."""

from collections.abc import Callable, Sequence
from pathlib import Path

from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, InputError
from aftermap.inference.predictor import AnyPredictor
from aftermap.worklist.job import Job, Outcome, Work
from aftermap.worklist.run import Engine, run_jobs
from aftermap.worklist.team import Limits

_LISTED = 3


def by_workers(
    work: Work,
    scenes: Sequence[Scene],
    workers: int,
    on_scene: Callable[..., None] | None,
    *,
    engine: Engine,
    address: str | None,
) -> list[Outcome]:
    """Do some work for scenes of a dataset, a job for each; returns how they ended, in their order.

    Args:
        work: what is done.
        scenes: of the dataset.
        workers: how many.
        on_scene: called with each scene that is done.
        engine: processes of this machine, or actors of Ray, which see the same folders.
        address: of the Ray cluster.

    Raises:
        DataError: two scenes have one name.
    """
    by_name = {scene.name: scene for scene in scenes}
    if len(by_name) != len(scenes):
        raise DataError("two scenes of the dataset have one name: use one process")

    def tell(outcome: Outcome) -> None:
        if on_scene is not None:
            on_scene(by_name[outcome.name])

    return run_jobs(
        work,
        [Job(name, {}) for name in by_name],
        engine=engine,
        limits=Limits(workers=workers),
        address=address,
        on_outcome=tell,
    )


def refuse_failed(ended: Sequence[Outcome], what: str) -> None:
    """Name the scenes that failed, if any.

    Raises:
        InputError: with some of them.
    """
    failed = [outcome for outcome in ended if outcome.state == "failed"]
    if failed:
        listed = "; ".join(f"{outcome.name}: {outcome.reason}" for outcome in failed[:_LISTED])
        more = f"; and {len(failed) - _LISTED} more" if len(failed) > _LISTED else ""
        raise InputError(f"{len(failed)} of {len(ended)} scenes could not be {what}: {listed}{more}")


def named_model(model: str | Path | AnyPredictor) -> str:
    """What the processes open.

    Raises:
        InputError: it is open here.
    """
    if isinstance(model, AnyPredictor):
        raise InputError(
            "several workers open the model themselves: pass its folder or name, not an open model"
        )
    path = Path(model)
    return str(path.absolute()) if path.exists() else str(model)


def scenes_by_name(data: Path) -> dict[str, Scene]:
    """The scenes of a prepared dataset."""
    return {scene.name: scene for scene in Manifest.load(data).scenes}
