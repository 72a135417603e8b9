"""A review of a map begun, or gone on with: its plan, its sample, its pictures."""

from collections.abc import Collection
from pathlib import Path

from aftermap.errors import InputError
from aftermap.workflows.mapping.features import read_features
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.crops import Crops
from aftermap.workflows.review.images import open_images
from aftermap.workflows.review.picking import pick
from aftermap.workflows.review.plan import open_plan
from aftermap.workflows.review.session import Review
from aftermap.workflows.totals.sampling import sample_of


def open_review(
    found: FinishedMap,
    *,
    pre: Path | None = None,
    post: Path | None = None,
    budget: int | None = None,
    active: float | None = None,
    double: float | None = None,
    seed: int | None = None,
) -> Review:
    """Begin the review of a map, or go on where it stopped.

    Args:
        found: the map.
        pre: the image from before; by default where it was the last time.
        post: the image from after.
        budget: buildings to look at; 100 where nothing was said before.
        active: share of them that is picked for the model; 0.3, and 0 of a map of the image after alone, which has no
            model of the event.
        double: share of the random sample that two people look at; 0.1.
        seed: of the sample; 0.

    Raises:
        InputError: the images are not those of the map, the review is of other buildings, or picks are asked for where
            nothing can learn from them.
        OutputError: plan or sample cannot be written.
    """
    if found.one_date is not None:
        if active:
            raise InputError(
                f"--active {active} picks buildings for 'aftermap learn', which cannot learn from a map of the image "
                "after alone: leave it out"
            )
        active = 0.0
    images = open_images(found, pre, post)
    plan = open_plan(found, budget=budget, active=active, double=double, seed=seed)

    remark = ""

    def draw(size: int) -> list[str]:
        nonlocal remark
        drawn = sample_of(found, size, seed=plan.seed).drawn if size else []
        if len(drawn) > size and budget is not None:
            remark = (
                f"a random sample of {len(drawn)} buildings was drawn before, for a larger budget: its first {size} "
                "are asked for now, and answers to the others stay and count"
            )
        return drawn[:size]  # every beginning of a sample is one

    sample = draw(plan.sample_wanted)
    return Review(found, plan, sample, Crops(found, images), pick=_pick, draw=draw, remark=remark)


def _pick(found: FinishedMap, known: Collection[str], count: int, seed: int) -> list[str]:
    features = read_features(found.folder, found.buildings["building_id"].astype(str).tolist())
    return pick(found.buildings, None if features is None else features.values, known, count, seed)
