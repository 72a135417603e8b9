"""What catalogues say of the images of a map: when and how they were taken, and under which licence they may be used."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from aftermap.files.origins import origin_of

_MEANS = ("off_nadir", "azimuth", "sun_elevation", "cloud", "gsd")
_WORDS = ("platform", "licence", "credit", "collection")


def described_imagery(files: Sequence[Path]) -> dict[str, Any] | None:
    """Of the images of one date together: means of numbers, and words each once; None where no catalogue tells of all."""
    told = [origin_of(path) for path in files]
    if not told or not all("acquired" in each for each in told):
        return None
    found: dict[str, Any] = {"acquired": min(str(each["acquired"]) for each in told)}
    for name in _MEANS:
        values = [float(each[name]) for each in told if each.get(name) is not None]
        if values:
            found[name] = round(sum(values) / len(values), 3)
    for name in _WORDS:
        words = sorted({str(each[name]) for each in told if each.get(name)})
        if words:
            found[name] = ", ".join(words)
    return found


def acquired_day(files: Sequence[Path]) -> date | None:
    """The day on which a catalogue says that the images of one date were taken."""
    found = described_imagery(files)
    return None if found is None else datetime.fromisoformat(found["acquired"]).date()


def taken_words(imagery: Mapping[str, Any] | None) -> str:
    """The satellite and the angle of the view, as far as they are known."""
    imagery = imagery or {}
    angle = imagery.get("off_nadir")
    parts = (str(imagery.get("platform") or ""), "" if angle is None else f"{angle:.0f}° off nadir")
    return ", ".join(part for part in parts if part)


def credit_of(dates: Iterable[Mapping[str, Any] | None]) -> str:
    """Who provides the images and under which licence, in one line; empty where no catalogue says so."""
    said = []
    for imagery in dates:
        words = (
            ", ".join(str(imagery[name]) for name in ("credit", "licence") if imagery.get(name))
            if imagery
            else ""
        )
        if words and words not in said:
            said.append(words)
    return "; ".join(said)
