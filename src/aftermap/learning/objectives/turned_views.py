"""Turned versions of a batch: the same turn for images, masks and feature maps of any resolution."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.classes import IGNORE
from aftermap.learning.losses.pixel import widened
from aftermap.learning.losses.pseudo_labels import PseudoLabels

Rotation = Literal["none", "quarter-turns", "free"]

_MIRRORED = 4


@dataclass(frozen=True, slots=True)
class Turns:
    """How each sample of a batch is turned.

    Attributes:
        elements: one per sample, 0 to 7: so many quarter turns counter-clockwise; from 4 on the sample is mirrored left
            to right first.
        angles: degrees counter-clockwise by which each is turned after that, by interpolation; None leaves it.
    """

    elements: tuple[int, ...]
    angles: tuple[float, ...] | None = None

    def images(self, values: Tensor) -> Tensor:
        """Images or feature maps (B, ..., H, W), turned; what comes from outside is 0. Gradients flow through.

        Raises:
            ValueError: maps that are not square cannot take odd quarter turns, or the batch has another size.
        """
        turned = self._by_quarters(values)
        return turned if self.angles is None else self._rotated(turned, "bilinear")

    def masks(self, mask: Tensor) -> Tensor:
        """Masks (B, H, W), turned by the nearest pixel; what comes from outside is IGNORE."""
        turned = self._by_quarters(mask)
        if self.angles is None:
            return turned
        # 0 comes from outside; small whole numbers are exact in 32 bits
        shifted = self._rotated((turned - IGNORE).float()[:, None], "nearest")[:, 0]
        return shifted.round().to(mask.dtype) + IGNORE

    def inside(self, like: Tensor) -> Tensor | None:
        """Bool (B, h, w): where turned maps of the size of `like` (B, ..., h, w) hold nothing from outside.

        None where that is everywhere.
        """
        if self.angles is None:
            return None
        ones = torch.ones(len(like), 1, *like.shape[-2:], device=like.device)
        return self._rotated(ones, "bilinear")[:, 0] > 1 - 1e-4

    def _by_quarters(self, values: Tensor) -> Tensor:
        if len(values) != len(self.elements):
            raise ValueError(f"{len(self.elements)} turns do not fit a batch of {len(values)}")
        height, width = values.shape[-2:]
        if height != width and any(element % 2 for element in self.elements):
            raise ValueError(f"a map of {height} x {width} cannot take quarter turns: expected a square")
        first = self.elements[0]
        if all(element == first for element in self.elements):
            return _turned(values, first)
        order = sorted(range(len(values)), key=self.elements.__getitem__)
        parts = [
            _turned(values[list(rows)], kind) for kind, rows in groupby(order, self.elements.__getitem__)
        ]
        places = [0] * len(order)
        for place, row in enumerate(order):
            places[row] = place
        return torch.cat(parts)[places]

    def _rotated(self, values: Tensor, mode: Literal["bilinear", "nearest"]) -> Tensor:
        assert self.angles is not None
        height, width = values.shape[-2:]
        rows = []
        for angle in self.angles:
            sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
            rows.append([[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]])
        flat = widened(values.flatten(1, -3) if values.ndim > 4 else values)
        theta = flat.new_tensor(rows)
        grid = F.affine_grid(theta, [*flat.shape], align_corners=False)
        sampled = F.grid_sample(flat, grid, mode=mode, padding_mode="zeros", align_corners=False)
        return sampled.reshape(values.shape)


def draw_turns(
    samples: int,
    *,
    square: bool,
    flips: bool,
    rotation: Rotation,
    alike: bool,
    generator: torch.Generator,
) -> Turns:
    """Draw how a batch is turned, each way as likely as the others; the identity is one of them.

    Args:
        samples: of the batch.
        square: whether the images are; others take half turns only in place of quarter turns.
        flips: mirror images take part.
        rotation: of what kind.
        alike: one draw for the whole batch.
        generator: on the CPU.
    """
    choices = _choices(square, flips, rotation)
    picked = _drawn(samples, alike, lambda n: torch.randint(len(choices), (n,), generator=generator).tolist())
    elements = tuple(choices[int(number)] for number in picked)
    if rotation != "free":
        return Turns(elements)
    angles = _drawn(samples, alike, lambda n: (360 * torch.rand(n, generator=generator)).tolist())
    return Turns(elements, tuple(float(angle) for angle in angles))


def doubled(labels: PseudoLabels, turns: Turns) -> PseudoLabels:
    """Labels of a batch and, behind them, those of its turned images."""
    confidence, softly = labels.confidence, labels.softly
    return PseudoLabels(
        torch.cat([labels.mask, turns.masks(labels.mask)]),
        labels.certainty.repeat(2),
        None if confidence is None else torch.cat([confidence, turns.images(confidence[:, None])[:, 0]]),
        None if softly is None else torch.cat([softly, turns.masks(softly.long()) == 1]),
    )


def _choices(square: bool, flips: bool, rotation: Rotation) -> Sequence[int]:
    if rotation == "none":  # as it is, left to right, upside down
        return (0, _MIRRORED, _MIRRORED + 2) if flips else (0,)
    if rotation == "free":
        return (0, _MIRRORED) if flips else (0,)
    turns = range(0, 4, 1 if square else 2)
    return [*turns, *(_MIRRORED + turn for turn in turns)] if flips else turns


def _drawn(samples: int, alike: bool, draw: Callable[[int], list[float]]) -> list[float]:
    return draw(1) * samples if alike else draw(samples)


def _turned(values: Tensor, element: int) -> Tensor:
    mirrored = values.flip(-1) if element >= _MIRRORED else values
    return torch.rot90(mirrored, element % 4, (-2, -1)) if element % 4 else mirrored
