"""What a recipe of self-training can say: a teacher labels what has no labels, and students learn from that."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from aftermap.artefacts.ensemble_card import Averaging
from aftermap.classes import BUILDING, DAMAGE, ClassScheme
from aftermap.config import Config, build_config, merge, read_tree
from aftermap.data.scene import Split
from aftermap.errors import RecipeError
from aftermap.inference.ensemble import Options
from aftermap.inference.tta import Tta
from aftermap.workflows.adaptation.guard import GuardConfig
from aftermap.workflows.training.config import DataConfig, LearnedTask, TrainRecipe
from aftermap.workflows.training.recipe_files import recipe_path

Tree = dict[str, Any]


def whole_tree(tree: Any) -> Any:
    """Keys of a training recipe, laid over those of the recipe that `extends` names."""
    if not isinstance(tree, dict) or "extends" not in tree:
        return tree
    own = {key: value for key, value in tree.items() if key != "extends"}
    return merge(read_tree(recipe_path(str(tree["extends"]))), own)


TrainingTree = Annotated[Tree, BeforeValidator(whole_tree)]
"""Keys of a training recipe, whole."""


class PoolConfig(Config):
    """Scenes that the teacher labels.

    Attributes:
        manifests: prepared datasets.
        splits: which of their scenes.
        events: only these events; all where empty.
        max_scenes: at most so many, spread evenly; 0 takes all.
        hide_labels: take scenes that have labels too and never look at them, to measure what self-training brings
            where the truth is known; otherwise only scenes without labels are taken.
    """

    manifests: list[Path] = Field(min_length=1)
    splits: tuple[Split, ...] = ("train", "unassigned")
    events: list[str] = Field(default_factory=list)
    max_scenes: int = Field(default=0, ge=0)
    hide_labels: bool = False


class FirstTeacherConfig(Config):
    """The first teacher: a model that is there, or a training recipe to make it from the labelled scenes.

    Attributes:
        model: a model folder, an ensemble folder, or `box`.
        recipe: keys of a training recipe; `extends` names one to build on, as given or among those shipped.
    """

    model: str | None = None
    recipe: TrainingTree | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "FirstTeacherConfig":
        if (self.model is None) == (self.recipe is None):
            raise ValueError(
                "give the teacher a model (a folder) or a recipe (to train it), one of the two and null for the other"
            )
        return self


class PredictConfig(Config):
    """How the pool is predicted.

    Attributes:
        tta, scales, averaging: see `inference.ensemble.Options`.
        seeds: so many models of different seeds are trained in each round (and as teacher, where it is trained), and
            their mean is what is judged and labels the pool.
        device: `cpu`, `cuda` or `cuda:n`.
        black_is_missing: squares of 15 px that are 0 in all bands of a date get no label: mosaics are black where they
            end.
    """

    tta: Tta = "flips"
    scales: tuple[float, ...] = (1.0,)
    averaging: Averaging | None = None
    seeds: int = Field(default=1, ge=1)
    device: str = "cpu"
    black_is_missing: bool = True

    @property
    def options(self) -> Options:
        """How the teacher is opened."""
        return Options(device=self.device, tta=self.tta, scales=self.scales, averaging=self.averaging)


class LabelsConfig(Config):
    """Which predictions become labels.

    Attributes:
        kind: `soft` keeps the probabilities; `hard` keeps the likeliest class, all or nothing.
        ignored: pixels whose p(building) lies between the two become unknown; of several classes the likeliest must be
            above the second. None is 0.4 to 0.6 for hard labels and nothing for soft ones.
        min_confidence: least probability of the likeliest class, for all classes or by name; less becomes unknown.
        class_prior_cap: a class other than the background takes at most this many times its share in the labelled
            scenes; the least confident pixels beyond become unknown. None leaves the shares alone.
        min_scene_confidence: scenes whose mean probability of the likeliest class is lower are rejected.
        max_scenes: the most confident scenes, those in which the teacher sees a building before the others; 0 takes all.
    """

    kind: Literal["soft", "hard"] = "soft"
    ignored: tuple[float, float] | None = None
    min_confidence: float | dict[str, float] = 0.0
    class_prior_cap: float | None = Field(default=None, gt=0)
    min_scene_confidence: float = Field(default=0.0, ge=0, le=1)
    max_scenes: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _in_range(self) -> "LabelsConfig":
        if self.ignored is not None and not 0 <= self.ignored[0] <= self.ignored[1] <= 1:
            raise ValueError(
                f"ignored is {list(self.ignored)}, expected two rising probabilities such as [0.4, 0.6]"
            )
        least = self.min_confidence
        for value in least.values() if isinstance(least, dict) else (least,):
            if not 0 <= value <= 1:
                raise ValueError(f"min_confidence is {value:g}, expected a probability from 0 to 1")
        return self

    @property
    def band(self) -> tuple[float, float] | None:
        """The probabilities of a building between which nothing is said."""
        return self.ignored or ((0.4, 0.6) if self.kind == "hard" else None)

    def least_confidence(self, scheme: ClassScheme) -> list[float]:
        """Least confidence of every class.

        Raises:
            RecipeError: a name that is no class.
        """
        if isinstance(self.min_confidence, float):
            return [self.min_confidence] * len(scheme)
        for name in self.min_confidence:
            if name not in scheme.names:
                raise RecipeError(
                    f"labels.min_confidence names {name!r}: the classes are {', '.join(scheme.names)}"
                )
        return [self.min_confidence.get(name, 0.0) for name in scheme.names]


class NegativesConfig(Config):
    """Scenes without any building, found by the teacher, that become all background.

    Attributes:
        ratio: at most this many times the number of labelled scenes; 0 looks for none.
        threshold: probabilities below it say that there is no building.
        rule: whose: the model's `classifier` of whole images, the highest of its `map`, or `both` (Open Cities).
        sources: where they are looked for: the whole `pool`, or the scenes whose labels were `rejected`.
    """

    ratio: float = Field(default=0.0, ge=0)
    threshold: float = Field(default=0.2, ge=0, le=1)
    rule: Literal["classifier", "map", "both"] = "both"
    sources: Literal["pool", "rejected"] = "pool"


class RoundConfig(Config):
    """What a round does differently: keys laid over those of the recipe."""

    student: TrainingTree = Field(default_factory=dict)
    predict: Tree = Field(default_factory=dict)
    labels: Tree = Field(default_factory=dict)
    negatives: Tree = Field(default_factory=dict)


class SelfTrainingRecipe(Config):
    """Rounds of predicting, selecting and learning.

    Attributes:
        data: the labelled scenes; the validation scenes choose every student's best step and, by default, judge it.
        pool: the others.
        student: keys of a training recipe, as `teacher.recipe`; its data are set here.
        start: whether a student begins anew, or with what it can take of its teacher's weights.
        rounds: what each does differently; a number stands for so many equal rounds.
        guard: when a student replaces its teacher.
        evidence: what judges: the labelled `validation` scenes, or the agreement between views of the `pool`.
        seed: added to the seeds of teacher and student.
    """

    kind: Literal["self-training"] = "self-training"
    name: str
    task: LearnedTask
    data: DataConfig
    pool: PoolConfig
    teacher: FirstTeacherConfig
    student: TrainingTree
    start: Literal["fresh", "teacher"] = "fresh"
    rounds: list[RoundConfig] = Field(default_factory=lambda: [RoundConfig()], min_length=1)
    predict: PredictConfig = PredictConfig()
    labels: LabelsConfig = LabelsConfig()
    negatives: NegativesConfig = NegativesConfig()
    guard: GuardConfig = GuardConfig()
    evidence: Literal["validation", "pool"] = "validation"
    seed: int = 0

    @property
    def scheme(self) -> ClassScheme:
        """Class scheme of the task."""
        return BUILDING if self.task == "building" else DAMAGE

    @field_validator("rounds", mode="before")
    @classmethod
    def _number_of_rounds(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return [{} for _ in range(value)]
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "SelfTrainingRecipe":
        if self.data.holdout is not None:
            raise ValueError(
                "data.holdout leaves neighbours of the validation scenes to learn from, and they judge every student: "
                "give them a split of their own with 'aftermap data split'"
            )
        if self.start == "teacher" and self.predict.seeds > 1:
            raise ValueError(
                f"start: teacher takes the weights of one model, predict.seeds is {self.predict.seeds}"
            )
        return self


def round_recipe(recipe: SelfTrainingRecipe, number: int) -> SelfTrainingRecipe:
    """The recipe as round `number` (from 1) has it, its own keys laid over the others.

    Raises:
        RecipeError: a key or value of the round is wrong.
    """
    own = recipe.rounds[number - 1].model_dump(mode="json")
    tree = merge(recipe.model_dump(mode="json"), own) | {"rounds": [{}]}
    if own["predict"].get("seeds", recipe.predict.seeds) != recipe.predict.seeds:
        raise RecipeError(f"rounds.{number - 1}.predict.seeds: all rounds have the same number of seeds")
    made = build_config(SelfTrainingRecipe, tree, source=f"round {number}")
    made.labels.least_confidence(made.scheme)
    return made


def teacher_recipe(recipe: SelfTrainingRecipe, *, member: int = 0) -> TrainRecipe:
    """The training of the first teacher, on the labelled scenes alone."""
    assert recipe.teacher.recipe is not None
    tree = _common(recipe, recipe.teacher.recipe, "teacher", member)
    tree["data"] = recipe.data.model_dump(mode="json") | {"unlabelled": False}
    return build_config(TrainRecipe, tree, source="teacher.recipe")


def student_recipe(
    recipe: SelfTrainingRecipe, number: int, manifest: Path, *, member: int = 0, teacher: Path | None = None
) -> TrainRecipe:
    """The training of a round's student.

    Args:
        recipe: as the round has it; see `round_recipe`.
        number: of the round, from 1.
        manifest: labelled scenes and those with the teacher's labels.
        member: which of the seeds.
        teacher: the model it begins with, where it does not begin anew.

    Raises:
        RecipeError: a key or value is wrong, or the objective cannot learn from soft labels.
    """
    tree = _common(recipe, recipe.student, f"student-{number}", member)
    objective = dict(tree.get("objective") or {})
    if objective.get("kind", "supervised") not in ("supervised", "heads"):
        raise RecipeError(
            f"student.objective.kind {objective['kind']} does not learn from a teacher's stored labels: "
            "use supervised or heads"
        )
    objective["soft"] = {"kind": recipe.labels.kind} | dict(objective.get("soft") or {})
    tree["objective"] = objective
    labels = f"{recipe.data.description or recipe.name} with a teacher's labels of round {number}"
    tree["data"] = {
        "manifests": [str(manifest)],
        "unlabelled": True,
        "description": labels,
        "licence": recipe.data.licence,
    }
    if recipe.start == "teacher" and teacher is not None:
        tree["init_from"] = str(teacher)
    return build_config(TrainRecipe, tree, source="student")


def _common(recipe: SelfTrainingRecipe, keys: Tree, role: str, member: int) -> Tree:
    """Keys that the self-training sets in teacher and student alike."""
    tree = merge({}, keys)
    said = tree.get("task", recipe.task)
    if said != recipe.task:
        raise RecipeError(f"the {role} is a recipe for task {said}, the self-training is for {recipe.task}")
    suffix = f"-{member}" if recipe.predict.seeds > 1 else ""
    seed = int(tree.get("seed") or 0) + recipe.seed + member
    return tree | {"name": f"{recipe.name}-{role}{suffix}", "task": recipe.task, "seed": seed}
