"""How far reviewers agree where two of them looked at the same building."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from aftermap.classes import DAMAGE
from aftermap.scoring.agreement import confusion, kappa
from aftermap.workflows.review.answers import Answer

LEVELS = DAMAGE.names[1:]


@dataclass(frozen=True)
class Agreement:
    """Two readings of the same buildings.

    Attributes:
        pairs: readings compared: a building that three people read counts three times.
        agree: of these, how many say the same.
        kappa: Cohen's kappa over all verdicts; None without pairs, or where everybody always says the same one thing.
        levels_kappa: weighted kappa (squared distance) of the pairs in which both name a level of damage, or None.
    """

    pairs: int
    agree: int
    kappa: float | None
    levels_kappa: float | None


def agreement(answers: Iterable[Answer]) -> Agreement:
    """Compare all pairs of reviewers on all buildings that both answered.

    Args:
        answers: those that stand.

    Source: Cohen 1960 and 1968. The first of two reviewers is the one whose name comes first; the pairs of more than
        two reviewers are pooled.
    """
    by_building: dict[str, list[Answer]] = {}
    for answer in answers:
        by_building.setdefault(answer.building_id, []).append(answer)
    pairs = [
        (str(first.verdict), str(second.verdict))
        for given in by_building.values()
        for first, second in combinations(sorted(given, key=lambda answer: answer.reviewer), 2)
    ]
    levels = [(LEVELS.index(a), LEVELS.index(b)) for a, b in pairs if a in LEVELS and b in LEVELS]
    return Agreement(
        pairs=len(pairs),
        agree=sum(a == b for a, b in pairs),
        kappa=cohen_kappa(pairs),
        levels_kappa=weighted_kappa(levels),
    )


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement beyond chance, (observed - expected) / (1 - expected).

    Args:
        pairs: what the first and the second reader said.

    Returns:
        -1 to 1, or None where chance alone would agree always, or there are no pairs.

    Source: Cohen 1960.
    """
    names = sorted({name for pair in pairs for name in pair})
    first, second = (np.array([names.index(pair[i]) for pair in pairs], np.int64) for i in (0, 1))
    return kappa(confusion(first, second, len(names)))


def weighted_kappa(pairs: Sequence[tuple[int, int]]) -> float | None:
    """The same for ordered levels, where a distance of two counts four times one of one.

    Args:
        pairs: levels that the first and the second reader named.

    Source: Cohen 1968, squared weights.
    """
    if not pairs:
        return None
    observed = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    expected = sum((a - b) ** 2 for a, _ in pairs for _, b in pairs) / len(pairs) ** 2
    return None if expected == 0 else 1 - observed / expected
