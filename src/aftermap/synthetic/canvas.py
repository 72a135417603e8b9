"""The painting ground: a map of material numbers, a table of what each material looks like, and a height map."""

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from aftermap.synthetic.texture import NoiseBank

SUBPIXEL_BITS = 4
_SCALE = 1 << SUBPIXEL_BITS

PHOTO, GRASS, SOIL, PAVED, ROOF, WALL, WATER, CAR, DEBRIS, CROP, ASH, ITEM = range(12)
"""What a material is; decides how it changes with season, sensor and disaster. PHOTO is the real image below."""

Colour = tuple[float, float, float]


class Material(NamedTuple):
    """One surface.

    Attributes:
        kind: one of the constants above.
        base: red, green, blue in 0..1.
        other: the colour it is mixed with.
        mix: (bias, coarse, patch, grain): share of `other` = bias + noises times these, clipped to 0..1.
        rough: (fine, grain, mid, coarse, broad): relative brightness noise.
        shade: factor of direct light on the surface (1 on level ground).
    """

    kind: int
    base: Colour
    other: Colour
    mix: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    rough: tuple[float, float, float, float, float] = (0.03, 0.03, 0.03, 0.03, 0.03)
    shade: float = 1.0


@dataclass
class Materials:
    """Growing table of materials; number 0 is the photograph."""

    rows: list[Material] = field(default_factory=lambda: [Material(PHOTO, (0, 0, 0), (0, 0, 0))])

    def add(self, material: Material) -> int:
        """Append a material and return its number."""
        self.rows.append(material)
        return len(self.rows) - 1

    def copy(self) -> "Materials":
        """A table that can grow without touching this one."""
        return Materials(list(self.rows))

    @property
    def kinds(self) -> np.ndarray:
        """Kind of each material, uint8 (K)."""
        return np.array([row.kind for row in self.rows], np.uint8)

    def albedo(self, numbers: np.ndarray, noise: NoiseBank) -> np.ndarray:
        """Colours of a map of material numbers (H, W): float32 (H, W, 3), without light."""
        base = np.array([row.base for row in self.rows], np.float32)
        delta = np.array([row.other for row in self.rows], np.float32) - base
        mix = np.array([row.mix for row in self.rows], np.float32)
        rough = np.array([row.rough for row in self.rows], np.float32)
        fine, grain, mid, coarse, broad, patch = noise.layers
        flat = numbers.ravel()

        def weighted(
            table: np.ndarray, columns: list[int], fields: list[np.ndarray], start: float
        ) -> np.ndarray:
            total = np.full(numbers.shape, start, np.float32)
            for column, values in zip(columns, fields, strict=True):
                total += np.take(table[:, column], flat).reshape(numbers.shape) * values
            return total

        share = weighted(mix, [1, 2, 3], [coarse, patch, grain], 0.0)
        share += np.take(mix[:, 0], flat).reshape(numbers.shape)
        np.clip(share, 0, 1, out=share)
        light = weighted(rough, [0, 1, 2, 3, 4], [fine, grain, mid, coarse, broad], 1.0)
        np.clip(light, 0.25, 2.2, out=light)
        colour = np.take(base, flat, axis=0).reshape(*numbers.shape, 3)
        colour += np.take(delta, flat, axis=0).reshape(*numbers.shape, 3) * share[..., None]
        colour *= light[..., None]
        return colour


@dataclass
class Canvas:
    """A picture in the making.

    Attributes:
        numbers: material numbers, int32 (N, N).
        height: metres above ground of what is seen in each pixel, float32 (N, N).
        materials: what the numbers mean.
    """

    numbers: np.ndarray
    height: np.ndarray
    materials: Materials

    @classmethod
    def blank(cls, size_px: int, materials: Materials) -> "Canvas":
        """All photograph, all level."""
        return cls(
            np.zeros((size_px, size_px), np.int32), np.zeros((size_px, size_px), np.float32), materials
        )

    @property
    def size_px(self) -> int:
        """Width and height."""
        return int(self.numbers.shape[0])

    def copy(self) -> "Canvas":
        """An independent canvas with the same content."""
        return Canvas(self.numbers.copy(), self.height.copy(), self.materials.copy())

    def fill(self, polygon: np.ndarray, number: int) -> None:
        """Paint a polygon (P, 2) of x, y in pixel coordinates."""
        cv2.fillPoly(self.numbers, [fixed(polygon)], number, shift=SUBPIXEL_BITS)

    def line(self, points: np.ndarray, width_px: float, number: int) -> None:
        """Paint a polyline (P, 2) of constant width with round joints."""
        stroke(self.numbers, points, width_px, number)

    def dots(self, points: np.ndarray, number: int | np.ndarray) -> None:
        """Paint single pixels at points (P, 2)."""
        at = np.floor(points).astype(np.intp)
        inside = ((at >= 0) & (at < self.size_px)).all(axis=1)
        self.numbers[at[inside, 1], at[inside, 0]] = (
            number[inside] if isinstance(number, np.ndarray) else number
        )

    def window(self, polygon: np.ndarray, margin_px: int = 1) -> tuple[slice, slice] | None:
        """Rows and columns around a polygon, clipped to the canvas; None where it lies outside."""
        return bounding_window(polygon, self.size_px, margin_px)


def fixed(polygon: np.ndarray) -> np.ndarray:
    """Fixed-point pixel-centre coordinates for OpenCV's `shift`: a corner at x lies half a pixel left of centre x."""
    points: np.ndarray = np.round((polygon - 0.5) * _SCALE).astype(np.int32)
    return points


def stroke(target: np.ndarray, points: np.ndarray, width_px: float, value: int) -> None:
    """Draw a polyline of any width into an array: quads along it and discs at its joints."""
    points = np.asarray(points, np.float64)
    along = np.diff(points, axis=0)
    length = np.hypot(along[:, 0], along[:, 1])
    keep = length > 1e-6
    if not keep.any():
        return
    along, length, start = along[keep], length[keep], points[:-1][keep]
    side = np.stack([-along[:, 1], along[:, 0]], 1) / length[:, None] * (width_px / 2)
    quads = np.stack([start + side, start + along + side, start + along - side, start - side], 1)
    for quad in fixed(quads.reshape(-1, 2)).reshape(-1, 4, 2):
        cv2.fillConvexPoly(target, quad, value, shift=SUBPIXEL_BITS)
    if width_px > 3:
        radius = round(width_px / 2 * _SCALE)
        for x, y in fixed(points[1:-1]):
            cv2.circle(target, (int(x), int(y)), radius, value, -1, shift=SUBPIXEL_BITS)


def bounding_window(polygon: np.ndarray, size_px: int, margin_px: int = 1) -> tuple[slice, slice] | None:
    """Rows and columns of a square array around points (P, 2); None where they all lie outside."""
    low = np.floor(polygon.min(axis=0)).astype(int) - margin_px
    high = np.ceil(polygon.max(axis=0)).astype(int) + margin_px + 1
    low, high = np.maximum(low, 0), np.minimum(high, size_px)
    if (high <= low).any():
        return None
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
