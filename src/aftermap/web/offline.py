"""The page of a review as one file: buildings, pictures and script inside, answers out as JSON."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aftermap.errors import InputError
from aftermap.files import write_text
from aftermap.web.page import offline_page
from aftermap.workflows.review.session import Review

BROWSER = "offline"

GROUND_PX = 1200
"""Longest side of the picture on which ground is marked."""


@dataclass(frozen=True)
class OfflinePage:
    """A page that was written.

    Attributes:
        path: the file.
        buildings: in it.
        megabytes: its size.
    """

    path: Path
    buildings: int
    megabytes: float


def write_offline(
    review: Review, path: Path, *, reviewer: str = "", progress: Callable[[int, int], None] | None = None
) -> OfflinePage:
    """Write what is left of a review's budget as one page that needs no server and no network.

    Args:
        review: nothing is marked as taken in it: what others answer meanwhile is answered twice.
        path: the file.
        reviewer: for whom; buildings that somebody else answered are in it where two are to look.
        progress: told how many buildings are done, of how many.

    Raises:
        InputError: nothing is left to look at.
        OutputError: the file cannot be written.
    """
    dates = len(review.state()["dates"])  # one of a map of one date, whose pictures are the same twice
    overview = [_embedded(picture) for picture in review.overview(GROUND_PX)[:dates]]
    items = review.take(reviewer or BROWSER, BROWSER, count=review.plan.budget)
    if not items:
        raise InputError("every building of the budget is answered: pass a larger --budget")
    for number, item in enumerate(items):
        item["pictures"] = [_embedded(picture) for picture in review.crop(item["row"], "near")[:dates]]
        del item["frames"]["wide"]
        if progress is not None:
            progress(number + 1, len(items))
    state = review.state(reviewer)
    ground = {"overview": overview, **review.ground()}
    page = offline_page(str(state["title"]), {"items": items, "state": state, "ground": ground})
    write_text(path, page)
    return OfflinePage(path, len(items), len(page.encode()) / 1e6)


def _embedded(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode()
