"""Which crops are drawn: centred on classes, or the best of some tries in passes over all scenes."""

import math
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from aftermap.config import Config
from aftermap.data.augment.operations import Range
from aftermap.data.loading.date_dropout import DateDropout
from aftermap.data.loading.geometry import Crop

Repeat = Literal["none", "train", "tune"]
"""How often a pass shows scenes with rare classes; see `repetitions`."""


class BestCrop(Config):
    """A square window of the augmented scene: of some tries the one that shows most of the weighty classes.

    Attributes:
        p: chance that the size is drawn; otherwise it is `crop_px`, and nothing is enlarged.
        size: range of the window's side, as a factor of `crop_px` (whole pixels), or of the scene's side.
        relative_to: `crop`, one size for all tries; `scene`, a size for each try.
        tries: least and most windows, each as likely.
        class_weights: what a pixel of each class counts (background first); of equal windows the first is taken.
        compat_corners: the window's corners become the centres of the outer pixels, its right and lower edge one
            pixel beyond it (MetaDamageNet).
    """

    p: float = Field(default=1.0, ge=0, le=1)
    size: Range = (1.0, 1.0)
    relative_to: Literal["crop", "scene"] = "crop"
    tries: tuple[int, int] = (1, 5)
    class_weights: tuple[float, ...] = (0, 1, 1, 1, 1)
    compat_corners: bool = False


class _Crops(Config):
    """What both ways of choosing crops have in common.

    Attributes:
        crop_px: height and width of a crop.
        batch_size: crops per batch.
        cache_mb: decoded scenes kept in memory.
        pool: so many batches are drawn and augmented for good, and every pass shows them in an order of its own; what
            teachers say of them can then be kept. 0 draws every batch anew.
        soft_every: every so many batches, as many crops again come from scenes without labels in the same batch, and
            none in the others (Open Cities: 5). 0 has them among the rest: in passes as any scene, else by
            `unlabelled_share`.
        date_swap: localization only: chance that the post image stands in for the pre image.
        compat_inverted_swap: that the pre image stays with chance `date_swap` instead (MetaDamageNet's mistake).
        date_dropout: damage only: chances that a date is missing, for a model that maps from one date as well.
        compat_mask: how masks are resampled. None takes the nearest pixel. `per-class` interpolates every class for
            itself and cuts at one half, so that no class may be left where several meet (xView2 winner);
            `truncated` interpolates class numbers and drops the fraction (MetaDamageNet).
        compat_steps: every geometric operation resamples the whole scene, as the xView2 winner did.
    """

    crop_px: int = Field(default=256, ge=1)
    batch_size: int = Field(default=16, ge=1)
    cache_mb: int = 4000
    pool: int = Field(default=0, ge=0)
    soft_every: int = Field(default=0, ge=0)
    date_swap: float = Field(default=0.0, ge=0, le=1)
    compat_inverted_swap: bool = False
    date_dropout: DateDropout = DateDropout()
    compat_mask: Literal["per-class", "truncated"] | None = None
    compat_steps: bool = False

    @model_validator(mode="after")
    def _steps_move_the_mask_too(self) -> Self:
        if self.compat_steps and self.compat_mask != "per-class":
            raise ValueError("compat_steps needs compat_mask: per-class")
        return self


class ClassSampling(_Crops):
    """Crops that are centred on pixels of drawn classes; there is no end of an epoch.

    Attributes:
        class_share: share of the crops that are centred on a pixel of a drawn class; the rest lie anywhere.
        class_weights: relative chance of each class for those crops (background first); classes that no
            scene holds are left out.
        unlabelled_share: share of the crops that come from scenes without labels, where there are any, and lie
            anywhere in them; None is the share of such scenes among all.
    """

    kind: Literal["classes"] = "classes"
    class_share: float = 0.8
    class_weights: tuple[float, ...] = (1, 2, 2, 2, 2)
    unlabelled_share: float | None = Field(default=None, ge=0, le=1)


class EpochSampling(_Crops):
    """Passes over all scenes, each in an order of its own, one crop of each.

    Attributes:
        repeat: how often a pass shows a scene; see `repetitions`.
        shuffle: False keeps the order of the scenes.
        drop_last: leaves the last batch of a pass out if it is not full.
        both_dates: localization only: the two images of a scene are samples of their own, one after the other, with one
            mask (MetaDamageNet).
        crop: how the crop is chosen.
    """

    kind: Literal["epochs"] = "epochs"
    repeat: Repeat = "none"
    shuffle: bool = True
    drop_last: bool = True
    both_dates: bool = False
    crop: BestCrop = BestCrop()

    @model_validator(mode="after")
    def _dates_are_given_or_drawn(self) -> Self:
        if self.both_dates and (self.date_swap or self.compat_inverted_swap):
            raise ValueError(
                "both_dates shows each image as it is: leave date_swap and compat_inverted_swap out"
            )
        return self


def _kind(value: Any) -> str:
    return str(value.get("kind", "classes") if isinstance(value, dict) else getattr(value, "kind", ""))


SamplingConfig = Annotated[
    Annotated[ClassSampling, Tag("classes")] | Annotated[EpochSampling, Tag("epochs")], Discriminator(_kind)
]
"""What a recipe's `sampling` is; without `kind` it is `classes`."""


def repetitions(classes: Collection[int], repeat: Repeat) -> int:
    """How often a pass shows a scene.

    Args:
        classes: damage classes (1 to 4) that its mask holds.
        repeat: `train` shows scenes with damage once more, and those with minor or major damage once more still;
            `tune` only the former.

    Source: xView2 first place.
    """
    damaged = bool({2, 3, 4} & set(classes))
    middle = bool({2, 3} & set(classes))
    match repeat:
        case "none":
            return 1
        case "train":
            return 1 + damaged + middle
        case "tune":
            return 1 + damaged


def epoch_order(repeats: Sequence[int], sampling: EpochSampling, *, seed: int, epoch: int) -> np.ndarray:
    """Positions of the scenes in the order of one pass.

    Args:
        repeats: how often each scene is shown.
        sampling: whether they are shuffled.
        seed: with the number of the pass it decides on the order.
        epoch: number of the pass, from 0.
    """
    order: np.ndarray = np.repeat(np.arange(len(repeats)), repeats)
    return np.random.default_rng((seed, epoch, 1)).permutation(order) if sampling.shuffle else order


def pooled(index: int, sampling: SamplingConfig, *, seed: int) -> int:
    """The number of the batch that is shown as number `index`: itself, or one of the pool.

    Every pass shows each batch of the pool once, in an order that follows from the seed and the number of the pass.
    """
    if not sampling.pool:
        return index
    lap, position = divmod(index, sampling.pool)
    return int(np.random.default_rng((seed, lap, 2)).permutation(sampling.pool)[position])


def batches_per_epoch(sampling: SamplingConfig, samples: int) -> int:
    """Batches in a pass over so many samples; at least one.

    A pass of `classes` is as many crops as there are scenes.
    """
    share = samples / sampling.batch_size
    dropped = isinstance(sampling, EpochSampling) and sampling.drop_last
    return max(1, math.floor(share) if dropped else math.ceil(share))


def post_chance(sampling: SamplingConfig) -> float:
    """Chance that a localization crop shows the post image."""
    return 1 - sampling.date_swap if sampling.compat_inverted_swap else sampling.date_swap


def draw_windows(
    config: BestCrop, crop_px: int, rng: np.random.Generator, *, height: int, width: int
) -> list[Crop]:
    """Draw the windows of which the best is to be taken, all inside a frame of the given size."""
    count = int(rng.integers(config.tries[0], config.tries[1] + 1))
    shorter = min(height, width)
    if config.relative_to == "scene" and rng.random() < config.p:
        sides = rng.uniform(*config.size, count) * shorter
        columns, rows = rng.random(count) * (width - sides), rng.random(count) * (height - sides)
        return [
            Crop(float(column), float(row), float(side), crop_px, config.compat_corners)
            for column, row, side in zip(columns, rows, sides, strict=True)
        ]
    side = crop_px
    if config.relative_to == "crop" and config.size != (1.0, 1.0) and rng.random() < config.p:
        low, high = (math.floor(crop_px * factor + 1e-9) for factor in config.size)
        side = int(rng.integers(low, high + 1))
    side = min(side, shorter)
    return [
        Crop(
            int(rng.integers(width - side + 1)),
            int(rng.integers(height - side + 1)),
            side,
            crop_px,
            config.compat_corners,
        )
        for _ in range(count)
    ]


BuildingTarget = Literal["building", "damage"]


class ShotConfig(Config):
    """How crops are cut out of scenes.

    Attributes:
        crop_px: height and width of a crop.
        class_share: share of the crops that are centred near a pixel of a class other than the background, each class
            of the scene as likely as the next; the rest lie anywhere.
        turn: mirror and turn by quarters at random.
        cache_mb: decoded scenes kept in memory.
    """

    crop_px: Annotated[int, Field(ge=1)] = 256
    class_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    turn: bool = False
    cache_mb: int = 2000
