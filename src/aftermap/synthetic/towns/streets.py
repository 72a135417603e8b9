"""Street patterns: a warped lattice of streets and the blocks between them."""

import itertools
from dataclasses import dataclass

import numpy as np

from aftermap.synthetic.style import Style


@dataclass(frozen=True)
class Warp:
    """Maps town coordinates (u, v in metres) to pixels of the canvas: turned, bent, or wound around a centre.

    Attributes:
        origin: pixel of (0, 0). angle: rotation. metre: pixels per metre.
        waves: rows of (amplitude m, wave number u, wave number v, phase, direction).
        radius_m: 0, or the radius at which v = 0 lies for radial patterns.
    """

    origin: tuple[float, float]
    angle: float
    metre: float
    waves: np.ndarray
    radius_m: float = 0.0

    def __call__(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of town coordinates."""
        u, v = np.broadcast_arrays(np.asarray(u, float), np.asarray(v, float))
        shift_u, shift_v = np.zeros_like(u), np.zeros_like(v)
        for amplitude, ku, kv, phase, direction in self.waves:
            wave = amplitude * np.sin(ku * u + kv * v + phase)
            shift_u = shift_u + wave * np.cos(direction)
            shift_v = shift_v + wave * np.sin(direction)
        x, y = u + shift_u, v + shift_v
        if self.radius_m:
            turn = x / self.radius_m
            x, y = (y + self.radius_m) * np.sin(turn), (y + self.radius_m) * np.cos(turn) - self.radius_m
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        px = self.origin[0] + (x * cos - y * sin) * self.metre
        py = self.origin[1] + (x * sin + y * cos) * self.metre
        return np.stack([px, py], axis=-1)

    def heading(self, u: float, v: float) -> float:
        """Direction of increasing u in the image at a point, radians."""
        ends = self(np.array([u - 1.0, u + 1.0]), np.array([v, v]))
        dx, dy = ends[1] - ends[0]
        return float(np.arctan2(dy, dx))

    def quad(self, u0: float, u1: float, v0: float, v1: float, steps: int = 5) -> np.ndarray:
        """Outline (P, 2) in pixels of a box in town coordinates, with bent sides."""
        t = np.linspace(0, 1, steps)
        us = np.concatenate([u0 + (u1 - u0) * t, np.full(steps, u1), u1 + (u0 - u1) * t, np.full(steps, u0)])
        vs = np.concatenate([np.full(steps, v0), v0 + (v1 - v0) * t, np.full(steps, v1), v1 + (v0 - v1) * t])
        return self(us, vs)


@dataclass(frozen=True)
class Block:
    """Ground between streets: a box in town coordinates (metres), streets excluded, and what stands there."""

    u0: float
    u1: float
    v0: float
    v1: float
    kind: str


@dataclass(frozen=True)
class Street:
    """A street as a line of pixels (P, 2) with its width in metres; `major` streets have lane marks."""

    points: np.ndarray
    width_m: float
    major: bool
    paved: bool = True


@dataclass(frozen=True)
class StreetPlan:
    """The warp of a town with its streets and blocks."""

    warp: Warp
    streets: list[Street]
    blocks: list[Block]


def split_lots(rng: np.random.Generator, block: Block, frontage_m: float) -> list[tuple[float, float]]:
    """Lots of about the given frontage along a block's u axis, as (start, end) in metres."""
    length = block.u1 - block.u0
    count = max(1, round(length / frontage_m))
    sway = np.concatenate([[0], rng.normal(0, frontage_m * 0.06, count - 1), [0]])
    cuts = block.u0 + np.linspace(0, length, count + 1) + sway
    return [(float(start), float(end)) for start, end in itertools.pairwise(cuts)]


def plan_streets(rng: np.random.Generator, style: Style, size_px: int, kinds: tuple[str, ...]) -> StreetPlan:
    """Lay out streets over a canvas and choose the kind of every block."""
    extent_m = size_px * style.gsd_m
    reach = extent_m * 0.78
    warp = _sample_warp(rng, style, size_px, extent_m)
    spacing_u, spacing_v, road_m = _spacing(rng, style.town)
    us = _lines(rng, -reach, reach, spacing_u)
    vs = _lines(rng, -reach, reach, spacing_v)
    width_u = np.where(rng.random(len(us)) < 0.15, road_m * rng.uniform(1.3, 2.6), road_m)
    width_v = np.where(rng.random(len(vs)) < 0.15, road_m * rng.uniform(1.3, 2.6), road_m)
    missing = rng.uniform(0, 0.35) if style.town not in ("dense", "city", "informal") else rng.uniform(0, 0.1)
    open_u = rng.random((len(us), len(vs) - 1)) >= missing
    open_v = rng.random((len(vs), len(us) - 1)) >= missing * 0.4
    paved = style.town not in ("wild", "rural", "informal") or rng.random() < 0.5

    streets: list[Street] = []
    for i, u in enumerate(us):
        for j in range(len(vs) - 1):
            if open_u[i, j]:
                line = warp(np.full(12, u), np.linspace(vs[j], vs[j + 1], 12))
                streets.append(Street(line, float(width_u[i]), bool(width_u[i] > road_m), paved))
    for j, v in enumerate(vs):
        for i in range(len(us) - 1):
            if open_v[j, i]:
                line = warp(np.linspace(us[i], us[i + 1], 16), np.full(16, v))
                streets.append(Street(line, float(width_v[j]), bool(width_v[j] > road_m), paved))
    streets.sort(key=lambda street: street.major)

    names = _zones(rng, style, kinds, us, vs)
    blocks = []
    for i in range(len(us) - 1):
        for j in range(len(vs) - 1):
            inset_u0 = width_u[i] / 2 if open_u[i, j] else 0.0
            inset_u1 = width_u[i + 1] / 2 if open_u[i + 1, j] else 0.0
            inset_v0 = width_v[j] / 2 if open_v[j, i] else 0.0
            inset_v1 = width_v[j + 1] / 2 if open_v[j + 1, i] else 0.0
            blocks.append(
                Block(
                    us[i] + inset_u0,
                    us[i + 1] - inset_u1,
                    vs[j] + inset_v0,
                    vs[j + 1] - inset_v1,
                    names[i][j],
                )
            )
    return StreetPlan(warp, streets, blocks)


def _spacing(rng: np.random.Generator, town: str) -> tuple[tuple[float, float], tuple[float, float], float]:
    if town in ("rural", "wild"):
        return (160, 420), (140, 380), float(rng.uniform(4, 7))
    if town == "industrial":
        return (110, 240), (90, 180), float(rng.uniform(8, 12))
    if town in ("dense", "informal", "city"):
        return (70, 170), (36, 75) if town != "informal" else (24, 50), float(rng.uniform(4, 10))
    return (120, 280), (58, 96), float(rng.uniform(6.5, 10))


def _lines(rng: np.random.Generator, low: float, high: float, spacing: tuple[float, float]) -> np.ndarray:
    usual = rng.uniform(*spacing)
    steps = np.clip(
        usual * rng.normal(1, 0.14, int((high - low) / usual) + 8), spacing[0] * 0.8, spacing[1] * 1.2
    )
    lines = low - rng.uniform(0, usual) + np.concatenate([[0], np.cumsum(steps)])
    kept: np.ndarray = lines[: int(np.searchsorted(lines, high)) + 1]
    return kept


def _sample_warp(rng: np.random.Generator, style: Style, size_px: int, extent_m: float) -> Warp:
    count = {"grid": 0, "bent": 2, "curvy": 4, "radial": 2}[style.layout]
    strength = {"grid": 0.0, "bent": 0.6, "curvy": 1.0, "radial": 0.4}[style.layout]
    waves = []
    for _ in range(count):
        length = rng.uniform(220, 620)
        direction, travel = rng.uniform(0, 2 * np.pi, 2)
        k = 2 * np.pi / length
        amplitude = strength * rng.uniform(0.015, 0.06) * length
        waves.append(
            (amplitude, k * np.cos(travel), k * np.sin(travel), rng.uniform(0, 2 * np.pi), direction)
        )
    origin = size_px / 2 + rng.uniform(-0.15, 0.15, 2) * size_px
    angle = (
        rng.uniform(-np.pi, np.pi)
        if rng.random() < 0.55
        else rng.normal(0, 0.05) + rng.integers(0, 2) * np.pi / 2
    )
    radius = extent_m * rng.uniform(0.8, 1.6) if style.layout == "radial" else 0.0
    return Warp(
        (float(origin[0]), float(origin[1])),
        float(angle),
        1 / style.gsd_m,
        np.array(waves).reshape(-1, 5),
        float(radius),
    )


def _zones(
    rng: np.random.Generator, style: Style, kinds: tuple[str, ...], us: np.ndarray, vs: np.ndarray
) -> list[list[str]]:
    """Kinds of blocks in patches: each block takes that of the nearest seed, or now and then its own."""
    count = int(rng.integers(3, 9))
    seeds = np.stack([rng.uniform(us[0], us[-1], count), rng.uniform(vs[0], vs[-1], count)], 1)
    seed_kinds = rng.choice(len(kinds), count, p=style.block_weights)
    names = []
    for u0, u1 in itertools.pairwise(us):
        row = []
        for v0, v1 in itertools.pairwise(vs):
            middle = np.array([(u0 + u1) / 2, (v0 + v1) / 2])
            nearest = int(np.argmin(((seeds - middle) ** 2).sum(axis=1)))
            own = rng.random() < 0.35
            row.append(
                kinds[int(rng.choice(len(kinds), p=style.block_weights)) if own else int(seed_kinds[nearest])]
            )
        names.append(row)
    return names
