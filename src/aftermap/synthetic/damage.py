"""Disasters: where they strike, which damage each building takes, and how that looks from above."""

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from aftermap.errors import InputError
from aftermap.synthetic.texture import BROAD, COARSE, GRAIN, MID, PATCH, NoiseBank
from aftermap.synthetic.towns.buildings import Building
from aftermap.synthetic.towns.town import Town

Kind = Literal["wind", "flood", "fire", "earthquake"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def as_kind(name: str) -> Kind:
    """The kind of disaster called `name`.

    Raises:
        InputError: there is none.
    """
    for kind in KINDS:
        if kind == name:
            return kind
    raise InputError(f"no disaster of kind {name!r}: choose from {', '.join(KINDS)}")


NO_DAMAGE, MINOR, MAJOR, DESTROYED = 1, 2, 3, 4


@dataclass(frozen=True)
class Disaster:
    """A disaster over one scene.

    Attributes:
        kind: what struck.
        intensity: spatial strength, float32 (N, N) in about 0..1.
        levels: damage of each building, 1 to 4 as in the joint damage scale.
        flooded: bool (N, N), only for floods.
    """

    kind: Kind
    intensity: np.ndarray
    levels: np.ndarray
    flooded: np.ndarray | None = None


def strike(
    rng: np.random.Generator,
    kind: Kind,
    buildings: list[Building],
    noise: NoiseBank,
    elevation: np.ndarray,
    gsd_m: float,
) -> Disaster:
    """Let a disaster happen: its field, and the damage of every building."""
    size = elevation.shape[0]
    centres = np.array([b.centre for b in buildings]).reshape(-1, 2)
    at = np.clip(centres.astype(int), 0, size - 1)
    if kind == "flood":
        flooded = _inundation(rng, noise, elevation, gsd_m)
        levels = _flood_levels(rng, flooded, buildings, gsd_m)
        return Disaster(kind, flooded.astype(np.float32), levels, flooded)
    if kind == "fire":
        intensity = _fire_front(rng, noise, size)
        return Disaster(kind, intensity, _fire_levels(rng, intensity[at[:, 1], at[:, 0]], len(buildings)))
    if kind == "wind":
        intensity = _wind_field(rng, noise, size, gsd_m)
        spread, shares = rng.uniform(0.05, 0.25), _shares(rng, (0.5, 0.24, 0.16, 0.10))
    else:
        intensity = np.clip(0.5 + 0.18 * noise.layers[BROAD] + 0.1 * noise.layers[COARSE], 0, 1)
        spread, shares = rng.uniform(0.25, 0.8), _shares(rng, (0.58, 0.15, 0.13, 0.14))
    score = intensity[at[:, 1], at[:, 0]] + rng.normal(0, spread, len(buildings))
    for index, building in enumerate(buildings):
        if building.block in ("mobile", "shed", "informal"):
            score[index] += 0.12
    return Disaster(kind, intensity, _by_share(score, shares))


def _shares(rng: np.random.Generator, usual: tuple[float, ...]) -> np.ndarray:
    """Shares of the four levels in one scene, scattered around the usual ones."""
    shares: np.ndarray = rng.dirichlet(np.array(usual) * 4.5)
    return shares


def _by_share(score: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Levels 1 to 4 by rank of the score."""
    if not len(score):
        return np.zeros(0, np.int64)
    rank = (np.argsort(np.argsort(score)) + 0.5) / len(score)
    levels: np.ndarray = 1 + np.searchsorted(np.cumsum(shares)[:3], rank)
    return levels


def _wind_field(rng: np.random.Generator, noise: NoiseBank, size: int, gsd_m: float) -> np.ndarray:
    """A tornado's track, or the broad gusts of a hurricane."""
    wobble = 0.14 * noise.layers[COARSE] + 0.07 * noise.layers[MID]
    if rng.random() < 0.5:
        gusts: np.ndarray = np.clip(0.5 + 0.2 * noise.layers[BROAD] + wobble, 0, 1)
        return gusts.astype(np.float32)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.35, 0.35) * size
    axis = np.arange(size, dtype=np.float32) - size / 2
    distance = (
        axis[None, :] * np.float32(np.cos(angle))
        + axis[:, None] * np.float32(np.sin(angle))
        - np.float32(offset)
    )
    distance += np.float32(25 / gsd_m) * noise.layers[BROAD]
    width = rng.uniform(50, 180) / gsd_m
    track: np.ndarray = np.clip(np.exp(-((distance / width) ** 2)) + 0.5 * wobble, 0, 1.2)
    return track.astype(np.float32)


def _fire_front(rng: np.random.Generator, noise: NoiseBank, size: int) -> np.ndarray:
    """Burnt ground: behind a ragged front, in patches, with unburnt islands."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    field = (
        slope * rng.uniform(0, 1.6)
        + 0.4 * noise.layers[BROAD]
        + 0.25 * noise.layers[COARSE]
        + 0.1 * noise.layers[MID]
    )
    field = field - np.quantile(field[::8, ::8], 1 - rng.uniform(0.15, 0.95))
    burnt: np.ndarray = np.clip(field * rng.uniform(3, 9) + 0.5, 0, 1)
    return burnt.astype(np.float32)


def _fire_levels(rng: np.random.Generator, heat: np.ndarray, count: int) -> np.ndarray:
    """In the fire most houses are lost or spared; few are half burnt."""
    ferocity = rng.uniform(0.35, 0.98)
    lost = rng.random(count) < heat * ferocity
    levels = np.where(lost, DESTROYED, NO_DAMAGE)
    partly = (heat > 0.25) & ~lost & (rng.random(count) < 0.16)
    return np.where(partly, np.where(rng.random(count) < 0.5, MINOR, MAJOR), levels)


def _inundation(
    rng: np.random.Generator, noise: NoiseBank, elevation: np.ndarray, gsd_m: float
) -> np.ndarray:
    """Ground under water: everything lower than a level, with small islands at the shore."""
    ground = elevation + 0.05 * noise.layers[PATCH] + 0.015 * noise.layers[GRAIN]
    level = np.quantile(ground[::8, ::8], np.clip(rng.beta(1.6, 2.2), 0.05, 0.92))
    wet: np.ndarray = (
        cv2.morphologyEx((ground < level).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    )
    return wet


def _flood_levels(
    rng: np.random.Generator, flooded: np.ndarray, buildings: list[Building], gsd_m: float
) -> np.ndarray:
    """Major where water surrounds a building, minor where it reaches a side or stands close by."""
    levels = np.ones(len(buildings), np.int64)
    count = cv2.integral(flooded.astype(np.uint8))
    size = flooded.shape[0]
    for index, building in enumerate(buildings):
        corners = np.concatenate(building.rectangles())
        shares = []
        for reach_m in (3.0, 9.0):
            low = np.clip(np.floor(corners.min(axis=0) - reach_m / gsd_m).astype(int), 0, size - 1)
            high = np.clip(np.ceil(corners.max(axis=0) + reach_m / gsd_m).astype(int), 1, size)
            if (high <= low).any():
                shares.append(0.0)
                continue
            wet = (
                count[high[1], high[0]]
                - count[low[1], high[0]]
                - count[high[1], low[0]]
                + count[low[1], low[0]]
            )
            shares.append(float(wet) / float((high - low).prod()))
        if shares[0] > 0.6:
            levels[index] = DESTROYED if rng.random() < 0.05 else MAJOR
        elif shares[0] > 0.12 or shares[1] > 0.2:
            levels[index] = MINOR
    return levels


def town_disaster(rng: np.random.Generator, kind: Kind, town: Town) -> Disaster:
    """`strike` for a town."""
    return strike(rng, kind, town.buildings, town.noise, town.elevation, town.style.gsd_m)
