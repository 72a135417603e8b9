"""Reviews of maps that people are at: each open once, so that two who look at a map see one another's answers."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from aftermap.errors import OutputError
from aftermap.files import Claim
from aftermap.web.app import Reviewing
from aftermap.web.service.access import Id, Reviewer, TheService, the_map
from aftermap.web.service.service import Service
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import FOLDER, Answer
from aftermap.workflows.review.opened import open_review
from aftermap.workflows.review.session import Review

_MOST_OPEN = 16


@dataclass(frozen=True)
class _Open:
    found: FinishedMap
    review: Review
    claim: Claim


class Reviews:
    """Reviews under way.

    Args:
        service: whose maps.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._turn = Lock()

    def opened(self, number: str) -> Review:
        """The review of a map, begun or gone on with.

        Raises:
            HTTPException: 409 where another program reviews it.
            InputError: its images are gone.
        """
        found = self._service.maps.opened(number)
        with self._turn:
            known = self._open.get(number)
            if known is not None and known.found is found:
                self._open.move_to_end(number)
                return known.review
            if known is not None:  # the map was written anew
                self._end(number)
            try:
                claim = Claim(found.folder / FOLDER)
            except OutputError as error:
                if "is being written" not in str(error):
                    raise
                raise HTTPException(409, "another 'aftermap review' is at this map") from None
            try:
                review = open_review(found)
            except BaseException:
                claim.release()
                raise
            while len(self._open) >= _MOST_OPEN:
                self._end(next(iter(self._open)))
            self._open[number] = _Open(found, review, claim)
            return review

    def is_open(self, number: str) -> bool:
        """Whether somebody has been at the review of a map lately."""
        return number in self._open

    def end(self, number: str) -> None:
        """Close the review of a map."""
        with self._turn:
            self._end(number)

    def close(self) -> None:
        """Close all of them."""
        with self._turn:
            for number in list(self._open):
                self._end(number)

    def _end(self, number: str) -> None:
        known = self._open.pop(number, None)
        if known is not None:
            known.review.crops.close()
            known.claim.release()


def version_of(answers: Iterable[Answer], building_id: str) -> str:
    """A word that changes whenever what was said of a building does."""
    keys = [answer.key for answer in answers if answer.building_id == building_id]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16] if keys else "none"


def the_review(service: TheService, caller: Reviewer, request: Request, number: Id) -> Reviewing:
    """The review of a map that a caller sees whole."""
    record, _ = the_map(service, caller, number, whole=True)
    reviews: Reviews = request.app.state.reviews
    name = caller.name if service.rules.tokens else None
    return Reviewing(reviews.opened(number), name, record.title)


TheReview = Annotated[Reviewing, Depends(the_review)]
