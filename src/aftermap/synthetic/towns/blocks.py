"""What fills a block between streets: houses in gardens, terraces, sheds, halls with parking, fields, woods."""

import itertools

import cv2
import numpy as np

from aftermap.synthetic.canvas import ITEM, PAVED, SUBPIXEL_BITS, Material, bounding_window, fixed
from aftermap.synthetic.texture import COARSE, MID, PATCH, stripes
from aftermap.synthetic.towns import ground
from aftermap.synthetic.towns.buildings import box, hall, house
from aftermap.synthetic.towns.gardens import fill_suburb
from aftermap.synthetic.towns.streets import Block, split_lots
from aftermap.synthetic.towns.town import Town


def fill_block(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    """Fill one block of the plan; `outline` is its border in pixels."""
    fillers = {
        "suburb": fill_suburb,
        "dense": _dense,
        "informal": _informal,
        "apartments": _apartments,
        "commercial": _commercial,
        "mobile": _trailers,
        "park": _park,
        "field": _field,
        "forest": _forest,
        "bare": _bare,
        "farm": _farm,
        "pond": _pond,
    }
    if block.u1 - block.u0 < 12 or block.v1 - block.v0 < 12:
        return
    fillers[block.kind](rng, town, block, outline)


def _dense(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    """Terraces: narrow lots built wall to wall with yards behind."""
    warp = town.plan.warp
    town.paint(outline, ground.concrete(rng, town.style))
    frontage = rng.uniform(7, 15)
    cover = rng.uniform(0.55, 0.95)
    tall = rng.uniform(3, 9)
    deep = (block.v1 - block.v0) / 2
    for front, inward in ((block.v0, 1.0), (block.v1, -1.0)):
        for u0, u1 in split_lots(rng, block, frontage):
            if rng.random() < 0.06:
                town.paint(warp.quad(u0, u1, front, front + inward * deep, 2), ground.lawn(rng, town.style))
                continue
            length = min(deep * float(np.clip(rng.normal(cover, 0.15), 0.35, 0.97)), rng.uniform(14, 26))
            gap = 0.3 if rng.random() < 0.7 else rng.uniform(0.5, 2)
            at = rng.uniform(0.4, 1.6)
            while at + 5 < deep:  # the house at the street, then what stands in the yard behind it
                depth = min(length, deep - at - 0.3)
                v, u = front + inward * (at + depth / 2), (u0 + u1) / 2
                x, y = warp(np.array(u), np.array(v))
                made = box(
                    rng,
                    town.style,
                    (float(x), float(y)),
                    warp.heading(u, v),
                    u1 - u0 - gap,
                    depth - 0.4,
                    block="dense",
                    eaves_m=(tall * 0.6, tall * 1.5),
                )
                made.parts = made.parts[:1]
                town.claim(made, -0.5)
                at += depth + rng.uniform(0.3, 6)
                length *= rng.uniform(0.4, 1.0)
                if rng.random() < 0.35 * min(1.6, town.style.trees):
                    town.plant(rng, rng.uniform(u0, u1), front + inward * at, float(rng.uniform(1, 4)))
                if rng.random() < 0.4:
                    break


def _informal(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    """Huts and small houses, close and askew."""
    town.paint(outline, ground.soil(rng, town.style))
    area = (block.u1 - block.u0) * (block.v1 - block.v0)
    size = rng.uniform(4.5, 9)
    twist = rng.uniform(0.03, 0.3)
    for _ in range(int(area / size**2 * rng.uniform(0.7, 1.6))):
        u, v = rng.uniform(block.u0 + 2, block.u1 - 2), rng.uniform(block.v0 + 2, block.v1 - 2)
        x, y = town.plan.warp(np.array(u), np.array(v))
        angle = town.plan.warp.heading(u, v) + rng.normal(0, twist)
        width, length = size * rng.lognormal(0, 0.28), size * rng.lognormal(0.15, 0.3)
        hut = box(
            rng, town.style, (float(x), float(y)), angle, width, length, block="informal", eaves_m=(2.2, 5)
        )
        town.claim(hut, rng.uniform(-0.3, 0.9))
    town.scatter(rng, block, area / 300 * town.style.trees, lambda: rng.uniform(0.8, 3.5))


def _apartments(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    warp, style = town.plan.warp, town.style
    town.paint(outline, ground.lawn(rng, style) if rng.random() < 0.7 else ground.concrete(rng, style))
    width, length = rng.uniform(9, 16), rng.uniform(22, 60)
    step_u, step_v = width + rng.uniform(10, 24), length + rng.uniform(6, 16)
    if rng.random() < 0.5:
        width, length, step_u, step_v = length, width, step_v, step_u
    tall = rng.choice([6, 9, 15, 24]) * rng.uniform(0.85, 1.2)
    flat = bool(rng.random() < max(0.5, style.flat_share))
    first = box(rng, style, (0, 0), 0, width, length, block="apartments", eaves_m=(tall, tall), flat=flat)
    lot = town.ground.materials.add(ground.asphalt(rng, style))
    for u in np.arange(block.u0 + step_u / 2, block.u1 - step_u / 2 + 1, step_u):
        for v in np.arange(block.v0 + step_v / 2, block.v1 - step_v / 2 + 1, step_v):
            x, y = warp(np.array(u), np.array(v))
            made = box(
                rng,
                style,
                (float(x), float(y)),
                warp.heading(u, v),
                width,
                length,
                block="apartments",
                eaves_m=(tall, tall),
                flat=flat,
            )
            if rng.random() < 0.8:
                made.colour = first.colour
            if rng.random() < 0.5:
                town.ground.fill(
                    warp.quad(u - step_u / 2, u - step_u / 2 + 6, v - step_v / 2, v + step_v / 2, 2), lot
                )
                _park_row(rng, town, u - step_u / 2 + 3, v - step_v / 2, v + step_v / 2, across=True)
            town.claim(made)
            for _ in range(int(rng.poisson(2 * style.trees))):
                town.plant(
                    rng,
                    u + rng.uniform(-0.5, 0.5) * step_u,
                    v + rng.uniform(-0.5, 0.5) * step_v,
                    float(rng.uniform(1.2, 4.5)),
                )


def _park_row(
    rng: np.random.Generator, town: Town, at: float, start: float, end: float, *, across: bool
) -> None:
    """Vehicles side by side along v (`across`) or along u."""
    chance = rng.uniform(0.1, 0.8)
    for place in np.arange(min(start, end) + 2, max(start, end) - 2, 2.8):
        u, v = (at, place) if across else (place, at)
        x, y = town.plan.warp(np.array(u), np.array(v))
        town.parked.append(
            (float(x), float(y), town.plan.warp.heading(u, v) + (0 if across else np.pi / 2), chance)
        )


def _commercial(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    warp, style = town.plan.warp, town.style
    surface = pick_surface(rng, town)
    town.paint(outline, surface)
    paint = town.ground.materials.add(
        Material(ITEM, (0.7, 0.7, 0.67), (0.5, 0.5, 0.48), mix=(0.2, 0, 0.4, 0.3))
    )
    wide, deep = block.u1 - block.u0, block.v1 - block.v0
    count = int(np.clip(rng.poisson(wide * deep / 4500), 1, 7))
    for _ in range(count * 3):
        width = rng.uniform(14, max(14.1, min(75, wide * 0.8)))
        length = rng.uniform(12, max(12.1, min(60, deep * 0.75)))
        u = rng.uniform(block.u0 + width / 2 + 2, max(block.u1 - width / 2 - 2, block.u0 + width / 2 + 2.1))
        v = rng.uniform(
            block.v0 + length / 2 + 2, max(block.v1 - length / 2 - 2, block.v0 + length / 2 + 2.1)
        )
        x, y = warp(np.array(u), np.array(v))
        town.claim(hall(rng, style, (float(x), float(y)), warp.heading(u, v), width, length), 3)
    lined = rng.random() < 0.7
    for v in np.arange(block.v0 + 4, block.v1 - 4, rng.uniform(15, 19)):
        if rng.random() < 0.7:
            _park_row(rng, town, float(v), block.u0 + 3, block.u1 - 3, across=False)
            if lined:
                for u in np.arange(block.u0 + 3, block.u1 - 3, 2.8):
                    town.ground.line(warp(np.full(2, u - 1.4), np.array([v - 2.4, v + 2.4])), 0.5, paint)
    town.scatter(rng, block, wide * deep / 900 * style.trees, lambda: rng.uniform(0.8, 2.6))


def pick_surface(rng: np.random.Generator, town: Town) -> Material:
    """Ground of a commercial block."""
    kind = rng.choice(3, p=[0.6, 0.25, 0.15])
    return (ground.asphalt, ground.concrete, ground.soil)[int(kind)](rng, town.style)


def _trailers(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    warp = town.plan.warp
    town.paint(outline, ground.lawn(rng, town.style))
    lane = town.ground.materials.add(ground.asphalt(rng, town.style))
    tilt = rng.uniform(-0.5, 0.5)
    step_u, step_v = rng.uniform(9, 14), rng.uniform(24, 32)
    for v in np.arange(block.v0 + step_v / 2, block.v1 - step_v / 2 + 1, step_v):
        town.ground.fill(warp.quad(block.u0, block.u1, v - step_v / 2 - 2, v - step_v / 2 + 2), lane)
        for u in np.arange(block.u0 + step_u, block.u1 - step_u / 2, step_u):
            if rng.random() < 0.12:
                continue
            x, y = warp(np.array(u), np.array(v))
            made = box(
                rng,
                town.style,
                (float(x), float(y)),
                warp.heading(u, v) + tilt,
                rng.uniform(3.6, 5.2),
                rng.uniform(12, 20),
                block="mobile",
                eaves_m=(2.6, 3.2),
                flat=bool(rng.random() < 0.5),
            )
            if rng.random() < 0.6:
                pale = float(rng.uniform(0.66, 0.93))
                made.colour = (pale, 0.99 * pale, 0.97 * pale)
            town.claim(made)
            if rng.random() < 0.3 * min(2, town.style.trees):
                town.plant(rng, u + step_u / 2, v + rng.uniform(-8, 8), float(rng.uniform(1, 4)))


def _park(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    town.paint(outline, ground.lawn(rng, town.style, wild=bool(rng.random() < 0.4)))
    area = (block.u1 - block.u0) * (block.v1 - block.v0)
    town.scatter(
        rng, block, area / 180 * (0.3 + town.style.trees), lambda: np.clip(rng.lognormal(1.0, 0.4), 1, 7)
    )
    if rng.random() < 0.4:  # a sports ground
        middle = town.plan.warp(np.array((block.u0 + block.u1) / 2), np.array((block.v0 + block.v1) / 2))
        t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = (
            np.stack([np.cos(t), 0.55 * np.sin(t)], 1) * min(45.0, (block.v1 - block.v0) * 0.4) * town.metre
        )
        town.paint(
            middle + ring, Material(PAVED, (0.58, 0.36, 0.28), (0.5, 0.4, 0.32), mix=(0.2, 0, 0.2, 0.1))
        )
        town.paint(middle + ring * 0.8, ground.lawn(rng, town.style))


def _mask(town: Town, outline: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray] | None:
    window = bounding_window(outline, town.size_px)
    if window is None:
        return None
    mask = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
    cv2.fillPoly(mask, [fixed(outline - (window[1].start, window[0].start))], 1, shift=SUBPIXEL_BITS)
    return window, mask


def _field(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    """Farmland in strips, some with rows of plants."""
    warp = town.plan.warp
    cuts = np.sort(rng.uniform(block.u0, block.u1, int(rng.integers(0, 3))))
    edges = np.concatenate([[block.u0], cuts, [block.u1]])
    for u0, u1 in itertools.pairwise(edges):
        strip = warp.quad(u0 + 1, u1 - 1, block.v0, block.v1)
        town.paint(strip, ground.crop(rng, town.style))
        cut = _mask(town, strip)
        if cut is not None and rng.random() < 0.5:
            (rows, cols), mask = cut
            period = max(rng.uniform(1.6, 4.5) * town.metre, 3.0)
            wave = stripes(
                mask.shape,
                (cols.start, rows.start),
                warp.heading((u0 + u1) / 2, block.v0) + rng.choice([0, np.pi / 2]),
                period,
            )
            wave = wave + 0.5 * town.noise.crop(PATCH, rows, cols)
            planted = town.ground.materials.rows[-1]
            tone = rng.uniform(0.72, 0.95) if rng.random() < 0.75 else rng.uniform(1.05, 1.3)
            darker = (planted.base[0] * tone, planted.base[1] * tone, planted.base[2] * tone)
            number = town.ground.materials.add(planted._replace(base=darker))
            town.ground.numbers[rows, cols][(mask > 0) & (wave > rng.uniform(-0.3, 0.6))] = number
        if rng.random() < 0.35:  # a hedge
            for v in np.arange(block.v0, block.v1, rng.uniform(3, 9)):
                town.plant(rng, u1 + rng.normal(0, 0.8), v, float(rng.uniform(1, 3.5)))
    if rng.random() < 0.25:
        _farm_yard(rng, town, block)


def _forest(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    town.paint(outline, ground.lawn(rng, town.style, wild=True))
    cut = _mask(town, outline)
    if cut is None:
        return
    (rows, cols), mask = cut
    thick = town.noise.crop(COARSE, rows, cols) + 0.6 * town.noise.crop(MID, rows, cols) > rng.uniform(
        -2.5, 0.4
    )
    town.forest[rows, cols] |= mask & thick.astype(np.uint8)
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 5))):
            u, v = rng.uniform(block.u0, block.u1), rng.uniform(block.v0, block.v1)
            x, y = town.plan.warp(np.array(u), np.array(v))
            if (
                town.claim(house(rng, town.style, (float(x), float(y)), rng.uniform(0, 6.3)), 4)
                and rng.random() < 0.6
            ):
                _clear(town, float(x), float(y), rng.uniform(9, 22) * town.metre)


def _clear(town: Town, x: float, y: float, radius_px: float) -> None:
    cv2.circle(town.forest, (int(x), int(y)), int(radius_px), 0, -1)


def _bare(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    town.paint(outline, ground.soil(rng, town.style))
    town.scatter(rng, block, 6 * town.style.trees, lambda: rng.uniform(0.6, 2.4))


def _farm(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    _field(rng, town, block, outline)
    _farm_yard(rng, town, block)


def _farm_yard(rng: np.random.Generator, town: Town, block: Block) -> None:
    warp, style = town.plan.warp, town.style
    u, v = rng.uniform(block.u0 + 15, block.u1 - 10), block.v0 + rng.uniform(15, 30)
    town.paint(
        warp.quad(u - rng.uniform(15, 35), u + rng.uniform(15, 35), block.v0, v + rng.uniform(10, 30)),
        ground.soil(rng, style),
    )
    angle = warp.heading(u, v)
    at = warp(np.array(u), np.array(v))
    town.claim(house(rng, style, (float(at[0]), float(at[1])), angle + rng.uniform(-0.4, 0.4)))
    for _ in range(int(rng.integers(1, 5))):
        x, y = warp(np.array(u + rng.uniform(-32, 32)), np.array(v + rng.uniform(0, 35)))
        barn = box(
            rng,
            style,
            (float(x), float(y)),
            angle + rng.choice([0, np.pi / 2]),
            rng.uniform(7, 18),
            rng.uniform(10, 40),
            block="farm",
            eaves_m=(3, 6),
            flat=False,
        )
        barn.pitch *= 0.7
        town.claim(barn, 2)
    for _ in range(int(rng.poisson(6 * style.trees))):
        town.plant(rng, u + rng.uniform(-40, 40), v + rng.uniform(-15, 40), float(rng.uniform(1.5, 6)))


def _pond(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    town.paint(outline, ground.lawn(rng, town.style, wild=True))
    middle = town.plan.warp(np.array((block.u0 + block.u1) / 2), np.array((block.v0 + block.v1) / 2))
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    radius = min(block.u1 - block.u0, block.v1 - block.v0) * rng.uniform(0.25, 0.45) * town.metre
    bumps = np.ones_like(t)
    for k in range(1, 6):
        bumps += rng.normal(0, 0.18 / k) * np.sin(k * t + rng.uniform(0, 6.3))
    ring = np.stack([np.cos(t), np.sin(t)], 1) * (radius * bumps)[:, None]
    town.paint(middle + ring * 1.08, ground.soil(rng, town.style))
    town.paint(middle + ring, ground.water(rng, town.style))
    cut = _mask(town, middle + ring)
    if cut is not None:
        window, mask = cut
        town.water[window] |= mask
        town.occupied[window] |= mask
        town.elevation[window] -= mask * np.float32(1.5)
    town.scatter(rng, block, 10 * town.style.trees, lambda: rng.uniform(1, 4.5))
