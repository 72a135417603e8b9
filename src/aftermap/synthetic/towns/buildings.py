"""Buildings: outlines of rectangles joined together, with roofs whose faces catch the light."""

from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely.geometry import Polygon

from aftermap.synthetic.canvas import ITEM, ROOF, WALL, Canvas, Colour, Material
from aftermap.synthetic.style import LARGE_ROOFS, ROOFS, Style, jitter, pick


@dataclass(frozen=True)
class Part:
    """A rectangle of a building in its own frame (pixels): centre, half sizes, and where its ridge runs.

    `lift` is extra eaves height in metres.
    """

    x: float
    y: float
    half_width: float
    half_length: float
    roof: str
    lift: float = 0.0


@dataclass
class Building:
    """A building on the ground of the first date.

    Attributes:
        centre: x, y in pixels of the canvas.
        angle: of its local x axis against the image's, radians.
        parts: rectangles in local pixels.
        eaves_m: wall height. pitch: rise over run of the roof.
        roof: kind of roof. colour, wall: colours.
        details: what stands on the roof: (x, y, half width, half length, height in m, grey) in local pixels.
        block: kind of block it stands in.
    """

    centre: tuple[float, float]
    angle: float
    parts: list[Part]
    eaves_m: float
    pitch: float
    roof: str
    colour: Colour
    wall: Colour
    block: str
    details: list[tuple[float, float, float, float, float, float]] = field(default_factory=list)

    @property
    def axes(self) -> np.ndarray:
        """Rotation from local to image coordinates (2, 2)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])

    def to_image(self, local: np.ndarray) -> np.ndarray:
        """Local points (P, 2) in canvas pixels."""
        moved: np.ndarray = local @ self.axes.T + np.array(self.centre)
        return moved

    def rectangles(self) -> list[np.ndarray]:
        """Corners (4, 2) of each part on the ground, in canvas pixels."""
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
        boxes = []
        for part in self.parts:
            local = corners * (part.half_width, part.half_length) + (part.x, part.y)
            boxes.append(self.to_image(local))
        return boxes

    def outline(self) -> Polygon:
        """The roof's outline in canvas pixels as one polygon, standing on the ground (no lean)."""
        boxes = [Polygon(box) for box in self.rectangles()]
        whole = boxes[0] if len(boxes) == 1 else shapely.union_all(boxes)
        if whole.geom_type != "Polygon":
            whole = max(whole.geoms, key=lambda piece: piece.area)
        return whole

    def roof_heights(self, cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Height above the eaves (m per `pitch`, in pixels of run) and face number of each point; face -1 outside.

        Faces are 0, 1 (towards local -x, +x), 2, 3 (towards -y, +y) and 4 (flat).
        """
        dx, dy = cols - self.centre[0], rows - self.centre[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        x, y = dx * cos + dy * sin, dy * cos - dx * sin
        best = np.full(x.shape, -1.0, np.float32)
        face = np.full(x.shape, -1, np.int8)
        for part in self.parts:
            u, v = x - part.x, y - part.y
            run_u, run_v = part.half_width - np.abs(u), part.half_length - np.abs(v)
            inside = (run_u >= 0) & (run_v >= 0)
            side_u, side_v = (u > 0).astype(np.int8), (v > 0).astype(np.int8) + np.int8(2)
            if part.roof == "flat":
                rise, which = np.zeros_like(u), np.full(u.shape, 4, np.int8)
            elif part.roof == "shed":
                rise, which = 0.35 * (u + part.half_width), np.zeros(u.shape, np.int8)
            elif part.roof == "gable":
                along_y = part.half_length >= part.half_width
                rise, which = (run_u, side_u) if along_y else (run_v, side_v)
            else:
                rise = np.minimum(run_u, run_v)
                which = np.where(run_u <= run_v, side_u, side_v)
            rise = rise + part.lift
            better = inside & (rise > best)
            best = np.where(better, rise, best)
            face = np.where(better, which, face)
        return best, face


FACE_NORMALS = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]], float)


def face_light(building: Building, sun: tuple[float, float, float]) -> np.ndarray:
    """Direct light on the five faces relative to level ground (5); `sun` points to the sun (x right, y down, z up)."""
    horizontal = FACE_NORMALS @ building.axes.T
    pitch = np.array([building.pitch] * 4 + [0.0])
    normals = np.concatenate([horizontal * pitch[:, None], np.ones((5, 1))], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    light: np.ndarray = np.clip(np.clip(normals @ np.array(sun), 0, None) / sun[2], 0.15, 1.7)
    return light


def roof_material(
    rng: np.random.Generator, building: Building, light: float, *, tone: float = 1.0
) -> Material:
    """The surface of a roof face under the given direct light."""
    red, green, blue = (min(1.0, value * tone) for value in building.colour)
    dirty = (red * 0.82, green * 0.8, blue * 0.78)
    flat = building.pitch == 0
    return Material(
        ROOF,
        (red, green, blue),
        dirty,
        mix=(rng.uniform(-0.1, 0.4), 0.0, rng.uniform(0.1, 0.5 if flat else 0.3), rng.uniform(0, 0.3)),
        rough=(rng.uniform(0.005, 0.03), rng.uniform(0.005, 0.045), 0.02, 0.02, 0.0),
        shade=light,
    )


def paint_building(
    canvas: Canvas,
    building: Building,
    rng: np.random.Generator,
    *,
    sun: tuple[float, float, float],
    lean: tuple[float, float],
    gsd_m: float,
    tone: float = 1.0,
    squash: float = 1.0,
) -> tuple[slice, slice, np.ndarray] | None:
    """Paint walls and roof as seen from above and aside.

    Args:
        canvas: painted on.
        building: what to paint.
        rng: of the roof's texture.
        sun: unit vector to the sun.
        lean: displacement in pixels per metre of height (x, y).
        tone: brightness of the roof (dust, wetness).
        squash: share of the height that still stands.
        gsd_m: metres per pixel.

    Returns:
        The window and the mask of roof pixels in it, or None outside the canvas.
    """
    eaves = building.eaves_m * squash
    offset = np.array(lean) * eaves
    if eaves > 0.5:
        _paint_walls(canvas, building, offset, sun, eaves)
    boxes = np.concatenate(building.rectangles()) + offset
    window = canvas.window(boxes)
    if window is None:
        return None
    rows, cols = window
    x = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] + np.float32(0.5 - offset[0])
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5 - offset[1])
    rise, face = building.roof_heights(*np.broadcast_arrays(x, y))
    mask: np.ndarray = face >= 0
    light = face_light(building, sun)
    numbers = np.array(
        [canvas.materials.add(roof_material(rng, building, float(value), tone=tone)) for value in light]
    )
    canvas.numbers[window][mask] = numbers[face[mask]]
    heights = eaves + np.clip(rise, 0, None) * np.float32(building.pitch * gsd_m if building.pitch else 1.0)
    canvas.height[window][mask] = heights[mask]
    for along, across, half_w, half_l, height, grey in building.details:
        local = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float) * (half_w, half_l) + (along, across)
        box = building.to_image(local) + offset
        canvas.fill(box, canvas.materials.add(Material(ITEM, (grey, grey, grey), (grey, grey, grey))))
        spot = canvas.window(box, 0)
        if spot is not None and height > 0.2:
            region = canvas.height[spot]
            np.maximum(region, eaves + height * 0.5, out=region)
    return rows, cols, mask


def _paint_walls(
    canvas: Canvas, building: Building, offset: np.ndarray, sun: tuple[float, float, float], eaves: float
) -> None:
    if np.hypot(*offset) < 0.7:
        return
    for box in building.rectangles():
        middle = box.mean(axis=0)
        for start, end in zip(box, np.roll(box, -1, axis=0), strict=True):
            outward = (start + end) / 2 - middle
            if outward @ offset > 0:
                continue  # hidden behind the roof: it leans the other way
            normal = outward / max(np.hypot(*outward), 1e-6)
            light = 0.25 + 0.9 * max(0.0, float(normal @ np.array(sun[:2])))
            number = canvas.materials.add(Material(WALL, building.wall, building.wall, shade=light))
            quad = np.array([start, end, end + offset, start + offset])
            canvas.fill(quad, number)
            spot = canvas.window(quad, 0)
            if spot is not None:
                region = canvas.height[spot]
                np.maximum(region, np.where(canvas.numbers[spot] == number, eaves * 0.5, 0), out=region)


def house(
    rng: np.random.Generator, style: Style, centre: tuple[float, float], angle: float, *, scale: float = 1.0
) -> Building:
    """A detached house: a rectangle with wings, its front towards local -y."""
    metre = 1 / style.gsd_m
    width, depth = rng.uniform(12, 22) * scale, rng.uniform(9.5, 15.5) * scale
    flat = rng.random() < style.flat_share
    roof = "flat" if flat else ("hip" if rng.random() < 0.5 else "gable")
    parts = [Part(0, 0, width / 2 * metre, depth / 2 * metre, roof)]
    for _ in range(int(rng.choice([0, 1, 1, 2, 2, 3]))):
        wing_w = rng.uniform(0.3, 0.6) * width
        wing_d = rng.uniform(0.35, 0.75) * depth
        x = float(rng.choice([-1, 1])) * (width - wing_w) / 2 * rng.uniform(0.6, 1.05)
        y = float(rng.choice([-1, -1, 1])) * (depth / 2 + wing_d * rng.uniform(0.1, 0.35))
        parts.append(Part(x * metre, y * metre, wing_w / 2 * metre, wing_d / 2 * metre, roof))
    if rng.random() < 0.3 and not flat:
        parts.append(
            Part(
                rng.uniform(-0.3, 0.3) * width * metre,
                -depth / 2 * metre,
                rng.uniform(1, 2.2) * metre,
                rng.uniform(1, 2.5) * metre,
                "gable",
            )
        )
    details = []
    if rng.random() < 0.25 and not flat:  # chimney
        details.append(
            (
                rng.uniform(-0.3, 0.3) * width * metre,
                rng.uniform(-0.2, 0.2) * depth * metre,
                0.5 * metre,
                0.5 * metre,
                1.5,
                0.4,
            )
        )
    if rng.random() < 0.1:  # solar panels
        details.append(
            (
                rng.uniform(-0.2, 0.2) * width * metre,
                0.22 * depth * metre,
                rng.uniform(1.5, 3) * metre,
                rng.uniform(0.8, 1.6) * metre,
                0,
                0.12,
            )
        )
    eaves = rng.uniform(2.6, 3.6) if rng.random() < 0.65 else rng.uniform(4.8, 6.5)
    return dress(
        rng,
        style,
        Building(centre, angle, parts, eaves, 0, "", (0, 0, 0), (0, 0, 0), "suburb", details),
        flat=flat,
    )


def hall(
    rng: np.random.Generator,
    style: Style,
    centre: tuple[float, float],
    angle: float,
    width_m: float,
    length_m: float,
) -> Building:
    """A shop, school or warehouse: large, flat or low-pitched, with machines on the roof."""
    metre = 1 / style.gsd_m
    flat = rng.random() < 0.75
    roof = "flat" if flat else "gable"
    parts = [Part(0, 0, width_m / 2 * metre, length_m / 2 * metre, roof)]
    for _ in range(int(rng.integers(0, 3))):
        w, d = rng.uniform(0.25, 0.6) * width_m, rng.uniform(0.15, 0.4) * length_m
        x = float(rng.choice([-1, 1])) * (width_m / 2 + rng.uniform(-0.3, 0.35) * w)
        parts.append(
            Part(
                x * metre,
                rng.uniform(-0.35, 0.35) * length_m * metre,
                w / 2 * metre,
                d / 2 * metre,
                roof,
                rng.uniform(-0.9, 0.9) if flat else 0.0,
            )
        )
    details = []
    if flat:
        count = int(rng.integers(0, max(2, int(width_m * length_m / 90))))
        ranges = (0.6, 1.9), 0.42, (0.5, 1.3), (0.5, 2.2), (0.25, 0.5, 0.75, 0.9)
        details = [_on_roof(rng, (width_m, length_m), metre, *ranges) for _ in range(count)]
    building = Building(
        centre, angle, parts, rng.uniform(4, 9), 0, "", (0, 0, 0), (0, 0, 0), "commercial", details
    )
    return dress(rng, style, building, flat=flat, roofs=LARGE_ROOFS)


def box(
    rng: np.random.Generator,
    style: Style,
    centre: tuple[float, float],
    angle: float,
    width_m: float,
    length_m: float,
    *,
    block: str,
    eaves_m: tuple[float, float],
    flat: bool | None = None,
) -> Building:
    """A plain rectangle: town houses, apartment bars, trailers, sheds, huts."""
    metre = 1 / style.gsd_m
    is_flat = rng.random() < style.flat_share if flat is None else flat
    roof = "flat" if is_flat else str(rng.choice(["gable", "gable", "hip", "shed"]))
    parts = [Part(0, 0, width_m / 2 * metre, length_m / 2 * metre, roof)]
    if min(width_m, length_m) > 5 and rng.random() < 0.45:
        w, d = width_m * rng.uniform(0.3, 0.7), length_m * rng.uniform(0.3, 0.6)
        x, y = rng.choice([-1, 1], 2) * (width_m / 2, length_m / 2) * rng.uniform(0.4, 0.9)
        parts.append(
            Part(
                float(x) * metre,
                float(y) * metre,
                w / 2 * metre,
                d / 2 * metre,
                roof,
                rng.uniform(-1, 3) if is_flat else 0.0,
            )
        )
    details = []
    if is_flat and width_m * length_m > 40:
        ranges = (0.4, 1.4), 0.35, (0.6, 1.5), (0.4, 2.4), (0.15, 0.3, 0.5, 0.7, 0.9)
        count = int(rng.poisson(1.3))
        details = [_on_roof(rng, (width_m, length_m), metre, *ranges) for _ in range(count)]
    return dress(
        rng,
        style,
        Building(centre, angle, parts, rng.uniform(*eaves_m), 0, "", (0, 0, 0), (0, 0, 0), block, details),
        flat=is_flat,
    )


def _on_roof(
    rng: np.random.Generator,
    size_m: tuple[float, float],
    metre: float,
    half_m: tuple[float, float],
    reach: float,
    aspect: tuple[float, float],
    height_m: tuple[float, float],
    tones: tuple[float, ...],
) -> tuple[float, float, float, float, float, float]:
    """A box on a flat roof: its place, half its sides, its height and its tone, drawn from ranges."""
    half = rng.uniform(*half_m)
    return (
        rng.uniform(-reach, reach) * size_m[0] * metre,
        rng.uniform(-reach, reach) * size_m[1] * metre,
        half * metre,
        half * rng.uniform(*aspect) * metre,
        rng.uniform(*height_m),
        float(rng.choice(tones)),
    )


def dress(
    rng: np.random.Generator,
    style: Style,
    building: Building,
    *,
    flat: bool,
    roofs: dict[str, float] | None = None,
) -> Building:
    """Choose roof, pitch and colours."""
    building.roof = pick(rng, roofs or style.roofs)
    tones = ROOFS[building.roof]
    tone, spread = tones[rng.integers(len(tones))]
    building.colour = jitter(
        rng, (tone[0] * 1.14, tone[1] * 1.14, tone[2] * 1.14), spread * (0.4 + 0.8 * style.roof_spread)
    )
    building.wall = jitter(rng, (170, 162, 150), 30, 0.25)
    slopes = (0.08, 0.25) if building.block == "commercial" else (0.2, 0.75)
    building.pitch = 0.0 if flat else float(rng.uniform(*slopes))
    return building
