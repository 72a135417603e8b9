"""Scales of damage: what each grades, from where it is known, and what of it can be claimed from images taken above.

A map is made in the Joint Damage Scale. `to_scale` says what may be claimed of a building in another one, `from_scale`
what somebody else's grade can mean in ours. Where nothing can be said the answer is None, and where a grade can mean
several classes it is all of them: nothing is rounded in silence. `one_scale` refuses files that mix two scales.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aftermap.classes import DAMAGE, NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.errors import InputError, shown

_NONE, _MINOR, _MAJOR, _DESTROYED = DAMAGE.names[1:]
_COLOURS = dict(zip(DAMAGE.names[1:], DAMAGE.colours[1:], strict=True))


@dataclass(frozen=True, slots=True)
class Grade:
    """A grade of a scale.

    Attributes:
        name: as the agency writes it.
        means: classes of the Joint Damage Scale that it can mean; None where it says nothing of damage.
        codes: numbers that stand for it in published files.
        also: other ways in which it is written.
    """

    name: str
    means: frozenset[str] | None
    codes: tuple[int, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def colour(self) -> str:
        """`#rrggbb`: that of the most severe class that it can mean."""
        most = [name for name in DAMAGE.names[1:] if name in (self.means or ())]
        return _COLOURS[most[-1]] if most else NOT_ASSESSED_COLOUR


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of damage.

    Attributes:
        name: stands in every layer, table and legend.
        title: the same to be read.
        grades: from none to worst, then those that say nothing.
        claims: what may be said from images taken above, by class of the Joint Damage Scale; a class that is not there
            cannot be said.
        allowed: the same in words.
        source: the documents that its grades come from.
        unconfirmed: what could not be confirmed from a public document; empty where all of it was.
        also: other names under which it is asked for.
    """

    name: str
    title: str
    grades: tuple[Grade, ...]
    claims: dict[str, str]
    allowed: str
    source: str
    unconfirmed: str = ""
    also: tuple[str, ...] = ()

    def grade(self, value: object) -> Grade | None:
        """The grade that a cell of a file holds, by its name, another writing of it, or its code.

        Returns:
            The grade; None for an empty cell.

        Raises:
            InputError: it is no grade of this scale.
        """
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return None
        number = _number(value)
        for grade in self.grades:
            if number is not None and number in grade.codes:
                return grade
            if isinstance(value, str) and _key(value) in {_key(name) for name in (grade.name, *grade.also)}:
                return grade
        known = ", ".join(grade.name for grade in self.grades)
        raise InputError(f"{shown(value)} is no grade of {self.title}: expected one of {known}")


def _some(*names: str) -> frozenset[str]:
    return frozenset(names)


JOINT = Scale(
    name=DAMAGE.name,
    title="Joint Damage Scale",
    grades=(
        Grade(_NONE, _some(_NONE), (1,)),
        Grade(_MINOR, _some(_MINOR), (2,)),
        Grade(_MAJOR, _some(_MAJOR), (3,)),
        Grade(_DESTROYED, _some(_DESTROYED), (4,)),
        Grade(NOT_ASSESSED, None, (), ("un-classified",)),
    ),
    claims={name: name for name in (*DAMAGE.names[1:], NOT_ASSESSED)},
    allowed="All four classes: the scale was made for images taken from above.",
    source="Gupta et al. 2019, Creating xBD, table 1 (arXiv 1911.09296)",
    also=("jds", "xbd"),
)

FEMA = Scale(
    name="fema-pda",
    title="FEMA damage levels",
    grades=(
        Grade("No Damage", _some(_NONE)),
        Grade("Affected", _some(_MINOR, _MAJOR)),
        Grade("Minor", _some(_MINOR)),
        Grade("Major", _some(_MAJOR)),
        Grade("Destroyed", _some(_DESTROYED)),
        Grade("Unknown", None, (), ("Inaccessible",)),
    ),
    claims={_MINOR: "Affected", _MAJOR: "Affected", _DESTROYED: "Destroyed"},
    allowed=(
        "Destroyed and Affected only. FEMA's own reading of nadir images assigns no other level: Minor and Major come "
        "from inspections or depth grids, and a wall that is out of sight makes No Damage no claim from above."
    ),
    source=(
        "FEMA Historical Geospatial Damage Assessment Database, data dictionary and notes on visual assessments "
        "(ArcGIS REST service); FEMA Preliminary Damage Assessment Guide, May 2020"
    ),
    unconfirmed=(
        "Affected of an inspection is mostly cosmetic and may show no damage from above; here it is read as the images' "
        "Affected"
    ),
    also=("fema",),
)

EMS = Scale(
    name="copernicus-ems-grading",
    title="Copernicus EMS grading",
    grades=(
        Grade("No visible damage", _some(_NONE), (), ("Not damaged", "Not affected")),
        Grade(
            "Possibly damaged", _some(_NONE, _MINOR), (), ("Possible damage", "Negligible to slight damage")
        ),
        Grade("Damaged", _some(_MINOR, _MAJOR), (), ("Damage", "Moderately damaged", "Highly damaged")),
        Grade("Destroyed", _some(_DESTROYED), (), ("Completely destroyed",)),
        Grade("Not Applicable", None, (), ("Not analysed", "Not analyzed", "Unknown", "Other")),
    ),
    claims={
        _NONE: "No visible damage",
        _MINOR: "Possibly damaged",
        _MAJOR: "Damaged",
        _DESTROYED: "Destroyed",
        NOT_ASSESSED: "Not Applicable",
    },
    allowed=(
        "All four grades: they are graded from images. Possibly damaged is a grade of doubt; a minor damage seen by a "
        "model is handed over as that and no more."
    ),
    source=(
        "Copernicus EMS Rapid Mapping, online manual, vector package (emergency.copernicus.eu, 138109 and 138123); "
        "attribute damage_gra of published grading packages"
    ),
    unconfirmed=(
        "the list of values of damage_gra is known from published packages and their users, not from a page of the "
        "manual; which class of the Joint Damage Scale goes with which grade is our judgement"
    ),
    also=("ems", "cems", "copernicus", "copernicus-ems"),
)

DINS = Scale(
    name="cal-fire-dins",
    title="CAL FIRE damage inspection (DINS)",
    grades=(
        Grade("No Damage", _some(_NONE)),
        Grade("Affected (1-9%)", _some(_NONE, _MINOR), (), ("Affected Damage",)),
        Grade("Minor (10-25%)", _some(_MINOR), (), ("Minor Damage",)),
        Grade("Major (26-50%)", _some(_MAJOR), (), ("Major Damage",)),
        Grade("Destroyed (>50%)", _some(_DESTROYED)),
        Grade("Inaccessible", None),
    ),
    claims={_DESTROYED: "Destroyed (>50%)"},
    allowed=(
        "Destroyed only. The other grades are shares of a structure that an inspector estimates on the ground; a class "
        "seen from above tells no share."
    ),
    source="CAL FIRE Damage Inspection (DINS) Data, California State Geoportal: field DAMAGE and its description",
    unconfirmed="the limits of the grades differ by one per cent between the service's description and its values",
    also=("dins",),
)

UNOSAT = Scale(
    name="unosat",
    title="UNOSAT damage classes",
    grades=(
        Grade("No Visible Damage", _some(_NONE), (6,), ("No damage",)),
        Grade("Possible Damage", _some(_NONE, _MINOR), (4,), ("Possibly Damaged",)),
        Grade(
            "Possible Damage From Adjacent Impact/Debris",
            _some(_NONE, _MINOR),
            (11,),
            ("Possible Damage from Adjacent Impact, Debris",),
        ),
        Grade("Moderate Damage", _some(_MINOR), (3,), ("Moderately Damaged",)),
        Grade("Severe Damage", _some(_MAJOR), (2,), ("Severely Damaged",)),
        Grade("Destroyed", _some(_DESTROYED), (1,)),
    ),
    claims={
        _NONE: "No Visible Damage",
        _MINOR: "Moderate Damage",
        _MAJOR: "Severe Damage",
        _DESTROYED: "Destroyed",
    },
    allowed="All four grades: they are graded from images, and published as not validated in the field.",
    source=(
        "UNITAR-UNOSAT damage assessments on HDX (Sinjar 2015, Gaza 2023 to 2025): fields Main_Damage_Site_Class and "
        "Damage_Status"
    ),
    unconfirmed=(
        "the codes 1 to 4, 6 and 11 are known from users of published geodatabases; which class of the Joint Damage "
        "Scale goes with Moderate and Severe is our judgement"
    ),
)

SCALES = {scale.name: scale for scale in (JOINT, FEMA, EMS, DINS, UNOSAT)}
"""The scales that are known, by name."""

_NOT_FROM_ABOVE = (
    "EMS-98 has five grades of structure and its masonry; a view from above shows roofs and cannot tell them apart "
    "(Politecnico di Torino and ITHACA, handle 11583/2677838; IWG-SEM guidelines), so no map of aftermap claims one: "
    "take copernicus-ems-grading"
)


def scale_named(name: str) -> Scale:
    """A scale by its name or a short one: `fema`, `ems`, `dins`, `unosat`, `jds`.

    Raises:
        InputError: there is none, or it is EMS-98, which nobody can grade from above.
    """
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key in ("ems-98", "ems98", "european-macroseismic-scale"):
        raise InputError(_NOT_FROM_ABOVE)
    for scale in SCALES.values():
        if key in (scale.name, *scale.also):
            return scale
    raise InputError(f"no scale of damage is called {shown(name)}: expected one of {', '.join(SCALES)}")


def to_scale(damage: str, scale: str) -> str | None:
    """What may be claimed in another scale of a building of some class.

    Args:
        damage: a class of the Joint Damage Scale, or `not-assessed`.
        scale: name of the other scale.

    Returns:
        The grade as the agency writes it; None where it cannot be said from above.

    Raises:
        InputError: no such class or scale, or one that cannot be graded from above.

    Example:
        to_scale("major-damage", "fema")  # "Affected"
        to_scale("no-damage", "fema")  # None
    """
    wanted = scale_named(scale)
    if damage not in JOINT.claims:
        raise InputError(f"{shown(damage)} is no class of a map: expected one of {', '.join(JOINT.claims)}")
    return wanted.claims.get(damage)


def from_scale(value: object, scale: str) -> frozenset[str] | None:
    """Which classes of the Joint Damage Scale a grade of another scale can mean.

    Args:
        value: what a cell of a file holds: a grade's name, another writing of it, or its code.
        scale: name of the scale.

    Returns:
        One class or several; None for an empty cell and for grades that say nothing, such as `Inaccessible`.

    Raises:
        InputError: no such grade or scale.

    Example:
        from_scale("Damaged", "ems")  # {"minor-damage", "major-damage"}
        from_scale(1, "unosat")  # {"destroyed"}
    """
    grade = scale_named(scale).grade(value)
    return None if grade is None else grade.means


def one_scale(names: Iterable[str | None], where: str) -> Scale | None:
    """The scale that all rows of a file name; None where none of them names one.

    Args:
        names: the scale of each row; empty ones are passed over.
        where: the file, for the message.

    Raises:
        InputError: they name two, or one that is not known.
    """
    found = {scale_named(name).name for name in set(names) if isinstance(name, str) and name.strip()}
    if len(found) > 1:
        raise InputError(
            f"{where} mixes scales of damage ({', '.join(sorted(found))}): part it by its column scale, grades of two "
            "scales are never one table"
        )
    return SCALES[found.pop()] if found else None


def _key(text: str) -> str:
    """A grade without its letter in a list, its percentages, its case and its spaces."""
    text = re.sub(r"^\s*[A-Za-z0-9]\s*[.):]\s+", "", text)
    return re.sub(r"[^a-z]", "", re.sub(r"\(.*?\)", "", text).lower())


def _number(value: object) -> int | None:
    """A code, also as text or as a float without a fraction."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None
