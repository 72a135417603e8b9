"""What a report says, in one language: its phrases, and how numbers, dates and counted things are written.

A language is one file in `languages`; all have the same keys. Plural forms are those of Unicode CLDR.
"""

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

from aftermap.errors import InputError, shown

_ISOLATE, _LEFT_TO_RIGHT, _END = "\u2068", "\u2066", "\u2069"
_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_UNPRINTABLE = ("Cc", "Cs", "Co", "Cn")
_LONGEST = 160


@dataclass(frozen=True)
class Wording:
    """The words of one language.

    Attributes:
        tree: what its file holds.
    """

    tree: dict[str, Any]

    @property
    def code(self) -> str:
        """Such as `fr`."""
        return str(self.tree["code"])

    @property
    def is_rtl(self) -> bool:
        """Whether it is written from right to left."""
        return bool(self.tree["direction"] == "rtl")

    def say(self, key: str, /, **values: str) -> str:
        """A phrase with its gaps filled."""
        return str(self.tree["phrases"][key]).format(**values)

    def count(self, key: str, number: int, /, **values: str) -> str:
        """A phrase in the form that a number asks for; `{n}` is the number as it is written."""
        forms = self.tree["phrases"][key]
        form = forms.get(plural_form(self.code, number), forms["other"])
        return str(form).format(n=self.number(number), **values)

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with the language's separators, rounded half to even."""
        rules = self.tree["numbers"]
        sign = "\u2212" if round(value, decimals) < 0 else ""
        whole, _, fraction = f"{abs(value):.{decimals}f}".partition(".")
        if len(whole) >= rules["grouping_from"]:
            whole = f"{int(whole):,}".replace(",", rules["thousands"])
        return sign + whole + (rules["decimal"] + fraction if fraction else "")

    def percent(self, share: float, decimals: int = 1) -> str:
        """A share from 0 to 1 in per cent."""
        return self.in_row(self.tree["numbers"]["percent"].format(n=self.number(100 * share, decimals)))

    def date(self, day: date | None) -> str:
        """A day in words; that it is not stated where there is none."""
        if day is None:
            return self.say("date_unknown")
        number = self.tree["first_day"] if day.day == 1 and "first_day" in self.tree else str(day.day)
        month = self.tree["months"][day.month - 1]
        return str(self.tree["date"]).format(day=number, month=month, year=day.year)

    def degrees(self, value: float, axis: str) -> str:
        """A latitude (`axis` "lat") or longitude ("lon") with its letter or word."""
        north, south, east, west = self.tree["compass"]
        letter = (north if value >= 0 else south) if axis == "lat" else (east if value >= 0 else west)
        return self.in_row(f"{self.number(abs(value), 4)}°") + f"\u00a0{letter}"

    def span(self, low: float, high: float) -> str:
        """From one whole number to another."""
        return self.in_row(f"{self.number(round(low))}\u2013{self.number(round(high))}")

    def in_row(self, figures: str) -> str:
        """Figures with their signs, kept from left to right in every language."""
        return f"{_LEFT_TO_RIGHT}{figures}{_END}" if self.is_rtl else figures

    def list(self, words: Iterable[str]) -> str:
        """Words one after the other."""
        return str(self.tree["comma"]).join(words)

    def given(self, text: str, longest: int = _LONGEST) -> str:
        """A text of somebody else's within a sentence: cleaned, and kept from turning the sentence around."""
        cleaned = clean(text, longest)
        return f"{_ISOLATE}{cleaned}{_END}" if self.is_rtl and cleaned else cleaned


@cache
def languages() -> tuple[str, ...]:
    """Codes of the languages that a report can be written in."""
    folder = resources.files("aftermap.products.report") / "languages"
    return tuple(sorted(entry.name.removesuffix(".json") for entry in folder.iterdir()))


@cache
def wording(code: str) -> Wording:
    """The words of a language.

    Raises:
        InputError: there is no such language.
    """
    if code not in languages():
        raise InputError(f"no report is written in {shown(code)}: expected one of {', '.join(languages())}")
    file = resources.files("aftermap.products.report") / "languages" / f"{code}.json"
    return Wording(json.loads(file.read_text(encoding="utf-8")))


def plural_form(code: str, number: int) -> str:
    """The form of a counted thing: zero, one, two, few, many or other.

    Source: Unicode CLDR, plural rules for cardinals (en, es, fr, ar), whole numbers.
    """
    if code == "ar":
        last = number % 100
        exact = {0: "zero", 1: "one", 2: "two"}.get(number)
        return exact or ("few" if 3 <= last <= 10 else "many" if last >= 11 else "other")
    return "one" if number == 1 or (code == "fr" and number == 0) else "other"


def clean(text: str, longest: int = _LONGEST) -> str:
    """A text of somebody else's as a line that can be printed: no control characters, nothing that turns what follows."""
    kept = "".join(
        " " if letter.isspace() else letter
        for letter in text
        if letter.isspace() or (letter not in _OVERRIDES and unicodedata.category(letter) not in _UNPRINTABLE)
    )
    line = " ".join(kept.split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
