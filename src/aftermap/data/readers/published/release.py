"""What describes a published dataset: where its files lie, what its labels mean, and under which licence it comes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aftermap.data.legends import Legend
from aftermap.data.preparing.dataset import SourceScene
from aftermap.data.scene import Split
from aftermap.errors import DataError

Name = Literal[
    "rescuenet",
    "floodnet",
    "flair",
    "levir-cd",
    "s2looking",
    "s2looking-kinds",
    "fotbcd",
    "fotbcd-instances",
    "bright",
    "ida-bd",
    "ebd",
    "xbd-s12",
    "crasar-u-droids",
    "spacenet8",
]
Form = Literal["classes", "change", "levels", "sentinel", "droids", "flood", "kinds", "outlines"]
"""How a release is read: class numbers on one date; change, or levels of damage, on two; xBD-S12's, CRASAR-U-DROIDs'
and SpaceNet 8's own ways; kinds of change as two masks, or as outlines."""


@dataclass(frozen=True, slots=True)
class Release:
    """A published dataset.

    Attributes:
        name: of `aftermap data prepare published --release`.
        title: as its publisher calls it.
        form: how its labels are read.
        legend: of its labels.
        licence: of the data, in words.
        expected: its layout, for messages.
        find: its scenes below a folder; empty where there are none.
        source: what layout, values and licence were taken from.
        unconfirmed: what could not be found there.
        scenes: how many images or pairs the whole release holds, where that is stated.
    """

    name: Name
    title: str
    form: Form
    legend: Legend
    licence: str
    expected: str
    find: Callable[[Path], "Found"]
    source: str
    unconfirmed: str = ""
    scenes: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Scenes of a folder, and files that were left out because their partner is missing."""

    scenes: tuple[SourceScene, ...]
    unpaired: tuple[Path, ...] = ()


SPLITS: dict[str, tuple[Split, str]] = {
    "train": ("train", "train"),
    "val": ("validation", "hold"),
    "valid": ("validation", "hold"),
    "validation": ("validation", "hold"),
    "test": ("test", "test"),
}
"""The split, and the publisher's own, that the name of a folder or the beginning of a name stands for."""


def split_of(name: str) -> tuple[Split, str | None]:
    """The split that a name such as `train` or `val` stands for."""
    return SPLITS.get(name.lower(), ("unassigned", None))


def folders_named(source: Path, name: str, *, depth: int = 3) -> list[Path]:
    """Folders of a name in a folder, at most so many levels below it; names count whatever their case."""
    found: list[Path] = []
    level = [source]
    for _ in range(depth):
        below = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir()]
        found += [path for path in below if path.name.lower() == name.lower()]
        level = below
    return found


def check_folder(source: Path, release: Release) -> None:
    """Refuse what is no folder.

    Raises:
        DataError: with the layout that is expected.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: {release.title} has {release.expected}")
