"""What is known of a map that is reported on, in no language."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A count that a checked sample tells, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Totals:
    """What a probability sample says of a map.

    Attributes:
        sample: buildings that were looked at and used.
        level: of the intervals, 0 to 1.
        damaged: buildings of any class of damage; of a map from the image after alone, those destroyed.
        classes: of each class that was estimated.
        calibrated: whether confidence was calibrated by it.
    """

    sample: int
    level: float
    damaged: Estimate
    classes: Mapping[str, Estimate] = field(default_factory=dict)
    calibrated: bool = False


@dataclass(frozen=True)
class AreaRow:
    """An area and its counts; None where nothing was assessed in it. `key` tells it apart, and stands for a name.

    Buildings on ground that is not surveyed are among `buildings`, and never among `damaged`.
    """

    key: str
    name: str
    code: str
    buildings: int
    damaged: int
    share: float | None
    low: float | None = None
    high: float | None = None
    not_surveyed: int = 0


@dataclass(frozen=True)
class Areas:
    """A table by areas, worst first, and the file that holds all of it."""

    file: str
    rows: tuple[AreaRow, ...]


@dataclass(frozen=True)
class Facts:
    """What is known of a map, in no language.

    Attributes:
        title: heading.
        summary: its `summary.json`.
        provenance: its `provenance.json`.
        organisation: who hands the report on; empty where nobody says.
        credit: credit and licence of the imagery, in the user's words; empty where nobody says.
        totals: of a checked sample.
        areas: counts by area.
    """

    title: str
    summary: dict[str, Any]
    provenance: dict[str, Any]
    organisation: str = ""
    credit: str = ""
    totals: Totals | None = None
    areas: Areas | None = None

    @property
    def is_post_only(self) -> bool:
        """Whether the map rests on the image after alone, and tells destroyed from not."""
        return bool(self.summary.get("mode") == "post-only")
