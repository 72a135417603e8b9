"""Tables of buildings with a truth, samples of them, and analysts who know it."""

import numpy as np
import pandas

from aftermap.classes import DAMAGE
from aftermap.workflows.review.answers import Answer
from aftermap.workflows.totals.sampling import Sample

LEVELS = DAMAGE.names[1:]


def town(count: int = 300, *, seed: int = 0, not_assessed: int = 0, skill: float = 1.0) -> pandas.DataFrame:
    """A table of buildings as a map writes it, with the truth in the column `truth`: the model is sure of most.

    Args:
        count: of buildings.
        seed: of everything.
        not_assessed: the first so many are.
        skill: 1 where the truth is drawn from the model's own probabilities, 0 where they know nothing.
    """
    generator = np.random.default_rng(seed)
    damaged = generator.beta(0.3, 1.2, count)
    rest = generator.dirichlet([1, 1, 1], count) * damaged[:, None]
    shares = np.column_stack([1 - damaged, rest])
    true = skill * shares + (1 - skill) * shares.mean(axis=0)
    truth = (true.cumsum(axis=1) < generator.random((count, 1))).sum(axis=1).clip(0, 3)
    frame = pandas.DataFrame(
        {
            "building_id": [f"b{number}" for number in range(count)],
            "damage": np.array(LEVELS)[shares.argmax(axis=1)],
            "area_m2": generator.lognormal(5, 0.6, count).round(1),
            "truth": np.array(LEVELS)[truth],
        }
    )
    columns = ["p_no_damage", "p_minor", "p_major", "p_destroyed"]
    frame[columns] = shares.round(4)
    if not_assessed:
        frame.loc[: not_assessed - 1, "damage"] = "not-assessed"
        frame.loc[: not_assessed - 1, columns] = np.nan
    return frame


def answered(
    frame: pandas.DataFrame, sample: Sample, count: int | None = None, **more: object
) -> list[Answer]:
    """What an analyst who knows the truth says of the first buildings of a sample."""
    truth = dict(zip(frame["building_id"], frame["truth"], strict=True))
    told = {"origin": "sample", "reviewer": "ana", **more}
    return [Answer(building_id=name, verdict=truth[name], **told) for name in sample.drawn[:count]]
