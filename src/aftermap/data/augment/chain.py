"""Which operations fire: gates drawn for a batch, sample by sample and date by date, and how likely each is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from aftermap.data.augment.misregistration import Misregistration
from aftermap.data.augment.operations import (
    BoxBlur,
    Brightness,
    ChannelDropout,
    ChannelShift,
    Clahe,
    Contrast,
    Cutout,
    Dilation,
    Elastic,
    Gamma,
    GaussianBlur,
    Grayscale,
    GridDistortion,
    HsvShift,
    Leaf,
    MotionBlur,
    Noise,
    OneOf,
    OpticalDistortion,
    Range,
    Saturation,
    is_eight_bit,
    leaves,
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One operation with all it needs for the images that it changes.

    Attributes:
        operation: what is done.
        samples: positions (N,) in the batch.
        dates: date (N,) of each.
        state: (N, k) float64, what was drawn for each image; `draw_state` says what it holds.
    """

    operation: Leaf
    samples: np.ndarray
    dates: np.ndarray
    state: np.ndarray


@dataclass(frozen=True, slots=True)
class Chance:
    """How likely an operation is to change one date of a sample."""

    operation: Leaf
    date: int
    probability: float


def draw(
    operations: Sequence[Leaf | OneOf], rng: np.random.Generator, *, batch: int, dates: int
) -> list[Drawn]:
    """Draw what happens to a batch of samples of so many dates, in the order in which it is to be done."""
    drawn: list[Drawn] = []
    for operation in operations:
        _walk(operation, rng, np.ones(batch, bool), tuple(range(dates)), drawn, per_batch=False)
    return drawn


def draw_state(operation: Leaf, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw parameters (count, k) of an operation.

    With `compat_uint8`, shifts are whole numbers of 8-bit steps.

    Returns:
        Shifts of the bands (red, green, blue) or of hue, saturation and value; a factor; factor and addend; an
        exponent; a sigma; an amplitude; for noise and elastic motion, first the seed of their field; factors of columns,
        then of rows; a lens; pixels right and down of all, then of buildings besides; fractions down and right of each
        hole; how many bands go, and the seed of which; length and angle of a line.
    """
    match operation:
        case ChannelShift(amount=amount):
            limits, steps = (amount,) * 3, (255, 255, 255)
        case HsvShift(hue=hue, saturation=saturation, value=value):
            limits, steps = (hue, saturation, value), (180, 255, 255)
        case Saturation(factor=factor) | Contrast(factor=factor):
            return _uniform(rng, count, factor)
        case Brightness(factor=factor, add=add):
            return _uniform(rng, count, factor, add)
        case Gamma(exponent=exponent):
            return _uniform(rng, count, exponent)
        case GaussianBlur(sigma_px=sigma):
            return _uniform(rng, count, sigma)
        case Noise():
            return rng.integers(2**31, size=(count, 1)).astype(float)
        case Elastic(amount_px=amount_px):
            seeds = rng.integers(2**31, size=(count, 1)).astype(float)
            return np.concatenate([seeds, _uniform(rng, count, amount_px)], axis=1)
        case GridDistortion(cells=cells, limit=limit):
            return rng.uniform(1 - limit, 1 + limit, (count, 2 * cells))
        case OpticalDistortion(limit=limit):
            return rng.uniform(-limit, limit, (count, 1))
        case Cutout(holes=holes):
            return rng.random((count, 2 * holes))
        case ChannelDropout(channels=(least, most)):
            counts = rng.integers(least, most + 1, (count, 1)).astype(float)
            return np.concatenate([counts, rng.integers(2**31, size=(count, 1)).astype(float)], axis=1)
        case MotionBlur(size_px=(least, most)):
            sizes = rng.integers(least // 2, most // 2 + 1, (count, 1)) * 2 + 1.0
            return np.concatenate([sizes, rng.uniform(0, math.pi, (count, 1))], axis=1)
        case Misregistration(shift_px=shift, lean_px=lean):
            moved = rng.uniform(-shift, shift, (count, 2))
            far, way = rng.uniform(0, lean, count), rng.uniform(0, 2 * math.pi, count)
            return np.concatenate([moved, np.stack([far * np.cos(way), far * np.sin(way)], axis=1)], axis=1)
        case Clahe() | BoxBlur() | Grayscale() | Dilation():
            return np.zeros((count, 0))
        case _:
            assert_never(operation)
    if is_eight_bit(operation):
        whole = [round(limit * step) for limit, step in zip(limits, steps, strict=True)]
        return np.stack([rng.integers(-most, most + 1, count) for most in whole], axis=1).astype(float)
    return _uniform(rng, count, *((-limit, limit) for limit in limits))


def effective_probabilities(operations: Sequence[Leaf | OneOf], *, dates: int) -> list[Chance]:
    """How likely each operation is to change each date of a sample, groups and their order taken into account.

    Operations come in the order of the list, members of groups in theirs. A `dilation`, which changes the mask,
    stands under date 0 only.
    """
    members = [leaf for operation in operations for leaf in leaves(operation)]
    found: dict[tuple[int, int], float] = {}
    first = 0
    for operation in operations:
        _add_chances(operation, first, tuple(range(dates)), 1.0, found)
        first += len(list(leaves(operation)))
    return [Chance(members[at], date, probability) for (at, date), probability in sorted(found.items())]


def _walk(
    operation: Leaf | OneOf,
    rng: np.random.Generator,
    wanted: np.ndarray,
    dates: tuple[int, ...],
    drawn: list[Drawn],
    *,
    per_batch: bool,
) -> np.ndarray:
    """Try an operation on the samples that are `wanted` (B,); returns those for which it fired (B,)."""
    fired = np.zeros(len(wanted), bool)
    for chosen in _rounds(operation, dates):
        gate = rng.random(1 if per_batch else len(wanted)) < operation.p
        now = wanted & gate
        fired |= now
        if isinstance(operation, OneOf):
            left = now
            for member in operation.of:
                left = left & ~_walk(member, rng, left, chosen, drawn, per_batch=operation.compat_per_batch)
        elif now.any():
            drawn.append(_on(operation, rng, np.flatnonzero(now), chosen))
    return fired


def _on(operation: Leaf, rng: np.random.Generator, samples: np.ndarray, dates: tuple[int, ...]) -> Drawn:
    """An operation on some samples, alike for the given dates."""
    state = draw_state(operation, rng, len(samples))
    each = len(dates)
    return Drawn(
        operation, np.repeat(samples, each), np.tile(dates, len(samples)), np.repeat(state, each, axis=0)
    )


def _rounds(operation: Leaf | OneOf, dates: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The dates of each draw: all together, or one after the other; none where the wanted date is not there."""
    if isinstance(operation, Dilation):
        return [dates[:1]]
    if isinstance(operation, GridDistortion | OpticalDistortion):
        return [dates]
    if isinstance(operation, Elastic) and not operation.compat_image_only:
        return [dates]
    match operation.dates:
        case "both":
            return [dates]
        case "independent":
            return [(date,) for date in dates]
        case "pre":
            return [(0,)] if 0 in dates else []
        case "post":
            return [(1,)] if 1 in dates else []
        case _:
            assert_never(operation.dates)


def _add_chances(
    operation: Leaf | OneOf,
    first: int,
    dates: tuple[int, ...],
    reached: float,
    found: dict[tuple[int, int], float],
) -> float:
    """Add the chance of each leaf on each date to `found`, under the leaf's number and the date.

    Args:
        operation: its leaves are numbered from `first`.
        first: see there.
        dates: those it may change.
        reached: chance that its turn comes.
        found: is added to.

    Returns:
        Chance that it fires when its turn has come.
    """
    silent = 1.0
    for chosen in _rounds(operation, dates):
        silent *= 1 - operation.p
        turn = reached * operation.p
        if not isinstance(operation, OneOf):
            for date in chosen:
                found[first, date] = found.get((first, date), 0.0) + turn
            continue
        number = first
        for member in operation.of:
            turn *= 1 - _add_chances(member, number, chosen, turn, found)
            number += len(list(leaves(member)))
    return 1 - silent


def _uniform(rng: np.random.Generator, count: int, *ranges: Range) -> np.ndarray:
    return np.stack([rng.uniform(low, high, count) for low, high in ranges], axis=1)
