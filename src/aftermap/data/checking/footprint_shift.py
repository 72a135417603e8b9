"""How far building masks lie beside the buildings in their images, from outlines and image gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from aftermap.classes import IGNORE
from aftermap.data.scene import Scene, read_image, read_mask
from aftermap.geo.alignment.edges import edge_field, slopes

REACH_PX = 12
"""Shifts are looked for up to this many pixels along each axis."""

MIN_SHIFT_PX = 3.0
"""Outlines from other imagery lie a pixel or two beside this one; a network learns with that."""

_MIN_TILES = 3
_MIN_GAIN = 0.05
_SURE = 2.0
_EDGE = 0.1
_MOST_POINTS = 2000
_SAME_RESOLUTION = 1.1
_EXAMINED = 12


@dataclass(frozen=True, slots=True)
class FootprintShift:
    """Where the buildings of the images lie relative to their outlines, at one resolution.

    Attributes:
        resolution_m: metres per pixel; None without georeference.
        dx_px: pixels that the outlines have to move right to fit best.
        dy_px: pixels that they have to move down.
        fit: how well they fit as they are: mean of the image's gradient across the outlines, 0 (none) to 1.
        gain: how much that rises in a tile with the shift of the other tiles taken out, as a share of `fit`.
        error: standard error of `gain` over the tiles.
        tiles: how many tiles took part.
    """

    resolution_m: float | None
    dx_px: int
    dy_px: int
    fit: float
    gain: float
    error: float
    tiles: int

    @property
    def length_px(self) -> float:
        """Length of the shift."""
        return math.hypot(self.dx_px, self.dy_px)

    @property
    def is_beyond(self) -> bool:
        """Whether the best shift lies at the edge of what was looked at, so that the true one may be longer."""
        return max(abs(self.dx_px), abs(self.dy_px)) >= REACH_PX

    @property
    def is_clear(self) -> bool:
        """Whether the labels should be looked at: a shift over 3 px that fits better beyond chance.

        Where outlines fit, the best of 625 shifts is at most a pixel or two from none and gains next to nothing;
        where the image shows no edges (trees over roofs, blur) the best shift is anywhere, and gains nothing in tiles
        that took no part in its choice. So the gain has to be 5 % of the fit and twice its standard error over at least
        three tiles. Real imagery that fits gains 0, footprints traced nine years later 13 to 45 %.
        """
        return (
            self.length_px > MIN_SHIFT_PX
            and self.tiles >= _MIN_TILES
            and self.gain >= max(_MIN_GAIN, _SURE * self.error)
        )


def by_resolution(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Tiles with buildings in groups of one resolution, finest first, and in each those with most building first."""
    groups: list[list[Scene]] = []
    previous = None
    for scene in sorted(scenes, key=lambda scene: (scene.resolution_m or 0.0, scene.name)):
        if not any(scene.class_pixels[1:]):
            continue
        resolution = scene.resolution_m or 0.0
        # Ground size changes with latitude, so tiles of one image differ by a little.
        if previous is None or resolution > previous * _SAME_RESOLUTION:
            groups.append([])
            previous = resolution
        groups[-1].append(scene)
    return [sorted(group, key=_fullness) for group in groups]


def measure_shifts(scenes: Sequence[Scene], *, tiles: int = _EXAMINED) -> list[FootprintShift]:
    """The shift at each resolution, from the `tiles` tiles with most buildings."""
    found = [measure_shift(group[:tiles]) for group in by_resolution(scenes)]
    return [shift for shift in found if shift is not None]


def measure_shift(scenes: Sequence[Scene], *, reach_px: int = REACH_PX) -> FootprintShift | None:
    """Move the outlines of building masks over their images and find where they meet the strongest edges.

    All tiles move together. Only the gradient across an outline counts, strong edges less than in proportion.

    Args:
        scenes: tiles of one resolution with masks.
        reach_px: longest shift along each axis.

    Returns:
        The shift, or None where no tile shows outlines.
    """
    surfaces = [surface for scene in scenes if (surface := fit_surface(scene, reach_px)) is not None]
    if not surfaces:
        return None
    stack = np.array(surfaces)
    mean = stack.mean(axis=0)
    row, col = np.unravel_index(int(mean.argmax()), mean.shape)
    still = float(mean[reach_px, reach_px])
    # Each tile is judged at the shift that the others choose: the best of 625 on its own edges always gains.
    others = (
        (stack.sum(axis=0) - stack).reshape(len(stack), -1).argmax(axis=1)
        if len(stack) > 1
        else [mean.argmax()]
    )
    chosen = stack.reshape(len(stack), -1)[np.arange(len(stack)), others]
    gains = (chosen - stack[:, reach_px, reach_px]) / max(still, 1e-9)
    return FootprintShift(
        resolution_m=scenes[0].resolution_m,
        dx_px=int(col) - reach_px,
        dy_px=int(row) - reach_px,
        fit=still,
        gain=float(gains.mean()),
        error=float(gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else 0.0,
        tiles=len(gains),
    )


def fit_surface(scene: Scene, reach_px: int = REACH_PX) -> np.ndarray | None:
    """How well a tile's outlines fit at every shift: (2 R + 1, 2 R + 1), down along rows; None without outlines."""
    mask = read_mask(scene, target="building")
    known = mask != IGNORE
    building = (mask == 1).astype(np.float64)
    field = slopes(building)
    strength = np.abs(field)
    cross, edge = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), cv2.BORDER_CONSTANT
    inside = cv2.erode(known.astype(np.uint8), cross, iterations=reach_px, borderType=edge, borderValue=0) > 0
    rows, cols = np.nonzero((strength > _EDGE) & inside)
    if len(rows) == 0:
        return None
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_POINTS)).astype(int)
    rows, cols = rows[chosen], cols[chosen]
    normal = field[rows, cols] / strength[rows, cols]
    field = edge_field(read_image(scene.pre))
    steps = range(-reach_px, reach_px + 1)
    return np.array(
        [[np.abs((field[rows + dy, cols + dx] * normal.conj()).real).mean() for dx in steps] for dy in steps]
    )


def _fullness(scene: Scene) -> tuple[int, int, str]:
    return -sum(scene.polygons.values()), -sum(scene.class_pixels[1:]), scene.name
