"""Walks a static STAC catalogue, or asks an API, for the images of an area and of some days."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import AftermapError, DataError, RemoteError
from aftermap.remote import Address, Online
from aftermap.workflows.catalogues.picture import CatalogueImage, Source, image_of

if TYPE_CHECKING:
    import pystac

MOST_BYTES = 32 << 20
"""Of one JSON file of a catalogue."""

Built = TypeVar("Built")

_MOST_FILES = 20_000
_DEEPEST = 12
_AT_ONCE = 8
_PAGES_OF = 250


@dataclass(frozen=True)
class Days:
    """From a day to a day, both of them within."""

    first: date
    last: date

    def hold(self, moment: datetime) -> bool:
        """Whether a moment lies in them, in UTC."""
        return self.first <= moment.astimezone(UTC).date() <= self.last

    def touch(self, begun: datetime | None, ended: datetime | None) -> bool:
        """Whether an interval, open where None stands, has a part in them."""
        return (begun is None or _aware(begun).date() <= self.last) and (
            ended is None or _aware(ended).date() >= self.first
        )

    @property
    def interval(self) -> tuple[datetime, datetime]:
        """As moments."""
        return (
            datetime.combine(self.first, time.min, UTC),
            datetime.combine(self.last + timedelta(days=1), time.min, UTC) - timedelta(seconds=1),
        )


@dataclass
class Walked:
    """What a search came upon.

    Attributes:
        images: that lie in the area and the days.
        files: of the catalogue that were read.
        left_out: items that could not be used, with the reason.
    """

    images: list[CatalogueImage] = field(default_factory=list)
    files: int = 0
    left_out: list[str] = field(default_factory=list)


def search(
    catalogue: Address,
    online: Online,
    area: BaseGeometry,
    days: Sequence[Days],
    *,
    collections: Sequence[str] = (),
    asset: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Walked:
    """The images of a catalogue that touch an area in some days.

    A static catalogue is walked from its root, collection or item on; a child whose extent touches neither the area nor
    the days is not opened. Of an API its search is asked.

    Args:
        catalogue: a STAC catalogue, collection, item collection or item, or the landing page of an API.
        online: reads it.
        area: polygons in degrees.
        days: images of any of these.
        collections: ids; others are left out. For APIs only.
        asset: see `picture.image_of`.
        progress: told how many files of the catalogue were read.

    Raises:
        RemoteError: it cannot be read.
        DataError: it is no STAC.
    """
    reader = _Reader(online, progress)
    root = reader.read(catalogue)
    if _is_api(root):
        return _ask(root, reader, catalogue, area, days, collections, asset)
    found = Walked()
    for item, source in _walk(root, catalogue, reader, area, days):
        _take(item, source, area, days, asset, found)
    found.files = reader.count
    return found


def read_item(address: Address, online: Online, *, asset: str | None = None) -> CatalogueImage:
    """The image of one item, with what its collection says where that can be read.

    Raises:
        RemoteError: the item cannot be read.
        DataError: it is none, or has no image.
    """
    reader = _Reader(online, None)
    tree = reader.read(address)
    if tree.get("type") != "Feature":
        raise DataError(f"{address.shown} is no STAC item: its type is {str(tree.get('type'))[:40]}")
    item = _item(tree, address)
    source = None
    for rel in ("collection", "parent"):
        link = item.get_single_link(rel)
        if link is None:
            continue
        try:
            place = _linked(link, address)
            source = Source.of(_collection(reader.read(place), place))
            break
        except AftermapError:
            continue  # it is there to be told of, and is not needed
    return image_of(item, source, asset=asset)


class _Reader:
    """Reads JSON files of a catalogue, and counts them."""

    def __init__(self, online: Online, progress: Callable[[int], None] | None) -> None:
        self.online, self.count = online, 0
        self._progress = progress or (lambda count: None)

    def read(self, address: Address) -> dict[str, Any]:
        return _parsed(self.told(self.online.read(address, most_bytes=MOST_BYTES)), address)

    def told(self, data: bytes) -> bytes:
        self.count += 1
        if self.count > _MOST_FILES:
            raise DataError(
                f"the catalogue has more than {_MOST_FILES:,} files: pass the collection of the event"
            )
        self._progress(self.count)
        return data


def _walk(
    root: dict[str, Any], address: Address, reader: _Reader, area: BaseGeometry, days: Sequence[Days]
) -> Iterator[tuple["pystac.Item", Source]]:
    """Items below a catalogue, several files at a time."""
    kind = root.get("type")
    if kind == "FeatureCollection":
        for tree in root.get("features") or ():
            yield _item(tree, address), Source()
        return
    if kind == "Feature":
        yield _item(root, address), Source()
        return
    seen = {str(address)}
    level: list[tuple[dict[str, Any], Address, Source]] = [(root, address, Source())]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in range(_DEEPEST):
            children: list[tuple[Address, Source]] = []
            items: list[tuple[Address, Source]] = []
            for tree, place, above in level:
                node, source = _node(tree, place, above)
                if node is None:
                    continue
                if not _may_hold(node, area, days):
                    continue
                for rel, listed in (("child", children), ("item", items)):
                    for link in node.get_links(rel):
                        target = _linked(link, place)
                        if str(target) not in seen:
                            seen.add(str(target))
                            listed.append((target, source))
            for (place, source), tree in zip(
                items, pool.map(reader.read, [p for p, _ in items]), strict=True
            ):
                yield _item(tree, place), source
            read = pool.map(reader.read, [place for place, _ in children])
            level = [(tree, place, source) for (place, source), tree in zip(children, read, strict=True)]
            if not level:
                return
    raise DataError(f"{address.shown}: its catalogues lie more than {_DEEPEST} deep in each other")


def _node(tree: dict[str, Any], place: Address, above: Source) -> tuple["pystac.Catalog | None", Source]:
    """A catalogue or collection, and what it says of its items; an item that a child link leads to is none."""
    import pystac

    if tree.get("type") == "Collection":
        collection = _collection(tree, place)
        return collection, Source.of(collection, above)
    if tree.get("type") != "Catalog" and "links" not in tree:
        raise DataError(f"{place.shown} is no STAC: its type is {str(tree.get('type'))[:40]}")
    return _built(lambda: pystac.Catalog.from_dict(tree, href=str(place), migrate=True), place), above


def _may_hold(node: "pystac.Catalog", area: BaseGeometry, days: Sequence[Days]) -> bool:
    """Whether what a collection says of its extent leaves room for images that are looked for."""
    import pystac

    if not isinstance(node, pystac.Collection):
        return True
    boxes = [box for box in node.extent.spatial.bboxes if len(box) in (4, 6)]
    overall = boxes[:1] if len(boxes) < 2 else boxes[1:]  # the first is around the others
    if overall and not any(_box(box).intersects(area) for box in overall):
        return False
    spans = [span for span in node.extent.temporal.intervals if len(span) == 2]
    spans = spans[:1] if len(spans) < 2 else spans[1:]
    return not spans or any(each.touch(*span) for span in spans for each in days)


def _box(box: Sequence[float]) -> BaseGeometry:
    west, south, east, north = (*box[:2], *box[len(box) // 2 : len(box) // 2 + 2])
    if east < west:  # across the antimeridian
        return shapely.union_all(
            [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]
        )
    return shapely.box(west, south, east, north)


def _ask(
    root: dict[str, Any],
    reader: _Reader,
    address: Address,
    area: BaseGeometry,
    days: Sequence[Days],
    collections: Sequence[str],
    asset: str | None,
) -> Walked:
    """The same of an API, by its search."""
    from pystac_client import Client
    from pystac_client.exceptions import APIError

    found = Walked()
    sources: dict[str, Source] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pystac-client: of what the API does not say it can do
            client = Client.open(str(address).rstrip("/"), stac_io=_api_io(reader))
            for each in days:
                asked = client.search(
                    intersects=json.loads(shapely.to_geojson(shapely.union_all([area]).convex_hull)),
                    datetime=list(each.interval),
                    collections=list(collections) or None,
                    limit=_PAGES_OF,
                    max_items=_MOST_FILES,
                )
                for tree in asked.items_as_dicts():
                    item = _item(tree, address)
                    name = item.collection_id or ""
                    if name and name not in sources:
                        sources[name] = _source_of(tree, address, reader)
                    _take(item, sources.get(name, Source()), area, [each], asset, found)
    except APIError as error:
        raise RemoteError(f"cannot search {address.shown}: {' '.join(str(error).split())[:300]}") from None
    except (KeyError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise DataError(f"{address.shown} does not answer as a STAC API: {_line(error)}") from None
    found.files = reader.count
    return found


def _source_of(tree: Mapping[str, Any], address: Address, reader: _Reader) -> Source:
    """What the collection of an API's item says."""
    for link in tree.get("links") or ():
        if isinstance(link, Mapping) and link.get("rel") == "collection":
            try:
                place = Address.of(str(link.get("href")))
                return Source.of(_collection(reader.read(place), place))
            except AftermapError:
                break
    return Source()


def _api_io(reader: _Reader) -> Any:
    """What pystac-client reads with: our own requests, within reach and budget."""
    from pystac_client.stac_api_io import StacApiIO

    class Requests(StacApiIO):
        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,
            parameters: dict[str, Any] | None = None,
        ) -> str:
            if (method or "GET").upper() == "POST":
                body = json.dumps(parameters or {}).encode()
                data = reader.online.post(Address.parse(href), body, most_bytes=MOST_BYTES)
            else:
                query = urlencode(parameters or {}, doseq=True)
                whole = f"{href}{'&' if '?' in href else '?'}{query}" if query else href
                data = reader.online.read(Address.parse(whole), most_bytes=MOST_BYTES)
            return reader.told(data).decode("utf-8", "replace")

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            if isinstance(source, str) and "://" not in source:
                raise RemoteError(f"{source} is no address of an API")
            return super().read_text(source, *args, **kwargs)

    return Requests()


def _take(
    item: "pystac.Item",
    source: Source,
    area: BaseGeometry,
    days: Sequence[Days],
    asset: str | None,
    found: Walked,
) -> None:
    """Keep the image of an item where it lies in the area and the days."""
    try:
        image = image_of(item, source, asset=asset)
    except DataError as error:
        found.left_out.append(str(error))
        return
    if any(each.hold(image.acquired) for each in days) and image.outline.intersects(area):
        found.images.append(image)


def _is_api(tree: Mapping[str, Any]) -> bool:
    links = tree.get("links")
    rels = (
        {link.get("rel") for link in links if isinstance(link, Mapping)} if isinstance(links, list) else set()
    )
    conforms = tree.get("conformsTo")
    return "search" in rels and (isinstance(conforms, list) or "data" in rels)


def _item(tree: Any, address: Address) -> "pystac.Item":
    import pystac

    if not isinstance(tree, dict) or tree.get("type") != "Feature":
        raise DataError(f"{address.shown} is no STAC item")
    own = next(
        (
            link.get("href")
            for link in tree.get("links") or ()
            if isinstance(link, Mapping) and link.get("rel") == "self" and "://" in str(link.get("href"))
        ),
        None,
    )

    def build() -> "pystac.Item":
        item = pystac.Item.from_dict(tree, href=str(address), migrate=True)
        if own is not None and address.is_web and not address.key.endswith(".json"):
            item.set_self_href(str(own))  # of an API: its page is none of the item's
        else:
            item.set_self_href(str(address))
        return item

    return _built(build, address)


def _collection(tree: dict[str, Any], address: Address) -> "pystac.Collection":
    import pystac

    return _built(lambda: pystac.Collection.from_dict(tree, href=str(address), migrate=True), address)


def _built(build: Callable[[], Built], address: Address) -> Built:
    """Something of pystac, whose many errors become one."""
    try:
        return build()
    except Exception as error:
        raise DataError(f"{address.shown} is no valid STAC: {_line(error)}") from None


def _linked(link: "pystac.Link", place: Address) -> Address:
    """Where a link leads; what was read from elsewhere leads to no file of this machine."""
    try:
        target = place.refer(str(link.href))
    except AftermapError:
        raise DataError(f"{place.shown} links to {str(link.href)[:80]!r}, which is no address") from None
    if target.scheme == "file" and place.scheme != "file":
        raise DataError(f"{place.shown} links to a file of this machine: {target.shown}")
    return target


def _parsed(data: bytes, address: Address) -> dict[str, Any]:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError(f"{address.shown} is no JSON, expected a STAC catalogue") from None
    if not isinstance(tree, dict):
        raise DataError(f"{address.shown} is no STAC: it holds a {type(tree).__name__}")
    return tree


def _aware(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
