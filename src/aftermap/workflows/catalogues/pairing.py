"""Pairs of acquisitions, one from before and one from after, ranked by what a map of damage needs of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.workflows.catalogues.picture import CatalogueImage

HALF_LIFE_BEFORE_DAYS = 730.0
"""An image from before loses half of its worth in so many days: towns change."""

HALF_LIFE_AFTER_DAYS = 14.0
"""The same of one from after: rubble is cleared, tents are put up."""

FULL_RESOLUTION_M = 0.6
"""Pixels up to this size are worth the same; larger ones less, by their size."""

NOT_TOLD = 0.7
"""What a reason counts that the catalogue does not tell."""

LEAST_OVERLAP = 0.01
_CELL_OVERLAP = 0.3


@dataclass(frozen=True)
class Acquisition:
    """The images of one pass over an area.

    Attributes:
        name: of the pass.
        images: its tiles that touch the area, sorted by address.
        outline: the ground of them that lies in the area, in degrees.
    """

    name: str
    images: tuple[CatalogueImage, ...]
    outline: BaseGeometry

    @property
    def acquired(self) -> datetime:
        """When the first of its tiles was taken."""
        return min(image.acquired for image in self.images)

    def mean(self, name: str) -> float | None:
        """The mean of a number over its tiles that tell it, by their ground in the area."""
        told = [
            (getattr(image, name), max(image.outline.intersection(self.outline).area, 1e-18))
            for image in self.images
            if getattr(image, name) is not None
        ]
        return sum(value * size for value, size in told) / sum(size for _, size in told) if told else None

    def each(self, name: str) -> str | None:
        """The words of its tiles, each once."""
        return ", ".join(sorted({str(v) for i in self.images if (v := getattr(i, name)) is not None})) or None


@dataclass(frozen=True)
class Reasons:
    """Why a pair stands where it stands; each from 0 to 1, and `score` is their product.

    Attributes:
        overlap: share of the area that both dates show.
        clear: what clouds leave of both.
        angle: cosines of both off-nadir angles: roofs lean, and facades hide the ground.
        resolution: `FULL_RESOLUTION_M` over the larger pixel size, at most 1.
        dates: how close both are to the event, by the two half-lives.
    """

    overlap: float
    clear: float
    angle: float
    resolution: float
    dates: float

    @property
    def score(self) -> float:
        """All of them together."""
        return self.overlap * self.clear * self.angle * self.resolution * self.dates


@dataclass(frozen=True)
class Pair:
    """Two acquisitions that may be mapped together.

    Attributes:
        before: the first.
        after: the second.
        outline: the ground in the area that both show, in degrees.
        reasons: for its rank.
    """

    before: Acquisition
    after: Acquisition
    outline: BaseGeometry
    reasons: Reasons

    @property
    def name(self) -> str:
        """Both passes."""
        return f"{self.before.name}_{self.after.name}"


def acquisitions(images: Iterable[CatalogueImage], area: BaseGeometry) -> list[Acquisition]:
    """Images by the pass that they were taken in; an image that appears twice counts once."""
    grouped: dict[tuple[str, date], dict[str, CatalogueImage]] = {}
    for image in images:
        grouped.setdefault((image.acquisition, image.acquired.date()), {})[image.address] = image
    found = []
    for (name, _), tiles in grouped.items():
        outline = shapely.union_all([tile.outline for tile in tiles.values()]).intersection(area)
        ordered = tuple(tiles[address] for address in sorted(tiles))
        if outline.area > 0:
            found.append(Acquisition(name, ordered, outline))
    return sorted(found, key=lambda each: (each.acquired, each.name))


def propose(
    before: Sequence[CatalogueImage],
    after: Sequence[CatalogueImage],
    area: BaseGeometry,
    *,
    event: tuple[date, date],
    most_cloud: float = 1.0,
    most_off_nadir: float = 90.0,
) -> list[Pair]:
    """All pairs that show a part of the area on both dates, the best first.

    Args:
        before: images from before.
        after: images from after.
        area: polygons in degrees.
        event: last day that counts as before, and first that counts as after.
        most_cloud: an acquisition with a larger share of clouds is left out.
        most_off_nadir: likewise one that looked from a larger angle, in degrees.
    """
    first, second = (
        [
            each
            for each in acquisitions(images, area)
            if (each.mean("cloud") or 0) <= most_cloud and (each.mean("off_nadir") or 0) <= most_off_nadir
        ]
        for images in (before, after)
    )
    pairs = []
    for one in first:
        for two in second:
            outline = one.outline.intersection(two.outline)
            overlap = min(1.0, outline.area / area.area)
            if overlap < LEAST_OVERLAP or {i.address for i in one.images} & {i.address for i in two.images}:
                continue
            pairs.append(Pair(one, two, outline, _reasons(one, two, overlap, event)))
    return sorted(pairs, key=lambda pair: (-pair.reasons.score, pair.after.acquired, pair.name))


def _reasons(before: Acquisition, after: Acquisition, overlap: float, event: tuple[date, date]) -> Reasons:
    days_before = max(0, (event[0] - before.acquired.date()).days)
    days_after = max(0, (after.acquired.date() - event[1]).days)
    return Reasons(
        overlap=overlap,
        clear=math.prod(NOT_TOLD if (c := each.mean("cloud")) is None else 1 - c for each in (before, after)),
        angle=math.prod(
            NOT_TOLD if (a := each.mean("off_nadir")) is None else max(0.0, math.cos(math.radians(a)))
            for each in (before, after)
        ),
        resolution=_resolution(before.mean("gsd"), after.mean("gsd")),
        dates=0.5 ** (days_before / HALF_LIFE_BEFORE_DAYS) * 0.5 ** (days_after / HALF_LIFE_AFTER_DAYS),
    )


def _resolution(*sizes: float | None) -> float:
    told = [size for size in sizes if size is not None and size > 0]
    return min(1.0, FULL_RESOLUTION_M / max(told)) if told else NOT_TOLD


@dataclass(frozen=True)
class TilePair:
    """One image of each date over the same ground.

    Attributes:
        name: unique among those of a search.
        before: the first.
        after: the second.
    """

    name: str
    before: CatalogueImage
    after: CatalogueImage


def covering(pairs: Sequence[Pair]) -> list[TilePair]:
    """Tiles of the best pairs, as few as cover all the ground that any pair shows, each ground by the best of them."""
    covered: BaseGeometry = shapely.Polygon()
    chosen: list[TilePair] = []
    for pair in pairs:
        for two in pair.after.images:
            for one in _beneath(two, pair.before.images):
                ground = one.outline.intersection(two.outline).intersection(pair.outline)
                fresh = ground.difference(covered)
                if ground.area == 0 or fresh.area < _CELL_OVERLAP * ground.area:
                    continue
                covered = shapely.union_all([covered, ground])
                tile = one.tile if one.tile == two.tile and one.tile else f"{len(chosen) + 1:03d}"
                chosen.append(TilePair(f"{tile}_{one.acquired:%Y%m%d}_{two.acquired:%Y%m%d}", one, two))
    return chosen


def _beneath(image: CatalogueImage, others: Sequence[CatalogueImage]) -> list[CatalogueImage]:
    """The tiles of the other date on the ground of an image: that of its cell, else all that touch it."""
    same = [other for other in others if other.tile is not None and other.tile == image.tile]
    touching = [other for other in others if other.outline.intersection(image.outline).area > 0]
    return same or sorted(touching, key=lambda o: -o.outline.intersection(image.outline).area)
