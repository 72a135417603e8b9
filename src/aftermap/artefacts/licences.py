"""Licences in words: those of several sources as one line, and the strictest use that they leave."""

import re
from collections.abc import Iterable

UNSAID = "not stated"
"""What a card says where nobody has said it."""

_STRICTEST: tuple[tuple[str, str], ...] = (
    (r"academic|research (use )?only|non-?commercial research", "research only"),
    (r"\bnc\b|non-?commercial|commercial use is not allowed", "no commercial use"),
    (UNSAID, "not stated: ask the publisher before it is used"),
    (r"\bsa\b|share-?alike|odbl|gpl", "what is made of it has to be shared alike"),
)
"""Words of licences and what they leave, the strictest first; each is looked for in all of a line."""


def joined_licences(licences: Iterable[str]) -> str:
    """Several licences as one line, each once, in their order."""
    return "; ".join(dict.fromkeys(licences)) or UNSAID


def restriction(licence: str) -> str:
    """The strictest limit of use that a line of licences names, in words; empty where it names none.

    A rule of words, not advice: it reads what is written, such as `CC BY-NC-SA 4.0` or `for academic use only`.
    """
    text = licence.lower()
    return next((told for pattern, told in _STRICTEST if re.search(pattern, text)), "")


def with_others(own: str, others: Iterable[tuple[str, str]]) -> str:
    """A model's own licence, and what else holds for it, as one line.

    Args:
        own: as its recipe says it.
        others: whose licence, in words such as "began with field", and that licence. One that leaves every use open is
            left out, as is one that `own` says already; one that nobody has said is told.
    """
    said = [own]
    for whose, licence in others:
        if restriction(licence) and licence.lower() not in own.lower():
            said.append(f"{whose}: {licence}")
    return joined_licences(said)
