"""Plans: training runs and what comes between them, chained by name, for several seeds, in one file."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from aftermap.config import Config, build_config, load_config, merge, read_tree
from aftermap.data.scene import Split
from aftermap.errors import RecipeError
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import recipe_path


class TrainStage(Config):
    """A training recipe, run once per seed.

    Attributes:
        recipe: a recipe file, relative to the plan's.
        seeds: the plan's where None; `seed` of the recipe and of its hold-out are moved by it.
        init_from: an earlier training stage; its model of the same seed is the start.
        localization: an earlier `out-of-fold` stage; its maps say where buildings are when damage is scored.
        teachers: earlier stages by the names that the recipe's objective gives its teachers: a training stage's model
            of the same seed, or an ensemble.
        overrides: keys of the recipe, like `each`.
    """

    kind: Literal["train"] = "train"
    name: str
    recipe: Path
    seeds: tuple[int, ...] | None = None
    init_from: str | None = None
    localization: str | None = None
    teachers: dict[str, str] = Field(default_factory=dict)
    overrides: dict[str, Any] = Field(default_factory=dict)


class OutOfFoldStage(Config):
    """Building probabilities of every validation scene, averaged over the models that did not learn from it.

    Attributes:
        members: localization stages.
        half_turn: average with the prediction of the image turned by 180 degrees, as the winner did.
    """

    kind: Literal["out-of-fold"]
    name: str
    members: tuple[str, ...]
    half_turn: bool = True


class EnsembleStage(Config):
    """The models of some stages, all seeds, as one ensemble folder.

    Attributes:
        localization, damage: training stages whose models give the buildings and their damage.
        class_thresholds: building threshold by winning damage class; None keeps one threshold.
        minor_dilation: what minor damage takes from its neighbours afterwards.
        compat_uint8: members are rounded down to 8 bits before they are averaged, as the winner's PNG files were.
    """

    kind: Literal["ensemble"]
    name: str
    localization: tuple[str, ...] = ()
    damage: tuple[str, ...]
    building_threshold: float = 0.5
    class_thresholds: tuple[float, float, float, float] | None = None
    minor_dilation: Literal["none", "right", "compat"] = "none"
    compat_uint8: bool = False


class TuneStage(Config):
    """Thresholds and class weights of a model, chosen on validation scenes by the official score."""

    kind: Literal["tune-thresholds"]
    name: str
    model: str
    split: Split = "validation"
    tta: Literal["none", "flips"] = "flips"


class SubmissionStage(Config):
    """Predictions as PNGs in the competition's naming, and their score where there are labels."""

    kind: Literal["submission"]
    name: str
    model: str
    split: Split | Literal["all"] = "test"
    tta: Literal["none", "flips"] = "flips"


PlanStage = Annotated[
    TrainStage | OutOfFoldStage | EnsembleStage | TuneStage | SubmissionStage, Field(discriminator="kind")
]


class Plan(Config):
    """A plan file.

    Attributes:
        data: laid over the `data` of every recipe; `manifests` at least.
        seeds: every training stage runs once for each.
        each: keys (dotted, or in groups) set in every training recipe.
        stages: in order; a stage may refer to those before it.
    """

    name: str
    data: dict[str, Any]
    seeds: tuple[int, ...] = (0,)
    each: dict[str, Any] = Field(default_factory=dict)
    stages: list[PlanStage]

    @model_validator(mode="after")
    def _stages_refer_back(self) -> "Plan":
        kinds: dict[str, str] = {}
        for stage in self.stages:
            if stage.name in kinds:
                raise ValueError(f"two stages are called {stage.name}")
            for name, wanted in _references(stage):
                if kinds.get(name) not in wanted:
                    raise ValueError(
                        f"stage {stage.name} refers to {name!r}, which is no earlier stage of kind {' or '.join(wanted)}"
                    )
            kinds[stage.name] = stage.kind
        return self


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of work: a stage, for one seed where it trains.

    Attributes:
        needs: names of the jobs whose results it uses.
        recipe: the resolved training recipe.
        fingerprint: changes with everything that the result follows from.
    """

    name: str
    stage: TrainStage | OutOfFoldStage | EnsembleStage | TuneStage | SubmissionStage
    needs: tuple[str, ...]
    recipe: TrainRecipe | None
    fingerprint: str


def load_plan(path: Path, overrides: list[str]) -> tuple[Plan, Path]:
    """Read a plan; its recipes are found relative to the folder that is returned too."""
    found = recipe_path(path)
    return load_config(Plan, found, overrides), found.parent


def plan_jobs(plan: Plan, recipes: Path, folder: Path) -> list[Job]:
    """Jobs of a plan in an order that respects what they need.

    Args:
        plan: what is wanted.
        recipes: folder that recipe paths are relative to.
        folder: where results go, one folder per job.

    Raises:
        RecipeError: a recipe cannot be read or does not fit.
    """
    jobs: list[Job] = []
    by_stage: dict[str, list[Job]] = {}
    for stage in plan.stages:
        made: list[Job] = []
        if isinstance(stage, TrainStage):
            for seed in plan.seeds if stage.seeds is None else stage.seeds:
                made.append(_training_job(plan, stage, seed, recipes, folder, by_stage))
        else:
            needed = [job for name, _ in _references(stage) for job in by_stage[name]]
            mark = {"stage": stage.model_dump(mode="json"), "data": plan.data}
            made.append(
                Job(stage.name, stage, tuple(j.name for j in needed), None, _fingerprint(mark, needed))
            )
        by_stage[stage.name] = made
        jobs += made
    return jobs


def _training_job(
    plan: Plan, stage: TrainStage, seed: int, recipes: Path, folder: Path, by_stage: dict[str, list[Job]]
) -> Job:
    path = recipes / stage.recipe
    tree = merge(read_tree(path), {"data": plan.data})
    tree["seed"] = int(tree.get("seed", 0)) + seed
    if isinstance(tree["data"].get("holdout"), dict):
        tree["data"]["holdout"] = {**tree["data"]["holdout"], "seed": seed}
    needs: list[Job] = []
    if stage.init_from is not None:
        needs.append(_of_seed(stage, stage.init_from, seed, by_stage))
        tree["init_from"] = str(folder / needs[-1].name / "model")
    for teacher, source in stage.teachers.items():
        needs.append(_of_seed(stage, source, seed, by_stage))
        model = {"model": str(folder / needs[-1].name / "model")}
        tree = merge(tree, {"objective": {"teachers": {teacher: model}}})
    if stage.localization is not None:
        needs += by_stage[stage.localization]
        tree["selection"] = {
            **tree.get("selection", {}),
            "localization": str(folder / stage.localization / "maps"),
        }
    words = [f"{key}={json.dumps(value)}" for key, value in _leaves(merge(plan.each, stage.overrides))]
    recipe = build_config(TrainRecipe, tree, words, source=str(path))
    return Job(
        job_name(stage.name, seed),
        stage,
        tuple(job.name for job in needs),
        recipe,
        _fingerprint({"recipe": recipe.model_dump(mode="json")}, needs),
    )


def _of_seed(stage: TrainStage, source: str, seed: int, by_stage: dict[str, list[Job]]) -> Job:
    """The job of an earlier stage that belongs to a seed: its own, or the only one of a stage without seeds."""
    jobs = by_stage[source]
    if jobs and not isinstance(jobs[0].stage, TrainStage):
        return jobs[0]
    for job in jobs:
        if job.name == job_name(source, seed):
            return job
    raise RecipeError(f"stage {stage.name} wants seed {seed} of {source}, which has no such seed")


def job_name(stage: str, seed: int) -> str:
    """Name of a training job, and of its run folder."""
    return f"{stage}-{seed}"


def _references(stage: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Names that a stage refers to, each with the kinds that it may have."""
    match stage:
        case TrainStage():
            found: list[tuple[str, tuple[str, ...]]] = []
            if stage.init_from is not None:
                found.append((stage.init_from, ("train",)))
            if stage.localization is not None:
                found.append((stage.localization, ("out-of-fold",)))
            found += [(name, ("train", "ensemble")) for name in stage.teachers.values()]
            return found
        case OutOfFoldStage():
            return [(name, ("train",)) for name in stage.members]
        case EnsembleStage():
            return [(name, ("train",)) for name in (*stage.localization, *stage.damage)]
        case _:
            return [(stage.model, ("train", "ensemble", "tune-thresholds"))]


def _leaves(tree: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of a tree of groups."""
    return [
        leaf
        for key, value in tree.items()
        for leaf in (
            _leaves(value, f"{above}{key}.") if isinstance(value, dict) else [(f"{above}{key}", value)]
        )
    ]


def _fingerprint(mark: dict[str, Any], needs: list[Job]) -> str:
    text = json.dumps([mark, [job.fingerprint for job in needs]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
