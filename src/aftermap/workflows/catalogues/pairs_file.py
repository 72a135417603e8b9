"""Pairs in files: a STAC item collection for `map --pair`, a table of tiles for `map-many`, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataError, OutputError, shown
from aftermap.files import csv_text, read_json, write_json, write_text
from aftermap.workflows.catalogues.pairing import Acquisition, Pair, covering
from aftermap.workflows.catalogues.picture import NUMBERS, WORDS, CatalogueImage

COLUMNS = ("name", "pre", "post", "footprints", "cloud_mask", "pre_date", "post_date")
"""Of the table: those of `aftermap map-many`."""

_ROLES = {"pre": "before", "post": "after"}
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True)
class ChosenPair:
    """A pair as a file holds it, ready to be mapped.

    Attributes:
        name: of it.
        before: its images from before.
        after: its images from after.
        area: the ground that was asked for, in degrees.
    """

    name: str
    before: tuple[CatalogueImage, ...]
    after: tuple[CatalogueImage, ...]
    area: BaseGeometry


def pairs_tree(pairs: Sequence[Pair], area: BaseGeometry, *, catalogue: str) -> dict[str, Any]:
    """Ranked pairs as a STAC item collection: an item each, its images as assets with the roles `pre` and `post`."""
    return {
        "type": "FeatureCollection",
        "aftermap:format": 1,
        "aftermap:catalogue": catalogue,
        "aftermap:area": shapely.geometry.mapping(area),
        "features": [_item(rank, pair) for rank, pair in enumerate(pairs, start=1)],
    }


def _item(rank: int, pair: Pair) -> dict[str, Any]:
    dates = {
        "pre": (pair.before, pair.before.acquired),
        "post": (pair.after, pair.after.acquired),
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": pair.name,
        "geometry": shapely.geometry.mapping(pair.outline),
        "bbox": list(pair.outline.bounds),
        "properties": {
            "datetime": None,
            "start_datetime": _moment(pair.before.acquired),
            "end_datetime": _moment(pair.after.acquired),
            "aftermap:rank": rank,
            "aftermap:score": round(pair.reasons.score, 4),
            "aftermap:reasons": {
                name: round(getattr(pair.reasons, name), 4)
                for name in ("overlap", "clear", "angle", "resolution", "dates")
            },
            **{f"aftermap:{date}_date": when.date().isoformat() for date, (_, when) in dates.items()},
            **{f"aftermap:{date}": summary_of(found) for date, (found, _) in dates.items()},
        },
        "links": [],
        "assets": {
            name: _asset(image, date)
            for date, (found, _) in dates.items()
            for name, image in _named(date, found.images).items()
        },
    }


def summary_of(found: Acquisition) -> dict[str, Any]:
    """What is known of an acquisition."""
    numbers = {name: found.mean(name) for name in NUMBERS}
    return {
        "acquisition": found.name,
        "acquired": _moment(found.acquired),
        "images": len(found.images),
        **{name: None if value is None else round(value, 3) for name, value in numbers.items()},
        **{name: found.each(name) for name in WORDS},
    }


def _named(date: str, images: Sequence[CatalogueImage]) -> dict[str, CatalogueImage]:
    """One image is called by its date; several are numbered, so that nobody takes one for all."""
    if len(images) == 1:
        return {date: images[0]}
    return {f"{date}-{number}": image for number, image in enumerate(images, start=1)}


def _asset(image: CatalogueImage, date: str) -> dict[str, Any]:
    return {
        "href": image.address,
        "type": _COG,
        "roles": [date, "data"],
        "aftermap:image": image.told()
        | {"tile": image.tile, "outline": shapely.geometry.mapping(image.outline)},
    }


def check_ending(path: Path) -> None:
    """Refuse a name from which nobody can tell what is to be written.

    Raises:
        OutputError: it ends neither in `.json` or `.geojson` nor in `.csv`.
    """
    if path.suffix.lower() not in (".json", ".geojson", ".csv"):
        raise OutputError(
            f"cannot write {path}: expected NAME.json for 'aftermap map --pair', or NAME.csv for 'aftermap map-many'"
        )


def write_pairs(path: Path, pairs: Sequence[Pair], area: BaseGeometry, *, catalogue: str) -> Path:
    """Write pairs: `.csv` is the table of tiles, `.json` the item collection.

    Raises:
        OutputError: its name ends in something else, or the file cannot be written.
    """
    check_ending(path)
    if path.suffix.lower() != ".csv":
        return write_json(path, pairs_tree(pairs, area, catalogue=catalogue), parents=True)
    rows = [
        [
            each.name, each.before.address, each.after.address, "", "", each.before.acquired.date().isoformat(),
            each.after.acquired.date().isoformat(),
        ]
        for each in covering(pairs)
    ]  # fmt: skip
    return write_text(path, csv_text([list(COLUMNS), *rows]), parents=True)


def part_rank(named: str) -> tuple[Path, str]:
    """The file and the rank, or id, of `FILE:RANK`; the first where none is named."""
    file, _, wanted = named.rpartition(":")
    return (Path(file), wanted) if file and not Path(named).is_file() else (Path(named), "1")


def read_pair(path: Path, wanted: str = "1") -> ChosenPair:
    """One pair of an item collection that `write_pairs` wrote.

    Args:
        path: of the file.
        wanted: its rank, from 1, or its id.

    Raises:
        DataError: there is no such pair, or the file is another one.
    """
    tree = read_json(path, error=DataError)
    features = tree.get("features") if isinstance(tree, dict) else None
    if not isinstance(features, list) or "aftermap:area" not in tree:
        raise DataError(f"{path} holds no pairs, expected a file of 'aftermap find -o pairs.json'")
    ids = [str(item.get("id")) if isinstance(item, dict) else "" for item in features]
    index = ids.index(wanted) if wanted in ids else int(wanted) - 1 if wanted.isdecimal() else -1
    if not 0 <= index < len(features):
        raise DataError(
            f"{path} has no pair {shown(wanted)}: it has {len(features)}, pass a number from 1, or an id"
        )
    try:
        item = features[index]
        images = {
            date: tuple(
                _image(asset)
                for asset in item["assets"].values()
                if isinstance(asset, dict) and date in asset["roles"]
            )
            for date in _ROLES
        }
        area = shapely.geometry.shape(tree["aftermap:area"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}, pair {wanted}: it cannot be understood ({error!r})") from None
    if not images["pre"] or not images["post"]:
        raise DataError(f"{path}, pair {wanted}: it lacks the image of a date")
    return ChosenPair(ids[index], images["pre"], images["post"], area)


def _image(asset: Mapping[str, Any]) -> CatalogueImage:
    told = asset["aftermap:image"]
    acquired = datetime.fromisoformat(str(told["acquired"]))
    return CatalogueImage(
        item=str(told["item"]),
        item_address=str(told["item_address"]),
        address=str(asset["href"]),
        acquisition=str(told["acquisition"]),
        acquired=acquired,
        outline=shapely.geometry.shape(told["outline"]),
        tile=_or_none(told.get("tile"), str),
        **{name: _or_none(told.get(name), float) for name in NUMBERS},
        **{name: _or_none(told.get(name), str) for name in WORDS},
    )


def _or_none(value: Any, kind: type) -> Any:
    return None if value is None else kind(value)


def _moment(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
