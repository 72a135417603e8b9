"""The work of a plan's jobs: done ones are passed over, broken ones go on, each leaves one folder."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

import cv2
import numpy as np

from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.config import build_config, load_yaml
from aftermap.data.scene import Manifest, Scene, read_images
from aftermap.errors import AftermapError, RecipeError
from aftermap.files import Claim, write_bytes, write_json
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.tiling import predict_scene
from aftermap.learning.run import Run
from aftermap.workflows.plans.plan import (
    EnsembleStage,
    Job,
    OutOfFoldStage,
    Plan,
    SubmissionStage,
    TrainStage,
    TuneStage,
)
from aftermap.workflows.scoring.evaluate import evaluate
from aftermap.workflows.scoring.predict import predict_scenes
from aftermap.workflows.scoring.tune import tune_model
from aftermap.workflows.training.config import DataConfig, TrainRecipe
from aftermap.workflows.training.run import finish_training
from aftermap.workflows.training.scenes import choose_scenes
from aftermap.workflows.training.training_kind import OnProgress, unseen

MARK = "stage.json"

State = Literal["done", "started", "waiting"]


@dataclass(frozen=True, slots=True)
class PlanListener:
    """What a plan tells whoever shows it: the start of each job, training steps, and counts of scenes."""

    on_job: Callable[[Job, State], None] = lambda job, state: None
    on_step: OnProgress = unseen
    on_scene: Callable[[int, int], None] = lambda done, total: None


def job_state(job: Job, folder: Path) -> State:
    """How far a job is.

    Raises:
        RecipeError: its folder holds the result of other settings.
    """
    mark = folder / job.name / MARK
    if not mark.is_file():
        return "waiting"
    facts = json.loads(mark.read_text())
    if facts["fingerprint"] != job.fingerprint:
        raise RecipeError(
            f"{folder / job.name} was made with other settings or other data: "
            f"pass --redo {job.stage.name} to make it again, or another -o"
        )
    return "done" if facts["status"] == "done" else "started"


def run_jobs(
    plan: Plan, jobs: Sequence[Job], folder: Path, *, command: str, listener: PlanListener
) -> Iterator[Job]:
    """Do the jobs in order and yield each once it is done; those that are done already are yielded at once.

    Raises:
        RecipeError: a job's folder holds the result of other settings, or what it needs is not there.
        OutputError: another process does the plan.
        AftermapError: a job failed; what was done before it stays.
    """
    with Claim(folder):
        states = {job.name: job_state(job, folder) for job in jobs}
        for job in jobs:
            state = states[job.name]
            listener.on_job(job, state)
            if state != "done":
                for name in job.needs:
                    if not _is_done(folder / name):
                        raise RecipeError(
                            f"{job.name} needs {name}, which is not done: do its stage too, or leave --only out"
                        )
                _note(job, folder, "started")
                started = time.monotonic()
                try:
                    _work(plan, job, folder, command=command, listener=listener, resume=state == "started")
                except AftermapError:
                    if [each.name for each in (folder / job.name).iterdir()] == [MARK]:
                        shutil.rmtree(folder / job.name)  # it could not begin: free to be asked for otherwise
                    raise
                _note(job, folder, "done", minutes=round((time.monotonic() - started) / 60, 2))
            yield job


def discard(jobs: Sequence[Job], folder: Path, stages: Sequence[str]) -> list[str]:
    """Delete the results of stages and of everything made from them; gives the jobs that had any.

    Raises:
        RecipeError: no such stage.
    """
    known = {job.stage.name for job in jobs}
    for name in stages:
        if name not in known:
            raise RecipeError(f"the plan has no stage {name!r}: it has {', '.join(sorted(known))}")
    gone: set[str] = set()
    made: list[str] = []
    for job in jobs:
        if job.stage.name in stages or gone & set(job.needs):
            gone.add(job.name)
            if (folder / job.name).exists():
                made.append(job.name)
            shutil.rmtree(folder / job.name, ignore_errors=True)
    return sorted(made)


def _work(plan: Plan, job: Job, folder: Path, *, command: str, listener: PlanListener, resume: bool) -> None:
    out, stage = folder / job.name, job.stage
    match stage:
        case TrainStage():
            assert job.recipe is not None
            if not resume:
                Run.check_new(out)
            finish_training(job.recipe, out, command=command, on_progress=listener.on_step)
        case OutOfFoldStage():
            _out_of_fold(stage, [folder / name for name in job.needs], out, listener)
        case EnsembleStage():
            _ensemble(plan, stage, job, folder, out / "model")
        case TuneStage():
            options = Options(tta=stage.tta)
            tune_model(_model(folder, job), _scenes(plan, stage.split), out=out / "model", options=options)
        case SubmissionStage():
            _submission(plan, stage, _model(folder, job), out, listener)
        case _:
            assert_never(stage)


def _out_of_fold(stage: OutOfFoldStage, runs: Sequence[Path], out: Path, listener: PlanListener) -> None:
    """Mean building probability of each scene over the runs that held it out, as 8-bit PNG files."""
    wanted: dict[str, tuple[Scene, list[Path]]] = {}
    for run in runs:
        recipe = build_config(TrainRecipe, load_yaml((run / "recipe.yaml").read_text()))
        if recipe.data.holdout is not None and recipe.data.holdout.compat_train_on_all:
            raise RecipeError(f"{run.name} learned from its validation scenes: no out-of-fold maps from it")
        for scene in choose_scenes(recipe.data, recipe.task).validation:
            wanted.setdefault(scene.name, (scene, []))[1].append(run)
    maps = out / "maps"
    options = Options(tta="half-turn" if stage.half_turn else "none")
    predictors = {run: open_predictor(run / "model", options) for run in runs}
    for done, (name, (scene, members)) in enumerate(sorted(wanted.items())):
        file = maps / f"{name}.png"
        if not file.exists():
            total = np.zeros((scene.height, scene.width), np.float32)
            for run in members:
                images = read_images(scene, dates=predictors[run].dates)
                total += 1 - predict_scene(predictors[run], images)[0]
            # cut, not rounded, as the winner's files
            stored = (total / len(members) * 255).astype(np.uint8)
            write_bytes(file, cv2.imencode(".png", stored)[1].tobytes(), parents=True, sync=False)
        listener.on_scene(done + 1, len(wanted))


def _ensemble(plan: Plan, stage: EnsembleStage, job: Job, folder: Path, out: Path) -> None:
    ingredients = []
    for name in job.needs:
        origin = name.rpartition("-")[0]
        if origin in stage.localization:
            ingredients.append(Ingredient(folder / name / "model", role="localization", group=origin))
        else:
            ingredients.append(Ingredient(folder / name / "model", role="damage"))
    named = {part.path: part.path.parent.name for part in ingredients}
    card, folders = compose(plan.name, ingredients, compat_uint8=stage.compat_uint8)
    renamed = {member: named[path] for member, path in folders.items()}
    members = tuple(m.model_copy(update={"folder": renamed[m.folder]}) for m in card.members)
    card = card.model_copy(
        update={
            "members": members,
            "building_threshold": stage.building_threshold,
            "class_thresholds": stage.class_thresholds,
            "minor_dilation": stage.minor_dilation,
        }
    )
    save_ensemble(out, card, {renamed[member]: path for member, path in folders.items()})


def _submission(plan: Plan, stage: SubmissionStage, model: Path, out: Path, listener: PlanListener) -> None:
    scenes = _scenes(plan, stage.split)
    if not scenes:
        raise RecipeError(f"stage {stage.name}: the data have no scenes in split {stage.split}")
    predictor = open_predictor(model, Options(tta=stage.tta))
    done = 0

    def on_scene(_: Scene) -> None:
        nonlocal done
        done += 1
        listener.on_scene(done, len(scenes))

    predict_scenes(predictor, scenes, out / "predictions", targets=out / "targets", on_scene=on_scene)
    labelled = [scene for scene in scenes if scene.is_labelled]
    if labelled:
        report = evaluate(predictor, labelled).report
        write_json(out / "score.json", report.as_dict())


def _scenes(plan: Plan, split: str) -> list[Scene]:
    wanted = build_config(DataConfig, dict(plan.data))
    pooled = [scene for path in wanted.manifests for scene in Manifest.load(path).scenes]
    return [s for s in pooled if split in ("all", s.split) and s.event not in wanted.exclude_events]


def _model(folder: Path, job: Job) -> Path:
    if len(job.needs) != 1:
        raise RecipeError(
            f"stage {job.name} takes one model, and {len(job.needs)} are there: put them into an ensemble"
        )
    return folder / job.needs[0] / "model"


def _is_done(folder: Path) -> bool:
    mark = folder / MARK
    return mark.is_file() and json.loads(mark.read_text())["status"] == "done"


def _note(job: Job, folder: Path, status: str, **facts: float) -> None:
    mark = folder / job.name / MARK
    write_json(mark, {"fingerprint": job.fingerprint, "status": status, **facts}, parents=True)
