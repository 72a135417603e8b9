"""What the user says of single sources: their weights, and how each is read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from aftermap.errors import InputError
from aftermap.geo.vectors import part_layer
from aftermap.wording import counted
from aftermap.workflows.fusing.sources import Reading


class LayerOptions(TypedDict, total=False):
    """How one source is read, where it differs from the others; keys as the keywords of `fuse`."""

    within: float
    column: str | None
    mapping: Mapping[str, str] | None
    probability: str | None
    reliability: float


def weights_of(sources: Sequence[Path], weights: Sequence[float] | None) -> list[float]:
    """The weight of each source, all alike by default.

    Raises:
        InputError: there are too few sources, not as many weights, or one of them is not above 0.
    """
    if len(sources) < 2:
        raise InputError(f"{counted(len(sources), 'source')} given: fusing takes two or more")
    chosen = [1.0] * len(sources) if weights is None else [float(weight) for weight in weights]
    if len(chosen) != len(sources) or not all(0 < weight < float("inf") for weight in chosen):
        raise InputError(
            f"--weights has {len(chosen)} for {counted(len(sources), 'source')}: pass a number above 0 for each, such as "
            "1,0.5"
        )
    return chosen


def readings_of(
    sources: Sequence[Path], common: Reading, layers: Mapping[str, LayerOptions]
) -> list[Reading]:
    """How each source is read.

    Raises:
        InputError: an option is for no source, or is no such share.
    """
    readings = [common] * len(sources)
    for name, options in layers.items():
        number = which_source(name, sources)
        if number is None:
            known = ", ".join(path.stem for path in sources)
            raise InputError(f"{name} is none of the sources, which are {known}: name one, or its number")
        readings[number] = replace(readings[number], **options)
    for reading in readings:
        if not 0.5 <= reading.reliability < 1:
            raise InputError(f"--reliability {reading.reliability:g} is no share from 0.5 to below 1")
    return readings


def which_source(name: str, sources: Sequence[Path]) -> int | None:
    """Which source is meant by its name, with or without ending, or by its number from 1; None for none or several."""
    if name.isdecimal() and 1 <= int(name) <= len(sources):
        return int(name) - 1
    wanted = name.casefold()
    found = [
        number
        for number, path in enumerate(sources)
        if wanted in (part_layer(path)[0].stem.casefold(), path.name.casefold())
    ]
    return found[0] if len(found) == 1 else None
