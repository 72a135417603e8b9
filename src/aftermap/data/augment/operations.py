"""Augmentation as data: a recipe lists operations, each with its probability and ranges.

Geometric operations come first; they are composed into one map, and the crop is resampled once. The photometric ones
follow in the order of the list: those in the 8-bit arithmetic of the xView2 winner before those on floats.

The winner's ResNet-50 for damage, as a recipe says it:

    sampling:
      {kind: epochs, crop_px: 512, batch_size: 16, repeat: train, compat_mask: per-class,
       crop: {p: 0.9, size: [0.8696, 1.1765], tries: [1, 10], class_weights: [0, 1, 5, 5, 2]}}
    augment:
      - {op: flip, direction: vertical, p: 0.5}
      - {op: rotate90, p: 0.95}
      - {op: shift, p: 0.2, x: [-0.3125, 0.3125], y: [-0.3125, 0.3125]}
      - {op: rotate-scale, p: 0.8, degrees: [-10, 10], scale: [0.9, 1.1], center: [0.1875, 0.8125], whole_degrees: true}
      - op: one-of          # first date, else second
        of:
          - {op: channel-shift, p: 0.04, dates: pre, amount: 0.0196, compat_uint8: true}
          - {op: channel-shift, p: 0.04, dates: post, amount: 0.0196, compat_uint8: true}
      - op: one-of
        of:
          - {op: hsv-shift, p: 0.04, dates: pre, hue: 0.0278, saturation: 0.0196, value: 0.0196, compat_uint8: true}
          - {op: hsv-shift, p: 0.04, dates: post, hue: 0.0278, saturation: 0.0196, value: 0.0196, compat_uint8: true}
      - op: one-of          # "group A", drawn for each date on its own
        dates: independent
        of:
          - op: one-of
            p: 0.1
            of: [{op: clahe, p: 0.04, compat_uint8: true}, {op: noise, p: 0.04, compat_uint8: true},
                 {op: box-blur, p: 0.04, compat_uint8: true}]
          - op: one-of
            p: 0.1
            of: [{op: saturation, p: 0.04, factor: [0.9, 1.1], compat_uint8: true},
                 {op: brightness, p: 0.04, factor: [0.9, 1.1], compat_uint8: true},
                 {op: contrast, p: 0.04, factor: [0.9, 1.1], compat_uint8: true}]
      - {op: elastic, p: 0.04, amount_px: [0.25, 1.2], sigma_px: 0.2, dates: independent, compat_image_only: true}

MetaDamageNet's ResNet-34 for localization:

    sampling:
      {kind: epochs, crop_px: 736, batch_size: 16, date_swap: 0.015, compat_mask: truncated,
       crop: {size: [0.6, 0.9], relative_to: scene, tries: [5, 5], class_weights: [0, 1], compat_corners: true}}
    augment:
      - {op: flip, direction: vertical, p: 0.5}
      - {op: rotate90, p: 0.95}
      - {op: shift, p: 0.2, x: [0.2, 0.8], y: [0.2, 0.8], whole_px: false, compat_swapped_axes: true}
      - {op: rotate-scale, p: 0.8, degrees: [-10, 10], scale: [0.9, 1.1], center: [0.3, 0.7], compat_swapped_axes: true}
      - op: one-of
        of: [{op: channel-shift, p: 0.03, amount: 0.01},
             {op: hsv-shift, p: 0.03, hue: 0.01, saturation: 0.01, value: 0.01}]
      - op: one-of
        compat_per_batch: true
        of:
          - op: one-of
            p: 0.07
            of: [{op: clahe, p: 0.03}, {op: noise, p: 0.03, std: 0.1}, {op: box-blur, p: 0.02}]
          - op: one-of
            p: 0.07
            of: [{op: saturation, p: 0.03, factor: [0.5, 1.5]}, {op: brightness, p: 0.03, add: [-0.1, 0.1]},
                 {op: contrast, p: 0.03, factor: [0.9, 1.1], about: zero}]
      - {op: elastic, p: 0.03, amount_px: [184, 184], sigma_px: 10, compat_rows_only: true, compat_image_only: true}
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from aftermap.config import Config
from aftermap.data.augment.misregistration import Misregistration


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"a range goes from low to high, found {list(values)}")
    return values


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
"""Lowest and highest value of a uniform draw."""

Dates = Literal["both", "pre", "post", "independent"]
"""Which dates an operation changes: both in the same way, one of them, or each by draws of its own."""


class _Operation(Config):
    p: float = Field(default=1.0, ge=0, le=1)


class Flip(_Operation):
    """Mirrors: `vertical` turns the order of the rows round, `horizontal` that of the columns."""

    op: Literal["flip"] = "flip"
    direction: Literal["vertical", "horizontal"] = "horizontal"


class Rotate90(_Operation):
    """Turns counter-clockwise by one of `turns` quarters."""

    op: Literal["rotate90"] = "rotate90"
    turns: tuple[Literal[0, 1, 2, 3], ...] = Field(default=(0, 1, 2, 3), min_length=1)


class Shift(_Operation):
    """Moves the content right by `x` and down by `y`, fractions of the width and height.

    Attributes:
        whole_px: moves by whole pixels, so that nothing is interpolated.
        compat_swapped_axes: `y` times the height moves right and `x` times the width down (MetaDamageNet).
    """

    op: Literal["shift"] = "shift"
    x: Range = (-0.3125, 0.3125)
    y: Range = (-0.3125, 0.3125)
    whole_px: bool = True
    compat_swapped_axes: bool = False


class RotateScale(_Operation):
    """Rotates counter-clockwise by `degrees` and enlarges by `scale` about a point.

    Attributes:
        center: range of the point, as a fraction of the width and, drawn apart, of the height.
        whole_degrees: angles are whole degrees.
        compat_swapped_axes: the fraction of the height serves as x and that of the width as y (MetaDamageNet).
    """

    op: Literal["rotate-scale"] = "rotate-scale"
    degrees: Range = (-10.0, 10.0)
    scale: Range = (0.9, 1.1)
    center: Range = (0.5, 0.5)
    whole_degrees: bool = False
    compat_swapped_axes: bool = False


class _Photometric(_Operation):
    """What is common to operations on pixel values, which are 0..1."""

    dates: Dates = "independent"


class _EightBit(_Photometric):
    """Operations that the xView2 winner has too.

    Attributes:
        compat_uint8: its arithmetic on 8-bit blue, green and red, which truncates.
    """

    compat_uint8: bool = False


class ChannelShift(_EightBit):
    """Adds to each band a value of its own, up to `amount` either way."""

    op: Literal["channel-shift"] = "channel-shift"
    amount: float = Field(default=0.02, ge=0)


class HsvShift(_EightBit):
    """Adds to hue (a fraction of the circle), saturation and value, each up to its amount either way.

    With `compat_uint8` the hue is clipped at 0 and 255, not wrapped.
    """

    op: Literal["hsv-shift"] = "hsv-shift"
    hue: float = Field(default=0.0278, ge=0)
    saturation: float = Field(default=0.0196, ge=0)
    value: float = Field(default=0.0196, ge=0)


class Clahe(_EightBit):
    """Equalises histograms in `grid` x `grid` tiles, with their peaks clipped.

    Every band for itself; with `compat_uint8` the lightness, of blue taken for red.
    """

    op: Literal["clahe"] = "clahe"
    clip_limit: float = Field(default=2.0, gt=0)
    grid: int = Field(default=5, ge=1)


class Noise(_EightBit):
    """Adds Gaussian noise.

    With `compat_uint8` the noise has the winner's spread, and its smallest value is taken off: it brightens.
    """

    op: Literal["noise"] = "noise"
    std: float = Field(default=0.02148, ge=0)


class BoxBlur(_EightBit):
    """Mean of 3 x 3 pixels."""

    op: Literal["box-blur"] = "box-blur"


class GaussianBlur(_Photometric):
    """Gaussian mean of 5 x 5 pixels."""

    op: Literal["gaussian-blur"] = "gaussian-blur"
    sigma_px: Range = (0.1, 1.2)


class Saturation(_EightBit):
    """Multiplies the saturation of HSV; with `compat_uint8` blends with the grey image."""

    op: Literal["saturation"] = "saturation"
    factor: Range = (0.9, 1.1)


class Brightness(_EightBit):
    """Multiplies by `factor`, then adds `add`."""

    op: Literal["brightness"] = "brightness"
    factor: Range = (1.0, 1.0)
    add: Range = (0.0, 0.0)


class Contrast(_EightBit):
    """Stretches about the image's mean grey or about zero, which brightens as well."""

    op: Literal["contrast"] = "contrast"
    factor: Range = (0.9, 1.1)
    about: Literal["mean", "zero"] = "mean"


class Gamma(_Photometric):
    """Raises to a power."""

    op: Literal["gamma"] = "gamma"
    exponent: Range = (0.8, 1.25)


class Grayscale(_Photometric):
    """Makes all bands the weighted grey."""

    op: Literal["grayscale"] = "grayscale"


class Elastic(_Photometric):
    """Moves every pixel by noise, uniform up to `amount_px` either way and smoothed by a Gaussian.

    Attributes:
        amount_px: range from which each image's amplitude is drawn, before smoothing.
        sigma_px: of the smoothing; below a third of a pixel none is left.
        dates: counts only with `compat_image_only`; otherwise all dates and the mask move together.
        compat_image_only: the mask stays where it is (both published systems).
        compat_rows_only: nothing moves sideways (MetaDamageNet).
    """

    op: Literal["elastic"] = "elastic"
    dates: Dates = "both"
    amount_px: Range = (0.25, 1.2)
    sigma_px: float = Field(default=0.2, ge=0)
    compat_image_only: bool = False
    compat_rows_only: bool = False


class GridDistortion(_Operation):
    """Stretches the columns and rows of a grid of `cells` x `cells`, each by a factor drawn up to `limit` about 1.

    All dates, the mask and soft labels move together. Source: the grid distortion of albumentations 0.4.
    """

    op: Literal["grid-distortion"] = "grid-distortion"
    cells: int = Field(default=5, ge=1)
    limit: float = Field(default=0.3, ge=0, lt=1)


class OpticalDistortion(_Operation):
    """A lens: what lies at radius r comes from r (1 + k r^2 + k r^4), r in widths from the middle, k up to `limit`.

    All dates, the mask and soft labels move together. Source: the optical distortion of albumentations 0.4, whose
    shift of the middle is less than a pixel and left out.
    """

    op: Literal["optical-distortion"] = "optical-distortion"
    limit: float = Field(default=0.3, ge=0)


class Cutout(_Photometric):
    """Blackens `holes` squares of the images, `size_px` high and wide; the mask stays."""

    op: Literal["cutout"] = "cutout"
    holes: int = Field(default=8, ge=1)
    size_px: int = Field(default=8, ge=1)


class ChannelDropout(_Photometric):
    """Sets `channels` bands (least, most) to 0 before normalisation, or nothing where none would be left.

    With `modality` either red, green and blue, or the bands after them (MiB-CD).
    """

    op: Literal["channel-dropout"] = "channel-dropout"
    channels: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)
    modality: bool = False


class MotionBlur(_Photometric):
    """Mean along a line through the middle of a square, of an odd length in `size_px`, at any angle."""

    op: Literal["motion-blur"] = "motion-blur"
    size_px: tuple[int, int] = (3, 7)


class Dilation(_Operation):
    """Grows the classes of the mask by a square; where two meet, the higher wins. IGNORE stays as it is."""

    op: Literal["dilation"] = "dilation"
    size_px: int = Field(default=5, ge=1)


class OneOf(_Operation):
    """At most one of its members: each in turn is tried with its own `p`, and the first that fires ends the chain.

    A member that is itself a `one-of` ends the chain when its own `p` fires, even if nothing in it does.

    Attributes:
        dates: `independent` runs the chain once for every date; its members then see that date alone.
        compat_per_batch: the members are chosen once per batch, not per sample (MetaDamageNet's nested groups).
    """

    op: Literal["one-of"] = "one-of"
    dates: Dates = "both"
    of: tuple["Member", ...] = Field(min_length=1)
    compat_per_batch: bool = False


Geometric = Flip | Rotate90 | Shift | RotateScale
EightBit = ChannelShift | HsvShift | Clahe | Noise | BoxBlur | Saturation | Brightness | Contrast
Warp = Elastic | GridDistortion | OpticalDistortion
Leaf = (
    EightBit
    | GaussianBlur
    | Gamma
    | Grayscale
    | Cutout
    | ChannelDropout
    | MotionBlur
    | Warp
    | Misregistration
    | Dilation
)
Member = Annotated[Leaf | OneOf, Field(discriminator="op")]
Operation = Annotated[Geometric | Leaf | OneOf, Field(discriminator="op")]

OneOf.model_rebuild()


def leaves(operation: Leaf | OneOf) -> Iterator[Leaf]:
    """The operations inside a group, in order; of a single operation itself."""
    if isinstance(operation, OneOf):
        for member in operation.of:
            yield from leaves(member)
    else:
        yield operation


def is_eight_bit(operation: Leaf) -> bool:
    """True where it works on bytes."""
    return isinstance(operation, EightBit) and operation.compat_uint8


def geometric(operations: Sequence[Operation]) -> list[Geometric]:
    """The part of a list that is composed into one map."""
    return [operation for operation in operations if isinstance(operation, Geometric)]


def photometric(operations: Sequence[Operation]) -> list[Leaf | OneOf]:
    """The part of a list that follows the map."""
    return [operation for operation in operations if not isinstance(operation, Geometric)]


def _in_order(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    stage, before = 0, ""
    for operation in operations:
        if isinstance(operation, Geometric):
            stages = [0]
        else:
            stages = [1 if is_eight_bit(leaf) else 2 for leaf in leaves(operation)]
        if min(stages) < stage:
            raise ValueError(
                f"{operation.op} comes after {before}: list geometry first, then operations with compat_uint8, "
                "then the others"
            )
        if stages != sorted(stages):
            raise ValueError(f"a {operation.op} mixes operations with and without compat_uint8")
        stage, before = max(stages), operation.op
    return operations


Operations = Annotated[tuple[Operation, ...], AfterValidator(_in_order)]
"""What a recipe's `augment` is."""


DEFAULT: tuple[Operation, ...] = (
    Flip(direction="horizontal", p=0.5),
    Flip(direction="vertical", p=0.5),
    Rotate90(turns=(1, 2, 3), p=0.75),
    RotateScale(degrees=(-15, 15), scale=(0.8, 1.25), p=0.5),
    Brightness(add=(-0.15, 0.15), p=0.4),
    Contrast(factor=(0.7, 1.3), about="zero", p=0.4),
    Saturation(factor=(0.6, 1.4), p=0.4),
    Gamma(exponent=(0.7, 1.3), p=0.4),
    ChannelShift(amount=0.06, p=0.4),
    GaussianBlur(sigma_px=(0.1, 1.2), p=0.2),
    Noise(std=0.03, p=0.2),
)
"""What recipes do that say nothing: any orientation, and photometry for each date on its own."""
