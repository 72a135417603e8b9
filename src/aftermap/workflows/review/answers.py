"""Answers: what a person said of a building, kept in a journal that nothing is ever taken out of.

    OUT/review/answers.jsonl      one answer or withdrawal a line, in the order in which they came

A line is written and synced before it is confirmed, so a kill loses no confirmed answer; a line that a kill cut off is
ignored. Whoever changes their mind adds an answer, whoever takes one back adds a withdrawal.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT
from aftermap.errors import InputError
from aftermap.files import writing

FOLDER = "review"
JOURNAL = "answers.jsonl"

NOT_A_BUILDING = "not-a-building"
CANNOT_TELL = "cannot-tell"
NOT_DESTROYED = DESTROYED_OR_NOT.names[1]
"""What is said in place of the degrees short of destroyed where the image after alone was looked at."""

VERDICTS = (*DAMAGE.names[1:], NOT_A_BUILDING, CANNOT_TELL)
"""What may be said of a building on a map of two dates."""


Verdict = Literal[
    "no-damage", "minor-damage", "major-damage", "destroyed", "not-destroyed", "not-a-building", "cannot-tell"
]
Reason = Literal["", "cloud", "shadow", "no data", "outside", "misaligned", "other"]
Origin = Literal["sample", "active", "chosen", "drawn", "imported"]
Text = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Answer(BaseModel):
    """A line of the journal.

    Attributes:
        key: of this line.
        building_id: of which building; a drawn one gets a new id that the map does not hold.
        verdict: what was said; None withdraws the line `withdraws`.
        reason: why nothing can be told.
        reviewer: who said it.
        at: when, UTC, ISO 8601.
        origin: how the building came up: drawn at random for the totals, picked for the model, chosen by the reviewer,
            drawn by them because the map misses it, or from another tool.
        seconds: how long it was looked at.
        shown: what the map said when it was looked at (`damage`, `confidence`, the map's `outlines_sha256`, ...).
        geometry: GeoJSON in EPSG:4326 (pixels for a map without georeference) of a moved or drawn outline.
        note: of the reviewer.
        source: the file that an imported answer comes from.
        withdraws: `key` of a line that this one takes back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Name = Field(default_factory=lambda: uuid.uuid4().hex)
    building_id: Name
    verdict: Verdict | None = None
    reason: Reason = ""
    reviewer: Name
    at: str = Field(default_factory=_now)
    origin: Origin = "chosen"
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    shown: dict[str, Any] = Field(default_factory=dict)
    geometry: dict[str, Any] | None = None
    note: Text = ""
    source: Text = ""
    withdraws: Name | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Answer":
        if (self.verdict is None) == (self.withdraws is None):
            raise ValueError("an answer has a verdict, or withdraws another one")
        if self.reason and self.verdict != CANNOT_TELL:
            raise ValueError("only an answer that cannot tell has a reason")
        return self


class Journal:
    """The answers of a map.

    Args:
        folder: of the map.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FOLDER / JOURNAL

    def add(self, answers: Iterable[Answer]) -> None:
        """Write answers at the end; when this returns they are on the disk.

        Raises:
            OutputError: they cannot be written; those written before stay readable.
        """
        append_lines(self.path, answers)

    def lines(self) -> Iterator[Answer]:
        """Every line, in order; one that was cut off by a kill is left out.

        Raises:
            InputError: the journal cannot be read, or holds a whole line that is no answer.
        """
        return read_lines(self.path, Answer, "answer")

    def answers(self) -> list[Answer]:
        """The answers that stand: the last of each reviewer on each building that was not withdrawn, in order."""
        return standing(self.lines())

    def named_since(self, size: int) -> set[str]:
        """Ids of the buildings that lines name which came after the journal had a size in bytes."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return set()
        begin = data.rfind(b"\n", 0, size) + 1
        found = set()
        for line in data[begin:].split(b"\n"):
            with suppress(ValueError, TypeError, KeyError):  # what a kill cut off
                found.add(str(json.loads(line)["building_id"]))
        return found


Line = TypeVar("Line", bound=BaseModel)


def append_lines(path: Path, lines: Iterable[BaseModel]) -> None:
    """Write lines at the end of a journal; when this returns they are on the disk.

    Raises:
        OutputError: they cannot be written; those written before stay readable.
    """
    text = "".join(line.model_dump_json() + "\n" for line in lines)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                text = "\n" + text  # what a kill cut off stays a line of its own
            data = memoryview(text.encode())
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_lines(path: Path, kind: type[Line], word: str) -> Iterator[Line]:
    """Every line of a journal, in order; one that was cut off by a kill is left out.

    Args:
        path: of the journal.
        kind: what its lines are.
        word: for that.

    Raises:
        InputError: the journal cannot be read, or holds a line that is something else.
    """
    if not path.exists():
        return
    try:
        rows = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    for number, row in enumerate(rows, start=1):
        try:
            tree = json.loads(row)
        except (ValueError, RecursionError):
            if row.strip() and not row.startswith(b"{"):  # a line that was cut off begins as all do
                raise InputError(
                    f"{path} line {number} is no {word}, nor a part of one: put the file back as it was"
                ) from None
            continue
        try:
            yield kind.model_validate(tree)
        except ValidationError as error:
            told = error.errors()[0]
            place = ".".join(str(part) for part in told["loc"])
            raise InputError(f"{path} line {number} is no {word}: {place} {told['msg']}") from None


def standing(lines: Iterable[Answer]) -> list[Answer]:
    """The answers that stand: the last of each reviewer on each building that was not withdrawn, in order.

    Args:
        lines: of a journal, in order.
    """
    lines = list(lines)
    withdrawn = {line.withdraws for line in lines if line.withdraws is not None}
    last: dict[tuple[str, str], Answer] = {}
    for line in lines:
        if line.verdict is not None and line.key not in withdrawn:
            last.pop((line.building_id, line.reviewer), None)
            last[line.building_id, line.reviewer] = line
    return list(last.values())


def withdrawals(lines: Iterable[Answer], reviewer: str, building_id: str, key: str) -> list[Answer]:
    """Lines that take back all that a reviewer said of a building, also what stood before they changed their mind.

    Args:
        lines: of a journal. What came from another tool stays.
        reviewer: whose.
        building_id: of it.
        key: of the first of them.
    """
    lines = list(lines)
    gone = {line.withdraws for line in lines}
    said = [
        line.key
        for line in lines
        if (line.reviewer, line.building_id) == (reviewer, building_id)
        and not (line.verdict is None or line.origin == "imported" or line.key in gone)
    ]
    keys = [key, *(uuid.uuid4().hex for _ in said[1:])]
    return [
        Answer(key=mine, building_id=building_id, reviewer=reviewer, seconds=None, withdraws=line)
        for mine, line in zip(keys, said, strict=False)
    ]


def check_shown(answers: Iterable[Answer], outlines_sha256: str, folder: Path) -> None:
    """Refuse answers that were given to other buildings than those of a map, whose ids may be the same.

    Args:
        answers: of its journal. What reviewers drew is a building by itself, whatever the map.
        outlines_sha256: of the map.
        folder: of the map.

    Raises:
        InputError: one was.
    """
    for answer in answers:
        shown = answer.shown.get("outlines_sha256")
        if answer.origin != "drawn" and shown is not None and shown != outlines_sha256:
            raise InputError(
                f"the answer to building {answer.building_id} was given to other outlines than those of {folder}: the "
                "map was made again, or the answers are another map's"
            )


def settle(answers: Iterable[Answer]) -> dict[str, Answer]:
    """One answer for each building: the verdict of most reviewers, the latest of them; a tie goes to the latest.

    Args:
        answers: those that stand, in order.

    Returns:
        By `building_id`, in the order in which the buildings were first answered.
    """
    by_building: dict[str, list[Answer]] = {}
    for answer in answers:
        by_building.setdefault(answer.building_id, []).append(answer)
    settled: dict[str, Answer] = {}
    for name, given in by_building.items():
        votes: dict[str | None, int] = {}
        for answer in given:
            votes[answer.verdict] = votes.get(answer.verdict, 0) + 1
        most = max(votes.values())
        settled[name] = next(answer for answer in reversed(given) if votes[answer.verdict] == most)
    return settled
