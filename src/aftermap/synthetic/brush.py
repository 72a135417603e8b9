"""What scars are painted with: ragged heaps, blotches, panels and scattered pieces."""

import cv2
import numpy as np

from aftermap.synthetic.canvas import DEBRIS, Canvas, Colour, Material, Materials
from aftermap.synthetic.style import in_bytes, jitter
from aftermap.synthetic.texture import MID, NoiseBank, value_noise
from aftermap.synthetic.towns.buildings import Building

Window = tuple[slice, slice, np.ndarray]

WOOD: Colour = (182, 146, 112)
FELT: Colour = (92, 84, 78)
HOLE: Colour = (62, 57, 53)
PALE: Colour = (214, 208, 198)
DEBRIS_TONES: tuple[Colour, ...] = (
    (208, 205, 200),
    (200, 192, 180),
    (176, 150, 122),
    (120, 108, 96),
    (66, 60, 56),
    (150, 148, 146),
)


class Brush:
    """Paints with one generator, in the scale of one scene; remembers debris to be thrown last.

    Args:
        rng: drawn from in a fixed order.
        noise: of the scene.
        gsd_m: metres per pixel.
    """

    def __init__(self, rng: np.random.Generator, noise: NoiseBank, gsd_m: float) -> None:
        self.rng, self.noise, self.gsd_m = rng, noise, gsd_m
        self.metre = 1 / gsd_m
        self.specks: list[tuple[np.ndarray, Colour]] = []
        self._tones: list[int] = []
        self._tones_of: Materials | None = None

    def radius(self, building: Building) -> float:
        """Largest reach of a building from its centre along an axis, in pixels."""
        corners = np.concatenate(building.rectangles()) - np.array(building.centre)
        return float(np.abs(corners).max())

    def rubble(self, canvas: Canvas, tone: Colour, *, calm: bool = False) -> int:
        """A material of broken pieces; a `calm` one is a bare slab."""
        rough = (0.05, 0.06, 0.05, 0.0, 0.0) if calm else (0.3, 0.3, 0.12, 0.0, 0.0)
        mix = (0.2, 0.0, 0.2, 0.1) if calm else (0.35, 0.0, 0.3, 0.45)
        return canvas.materials.add(
            Material(
                DEBRIS,
                jitter(self.rng, tone, 14, 0.4),
                jitter(self.rng, (86, 78, 70), 12, 0.4),
                mix=mix,
                rough=rough,
            )
        )

    def ragged(self, box: np.ndarray, spill_m: float) -> np.ndarray:
        """A rectangle's outline with uneven sides, grown by up to `spill_m`."""
        following = np.roll(box, -1, axis=0)
        sides = [a + (b - a) * t for a, b in zip(box, following, strict=True) for t in (0.0, 0.25, 0.5, 0.75)]
        points = np.array(sides)
        out = points - box.mean(axis=0)
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
        jagged: np.ndarray = (
            points + out * self.rng.uniform(-0.3, 1.0, (len(points), 1)) * spill_m * self.metre
        )
        return jagged

    def heap(self, canvas: Canvas, outline: np.ndarray, number: int, height: float) -> None:
        """Fill an outline with a bumpy heap of the given height in metres."""
        canvas.fill(outline, number)
        window = canvas.window(outline, 1)
        if window is not None:
            mine = canvas.numbers[window] == number
            bumps = np.clip(1 + 0.6 * self.noise.crop(MID, *window), 0.2, 2) * np.float32(height)
            canvas.height[window][mine] = bumps[mine]

    def blotch(
        self,
        canvas: Canvas,
        window: Window,
        share: float,
        tone: Colour,
        *,
        cell_m: float | None = None,
        rafters: Building | None = None,
    ) -> None:
        """Paint an irregular patch over about `share` of the masked pixels."""
        rows, cols, mask = window
        if not mask.any() or share <= 0:
            return
        cell = max((cell_m or self.rng.uniform(1.5, 6)) * self.metre, 1.2)
        field = value_noise(self.rng, max(mask.shape), cell)[: mask.shape[0], : mask.shape[1]]
        limit = np.quantile(field[mask], 1 - min(share, 1))
        hit = mask & (field >= limit)
        shade = jitter(self.rng, tone, 12, 0.3)
        other: Colour = (shade[0] * 0.6, shade[1] * 0.58, shade[2] * 0.56)
        number = canvas.materials.add(
            Material(DEBRIS, shade, other, mix=(0.1, 0, 0.25, 0.35), rough=(0.12, 0.12, 0.05, 0, 0))
        )
        if rafters is not None:
            x = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :]
            y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
            along = x * np.float32(np.cos(rafters.angle)) + y * np.float32(np.sin(rafters.angle))
            hit = hit & (np.sin(along * np.float32(2 * np.pi / max(2.5, 1.4 * self.metre))) > -0.6)
        canvas.numbers[rows, cols][hit] = number

    def panel(
        self, canvas: Canvas, building: Building, window: Window, share: float, tone: Colour, spread: float
    ) -> None:
        """A tarp: a rectangle along the roof's axes, kept to the roof."""
        rows, cols, mask = window
        part = building.parts[int(self.rng.integers(min(2, len(building.parts))))]
        reach = np.sqrt(share)
        half = np.array([part.half_width, part.half_length]) * reach * self.rng.uniform(0.7, 1.4, 2)
        place = np.array([part.x, part.y]) + self.rng.uniform(-1, 1, 2) * (
            np.array([part.half_width, part.half_length]) - half
        ).clip(0)
        box = building.to_image(
            np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float) * half + place
        ) + self.rng.normal(0, 0.4, (4, 2))
        ys, xs = np.nonzero(mask)
        if len(xs):  # the roof is seen displaced by its lean
            box = (
                box
                + np.array([xs.mean() + cols.start, ys.mean() + rows.start])
                - np.array(building.outline().centroid.coords[0])
            )
        stamp = np.zeros(mask.shape, np.uint8)
        cv2.fillPoly(stamp, [np.round(box - (cols.start, rows.start)).astype(np.int32)], 1)
        shade = jitter(self.rng, tone, spread, 0.4)
        number = canvas.materials.add(
            Material(DEBRIS, shade, (shade[0] * 0.8, shade[1] * 0.8, shade[2] * 0.85), mix=(0.1, 0, 0.2, 0.2))
        )
        canvas.numbers[rows, cols][mask & (stamp > 0)] = number

    def throw(self, building: Building, radius_px: float, count: int, *, tight: bool = False) -> None:
        """Remember debris around a building, to be painted last."""
        scale = min(6.0, (radius_px * self.gsd_m / 9) ** 1.5)
        count = int(count * scale)
        turn = self.rng.uniform(0, 2 * np.pi, count)
        reach = radius_px * (self.rng.uniform(0.6, 1.2, count) if tight else self.rng.gamma(2.2, 0.45, count))
        points = np.array(building.centre) + np.stack([np.cos(turn), np.sin(turn)], 1) * reach[:, None]
        self.specks.append((points, in_bytes(building.colour)))

    def scatter(self, canvas: Canvas, points: np.ndarray, tone: Colour | None = None) -> None:
        """Small pieces of mixed colours, 1 to 4 pixels long."""
        if not len(points):
            return
        if self._tones_of is not canvas.materials:
            self._tones_of = canvas.materials
            self._tones = [
                canvas.materials.add(Material(DEBRIS, jitter(self.rng, colour, 10, 0.3), (0.4, 0.37, 0.33)))
                for colour in DEBRIS_TONES
            ]
        tones = list(self._tones)
        if tone is not None and self.rng.random() < 0.8:
            tones.append(canvas.materials.add(Material(DEBRIS, jitter(self.rng, tone, 8), (0.4, 0.37, 0.33))))
        which = self.rng.choice(len(tones), len(points))
        numbers = np.array(tones)[which]
        canvas.dots(points, numbers)
        for dx, dy, part in ((1, 0, 0.5), (0, 1, 0.5), (1, 1, 0.25), (2, 0, 0.2), (0, 2, 0.2)):
            grow = self.rng.random(len(points)) < part * min(1.5, 0.45 / self.gsd_m)
            canvas.dots(points[grow] + (dx, dy), numbers[grow])
