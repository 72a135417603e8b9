"""Parts of a method that learns new classes without forgetting the old ones, as data."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aftermap.config import Config
from aftermap.learning.configs.terms import NotNegative


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


class ExcludedDistillation(Config):
    """The teacher's background stands for the new class where one is labelled, and for the background elsewhere (PLOP).

    Attributes:
        new: what stands for new classes in the student: the `labelled` one, or all of them together (`sum`).
        compat_published: what is to be excluded gets the logit 0, which is no probability of 0, and new logits are added
            up, as in the released code.
    """

    loss: Literal["excluded-distillation"]
    weight: NotNegative = 10.0
    new: Literal["labelled", "sum"] = "labelled"
    compat_published: bool = False


DistillationTerm = Annotated[
    KnowledgeDistillation | UnbiasedDistillation | BinaryDistillation | ExcludedDistillation,
    Field(discriminator="loss"),
]


class FeatureMse(Config):
    """Mean squared difference of the deepest encoder features from the teacher's (Michieli and Zanuttigh 2019, ILT)."""

    loss: Literal["feature-mse"]
    weight: NotNegative = 100.0


class LocalPod(Config):
    """Pooled rows and columns of squared features at several scales against the teacher's (Douillard et al. 2021).

    The layers are the last `stages` maps of the encoder, what the decoder gives (`trunk`), and the logits at its size.
    PLOP takes the defaults; the other choices are what it compares them with.

    Attributes:
        pooling: `local` means of the parts' rows and columns; `spatial` sums of the whole map's; `global` sums of those
            of the map's means over squares, `scales` to a side.
        before: what becomes of features first: `square`, `relu`, or `none`.
        distance: of the pooled values: Euclidean (`l2`), absolute (`l1`), or the divergence of their shares (`kl`).
        added: the logits of new classes are added to the background's (`sum`) or left out (`trim`).
        masked: the logits are compared only where the labels say background, or where the teacher sees an old class
            there; by the largest of them, at the size of the image. None compares everywhere.
        compat_mask: the mask as in the released code, which empties what it means to compare.
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
    pooling: Literal["local", "spatial", "global"] = "local"
    before: Literal["square", "relu", "none"] = "square"
    distance: Literal["l2", "l1", "kl"] = "l2"
    added: Literal["sum", "trim"] = "sum"
    masked: Literal["background", "old"] | None = None
    compat_parts: bool = False
    compat_mask: bool = False

    @model_validator(mode="after")
    def _choices_go_together(self) -> Self:
        if self.masked is not None and self.pooling != "local":
            raise ValueError(f"masked goes with pooling local, found {self.pooling}")
        if self.compat_mask and self.masked is None:
            raise ValueError("compat_mask goes with masked")
        if self.distance == "kl" and self.before == "none":
            raise ValueError(
                "distance kl is of shares, which need values from 0 on: take before square or relu"
            )
        return self


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


class AlignmentConfig(Config):
    """The classifier's rows of new classes become as long as those of old ones are on average.

    Attributes:
        to: the rows that give the length: all old ones, those of classes, or the background's.
        every: `evaluation`: in the model that is scored and may be kept, while the one that learns stays as it is;
            `epoch`: in the one that learns, whenever it has seen all tiles of the step.

    Source: Zhao et al. 2020, in the form of PLOP's released code.
    """

    to: Literal["all", "old", "background"] = "all"
    every: Literal["evaluation", "epoch"] = "evaluation"
