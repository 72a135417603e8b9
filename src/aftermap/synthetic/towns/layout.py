"""Towns from nothing: streets are laid and paved, water is let in, blocks are filled, trees grow."""

import itertools

import cv2
import numpy as np

from aftermap.synthetic.canvas import ITEM, Canvas, Material, Materials, stroke
from aftermap.synthetic.style import BLOCKS, Style
from aftermap.synthetic.texture import BROAD, COARSE, MID, NoiseBank
from aftermap.synthetic.towns import ground
from aftermap.synthetic.towns.blocks import fill_block
from aftermap.synthetic.towns.streets import plan_streets
from aftermap.synthetic.towns.town import Town
from aftermap.synthetic.towns.vegetation import grow, scatter


def build_town(rng: np.random.Generator, style: Style, size_px: int) -> Town:
    """Lay out a town on a canvas of `size_px`."""
    noise = NoiseBank.make(rng, size_px, style.gsd_m)
    plan = plan_streets(rng, style, size_px, BLOCKS)
    canvas = Canvas.blank(size_px, Materials())
    wild = style.town in ("rural", "wild")
    base = ground.lawn(rng, style, wild=wild) if rng.random() < 0.75 else ground.soil(rng, style)
    canvas.numbers[:] = canvas.materials.add(base)
    blank = np.zeros((size_px, size_px), np.uint8)
    elevation = noise.layers[BROAD] + 0.35 * noise.layers[COARSE] + 0.06 * noise.layers[MID]
    town = Town(style, noise, plan, canvas, blank.copy(), blank.copy(), blank.copy(), elevation)
    outlines = [plan.warp.quad(block.u0, block.u1, block.v0, block.v1) for block in plan.blocks]
    seen = [bool((o.max(axis=0) > 0).all() and (o.min(axis=0) < size_px).all()) for o in outlines]
    for block, outline, visible in zip(plan.blocks, outlines, seen, strict=True):
        if visible and block.kind in ("suburb", "dense", "informal", "apartments", "commercial", "mobile"):
            town.paint(
                outline, ground.lawn(rng, style) if block.kind == "suburb" else ground.soil(rng, style)
            )
    _pave(rng, town)
    _add_water(rng, town)
    for block, outline, visible in zip(plan.blocks, outlines, seen, strict=True):
        if visible:
            fill_block(rng, town, block, outline)
    _wander(rng, town)
    town.canopy = grow(
        rng,
        size_px,
        style.gsd_m,
        _free_trees(town),
        town.forest & (town.occupied == 0),
        evergreen=float(rng.choice([0.05, 0.3, 0.8])),
        forest_height_m=float(rng.uniform(6, 15)),
    )
    return town


def _pave(rng: np.random.Generator, town: Town) -> None:
    style, canvas = town.style, town.ground
    tarmac = [canvas.materials.add(ground.asphalt(rng, style)) for _ in range(3)]
    dirt = canvas.materials.add(ground.dirt_road(rng, style))
    walk = canvas.materials.add(ground.concrete(rng, style))
    verge = canvas.materials.add(ground.soil(rng, style))
    white = canvas.materials.add(Material(ITEM, (0.74, 0.74, 0.7), (0.6, 0.6, 0.56), mix=(0, 0, 0.4, 0.3)))
    yellow = canvas.materials.add(Material(ITEM, (0.66, 0.57, 0.3), (0.5, 0.46, 0.36), mix=(0, 0, 0.4, 0.3)))
    sidewalks = rng.random() < 0.5
    marks = rng.random() < 0.6
    side = rng.uniform(1.2, 2.6)
    for street in town.plan.streets:
        width = street.width_m * town.metre
        if sidewalks and street.paved:
            canvas.line(street.points, width + 2 * side * town.metre, walk)
        elif rng.random() < 0.5:
            canvas.line(street.points, width + rng.uniform(1, 5) * town.metre, verge)
        stroke(town.occupied, street.points, width + 0.4 * town.metre, 1)
    for street in town.plan.streets:
        width = street.width_m * town.metre
        number = tarmac[int(rng.integers(3)) if street.major else 0] if street.paved else dirt
        canvas.line(street.points, width, number)
        _park_along(rng, town, street.points, street.width_m)
    if marks:
        for street in town.plan.streets:
            if street.paved and street.major:
                canvas.line(street.points, max(0.5, 0.35 * town.metre), yellow)
                if street.width_m > 12:
                    for offset in (-0.25, 0.25):
                        _dashes(
                            canvas, street.points, street.width_m * offset * town.metre, 3 * town.metre, white
                        )


def _dashes(canvas: Canvas, points: np.ndarray, offset_px: float, length_px: float, number: int) -> None:
    """Broken line beside a street's middle."""
    for start, end in itertools.pairwise(points):
        along = end - start
        length = float(np.hypot(*along))
        if length < length_px:
            continue
        along = along / length
        side = np.array([-along[1], along[0]]) * offset_px
        for at in np.arange(0, length - length_px, 3 * length_px):
            line = np.stack([start + along * at + side, start + along * (at + length_px) + side])
            canvas.line(line, 0.6, number)


def _park_along(rng: np.random.Generator, town: Town, points: np.ndarray, width_m: float) -> None:
    density = rng.choice([0.02, 0.05, 0.12]) * (2.2 if town.style.town in ("dense", "city") else 1.0)
    for start, end in itertools.pairwise(points):
        along = end - start
        length = float(np.hypot(*along))
        for _ in range(int(rng.poisson(density * length * town.style.gsd_m / 6 * 2))):
            at = start + along * rng.random()
            side = np.array([-along[1], along[0]]) / max(length, 1e-6)
            where = at + side * rng.choice([-1, 1]) * rng.uniform(0.2, 0.4) * width_m * town.metre
            town.parked.append((float(where[0]), float(where[1]), float(np.arctan2(along[1], along[0])), 0.6))


def _add_water(rng: np.random.Generator, town: Town) -> None:
    size, style = town.size_px, town.style
    number = town.ground.materials.add(ground.water(rng, style))
    bank = town.ground.materials.add(ground.soil(rng, style))
    mask = np.zeros((size, size), np.uint8)
    if rng.random() < 0.22:  # a river or creek
        t = np.linspace(-0.2, 1.2, 40)
        bend = rng.uniform(0.02, 0.12) * np.sin(t * rng.uniform(4, 12) + rng.uniform(0, 6)) + rng.uniform(
            0.15, 0.85
        )
        angle = rng.uniform(0, 2 * np.pi)
        line = np.stack([t - 0.5, bend - 0.5], 1) @ np.array(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        )
        stroke(mask, (line + 0.5) * size, rng.choice([5, 12, 30, 70]) * rng.uniform(0.7, 1.3) * town.metre, 1)
    if rng.random() < 0.07:  # a lake or the sea
        ramp = np.linspace(-1, 1, size, dtype=np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        slope = ramp[None, :] * np.float32(np.cos(angle)) + ramp[:, None] * np.float32(np.sin(angle))
        shore = slope + 0.12 * town.noise.layers[COARSE] > rng.uniform(-0.3, 0.6)
        mask |= shore.astype(np.uint8)
    if not mask.any():
        return
    wide = cv2.dilate(mask, np.ones((3, 3), np.uint8), iterations=max(1, round(2.5 * town.metre)))
    bridge = (town.occupied > 0) & (rng.random() < 0.6)
    town.ground.numbers[(wide > 0) & ~bridge] = bank
    town.ground.numbers[(mask > 0) & ~bridge] = number
    town.water[(mask > 0) & ~bridge] = 1
    town.occupied |= wide
    distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3) * style.gsd_m
    town.elevation += np.minimum(distance / 60, 3.5) - 2.0


def _wander(rng: np.random.Generator, town: Town) -> None:
    """Trees and bushes outside gardens, thicker where a smooth field says so."""
    field_ = np.clip(
        0.35 * town.noise.layers[BROAD] + 0.3 * town.noise.layers[COARSE] - rng.uniform(0.1, 0.6), 0, 1
    )
    field_ = np.where(town.occupied > 0, 0, field_) * min(1.5, 0.4 + town.style.trees * 0.5)
    for x, y in scatter(rng, town.size_px, field_, max(2.0, 5.5 * town.metre)):
        radius = float(np.clip(rng.lognormal(0.85, 0.5), 0.7, 7.5))
        town.trees.append((float(x), float(y), radius, radius * rng.uniform(1.2, 2.6)))


def _free_trees(town: Town) -> np.ndarray:
    """Trees whose trunk does not stand in a building, a street or water."""
    if not town.trees:
        return np.zeros((0, 4))
    trees = np.array(town.trees)
    at = np.clip(trees[:, :2].astype(int), 0, town.size_px - 1)
    kept: np.ndarray = trees[town.occupied[at[:, 1], at[:, 0]] == 0]
    return kept
