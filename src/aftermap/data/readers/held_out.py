"""Which training images of a dataset without a validation set of its own are held out for validation."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from aftermap.errors import DataError

Official = Literal["test", "validation"]
"""What an official validation set, the last with published labels, is used as."""


def deal_validation(images: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Which of the groups of training images are for validation: a share of them, drawn by the seed.

    Args:
        images: names of the groups.
        share: from 0 to less than 1; above 0 at least one group is taken.
        seed: 0 or more.

    Raises:
        DataError: a share that leaves nothing to train on, or a single group.
    """
    names = sorted(set(images))
    if not 0 <= share < 1:
        raise DataError(
            f"--validation {share:g} is no share of the training images: pass one from 0 to below 1"
        )
    count = max(1, round(share * len(names))) if share else 0
    if count and count >= len(names):
        raise DataError(
            f"{len(names)} training images cannot give {share:.0%} for validation: pass --validation 0, and split "
            "the tiles afterwards with 'aftermap data split --by block'"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return frozenset(names[number] for number in order[:count])
