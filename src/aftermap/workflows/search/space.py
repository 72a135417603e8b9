"""What a search may try: a YAML file with the study, a range for each recipe key, and keys that are fixed."""

import copy
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, field_validator, model_validator

from aftermap.config import Config, build_config, load_config, overridden, read_tree
from aftermap.errors import RecipeError
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import recipe_path

VALIDATION_LOSS = "validation-loss"

_METRICS = {
    "building": ("score", "loss", "localization_f1", VALIDATION_LOSS),
    "damage": (
        "score",
        "loss",
        "localization_f1",
        "official_score",
        "score_present",
        "building_macro_f1",
        "building_f1_destroyed",
        VALIDATION_LOSS,
    ),
}
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class StudyConfig(Config):
    """How a search goes about it.

    Attributes:
        metric: what is best: `score` (what the recipe selects by), any other number of an evaluation, or
            `validation-loss`, the recipe's objective over its validation scenes without augmentation.
        direction: by default losses are minimised and everything else is maximised.
        trials: how many.
        sampler: `tpe` (tree-structured Parzen estimators) or `random`.
        startup: trials drawn at random before `tpe` begins to choose.
        pruner: what ends a trial that falls behind: `median` of the others at the same step, `hyperband`, `none`.
        pruner_startup: complete trials before the median prunes anything.
        pruner_warmup: steps in which the median prunes nothing.
        seed: of the sampler; each trial's draw follows from it and the trial's number.
        compat_divide_by_images: the validation loss is the sum of the batches' means over the number of images, not
            over that of batches, as the Open Cities system's search has it: the same order, smaller numbers.
    """

    metric: str = "score"
    direction: Literal["maximize", "minimize"] | None = None
    trials: int = Field(default=20, ge=1)
    sampler: Literal["tpe", "random"] = "tpe"
    startup: int = Field(default=10, ge=1)
    pruner: Literal["median", "hyperband", "none"] = "median"
    pruner_startup: int = Field(default=5, ge=0)
    pruner_warmup: int = Field(default=0, ge=0)
    seed: int = 0
    compat_divide_by_images: bool = False

    @property
    def higher_is_better(self) -> bool:
        """The direction, the default filled in."""
        is_loss = self.metric == VALIDATION_LOSS or self.metric.split("_")[0] == "loss"
        return self.direction == "maximize" if self.direction else not is_loss


class Range(Config):
    """Values of one key; exactly one of the first four.

    Attributes:
        log: floats between two positive ends, evenly in their logarithm.
        uniform: floats between two ends.
        whole: `int` in the file: whole numbers, both ends included.
        choice: any values.
        step: distance of neighbouring values, for `uniform` and `int`.
    """

    log: tuple[float, float] | None = None
    uniform: tuple[float, float] | None = None
    whole: tuple[int, int] | None = Field(default=None, alias="int")
    choice: tuple[Any, ...] | None = None
    step: float | None = Field(default=None, gt=0)

    @field_validator("choice", mode="after")
    @classmethod
    def _exponents_are_numbers(cls, choice: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        """YAML reads 1e-3 as a word."""
        if choice is None:
            return None
        return tuple(float(v) if isinstance(v, str) and _EXPONENT.fullmatch(v) else v for v in choice)

    @model_validator(mode="after")
    def _one_of_four(self) -> Self:
        given = [
            name
            for name, value in zip(
                ("log", "uniform", "int", "choice"),
                (self.log, self.uniform, self.whole, self.choice),
                strict=True,
            )
            if value is not None
        ]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"a range is one of log, uniform, int, choice: {found}")
        ends = self.log or self.uniform or self.whole
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError(f"the range goes from {ends[0]} to {ends[1]}: put the lower end first")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"a log range cannot begin at {self.log[0]:g}: take uniform, or a positive end")
        if self.step is not None and (self.uniform is None and self.whole is None):
            raise ValueError(f"step goes with uniform and int, not with {given[0]}")
        if self.step is not None and self.whole is not None and not float(self.step).is_integer():
            raise ValueError(f"step {self.step:g} of an int range is no whole number")
        if self.choice is not None and len(self.choice) < 2:
            raise ValueError("a choice needs two values or more: put a single one under fixed")
        return self

    def distribution(self) -> BaseDistribution:
        """The range for Optuna; values that it cannot store are chosen by their JSON text."""
        if self.log is not None:
            return FloatDistribution(*self.log, log=True)
        if self.uniform is not None:
            return FloatDistribution(*self.uniform, step=self.step)
        if self.whole is not None:
            return IntDistribution(*self.whole, step=int(self.step or 1))
        return CategoricalDistribution([_label(value) for value in self.choice or ()])

    def value(self, drawn: Any) -> Any:
        """The recipe's value of what Optuna drew."""
        if self.choice is None:
            return drawn
        return next(value for value in self.choice if _label(value) == drawn)

    def corners(self) -> tuple[Any, ...]:
        """Values that show whether a recipe takes the range: its ends, or every choice."""
        return self.choice or self.log or self.uniform or self.whole or ()


class SearchSpace(Config):
    """A search.

    Attributes:
        study: how it goes about it.
        space: a range by dotted recipe key; parts of a list are counted from 0 (`objective.terms.1.weight`).
        fixed: values by dotted recipe key, for all trials alike.
    """

    study: StudyConfig = StudyConfig()
    space: dict[str, Range]
    fixed: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_something_to_search(self) -> Self:
        if not self.space:
            raise ValueError("space is empty: give a range to at least one recipe key")
        for key in self.space:
            above = [k for k in (*self.space, *self.fixed) if k != key and f"{key}.".startswith(f"{k}.")]
            if above or key in self.fixed:
                raise ValueError(f"{key} and {above[0] if above else key} set the same value")
        return self

    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges for Optuna."""
        return {key: wanted.distribution() for key, wanted in self.space.items()}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's values of what Optuna drew."""
        return {key: wanted.value(drawn[key]) for key, wanted in self.space.items() if key in drawn}

    def recipe(self, tree: Mapping[str, Any], values: Mapping[str, Any]) -> TrainRecipe:
        """The recipe of a trial.

        Args:
            tree: the recipe that is searched, as plain values.
            values: of the trial, by key.

        Raises:
            RecipeError: a key is unknown, or the values do not go together.
        """
        changed = copy.deepcopy(dict(tree))
        for key, value in {**self.fixed, **values}.items():
            _set(changed, key, value)
        return build_config(TrainRecipe, changed, source="space")


def load_space(path: Path, overrides: list[str] | None = None) -> SearchSpace:
    """Read a space from a YAML file; see `load_config`."""
    return load_config(SearchSpace, recipe_path(path), overrides or [])


def recipe_tree(path: Path, overrides: list[str]) -> dict[str, Any]:
    """A training recipe as plain values, overrides laid over it.

    Raises:
        RecipeError: it is no training recipe, or wrong.
    """
    file = recipe_path(path)
    tree = read_tree(file)
    kind = tree.pop("kind", "train")
    if kind != "train":
        raise RecipeError(f"{path} is of kind {kind}: a search takes a training recipe")
    tree = overridden(tree, overrides)
    build_config(TrainRecipe, tree, source=str(file))
    return tree


def check_space(tree: Mapping[str, Any], space: SearchSpace) -> None:
    """Build the recipe at every end of every range, before anything is trained.

    Raises:
        RecipeError: a key is unknown (the nearest is named), the recipe refuses a value, or the
            metric is nearly one that is known.
    """
    # keys one by one, from a recipe that is right: values that only a combination allows would fail together
    first = {key: wanted.corners()[0] for key, wanted in space.space.items()}
    recipe = None
    for key, wanted in space.space.items():
        for corner in wanted.corners():
            recipe = space.recipe(tree, first | {key: corner})
    assert recipe is not None
    metric, known = space.study.metric, _METRICS[recipe.task]
    of_damage = metric.startswith("f1_") or metric in _METRICS["damage"]
    if recipe.task == "building" and of_damage and metric not in known:
        raise RecipeError(
            f"study.metric {metric!r} tells of damage, and the recipe's task is building: use score, or one of "
            f"{', '.join(known[1:])}"
        )
    near = difflib.get_close_matches(metric, known, n=1, cutoff=0.7)
    # what else an evaluation tells depends on the recipe: the first one will say
    if near and metric not in known and not metric.startswith(("loss_", "f1_")):
        raise RecipeError(f"study.metric {metric!r}: did you mean {near[0]!r}?")


def with_lists(tree: Mapping[str, Any], recipe: TrainRecipe, keys: Iterable[str]) -> dict[str, Any]:
    """A recipe's plain values, with the default lists that keys reach into (`objective.terms.0.weight`) written out."""
    filled, complete = copy.deepcopy(dict(tree)), recipe.model_dump(mode="json")
    for key in keys:
        parts = key.split(".")
        places = [number for number, part in enumerate(parts) if part.isdigit()]
        if not places:
            continue
        given: Any = filled
        default: Any = complete
        for part in parts[: places[0]]:
            given = given.get(part) if isinstance(given, dict) else None
            default = default.get(part) if isinstance(default, dict) else None
        if given is None and isinstance(default, list):
            _set(filled, ".".join(parts[: places[0]]), default)
    return filled


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """Lay a value over a tree of groups and lists."""
    *parents, leaf = key.split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        if isinstance(node, list):
            node = node[_place(node, part, key)]
        else:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        if not isinstance(node, dict | list):
            raise RecipeError(
                f"space: {key}: {'.'.join(parents[: depth + 1])} is a value, not a group of keys"
            )
    if isinstance(node, list):
        node[_place(node, leaf, key)] = copy.deepcopy(value)
    else:
        node[leaf] = copy.deepcopy(value)


def _place(items: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise RecipeError(f"space: {key}: {part!r} is no place in a list of {len(items)}, counted from 0")
    return int(part)


def _label(value: Any) -> Any:
    """What Optuna stores of a choice."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
