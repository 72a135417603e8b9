"""The look of damage from above: torn roofs, tarps, rubble, debris, ash, flood water."""

import cv2
import numpy as np

from aftermap.synthetic.brush import FELT, HOLE, PALE, WOOD, Brush, Window
from aftermap.synthetic.canvas import ASH, DEBRIS, SOIL, WATER, Canvas, Colour, Material
from aftermap.synthetic.damage import DESTROYED, MAJOR, MINOR, Disaster
from aftermap.synthetic.render import Scars, View
from aftermap.synthetic.style import in_bytes, jitter
from aftermap.synthetic.texture import MID, NoiseBank, value_noise
from aftermap.synthetic.towns.buildings import Building, paint_building
from aftermap.synthetic.towns.vegetation import Canopy


class Painter(Brush):
    """Paints the scars of one disaster onto the canvas of the second date.

    Args:
        rng: drawn from in a fixed order.
        disaster: field and levels. buildings: as in the levels.
        noise: of the scene. gsd_m: metres per pixel.
    """

    def __init__(self, rng: np.random.Generator, disaster: Disaster, noise: NoiseBank, gsd_m: float) -> None:
        super().__init__(rng, noise, gsd_m)
        self.disaster = disaster
        self.tarp: Colour = (60, 102, 172) if rng.random() < 0.8 else (200, 200, 204)
        self.tarp_share = float(rng.uniform(0, 0.6))
        self.litter = float(rng.gamma(2.0, 0.5))
        self.swept = float(rng.uniform(0, 0.5))
        self.ash_pale = float(rng.uniform(0.35, 0.95))
        self.mud = jitter(
            rng,
            ((146, 118, 90), (118, 108, 84), (104, 112, 88), (86, 88, 76), (168, 140, 108))[
                int(rng.integers(5))
            ],
            12,
            0.5,
        )
        sooty = float(rng.uniform(0.55, 1.0))
        self.char = (
            *jitter(rng, ((36, 32, 29), (58, 50, 44), (92, 82, 70))[int(rng.integers(3))], 7, 0.3),
            sooty,
        )

    def scars(self, canopy: Canopy | None) -> Scars:
        """All that the renderer needs."""
        kind, intensity = self.disaster.kind, self.disaster.intensity
        felled = thinned = burnt = None
        if kind == "fire":
            burnt = intensity
            thinned = np.clip(intensity * 0.9 * (0.6 + 0.35 * self.noise.layers[MID]), 0, 0.95).astype(
                np.float32
            )
        if kind == "wind" and canopy is not None:
            force = float(self.rng.uniform(0, 0.9))
            thinned = np.clip(intensity * force * (0.8 + 0.3 * self.noise.layers[MID]), 0, 0.9).astype(
                np.float32
            )
            felled = self._felled(canopy, force)
        return Scars(self.before, self.building, self.after, burnt, felled, thinned, self.char)

    def _felled(self, canopy: Canopy, force: float) -> np.ndarray:
        count = len(canopy.tone)
        strength = np.zeros(count, np.float32)
        step = 3
        strength[canopy.tree[::step, ::step].ravel()] = self.disaster.intensity[::step, ::step].ravel()
        felled: np.ndarray = self.rng.random(count) < strength * force * 0.6
        felled[0] = False
        return felled

    def before(self, canvas: Canvas) -> None:
        """Water over the ground, fallen trees."""
        if self.disaster.flooded is not None:
            pale = tuple(min(1.0, value * 1.25) for value in self.mud)
            gloss = Material(
                WATER, self.mud, pale, mix=(0.3, 0.25, 0.1, float(self.rng.uniform(0, 0.08))),  # type: ignore[arg-type]
                rough=(float(self.rng.uniform(0.005, 0.03)), float(self.rng.uniform(0.005, 0.05)), 0.02, 0.03, 0.06),
            )  # fmt: skip
            canvas.numbers[self.disaster.flooded] = canvas.materials.add(gloss)
            rim = cv2.dilate(
                self.disaster.flooded.astype(np.uint8),
                np.ones((3, 3), np.uint8),
                iterations=max(1, round(1.2 * self.metre)),
            )
            wet = Material(
                SOIL,
                self.mud,
                (self.mud[0] * 0.7, self.mud[1] * 0.7, self.mud[2] * 0.7),
                mix=(0.5, 0.2, 0.3, 0.1),
            )
            ragged = (rim > 0) & ~self.disaster.flooded & (self.noise.layers[MID] > 0.2)
            canvas.numbers[ragged] = canvas.materials.add(wet)
        if self.disaster.kind == "wind":
            self._logs(canvas)

    def _logs(self, canvas: Canvas) -> None:
        """Trunks and crowns on the ground, and litter everywhere, as strong as the wind was."""
        size = canvas.size_px
        tones = [
            canvas.materials.add(
                Material(DEBRIS, jitter(self.rng, tone, 14), (0.3, 0.27, 0.22), mix=(0.2, 0, 0, 0.3))
            )
            for tone in ((108, 98, 84), (84, 84, 62), (132, 124, 110))
        ]
        count = int((size * self.gsd_m) ** 2 / 900 * self.litter * 0.5)
        for x, y in self.rng.uniform(0, size, (count, 2)):
            if self.rng.random() > self.disaster.intensity[int(y), int(x)]:
                continue
            turn, length = self.rng.uniform(0, 6.3), self.rng.uniform(4, 13) * self.metre
            end = np.array([x + np.cos(turn) * length, y + np.sin(turn) * length])
            canvas.line(np.array([[x, y], end]), self.rng.uniform(0.6, 1.6), tones[int(self.rng.integers(3))])
        specks = self.rng.uniform(0, size, (int(size**2 / 700 * self.litter), 2))
        col, row = specks.astype(int).T
        drifts = np.clip(self.noise.layers[MID, row, col] - 0.4, 0, 1)  # litter gathers in drifts
        keep = self.rng.random(len(specks)) < drifts * self.disaster.intensity[row, col] ** 2
        self.scatter(canvas, specks[keep])

    def building(self, canvas: Canvas, index: int, building: Building, view: View) -> bool:
        """Paint one building with its damage; False where it is unharmed."""
        level = int(self.disaster.levels[index])
        kind = self.disaster.kind
        if level == 1:
            return False
        if kind == "flood":
            return self._flood(canvas, building, view, level)
        if level == DESTROYED:
            (self._ashes if kind == "fire" else self._ruin)(canvas, building, view)
            return True
        squash = float(self.rng.uniform(0.75, 1)) if kind == "earthquake" and level == MAJOR else 1.0
        window = self.stand(canvas, building, view, squash)
        if window is None:
            return True
        if kind == "wind":
            self._torn(canvas, building, window, level)
        elif kind == "fire":
            self._scorched(canvas, building, window, level)
        else:
            self._cracked(canvas, building, window, level)
        return True

    def stand(self, canvas: Canvas, building: Building, view: View, squash: float) -> Window | None:
        """Paint the building as it was, with `squash` of its height; returns the window and pixels of its roof."""
        tone = float(np.exp(self.rng.normal(0, view.brightness)))
        return paint_building(
            canvas,
            building,
            self.rng,
            sun=view.sun,
            lean=view.lean,
            gsd_m=self.gsd_m,
            tone=tone,
            squash=squash,
        )

    def after(self, canvas: Canvas) -> None:
        """Debris thrown over roofs and ground."""
        for points, tone in self.specks:
            self.scatter(canvas, points, tone)

    # wind

    def _torn(self, canvas: Canvas, building: Building, window: Window, level: int) -> None:
        size = self.radius(building)
        if level == MINOR:
            if self.rng.random() < self.tarp_share:
                self.panel(canvas, building, window, self.rng.uniform(0.12, 0.5), self.tarp, 9)
            if self.rng.random() < 0.8:
                tone = (FELT, WOOD, PALE, HOLE)[int(self.rng.choice(4, p=[0.4, 0.35, 0.15, 0.1]))]
                self.blotch(canvas, window, self.rng.uniform(0.05, 0.2), tone)
            self.throw(building, size, int(self.rng.poisson(6 * self.litter)))
        else:
            lost = self.rng.uniform(0.3, 0.75)
            self.blotch(canvas, window, lost, WOOD if self.rng.random() < 0.6 else FELT, rafters=building)
            self.blotch(canvas, window, lost * self.rng.uniform(0.15, 0.6), HOLE)
            self.blotch(canvas, window, self.rng.uniform(0.03, 0.15), PALE)
            if self.rng.random() < self.tarp_share * 0.6:
                self.panel(canvas, building, window, self.rng.uniform(0.2, 0.6), self.tarp, 10)
            self.throw(building, size * 1.3, int(self.rng.poisson(30 * (0.3 + self.litter))))

    def _ruin(self, canvas: Canvas, building: Building, view: View) -> None:
        """A slab swept clean, or a heap of rubble that spills over the outline."""
        quake = self.disaster.kind == "earthquake"
        swept = not quake and self.rng.random() < self.swept
        tone: Colour = (170, 164, 154) if swept else ((150, 140, 126) if quake else (158, 142, 124))
        heap = self.rubble(canvas, tone, calm=swept)
        height = (
            0.15
            if swept
            else (building.eaves_m * self.rng.uniform(0.15, 0.4) if quake else self.rng.uniform(0.3, 1.4))
        )
        spill = 0.0 if swept else self.rng.uniform(0.0, 2.5 if quake else 1.5)
        for box in building.rectangles():
            self.heap(canvas, self.ragged(box, spill), heap, float(height))
        boxes = np.concatenate(building.rectangles())
        window = canvas.window(boxes, 2)
        if window is None:
            return
        inside = np.isin(canvas.numbers[window], [heap])
        piece: Window = (*window, inside)
        if not swept:
            for share, colour in ((0.25, HOLE), (0.2, PALE), (0.18, WOOD if not quake else (126, 116, 106))):
                self.blotch(
                    canvas,
                    piece,
                    share * self.rng.uniform(0.4, 1.3),
                    colour,
                    cell_m=self.rng.uniform(0.8, 2.4),
                )
            if self.rng.random() < 0.5:
                self.blotch(
                    canvas,
                    piece,
                    self.rng.uniform(0.05, 0.3),
                    in_bytes(building.colour),
                    cell_m=2.5,
                )
        self.throw(
            building,
            self.radius(building) * (0.9 if quake else 1.6),
            int(self.rng.poisson((25 if quake else 70) * (0.3 + self.litter))),
        )

    # fire

    def _ashes(self, canvas: Canvas, building: Building, view: View) -> None:
        """Ash and foundations: pale inside, dark at the edge, the stumps of walls drawn as lines."""
        rim = canvas.materials.add(
            Material(
                ASH,
                (0.2, 0.18, 0.165),
                (0.33, 0.3, 0.28),
                mix=(0.2, 0, 0.4, 0.3),
                rough=(0.12, 0.15, 0.1, 0, 0),
            )
        )
        for box in building.rectangles():
            self.heap(canvas, self.ragged(box, self.rng.uniform(0.5, 2.5)), rim, 0.1)
        pale = self.rng.random() < self.ash_pale
        tone = jitter(self.rng, (182, 170, 152) if pale else (112, 102, 94), 16, 0.25)
        dark = jitter(self.rng, (110, 100, 90) if pale else (74, 68, 62), 14, 0.2)
        ash = canvas.materials.add(
            Material(
                ASH,
                tone,
                dark,
                mix=(float(self.rng.uniform(0.1, 0.5)), 0, 0.35, 0.3),
                rough=(0.16, 0.2, 0.12, 0, 0),
            )
        )
        for box in building.rectangles():
            self.heap(canvas, self.ragged(box, 0.0), ash, 0.2)
        wall = canvas.materials.add(
            Material(
                ASH,
                jitter(self.rng, (190, 180, 166), 16, 0.2),
                dark,
                mix=(0.2, 0, 0.4, 0.5),
                rough=(0.12, 0.1, 0, 0, 0),
            )
        )
        if self.rng.random() < 0.6:
            left = self.rng.uniform(0.2, 0.8)
            for box in building.rectangles():
                for start, end in zip(box, np.roll(box, -1, axis=0), strict=True):
                    if self.rng.random() < left:
                        span = (
                            np.sort(self.rng.random(2)) if self.rng.random() < 0.5 else np.array([0.0, 1.0])
                        )
                        canvas.line(start + (end - start) * span[:, None], self.rng.uniform(0.4, 1.2), wall)
                for _ in range(int(self.rng.integers(0, 4)) if len(box) == 4 else 0):
                    a, b = self.rng.integers(0, 4), self.rng.random(2)
                    start = box[a] + (box[(a + 1) % 4] - box[a]) * b[0]
                    end = box[(a + 3) % 4] + (box[(a + 2) % 4] - box[(a + 3) % 4]) * b[0]
                    canvas.line(np.stack([start, start + (end - start) * b[1]]), 0.6, wall)
        boxes = np.concatenate(building.rectangles())
        window = canvas.window(boxes, 1)
        if window is not None:
            piece: Window = (*window, np.isin(canvas.numbers[window], [ash]))
            for share, colour in ((0.14, (98, 90, 82)), (0.2, (198, 188, 172)), (0.1, (150, 118, 92))):
                self.blotch(
                    canvas,
                    piece,
                    share * self.rng.uniform(0.2, 1.4),
                    colour,
                    cell_m=self.rng.uniform(0.8, 2.0),
                )

    def _scorched(self, canvas: Canvas, building: Building, window: Window, level: int) -> None:
        share = self.rng.uniform(0.06, 0.22) if level == MINOR else self.rng.uniform(0.35, 0.7)
        self.blotch(canvas, window, share, (58, 52, 48), cell_m=6)
        if level == MAJOR:
            self.blotch(canvas, window, share * 0.5, (146, 138, 128), cell_m=2)
            self.blotch(canvas, window, share * 0.4, HOLE, cell_m=3)

    # earthquake

    def _cracked(self, canvas: Canvas, building: Building, window: Window, level: int) -> None:
        if level == MINOR:
            self.blotch(canvas, window, self.rng.uniform(0.04, 0.14), (126, 116, 106), cell_m=1.5)
            self.throw(building, self.radius(building) * 0.5, int(self.rng.poisson(8)), tight=True)
            return
        rows, cols, mask = window
        x = np.arange(cols.start, cols.stop)[None, :] - building.centre[0]
        y = np.arange(rows.start, rows.stop)[:, None] - building.centre[1]
        turn = self.rng.uniform(0, 6.3)
        side = x * np.cos(turn) + y * np.sin(turn)
        ragged = value_noise(self.rng, max(mask.shape), 3)[: mask.shape[0], : mask.shape[1]] * 1.5
        limit = np.quantile((side + ragged)[mask], 1 - self.rng.uniform(0.3, 0.6)) if mask.any() else 0
        fallen = mask & (side + ragged > limit)
        canvas.numbers[rows, cols][fallen] = self.rubble(canvas, (148, 138, 126))
        canvas.height[rows, cols][fallen] *= np.float32(self.rng.uniform(0.1, 0.5))
        piece: Window = (rows, cols, fallen)
        self.blotch(canvas, piece, 0.25, HOLE, cell_m=1.5)
        self.blotch(canvas, piece, 0.2, PALE, cell_m=1.2)
        self.throw(building, self.radius(building) * 0.7, int(self.rng.poisson(25)), tight=True)

    # flood

    def _flood(self, canvas: Canvas, building: Building, view: View, level: int) -> bool:
        if level == DESTROYED:
            for box in building.rectangles():
                self.heap(
                    canvas,
                    self.ragged(box, 0.5),
                    self.rubble(canvas, in_bytes(self.mud)),
                    0.2,
                )
            self.throw(building, self.radius(building), 14)
            return True
        if level == MAJOR:
            depth = float(self.rng.uniform(0.55, 0.95))
            self.stand(canvas, building, view, depth)
            return True
        return False
