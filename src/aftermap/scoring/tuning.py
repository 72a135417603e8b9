"""Thresholds and damage weights chosen on labelled scenes, from one table of counts.

The table counts pixels by what a decision depends on: p(building), the ratios of the damage classes, and the labels.
It is filled once per scene and searched afterwards, so that memory depends on how many different
pixels there are and never on how many scenes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from aftermap.classes import IGNORE
from aftermap.scoring.pixels import pixel_metrics

By = Literal["official", "present", "localization"]
"""Official xView2 score; the same over the classes that occur; pixel F1 of buildings."""

What = Literal["both", "thresholds", "weights"]

MEASURES: dict[By, str] = {
    "official": "score",
    "present": "score_present",
    "localization": "localization_f1",
}

_BINS = 100  # of p(building): thresholds are whole hundredths
_LOWEST, _HIGHEST = 5, 95  # hundredths that are tried
_STEP, _REACH = 0.2, 25  # of the logarithm of a ratio of two damage classes: cells of 0.2 from -5 to 5
_WEIGHT_STEPS = range(-12, 13)  # factors of exp(-2.4) to exp(2.4)
_ROUNDS = 6
_SIDE = 2 * _REACH
_LABELS = 18  # target building (no, yes, unknown) times target damage (0 to 4, unknown)
_LEAST_GAIN = 1e-6
_MOST_ROWS = 4_000_000
"""Rows of a table; above, neighbouring cells of ratios are merged. Twice is enough for any data."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search found.

    Attributes:
        thresholds: of p(building) by damage class, or one for a localization model.
        weights: factors of the damage classes, on top of those that the probabilities carry; the first is 1.
        score: by the chosen measure, from the table: ratios within a cell are taken as equal.
    """

    thresholds: tuple[float, ...]
    weights: tuple[float, ...]
    score: float


class DecisionTable:
    """Counts of pixels by p(building), ratios of the damage classes, and labels.

    Args:
        kinds: classes after the background: 4, or 1 for a localization model.
    """

    def __init__(self, kinds: int) -> None:
        self.kinds = kinds
        self._codes = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._width = 1  # of a cell of ratios, in _STEP

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, probabilities: np.ndarray, building: np.ndarray, damage: np.ndarray | None) -> None:
        """Count the pixels of a scene.

        Args:
            probabilities: (K, H, W), the background first.
            building: target 0, 1 or IGNORE (H, W).
            damage: target 0 to 4 or IGNORE (H, W); None where damage is not told.
        """
        place = np.clip(np.ceil((1 - probabilities[0].astype(np.float64)) * _BINS) - 1, 0, _BINS - 1).astype(
            np.int64
        )
        cell = np.zeros_like(place)
        if self.kinds > 1:
            with np.errstate(divide="ignore"):
                logs = np.log(np.maximum(probabilities[1:].astype(np.float64), 1e-12))
            for other in logs[1:]:
                ratio = np.clip(np.floor((other - logs[0]) / _STEP), -_REACH, _REACH - 1).astype(np.int64)
                cell = cell * _SIDE + (ratio + _REACH) // self._width
        known = np.where(damage == IGNORE, 5, damage) if damage is not None else np.full(place.shape, 5)
        label = np.where(building == IGNORE, 2, building).astype(np.int64) * 6 + known.astype(np.int64)
        never = place < _LOWEST  # no threshold reaches these, so nothing else matters about them
        cell[never], place[never] = 0, 0
        self._merge((cell * _BINS + place) * _LABELS + label)
        while len(self._codes) > _MOST_ROWS and self._width < _SIDE:
            self._coarsen()

    def _merge(self, codes: np.ndarray) -> None:
        """Count pixels by their codes."""
        codes, counts = np.unique(codes, return_counts=True)
        self._set(np.concatenate([self._codes, codes]), np.concatenate([self._counts, counts]))

    def _set(self, codes: np.ndarray, counts: np.ndarray) -> None:
        """Replace the rows, summing those of one code."""
        self._codes, inverse = np.unique(codes, return_inverse=True)
        self._counts = np.bincount(inverse.ravel(), weights=counts).astype(np.int64)

    def _coarsen(self) -> None:
        """Merge neighbouring cells of ratios."""
        rest, cell = self._codes % (_BINS * _LABELS), self._codes // (_BINS * _LABELS)
        merged, place = np.zeros_like(cell), 1
        for _ in range(self.kinds - 1):
            merged += cell % _SIDE // 2 * place
            cell, place = cell // _SIDE, place * _SIDE
        self._width *= 2
        self._set(merged * _BINS * _LABELS + rest, self._counts)

    def damage_pixels(self) -> np.ndarray:
        """Pixels by target damage class 1 to 4."""
        known = self._codes % _LABELS % 6
        found: np.ndarray = np.bincount(known, weights=self._counts, minlength=6)[1:5].astype(np.int64)
        return found

    def building_pixels(self) -> tuple[int, int]:
        """Pixels that are labelled as background and as building."""
        known = np.bincount(self._codes % _LABELS // 6, weights=self._counts, minlength=3)
        return int(known[0]), int(known[1])

    def search(self, start: tuple[float, ...], *, by: By, what: What = "both") -> Choice:
        """Best thresholds and weights, jointly, by coordinate ascent.

        Every weight that is tried is judged with thresholds chosen anew for it.

        Args:
            start: thresholds to start from, by class.
            by: what is maximised.
            what: thresholds, weights of the classes, or both.
        """
        search = _Search(self, by)
        begin = np.clip(np.rint(np.array(start) * 100), _LOWEST, _HIGHEST).astype(np.int64)
        fixed = what == "weights"
        steps = np.zeros(self.kinds, np.int64)
        best, thresholds = search.best(steps, begin, fixed=fixed)
        if not fixed:  # a second start: the best single threshold
            single = max(
                (search.score(search.counts(steps), np.full((1, self.kinds), t))[0], t)
                for t in range(_LOWEST, _HIGHEST + 1)
            )[1]
            best, thresholds = max(
                (best, thresholds),
                search.best(steps, np.full(self.kinds, single), fixed=False),
                key=lambda found: found[0],
            )
        present = self.damage_pixels() > 0 if self.kinds > 1 else np.zeros(1, bool)
        weighable = what != "thresholds" and by != "localization"
        tunable = (np.flatnonzero(present[1:]) + 1).tolist() if weighable else []
        for _ in range(_ROUNDS):
            before = best
            for index in tunable:
                for step in _WEIGHT_STEPS:
                    trial = steps.copy()
                    trial[index] = step
                    value, found = search.best(trial, thresholds, fixed=fixed)
                    if value > best + _LEAST_GAIN:
                        best, steps, thresholds = value, trial, found
            if best <= before + _LEAST_GAIN:
                break
        chosen = start if fixed else tuple(float(t) / 100 for t in thresholds)
        weights = tuple(round(float(np.exp(_STEP * step)), 4) for step in steps)
        return Choice(tuple(chosen), weights, float(best))


class _Search:
    """Scores of a table under thresholds (hundredths) and weights (steps of their logarithm)."""

    def __init__(self, table: DecisionTable, by: By) -> None:
        self._by, self._kinds = by, table.kinds
        codes, self._counts = table._codes, table._counts.astype(float)
        self._label, rest = codes % _LABELS, codes // _LABELS
        self._place, cell = rest % _BINS, rest // _BINS
        cells, self._cell = np.unique(cell, return_inverse=True)
        ratios = []
        for _ in range(table.kinds - 1):
            ratios.append((cells % _SIDE + 0.5) * table._width - _REACH)
            cells = cells // _SIDE
        self._ratios = np.stack([np.zeros(len(cells)), *ratios[::-1]])  # in steps, to the first class

    def counts(self, steps: np.ndarray) -> np.ndarray:
        """Pixels (classes, labels, thresholds + 1) that a threshold of so many hundredths leaves as buildings."""
        likeliest = (self._ratios + steps[:, None]).argmax(axis=0)[self._cell.ravel()]
        index = (likeliest * _LABELS + self._label) * _BINS + self._place
        table = np.bincount(index, weights=self._counts, minlength=self._kinds * _LABELS * _BINS)
        table = table.reshape(self._kinds, _LABELS, _BINS)
        above: np.ndarray = table[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
        return above

    def score(self, above: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Scores (n,) of thresholds (n, classes)."""
        kept = np.stack([above[k][:, thresholds[:, k]] for k in range(self._kinds)])  # (classes, labels, n)
        total = above[:, :, 0].sum(axis=0)
        tables = np.zeros((len(thresholds), 3, 6, 6))  # target building, target damage, prediction
        column = slice(1, 5) if self._kinds > 1 else slice(5, 6)
        tables[..., column] = kept.transpose(2, 1, 0).reshape(len(thresholds), 3, 6, self._kinds)
        tables[..., 0] = (total[:, None] - kept.sum(axis=0)).T.reshape(len(thresholds), 3, 6)
        values = pixel_metrics(tables.reshape(len(thresholds), -1))[MEASURES[self._by]]
        return np.nan_to_num(values)

    def best(self, steps: np.ndarray, thresholds: np.ndarray, *, fixed: bool) -> tuple[float, np.ndarray]:
        """Score and thresholds of the best thresholds near the given ones for these weights."""
        above = self.counts(steps)
        best = float(self.score(above, thresholds[None])[0])
        if fixed:
            return best, thresholds
        tried = np.arange(_LOWEST, _HIGHEST + 1)
        improved = True
        while improved:
            improved = False
            for k in range(self._kinds):
                candidates = np.tile(thresholds, (len(tried), 1))
                candidates[:, k] = tried
                values = self.score(above, candidates)
                if values.max() > best + _LEAST_GAIN:
                    best, thresholds, improved = float(values.max()), candidates[int(values.argmax())], True
        return best, thresholds
