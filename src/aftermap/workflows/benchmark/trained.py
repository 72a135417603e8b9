"""Recipes and plans that are trained for a benchmark, on what its protocol allows and nothing else."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aftermap.config import Config, read_tree
from aftermap.data.scene import Manifest, Split
from aftermap.errors import DataError, InputError
from aftermap.files.plain_json import read_json
from aftermap.workflows.benchmark.entrants import FOLD, Entrant
from aftermap.workflows.benchmark.protocol import Fold, Protocol, hashed
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import recipe_path

if TYPE_CHECKING:
    from aftermap.workflows.plans.plan import Job, Plan
    from aftermap.workflows.training.training_kind import TrainingProgress

OnTraining = Callable[[str, int, int], None]


def trained_recipe(
    name: str,
    recipe: str,
    protocol: Protocol,
    manifest: Manifest,
    runs: Path,
    *,
    seeds: Sequence[int],
    overrides: Sequence[str],
    on_training: OnTraining,
) -> Entrant:
    """Train a recipe or a plan for every fold and seed; runs that are finished are taken, interrupted ones go on.

    Args:
        name: of the row.
        recipe: a file, or the name of one that comes along: of kind train or meta-train, or a plan, whose last model is
            compared.
        protocol: says what may be learned from.
        manifest: the scenes.
        runs: folder for the runs, and for the dataset of each fold.
        seeds: of the runs.
        overrides: `key=value` words for the recipe; those for a plan's recipes begin with `each.`. `{fold}` in them
            stands for the fold's name.
        on_training: told the stage, and steps done and in all.

    Raises:
        InputError: a recipe of another kind, or a plan that ends without a model.
        AftermapError: what a training raises.
    """
    models, begun_from, seconds = {}, {}, list[float | None]()
    for fold, seed in itertools.product(protocol.folds, seeds):
        folder, key = runs / f"{name}-{fold.name}-{seed}", (fold.name, seed)
        words = [word.replace(FOLD, fold.name) for word in overrides]
        if is_plan(recipe):
            data = fold_manifest(fold, manifest).save(runs / f"{fold.name}.json")
            made = _run_plan(
                recipe, folder, [f"data.manifests=[{data}]", f"seeds=[{seed}]", *words], on_training
            )
        else:
            is_meta = _kind(recipe) == "meta-train"
            own = (
                _meta_words(fold, manifest, runs, protocol.seed) if is_meta else _words(fold, manifest, runs)
            )
            made = _run_recipe(recipe, folder, [*own, f"seed={seed}", *words], on_training)
        models[key], begun_from[key] = str(made.model), made.begun_from
        seconds.append(made.seconds)
    known = [value for value in seconds if value is not None]
    return Entrant(
        name,
        models,
        trained=True,
        seeds=tuple(seeds),
        begun_from=begun_from,
        training_seconds=round(sum(known) / len(known), 1) if len(known) == len(seconds) else None,
    )


def check_recipe(recipe: str, overrides: Sequence[str]) -> None:
    """Read a recipe or a plan before anything is trained.

    Raises:
        RecipeError: there is no such file, or a key or value is wrong.
        InputError: it is of another kind, or makes no model of damage.
    """
    words = [word.replace(FOLD, "fold") for word in overrides]
    if is_plan(recipe):
        _plan_jobs(recipe, Path("plan"), ["data.manifests=[data]", *words])
    else:
        data = ["data.manifests=[data]"]
        _settings(
            recipe,
            [*data, *(["data.validation_events=[x]"] if _kind(recipe) == "meta-train" else []), *words],
        )


def is_plan(recipe: str) -> bool:
    """Whether a recipe file is a plan of several trainings.

    Raises:
        RecipeError: there is no such file.
    """
    return "stages" in read_tree(recipe_path(recipe))


@dataclass(frozen=True)
class _Made:
    """A model, what its trainings began with that is not of this benchmark, and the processor time that they took."""

    model: Path
    begun_from: tuple[str, ...]
    seconds: float | None


def fold_manifest(fold: Fold, manifest: Manifest) -> Manifest:
    """The scenes that a fold learns from and is tested on, in its splits."""
    splits: dict[str, Split] = dict(_splits(fold))
    scenes = [s.model_copy(update={"split": splits[s.name]}) for s in manifest.scenes if s.name in splits]
    return manifest.model_copy(update={"scenes": scenes})


def _splits(fold: Fold) -> Iterator[tuple[str, Split]]:
    parts: tuple[tuple[Split, tuple[str, ...]], ...] = (
        ("train", fold.train),
        ("validation", fold.validation),
        ("test", fold.test),
    )
    for split, names in parts:
        yield from ((name, split) for name in names)


def _words(fold: Fold, manifest: Manifest, runs: Path) -> list[str]:
    """What tells an ordinary recipe its data."""
    data = fold_manifest(fold, manifest).save(runs / f"{fold.name}.json")
    return [f"data.manifests=[{data}]"]


def _meta_words(fold: Fold, manifest: Manifest, runs: Path, seed: int) -> list[str]:
    """What tells a recipe of meta-training its data: no tested scene, and one event by hash that chooses the best step.

    Raises:
        DataError: fewer than two other events.
    """
    learned = {*fold.train, *fold.validation}
    scenes = [scene for scene in manifest.scenes if scene.name in learned]
    events = sorted({scene.event for scene in scenes}, key=lambda event: hashed(seed, event))
    if len(events) < 2:
        raise DataError(f"fold {fold.name}: meta-training takes two other events, there are {len(events)}")
    others = manifest.model_copy(update={"scenes": scenes}).save(runs / f"{fold.name}-others.json")
    return [f"data.manifests=[{others}]", f"data.validation_events=[{events[0]}]"]


def _kind(recipe: str) -> str:
    """Which kind a recipe is of; one of meta-training may leave its events to the protocol, so that it is not complete.

    Raises:
        InputError: of none that a benchmark trains.
    """
    from aftermap.workflows.kinds import kind_of

    kind = kind_of(read_tree(recipe_path(recipe)), recipe)
    if kind not in ("train", "meta-train"):
        raise InputError(
            f"{recipe} is of kind {kind}: a benchmark trains recipes of kind train and meta-train, and plans"
        )
    return kind


def _run_recipe(recipe: str, folder: Path, words: Sequence[str], on_training: OnTraining) -> _Made:
    """One run; a finished one is taken, an interrupted one goes on, if it was begun with these settings.

    Raises:
        InputError: it was not.
    """
    from aftermap.workflows.kinds import read_recipe, train_recipe

    settings = _settings(recipe, words)
    status = ""
    if (folder / "run.json").is_file():
        status = str(read_json(folder / "run.json").get("status"))
        _, begun = read_recipe(folder / "recipe.yaml", kind=_kind(recipe))
        ours, theirs = settings.model_dump(mode="json"), begun.model_dump(mode="json")
        changed = sorted(key for key in ours if ours[key] != theirs.get(key))
        if changed:
            raise InputError(
                f"{folder} was trained with other settings ({', '.join(changed)}): move it away, or name another --out"
            )
    if status != "complete":
        train_recipe(
            settings,
            folder,
            resume=bool(status),
            on_progress=lambda now: on_training(f"{folder.name}: {now.stage}", now.done, now.total),
        )
    return _Made(folder / "model", _from_elsewhere(settings, folder), _seconds([folder]))


def _run_plan(recipe: str, folder: Path, words: Sequence[str], on_training: OnTraining) -> _Made:
    """All stages of a plan; done ones are passed over.

    Raises:
        RecipeError: a stage was done with other settings.
    """
    from aftermap.workflows.plans.stages import PlanListener, run_jobs

    folder = folder.resolve()
    plan, jobs = _plan_jobs(recipe, folder, words)
    last = _last_model(jobs, recipe)
    names = [f"{folder.name}:"]

    def on_step(now: "TrainingProgress") -> None:
        on_training(f"{folder.name}, {names[-1]}: {now.stage}", now.done, now.total)

    listener = PlanListener(on_job=lambda job, _: names.append(job.name), on_step=on_step)
    for _ in run_jobs(plan, jobs, folder, command="aftermap benchmark", listener=listener):
        pass
    learned = [job for job in jobs if job.recipe is not None]
    begun_from = [path for job in learned if job.recipe for path in _from_elsewhere(job.recipe, folder)]
    return _Made(
        folder / last.name / "model", tuple(begun_from), _seconds([folder / job.name for job in learned])
    )


def _settings(recipe: str, words: Sequence[str]) -> Config:
    """What a recipe says, about damage."""
    from aftermap.workflows.kinds import read_recipe

    _kind(recipe)
    _, settings = read_recipe(recipe, words)
    if isinstance(settings, TrainRecipe) and settings.task != "damage":
        raise InputError(f"{recipe} learns task {settings.task}: a benchmark compares models of damage")
    return settings


def _plan_jobs(recipe: str, folder: Path, words: Sequence[str]) -> tuple["Plan", list["Job"]]:
    """A plan and its jobs, of which the last model is of damage."""
    from aftermap.workflows.plans.plan import load_plan, plan_jobs

    plan, recipes = load_plan(recipe_path(recipe), list(words))
    jobs = plan_jobs(plan, recipes, folder)
    last = _last_model(jobs, recipe)
    if last.recipe is not None and last.recipe.task != "damage":
        raise InputError(f"{recipe} ends with task {last.recipe.task}: a benchmark compares models of damage")
    return plan, jobs


def _last_model(jobs: Sequence["Job"], recipe: str) -> "Job":
    models = [job for job in jobs if job.stage.kind in ("train", "ensemble", "tune-thresholds")]
    if not models:
        raise InputError(f"{recipe} makes no model: a benchmark compares the last one of a plan")
    return models[-1]


def _from_elsewhere(recipe: Config, folder: Path) -> tuple[str, ...]:
    """Models that a recipe begins with or is taught by, but for those of its own plan in a folder."""
    teachers = getattr(getattr(recipe, "objective", None), "teachers", {})
    wanted = [getattr(recipe, name, None) for name in ("init_from", "second_from")]
    wanted += [teacher.model for teacher in teachers.values()]
    return tuple(str(path) for path in wanted if path and not str(path).startswith(f"{folder}{os.sep}"))


def _seconds(runs: Sequence[Path]) -> float | None:
    """Processor time of some runs; None where one does not tell."""
    told = [read_json(run / "run.json").get("cpu_seconds") for run in runs]
    return None if None in told else float(sum(told))
