"""Parts of a map that are sampled apart: by predicted class, then by area and by p(damaged).

Strata begin as the classes that are predicted. While there may be more of them, the one that takes most of the sample is
cut in two: a large class first by area, then by p(damaged) where the model tells its buildings apart, otherwise by area.
"""

from dataclasses import dataclass

import numpy as np

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT

LEAST = 8
"""Buildings of a stratum; a class with fewer joins the next one."""

HEDGE = 0.1
"""Share by which p(damaged) of a stratum is drawn to one half when the sample is shared out: models are too sure."""

_WORTH = 0.02
_CLASSES = DAMAGE.names[1:]


@dataclass(frozen=True)
class Stratum:
    """A part of a map that is sampled apart.

    Attributes:
        name: what is in it, in words.
        buildings: in it.
        spread: standard deviation of "damaged" ("destroyed" where nothing else is told) that is expected in it; the
            sample is shared out by it.
    """

    name: str
    buildings: int
    spread: float


def stratify(
    predicted: np.ndarray,
    p_damaged: np.ndarray,
    area: np.ndarray,
    *,
    at_most: int,
    unit: str = "m²",
    binary: bool = False,
) -> tuple[tuple[Stratum, ...], np.ndarray]:
    """Share buildings out to strata.

    Args:
        predicted: class of each building, 0 for no damage to 3 for destroyed, int (N,).
        p_damaged: of each, (N,).
        area: of each, NaN where nobody knows, (N,).
        at_most: number of strata; there are fewer where nothing is left to tell apart.
        unit: of the areas.
        binary: whether only destroyed (3) and not destroyed (0) are told; `p_damaged` is p(destroyed) then.

    Returns:
        The strata, and the stratum of each building, int (N,).
    """
    cells = [_Cell(rows, tuple(classes)) for rows, classes in _classes(predicted)]
    settled: list[_Cell] = []
    while cells and len(cells) + len(settled) < at_most:
        cells.sort(key=lambda cell: cell.weight(p_damaged))
        largest = cells.pop()
        parts = largest.cut(p_damaged, area)
        if parts:
            cells += parts
        else:
            settled.append(largest)
    found = sorted(cells + settled, key=lambda cell: (cell.classes, cell.rows[0]))
    stratum = np.empty(len(predicted), np.int64)
    for number, cell in enumerate(found):
        stratum[cell.rows] = number
    return tuple(cell.told(p_damaged, area, unit, binary=binary) for cell in found), stratum


def spread_of(p_damaged: np.ndarray) -> float:
    """Standard deviation of "damaged" among buildings with these probabilities, hedged against a model too sure."""
    share = (1 - HEDGE) * float(p_damaged.mean()) + HEDGE / 2
    return float(np.sqrt(share * (1 - share)))


@dataclass(frozen=True)
class _Cell:
    """A stratum in the making: its rows, its predicted classes, and what it was cut by."""

    rows: np.ndarray
    classes: tuple[int, ...]
    cuts: tuple[str, ...] = ()

    def weight(self, p_damaged: np.ndarray) -> float:
        return len(self.rows) * spread_of(p_damaged[self.rows])

    def cut(self, p_damaged: np.ndarray, area: np.ndarray) -> "list[_Cell]":
        """Its two parts; none where it is too small, or all alike."""
        by_area = self._parts(area, "area")
        if by_area and not self.cuts and len(self.rows) >= 4 * LEAST:
            return by_area
        by_p = self._parts(p_damaged, "p")
        if by_p:
            gain = 1 - sum(part.weight(p_damaged) for part in by_p) / self.weight(p_damaged)
            if gain >= _WORTH:
                return by_p
        return by_area or by_p

    def _parts(self, values: np.ndarray, kind: str) -> "list[_Cell]":
        mine = values[self.rows]
        if len(mine) < 2 * LEAST or np.isnan(mine).any():
            return []
        # half of the spread on either side, not half of the buildings: most are surely unharmed
        order = np.argsort(mine, kind="stable")
        weights = np.ones(len(mine)) if kind == "area" else np.sqrt(mine * (1 - mine) + 1e-4)
        half = int(np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2))
        edge = mine[order][min(max(half, LEAST), len(mine) - LEAST)]
        above = mine >= edge
        if min(above.sum(), (~above).sum()) < LEAST:
            return []
        return [_Cell(self.rows[side], self.classes, (*self.cuts, kind)) for side in (~above, above)]

    def told(self, p_damaged: np.ndarray, area: np.ndarray, unit: str, *, binary: bool) -> Stratum:
        names = (DESTROYED_OR_NOT.names[1], *_CLASSES[1:]) if binary else _CLASSES
        words = [" or ".join(names[each] for each in self.classes)]
        if "area" in self.cuts:
            mine = area[self.rows]
            words.append(f"{mine.min():,.0f} to {mine.max():,.0f} {unit}")
        if "p" in self.cuts:
            mine = p_damaged[self.rows]
            words.append(f"p({'destroyed' if binary else 'damaged'}) {mine.min():.3f} to {mine.max():.3f}")
        return Stratum(", ".join(words), len(self.rows), spread_of(p_damaged[self.rows]))


def _classes(predicted: np.ndarray) -> list[tuple[np.ndarray, list[int]]]:
    """Rows by predicted class, from destroyed to no damage; a class of few joins the next one."""
    groups: list[tuple[np.ndarray, list[int]]] = []
    for number in reversed(range(len(_CLASSES))):
        rows = np.flatnonzero(predicted == number)
        if not len(rows):
            continue
        if groups and min(len(rows), len(groups[-1][0])) < LEAST:
            before, classes = groups.pop()
            groups.append((np.sort(np.concatenate([before, rows])), sorted([*classes, number])))
        else:
            groups.append((rows, [number]))
    return groups
