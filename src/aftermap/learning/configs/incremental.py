"""What is minimised where classes are added to a model: published methods by name, every part of them adjustable."""

from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from aftermap.config import Config, merge
from aftermap.learning.configs.incremental_terms import (
    AlignmentConfig,
    ContrastiveConfig,
    DistillationTerm,
    FeatureTerm,
    LocalPod,
    PseudoLabelConfig,
    RegulariserConfig,
)
from aftermap.learning.configs.segmentation import (
    FLAGGED,
    SegmentationConfig,
    SegmentationTerm,
    class_weights_of,
)
from aftermap.models.configs.growth import Initialisation

Method = Literal[
    "fine-tuning",
    "unbiased-fine-tuning",
    "lwf",
    "lwf-mc",
    "ilt",
    "ewc",
    "pi",
    "rw",
    "mib",
    "mib-cd",
    "plop",
]


_PLAIN: dict[str, Any] = {"segmentation": {"loss": "cross-entropy"}}
_BALANCED = {"initialisation": "background-rebias"}
_MIB: dict[str, Any] = {
    "segmentation": {"loss": "unbiased-cross-entropy"},
    "distillation": {"loss": "unbiased-distillation", "weight": 10.0},
    **_BALANCED,
}
PRESETS: dict[Method, dict[str, Any]] = {
    "fine-tuning": {},
    "unbiased-fine-tuning": {"segmentation": {"loss": "unbiased-cross-entropy"}},
    "lwf": {"distillation": {"loss": "knowledge-distillation", "weight": 100.0}},
    "lwf-mc": {
        "segmentation": {"loss": "binary-cross-entropy"},
        "distillation": {"loss": "binary-distillation", "weight": 10.0},
    },
    "ilt": {
        "distillation": {"loss": "knowledge-distillation", "weight": 100.0},
        "features": {"loss": "feature-mse", "weight": 100.0},
    },
    "ewc": {"regulariser": {"kind": "ewc", "weight": 500.0}},
    "pi": {"regulariser": {"kind": "pi", "weight": 500.0}},
    "rw": {"regulariser": {"kind": "rw", "weight": 100.0}},
    "mib": _MIB,
    "mib-cd": _MIB | {"contrastive": {"factor": 0.1, "factor_old": 0.1}},
    "plop": {"pseudo_labels": {}, "features": {"loss": "local-pod"}, **_BALANCED},
}
"""What the methods say; a key that a recipe gives wins. Source: the papers' released code."""


class IncrementalConfig(Config):
    """A method of learning new classes without forgetting the old ones.

    `method` gives the defaults of all other keys. What is given beside it wins, null takes a part out, and parts of
    different methods can be combined.

    Attributes:
        method: by the name in the field.
        initialisation: of the new classes' weights; see `models.growth`.
        segmentation: what is learned from labels; any loss, cross-entropy where neither recipe nor method says one.
        distillation: what is learned from the old model's logits.
        features: what is learned from the old model's features.
        regulariser: what it costs to move weights that mattered.
        pseudo_labels: labels that the old model gives to the background.
        contrastive: what turned images are to give.
        alignment: how the new classes' weights are brought to the length of the old ones' in the model that is kept.
    """

    kind: Literal["incremental"] = "incremental"
    method: Method = "mib"
    initialisation: Initialisation = "random"
    segmentation: SegmentationTerm = Field(default_factory=SegmentationConfig)
    distillation: DistillationTerm | None = None
    features: FeatureTerm | None = None
    regulariser: RegulariserConfig | None = None
    pseudo_labels: PseudoLabelConfig | None = None
    contrastive: ContrastiveConfig | None = None
    alignment: AlignmentConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _method_gives_the_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        method = value.get("method", "mib")
        if method not in get_args(Method):  # the field's own message names the methods
            return value
        preset = _PLAIN | PRESETS[method]
        given = {k: v.model_dump() if isinstance(v, Config) else v for k, v in value.items()}
        labels = given.get("segmentation")
        if isinstance(labels, dict) and labels.get("loss") in FLAGGED:
            unbiased = preset["segmentation"]["loss"] == "unbiased-cross-entropy"
            given["segmentation"] = {"unbiased": unbiased} | labels
        # a loss of another kind has defaults of its own
        below = {k: v for k, v in preset.items() if not _of_another_kind(v, given.get(k))}
        return merge(below, given)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.pseudo_labels is not None and self.segmentation.loss != "cross-entropy":
            raise ValueError(
                f"segmentation.loss is {self.segmentation.loss}, pseudo_labels need cross-entropy: they fill the "
                "background that the others account for"
            )
        if self.pseudo_labels is not None and class_weights_of(self.segmentation) is not None:
            raise ValueError(
                "class_weights do not go with pseudo_labels, which are weighed by their certainty"
            )
        pod = isinstance(self.features, LocalPod) and self.features.weight > 0
        if pod and self.contrastive is not None and self.contrastive.features != "trunk":
            raise ValueError(
                f"contrastive.features is {self.contrastive.features}, local-pod looks at the trunk: one pass gives "
                "one of them, take features: trunk"
            )
        return self

    @property
    def targets(self) -> None:
        """Masks hold one class per pixel; nothing is derived from them."""
        return None

    def check_classes(self, classes: int) -> None:
        """Raise ValueError where the terms do not fit a model with so many logits."""
        weights = class_weights_of(self.segmentation)
        if weights is not None and len(weights) < classes:
            raise ValueError(
                f"objective.segmentation.class_weights has {len(weights)} values, the model has {classes} classes: "
                "give one per channel of the last step, the background first"
            )


def _of_another_kind(preset: Any, given: Any) -> bool:
    """Whether a part of a recipe is of another kind than the method's."""
    if not isinstance(preset, dict) or not isinstance(given, dict):
        return False
    return any(key in preset and key in given and preset[key] != given[key] for key in ("kind", "loss"))
