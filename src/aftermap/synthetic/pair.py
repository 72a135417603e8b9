"""A synthetic pair of images with its truth, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from shapely.affinity import rotate, translate
from shapely.geometry import Polygon, box

from aftermap.synthetic.damage import KINDS, as_kind, town_disaster
from aftermap.synthetic.render import render, sample_view, second_view
from aftermap.synthetic.scars import Painter
from aftermap.synthetic.sensor import Sensor, cover, expose, sample_clouds
from aftermap.synthetic.style import Style, sample_style
from aftermap.synthetic.texture import value_noise
from aftermap.synthetic.towns.layout import build_town
from aftermap.synthetic.towns.town import Town

MARGIN_PX = 40
"""Ground beyond the frame, so that shadows, leaning roofs and shifts come in from outside."""


@dataclass(frozen=True)
class Footprint:
    """A labelled building: its roof's outline in the first image (pixels, x right, y down) and its damage 1 to 4."""

    polygon: Polygon
    damage: int


@dataclass(frozen=True)
class Pair:
    """Two dates of one scene and the truth about them.

    Attributes:
        pre, post: RGB uint8 (3, H, W).
        building_mask: uint8 (H, W), 1 on roofs of the first date.
        damage_mask: uint8 (H, W), 0 background, 1 to 4 as in the joint damage scale.
        footprints: the polygons of both masks, in drawing order.
        kind: of the disaster. struck: False where the scene was spared.
        gsd_m: metres per pixel.
        shift_px: columns and rows by which the second image's ground lies off the first's.
        cloud: uint8 (H, W), opacity of cloud at the second date in percent.
        sun, off_nadir: (azimuth, elevation) and angle of both dates in degrees.
    """

    pre: np.ndarray
    post: np.ndarray
    building_mask: np.ndarray
    damage_mask: np.ndarray
    footprints: Sequence[Footprint]
    kind: str
    struck: bool
    gsd_m: float
    shift_px: tuple[float, float]
    cloud: np.ndarray
    sun: tuple[tuple[float, float], tuple[float, float]]
    off_nadir: tuple[float, float]


def make_pair(seed: int, *, size_px: int, kind: str | None = None, style: Style | None = None) -> Pair:
    """Make one pair of images with exact truth; the same arguments give the same pixels.

    Args:
        seed: of everything random in the scene.
        size_px: width and height.
        kind: `wind`, `flood`, `fire` or `earthquake`; drawn where None.
        style: character of the town; drawn where None.

    Raises:
        ValueError: an unknown kind, or a size below 32.
    """
    if size_px < 32:
        raise ValueError(f"scenes of {size_px} px are too small: at least 32")
    wanted = None if kind is None else as_kind(kind)
    # one stream each, so that the same town is struck by another disaster where only the kind differs
    rng, first_rng, second_rng = np.random.default_rng([seed, size_px]).spawn(3)
    drawn = KINDS[int(rng.integers(len(KINDS)))]
    chosen = wanted or drawn
    style = style or sample_style(rng)
    town = build_town(rng, style, size_px + 2 * MARGIN_PX)
    first = sample_view(rng, style.gsd_m, style.leafless)
    second = second_view(rng, first, style.gsd_m)
    struck = bool(rng.random() > 0.12)
    scars = None
    levels = np.ones(len(town.buildings), np.int64)
    if struck:
        disaster = town_disaster(second_rng, chosen, town)
        levels = disaster.levels
        scars = Painter(second_rng, disaster, town.noise, style.gsd_m).scars(town.canopy)
    before, _ = render(first_rng, town, first)
    after, _ = render(second_rng, town, second, scars)
    shift = sample_shift(rng)
    cut = slice(MARGIN_PX, MARGIN_PX + size_px)
    cloud = np.zeros((size_px, size_px), np.uint8)
    after = move(rng, after, shift, style.gsd_m)[cut, cut]
    if rng.random() < 0.2:
        clouds = sample_clouds(rng, size_px, style.gsd_m)
        after = cover(after, clouds)
        cloud = np.round(clouds.opacity * 100).astype(np.uint8)
    pre_sensor = Sensor.sample(first_rng)
    post_sensor = Sensor.sample(second_rng)
    pre = expose(np.ascontiguousarray(before[cut, cut]), pre_sensor, first_rng)
    post = expose(np.ascontiguousarray(after), post_sensor, second_rng)
    frame = sample_frame(rng, size_px)
    if frame.area < size_px**2:
        blank = ~_inside(frame, size_px)
        pre[blank], post[blank] = 0, 0
    footprints = roof_outlines(town, levels, first.lean, frame)
    building_mask, damage_mask = draw_masks(footprints, size_px)
    return Pair(
        np.ascontiguousarray(pre.transpose(2, 0, 1)),
        np.ascontiguousarray(post.transpose(2, 0, 1)),
        building_mask,
        damage_mask,
        footprints,
        chosen,
        struck,
        style.gsd_m,
        shift,
        cloud,
        tuple((float(np.rad2deg(v.azimuth)), float(np.rad2deg(v.elevation))) for v in (first, second)),  # type: ignore[arg-type]
        tuple(float(np.rad2deg(np.arctan(np.hypot(*v.lean) * style.gsd_m))) for v in (first, second)),  # type: ignore[arg-type]
    )


def sample_shift(rng: np.random.Generator) -> tuple[float, float]:
    """Residual misregistration of the second date: mostly below a pixel, up to 3."""
    reach, turn = min(3.0, float(rng.gamma(1.6, 0.8))), rng.uniform(0, 2 * np.pi)
    return float(reach * np.cos(turn)), float(reach * np.sin(turn))


def move(rng: np.random.Generator, image: np.ndarray, shift: tuple[float, float], gsd_m: float) -> np.ndarray:
    """An image moved by (columns, rows), and bent by terrain that the orthorectification did not know."""
    size = image.shape[0]
    bend = min(2.0, float(rng.gamma(1.5, 0.5)))
    cell = rng.uniform(60, 250) / gsd_m
    axis = np.arange(size, dtype=np.float32)
    map_x = axis[None, :] - np.float32(shift[0]) + bend * value_noise(rng, size, cell)
    map_y = axis[:, None] - np.float32(shift[1]) + bend * value_noise(rng, size, cell)
    moved: np.ndarray = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return moved


def sample_frame(rng: np.random.Generator, size_px: int) -> Polygon:
    """What the images cover of their frame: nearly always all; now and then a strip's edge leaves a part black."""
    frame = box(0, 0, size_px, size_px)
    if rng.random() > 0.05:
        return frame
    quarter, tilt, level = rng.integers(4), rng.normal(0, 0.04), rng.uniform(0.05, 0.45) * size_px
    reach = 2 * size_px
    half = Polygon([(-reach, level), (reach, level), (reach, reach), (-reach, reach)])
    middle = (size_px / 2, size_px / 2)
    half = rotate(rotate(half, tilt, origin=middle, use_radians=True), 90 * int(quarter), origin=middle)
    return frame.intersection(half)


def _inside(frame: Polygon, size_px: int) -> np.ndarray:
    mask = np.zeros((size_px, size_px), np.uint8)
    cv2.fillPoly(mask, [_ring(frame.exterior)], 1)
    return mask > 0


def roof_outlines(
    town: Town, levels: np.ndarray, lean: tuple[float, float], frame: Polygon
) -> list[Footprint]:
    """Roof outlines as an annotator draws them in the first image: where the roof is seen, cut at the frame."""
    footprints = []
    for building, level in zip(town.buildings, levels, strict=True):
        offset = np.array(lean) * building.eaves_m - MARGIN_PX
        outline = translate(building.outline(), *offset)
        seen = outline.intersection(frame)
        if seen.geom_type != "Polygon":
            parts = [piece for piece in getattr(seen, "geoms", []) if piece.geom_type == "Polygon"]
            seen = max(parts, key=lambda piece: piece.area) if parts else Polygon()
        if seen.is_empty or seen.area < 9:
            continue
        seen = shapely.set_precision(seen, 0.01)
        if seen.geom_type == "Polygon" and not seen.is_empty:
            footprints.append(Footprint(shapely.normalize(seen), int(level)))
    return footprints


def draw_masks(footprints: Sequence[Footprint], size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Building mask and damage mask, drawn as for xBD: rounded corners filled in file order, holes erased."""
    building = np.zeros((size_px, size_px), np.uint8)
    damage = np.zeros((size_px, size_px), np.uint8)
    for footprint in footprints:
        canvas = np.zeros((size_px, size_px), np.uint8)
        cv2.fillPoly(canvas, [_ring(footprint.polygon.exterior)], 1)
        for hole in footprint.polygon.interiors:
            cv2.fillPoly(canvas, [_ring(hole)], 0)
        filled = canvas > 0
        building[filled] = 1
        damage[filled] = footprint.damage
    return building, damage


def _ring(ring: shapely.LinearRing) -> np.ndarray:
    points: np.ndarray = np.round(np.array(ring.coords)).astype(np.int32)
    return points
