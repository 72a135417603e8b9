"""What is minimised where classes are added to a model: published methods by name, every part of them adjustable."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from aftermap.config import Config, merge
from aftermap.learning.configs.segmentation import (
    FLAGGED,
    SegmentationConfig,
    SegmentationTerm,
    class_weights_of,
)
from aftermap.learning.configs.terms import NotNegative
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


class _OfOldClasses(Config):
    """What the terms of the old model's logits say.

    Attributes:
        alpha: factor of the teacher's logits before their softmax.
        where: `not-new` leaves out the pixels that are labelled as one of the step's classes.
    """

    alpha: float = Field(default=1.0, gt=0)
    where: Literal["everywhere", "not-new"] = "everywhere"


class KnowledgeDistillation(_OfOldClasses):
    """Cross-entropy of the old classes among themselves with the teacher's (Li and Hoiem 2016, LwF)."""

    loss: Literal["knowledge-distillation"]
    weight: NotNegative = 100.0


class UnbiasedDistillation(_OfOldClasses):
    """The teacher's background stands for background and new classes together (Cermelli et al. 2020, MiB)."""

    loss: Literal["unbiased-distillation"]
    weight: NotNegative = 10.0


class BinaryDistillation(Config):
    """Binary cross-entropy of every old class with the teacher's, times their number (Rebuffi et al. 2017, LwF-MC)."""

    loss: Literal["binary-distillation"]
    weight: NotNegative = 10.0


DistillationTerm = Annotated[
    KnowledgeDistillation | UnbiasedDistillation | BinaryDistillation, Field(discriminator="loss")
]


class FeatureMse(Config):
    """Mean squared difference of the deepest encoder features from the teacher's (Michieli and Zanuttigh 2019, ILT)."""

    loss: Literal["feature-mse"]
    weight: NotNegative = 100.0


class LocalPod(Config):
    """Pooled rows and columns of squared features at several scales against the teacher's (Douillard et al. 2021).

    The layers are the last `stages` maps of the encoder, what the decoder gives (`trunk`), and the logits at its size.

    Attributes:
        weight: factor of the whole, beside the two below.
        scales: a map is split into as many regions per side.
        stages: maps of the encoder, from the deepest.
        compat_parts: parts as in PLOP's released code: squares of the whole part of width / scale, so that pixels at the
            right and the lower border are left out where sides are no multiple.
        features: factor of maps and trunk.
        logits: factor of the logits.
        grows: times the root of (all classes / new classes).
    """

    loss: Literal["local-pod"]
    weight: NotNegative = 1.0
    scales: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 2, 4), min_length=1)
    stages: int = Field(default=4, ge=1)
    features: NotNegative = 0.01
    logits: NotNegative = 0.0005
    grows: bool = True
    compat_parts: bool = False


FeatureTerm = Annotated[FeatureMse | LocalPod, Field(discriminator="loss")]


class RegulariserConfig(Config):
    """What it costs to move a weight that mattered for the old classes.

    Attributes:
        kind: `ewc` by the squared gradients (Kirkpatrick et al. 2017), `pi` by the way a weight has gone (Zenke et al.
            2017), `rw` by both (Chaudhry et al. 2018).
        weight: factor of the penalty.
        alpha: share of the newest gradient in the running mean of the squares.
        interval: of `rw`: optimizer steps between two looks at the way.
        compat_published: as MiB's released code: the gradient is taken after the move that it is multiplied with, by `rw`
            at one step in `interval`, and squared gradients begin at 1; see `learning.published_regularisers`.
    """

    kind: Literal["ewc", "pi", "rw"]
    weight: NotNegative  # where it is not given: 500, and 100 of `rw`
    alpha: float = Field(default=0.9, gt=0, le=1)
    interval: int = Field(default=10, ge=1)
    compat_published: bool = False

    @model_validator(mode="before")
    @classmethod
    def _weight_goes_by_kind(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {"weight": 100.0 if value.get("kind") == "rw" else 500.0} | value


class PseudoLabelConfig(Config):
    """Where the step's labels say background, the teacher's surest classes are learned (Douillard et al. 2021, PLOP).

    Attributes:
        kind: what the teacher has to be for its class to be taken: `entropy` less unsure than it is of half the pixels of
            that class, `median` as sure as of half of them, `threshold` as sure as `threshold`, `naive` anything; with
            `confidence` a pixel counts as much as the teacher is sure. PLOP compares these with its own, `entropy`.
        least: of `entropy`: no class's threshold of uncertainty is below it.
        threshold: probability, of `threshold`; of `median` no class's threshold is above it.
        weigh_by_certainty: of `entropy`: an image counts as much as the teacher is sure of its background.
        soft: of `entropy`: learn the teacher's probabilities instead, `certain` of all of the background, `uncertain`
            where it is not sure.
        soft_factor: of what is learned softly.
        bins: of the histograms that medians are found in; None is many.
        compat_histogram: medians and uncertainty as in PLOP's released code, from 100 bins (20 of probabilities), whose
            sum goes wrong, so that thresholds are not those of half the pixels.
        compat_reversed: what is learned softly as in the released code, which pushes teacher and student apart.
        compat_mean_over_all: pixels of which the teacher is not sure, and unlabelled ones, count as pixels of loss 0 in
            the mean, as in the released code; otherwise the mean is that of the pixels with a label.
        compat_no_background: nothing is learned from images without background, as in the released code.
    """

    kind: Literal["entropy", "median", "threshold", "confidence", "naive"] = "entropy"
    least: float = Field(default=0.001, gt=0)
    threshold: float = Field(default=0.9, gt=0, le=1)
    weigh_by_certainty: bool = True
    soft: Literal["certain", "uncertain"] | None = None
    soft_factor: NotNegative = 1.0
    bins: Annotated[int, Field(ge=2, le=1 << 20)] | None = None
    compat_histogram: bool = False
    compat_mean_over_all: bool = False
    compat_no_background: bool = False
    compat_reversed: bool = False

    @model_validator(mode="after")
    def _soft_goes_with_entropy(self) -> Self:
        if self.soft is not None and self.kind != "entropy":
            raise ValueError(f"pseudo_labels.soft goes with kind entropy, found {self.kind}")
        return self

    @property
    def has_thresholds(self) -> bool:
        """Whether they are found before a step, a median of each class."""
        return self.kind in ("entropy", "median")


class ColourJitter(Config):
    """How far colours of turned images are drawn away, each by a factor between 1 - x and 1 + x.

    Attributes:
        brightness: of the whole.
        contrast: about the mean grey.
        saturation: about each pixel's grey; for red, green and blue alone.
        compat_clipped: normalised values are taken for values of 0 to 1, and cut there (MiB-CD).
    """

    brightness: float = Field(default=0.1, ge=0, le=1)
    contrast: float = Field(default=0.1, ge=0, le=1)
    saturation: float = Field(default=0.1, ge=0, le=1)
    compat_clipped: bool = False


class ContrastiveConfig(Config):
    """Features of turned images are to be the turned features of images, the student's own and the old model's.

    Attributes:
        factor: weight of the student's features against its own.
        factor_old: weight of the student's features against the old model's.
        features: `trunk` is what the decoder gives, before any dropout; `embedding` what the classifier sees, behind
            dropout at the size of the image (residual-unet), as published: there the term is an activation decay too.
        stop_gradient: the student's features of the image as it is are the goal and are not drawn towards those of
            the turned one: they are what labels and old model hold in place. The published system draws both.
        draws: every sample is turned by itself, or the batch as one.
        flips: mirror images take part.
        rotation: `quarter-turns` are exact; `free` is any angle, interpolated. Crops that are not square are turned by
            180 degrees only.
        colour: turned images get other colours too; None leaves them.
        supervise_transformed: turned images count as labelled samples too, as published, which doubles the batch of
            the segmentation term.
        teacher_view: the old model sees the image, and its features are turned, or the turned image.
        compat_two_passes: the student runs on images and turned images one after the other, each with batch statistics
            of its own, as published.
        compat_corners: with `free` rotation, corners that come from outside of the image are compared too.
    """

    factor: NotNegative = 0.1
    factor_old: NotNegative = 0.1
    features: Literal["trunk", "embedding"] = "trunk"
    stop_gradient: bool = True
    draws: Literal["per-batch", "per-sample"] = "per-sample"
    flips: bool = True
    rotation: Literal["none", "quarter-turns", "free"] = "quarter-turns"
    colour: ColourJitter | None = None
    supervise_transformed: bool = False
    teacher_view: Literal["original", "transformed"] = "original"
    compat_two_passes: bool = False
    compat_corners: bool = False

    @model_validator(mode="after")
    def _something_is_done(self) -> Self:
        if not (self.factor or self.factor_old or self.supervise_transformed):
            raise ValueError(
                "factor and factor_old are 0 and turned images are not learned from: leave it out"
            )
        if not self.flips and self.rotation == "none":
            raise ValueError("nothing is turned: give flips or rotation")
        if self.compat_corners and self.rotation != "free":
            raise ValueError(f"compat_corners goes with rotation free, found {self.rotation}")
        return self


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
