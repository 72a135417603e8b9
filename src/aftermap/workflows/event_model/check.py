"""Whether the event's own model is better than the map's, on answers that it was not fitted to."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aftermap.classes import DAMAGE
from aftermap.workflows.event_model.described import Described
from aftermap.workflows.event_model.model import (
    LEVELS,
    fit_levels,
    fit_phantoms,
    softened,
    unknown_levels,
)

FOLDS = 5
REDRAWS = 1000
SURE = 0.9
"""Share of the redraws of the answers in which macro F1 must not fall: a hundred answers tell little of it."""

FEWEST_PHANTOMS = 3

FEWEST_DRAWN = 30
"""Answers of a random sample from which on only they are compared."""

_REPEATS = 2
_FEWEST_BLOCKS = 12
_MOST_HALVINGS = 10
_FLOOR = 1e-3
_TEMPERATURES = np.geomspace(0.5, 4, 25)


@dataclass(frozen=True)
class Check:
    """Both models on the answers, each answer by a model that was fitted to others.

    Attributes:
        better: whether the event's own model replaces the map's classes.
        answers: with a level of damage.
        judged: those of them that both models are compared on.
        blocks: of ground that stood on one side or the other as a whole.
        macro_f1_before: of the map's classes, mean over the levels among the answers.
        macro_f1_after: of the event's own.
        gain: their difference.
        gain_interval: 95 % of it, from redraws of the answers.
        log_loss_before: of the map's probabilities.
        log_loss_after: of the event's own.
        accuracy_before: of the map's classes.
        accuracy_after: of the event's own.
        temperature: by which the logits of the event's own model are divided.
        phantoms_found: answers "not a building" that are told rightly.
        phantoms_false: buildings that would wrongly be taken for none.
        phantoms: answers "not a building".
        unknown: levels of the map of which too few buildings were answered; the others of them stay.
    """

    better: bool
    answers: int
    judged: int
    blocks: int
    macro_f1_before: float
    macro_f1_after: float
    gain: float
    gain_interval: tuple[float, float]
    log_loss_before: float
    log_loss_after: float
    accuracy_before: float
    accuracy_after: float
    temperature: float
    phantoms_found: int = 0
    phantoms_false: int = 0
    phantoms: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def rejects(self) -> bool:
        """Whether buildings are taken for none: more rightly than wrongly, among answers that it was not fitted to."""
        return self.phantoms >= FEWEST_PHANTOMS and self.phantoms_found > self.phantoms_false

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, rounded."""
        tree = {name: round(v, 4) if isinstance(v, float) else v for name, v in asdict(self).items()}
        interval = [round(edge, 4) for edge in self.gain_interval]
        return tree | {"gain_interval": interval, "unknown": list(self.unknown)}


def check_model(
    described: Described,
    before: np.ndarray,
    rows: np.ndarray,
    levels: np.ndarray,
    phantom_rows: np.ndarray,
    drawn: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Check:
    """Compare both models on the answers.

    The ground is cut into blocks so that neighbours never stand on both sides: one fits, the other is told.

    Args:
        described: the buildings.
        before: level of each building by the map, int (n,).
        rows: buildings with a level, int (m,).
        levels: their levels, int (m,).
        phantom_rows: buildings that are none, int (p,).
        drawn: which of the answers are a random sample, bool (m,). Where there are enough of them only they are
            compared: picked ones are hard, and say little of the rest. All of them teach.
        weights: of the answers in fitting, (m,); alike by default.
    """
    blocks = blocks_of(described.centres[rows])
    told = np.zeros((len(rows), LEVELS))
    votes = np.zeros((len(rows), LEVELS))
    for repeat in range(_REPEATS):
        for fitted, held in _folds(levels, blocks, repeat):
            model = fit_levels(
                described, rows[fitted], levels[fitted], None if weights is None else weights[fitted]
            )
            told[held] += model.probabilities[rows[held]]
            votes[held, model.decided[rows[held]]] += 1
    told /= told.sum(axis=1, keepdims=True)
    after = (votes + 1e-3 * told).argmax(axis=1)
    unknown = unknown_levels(before, rows)
    stays = unknown[before[rows]]
    after = np.where(stays, before[rows], after)
    told = np.where(stays[:, None], described.own[rows], told)
    judged = _judged(levels, drawn)
    told, after, rows_judged = told[judged], after[judged], rows[judged]
    truth = levels[judged]
    losses = [_log_loss(softened(told, t), truth).mean() for t in _TEMPERATURES]
    temperature = float(_TEMPERATURES[int(np.argmin(losses))])
    own, old = described.own[rows_judged], before[rows_judged]
    draws = np.random.default_rng(0).integers(0, len(truth), (REDRAWS, len(truth)))
    gains = macro_f1(truth[draws], after[draws]) - macro_f1(truth[draws], old[draws])
    f1 = [float(macro_f1(truth[None], each[None])[0]) for each in (old, after)]
    loss = [float(_log_loss(each, truth).mean()) for each in (own, softened(told, temperature))]
    puts_right = ((after == truth) & (old != truth)).any()
    better = bool(puts_right and loss[1] < loss[0] and (gains >= 0).mean() >= 1 - SURE)
    low, high = np.percentile(gains, [2.5, 97.5]).tolist()
    found, false = _check_phantoms(described, rows, phantom_rows)
    return Check(
        better=better,
        answers=len(rows),
        judged=len(truth),
        blocks=len(np.unique(blocks)),
        macro_f1_before=f1[0],
        macro_f1_after=f1[1],
        gain=f1[1] - f1[0],
        gain_interval=(low, high),
        log_loss_before=loss[0],
        log_loss_after=loss[1],
        accuracy_before=float((old == truth).mean()),
        accuracy_after=float((after == truth).mean()),
        temperature=temperature,
        phantoms_found=found,
        phantoms_false=false,
        phantoms=len(phantom_rows),
        unknown=tuple(
            DAMAGE.names[1 + level]
            for level in range(LEVELS)
            if unknown[level] and (before[described.assessed] == level).any()
        ),
    )


def _judged(levels: np.ndarray, drawn: np.ndarray | None) -> np.ndarray:
    """Which answers are compared, bool (m,): those drawn at random, where they are many and say more than one thing."""
    every = np.ones(len(levels), bool)
    if drawn is None or drawn.sum() < FEWEST_DRAWN or len(np.unique(levels[drawn])) < 2:
        return every
    return drawn


def _check_phantoms(described: Described, rows: np.ndarray, phantom_rows: np.ndarray) -> tuple[int, int]:
    """How many answers "not a building" are told rightly, and how many buildings wrongly, out of fold."""
    if len(phantom_rows) < FEWEST_PHANTOMS:
        return 0, 0
    every = np.concatenate([rows, phantom_rows])
    phantom = np.arange(len(every)) >= len(rows)
    told = np.zeros(len(every))
    for fitted, held in _folds(phantom.astype(int), blocks_of(described.centres[every]), 0):
        told[held] = fit_phantoms(described.values, every[fitted], phantom[fitted])[every[held]]
    taken = told > 0.5
    return int((taken & phantom).sum()), int((taken & ~phantom).sum())


def blocks_of(centres: np.ndarray) -> np.ndarray:
    """Squares of ground, as large as leaves at least _FEWEST_BLOCKS of them with an answer; the number of each (m,)."""
    low = centres.min(axis=0)
    side = max(float(np.ptp(centres, axis=0).max()), 1.0) / 2
    for _ in range(_MOST_HALVINGS):
        cells = np.floor((centres - low) / side).astype(np.int64)
        numbers: np.ndarray = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
        if numbers.max() + 1 >= min(_FEWEST_BLOCKS, len(centres)):
            break
        side /= 2
    return numbers


def macro_f1(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Mean F1 over the levels that are among the truth, of each row of (r, m)."""
    scores, present = [], []
    for level in range(LEVELS):
        true, said = truth == level, told == level
        hits = (true & said).sum(axis=1)
        scores.append(2 * hits / np.maximum(true.sum(axis=1) + said.sum(axis=1), 1))
        present.append(true.any(axis=1))
    counted = np.array(present)
    mean: np.ndarray = (np.array(scores) * counted).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
    return mean


def _folds(levels: np.ndarray, blocks: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows that fit and rows that are told; whole blocks, the levels spread evenly."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, len(np.unique(blocks)))
    if count < 2:
        blocks, count = np.arange(len(levels)) % FOLDS, FOLDS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a level that is rarer than there are folds
        folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        return [(a, b) for a, b in folds.split(levels, levels, blocks) if len(a) and len(b)]


def _log_loss(probabilities: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Of each building (m,)."""
    told = np.clip(probabilities, _FLOOR, 1)
    told = told / told.sum(axis=1, keepdims=True)
    losses: np.ndarray = -np.log(told[np.arange(len(levels)), levels])
    return losses
