"""Which buildings are to be looked at: a random sample for the totals and picks for the model, within a budget.

OUT/review/plan.json    budget, shares, seed, and the picks that were made; the sample lies beside it
"""

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aftermap.errors import InputError
from aftermap.files import read_json, write_json
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import FOLDER

PLAN = "plan.json"
BATCH = 10
"""Picks made at a time: the next ones know the answers to these."""


class Plan(BaseModel):
    """What a review is to look at.

    Attributes:
        outlines_sha256: of the map, so that a plan of other buildings is not followed.
        budget: buildings to look at, sample and picks together.
        active: share of the budget that is picked for the model.
        double: share of the sample that two people look at.
        seed: of the sample, and of which buildings are read twice.
        picks: building ids that were picked for the model so far, in order.
    """

    model_config = ConfigDict(extra="forbid")

    outlines_sha256: str
    budget: int = Field(100, ge=1, le=1_000_000)
    active: float = Field(0.3, ge=0, le=1)
    double: float = Field(0.1, ge=0, le=1)
    seed: int = Field(0, ge=0)
    picks: list[str] = []

    @property
    def picks_wanted(self) -> int:
        """Buildings to be picked for the model."""
        return int(self.budget * self.active + 0.5)

    @property
    def sample_wanted(self) -> int:
        """Buildings to be drawn at random."""
        return self.budget - self.picks_wanted

    def is_double(self, building_id: str) -> bool:
        """Whether two people look at a building of the sample."""
        digest = hashlib.sha256(f"{self.seed}:{building_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.double * 2**64


class Picker(Protocol):
    """Chooses buildings whose answers would teach the model most."""

    def __call__(self, found: FinishedMap, known: Collection[str], count: int, seed: int) -> list[str]:
        """Ids of at most so many buildings, best first, none of them among those that need no answer."""


def open_plan(
    found: FinishedMap,
    *,
    budget: int | None = None,
    active: float | None = None,
    double: float | None = None,
    seed: int | None = None,
) -> Plan:
    """The plan of a map: that of the last time, with what is given now in its place.

    Raises:
        InputError: the plan is of other buildings, or a value is out of range; the seed of a sample that was drawn
            cannot change.
        OutputError: it cannot be written.
    """
    path = found.folder / FOLDER / PLAN
    given = {"budget": budget, "active": active, "double": double, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    before: dict[str, object] = {}
    if path.exists():
        tree = read_json(path)
        if not isinstance(tree, dict):
            raise InputError(f"{path} is no plan of a review: remove it, the answers stay")
        if tree.get("outlines_sha256") != found.outlines_sha256:
            raise InputError(
                f"{path.parent} is the review of other buildings than those of the map, whose outlines have changed: "
                f"move it away, or export its answers from the old map and import them"
            )
        before = tree
        if seed is not None and seed != before.get("seed"):
            raise InputError(
                f"the sample was drawn with --seed {before.get('seed')}: it cannot change, leave it out"
            )
    tree = {"outlines_sha256": found.outlines_sha256, **before, **chosen}
    try:
        plan = Plan.model_validate(tree)
    except ValidationError as error:
        told = error.errors()[0]
        name = ".".join(str(part) for part in told["loc"])
        raise InputError(f"--{name} {told.get('input')}: {told['msg'].lower()}") from None
    if tree != before:
        save_plan(found, plan)
    return plan


def save_plan(found: FinishedMap, plan: Plan) -> None:
    """Write a plan.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(found.folder / FOLDER / PLAN, plan.model_dump(), parents=True)


def extend_picks(
    found: FinishedMap, plan: Plan, sample: Collection[str], known: Collection[str], pick: Picker
) -> bool:
    """Pick a further batch within the budget; whether there were any.

    Args:
        found: the map.
        plan: it gets the picks, and is saved.
        sample: ids of the random sample, which are looked at anyway: a pick that it took in later counts there.
        known: ids of further buildings that need no answer for the model, as they have one.
        pick: chooses.

    Raises:
        OutputError: the plan cannot be saved.
    """
    drawn = set(sample)
    wanted = min(BATCH, plan.picks_wanted - sum(name not in drawn for name in plan.picks))
    if wanted < 1:
        return False
    fresh = pick(found, {*plan.picks, *drawn, *known}, wanted, plan.seed + len(plan.picks))
    if fresh:
        plan.picks += fresh
        save_plan(found, plan)
    return bool(fresh)


def origins(found: FinishedMap) -> Callable[[str], str]:
    """A function that says of a building whether it is in the sample, was picked, or came up otherwise.

    Raises:
        InputError: plan or sample hold something else.
    """
    folder = found.folder / FOLDER
    drawn, picks = _ids(folder / "sample.json", "order"), _ids(folder / PLAN, "picks")
    return lambda name: "sample" if name in drawn else ("active" if name in picks else "chosen")


def _ids(path: Path, key: str) -> set[str]:
    """Ids of buildings in a file of the review; none where there is no file."""
    tree = read_json(path) if path.exists() else {key: []}
    names = tree.get(key, []) if isinstance(tree, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} is damaged: it holds no ids of buildings under {key!r}")
    return set(names)
