"""Label files of many classes, coloured or with class numbers, as masks of a legend's classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.band_files import Pixels, read_file
from aftermap.data.legends import Legend
from aftermap.data.preparing.class_image import BOUNDARY_PX, ClassMask
from aftermap.data.preparing.dataset import SourceScene
from aftermap.data.readers.colours import TOLERANCE, OffPalette, decode_colours
from aftermap.errors import DataError, ReadingError

LABEL = "label"
"""Role of the label file of an image that has one."""


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Reads label files of a legend; one with three bands holds colours, one with a single band class numbers.

    Attributes:
        legend: names, colours and numbers of the classes.
        off_palette: what becomes of colours that the legend does not list; see `decode_colours`.
        tolerance: see there.
        first_value: number of the first class in files of class numbers, the others follow; numbers below it mean that
            the class is unknown. None: the numbers are those of the legend.
    """

    legend: Legend
    off_palette: OffPalette = "refuse"
    tolerance: float = TOLERANCE
    first_value: int | None = None

    def __post_init__(self) -> None:
        """Refuse options that describe no label files.

        Raises:
            DataError: a tolerance below 0, a first value that 8 bits do not hold.
        """
        if not self.tolerance >= 0:
            raise DataError(f"the colour tolerance is {self.tolerance:g}, expected 0 or more")
        if self.first_value is not None and not 0 <= self.first_value < IGNORE:
            raise DataError(f"the first value is {self.first_value}, expected 0 to {IGNORE - 1}")

    def of(self, source: SourceScene) -> ClassMask:
        """The mask of an image with one label file."""
        return self(source.labels[LABEL])

    def __call__(self, path: Path) -> ClassMask:
        """The mask of one label file.

        Raises:
            DataError: unreadable, or colours or numbers that are not of the legend.
        """
        return self.decode(read_file(path), str(path))

    def decode(self, pixels: Pixels, name: str) -> ClassMask:
        """The mask of what a label file holds; `name` is for messages.

        Raises:
            DataError: colours or numbers that are not of the legend.
        """
        array = pixels.array
        if array.dtype != np.uint8 or len(array) not in (1, 3, 4):
            raise DataError(
                f"{name} has {len(array)} bands of {array.dtype}, expected 8 bits: one band of class numbers, or three "
                "of colours"
            )
        if len(array) == 1:
            return self._decoded(array[0], name)
        colours = np.ascontiguousarray(array[:3].transpose(1, 2, 0))
        if pixels.indices is not None and not self._lists(colours):
            return self._decoded(pixels.indices, name)
        return decode_colours(
            colours,
            self.legend.label_palette,
            off_palette=self.off_palette,
            tolerance=self.tolerance,
            name=name,
        )

    def lookup(self) -> np.ndarray:
        """int16 (256,): mask value of each number of an index file, -1 where it stands for no class."""
        count = len(self.legend.names)
        table = np.full(256, -1, np.int16)
        if self.first_value is None:
            table[list(self.legend.ignored)] = IGNORE
            table[list(self.legend.label_values or range(count))] = range(count)
        else:
            table[: self.first_value] = IGNORE
            last = min(self.first_value + count, IGNORE)
            table[self.first_value : last] = range(last - self.first_value)
        table[IGNORE] = IGNORE
        return table

    def _decoded(self, numbers: np.ndarray, name: str) -> ClassMask:
        mask = self._numbers(numbers, name)
        legend = self.legend
        if self.first_value is not None or legend.label_values is not None or legend.background is not None:
            return ClassMask(mask)
        square = np.ones((BOUNDARY_PX, BOUNDARY_PX), np.uint8)
        is_wide = bool(cv2.erode((mask == 0).astype(np.uint8), square).any())
        return ClassMask(mask, first_is_wide=is_wide)

    def _numbers(self, numbers: np.ndarray, name: str) -> np.ndarray:
        found = self.lookup()[numbers]
        if (found < 0).any():
            row, col = np.argwhere(found < 0)[0]
            known = ", ".join(str(value) for value in np.flatnonzero(self.lookup() >= 0))
            raise ReadingError(
                f"{name} holds the value {numbers[row, col]} at row {row}, column {col}, legend {self.legend.name} "
                f"expects {known}: choose another --legend, or pass --first-value, the number of its first class"
            )
        mask: np.ndarray = found.astype(np.uint8)
        return mask

    def _lists(self, colours: np.ndarray) -> bool:
        """Whether the legend has all colours of an image."""
        try:
            decode_colours(colours, self.legend.label_palette)
        except DataError:
            return False
        return True


Official = Literal["test", "validation"]
"""What an official validation set, the last with published labels, is used as."""


def deal_validation(images: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Which of the groups of training images are for validation: a share of them, drawn by the seed.

    Args:
        images: names of the groups.
        share: from 0 to less than 1; above 0 at least one group is taken.
        seed: 0 or more.

    Raises:
        DataError: a share that leaves nothing to train on, or a single group.
    """
    names = sorted(set(images))
    if not 0 <= share < 1:
        raise DataError(
            f"--validation {share:g} is no share of the training images: pass one from 0 to below 1"
        )
    count = max(1, round(share * len(names))) if share else 0
    if count and count >= len(names):
        raise DataError(
            f"{len(names)} training images cannot give {share:.0%} for validation: pass --validation 0, and split "
            "the tiles afterwards with 'aftermap data split --by block'"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return frozenset(names[number] for number in order[:count])
