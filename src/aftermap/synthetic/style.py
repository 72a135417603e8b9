"""What differs from town to town: climate, roofs, streets, greenery, light."""

from dataclasses import dataclass

import numpy as np

from aftermap.synthetic.canvas import Colour

ROOFS: dict[str, tuple[tuple[Colour, float], ...]] = {
    # name: (red, green, blue in 0..255, spread), several tones per kind of roof
    "shingle": (
        ((104, 98, 92), 14),
        ((84, 82, 82), 12),
        ((122, 110, 98), 14),
        ((70, 70, 72), 9),
        ((134, 126, 116), 12),
    ),
    "brown": (((112, 90, 76), 14), ((96, 80, 70), 10), ((134, 108, 90), 14), ((120, 98, 80), 10)),
    "tile": (((158, 88, 66), 18), ((142, 78, 60), 14), ((170, 108, 84), 16), ((128, 84, 70), 12)),
    "light": (((188, 184, 176), 18), ((206, 202, 196), 16), ((172, 170, 166), 14)),
    "white": (((235, 236, 234), 12), ((222, 224, 224), 14)),
    "metal": (((150, 156, 160), 16), ((168, 170, 168), 14), ((128, 138, 146), 14)),
    "blue": (((92, 118, 150), 14), ((72, 104, 146), 16)),
    "green": (((92, 116, 98), 12), ((76, 104, 88), 10)),
    "red": (((168, 66, 56), 16), ((150, 58, 52), 12)),
    "rust": (((132, 98, 80), 20), ((150, 118, 98), 18)),
    "concrete": (((150, 144, 134), 20), ((128, 124, 118), 18), ((172, 164, 152), 18)),
    "gravel": (((132, 126, 118), 14), ((110, 106, 102), 12), ((158, 152, 142), 14)),
    "sand": (((178, 160, 134), 16), ((162, 144, 120), 14)),
    "membrane": (((52, 52, 54), 8), ((66, 66, 68), 10)),
}

REGIONS: dict[str, dict[str, float]] = {
    "suburb": {
        "shingle": 5,
        "brown": 3,
        "light": 1.2,
        "tile": 0.4,
        "metal": 0.5,
        "white": 0.5,
        "red": 0.15,
        "blue": 0.1,
    },
    "sunbelt": {"tile": 3, "brown": 2, "light": 2, "sand": 2, "shingle": 2, "white": 0.6},
    "latin": {
        "concrete": 4,
        "tile": 2.5,
        "gravel": 1.5,
        "light": 1.5,
        "white": 1,
        "metal": 1,
        "red": 1,
        "rust": 0.5,
    },
    "tropical": {
        "metal": 3,
        "rust": 3,
        "light": 1,
        "blue": 0.6,
        "red": 0.8,
        "green": 0.5,
        "white": 0.8,
        "concrete": 1,
    },
    "mediterranean": {"tile": 6, "concrete": 1, "light": 0.6, "brown": 0.6, "gravel": 0.6},
    "arid": {"sand": 4, "concrete": 3, "light": 1.5, "white": 1, "gravel": 1},
    "mixed": {
        name: 1.0
        for name in ("shingle", "brown", "tile", "light", "metal", "blue", "green", "rust", "concrete")
    },
}

LARGE_ROOFS = {
    "white": 4.0,
    "light": 3.0,
    "gravel": 3.0,
    "membrane": 1.2,
    "metal": 2.5,
    "blue": 0.5,
    "green": 0.3,
    "concrete": 1,
}

BLOCKS = (
    "suburb",
    "dense",
    "informal",
    "apartments",
    "commercial",
    "mobile",
    "park",
    "field",
    "forest",
    "bare",
    "farm",
    "pond",
)
TOWNS: dict[str, tuple[float, tuple[float, ...]]] = {
    # name: (how often, weight of each kind of block)
    "suburb": (5.0, (14, 0, 0, 0.6, 1.2, 0.2, 0.8, 0.3, 1.4, 0.5, 0, 0.4)),
    "leafy": (2.8, (10, 0, 0, 0.2, 0.4, 0.2, 0.6, 0.4, 4, 0.4, 0.2, 0.5)),
    "dense": (1.8, (0.8, 12, 0.5, 2, 1.2, 0, 0.8, 0, 0.6, 0.3, 0, 0)),
    "informal": (0.5, (0.3, 3, 10, 0.3, 0.6, 0, 0.4, 0.4, 0.5, 1, 0, 0)),
    "city": (0.9, (1.5, 4, 0, 4, 4, 0, 0.8, 0, 0.3, 0.4, 0, 0.2)),
    "industrial": (0.9, (1.5, 0, 0, 0.5, 8, 0.6, 0.3, 1, 0.6, 1.6, 0, 0.4)),
    "trailers": (0.5, (4, 0, 0, 0, 0.8, 6, 0.6, 1, 1.2, 0.6, 0.3, 0.3)),
    "rural": (1.2, (2.2, 0, 0, 0, 0.2, 0.3, 0.5, 7, 3, 1, 3, 0.5)),
    "wild": (0.5, (0, 0, 0, 0, 0, 0, 0.5, 5, 5, 1.5, 0, 0.8)),
}


@dataclass(frozen=True)
class Style:
    """The character of one scene.

    Attributes:
        gsd_m: metres per pixel.
        town: key of TOWNS. region: key of REGIONS.
        layout: street pattern.
        lushness: 0 (parched) to 1 (deep green) of the ground at the first date.
        leafless: share of foliage missing at the first date.
        trees: density factor of trees in gardens and streets.
        soil, grass, dry_grass, leaf, water, asphalt, concrete: colours.
        roofs: weights of roof kinds.
        roof_spread: 0 (all roofs of a street alike) to 1.
        flat_share: share of flat roofs among houses.
    """

    gsd_m: float
    town: str
    region: str
    layout: str
    lushness: float
    leafless: float
    trees: float
    soil: Colour
    grass: Colour
    dry_grass: Colour
    leaf: Colour
    water: Colour
    asphalt: Colour
    concrete: Colour
    roofs: dict[str, float]
    roof_spread: float
    flat_share: float

    @property
    def block_weights(self) -> np.ndarray:
        """Probabilities of the kinds of blocks."""
        weights = np.array(TOWNS[self.town][1])
        shares: np.ndarray = weights / weights.sum()
        return shares


def jitter(rng: np.random.Generator, colour: Colour, spread: float, hue: float = 0.35) -> Colour:
    """A colour (0..1) near `colour` (0..255): brightness varies by `spread` (0..255), the hue by a share of it."""
    moved = np.array(colour, float) + rng.normal(0, spread) + rng.normal(0, spread * hue, 3)
    red, green, blue = np.clip(moved, 6, 250) / 255
    return float(red), float(green), float(blue)


def in_bytes(colour: Colour) -> Colour:
    """A colour of 0..1 in 0..255."""
    return colour[0] * 255, colour[1] * 255, colour[2] * 255


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One key, with probabilities in proportion to the values."""
    names = list(weights)
    values = np.array([weights[name] for name in names], float)
    return names[int(rng.choice(len(names), p=values / values.sum()))]


def sample_style(rng: np.random.Generator, *, town: str | None = None) -> Style:
    """Draw the character of a scene; `town` fixes its kind."""
    town = town or pick(rng, {name: often for name, (often, _) in TOWNS.items()})
    if town in ("dense", "informal", "city"):
        weights = {"latin": 4.0, "mediterranean": 1.5, "arid": 1.2, "tropical": 1.2, "mixed": 1}
    else:
        weights = {
            "suburb": 5.0,
            "sunbelt": 1.8,
            "tropical": 1,
            "mediterranean": 0.5,
            "mixed": 0.7,
            "latin": 0.4,
        }
    region = pick(rng, weights)
    arid = region in ("arid", "sunbelt") or rng.random() < 0.12
    lush = float(np.clip(rng.normal(0.3 if arid else 0.62, 0.25), 0, 1))
    leafless = float(rng.uniform(0.3, 0.95)) if rng.random() < (0.08 if arid else 0.22) else 0.0
    if leafless:
        lush *= 0.6
    soils: tuple[Colour, ...] = (
        (128, 113, 92),
        (146, 116, 92),
        (116, 98, 80),
        (152, 138, 114),
        (128, 92, 74),
        (104, 92, 78),
    )
    leaf: tuple[Colour, ...] = ((58, 82, 48), (52, 78, 54), (72, 90, 50), (48, 70, 46), (80, 92, 60))
    water: tuple[Colour, ...] = (
        (46, 62, 56),
        (58, 78, 60),
        (34, 44, 48),
        (72, 84, 66),
        (92, 92, 72),
        (44, 74, 78),
    )
    kinds = dict(REGIONS[region])
    for name in kinds:
        kinds[name] *= float(rng.gamma(1.2))
    return Style(
        gsd_m=float(np.exp(rng.uniform(np.log(0.3), np.log(0.9))))
        if rng.random() < 0.45
        else float(rng.uniform(0.36, 0.56)),
        town=town,
        region=region,
        layout=pick(rng, {"grid": 3, "curvy": 4, "radial": 0.8, "bent": 2.2}),
        lushness=lush,
        leafless=leafless,
        trees=float(rng.gamma(2.2, 0.62) * (0.55 if arid else 1.0) * (0.6 if region == "latin" else 1)),
        soil=jitter(rng, soils[rng.integers(len(soils))], 14, 0.3),
        grass=jitter(rng, (70, 84, 55), 11, 0.45),
        dry_grass=jitter(rng, (128, 116, 90), 14, 0.4),
        leaf=jitter(rng, leaf[rng.integers(len(leaf))], 9, 0.6),
        water=jitter(rng, water[rng.integers(len(water))], 9, 0.5),
        asphalt=jitter(rng, (101, 100, 98), 18, 0.12),
        concrete=jitter(rng, (158, 152, 142), 16, 0.2),
        roofs=kinds,
        roof_spread=float(rng.uniform(0.25, 1)),
        flat_share={"latin": 0.8, "arid": 0.9, "mixed": 0.3, "tropical": 0.15}.get(region, 0.04),
    )
