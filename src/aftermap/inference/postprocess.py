"""From probabilities to what is stored: damage classes, 8-bit probabilities, reasons for gaps."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np

from aftermap.artefacts.card import BaseCard, MinorDilation
from aftermap.classes import DAMAGE, IGNORE
from aftermap.wording import counted

SCALE = 254
"""Probabilities are stored as `round(SCALE * p)`: a step of 0.004, far below what a model knows, in a quarter
of the bytes of float32; 255 stays free for nodata."""


class Missing(IntEnum):
    """Why a pixel is not assessed; 0 where it is."""

    ASSESSED = 0
    PRE = 1
    POST = 2
    CLOUD = 3
    OUTSIDE = 4


REASONS = {
    Missing.PRE: "no data before",
    Missing.POST: "no data after",
    Missing.CLOUD: "cloud",
    Missing.OUTSIDE: "outside",
}
"""Words for `Missing` in the buildings' `reason` column."""


MINOR_REACH_PX = 2
"""Minor damage spreads over 5 x 5 pixels."""

_NO_DAMAGE, _MINOR, _MAJOR = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Decision:
    """How classes follow from probabilities.

    Attributes:
        thresholds: by class after the background; a pixel is a building where p(building) is above that of its
            likeliest class.
        minor_dilation: see `spread_minor`.
        likeliest: a pixel has the likeliest of all classes, the background among them; there are no thresholds.
    """

    thresholds: tuple[float, ...]
    minor_dilation: MinorDilation = "none"
    likeliest: bool = False

    @classmethod
    def of(cls, card: BaseCard, *, threshold: float | None = None) -> "Decision":
        """What a card says, or with one `threshold` for all classes instead of its own."""
        if card.legend is not None:
            return cls((), likeliest=True)
        kinds = len(card.classes) - 1
        if threshold is not None:
            thresholds = (threshold,) * kinds
        else:
            thresholds = card.class_thresholds or (card.building_threshold,) * kinds
        return cls(thresholds, card.minor_dilation)

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """Class uint8 (H, W) of probabilities (K, H, W), before minor damage spreads; ties go to the lower class."""
        if self.likeliest:
            return likeliest(probabilities)
        building, kind = self.classify(probabilities)
        kind[~building] = 0
        return kind

    def classify(self, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Building mask and likeliest class of probabilities (K, H, W), before minor damage spreads.

        Returns:
            bool (H, W), and uint8 (H, W) from 1 to K - 1 whether or not there is a building; ties go to the lower
            class.
        """
        if len(probabilities) != len(self.thresholds) + 1:
            raise ValueError(
                f"{counted(len(probabilities), 'class', 'classes')}, expected {len(self.thresholds) + 1}"
            )
        kind = likeliest(probabilities[1:]) + np.uint8(1)
        if len(set(self.thresholds)) == 1:
            return 1 - probabilities[0] > self.thresholds[0], kind
        limits = np.array((np.inf, *self.thresholds), probabilities.dtype)
        return 1 - probabilities[0] > limits[kind], kind


def likeliest(probabilities: np.ndarray) -> np.ndarray:
    """Number uint8 (H, W) of the largest of (K, H, W), K at most 255; ties go to the lower one.

    As `argmax` over the first axis, which numpy takes ten times as long for.
    """
    largest, found = probabilities[0], np.zeros(probabilities.shape[1:], np.uint8)
    for number, plane in enumerate(probabilities[1:], 1):
        more = (plane > largest).view(np.uint8)
        np.maximum(found, more * np.uint8(number), out=found)
        largest = np.maximum(largest, plane, out=None if number == 1 else largest)
    return found


def unweighted(probabilities: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """A model's own probabilities, from those that its decisions are made by.

    Decision weights move mass between the classes after the background: q(k) = w(k) p(k) sum(p) / sum(w p), with sums
    over these classes. They are tuned for F1 and make no probabilities; dividing by them gives p back.

    Args:
        probabilities: (K, ...) of all classes, with the weights in them.
        weights: of the classes after the background; a class of weight 0 stays at 0.

    Returns:
        The same type and shape; the background is as it was.
    """
    factors = np.asarray(weights, probabilities.dtype)
    factors = np.divide(1, factors, out=np.zeros_like(factors), where=factors > 0)
    found = np.empty_like(probabilities)
    found[0], decided = probabilities[0], probabilities[1:]
    own = np.multiply(decided, factors.reshape(-1, *(1,) * (decided.ndim - 1)), out=found[1:])
    total, after = decided.sum(axis=0), own.sum(axis=0)
    own *= np.divide(total, after, out=np.zeros_like(total), where=after > 0)
    return found


def damage_classes(probabilities: np.ndarray, missing: np.ndarray, decision: Decision) -> np.ndarray:
    """Class of every pixel, before minor damage spreads.

    Args:
        probabilities: (5, H, W) of background and the four damage levels.
        missing: (H, W), 0 where a pixel is assessed.
        decision: thresholds.

    Returns:
        uint8 (H, W): 0 background, 1 to 4 the most probable damage level, 255 not assessed.
    """
    if probabilities.shape[0] == 0:  # nothing of the scene was assessed so far
        return np.full(missing.shape, IGNORE, np.uint8)
    if probabilities.shape[0] != len(DAMAGE):
        raise ValueError(f"{probabilities.shape[0]} classes, expected the {len(DAMAGE)} of {DAMAGE.name}")
    building, level = decision.classify(probabilities)
    level *= building
    hidden = missing != 0
    if hidden.any():
        level[hidden] = IGNORE
    return level


def spread_minor(damage: np.ndarray, mode: MinorDilation) -> np.ndarray:
    """Let minor damage take over in the 5 x 5 squares around it.

    Args:
        damage: uint8 (H, W) of classes 0 to 4, IGNORE where not assessed.
        mode: `right` changes no-damage into minor damage; `compat` changes major damage too; `none` nothing.

    Source: xView2 first place, `create_submission.py`. What was meant is `right`; by the precedence of Python's
    operators, `D & damage == 1` written as `(D & damage) == 1`, odd classes change: `compat`.
    """
    minor = damage == _MINOR
    if mode == "none" or not minor.any():
        return damage
    side = 2 * MINOR_REACH_PX + 1
    near = cv2.dilate(minor.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    changed = damage == _NO_DAMAGE if mode == "right" else (damage == _NO_DAMAGE) | (damage == _MAJOR)
    return np.where(near & changed, np.uint8(_MINOR), damage)


def spread_minor_rows(bands: Iterable[np.ndarray], mode: MinorDilation) -> Iterator[np.ndarray]:
    """`spread_minor` of a scene that comes in bands of rows (h, W); as if it were done in one piece.

    Yields:
        Bands from top to bottom; they may be cut elsewhere than those that came.
    """
    if mode == "none":
        yield from bands
        return
    held: np.ndarray | None = None  # rows that came, from MINOR_REACH_PX above the first not yet handed on
    done = 0  # rows of `held` that were handed on
    for band in bands:
        held = band if held is None else np.concatenate([held, band])
        ready = len(held) - MINOR_REACH_PX
        if ready > done:
            yield spread_minor(held, mode)[done:ready]
            kept = max(ready - MINOR_REACH_PX, 0)
            held, done = held[kept:], ready - kept
    if held is not None and done < len(held):
        yield spread_minor(held, mode)[done:]


def to_bytes(probabilities: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Probabilities (5, H, W) as uint8, 255 where a pixel is not assessed."""
    if probabilities.shape[0] == 0:
        return np.full((len(DAMAGE), *missing.shape), IGNORE, np.uint8)
    values = np.clip(probabilities, 0, 1)
    values *= np.float32(SCALE)
    stored: np.ndarray = np.rint(values, out=values).astype(np.uint8)
    hidden = missing != 0
    if hidden.any():
        stored[:, hidden] = IGNORE
    return stored


def from_bytes(stored: np.ndarray) -> np.ndarray:
    """Probabilities float32 (5, H, W) from `to_bytes`; 0 where a pixel is not assessed."""
    values = stored.astype(np.float32) / np.float32(SCALE)
    values[stored == IGNORE] = 0
    return values
