"""What the answers of other tools mean: names and numbers of damage scales to our verdicts."""

import re
from dataclasses import dataclass

from aftermap.classes import DAMAGE
from aftermap.errors import InputError
from aftermap.workflows.review.answers import CANNOT_TELL, NOT_A_BUILDING, NOT_DESTROYED, VERDICTS

_KNOWN = {
    **{name: name for name in VERDICTS},
    **{str(level): DAMAGE.names[level] for level in range(1, 5)},
    "none": "no-damage",
    "intact": "no-damage",
    "undamaged": "no-damage",
    "no visible damage": "no-damage",
    "minor": "minor-damage",
    "moderate": "major-damage",
    "major": "major-damage",
    "severe": "major-damage",
    "collapsed": "destroyed",
    "not building": NOT_A_BUILDING,
    "no building": NOT_A_BUILDING,
    "unknown": CANNOT_TELL,
    "unsure": CANNOT_TELL,
    "not sure": CANNOT_TELL,
    "unclear": CANNOT_TELL,
}
"""Values that are taken for granted, in small letters with hyphens and underscores as spaces."""


@dataclass(frozen=True)
class Meaning:
    """What values mean.

    Attributes:
        given: by the user, which counts over what is taken for granted.
        binary: whether the map is of the image after alone, where "not destroyed" is an answer.
    """

    given: dict[str, str]
    binary: bool = False

    @classmethod
    def parse(cls, text: str | None, *, binary: bool = False) -> "Meaning":
        """From `value=verdict,value=verdict`.

        Raises:
            InputError: a part is not of that form, or names no verdict.
        """
        given: dict[str, str] = {}
        known = _known(binary=binary)
        for part in (text or "").split(","):
            if not part.strip():
                continue
            value, sign, verdict = part.rpartition("=")
            if not sign or not value.strip():
                raise InputError(
                    f"--mapping {part.strip()} is not understood: pass such as '1=destroyed,0=no-damage'"
                )
            named = known.get(_plain(verdict)) if not verdict.strip().isdigit() else None
            if named is None:
                raise InputError(
                    f"--mapping {part.strip()}: {verdict.strip()!r} is none of "
                    f"{', '.join((*VERDICTS, NOT_DESTROYED) if binary else VERDICTS)}"
                )
            given[_plain(value)] = named
        return cls(given, binary)

    def of(self, value: str) -> str | None:
        """The verdict that a value means, or None where nobody knows."""
        plain = _plain(value)
        return self.given.get(plain) or (
            None if self.given and plain.isdigit() else _known(binary=self.binary).get(plain)
        )


def _known(*, binary: bool) -> dict[str, str]:
    return _KNOWN | ({_plain(NOT_DESTROYED): NOT_DESTROYED} if binary else {})


def _plain(value: str) -> str:
    text = re.sub(r"[\s_-]+", " ", value.strip().lower())
    return re.sub(r"^(\d+)\.0+$", r"\1", text)


_KNOWN = {_plain(name): verdict for name, verdict in _KNOWN.items()}
