"""A review under way: which building is next for whom, what was answered, and how far it is.

Safe for several threads. What is confirmed is in the journal; nothing else has to be kept.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import Any

from aftermap.errors import InputError
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.agreement import agreement
from aftermap.workflows.review.answers import Answer, Journal, standing, withdrawals
from aftermap.workflows.review.areas import add_marks, ground_for_page, make_mark
from aftermap.workflows.review.crops import Crops, Frame, as_webp, page_outline
from aftermap.workflows.review.images import dates_of, overview_of
from aftermap.workflows.review.plan import Picker, Plan, extend_picks, save_plan
from aftermap.workflows.review.said import make_answer

LEASE_SECONDS = 300.0
"""A building that a browser took and never answered is given to another one after this time."""

LATER = 8
"""Buildings that come before one that was skipped: whoever stops early shall not leave holes in the sample."""

OVERVIEW_PX = 1800


class Review:
    """A map that people review.

    Args:
        found: the map.
        plan: what is to be looked at.
        sample: ids of the random sample, in the order in which they are looked at.
        crops: outlines and pictures.
        pick: chooses buildings for the model.
        draw: draws the sample of a larger budget: a number to ids that begin with the old ones.
        remark: what the user is to know of all this, a line.
        clock: seconds that only ever grow.

    Attributes:
        turn: held while something is said; for whoever looks first and then says something.
    """

    def __init__(
        self,
        found: FinishedMap,
        plan: Plan,
        sample: Sequence[str],
        crops: Crops,
        *,
        pick: Picker,
        draw: Callable[[int], list[str]],
        remark: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.found, self.plan, self.crops = found, plan, crops
        self.sample = list(sample)
        self._pick, self._draw, self._clock, self.remark = pick, draw, clock, remark
        self.turn = RLock()
        self._journal = Journal(found.folder)
        self._ids = found.buildings["building_id"].astype(str).tolist()
        self._row_of = {name: row for row, name in enumerate(self._ids)}
        self._damage = found.buildings["damage"].astype(str).tolist()
        self._confidence = found.buildings["confidence"].to_numpy(float)
        self._reasons = found.buildings["reason"].astype(str).tolist()
        self._claims: dict[str, tuple[str, float]] = {}
        self._skipped: dict[str, dict[str, int]] = {}
        self._taken: dict[str, int] = {}
        self._size = -1
        self._reload()

    @property
    def _picked(self) -> set[str]:
        """Picks that the sample did not take in when it grew: no building counts as both."""
        return set(self.plan.picks) - set(self.sample)

    # What is next

    def take(
        self, reviewer: str, browser: str, *, count: int = 1, holding: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """The next buildings for a browser; nobody else gets them while it holds them.

        Args:
            reviewer: who looks.
            browser: which of several windows.
            count: of buildings, at most.
            holding: ids that it has and did not answer yet.
        """
        with self.turn:
            self._reload()
            now = self._clock()
            held = set(holding)
            for name, (other, since) in list(self._claims.items()):
                if now - since > LEASE_SECONDS or (other == browser and name not in held):
                    del self._claims[name]
            self._claims |= {name: (browser, now) for name in held if name in self._row_of}
            taken: list[dict[str, Any]] = []
            while len(taken) < count and (chosen := self._next(reviewer, browser)) is not None:
                name, origin = chosen
                self._claims[name] = browser, now
                self._taken[browser] = self._taken.get(browser, 0) + 1
                taken.append(self.item(name, origin))
            return taken

    def item(self, building_id: str, origin: str | None = None) -> dict[str, Any]:
        """A building as the page shows it.

        Raises:
            InputError: the map has none of that id.
        """
        row = self._row_of.get(building_id)
        if row is None:
            raise InputError(f"the map has no building {building_id}")
        confidence = float(self._confidence[row])
        return {
            "id": building_id,
            "row": row,
            "origin": origin or self.origin(building_id),
            "map": {
                "damage": self._damage[row],
                "confidence": None if confidence != confidence else round(confidence, 3),
                "reason": self._reasons[row],
            },
            "drawn": [page_outline(answer.geometry, self.found) for answer in self._drawn],
            "double": building_id in set(self.sample) and self.plan.is_double(building_id),
            **self.crops.describe(row),
        }

    def origin(self, building_id: str) -> str:
        """How a building comes up."""
        if building_id in set(self.sample):
            return "sample"
        return "active" if building_id in self.plan.picks else "chosen"

    def skip(self, browser: str, building_id: str) -> None:
        """Show a building later to a browser, after some others."""
        with self.turn:
            self._claims.pop(building_id, None)
            self._skipped.setdefault(browser, {})[building_id] = self._taken.get(browser, 0)

    def release(self, browser: str) -> None:
        """Give back what a browser holds that was closed."""
        with self.turn:
            self._claims = {name: held for name, held in self._claims.items() if held[0] != browser}

    # What is said

    def answer(self, reviewer: str, said: dict[str, Any]) -> Answer:
        """Journal what a reviewer says of a building; when this returns it is on the disk.

        Args:
            reviewer: who says it.
            said: `key`, `building_id` (empty for one that was drawn), `origin` (`chosen` where it was looked up),
                `verdict`, `reason`, `seconds`, `note`, `outline` (rings in pixels where it was moved or drawn), `shown`.

        Raises:
            InputError: the building or the outline is none.
            ValidationError: of pydantic, what is said is no answer.
            OutputError: it could not be saved.
        """
        with self.turn:
            self._reload()
            key = str(said.get("key") or uuid.uuid4().hex)
            if key in self._by_key:
                self._add([])  # an earlier try may have been written and not brought to the disk
                return self._by_key[key]
            answer = make_answer(self.found, reviewer, {**said, "key": key}, self.origin, self._map_said)
            self._add([answer])
            self._claims.pop(answer.building_id, None)
            for skipped in self._skipped.values():
                skipped.pop(answer.building_id, None)
            return answer

    def undo(self, reviewer: str, key: str | None = None) -> dict[str, Any] | None:
        """Take back the last answer of a reviewer; the building to look at again, or None where there is nothing.

        Args:
            reviewer: whose.
            key: of this withdrawal, so that one that is sent twice counts once.

        Raises:
            OutputError: it could not be saved.
        """
        with self.turn:
            self._reload()
            if key is not None and key in self._by_key:
                self._add([])
                last = self._by_key[str(self._by_key[key].withdraws)]
            else:
                mine = [a for a in self._standing if a.reviewer == reviewer and a.origin != "imported"]
                if not mine:
                    return None
                last = mine[-1]
                withdrawal = Answer(
                    key=key or uuid.uuid4().hex,
                    building_id=last.building_id,
                    reviewer=reviewer,
                    seconds=None,
                    withdraws=last.key,
                )
                self._add([withdrawal])
            known = last.building_id in self._row_of
            again: dict[str, Any] = {"verdict": last.verdict, "reason": last.reason, "note": last.note}
            again["outline"] = last.geometry and page_outline(last.geometry, self.found)
            return {"withdrawn": again, "item": self.item(last.building_id) if known else None}

    def knows(self, key: str) -> bool:
        """Whether the journal has a line with a key, which is that of something sent twice."""
        with self.turn:
            self._reload()
            return key in self._by_key

    def withdraw(self, reviewer: str, building_id: str, key: str) -> bool:
        """Take back all that a reviewer said of a building; False where there is nothing.

        Args:
            reviewer: whose.
            building_id: of it.
            key: of this withdrawal, so that one that is sent twice counts once.

        Raises:
            OutputError: it could not be saved.
        """
        with self.turn:
            self._reload()
            if key in self._by_key:
                self._add([])
                return True
            said = withdrawals(self._by_key.values(), reviewer, building_id, key)
            self._add(said)
            return bool(said)

    def more(self, count: int) -> None:
        """Enlarge the budget.

        Raises:
            OutputError: the plan cannot be saved.
        """
        with self.turn:
            budget = min(self.plan.budget + max(1, count), len(self._ids))
            if budget > self.plan.budget:
                plan = self.plan.model_copy(update={"budget": budget})
                save_plan(self.found, plan)
                self.plan = plan
                self.sample = self._draw(plan.sample_wanted)

    # Ground

    def mark(self, reviewer: str, said: dict[str, Any]) -> None:
        """Mark ground as surveyed or not, or take a mark back.

        Raises:
            InputError: the outline is none.
            ValidationError: of pydantic, it is no mark.
            OutputError: it could not be saved.
        """
        with self.turn:
            add_marks(self.found, [make_mark(self.found, reviewer, said)])

    def ground(self) -> dict[str, Any]:
        """All marks that stand, in pixels, and the buildings on surveyed ground."""
        with self.turn:
            self._reload()
            return ground_for_page(self.found, self._standing)

    # Pictures

    def crop(self, row: int, frame: Frame) -> tuple[bytes, bytes]:
        """Both dates around the building in a row of the table, as WebP.

        Raises:
            InputError: there is no such row.
        """
        if not 0 <= row < len(self._ids):
            raise InputError(f"the map has no row {row}")
        return self.crops.pictures(self.crops.window(row, frame))

    def overview(self, side_px: int = OVERVIEW_PX) -> tuple[bytes, bytes]:
        """Both dates of the whole map, as WebP: those of its page, else read from the images."""
        small = overview_of(self.found, side_px)
        if small is None:
            return self.crops.pictures(self.found.grid.window, side_px)
        return as_webp(small[0]), as_webp(small[1])

    # How far it is

    def state(self, reviewer: str = "") -> dict[str, Any]:
        """Progress, agreement and what the page has to know of the map."""
        with self.turn:
            self._reload()
            done = {answer.building_id for answer in self._standing}
            wanted = self.plan.picks_wanted
            of_sample = sum(name in done for name in self.sample)
            of_picks = min(wanted, sum(name in done for name in self._picked))
            agreed, scheme = agreement(self._standing), self.found.scheme
            return {
                "title": self.found.folder.absolute().name,
                "journal_bytes": self._size,  # only ever grows: tells which of two states is the later one
                "buildings": len(self._ids),
                "budget": self.plan.budget,
                "sample": [of_sample, len(self.sample)],
                "active": [of_picks, wanted],
                "others": len(done) - of_sample - of_picks,
                "held": len(self._claims),
                "answered": len(done),
                "mine": sum(answer.reviewer == reviewer for answer in self._standing),
                "reviewers": sorted({answer.reviewer for answer in self._standing}),
                "double": self.plan.double,
                "agreement": asdict(agreed),
                "metres_per_px": self.found.grid.resolution_m,
                "grid": [self.found.grid.width, self.found.grid.height],
                "outlines_sha256": self.found.outlines_sha256,
                "dates": dates_of(self.found),
                "levels": [
                    {"name": name, "colour": colour}
                    for name, colour in zip(scheme.names[1:], scheme.colours[1:], strict=True)
                ],
            }

    @property
    def answers(self) -> list[Answer]:
        """Those that stand."""
        with self.turn:
            self._reload()
            return list(self._standing)

    def _map_said(self, building_id: str) -> dict[str, Any]:
        row = self._row_of[building_id]
        confidence = float(self._confidence[row])
        return {
            "damage": self._damage[row],
            "confidence": None if confidence != confidence else round(confidence, 4),
        }

    def _add(self, answers: list[Answer]) -> None:
        self._journal.add(answers)
        self._reload()

    def _reload(self) -> None:
        """Read the journal again where somebody else, or we, added to it."""
        path: Path = self._journal.path
        size = path.stat().st_size if path.is_file() else 0
        if size == self._size:
            return
        lines = list(self._journal.lines())
        self._by_key = {line.key: line for line in lines}
        self._standing = standing(lines)
        self._drawn = [each for each in self._standing if each.origin == "drawn" and each.geometry]
        self._readers: dict[str, set[str]] = {}
        for answer in self._standing:
            self._readers.setdefault(answer.building_id, set()).add(answer.reviewer)
        self._size = size

    def _next(self, reviewer: str, browser: str) -> tuple[str, str] | None:
        """The next building for a reviewer and how it comes up; None where all are done."""
        if (name := self._skipped_before(browser, LATER)) is not None:
            return name, self.origin(name)
        if (name := self._second_reading(reviewer, browser)) is not None:
            return name, "sample"
        sample = [name for name in self.sample if self._is_free(name, browser)]
        begun = {*self._readers, *self._claims}
        of_picks = sum(name in begun for name in self._picked)
        picks: list[str] = []
        if of_picks < self.plan.picks_wanted:
            picks = [name for name in self.plan.picks if self._is_free(name, browser)]
            if not picks and extend_picks(self.found, self.plan, self.sample, self._readers, self._pick):
                picks = [name for name in self.plan.picks if self._is_free(name, browser)]
        of_both = of_picks + sum(name in begun for name in self.sample)
        wants_pick = of_picks < self.plan.active * (of_both + 1) - 0.5
        if picks and (wants_pick or not sample):
            return picks[0], "active"
        if sample:
            return sample[0], "sample"
        if (name := self._skipped_before(browser, 0)) is not None:
            return name, self.origin(name)
        return None

    def _skipped_before(self, browser: str, others: int) -> str | None:
        """A building that a browser skipped at least so many others ago, and that is free still."""
        skipped = self._skipped.get(browser, {})
        for name, when in list(skipped.items()):
            if self._taken.get(browser, 0) - when >= others:
                del skipped[name]
                if self._is_free(name, browser):
                    return name
        return None

    def _second_reading(self, reviewer: str, browser: str) -> str | None:
        """A building of the sample that another one looked at and that two are to look at."""
        skipped = self._skipped.get(browser, ())
        for name in self.sample:
            readers = self._readers.get(name)
            if (
                readers
                and len(readers) == 1
                and reviewer not in readers
                and name not in self._claims
                and name not in skipped
                and self.plan.is_double(name)
            ):
                return name
        return None

    def _is_free(self, name: str, browser: str) -> bool:
        return (
            name not in self._readers
            and name not in self._claims
            and name not in self._skipped.get(browser, ())
            and name in self._row_of
        )
