"""Suburbs: detached houses in gardens with drives, patios, pools, sheds, hedges and trees."""

from dataclasses import dataclass

import numpy as np

from aftermap.synthetic.canvas import ITEM, Material, bounding_window
from aftermap.synthetic.towns import ground
from aftermap.synthetic.towns.buildings import box, house
from aftermap.synthetic.towns.streets import Block, split_lots
from aftermap.synthetic.towns.town import Town


@dataclass(frozen=True)
class _Habits:
    """What the lots of one block have in common: shares, metres and material numbers."""

    scale: float
    setback: float
    pools: float
    sheds: float
    empty: float
    patios: float
    drive: int | None
    patio: int
    fence: int | None
    hedges: float
    trees: float


@dataclass(frozen=True)
class _Lot:
    """A lot between u0 and u1 that reaches from the street at `front` inwards (+1 or -1) by `depth` metres."""

    u0: float
    u1: float
    front: float
    inward: float
    depth: float

    @property
    def width(self) -> float:
        return self.u1 - self.u0

    def v(self, share: float) -> float:
        """Town coordinate at a share of the depth."""
        return self.front + self.inward * self.depth * share


def fill_suburb(rng: np.random.Generator, town: Town, block: Block, outline: np.ndarray) -> None:
    """One or two rows of lots, fronts to the streets."""
    habits = _sample_habits(rng, town)
    frontage = rng.uniform(17, 31) * habits.scale
    deep = (block.v1 - block.v0) / 2
    double = deep > 16
    for front in (block.v0, block.v1) if double else (block.v0,):
        inward = 1.0 if front == block.v0 else -1.0
        for u0, u1 in split_lots(rng, block, frontage):
            _fill_lot(rng, town, _Lot(u0, u1, front, inward, deep if double else 2 * deep), habits)


def _sample_habits(rng: np.random.Generator, town: Town) -> _Habits:
    style, add = town.style, town.ground.materials.add
    drive = ground.concrete(rng, style) if rng.random() < 0.7 else ground.asphalt(rng, style)
    wood = Material(ITEM, (0.46, 0.4, 0.33), (0.6, 0.55, 0.48), mix=(0.3, 0, 0.4, 0.2))
    return _Habits(
        scale=float(rng.uniform(0.75, 1.25)),
        setback=float(rng.uniform(4, 9)),
        pools=float(rng.uniform(0, 0.3)),
        sheds=float(rng.uniform(0, 0.5)),
        empty=float(rng.beta(1, 7)),
        patios=float(rng.uniform(0, 0.8)),
        drive=add(drive) if rng.random() < 0.85 else None,
        patio=add(ground.concrete(rng, style)),
        fence=add(wood) if rng.random() < 0.6 else None,
        hedges=float(rng.beta(1, 2.5)),
        trees=style.trees * float(rng.gamma(3, 0.5)) * (1.8 if style.town == "leafy" else 1.0),
    )


def _fill_lot(rng: np.random.Generator, town: Town, lot: _Lot, habits: _Habits) -> None:
    warp, style = town.plan.warp, town.style
    if rng.random() < 0.7:
        lawn = ground.lawn(rng, style) if rng.random() < 0.85 else ground.soil(rng, style)
        town.paint(warp.quad(lot.u0, lot.u1, lot.front, lot.v(1), 3), lawn)
    if habits.fence is not None:
        town.ground.line(warp(np.full(3, lot.u1), np.linspace(lot.v(0.35), lot.v(1), 3)), 0.8, habits.fence)
        town.ground.line(warp(np.array([lot.u0, lot.u1]), np.full(2, lot.v(1))), 0.8, habits.fence)
    for _ in range(int(rng.poisson(1.9 * habits.trees))):
        share = 1 - rng.beta(1, 2.0)  # most stand at the back
        town.plant(
            rng, rng.uniform(lot.u0, lot.u1), lot.v(share), float(np.clip(rng.lognormal(1.1, 0.42), 0.9, 7.5))
        )
    for _ in range(int(rng.poisson(3.0 * min(style.trees, 1.5)))):
        town.plant(rng, rng.uniform(lot.u0, lot.u1), lot.v(rng.random()), float(rng.uniform(0.5, 1.4)))
    if rng.random() < habits.hedges:
        for share in np.arange(rng.uniform(0, 0.5), 1.0, rng.uniform(1.6, 4) / lot.depth):
            town.plant(rng, lot.u0 + rng.normal(0, 0.4), lot.v(share), float(rng.uniform(0.8, 2.2)))
    if rng.random() < habits.empty:
        return
    back = _home(rng, town, lot, habits)
    if back is not None and rng.random() < habits.patios:
        wide = rng.uniform(2, 5)
        at = (lot.u0 + lot.u1) / 2 + rng.normal(0, 2)
        town.ground.fill(
            warp.quad(at - wide, at + wide, back - lot.inward * 3, back + lot.inward * rng.uniform(2, 6), 2),
            habits.patio,
        )
    if rng.random() < habits.pools:
        middle = warp(np.array(rng.uniform(lot.u0 + 4, lot.u1 - 4)), np.array(lot.v(rng.uniform(0.75, 0.88))))
        _pool(rng, town, middle)
    if rng.random() < habits.sheds:
        _shed(rng, town, rng.uniform(lot.u0 + 2, lot.u1 - 2), lot.v(rng.uniform(0.75, 0.95)))
    for _ in range(int(rng.poisson(0.5))):  # bare patches, vegetable beds, things left lying
        half = rng.uniform(0.6, 2.5, 2)
        u, v = rng.uniform(lot.u0 + 2, lot.u1 - 2), lot.v(rng.uniform(0.55, 0.95))
        spot = ground.soil(rng, style) if rng.random() < 0.6 else ground.concrete(rng, style)
        town.paint(warp.quad(u - half[0], u + half[0], v - half[1], v + half[1], 2), spot)


def _home(rng: np.random.Generator, town: Town, lot: _Lot, habits: _Habits) -> float | None:
    """Place the house with its drive; returns the town coordinate v of its back, or None where it did not fit."""
    warp, style = town.plan.warp, town.style
    middle = (lot.u0 + lot.u1) / 2
    for shrink in (1.0, 0.8):
        fit = min(habits.scale, lot.width / 19) * shrink
        reach = habits.setback + 7.5 * fit
        v = lot.front + lot.inward * (reach + rng.normal(0, 0.8))
        u = middle + rng.normal(0, 0.06) * lot.width
        x, y = warp(np.array(u), np.array(v))
        angle = warp.heading(u, v) + (np.pi if lot.inward < 0 else 0.0) + rng.normal(0, 0.02)
        if rng.random() < 0.08:
            angle += rng.uniform(-0.6, 0.6)
        if town.claim(house(rng, style, (float(x), float(y)), angle, scale=fit)):
            break
    else:
        return None
    if habits.drive is not None:
        at = middle + rng.choice([-0.28, 0.28]) * lot.width
        wide = rng.uniform(2.6, 5.5) / 2
        end = lot.front + lot.inward * (habits.setback + 1.5)
        town.ground.fill(warp.quad(at - wide, at + wide, lot.front, end, 2), habits.drive)
        if rng.random() < 0.6:
            x, y = warp(np.array(at), np.array(lot.front + lot.inward * habits.setback * 0.5))
            town.parked.append((float(x), float(y), warp.heading(at, lot.front) + np.pi / 2, 0.5))
    return lot.front + lot.inward * (reach + 7 * fit)


def _pool(rng: np.random.Generator, town: Town, at: np.ndarray) -> None:
    t = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    size, turn = rng.uniform(2.2, 4.6) * town.metre, rng.uniform(0, np.pi)
    power = rng.choice([1.0, 0.5])
    x, y = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(t), np.sin(t)))
    shape = np.stack([x, 0.55 * y], 1) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    window = bounding_window(at + shape * size, town.size_px)
    if window is None or town.occupied[window].any():
        return
    town.paint(at + shape * (size + 1.6 * town.metre), ground.concrete(rng, town.style))
    town.paint(at + shape * size, ground.pool(rng))
    town.occupied[window] = 1


def _shed(rng: np.random.Generator, town: Town, u: float, v: float) -> None:
    x, y = town.plan.warp(np.array(u), np.array(v))
    angle = town.plan.warp.heading(u, v) + rng.normal(0, 0.05)
    width, length = rng.uniform(2.5, 5), rng.uniform(3, 6.5)
    town.claim(
        box(rng, town.style, (float(x), float(y)), angle, width, length, block="shed", eaves_m=(2, 2.6)), 0.5
    )
