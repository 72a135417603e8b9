"""Class schemes: the names, order and colours of what a mask can hold."""

from dataclasses import dataclass
from typing import Literal

IGNORE = 255
"""Mask value of pixels without a known class; it takes no part in losses or scores."""

NOT_ASSESSED = "not-assessed"
NOT_ASSESSED_COLOUR = "#8c8c8c"


@dataclass(frozen=True, slots=True)
class ClassScheme:
    """The classes of a mask, in index order.

    Attributes:
        name: identifies the scheme in manifests and model cards.
        names: class names; the index in this tuple is the mask value.
        colours: one `#rrggbb` per class.
        background: index of the class that means "nothing here", or None.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[str, ...]
    background: int | None = 0

    def __post_init__(self) -> None:
        if len(self.names) != len(self.colours):
            raise ValueError(f"{len(self.names)} class names but {len(self.colours)} colours")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Mask value of the class called `name`."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"no class {name!r} in {self.name}: it has {', '.join(self.names)}") from None


BUILDING = ClassScheme("building", ("background", "building"), ("#000000", "#4c9be8"))

DAMAGE = ClassScheme(
    "joint-damage-scale",
    ("background", "no-damage", "minor-damage", "major-damage", "destroyed"),
    ("#000000", "#3fae5a", "#f4d03f", "#eb7f27", "#c8203c"),
)
"""The Joint Damage Scale of xBD (Gupta et al. 2019); indices 1 to 4 as in the xView2 competition."""

DESTROYED_OR_NOT = ClassScheme(
    "destroyed-or-not",
    ("background", "not-destroyed", "destroyed"),
    ("#000000", "#7aa5c9", DAMAGE.colours[-1]),
)
"""What the image after a disaster tells by itself; it is no scheme of a model."""

OneDate = Literal["post-only", "pre-only"]
"""A way to map damage, or buildings alone, from one of two dates."""

SCHEMES = {scheme.name: scheme for scheme in (BUILDING, DAMAGE)}
