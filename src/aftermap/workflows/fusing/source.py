"""A source on the buildings of the first map: what it says of each, and what of that is destroyed or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aftermap.classes import DESTROYED_OR_NOT
from aftermap.errors import InputError
from aftermap.workflows.comparing.grades import CLASSES
from aftermap.workflows.fusing.pooling import Opinions

NOT_DESTROYED = DESTROYED_OR_NOT.names[1]
ONE_DATE = np.array([0, 0, 0, 1])
"""What the image after alone parts: destroyed from all else."""


@dataclass(frozen=True)
class Source:
    """A source on the buildings of the first map.

    Attributes:
        name: to be read.
        kind: `map`, `probabilities`, `grades` or `raster`.
        opinions: see `pooling.Opinions`.
        classes: (n,) what it says in classes of the map or in groups of them (`damaged`), empty where it abstains.
        allowed: bool (n, K), the classes that this may be.
        about: its scale or model, for the report.
        model: of a map, as its report describes it.
    """

    name: str
    kind: str
    opinions: Opinions
    classes: np.ndarray
    allowed: np.ndarray
    about: str
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speaks(self) -> np.ndarray:
        """Bool (n,)."""
        return self.opinions.speaks

    @property
    def tells_destroyed_alone(self) -> bool:
        """Whether it parts destroyed from all else, and nothing more: a map of the image after alone."""
        return bool(self.kind == "map" and (self.opinions.groups == ONE_DATE).all())

    def as_destroyed_or_not(self) -> "Source":
        """What it says of destroyed and not destroyed; it abstains where its grade can mean both.

        Raises:
            InputError: it tells damaged from not alone, which does not say what is destroyed.
        """
        if self.kind in ("probabilities", "raster"):
            raise InputError(
                f"{self.name} tells damaged from not, and the first map destroyed from not: neither says what the other "
                "means; begin with a map of two dates, or leave it out"
            )
        told, allowed = self.opinions.probabilities, self.allowed
        told = np.column_stack([told[:, :-1].sum(axis=1), told[:, -1]])
        allowed = np.column_stack([allowed[:, :-1].any(axis=1), allowed[:, -1]])
        both = allowed.all(axis=1)
        told[both], allowed[both] = np.nan, False
        words = np.where(allowed[:, 1], CLASSES[-1], np.where(allowed[:, 0], NOT_DESTROYED, "")).astype(
            object
        )
        return replace(
            self,
            opinions=Opinions(told, np.tile(np.arange(2), (len(told), 1))),
            classes=words,
            allowed=allowed,
        )
