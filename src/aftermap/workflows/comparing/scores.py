"""What a comparison comes to: found and missed, the confusion on the common scale, damaged and destroyed apart."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import geopandas
import numpy as np

from aftermap.classes import NOT_ASSESSED
from aftermap.scoring.agreement import (
    Share,
    accuracy,
    area_under_roc,
    confusion,
    f1,
    kappa,
    precision,
    recall,
)
from aftermap.workflows.comparing.grades import (
    CLASSES,
    DAMAGED,
    DESTROYED,
    NO,
    Meaning,
    is_doubt,
    name_of,
)

Unlisted = Literal["unknown", "undamaged", "no-building"]

_ONLY_DAMAGED = (
    "the source lists no undamaged building, and those that it does not list count for nothing: precision, kappa and AUC "
    "need them (--unlisted-is undamaged, if the source looked at every building)"
)


@dataclass(frozen=True)
class Graded:
    """The buildings of a map, with what a source says of each.

    Attributes:
        frame: columns of `products.vectors`, one row per building.
        meanings: (n,) of each building; None where the source does not grade it.
        grades: (n,) the source's words, empty where there are none.
    """

    frame: geopandas.GeoDataFrame
    meanings: list[Meaning | None]
    grades: list[str]

    @cached_property
    def assessed(self) -> np.ndarray:
        """Bool (n,)."""
        known: np.ndarray = (self.frame["damage"] != NOT_ASSESSED).to_numpy()
        return known


def score_classes(graded: Graded, classes: tuple[Meaning, ...]) -> dict[str, Any]:
    """The confusion on a common scale; grades of doubt and buildings that were not assessed take no part.

    Args:
        graded: buildings and what the source says.
        classes: see `grades.common_classes`.
    """
    rows = [
        row
        for row, meaning in enumerate(graded.meanings)
        if meaning is not None and not is_doubt(meaning) and graded.assessed[row]
    ]
    truth = np.array([_index(graded.meanings[row], classes) for row in rows], np.int64)
    damage = graded.frame["damage"].to_numpy()
    predicted = np.array([_index(frozenset({damage[row]}), classes) for row in rows], np.int64)
    counts = confusion(truth, predicted, len(classes))
    names = [name_of(each) for each in classes]
    whole = _lists_undamaged(graded)
    return {
        "classes": {name: sorted(each, key=CLASSES.index) for name, each in zip(names, classes, strict=True)},
        "confusion": counts.tolist(),
        "buildings": len(rows),
        "accuracy": accuracy(counts).as_dict(),
        "kappa": _rounded(kappa(counts)) if whole else None,
        "by_class": {
            name: {
                "truth": int(counts[index].sum()),
                "map": int(counts[:, index].sum()),
                "recall": recall(counts, index).as_dict(),
                "precision": precision(counts, index).as_dict() if whole else None,
                "f1": _rounded(f1(counts, index)) if whole else None,
            }
            for index, name in enumerate(names)
        },
        "note": "" if whole else _ONLY_DAMAGED,
    }


def score_line(graded: Graded, above: Meaning) -> dict[str, Any]:
    """One line drawn through the scale, such as between undamaged and damaged, with the probability on its far side.

    Every grade that lies on one side counts, also one that draws no line elsewhere: "Possibly damaged" is not destroyed.

    Args:
        graded: buildings and what the source says.
        above: the classes beyond the line.
    """
    sides = {
        row: int(meaning <= above)
        for row, meaning in enumerate(graded.meanings)
        if meaning and (meaning <= above or not meaning & above) and graded.assessed[row]
    }
    frame = graded.frame.iloc[list(sides)]
    truth = np.array(list(sides.values()), np.int64)
    is_above = truth == 1
    said = frame["damage"].isin(above).to_numpy(bool)
    counts = confusion(truth, said.astype(np.int64), 2)
    whole = bool((~is_above).any()) and (above != DAMAGED or _lists_undamaged(graded))
    score = probability(frame, above)
    seen = np.isfinite(score)
    return {
        "buildings": len(sides),
        "truth": int(is_above.sum()),
        "map": int(said.sum()),
        "recall": recall(counts, 1).as_dict(),
        "precision": precision(counts, 1).as_dict() if whole else None,
        "f1": _rounded(f1(counts, 1)) if whole else None,
        "kappa": _rounded(kappa(counts)) if whole else None,
        "auc": _rounded(area_under_roc(is_above[seen], score[seen])) if whole else None,
    }


def probability(frame: geopandas.GeoDataFrame, above: Meaning) -> np.ndarray:
    """The map's probability of some classes, float (n,); NaN where a building was not assessed."""
    columns = ("p_no_damage", "p_minor", "p_major", "p_destroyed")
    held = [column for column, name in zip(columns, CLASSES, strict=True) if name in above]
    summed: np.ndarray = frame[held].astype(float).sum(axis=1, skipna=False).to_numpy()
    return summed


def score_found(marks: list[str], matched: np.ndarray) -> dict[str, Any]:
    """How many marks mean a building of the map, in all and by grade.

    Args:
        marks: grade of each.
        matched: bool (n,), which mean one.
    """
    totals, found = Counter(marks), Counter(grade for grade, hit in zip(marks, matched, strict=True) if hit)
    return {
        **Share(int(matched.sum()), len(marks)).as_dict(),
        "missed": int((~matched).sum()),
        "by_grade": {grade: {"found": found[grade], "marks": totals[grade]} for grade in sorted(totals)},
    }


def _lists_undamaged(graded: Graded) -> bool:
    return any(meaning == frozenset({NO}) for meaning in graded.meanings)


def _index(meaning: Meaning | None, classes: tuple[Meaning, ...]) -> int:
    return next(index for index, each in enumerate(classes) if meaning is not None and meaning <= each)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


LINES: dict[str, Meaning] = {"damaged": DAMAGED, "destroyed": frozenset({DESTROYED})}
"""The lines that are scored, by name."""
