"""One legend over datasets whose masks hold different classes, and what the masks of each are in it."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated

import numpy as np
from pydantic import Field

from aftermap.classes import IGNORE, ClassScheme
from aftermap.config import Config
from aftermap.data.legends import Byte, Legend, hexadecimal
from aftermap.errors import DataError
from aftermap.wording import counted

EARLIER = "earlier"
"""Ends the name of a union in which classes come from a model alone."""


class DatasetLabels(Config):
    """What the masks of a dataset are in a union.

    Attributes:
        legend: name of the dataset's own legend.
        values: class of the union of each value of its masks, from 0 on.
    """

    legend: str
    values: Annotated[tuple[Byte, ...], Field(min_length=1)]

    @property
    def table(self) -> np.ndarray:
        """The same as uint8 (256,); IGNORE for every other value."""
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self.values)] = self.values
        return table


@dataclass(frozen=True, slots=True)
class LegendUnion:
    """A legend, and each dataset's part in it.

    Attributes:
        legend: of all classes.
        datasets: one for each legend of the union, in their order; empty where all of them are this legend.
    """

    legend: Legend
    datasets: tuple[DatasetLabels, ...] = ()


def plain_name(name: str) -> str:
    """A class name without case and word separators: names that are equal then are of one class."""
    return " ".join(name.lower().replace("-", " ").replace("_", " ").split())


def union(
    legends: Sequence[Legend],
    *,
    rename: Mapping[str, str] | None = None,
    earlier: ClassScheme | None = None,
) -> LegendUnion:
    """One legend for all: classes of one name are one class, the datasets' own backgrounds are one.

    The order is that of first appearance; so are spelling and colours, but that a colour which another class has already
    is exchanged. Names count as equal whatever their case and word separators. What cannot be known is asked for.

    Args:
        legends: of the datasets, in their order; at least one.
        rename: what classes are called in the union, by their name in the legends. Several may get one name. A name that
            stays what it is says that this class is another one than that of a similar name.
        earlier: classes of a model. Its spelling is kept, and classes that no dataset labels follow last.

    Returns:
        The legend of the first, untouched, where all have the same names and nothing is added.

    Raises:
        DataError: a class of one legend is the background of another, two classes of one legend have names that only
            differ in case or separators, names differ as singular and plural do, `rename` names a class that there is
            not, or there are more classes than a mask of 8 bits can hold.
    """
    renamed = {plain_name(old): new for old, new in (rename or {}).items()}
    known = _real(earlier) if earlier is not None else {}
    _check_renamed(legends, rename or {})
    first = legends[0]
    same = all((one.names, one.background) == (first.names, first.background) for one in legends)
    if same and not renamed and set(known) <= set(first.names):
        return LegendUnion(first)
    _check_known_apart(legends, known, renamed)
    spelling = {plain_name(name): name for name in known}
    entries: dict[str | None, tuple[str, str]] = {}

    def place(key: str | None, name: str, colour: str) -> int:
        """Index of a class, of a new one where it is not there yet; the key of the background is None."""
        if key not in entries:
            entries[key] = (name, _free(colour, [taken for _, taken in entries.values()]))
        return list(entries).index(key)

    values = []
    for legend in legends:
        own = []
        for index, (name, colour) in enumerate(zip(legend.names, legend.colours, strict=True)):
            if index == legend.background:
                own.append(place(None, name, colour))
                continue
            called = renamed.get(plain_name(name), name)
            key = plain_name(called)
            own.append(place(key, spelling.get(key, called), colour))
        values.append(tuple(own))
    listed = len(entries)
    for name, colour in known.items():
        place(plain_name(name), name, colour)
    return _union(legends, values, entries, EARLIER if len(entries) > listed else None)


def _union(
    legends: Sequence[Legend],
    values: Sequence[tuple[int, ...]],
    entries: Mapping[str | None, tuple[str, str]],
    suffix: str | None,
) -> LegendUnion:
    if len(entries) > IGNORE:
        raise DataError(
            f"the datasets have {counted(len(entries), 'class', 'classes')} together, a mask of 8 bits can hold {IGNORE}"
        )
    names, colours = zip(*entries.values(), strict=True)
    parts = list(dict.fromkeys(legend.name for legend in legends))
    legend = Legend(
        name="+".join(parts if suffix is None else [*parts, suffix]),
        names=names,
        colours=colours,
        background=list(entries).index(None) if None in entries else None,
    )
    if all(own == tuple(range(len(names))) for own in values):
        return LegendUnion(legend)
    datasets = tuple(
        DatasetLabels(legend=one.name, values=own) for one, own in zip(legends, values, strict=True)
    )
    return LegendUnion(legend, datasets)


def _real(classes: Legend | ClassScheme) -> dict[str, str]:
    """Colours of the classes by name, without the background."""
    pairs = zip(classes.names, classes.colours, strict=True)
    return {name: colour for index, (name, colour) in enumerate(pairs) if index != classes.background}


def _check_renamed(legends: Sequence[Legend], rename: Mapping[str, str]) -> None:
    names = list(dict.fromkeys(name for legend in legends for name in _real(legend)))
    for old in rename:
        if plain_name(old) not in map(plain_name, names):
            raise DataError(
                f"rename names the class {old!r}, which no dataset has: there are {', '.join(names)}"
            )


def _check_known_apart(
    legends: Sequence[Legend], known: Mapping[str, str], renamed: Mapping[str, str]
) -> None:
    """Refuse names of which it cannot be known whether they mean one class or two."""
    hint = "say which by rename: the same new name for both, or the old name for what is a class of its own"
    met: dict[str, set[str]] = {}
    sources = [(legend.name, _real(legend)) for legend in legends] + [("the model", known)]
    for source, own in sources:
        for name in own:
            if plain_name(name) not in renamed:
                met.setdefault(name, set()).add(source)
        undecided = [name for name in own if plain_name(name) not in renamed]
        plain = [plain_name(name) for name in undecided]
        for name in undecided:
            twins = [other for other in undecided if plain_name(other) == plain_name(name)]
            if plain.count(plain_name(name)) > 1:
                raise DataError(
                    f"{source} has the classes {' and '.join(twins)}, which elsewhere are one: {hint}"
                )
    for name, sources_of_name in met.items():
        for other, others in met.items():
            if plain_name(other) in _plurals(plain_name(name)) and not sources_of_name & others:
                raise DataError(
                    f"{name} ({', '.join(sorted(sources_of_name))}) and {other} ({', '.join(sorted(others))}) may be "
                    f"one class or two: {hint}"
                )
    for ground in legends:
        if ground.background is None:
            continue
        name = ground.names[ground.background]
        for source, own in sources:
            for real in own:
                if plain_name(renamed.get(plain_name(real), real)) == plain_name(name):
                    raise DataError(
                        f"{real} is a class of {source} and the background of {ground.name}: give the class another "
                        "name by rename"
                    )


def _plurals(name: str) -> set[str]:
    """What several of a thing may be called."""
    return {name + "s", name + "es", name.removesuffix("y") + "ies"}


def _free(colour: str, taken: Sequence[str]) -> str:
    """The colour, or where it is taken the first that is not, of hues that lie far apart."""
    hues = (colorsys.hsv_to_rgb(0.618034 * n % 1, 0.65, 0.85) for n in count(1))
    candidates = (hexadecimal(*(round(255 * part) for part in hue)) for hue in hues)
    return colour if colour not in taken else next(one for one in candidates if one not in taken)
