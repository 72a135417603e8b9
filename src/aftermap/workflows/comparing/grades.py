"""The grades of other people's files: which scale a file is in, and the classes of ours that its words may mean.

What a grade means stands in `aftermap.scales`; a mapping of the user's goes before it. A grade that may be several
classes ("Damaged") joins these where a map is held against it. One that may be no damage as well as damage ("Possibly
damaged") draws no line between the two, so it takes no part where that line is asked for.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from aftermap.classes import DAMAGE
from aftermap.errors import InputError, shown
from aftermap.scales import DINS, EMS, FEMA, JOINT, UNOSAT, Scale

SourceName = Literal["ems", "dins", "unosat", "fema", "xbd"]
Meaning = frozenset[str]

CLASSES = DAMAGE.names[1:]
NO, MINOR, MAJOR, DESTROYED = CLASSES
DAMAGED = frozenset({MINOR, MAJOR, DESTROYED})

SOURCES: dict[SourceName, Scale] = {"ems": EMS, "dins": DINS, "unosat": UNOSAT, "fema": FEMA, "xbd": JOINT}
COLUMNS: dict[SourceName, tuple[str, ...]] = {
    "ems": ("damage_gra(de|ding)?", "grading"),
    "dins": (r"\W*damage",),
    "unosat": (r"main_dam\w*", r"damage_sta\w*", r"grouped_da\w*"),
    "fema": (r"damage_?le?v\w*",),
    "xbd": ("subtype", "damage(_class)?"),
}
"""Columns that hold the grades of each, as patterns of whole names in lower case; Shapefiles cut them to ten letters."""

_NOTHING: Meaning = frozenset()


@dataclass(frozen=True)
class Words:
    """How the cells of a file are understood.

    Attributes:
        scale: that they are in; None where only the user's mapping counts.
        mapping: classes that words mean, before what the scale says; none where a word claims nothing.
    """

    scale: Scale | None
    mapping: Mapping[str, Meaning]

    @property
    def title(self) -> str:
        """The scale's name to be read."""
        return "own mapping" if self.scale is None else self.scale.title

    def grade(self, value: object) -> tuple[str, Meaning] | None:
        """A cell's grade, as the agency writes it, and the classes that it may mean; None for an unknown word."""
        word = plain(value)
        for told, meaning in self.mapping.items():
            if plain(told) == word:
                return told, meaning
        if self.scale is None:
            return None
        try:
            grade = self.scale.grade(value)
        except InputError:
            return None
        return None if grade is None else (grade.name, grade.means or _NOTHING)

    def exact(self, value: object) -> bool:
        """Whether a cell is written just as the agency writes a grade."""
        names = () if self.scale is None else (grade.name for grade in self.scale.grades)
        return str(value).strip().casefold() in {name.casefold() for name in names}


def plain(value: object) -> str:
    """A word without what differs between files: case, runs of spaces, `.0` of whole numbers."""
    return re.sub(r"^(\d+)\.0$", r"\1", " ".join(str(value).split()).casefold())


def parse_mapping(text: str) -> dict[str, str]:
    """A mapping as `--mapping` has it: `D=destroyed,N=undamaged`; with `;` between pairs where words hold commas.

    Raises:
        InputError: it is none.
    """
    pairs = [pair.rpartition("=") for pair in text.split(";" if ";" in text else ",") if pair.strip()]
    if not pairs or any(not word.strip() or not meaning.strip() for word, _, meaning in pairs):
        raise InputError(
            f"--mapping {shown(text)} is no list of pairs: pass one such as 'D=destroyed,N=undamaged'"
        )
    return {word.strip(): meaning.strip() for word, _, meaning in pairs}


def meanings(mapping: Mapping[str, str]) -> dict[str, Meaning]:
    """The classes that each of the user's words may be.

    Raises:
        InputError: a word stands for nothing that is known.
    """
    told = {str(word): str(meaning).strip().casefold() for word, meaning in mapping.items()}
    known = {
        **{name: frozenset({name}) for name in CLASSES},
        "undamaged": frozenset({NO}),
        "damaged": DAMAGED - {DESTROYED} if DESTROYED in told.values() else DAMAGED,
        "possibly-damaged": frozenset({NO, MINOR}),
        "unknown": _NOTHING,
    }
    wrong = next((f"{word}={meaning}" for word, meaning in told.items() if meaning not in known), None)
    if wrong is not None:
        raise InputError(f"--mapping has {shown(wrong)}, expected one of {', '.join(known)} after the =")
    return {word: known[meaning] for word, meaning in told.items()}


def is_doubt(meaning: Set[str]) -> bool:
    """Whether a grade may be no damage as well as damage, or claims nothing."""
    return not meaning or (NO in meaning and len(meaning) > 1)


def common_classes(found: Iterable[Meaning]) -> tuple[Meaning, ...]:
    """The finest division of the four classes into which every grade fits whole that is no doubt; none damage first."""
    group = {name: index for index, name in enumerate(CLASSES)}
    for meaning in found:
        if not is_doubt(meaning):
            joined = {group[name] for name in meaning}
            group = {name: min(joined) if number in joined else number for name, number in group.items()}
    return tuple(
        frozenset(name for name in CLASSES if group[name] == number)
        for number in dict.fromkeys(group[name] for name in CLASSES)
    )


def name_of(classes: Set[str]) -> str:
    """What a class of a common scale is called: `damaged` is any damage that the scale does not part."""
    if len(classes) == 1:
        return next(iter(classes))
    return "damaged" if MINOR in classes else "major-damage or destroyed"


def severity(meaning: Set[str]) -> tuple[int, int]:
    """Orders grades from those that claim nothing over no damage to destroyed."""
    found = [CLASSES.index(name) for name in meaning]
    return (max(found), min(found)) if found else (-1, -1)


def listing(names: Sequence[str], most: int = 12) -> str:
    """Names for a message, the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
