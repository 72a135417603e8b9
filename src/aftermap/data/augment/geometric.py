"""Draws of the geometric operations: from ranges to the steps of one sample."""

import math
from collections.abc import Sequence
from typing import assert_never

import numpy as np

from aftermap.data.augment.operations import Flip, Geometric, Range, Rotate90, RotateScale, Shift
from aftermap.data.loading.geometry import Mirror, Move, RotateAbout, Step, Turn


def draw_steps(
    operations: Sequence[Geometric], rng: np.random.Generator, *, height: int, width: int
) -> list[Step]:
    """Draw one sample's steps on a frame of the given size."""
    steps: list[Step] = []
    for operation in operations:
        if rng.random() >= operation.p:
            continue
        step = draw_step(operation, rng, height=height, width=width)
        if isinstance(step, Turn) and step.quarters % 2:
            height, width = width, height
        steps.append(step)
    return steps


def draw_step(operation: Geometric, rng: np.random.Generator, *, height: int, width: int) -> Step:
    """Draw one operation that fires, on a frame of the given size."""
    match operation:
        case Flip():
            return Mirror(operation.direction)
        case Rotate90():
            return Turn(operation.turns[int(rng.integers(len(operation.turns)))])
        case Shift():
            x, y = _uniform(rng, operation.x), _uniform(rng, operation.y)
            right, down = (
                (y * height, x * width) if operation.compat_swapped_axes else (x * width, y * height)
            )
            return Move(round(right), round(down)) if operation.whole_px else Move(right, down)
        case RotateScale():
            u, v = _uniform(rng, operation.center), _uniform(rng, operation.center)
            x, y = (v * height, u * width) if operation.compat_swapped_axes else (u * width, v * height)
            degrees, scale = _uniform(rng, operation.degrees), _uniform(rng, operation.scale)
            if operation.center[0] == operation.center[1] == 0.5:
                x, y = (width - 1) / 2, (height - 1) / 2
            if operation.whole_degrees:  # each as likely, the ends too
                low, high = operation.degrees
                degrees = float(math.floor(rng.uniform(low, high + 1)))
            return RotateAbout(x, y, degrees, scale)
        case _:
            assert_never(operation)


def _uniform(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))
