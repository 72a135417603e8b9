"""Trees: crowns as domes in a canopy height map, forests as drifting tiles of crowns, rows and hedges."""

from dataclasses import dataclass

import cv2
import numpy as np

from aftermap.synthetic.texture import value_noise


@dataclass
class Canopy:
    """All foliage of a scene, seen from straight above at full leaf.

    Attributes:
        height: metres above ground, 0 where there is none, float32 (N, N).
        tree: number of the tree in each pixel, int32 (N, N).
        tone: relative brightness (T), hue: (T, 3) factors, vigour: (T) share that keeps leaves in winter (evergreen).
    """

    height: np.ndarray
    tree: np.ndarray
    tone: np.ndarray
    hue: np.ndarray
    evergreen: np.ndarray


class CrownBank:
    """Crown shapes of all radii in several variants, each a dome with lumps; heights relative to 1."""

    def __init__(self, rng: np.random.Generator, *, variants: int = 5) -> None:
        self._rng = rng
        self._variants = variants
        self._shapes: dict[int, list[np.ndarray]] = {}

    def get(self, radius_px: int) -> np.ndarray:
        """One variant of a crown, float32 (2r+3, 2r+3)."""
        if radius_px not in self._shapes:
            self._shapes[radius_px] = [self._draw(radius_px) for _ in range(self._variants)]
        return self._shapes[radius_px][int(self._rng.integers(self._variants))]

    def _draw(self, radius: int) -> np.ndarray:
        size = 2 * radius + 3
        axis = np.arange(size, dtype=np.float32) - (radius + 1)
        x, y = np.meshgrid(axis, axis)
        angle = np.arctan2(y, x)
        edge = np.full_like(angle, radius + 0.3)
        for k in range(2, 7):
            edge += radius * self._rng.normal(0, 0.22 / k) * np.sin(k * angle + self._rng.uniform(0, 6.3))
        distance = np.hypot(x, y) / np.maximum(edge, 0.8)
        dome = np.sqrt(np.clip(1 - distance**2, 0, None))
        if radius >= 3:
            lumps = value_noise(self._rng, size, max(2.0, radius * 0.55))
            dome = dome * (1 + 0.16 * lumps)
        shape: np.ndarray = np.clip(np.where(distance < 1, dome, 0), 0, 1.25).astype(np.float32)
        return shape


def grow(
    rng: np.random.Generator,
    size_px: int,
    gsd_m: float,
    trees: np.ndarray,
    forest: np.ndarray,
    *,
    evergreen: float,
    forest_height_m: float,
) -> Canopy:
    """Raise the canopy.

    Args:
        rng: of shapes and colours.
        size_px: width and height.
        gsd_m: metres per pixel.
        trees: single trees (T, 4): x, y in pixels, crown radius in metres, height in metres.
        forest: uint8 (N, N), 1 where closed forest stands.
        evergreen: share of trees that never lose their leaves.
        forest_height_m: usual height of the closed forest.
    """
    bank = CrownBank(rng)
    height = np.zeros((size_px, size_px), np.float32)
    tree = np.zeros((size_px, size_px), np.int32)
    if forest.any():
        tile_height, tile_tree, centres = _forest_tile(rng, bank, gsd_m, forest_height_m)
        at = rng.integers(0, tile_height.shape[0], 2)
        rows = (np.arange(size_px) + at[0]) % tile_height.shape[0]
        cols = (np.arange(size_px) + at[1]) % tile_height.shape[0]
        tree = tile_tree[np.ix_(rows, cols)]
        # a crown stands where its trunk is in the forest, so that edges are made of whole crowns
        half = tile_height.shape[0] // 2
        away_y = (centres[tree, 1] - rows[:, None] + half) % (2 * half) - half
        away_x = (centres[tree, 0] - cols[None, :] + half) % (2 * half) - half
        trunk_y = np.clip(np.arange(size_px)[:, None] + away_y, 0, size_px - 1)
        trunk_x = np.clip(np.arange(size_px)[None, :] + away_x, 0, size_px - 1)
        standing = (forest[trunk_y, trunk_x] > 0) & (tree > 0)
        height = np.where(standing, tile_height[np.ix_(rows, cols)], 0).astype(np.float32)
        tree = np.where(standing, tree, 0).astype(np.int32)
        first = len(centres)
    else:
        first = 1
    for number, (x, y, radius_m, tall) in enumerate(trees, start=first):
        _stamp(height, tree, bank.get(max(1, round(radius_m / gsd_m))), x, y, float(tall), number)
    total = first + len(trees)
    tone = np.clip(rng.normal(1, 0.17, total), 0.5, 1.6).astype(np.float32)
    hue = np.clip(1 + rng.normal(0, 0.07, (total, 3)), 0.75, 1.3).astype(np.float32)
    return Canopy(height, tree, tone, hue, rng.random(total) < evergreen)


def _stamp(
    height: np.ndarray, tree: np.ndarray, crown: np.ndarray, x: float, y: float, tall: float, number: int
) -> None:
    reach = crown.shape[0] // 2
    col, row = int(x) - reach, int(y) - reach
    size = height.shape[0]
    top, left = max(row, 0), max(col, 0)
    bottom, right = min(row + crown.shape[0], size), min(col + crown.shape[1], size)
    if bottom <= top or right <= left:
        return
    piece = crown[top - row : bottom - row, left - col : right - col] * np.float32(tall)
    region = height[top:bottom, left:right]
    higher = piece > region
    region[higher] = piece[higher]
    tree[top:bottom, left:right][higher] = number


def _forest_tile(
    rng: np.random.Generator, bank: CrownBank, gsd_m: float, tall_m: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square of closed forest that continues over its edges: heights, tree numbers, and trunks (x, y) by number."""
    size = 416
    height = np.zeros((size, size), np.float32)
    tree = np.zeros((size, size), np.int32)
    crown_m = rng.uniform(2.2, 5.0)
    spacing = max(crown_m * rng.uniform(0.8, 1.35) / gsd_m, 2.0)
    count = int(min((size / spacing) ** 2, 9000))
    places = rng.uniform(0, size, (count, 2))
    radii = np.clip(rng.lognormal(np.log(crown_m), 0.28, count) / gsd_m, 1, 26)
    heights = np.clip(rng.normal(tall_m, tall_m * 0.2, count), 2, None)
    wrap = 27
    for number, ((x, y), radius, tall) in enumerate(zip(places, radii, heights, strict=True), start=1):
        crown = bank.get(max(1, round(float(radius))))
        for dx in (-size, 0, size) if min(x, size - x) < wrap else (0,):
            for dy in (-size, 0, size) if min(y, size - y) < wrap else (0,):
                _stamp(height, tree, crown, x + dx, y + dy, float(tall), number)
    return height, tree, np.concatenate([[[0, 0]], places.astype(np.int64)])


def scatter(rng: np.random.Generator, size_px: int, density: np.ndarray, spacing_px: float) -> np.ndarray:
    """Random points (P, 2) whose density follows a map of 0..1 (N, N), about one per `spacing_px` squared at 1."""
    count = int((size_px / spacing_px) ** 2)
    points = rng.uniform(0, size_px, (count, 2))
    at = np.clip(points.astype(int), 0, size_px - 1)
    kept: np.ndarray = points[rng.random(count) < density[at[:, 1], at[:, 0]]]
    return kept


def shifted(field: np.ndarray, dx: float, dy: float, *, nearest: bool = False) -> np.ndarray:
    """A map moved by whole or broken pixels; what comes in from outside is 0."""
    if nearest:
        dx, dy = round(dx), round(dy)
        result = np.zeros_like(field)
        h, w = field.shape
        ys, xs = slice(max(dy, 0), min(h + dy, h)), slice(max(dx, 0), min(w + dx, w))
        result[ys, xs] = field[max(-dy, 0) : h - max(dy, 0), max(-dx, 0) : w - max(dx, 0)]
        return result
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    moved: np.ndarray = cv2.warpAffine(field, matrix, field.shape[::-1], flags=cv2.INTER_LINEAR)
    return moved
