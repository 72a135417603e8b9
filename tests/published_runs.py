"""Run tables of the published systems, typed from our notes on them and not from the recipes."""

from typing import NamedTuple


class Run(NamedTuple):
    """A row of a run table; `halved` are the epochs, from 0, that start with half the learning rate."""

    crop: int
    batch: int
    lr: float
    halved: tuple[int, ...]
    epochs: int
    every: int
    mixed: bool
    clip: float
    seed: int


class Gates(NamedTuple):
    """A column of the winner's augmentation tables as they stand there: thresholds that a random number must exceed."""

    flip: float
    rotate90: float
    shift: float
    rotate_scale: float
    crop: float
    low: int
    high: int
    channels: float
    hsv: float
    p: float
    q: float
    elastic: float


class Odds(NamedTuple):
    """A row of MetaDamageNet's table: chances; a block is (inner, outer, inner, outer)."""

    flip: float
    rotate90: float
    shift: float
    rotate_scale: float
    channels: float
    hsv: float
    first: tuple[tuple[float, ...], float, tuple[float, ...], float]
    second: tuple[tuple[float, ...], float, tuple[float, ...], float] | None
    elastic: float


# fmt: off
STEPS_50 = (16, 30, 44, 54, 66, 81, 91, 101, 111, 131)
TUNED = (2, 3, 4, 5, 6, 8, 10)
XVIEW2 = {
    "localization-resnet34": Run(736, 16, 1.5e-4, (6, 12, 18, 26, 34, 48, 51), 55, 2, False, 0.999, 545),
    "localization-seresnext50": Run(512, 15, 1.5e-4, STEPS_50, 150, 2, True, 1.1, 123),
    "localization-dpn92": Run(512, 10, 1.5e-4, STEPS_50[:7], 100, 2, True, 1.1, 111),
    "localization-senet154": Run(480, 14, 1.5e-4, (4, 8, 12, 16, 20, 24, 28), 30, 1, True, 0.999, 321),
    "tune-localization-seresnext50": Run(512, 15, 4e-5, TUNED, 12, 1, True, 1.1, 432),
    "tune-localization-dpn92": Run(512, 10, 4e-5, TUNED[:5], 8, 1, True, 1.1, 156),
    "damage-resnet34": Run(608, 16, 2e-4, (6, 12, 18), 20, 2, True, 0.999, 321),
    "damage-seresnext50": Run(512, 16, 2e-4, (6, 12, 18), 20, 2, True, 0.999, 1234),
    "damage-dpn92": Run(512, 12, 2e-4, (4, 8), 10, 2, True, 0.999, 54321),
    "damage-senet154": Run(448, 8, 1e-4, (4, 6, 10, 14), 16, 1, True, 0.999, 123123),
    "tune-damage-resnet34": Run(608, 16, 8e-6, (2,), 3, 1, True, 0.999, 357),
    "tune-damage-seresnext50": Run(512, 16, 1e-5, (), 2, 1, True, 0.999, 131313),
    "tune-damage-dpn92": Run(512, 12, 8e-6, (), 1, 1, True, 0.999, 777),
    "tune-damage-senet154": Run(448, 8, 8e-6, (), 2, 1, True, 0.999, 531),
}
XVIEW2_GATES = {
    "localization-resnet34": Gates(0.5, 0.05, 0.8, 0.2, 0.3, 613, 920, 0.97, 0.97, 0.93, 0.97, 0.97),
    "localization-seresnext50": Gates(0.5, 0.05, 0.9, 0.9, 0.3, 465, 568, 0.99, 0.99, 0.99, 0.99, 0.999),
    "localization-dpn92": Gates(0.5, 0.05, 0.9, 0.9, 0.5, 465, 568, 0.99, 0.99, 0.99, 0.99, 0.999),
    "localization-senet154": Gates(0.6, 0.1, 0.7, 0.4, 0.2, 436, 533, 0.95, 0.9597, 0.92, 0.92, 0.95),
    "tune-localization-seresnext50": Gates(0.55, 0.1, 0.95, 0.95, 0.6, 465, 568, 0.99, 0.99, 0.99, 0.99, 0.999),
    "tune-localization-dpn92": Gates(0.55, 0.1, 0.95, 0.95, 0.6, 465, 568, 0.99, 0.99, 0.99, 0.99, 0.999),
    "damage-resnet34": Gates(0.5, 0.05, 0.9, 0.6, 0.2, 528, 715, 0.985, 0.985, 0.98, 0.985, 0.983),
    "damage-seresnext50": Gates(0.5, 0.05, 0.8, 0.2, 0.1, 445, 602, 0.96, 0.96, 0.9, 0.96, 0.96),
    "damage-dpn92": Gates(0.5, 0.0001, 0.5, 0.05, 0.05, 445, 602, 0.9, 0.9, 0.9, 0.9, 0.9),
    "damage-senet154": Gates(0.5, 0.0001, 0.5, 0.05, 0.05, 389, 527, 0.9, 0.9, 0.9, 0.9, 0.9),
    "tune-damage-resnet34": Gates(0.7, 0.3, 0.99, 0.5, 0.5, 552, 675, 0.99, 0.99, 0.99, 0.99, 0.99),
    "tune-damage-seresnext50": Gates(0.7, 0.3, 0.99, 0.5, 0.5, 465, 568, 0.99, 0.99, 0.99, 0.99, 0.99),
    "tune-damage-dpn92": Gates(0.7, 0.3, 0.99, 0.5, 0.5, 465, 568, 0.99, 0.99, 0.99, 0.99, 0.99),
    "tune-damage-senet154": Gates(0.7, 0.3, 0.99, 0.5, 0.5, 407, 497, 0.99, 0.99, 0.99, 0.99, 0.99),
}
W_A, W_B = (0.05, 0.2, 0.8, 0.7, 0.4), (0.1, 0.1, 0.3, 0.3, 0.2)
W_C, W_D = (0.1, 0.1, 0.5, 0.3, 0.2), (0.1, 0.1, 0.6, 0.3, 0.2)
CLASS_WEIGHTS = {"resnet34": W_A, "seresnext50": W_B, "dpn92": W_C, "senet154": W_D}
FOCAL = {"resnet34": 10.0, "seresnext50": 10.0, "dpn92": 6.0, "senet154": 14.0}  # beside a dice of 1, both systems
XVIEW2_DAMAGE_TERMS = {
    "resnet34": [("dice", 1.0), ("focal", 12.0)],
    "seresnext50": [("dice", 0.5), ("focal", 2.0), ("cross-entropy", 11.0)],
    "dpn92": [("dice", 0.5), ("focal", 5.0), ("cross-entropy", 11.0)],
    "senet154": [("dice", 0.5), ("cross-entropy", 8.0)],
}
METADAMAGENET_DAMAGE_TERMS = XVIEW2_DAMAGE_TERMS | {"senet154": [("dice", 1.0), ("cross-entropy", 8.0)]}

LATE = (60, 70, 90, 110, 130, 150, 170, 180, 190)
M_R34 = (5, 11, 17, 25, 33, 47, 50, *LATE)
M_SE154 = (3, 7, 11, 15, 19, 23, 27, 33, 41, 50, *LATE)
M_SE154_DAMAGE = (3, 5, 9, 13, 17, 21, 25, 29, 33, 47, 50, *LATE)
M1 = (5, 11, 17, 23, 29, 33, 47, 50, *LATE)
M2 = (1, 2, 3, 4, 5, 7, 9, 11, 17, 23, 29, 33, 47, 50, *LATE)
M3 = (15, 29, 43, 53, 65, 80, 90, 100, 110, 130, 150, 170, 180, 190)
METADAMAGENET = {
    "localization-resnet34": Run(736, 16, 1.5e-4, M_R34, 55, 2, True, 0.999, 545),
    "damage-resnet34": Run(608, 16, 2e-4, M1, 20, 2, True, 0.999, 321),
    "tune-damage-resnet34": Run(608, 16, 8e-6, M2, 3, 1, True, 0.999, 357),
    "localization-seresnext50": Run(512, 15, 1.5e-4, M3, 150, 2, True, 1.1, 123),
    "tune-localization-seresnext50": Run(512, 15, 4e-5, M2, 12, 1, True, 1.1, 432),
    "damage-seresnext50": Run(512, 16, 2e-4, M1, 20, 2, True, 0.999, 1234),
    "tune-damage-seresnext50": Run(512, 16, 1e-5, M2, 2, 1, True, 0.999, 131313),
    "localization-dpn92": Run(512, 10, 1.5e-4, M3, 100, 2, True, 1.1, 111),
    "tune-localization-dpn92": Run(512, 10, 4e-5, M2, 8, 2, False, 0, 156),
    "damage-dpn92": Run(512, 12, 2e-4, M1, 10, 2, True, 0.999, 54321),
    "tune-damage-dpn92": Run(512, 12, 8e-6, M2, 1, 1, True, 0.999, 777),
    "localization-senet154": Run(480, 14, 1.5e-4, M_SE154, 30, 1, False, 0, 321),
    "damage-senet154": Run(512, 8, 1e-4, M_SE154_DAMAGE, 16, 2, True, 0.999, 123123),
    "tune-damage-senet154": Run(512, 8, 8e-6, M2, 2, 2, False, 0, 531),
}
LAST_RATE = {
    "localization-resnet34": 1.17e-6, "damage-resnet34": 2.5e-5, "tune-damage-resnet34": 2e-6,
    "localization-seresnext50": 1.46e-7, "tune-localization-seresnext50": 1.56e-7, "damage-seresnext50": 2.5e-5,
    "tune-damage-seresnext50": 5e-6, "localization-dpn92": 1.17e-6, "tune-localization-dpn92": 6.25e-7,
    "damage-dpn92": 1e-4, "tune-damage-dpn92": 8e-6, "localization-senet154": 1.17e-6, "damage-senet154": 6.25e-6,
    "tune-damage-senet154": 4e-6,
}
WINDOWS = {
    ("localization", "resnet34"): (0.6, 0.9), ("localization", "seresnext50"): (0.45, 0.55),
    ("localization", "dpn92"): (0.45, 0.55), ("localization", "senet154"): (0.42, 0.52),
    ("damage", "resnet34"): (0.65, 0.85), ("damage", "seresnext50"): (0.4, 0.6),
    ("damage", "dpn92"): (0.4, 0.6), ("damage", "senet154"): (0.4, 0.6),
}


def alike(q, p):
    """A block whose inner chances are all `q` and whose outer ones are `p`."""
    return (q,) * 3, p, (q,) * 3, p


LOW, TENTH = alike(0.01, 0.01), alike(0.1, 0.1)
R34 = (0.03, 0.03, 0.02), 0.07, (0.03,) * 3, 0.07
R34_DAMAGE = (0.015, 0.015, 0.1), 0.015, (0.015,) * 3, 0.02
SX50_DAMAGE = (0.04, 0.04, 0.1), 0.04, (0.04,) * 3, 0.1
METADAMAGENET_ODDS = {
    "localization-resnet34": Odds(0.5, 0.95, 0.2, 0.8, 0.03, 0.03, R34, None, 0.03),
    "damage-resnet34": Odds(0.5, 0.95, 0.1, 0.4, 0.015, 0.015, R34_DAMAGE, R34_DAMAGE, 0.017),
    "tune-damage-resnet34": Odds(0.3, 0.7, 0.02, 0.5, 0.01, 0.01, LOW, ((0.015,) * 3, 0.01, (0.01,) * 3, 0.01), 0.01),
    "localization-seresnext50": Odds(0.5, 0.95, 0.1, 0.1, 0.01, 0.01, LOW, None, 0.001),
    "tune-localization-seresnext50": Odds(0.45, 0.9, 0.05, 0.05, 0.01, 0.01, LOW, None, 0.001),
    "damage-seresnext50": Odds(0.5, 0.05, 0.2, 0.8, 0.04, 0.04, SX50_DAMAGE, SX50_DAMAGE, 0.04),
    "tune-damage-seresnext50": Odds(0.3, 0.7, 0.01, 0.5, 0.01, 0.01, ((0.04,) * 3, 0.01, (0.01,) * 3, 0.01), LOW, 0.017),
    "localization-dpn92": Odds(0.5, 0.95, 0.1, 0.1, 0.01, 0.01, LOW, None, 0.001),
    "tune-localization-dpn92": Odds(0.45, 0.9, 0.05, 0.05, 0.01, 0.01, LOW, None, 0.001),
    "damage-dpn92": Odds(0.5, 0.9999, 0.5, 0.95, 0.1, 0.1, TENTH, TENTH, 0.1),
    "damage-senet154": Odds(0.5, 0.9999, 0.5, 0.95, 0.1, 0.1, TENTH, TENTH, 0.1),
    "tune-damage-dpn92": Odds(0.3, 0.7, 0.01, 0.5, 0.01, 0.01, LOW, LOW, 0.01),
    "tune-damage-senet154": Odds(0.3, 0.7, 0.01, 0.5, 0.01, 0.01, LOW, LOW, 0.01),
    "localization-senet154": Odds(0.4, 0.9, 0.3, 0.6, 0.05, 0.04, alike(0.08, 0.08), None, 0.05),
}
# colour by channel or else by hue; in the others one does not keep the other away
ONE_COLOUR = {
    ("xview2", "localization-resnet34"), ("metadamagenet", "localization-resnet34"),
    ("metadamagenet", "tune-localization-seresnext50"), ("metadamagenet", "tune-localization-dpn92"),
}
ELASTIC_MASK = {("metadamagenet", "localization-dpn92"), ("metadamagenet", "localization-senet154")}
# fmt: on

RUNS = {("xview2", n): r for n, r in XVIEW2.items()} | {
    ("metadamagenet", n): r for n, r in METADAMAGENET.items()
}
