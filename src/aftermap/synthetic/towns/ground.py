"""Materials of the ground: lawns, meadows, soil, asphalt, water, crops, drawn with the scene's own colours."""

import numpy as np

from aftermap.synthetic.canvas import CAR, CROP, GRASS, ITEM, PAVED, SOIL, WATER, Colour, Material
from aftermap.synthetic.style import Style, in_bytes, jitter, pick


def lawn(rng: np.random.Generator, style: Style, *, wild: bool = False) -> Material:
    """Grass, from watered green to straw; `wild` meadows are rougher and patchier."""
    dryness = float(np.clip(rng.normal(1 - style.lushness, 0.22), 0, 1))
    spread = 1.6 if wild else 1.0
    second = in_bytes(style.soil if rng.random() < 0.4 else style.dry_grass)
    return Material(
        GRASS,
        jitter(rng, in_bytes(style.grass), 7, 0.35),
        jitter(rng, second, 8, 0.3),
        mix=(
            dryness,
            rng.uniform(0.03, 0.13) * spread,
            rng.uniform(0.02, 0.12) * spread,
            rng.uniform(0.0, 0.06),
        ),
        rough=(0.03, rng.uniform(0.015, 0.07) * spread, rng.uniform(0.015, 0.05) * spread, 0.04, 0.05),
    )


def soil(rng: np.random.Generator, style: Style) -> Material:
    """Bare earth, sand or gravel."""
    second = in_bytes(style.dry_grass) if rng.random() < 0.6 else (168.0, 156.0, 136.0)
    return Material(
        SOIL,
        jitter(rng, in_bytes(style.soil), 10, 0.25),
        jitter(rng, second, 10, 0.4),
        mix=(rng.uniform(-0.2, 0.35), rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.25), rng.uniform(0, 0.1)),
        rough=(0.03, rng.uniform(0.015, 0.06), rng.uniform(0.015, 0.06), 0.06, 0.05),
    )


def asphalt(rng: np.random.Generator, style: Style) -> Material:
    """Roads and parking lots, fresh or worn."""
    return Material(
        PAVED,
        jitter(rng, in_bytes(style.asphalt), 12, 0.1),
        jitter(rng, in_bytes(style.concrete), 10, 0.2),
        mix=(rng.uniform(-0.2, 0.3), 0.06, rng.uniform(0.04, 0.16), 0.05),
        rough=(0.012, 0.02, 0.03, 0.03, 0.03),
    )


def concrete(rng: np.random.Generator, style: Style) -> Material:
    """Driveways, yards, sidewalks."""
    return Material(
        PAVED,
        jitter(rng, in_bytes(style.concrete), 13, 0.25),
        jitter(rng, in_bytes(style.asphalt), 10, 0.2),
        mix=(rng.uniform(-0.2, 0.3), 0.05, 0.1, 0.06),
        rough=(0.012, 0.02, 0.03, 0.02, 0.0),
    )


def dirt_road(rng: np.random.Generator, style: Style) -> Material:
    """Unpaved streets."""
    return Material(
        SOIL,
        jitter(rng, in_bytes(style.soil), 10, 0.3),
        jitter(rng, (190, 178, 156), 10, 0.3),
        mix=(rng.uniform(0.1, 0.6), 0.1, 0.2, 0.1),
        rough=(0.04, 0.05, 0.05, 0.03, 0.0),
    )


def crop(rng: np.random.Generator, style: Style) -> Material:
    """A field: green, ripening, ploughed or bare."""
    state = pick(rng, {"green": 2.5 * style.lushness + 0.3, "ripe": 1.2, "ploughed": 1, "pasture": 2})
    tones: dict[str, Colour] = {
        "green": (62, 84, 50),
        "ripe": (146, 132, 98),
        "ploughed": (112, 95, 78),
        "pasture": (88, 94, 66),
    }
    return Material(
        CROP if state != "ploughed" else SOIL,
        jitter(rng, tones[state], 13, 0.3),
        jitter(rng, in_bytes(style.soil), 10, 0.4),
        mix=(rng.uniform(-0.25, 0.2), rng.uniform(0.02, 0.15), rng.uniform(0.02, 0.15), 0.05),
        rough=(0.03, 0.04, 0.03, 0.05, 0.06),
    )


def water(rng: np.random.Generator, style: Style) -> Material:
    """Rivers, ponds and the sea."""
    return Material(
        WATER,
        jitter(rng, in_bytes(style.water), 5, 0.5),
        jitter(rng, in_bytes(style.water), 16, 0.5),
        mix=(0.3, 0.2, 0.1, 0.0),
        rough=(rng.uniform(0.005, 0.03), rng.uniform(0.005, 0.03), 0.02, 0.03, 0.05),
    )


def pool(rng: np.random.Generator) -> Material:
    """Swimming pools."""
    colour = jitter(rng, (104, 178, 190) if rng.random() < 0.8 else (78, 120, 108), 16, 0.5)
    return Material(ITEM, colour, colour)


def car(rng: np.random.Generator) -> Material:
    """Paint of a vehicle."""
    tones: tuple[Colour, ...] = (
        (226, 226, 226),
        (196, 198, 200),
        (48, 48, 50),
        (110, 112, 114),
        (140, 40, 38),
        (52, 70, 112),
        (90, 90, 84),
    )
    weights = np.array([5, 3, 3, 2.5, 1, 1, 0.6])
    colour = jitter(rng, tones[int(rng.choice(len(tones), p=weights / weights.sum()))], 12, 0.2)
    return Material(CAR, colour, colour)
