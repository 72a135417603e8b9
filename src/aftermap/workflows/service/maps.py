"""Finished maps of a service: where each lies, what it shows, and which of it somebody may see."""

import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any, Literal

import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import InputError
from aftermap.files import work_path
from aftermap.files.folders import remove_folder
from aftermap.files.writing import writing
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.service.database import Database, Row
from aftermap.workflows.service.place import Place
from aftermap.workflows.service.tiles.ground import ground_of
from aftermap.workflows.service.tokens import Caller

_OPEN = 8

View = Literal["whole", "part", "none"]


@dataclass(frozen=True)
class MapRecord:
    """A map as it is recorded.

    Attributes:
        id: that of the job that made it.
        owner: id of the token that asked for it.
        title: of the page.
        described: bounds, layers and zooms, what was warned about.
        created: seconds since 1970.
    """

    id: str
    owner: str
    title: str
    described: dict[str, Any]
    created: float

    @cached_property
    def ground(self) -> BaseGeometry:
        """Its outline in degrees."""
        return shapely.from_geojson(json.dumps(self.described["ground"]))

    def seen_by(self, caller: Caller) -> View:
        """Whether somebody may see all of it, what lies in an area, or nothing.

        A map in pixels lies nowhere, so that whoever has an area sees only those that they made.
        """
        if caller.area is None:
            return "whole"
        if not self.described["georeferenced"]:
            return "whole" if self.owner == caller.id else "none"
        if caller.area.holds(self.ground):
            return "whole"
        return "part" if caller.area.touches(self.ground) else "none"


class Maps:
    """All finished maps of a service.

    Args:
        place: where they lie.
        database: where they are recorded.
    """

    def __init__(self, place: Place, database: Database) -> None:
        self._place, self._database = place, database
        self._open: OrderedDict[tuple[str, int], FinishedMap] = OrderedDict()
        self._turn = RLock()

    def add(self, number: str, owner: str, title: str, found: FinishedMap, described: dict[str, Any]) -> None:
        """Record a map; one that is recorded stays as it is."""
        ground = json.loads(shapely.to_geojson(ground_of(found.grid)))
        self._database.run(
            "INSERT INTO maps (id, owner, title, described, created) VALUES (?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
            (number, owner, title, json.dumps({**described, "ground": ground}), time.time()),
        )

    def describe(self, number: str, described: dict[str, Any]) -> None:
        """Record what the tiles of a map are that were made again; it lies where it lay."""
        known = self.find(number)
        if known is not None:
            told = json.dumps({**known.described, **described})
            self._database.run("UPDATE maps SET described=? WHERE id=?", (told, number))

    def find(self, number: str) -> MapRecord | None:
        """A map by its id."""
        row = self._database.row("SELECT * FROM maps WHERE id=?", (number,))
        return None if row is None else _record(row)

    def seen_by(self, caller: Caller, *, limit: int = 100, offset: int = 0) -> Sequence[MapRecord]:
        """Maps of which somebody may see something, the latest first."""
        seen = [record for record in self.all() if record.seen_by(caller) != "none"]
        return seen[offset : offset + limit]

    def all(self) -> list[MapRecord]:
        """Every map, the latest first."""
        return [_record(row) for row in self._database.rows("SELECT * FROM maps ORDER BY created DESC, id")]

    def opened(self, number: str) -> FinishedMap:
        """A finished map; the last few are kept open, until one is written anew.

        Raises:
            InputError: its files are gone.
        """
        folder = self._place.map(number)
        try:
            key = (number, (folder / "buildings.gpkg").stat().st_mtime_ns)
        except OSError:
            raise InputError("the files of this map are gone") from None
        with self._turn:
            if key not in self._open:
                found = open_map(folder)
                for old in [old for old in self._open if old[0] == number]:
                    del self._open[old]
                while len(self._open) >= _OPEN:
                    self._open.popitem(last=False)
                self._open[key] = found
            self._open.move_to_end(key)
            return self._open[key]

    def remove(self, number: str) -> None:
        """Delete a map and its tiles."""
        self._database.run("DELETE FROM maps WHERE id=?", (number,))
        with self._turn:
            for old in [old for old in self._open if old[0] == number]:
                del self._open[old]
        made = self._place.map(number)
        for folder in (made, work_path(made), self._place.display(number)):
            with writing(folder), suppress(FileNotFoundError):
                remove_folder(folder)


def _record(row: Row) -> MapRecord:
    return MapRecord(**{**row, "described": json.loads(row["described"])})
