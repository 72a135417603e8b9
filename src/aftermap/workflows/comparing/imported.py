"""A source's grades as answers in a map's journal, for learning and totals; `origin` tells that they are no sample."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aftermap.workflows.comparing.grades import CLASSES, Meaning
from aftermap.workflows.comparing.scores import Graded, Unlisted
from aftermap.workflows.comparing.truth import Truth
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import NOT_A_BUILDING, Answer, Journal


@dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        answers: new ones, or in place of earlier ones of the same source.
        unchanged: that stood there already.
        withdrawn: earlier ones of this source that it no longer gives.
        of_several_classes: buildings whose grade may be several classes, which no answer can say.
    """

    answers: int
    unchanged: int
    withdrawn: int
    of_several_classes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def import_answers(
    finished: FinishedMap, truth: Truth, graded: Graded, phantoms: np.ndarray, *, unlisted: Unlisted
) -> Imported:
    """Write every grade that is one class into the journal; what the same file gave before is replaced.

    Args:
        finished: the map.
        truth: the source; its file's name is the answers' `source` and reviewer.
        graded: what it says of each building.
        phantoms: bool (n,), buildings where it says there is none.
        unlisted: what it says of those that it does not list.

    Raises:
        OutputError: the journal cannot be written.
    """
    journal = Journal(finished.folder)
    earlier = {
        answer.building_id: answer
        for answer in journal.answers()
        if answer.origin == "imported" and answer.source == truth.file
    }
    given: dict[str, Answer] = {}
    several = 0
    frame = graded.frame
    for row, (name, meaning) in enumerate(zip(frame["building_id"], graded.meanings, strict=True)):
        verdict = NOT_A_BUILDING if phantoms[row] else _verdict(meaning)
        several += bool(meaning) and verdict is None
        if verdict is None:
            continue
        note = (
            f"{truth.scale}: {graded.grades[row]}" if graded.grades[row] else f"not in the source: {unlisted}"
        )
        given[str(name)] = Answer(
            building_id=str(name),
            verdict=verdict,  # type: ignore[arg-type]  # one of them
            reviewer=truth.file[:200],
            origin="imported",
            source=truth.file,
            note=note,
            seconds=None,
            shown={
                "damage": frame["damage"].iloc[row],
                "outlines_sha256": finished.outlines_sha256,
            },
        )
    new = [a for name, a in given.items() if name not in earlier or earlier[name].verdict != a.verdict]
    gone = [
        Answer(
            building_id=answer.building_id,
            reviewer=answer.reviewer,
            origin="imported",
            source=truth.file,
            withdraws=answer.key,
            seconds=None,
        )
        for name, answer in earlier.items()
        if name not in given
    ]
    if new or gone:
        journal.add([*gone, *new])
    return Imported(len(new), len(given) - len(new), len(gone), several)


def _verdict(meaning: Meaning | None) -> str | None:
    return (
        next(iter(meaning)) if meaning is not None and len(meaning) == 1 and meaning <= set(CLASSES) else None
    )
