"""Towns: a ground of streets, plots and water, with buildings and trees placed on it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from aftermap.synthetic.canvas import SUBPIXEL_BITS, Canvas, Material, bounding_window, fixed
from aftermap.synthetic.style import Style
from aftermap.synthetic.texture import NoiseBank
from aftermap.synthetic.towns.buildings import Building
from aftermap.synthetic.towns.streets import Block, StreetPlan
from aftermap.synthetic.towns.vegetation import Canopy


@dataclass
class Town:
    """What stands where, on the canvas of the first date.

    Attributes:
        ground: material numbers of everything flat.
        occupied: uint8 (N, N), 1 where streets, water or buildings leave no room.
        trees: rows of x, y (pixels), crown radius, height (metres).
        parked: places for vehicles, rows of x, y, heading, chance that one stands there.
        forest, water: uint8 masks (N, N).
        elevation: relative height of the terrain, float32 (N, N), low near water.
    """

    style: Style
    noise: NoiseBank
    plan: StreetPlan
    ground: Canvas
    occupied: np.ndarray
    forest: np.ndarray
    water: np.ndarray
    elevation: np.ndarray
    buildings: list[Building] = field(default_factory=list)
    trees: list[tuple[float, float, float, float]] = field(default_factory=list)
    parked: list[tuple[float, float, float, float]] = field(default_factory=list)
    canopy: Canopy | None = None

    @property
    def size_px(self) -> int:
        """Width and height of the canvas."""
        return self.ground.size_px

    @property
    def metre(self) -> float:
        """Pixels per metre."""
        return 1 / self.style.gsd_m

    def paint(self, polygon: np.ndarray, material: Material) -> None:
        """Paint a polygon of ground."""
        self.ground.fill(polygon, self.ground.materials.add(material))

    def plant(self, rng: np.random.Generator, u: float, v: float, radius_m: float) -> None:
        """Add a tree at town coordinates."""
        x, y = self.plan.warp(np.array(u), np.array(v))
        self.trees.append((float(x), float(y), radius_m, radius_m * rng.uniform(1.2, 2.4)))

    def scatter(
        self, rng: np.random.Generator, block: Block, count: float, radius_m: Callable[[], float]
    ) -> None:
        """Add about so many trees (a Poisson number) anywhere in a block, the radius of each drawn."""
        for _ in range(int(rng.poisson(count))):
            u, v = rng.uniform(block.u0, block.u1), rng.uniform(block.v0, block.v1)
            self.plant(rng, u, v, float(radius_m()))

    def claim(self, building: Building, gap_m: float = 0.8) -> bool:
        """Add a building unless something stands in its way; True if it was added."""
        boxes = building.rectangles()
        corners = np.concatenate(boxes)
        if corners.max() < 0 or (corners.min(axis=0) > self.size_px).any() or (corners.max(axis=0) < 0).any():
            return False
        window = bounding_window(corners, self.size_px, 2)
        if window is None:
            return False
        stamp = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
        origin = np.array([window[1].start, window[0].start])
        grown = gap_m * self.metre
        for part in boxes:
            middle = part.mean(axis=0)
            out = part - middle
            larger = part + out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6) * grown
            cv2.fillPoly(stamp, [fixed(larger - origin)], 1, shift=SUBPIXEL_BITS)
        region = self.occupied[window]
        if (region & stamp).any():
            return False
        region |= stamp
        self.buildings.append(building)
        return True
