"""What a map shows, said once for the page and for the picture: two pictures of the ground, kinds, and buildings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import geopandas as gpd
import numpy as np

from aftermap import __version__
from aftermap.classes import BUILDING, DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.geo.grid import Grid
from aftermap.products.pictures import in_pixels, paint
from aftermap.products.summary import GRADES, UNCALIBRATED, grade
from aftermap.products.vectors import (
    BUILDING_LAYER,
    DAMAGE_VALUES,
    ONE_DATE_LAYER,
    ONE_DATE_VALUES,
    PROBABILITIES,
    normalise,
)
from aftermap.wording import counted

_HECTARE_FROM_M2 = 10_000


@dataclass(frozen=True)
class Picture:
    """One of the two pictures.

    Attributes:
        name: shown above it.
        rgb: uint8 (3, H, W) or (H, W, 3), reduced to any size of the grid's proportions.
        valid: bool (H, W), False where it is left transparent; None where all of it is shown.
        date: when it was taken, in words; empty where that is not known.
    """

    name: str
    rgb: np.ndarray
    valid: np.ndarray | None = None
    date: str = ""

    @property
    def heading(self) -> str:
        """Name and date."""
        return f"{self.name} · {self.date}" if self.date else self.name


@dataclass(frozen=True)
class Kind:
    """A class, or a grade of confidence, in the legend.

    Attributes:
        name: as the layers have it.
        label: to be read.
        colour: `#rrggbb`.
        amount: how much there is of it, in words.
        share: of what was assessed, 0 to 1; None where that is not known or it is not assessed.
        assessed: False for what was not looked at.
        background: not painted unless it is asked for.
    """

    name: str
    label: str
    colour: str
    amount: str
    share: float | None
    assessed: bool = True
    background: bool = False

    @property
    def percent(self) -> str:
        """The share in words; empty where there is none."""
        return "" if self.share is None else f"{100 * self.share:.1f} %"


@dataclass(frozen=True)
class Objects:
    """Buildings of a view.

    Attributes:
        frame: normalised, in the grid's reference system.
        outlines: the same in pixels of the grid, (n,); see `pictures.in_pixels`.
        kinds: index into the view's kinds of each, int (n,).
        bars: columns that hold the probability of the first kinds, in their order.
        on: which of the two pictures carries them where only one can.
        tinted: whether they may be filled over the second picture.
    """

    frame: gpd.GeoDataFrame
    outlines: np.ndarray
    kinds: np.ndarray
    on: Literal[0, 1]
    bars: tuple[str, ...] = ()
    tinted: bool = True


@dataclass(frozen=True)
class Times:
    """Several dates of a view's buildings, for the page's slider.

    Attributes:
        labels: the dates, in their order.
        columns: of the buildings, that hold their kind on each.
        headlines: of each date; see `View`.
        notes: what is new on each.
        tiles: the second picture on each, as a page holds it; None where the one before stays.
    """

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    headlines: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    tiles: tuple[list[dict[str, Any]] | None, ...]


@dataclass(frozen=True)
class View:
    """What a map shows.

    Attributes:
        heading: of the legend.
        headline: a number and what it counts; the number may be empty.
        pictures: two of the whole grid.
        mode: what the page opens with: the first picture, the second, or both with a divider.
        kinds: the legend.
        about: lines of small print.
        objects: buildings; None where there are none to tell apart.
        cover: uint8 (H, W) indices of kinds, painted over the first picture to give the second; those beyond the kinds
            are not assessed. None where the second picture is one of its own.
        under: what the cover is painted over in place of the first picture.
    """

    heading: str
    headline: tuple[str, str]
    pictures: tuple[Picture, Picture]
    mode: Literal["pre", "swipe", "post"]
    kinds: tuple[Kind, ...]
    about: tuple[str, ...]
    objects: Objects | None = None
    cover: np.ndarray | None = None
    under: Picture | None = None


def dated(view: View, dates: Sequence[str]) -> View:
    """The view with the dates of its first pictures."""
    pictures = list(view.pictures)
    for number, words in enumerate(dates):
        pictures[number] = replace(pictures[number], date=words)
    return replace(view, pictures=(pictures[0], pictures[1]))


def damage_view(
    frame: gpd.GeoDataFrame, before: Picture, after: Picture, grid: Grid, summary: dict[str, Any]
) -> View:
    """Damage between two dates.

    Args:
        frame: buildings with the columns of `products.vectors.COLUMNS`, in the grid's reference system.
        before: the scene before.
        after: the scene after.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.summary.summarise`.

    Raises:
        ValueError: the frame breaks the contract of its columns.
    """
    frame = normalise(frame)
    kinds = np.array([DAMAGE_VALUES.index(name) for name in frame["damage"]], np.int64)
    damaged, assessed, skipped = (
        summary["damaged"]["buildings"],
        summary["assessed"],
        summary["not_assessed"],
    )
    about = [
        f"Damage classes: {DAMAGE.name.replace('-', ' ')}. Shares are of the assessed buildings. Probabilities and "
        f"confidence are the model's, {summary.get('confidence', UNCALIBRATED)}; its decision weights choose the class, "
        "which need not be the most probable one."
    ]
    if skipped["buildings"]:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in skipped["reasons"].items())
        about.append(f"Not assessed: {skipped['buildings']:,}. Reasons: {reasons}.")
    headline = (
        f"{damaged:,}",
        f" of {counted(assessed, 'assessed building is', 'assessed buildings are')} damaged",
    )
    colours = (*DAMAGE.colours[1:], NOT_ASSESSED_COLOUR)
    return View(
        heading="Damage",
        headline=headline if assessed else ("", "No building was assessed"),
        pictures=(before, after),
        mode="swipe",
        kinds=_counted(
            [(name, label(name), c) for name, c in zip(DAMAGE_VALUES, colours, strict=True)], kinds
        ),
        about=(*about, describe_size(grid)),
        objects=Objects(frame, in_pixels(frame, grid), kinds, on=1, bars=PROBABILITIES),
    )


def one_date_view(
    frame: gpd.GeoDataFrame, image: Picture, second: Picture, grid: Grid, summary: dict[str, Any]
) -> View:
    """Destroyed or not after a disaster, or the buildings before it, from one image.

    Args:
        frame: buildings with the columns of `products.vectors.ONE_DATE_COLUMNS`, in the grid's reference system.
        image: the scene.
        second: probabilities as a picture.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.summary.summarise_one_date`.

    Raises:
        ValueError: the frame breaks the contract of its columns.
    """
    frame = normalise(frame, ONE_DATE_LAYER)
    kinds = np.array([ONE_DATE_VALUES.index(name) for name in frame["damage"]], np.int64)
    mode, assessed, skipped = summary["mode"], summary["assessed"], summary["not_assessed"]
    if mode == "post-only":
        about = [
            "Mode: post-only. The model was shown the image from after alone, which tells destroyed buildings from "
            "others; no, minor and major damage are one class. Probabilities and confidence are the model's, "
            f"{summary['confidence']}."
        ]
        destroyed = summary["classes"]["destroyed"]["buildings"]
        words = counted(assessed, "assessed building is", "assessed buildings are")
        headline = (f"{destroyed:,}", f" of {words} destroyed")
        if not assessed:
            headline = ("", "No building was assessed")
    else:
        about = ["Mode: pre-only. The model was shown the image from before alone: no damage can be told."]
        count, _, buildings = counted(len(frame), "building").partition(" ")
        headline = (count, f" {buildings}, none assessed: there is no image from after")
    if skipped["buildings"]:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in skipped["reasons"].items())
        about.append(f"Not assessed: {skipped['buildings']:,}. Reasons: {reasons}.")
    if mode == "post-only":
        colours = (*DESTROYED_OR_NOT.colours[1:], NOT_ASSESSED_COLOUR)
        names = [(name, label(name), c) for name, c in zip(ONE_DATE_VALUES, colours, strict=True)]
        legend = _counted(names, kinds)
    else:  # not dashed and pale as what a map of damage leaves out: they are all that there is
        kinds = np.zeros(len(frame), np.int64)
        legend = (Kind(NOT_ASSESSED, "Building, not assessed", BUILDING.colours[1], f"{len(frame):,}", None),)
    return View(
        heading=f"{'Damage' if mode == 'post-only' else 'Buildings'}, {mode}",
        headline=headline,
        pictures=(image, second),
        mode="pre",
        kinds=legend,
        about=(*about, describe_size(grid)),
        objects=Objects(frame, in_pixels(frame, grid), kinds, on=0, tinted=mode == "post-only"),
    )


def building_view(
    frame: gpd.GeoDataFrame, image: Picture, probability: Picture, grid: Grid, summary: dict[str, Any]
) -> View:
    """Buildings of a single date, by confidence.

    Args:
        frame: buildings with the columns of `products.vectors.BUILDING_COLUMNS`, in the grid's reference system.
        image: the scene.
        probability: p(building) as a picture.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.summary.summarise_buildings`.

    Raises:
        ValueError: the frame breaks the contract of its columns.
    """
    frame = normalise(frame, BUILDING_LAYER)
    kinds, area = grade(frame), summary["area_m2"]
    graded = [
        (name, f"{name.capitalize()}, from {least:.0%}" if least else name.capitalize(), colour)
        for name, least, colour in GRADES
    ]
    unseen = [(NOT_ASSESSED, "Not seen", NOT_ASSESSED_COLOUR)] if (kinds == len(GRADES)).any() else []
    about = (
        f"Confidence, {UNCALIBRATED}: mean p(building) within the outline times the share of it that was seen. "
        f"The model was shown {summary['mode']}."
    )
    count, _, buildings = counted(len(frame), "building").partition(" ")
    return View(
        heading="Buildings",
        headline=(count, f" {buildings}" + ("" if area is None else f" on {area:,.0f} m²")),
        pictures=(image, probability),
        mode="pre",
        kinds=_counted([*graded, *unseen], kinds),
        about=(about, describe_size(grid)),
        objects=Objects(frame, in_pixels(frame, grid), kinds, on=0, tinted=False),
    )


def cover_view(
    image: Picture, cover: np.ndarray, grid: Grid, summary: dict[str, Any], *, before: Picture | None = None
) -> View:
    """Classes of every pixel of a single date, or of what became of two.

    Args:
        image: the scene; its `rgb` is (3, H, W).
        cover: uint8 (H, W) class indices of the same size; those beyond the classes are not assessed.
        grid: the grid that was mapped, at full resolution.
        summary: the result of `products.class_layers.summarise_classes`.
        before: the first of two dates, shown beside the classes; `image` is the second then.
    """
    found, missed = summary["classes"], summary["not_assessed"]
    kinds = tuple(
        Kind(
            name,
            label(name),
            row["colour"],
            ground(row["area_m2"], row["pixels"]),
            row["share"],
            background=name == summary["background"],
        )
        for name, row in found.items()
    )
    about = [f"Legend: {summary['legend']}. Shares are of the assessed area."]
    if missed["pixels"]:
        reasons = ", ".join(f"{reason} ({pixels:,} px)" for reason, pixels in missed["reasons"].items())
        about.append(f"Not assessed: {100 * missed['share_of_all']:.1f} %. Reasons: {reasons}.")
    headline = (
        ground(summary["area_m2"], summary["assessed_px"]),
        f" in {counted(len(found), 'class', 'classes')}",
    )
    colours = {index: kind.colour for index, kind in enumerate(kinds) if not kind.background}
    painted = "Classes" if before is None else "After"
    return View(
        heading="Classes",
        headline=headline if summary["assessed_px"] else ("", "Nothing was assessed"),
        pictures=(before or image, Picture(painted, paint(image.rgb, cover, colours))),
        mode="post" if before is None else "swipe",
        kinds=kinds,
        about=(*about, describe_size(grid)),
        cover=cover,
        under=None if before is None else image,
    )


def ground(area_m2: float | None, pixels: int) -> str:
    """An area in words, in pixels where it is not known."""
    if area_m2 is None:
        return f"{pixels:,} px"
    if area_m2 >= _HECTARE_FROM_M2:
        return f"{area_m2 / _HECTARE_FROM_M2:,.1f} ha"
    return f"{area_m2:,.0f} m²"


def label(name: str) -> str:
    """A class's name to be read: `low_vegetation` as `Low vegetation`."""
    words = name.replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def describe_size(grid: Grid) -> str:
    """Size and resolution of a map, in words."""
    size = f"{grid.width:,} x {grid.height:,} pixels"
    if grid.crs is not None:
        size += f" of {grid.resolution_m:.2f} m, {grid.crs.to_string()[:60]}"
    return f"Mapped at {size}; the imagery on this page may be reduced. Made with aftermap {__version__}."


def _counted(named: Sequence[tuple[str, str, str]], kinds: np.ndarray) -> tuple[Kind, ...]:
    """Kinds of buildings (name, label, colour) with their numbers and shares of the assessed ones."""
    counts = np.bincount(kinds, minlength=len(named)).tolist()
    assessed = sum(count for (name, _, _), count in zip(named, counts, strict=True) if name != NOT_ASSESSED)
    return tuple(
        Kind(
            name,
            words,
            colour,
            f"{count:,}",
            count / assessed if assessed and name != NOT_ASSESSED else None,
            assessed=name != NOT_ASSESSED,
        )
        for (name, words, colour), count in zip(named, counts, strict=True)
    )
