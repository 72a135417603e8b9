"""One date of a town: sun, season and view turn the painted ground, roofs and crowns into light."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from aftermap.synthetic.canvas import CAR, CROP, GRASS, PAVED, SOIL, WATER, Canvas, Material
from aftermap.synthetic.texture import BROAD, FINE, GRAIN, MID, PATCH, NoiseBank
from aftermap.synthetic.towns import ground
from aftermap.synthetic.towns.buildings import Building, paint_building
from aftermap.synthetic.towns.town import Town
from aftermap.synthetic.towns.vegetation import shifted


@dataclass(frozen=True)
class View:
    """How one date is lit and seen.

    Attributes:
        azimuth: direction towards the sun in the image (radians, 0 = right, positive = down).
        elevation: height of the sun, radians.
        lean: pixels by which a point moves per metre of its height (x, y).
        ambient: light in the shade relative to the sun's.
        lush: change of greenness against the town's own (-1..1).
        leafless: share of foliage missing.
        brightness: spread of the change that single roofs show between dates.
        wet: 0..1, darkens soil and asphalt.
        traffic: factor on the chance that vehicles stand in their places.
        renewed: share of the small-scale texture that differs from the first date.
    """

    azimuth: float
    elevation: float
    lean: tuple[float, float]
    ambient: float
    lush: float
    leafless: float
    brightness: float
    wet: float
    traffic: float
    renewed: float = 0.0

    @property
    def sun(self) -> tuple[float, float, float]:
        """Unit vector to the sun (x right, y down, z up)."""
        flat = float(np.cos(self.elevation))
        return (
            flat * float(np.cos(self.azimuth)),
            flat * float(np.sin(self.azimuth)),
            float(np.sin(self.elevation)),
        )

    @property
    def shadow_step(self) -> np.ndarray:
        """Pixels by which a shadow lies from what casts it, per metre of height, as it appears in the image."""
        x, y, z = self.sun
        return np.array([-x / z, -y / z])


@dataclass
class Scars:
    """What a disaster left on a town, in the frame of the second date's canvas.

    Attributes:
        before: paints the ground before the buildings (water, slabs, debris below roofs).
        building: paints a building instead of the intact one; returns False to have it painted intact.
        after: paints over everything built (debris on top).
        burnt: 0..1 map of charring, or None. felled: trees (by number) that no longer stand, or None.
        thinned: 0..1 map of foliage stripped or scorched, or None.
        char: red, green, blue of burnt ground and its opacity.
    """

    before: Callable[[Canvas], None]
    building: Callable[[Canvas, int, Building, View], bool]
    after: Callable[[Canvas], None]
    burnt: np.ndarray | None = None
    felled: np.ndarray | None = None
    thinned: np.ndarray | None = None
    char: tuple[float, float, float, float] = (0.14, 0.12, 0.11, 0.9)


def sample_view(rng: np.random.Generator, town_gsd_m: float, leafless: float) -> View:
    """Draw light and view of the first date: mornings, from south or north, up to 40 degrees off nadir."""
    north = 1 if rng.random() < 0.9 else -1  # sun towards the lower edge of north-up images
    off_nadir = np.deg2rad(np.clip(abs(rng.normal(20, 11)), 0, 42))
    direction = rng.uniform(0, 2 * np.pi)
    reach = np.tan(off_nadir) / town_gsd_m
    return View(
        azimuth=float(north * (np.pi / 2 + rng.normal(-0.35, 0.6))),
        elevation=float(np.deg2rad(np.clip(rng.normal(56, 11), 26, 78))),
        lean=(float(reach * np.cos(direction)), float(reach * np.sin(direction))),
        ambient=float(rng.uniform(0.28, 0.5)),
        lush=0.0,
        leafless=leafless,
        brightness=0.0,
        wet=0.0,
        traffic=float(rng.uniform(0.5, 1.3)),
    )


def second_view(rng: np.random.Generator, first: View, town_gsd_m: float) -> View:
    """Draw the second date: another sun and direction of view, and sometimes another season."""
    view = sample_view(rng, town_gsd_m, first.leafless)
    if rng.random() < 0.25:  # the same sensor and hour again
        view = replace(
            view, azimuth=first.azimuth + rng.normal(0, 0.15), elevation=first.elevation + rng.normal(0, 0.05)
        )
    leafless = first.leafless
    if rng.random() < 0.2:
        leafless = 0.0 if first.leafless else float(rng.uniform(0.2, 0.9))
    return replace(
        view,
        lush=float(rng.normal(0, 0.35)),
        leafless=leafless,
        brightness=float(rng.uniform(0.03, 0.16)),
        renewed=float(rng.uniform(0.3, 1.0)),
        wet=float(rng.uniform(0, 0.8)) if rng.random() < 0.3 else 0.0,
        elevation=float(np.clip(view.elevation, 0.42, 1.4)),
    )


def render(
    rng: np.random.Generator, town: Town, view: View, scars: Scars | None = None
) -> tuple[np.ndarray, Canvas]:
    """Light of a town at one date, float32 (N, N, 3), and the canvas with what is seen where."""
    canvas = town.ground.copy()
    _season(rng, canvas, view)
    if scars:
        scars.before(canvas)
    _park(rng, town, canvas, view)
    order = sorted(range(len(town.buildings)), key=lambda index: town.buildings[index].eaves_m)
    for index in order:
        building = town.buildings[index]
        if scars and scars.building(canvas, index, building, view):
            continue
        tone = float(np.exp(rng.normal(0, view.brightness))) if view.brightness else 1.0
        paint_building(canvas, building, rng, sun=view.sun, lean=view.lean, gsd_m=town.style.gsd_m, tone=tone)
    if scars:
        scars.after(canvas)
    noise = town.noise.later(view.renewed) if view.renewed else town.noise
    albedo = canvas.materials.albedo(canvas.numbers, noise)
    kinds = np.take(canvas.materials.kinds, canvas.numbers)
    if scars and scars.burnt is not None:
        char(albedo, kinds, scars.burnt, scars.char, noise)
    shade = np.take(np.array([row.shade for row in canvas.materials.rows], np.float32), canvas.numbers)
    casting = _foliage(albedo, shade, canvas, town, noise, view, scars)
    dark = cast_shadows(casting, view, town.style.gsd_m)
    direct = shade * (1 - dark) * np.float32(1 - view.ambient)
    sky = np.array([0.9, 0.98, 1.14], np.float32) * np.float32(view.ambient)
    albedo *= direct[..., None] + sky
    return albedo, canvas


def cast_shadows(height: np.ndarray, view: View, gsd_m: float) -> np.ndarray:
    """Share of sunlight blocked, float32 (N, N), from heights as they appear in the image.

    The upper hull of all shadow rays is built by doubling: after k rounds it reaches 2**k pixels. Under a lean the
    ray of a roof starts where the roof is seen, so that shadow and lean simply subtract.
    """
    step = view.shadow_step / gsd_m - np.array(view.lean)
    length = float(np.hypot(*step))
    if length < 0.05:
        return np.zeros_like(height)
    unit, drop = step / length, 1 / length
    reach, hull = 1.0, height
    top = float(height.max())
    while reach * drop < top and reach < 200:
        moved = shifted(hull, float(unit[0] * reach), float(unit[1] * reach)) - np.float32(reach * drop)
        hull = np.maximum(hull, moved)
        reach *= 2
    blocked: np.ndarray = np.clip((hull - height - 0.35) / 0.5, 0, 1)
    return blocked


def _season(rng: np.random.Generator, canvas: Canvas, view: View) -> None:
    """Shift greenness and wetness of ground materials; each plot follows in its own measure."""
    if view.lush == 0 and view.wet == 0 and view.brightness == 0:
        return
    rows = canvas.materials.rows
    for number, row in enumerate(rows):
        if row.kind in (GRASS, CROP):
            bias = row.mix[0] - view.lush * rng.uniform(0.4, 1.2) + rng.normal(0, 0.06)
            glow = np.exp(rng.normal(0, 0.1)) * (1 - 0.12 * view.wet)
            rows[number] = row._replace(
                mix=(float(bias), *row.mix[1:]), base=_times(row.base, glow), other=_times(row.other, glow)
            )
        elif row.kind in (SOIL, PAVED):
            glow = np.exp(rng.normal(0, 0.07)) * (1 - 0.35 * view.wet * rng.random())
            rows[number] = row._replace(base=_times(row.base, glow), other=_times(row.other, glow))
        elif row.kind == WATER:
            glow = np.exp(rng.normal(0, 0.3))
            rows[number] = row._replace(base=_times(row.base, glow), other=_times(row.other, glow))


def _times(colour: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    return tuple(float(min(1.0, value * factor)) for value in colour)  # type: ignore[return-value]


def _park(rng: np.random.Generator, town: Town, canvas: Canvas, view: View) -> None:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    numbers = [canvas.materials.add(ground.car(rng)) for _ in range(14)]
    glass = canvas.materials.add(Material(CAR, (0.16, 0.17, 0.19), (0.16, 0.17, 0.19)))
    for x, y, heading, chance in town.parked:
        if rng.random() > chance * view.traffic:
            continue
        half = np.array([rng.uniform(2.0, 2.6), rng.uniform(0.85, 1.05)]) * town.metre
        turn = heading + rng.normal(0, 0.06)
        along = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        place = np.array([x, y]) + rng.normal(0, 0.3 * town.metre, 2)
        body = corners * half @ along + place
        window = canvas.window(body, 0)
        at = np.clip(place.astype(int), 0, canvas.size_px - 1)
        if window is None or canvas.materials.rows[int(canvas.numbers[at[1], at[0]])].kind == WATER:
            continue
        canvas.fill(body, numbers[int(rng.integers(14))])
        if town.style.gsd_m < 0.7:
            canvas.fill((corners * (0.28, 0.8) + (0.35, 0)) * half @ along + place, glass)
        region = canvas.height[window]
        seen = np.isin(canvas.numbers[window], [*numbers, glass])
        region[seen] = 1.4


def char(
    albedo: np.ndarray,
    kinds: np.ndarray,
    burnt: np.ndarray,
    tone: tuple[float, float, float, float],
    noise: NoiseBank,
) -> None:
    """Blacken ground: grass burns black with grey ash, soil darkens, paved ground is stained."""
    share = np.zeros(16, np.float32)
    share[[GRASS, CROP, SOIL, PAVED]] = 1.0, 0.95, 0.7, 0.2
    amount = burnt * np.take(share * np.float32(tone[3]), kinds)
    ash = np.clip(0.35 * noise.layers[PATCH] + 0.2 * noise.layers[GRAIN], 0, 1)[..., None]
    burnt_tone = np.array(tone[:3], np.float32) + ash * np.array([0.26, 0.25, 0.24], np.float32)
    albedo += amount[..., None] * (burnt_tone - albedo)


def _foliage(
    albedo: np.ndarray,
    shade: np.ndarray,
    canvas: Canvas,
    town: Town,
    bank: NoiseBank,
    view: View,
    scars: Scars | None,
) -> np.ndarray:
    """Paint crowns over the albedo and their light over the shade; returns the heights that cast shadows."""
    canopy = town.canopy
    if canopy is None or not canopy.height.any():
        return canvas.height
    crowns, trees = canopy.height, canopy.tree
    if scars and scars.felled is not None:
        crowns = np.where(np.take(scars.felled, trees), 0, crowns).astype(np.float32)
    typical = float(np.median(crowns[crowns > 0])) if crowns.any() else 0.0
    dx, dy = view.lean[0] * typical * 0.7, view.lean[1] * typical * 0.7
    noise, gsd = bank.layers, town.style.gsd_m
    crowns, trees = _regrown(crowns, trees, dx, dy, noise, view.renewed / gsd)
    bare = np.where(np.take(canopy.evergreen, trees), 0.08, 1.0).astype(np.float32) * np.float32(
        view.leafless
    )
    if scars and scars.thinned is not None:
        bare = np.maximum(bare, shifted(scars.thinned, dx, dy))
    lace = np.clip(0.5 + 0.16 * noise[FINE] + 0.3 * noise[GRAIN], 0, 1)
    seen = crowns > canvas.height
    dense = np.clip(1.15 - bare * (0.45 + 0.75 * lace), 0, 1) * seen
    rough = crowns + np.where(
        crowns > 0.5, 0.35 * noise[GRAIN] + 0.12 * noise[FINE] / max(gsd, 0.3) ** 0.5, 0
    ).astype(np.float32)
    slope_x = cv2.Sobel(rough, cv2.CV_32F, 1, 0, scale=1 / (8 * gsd))
    slope_y = cv2.Sobel(rough, cv2.CV_32F, 0, 1, scale=1 / (8 * gsd))
    sx, sy, sz = view.sun
    softness = np.float32(0.55)
    bright = (
        (sz - softness * (slope_x * sx + slope_y * sy))
        / np.sqrt(1 + softness**2 * (slope_x**2 + slope_y**2))
        / sz
    )
    bright = np.clip(bright, 0.4, 1.45)
    depth = crowns - cv2.GaussianBlur(crowns, (0, 0), max(1.5, 2.5 / gsd))
    bright *= np.clip(0.95 + 0.09 * depth, 0.6, 1.25)
    green = np.array(town.style.leaf, np.float32) * (
        1 + 0.25 * np.float32(np.clip(view.lush, -1, 1)) * np.array([-0.6, 0.5, -0.3], np.float32)
    )
    leaf = green * np.take(canopy.hue, trees, axis=0) * np.take(canopy.tone, trees)[..., None]
    leaf *= (1 + 0.08 * noise[FINE] + 0.1 * noise[MID] + 0.06 * noise[BROAD])[..., None]
    twig = np.array([0.33, 0.305, 0.27], np.float32)
    if scars and scars.burnt is not None:
        scorch = shifted(scars.burnt, dx, dy) * np.clip(0.62 + 0.5 * noise[MID], 0, 1)
        twig = np.array([0.2, 0.17, 0.15], np.float32)
        leaf += scorch[..., None] * (np.array([0.19, 0.15, 0.115], np.float32) - leaf)
    leaf += np.clip(bare * 0.85, 0, 1)[..., None] * (twig - leaf)
    albedo += dense[..., None] * (leaf - albedo)
    shade += dense * (1 - 0.6 * np.clip(bare, 0, 1)) * (bright - shade)
    solid = (bare < 0.25) | (lace > 0.15 + bare * 0.7)
    heights: np.ndarray = np.maximum(canvas.height, np.where(seen & solid, crowns, 0)).astype(np.float32)
    return heights


def _regrown(
    crowns: np.ndarray, trees: np.ndarray, dx: float, dy: float, noise: np.ndarray, change_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """The canopy displaced by (dx, dy), with branches that stand otherwise than at the other date."""
    if not change_px:
        return shifted(crowns, dx, dy, nearest=True), shifted(trees, dx, dy, nearest=True)
    axis = np.arange(crowns.shape[0], dtype=np.float32)
    sway = np.float32(0.55 * change_px)
    map_x = axis[None, :] - np.float32(dx) + sway * noise[GRAIN]
    map_y = axis[:, None] - np.float32(dy) + sway * noise[MID]
    warped = cv2.remap(crowns, map_x, map_y, cv2.INTER_LINEAR)
    # tree numbers go through float32 exactly: there are far fewer than 2**24
    numbers = cv2.remap(trees.astype(np.float32), map_x, map_y, cv2.INTER_NEAREST)
    return warped, numbers.astype(np.int32)
