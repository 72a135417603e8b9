"""One image of a catalogue: where its pixels lie, and what its item says of how it was taken."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import DataError
from aftermap.remote import Address

if TYPE_CHECKING:
    import pystac

VISUAL = "visual"
NUMBERS = ("off_nadir", "azimuth", "sun_elevation", "cloud", "gsd")
WORDS = ("platform", "licence", "credit", "collection")
_COG = "image/tiff"


@dataclass(frozen=True)
class CatalogueImage:
    """An image as a catalogue describes it; what that does not say is None.

    Attributes:
        item: id of its item.
        item_address: where that lies.
        address: where the pixels lie.
        acquisition: what it is a part of: one pass of one sensor.
        acquired: when, in UTC.
        outline: its ground in degrees.
        tile: cell of a grid that other dates share, such as a quadkey.
        off_nadir: angle of the view, in degrees.
        azimuth: of the view, in degrees from north.
        sun_elevation: in degrees.
        cloud: share that clouds hide, 0 to 1.
        gsd: pixel size on the ground, in metres.
        platform: the satellite.
        licence: of the image, SPDX or in words.
        credit: who provides it.
        collection: id of its collection.
    """

    item: str
    item_address: str
    address: str
    acquisition: str
    acquired: datetime
    outline: BaseGeometry
    tile: str | None = None
    off_nadir: float | None = None
    azimuth: float | None = None
    sun_elevation: float | None = None
    cloud: float | None = None
    gsd: float | None = None
    platform: str | None = None
    licence: str | None = None
    credit: str | None = None
    collection: str | None = None

    def told(self) -> dict[str, Any]:
        """What records say of it, beside the address of its pixels."""
        return {
            "item": self.item,
            "item_address": self.item_address,
            "acquisition": self.acquisition,
            "acquired": self.acquired.isoformat().replace("+00:00", "Z"),
            **{name: getattr(self, name) for name in (*NUMBERS, *WORDS) if getattr(self, name) is not None},
        }


@dataclass(frozen=True)
class Source:
    """What a collection says of all its items: licence and who provides them."""

    licence: str | None = None
    credit: str | None = None
    collection: str | None = None

    @classmethod
    def of(cls, collection: "pystac.Collection", above: "Source | None" = None) -> "Source":
        """Of a collection, and where that says nothing of the one above it."""
        above = above or cls()
        names = [provider.name for provider in collection.providers or () if provider.name]
        licence = collection.license
        if licence in ("proprietary", "various", "other"):
            links = [str(link.absolute_href) for link in collection.links if link.rel == "license"]
            licence = f"{licence} ({links[0]})" if links else licence
        return cls(licence or above.licence, ", ".join(dict.fromkeys(names)) or above.credit, collection.id)


def image_of(
    item: "pystac.Item", source: Source | None = None, *, asset: str | None = None
) -> CatalogueImage:
    """Take what is needed from an item.

    Args:
        item: with its own address, so that relative ones are known.
        source: what its collection says.
        asset: key of the image; by default `visual`, else the only one with that role, else the only GeoTIFF of data.

    Raises:
        DataError: it has no image, no date or no place.
    """
    source, properties = source or Source(), item.properties
    chosen = _asset(item, asset)
    if item.geometry is None:
        raise DataError(f"STAC item {item.id} has no place")
    outline = shapely.make_valid(shapely.geometry.shape(item.geometry))
    providers = [
        str(each.get("name")) for each in properties.get("providers") or () if isinstance(each, Mapping)
    ]
    here = Address.of(item.get_self_href() or ".")
    place = here.refer(chosen.href)
    if place.scheme == "file" and here.scheme != "file":
        raise DataError(f"STAC item {item.id} names a file of this machine as its image: {place.shown}")
    return CatalogueImage(
        item=item.id,
        item_address=str(here),
        address=str(place),
        acquisition=_acquisition(item, source),
        acquired=_acquired(item),
        outline=outline,
        tile=_text(properties, "grid:code", "quadkey", "tile:quadkey"),
        off_nadir=_number(properties, "view:off_nadir", "off_nadir", "off_nadir_avg"),
        azimuth=_number(properties, "view:azimuth"),
        sun_elevation=_number(properties, "view:sun_elevation"),
        cloud=_cloud(properties),
        gsd=_number({**properties, **_set(chosen.extra_fields, "gsd")}, "gsd", "eo:gsd", "pan_gsd"),
        platform=_text(properties, "platform", "constellation"),
        licence=_text(properties, "license") or source.licence,
        credit=", ".join(dict.fromkeys(providers)) or source.credit,
        collection=item.collection_id or source.collection,
    )


def _asset(item: "pystac.Item", wanted: str | None) -> "pystac.Asset":
    listed = ", ".join(sorted(item.assets)) or "none"
    if wanted is not None:
        if wanted in item.assets:
            return item.assets[wanted]
        raise DataError(f"STAC item {item.id} has no asset {wanted}: its assets are {listed}")
    if VISUAL in item.assets:
        return item.assets[VISUAL]
    for role in (VISUAL, "data"):
        found = [
            each
            for each in item.assets.values()
            if role in (each.roles or ()) and str(each.media_type).startswith(_COG)
        ]
        if len(found) == 1:
            return found[0]
    rasters = [each for each in item.assets.values() if str(each.media_type).startswith(_COG)]
    if len(rasters) == 1:
        return rasters[0]
    raise DataError(
        f"STAC item {item.id}: it is not clear which asset is the image in colour: name one of {listed} with --asset"
    )


def _acquired(item: "pystac.Item") -> datetime:
    when = item.datetime or item.common_metadata.start_datetime
    if when is None:
        raise DataError(f"STAC item {item.id} has no date")
    return when.astimezone(UTC) if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _acquisition(item: "pystac.Item", source: Source) -> str:
    told = _text(item.properties, "catalog_id", "acquisition_id", "strip_id", "s2:datatake_id", "oam:uuid")
    if told:
        return told
    moment = f"{_acquired(item):%Y-%m-%dT%H:%M}"
    return " ".join(
        part for part in (_text(item.properties, "platform") or source.collection, moment) if part
    )


def _cloud(properties: Mapping[str, Any]) -> float | None:
    """Of the tile where that is told, else of the whole acquisition."""
    percent = _number(properties, "tile:clouds_percent", "eo:cloud_cover", "cloud_cover")
    return None if percent is None else min(1.0, max(0.0, percent / 100))


def _number(tree: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        value = tree.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None


def _text(tree: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        value = tree.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return None


def _set(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: tree[name]} if tree.get(name) is not None else {}
