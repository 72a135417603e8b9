"""`aftermap find`: the pairs of a catalogue that show an area before and after a day."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TypedDict

import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataError, InputError
from aftermap.extras import needs
from aftermap.geo.grid import Grid
from aftermap.geo.vectors import read_area_of_interest
from aftermap.remote import Address, Online, is_address
from aftermap.wording import counted
from aftermap.workflows.catalogues.pairing import Pair, propose
from aftermap.workflows.catalogues.stac import Days, search

YEARS_BEFORE = 5
DAYS_AFTER = 90
_DEGREE_PX = 1_000_000
_RANGE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:/(\d{4}-\d{2}-\d{2}))?")


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        catalogue: address that was searched, as it may be shown.
        area: that was asked for, in degrees.
        pairs: the best first.
        before: images from before that touch the area.
        after: images from after.
        files: of the catalogue that were read.
        bytes_read: of them.
        left_out: items that could not be used, with the reason.
    """

    catalogue: str
    area: BaseGeometry
    pairs: tuple[Pair, ...]
    before: int
    after: int
    files: int
    bytes_read: int
    left_out: tuple[str, ...]


class FindOptions(TypedDict, total=False):
    """Keywords of `find_pairs` beside the days."""

    collections: Sequence[str]
    asset: str | None
    most_cloud: float
    most_off_nadir: float
    limit: int
    online: Online | None
    progress: Callable[[int], None] | None


_ROOTS = ("catalog.json", "collection.json")


def _file_of(catalogue: str) -> Address:
    """The address of a catalogue.

    Raises:
        InputError: it is a folder of this machine.
    """
    if not is_address(catalogue) and (folder := Path(catalogue)).is_dir():
        roots = [name for name in _ROOTS if (folder / name).is_file()] or ["catalog.json"]
        raise InputError(f"{folder} is a folder: pass the file of its catalogue, such as {folder / roots[0]}")
    return Address.of(catalogue)


def find_pairs(
    catalogue: str,
    aoi: Path,
    *,
    before: str,
    after: str | None = None,
    collections: Sequence[str] = (),
    asset: str | None = None,
    most_cloud: float = 1.0,
    most_off_nadir: float = 90.0,
    limit: int = 20,
    online: Online | None = None,
    progress: Callable[[int], None] | None = None,
) -> Found:
    """Look for pairs of images.

    Args:
        catalogue: address or path of a STAC catalogue, collection or item collection, or of an API.
        aoi: vector file of polygons.
        before: a day, before which the first image was taken (5 years are looked at), or `FIRST/LAST`.
        after: a day, on which or after which the second was taken (90 days are looked at), or `FIRST/LAST`; by default
            the day of `before`.
        collections: ids of an API's collections; all of them by default.
        asset: key of the image in colour; see `picture.image_of`.
        most_cloud: share of clouds above which an acquisition is left out, 0 to 1.
        most_off_nadir: angle likewise, in degrees.
        limit: most pairs to give.
        online: reads the catalogue; by default within the reach of a user.
        progress: told how many files of the catalogue were read.

    Raises:
        InputError: a day is none, or the area cannot be read.
        RemoteError: the catalogue cannot be read.
        DataError: it is no STAC, or has no pair.
        MissingExtraError: the extra `catalog` is not installed.
    """
    needs("aftermap find", "catalog")
    address = _file_of(catalogue)
    online = online or Online(named=[address])
    if after is None and "/" in before:
        raise InputError(f"--before {before} is a span: pass --after too")
    first, second = days_before(before), days_after(before if after is None else after)
    if first.last > second.last or first.first > second.first:
        raise InputError(f"--before {before} lies after --after {after}: exchange them")
    area = area_lonlat(aoi)
    walked = search(
        address, online, area, (first, second), collections=collections, asset=asset, progress=progress
    )
    early = [image for image in walked.images if first.hold(image.acquired)]
    late = [image for image in walked.images if second.hold(image.acquired) and image not in early]
    for images, days, option in ((early, first, "--before"), (late, second, "--after")):
        if not images:
            raise DataError(
                f"{address.shown} has no image of the area from {days.first} to {days.last}"
                f"{_left_out(walked.left_out)}: pass another {option}, such as {option} FIRST/LAST, or another catalogue"
            )
    pairs = propose(
        early,
        late,
        area,
        event=(first.last, second.first),
        most_cloud=most_cloud,
        most_off_nadir=most_off_nadir,
    )
    if not pairs:
        raise DataError(
            f"{address.shown} has {counted(len(early), 'image')} of the area from before and {len(late)} from after, and "
            "no two of them show the same ground within the limits: allow more clouds or larger angles"
        )
    return Found(
        catalogue=address.shown,
        area=area,
        pairs=tuple(pairs[:limit]),
        before=len(early),
        after=len(late),
        files=walked.files,
        bytes_read=online.budget.spent,
        left_out=tuple(walked.left_out),
    )


def days_before(text: str) -> Days:
    """The days that `--before` means.

    Raises:
        InputError: it is no day.
    """
    first, last = _days(text, "--before")
    if last is not None:
        return Days(first, last)
    return Days(first - timedelta(days=round(365.25 * YEARS_BEFORE)), first - timedelta(days=1))


def days_after(text: str) -> Days:
    """The days that `--after` means.

    Raises:
        InputError: it is no day.
    """
    first, last = _days(text, "--after")
    return Days(first, last or first + timedelta(days=DAYS_AFTER))


def area_lonlat(aoi: Path) -> BaseGeometry:
    """The polygons of a vector file in degrees.

    Raises:
        FootprintError: the file cannot be read, or holds no polygons.
        GeoreferenceError: it names no reference system.
    """
    globe = Grid(
        CRS.from_epsg(4326),
        Affine(1 / _DEGREE_PX, 0, -180, 0, -1 / _DEGREE_PX, 90),
        360 * _DEGREE_PX,
        180 * _DEGREE_PX,
    )
    inside = read_area_of_interest(aoi, grid=globe)

    def degrees(points: np.ndarray) -> np.ndarray:
        return np.column_stack([points[:, 0] / _DEGREE_PX - 180, 90 - points[:, 1] / _DEGREE_PX])

    return shapely.make_valid(shapely.transform(inside, degrees))


def _days(text: str, option: str) -> tuple[date, date | None]:
    found = _RANGE.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        first = date.fromisoformat(found[1])
        last = None if found[2] is None else date.fromisoformat(found[2])
    except ValueError:
        raise InputError(
            f"{option} {text} is no day: pass one such as 2023-02-06, or FIRST/LAST such as 2022-01-01/2023-02-05"
        ) from None
    if last is not None and last < first:
        raise InputError(f"{option} {text} ends before it begins")
    return first, last


def _left_out(reasons: Sequence[str]) -> str:
    return f" ({counted(len(reasons), 'item')} could not be used, such as: {reasons[0]})" if reasons else ""
