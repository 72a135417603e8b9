"""Learning of a network with heads for cells and for images, as data."""

from typing import Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.data.loading.damage_targets import DamageTargets
from aftermap.learning.configs.terms import NotNegative, SoftLabelConfig


class HeadWeights(Config):
    """Factors of the heads' terms; 0 leaves a head untrained.

    Attributes:
        map: focal loss of the class of each cell.
        dice: overlap of any class but the background, pooled over the batch.
        presence: focal loss of whether an image shows any such class.
        scale: error of the logarithm of the ground resolution; the original never trained this head.
    """

    map: NotNegative = 1.0
    dice: NotNegative = 0.1
    presence: NotNegative = 1.0
    scale: NotNegative = 0.0


class HardPixels(Config):
    """Cross-entropy of the costliest cells instead of the focal loss.

    Attributes:
        share: of all cells of a batch that is kept, costliest first.
        dropped: of these, the very costliest, which are passed over.
    """

    share: float = Field(default=2 / 3, gt=0, le=1)
    dropped: float = Field(default=0.1, ge=0, lt=1)


class HeadsConfig(Config):
    """What the heads of a `fpn-efficientnet` learn, at their own resolution of four pixels.

    Attributes:
        weights: of the terms.
        gamma: of the focal losses; how much easy cells and images are passed over.
        class_weights: of the focal loss of cells, by their true class, the background first.
        hard_pixels: learn from the costliest cells instead; None takes the focal loss.
        reference_m: ground resolution in metres whose scale is 0.
        soft: how scenes with soft labels are learned from, by the map head alone (with kind `hard` by the Dice head
            too); None leaves them out.
        compat_truncate: only cells wholly within a class are taken for it, for the map and for presence.
        compat_detached: no gradient through the focal losses' factor of difficulty.
        compat_dice_floor: shares of a cell below this are taken for 0 by the Dice head (0.4 in the original).
    """

    kind: Literal["heads"] = "heads"
    weights: HeadWeights = HeadWeights()
    gamma: NotNegative = 2.0
    class_weights: tuple[NotNegative, ...] = (0.25, 0.75)
    hard_pixels: HardPixels | None = None
    reference_m: float = Field(default=0.07, gt=0)
    soft: SoftLabelConfig | None = None
    compat_truncate: bool = False
    compat_detached: bool = False
    compat_dice_floor: float = Field(default=0.0, ge=0, lt=1)

    @property
    def targets(self) -> DamageTargets | None:
        """None: the heads look at the classes of the mask as they are."""
        return None

    @model_validator(mode="after")
    def _something_is_minimised(self) -> Self:
        weights = self.weights
        if not any((weights.map, weights.dice, weights.presence, weights.scale)):
            raise ValueError("every term has weight 0")
        return self

    def check_classes(self, classes: int) -> None:
        """Raise ValueError where the terms do not fit a model with so many logits."""
        if len(self.class_weights) != classes:
            raise ValueError(
                f"objective.class_weights has {len(self.class_weights)} values, the model has {classes} classes"
            )
