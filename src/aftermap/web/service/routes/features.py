"""OGC API - Features, Part 1 (core and GeoJSON): every map with a georeference is a collection of buildings.

Source: OGC 17-069r4.
"""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.web.service.access import Id, Reader, TheService, the_map
from aftermap.web.service.service import Service
from aftermap.workflows.service.areas import Box
from aftermap.workflows.service.features import Features
from aftermap.workflows.service.maps import MapRecord
from aftermap.workflows.service.tokens import Caller

router = APIRouter(prefix="/ogc", tags=["features"])

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
GEOJSON = "application/geo+json"
CONFORMS = tuple(
    f"http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/{part}" for part in ("core", "geojson", "oas30")
)
MOST = 10_000
_DAMAGE = (*DAMAGE.names[1:], NOT_ASSESSED)


class _GeoJson(JSONResponse):
    media_type = GEOJSON


@router.get("")
def landing(caller: Reader, request: Request) -> dict[str, Any]:
    """The landing page."""
    _check_known(request)
    return {
        "title": "aftermap",
        "description": "Buildings and their damage, of every finished map",
        "links": [
            _link(request, "/ogc", "self"),
            _link(request, "/openapi.json", "service-desc", "application/vnd.oai.openapi+json;version=3.1"),
            _link(request, "/ogc/conformance", "conformance"),
            _link(request, "/ogc/collections", "data"),
        ],
    }


@router.get("/conformance")
def conformance(caller: Reader, request: Request) -> dict[str, list[str]]:
    """What of the standard is held."""
    _check_known(request)
    return {"conformsTo": [name for name in CONFORMS if not name.endswith("oas30")]}


@router.get("/collections")
def collections(service: TheService, caller: Reader, request: Request) -> dict[str, Any]:
    """Maps with a georeference of which something may be seen."""
    _check_known(request)
    seen = [m for m in service.maps.seen_by(caller, limit=1000) if m.described["georeferenced"]]
    return {
        "links": [_link(request, "/ogc/collections", "self")],
        "collections": [_collection(request, record, caller) for record in seen],
    }


@router.get("/collections/{number}")
def collection(service: TheService, caller: Reader, request: Request, number: Id) -> dict[str, Any]:
    """A map as a collection."""
    _check_known(request)
    return _collection(request, _placed(service, caller, number), caller)


@router.get("/collections/{number}/items", response_class=_GeoJson)
def items(
    service: TheService,
    caller: Reader,
    request: Request,
    number: Id,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    bbox: Annotated[str | None, Query(max_length=200, description="west,south,east,north")] = None,
    damage: Annotated[str | None, Query(max_length=100, description="Classes, with commas between")] = None,
    q: Annotated[str | None, Query(max_length=100, description="Part of a building's id")] = None,
    datetime: Annotated[
        str | None, Query(max_length=100, description="Takes no part: features have no time")
    ] = None,
) -> Response:
    """Buildings, a page at a time."""
    _check_known(request, "limit", "offset", "bbox", "damage", "q", "datetime")
    record = _placed(service, caller, number)
    wanted = [name for name in (damage or "").split(",") if name]
    if odd := [name for name in wanted if name not in _DAMAGE]:
        raise HTTPException(400, f"damage: there is no class {odd[0]!r}: choose from {', '.join(_DAMAGE)}")
    area = None if record.seen_by(caller) == "whole" else caller.area
    page = features_of(request, service, number).page(
        area, box=_box(bbox), damage=wanted, text=q or "", limit=limit, offset=offset
    )
    links = [
        _link(request, _url(request, offset), "self", GEOJSON),
        _link(request, f"/ogc/collections/{number}", "collection"),
    ]
    if offset + limit < page.matched:
        links.append(_link(request, _url(request, offset + limit), "next", GEOJSON))
    if offset:
        links.append(_link(request, _url(request, max(0, offset - limit)), "prev", GEOJSON))
    return _GeoJson(
        {
            "type": "FeatureCollection",
            "numberMatched": page.matched,
            "numberReturned": len(page.features),
            "features": page.features,
            "links": links,
        },
        headers={"content-crs": f"<{CRS84}>"},
    )


@router.get("/collections/{number}/items/{building_id:path}", response_class=_GeoJson)
def item(service: TheService, caller: Reader, request: Request, number: Id, building_id: str) -> Response:
    """A building."""
    _check_known(request)
    record = _placed(service, caller, number)
    features = features_of(request, service, number)
    row = features.row(building_id, None if record.seen_by(caller) == "whole" else caller.area)
    if row is None:
        raise HTTPException(404, "there is no such building")
    here = f"/ogc/collections/{number}/items/{building_id}"
    links = [
        _link(request, here, "self", GEOJSON),
        _link(request, f"/ogc/collections/{number}", "collection"),
    ]
    return _GeoJson({**features.feature(row), "links": links})


def features_of(request: Request, service: Service, number: str) -> Features:
    """The buildings of a map, kept for the next question."""
    found = service.maps.opened(number)
    kept: dict[str, tuple[Any, Features]] = request.app.state.features
    known = kept.get(number)
    if known is None or known[0] is not found:
        kept.pop(number, None)
        while len(kept) >= 8:
            kept.pop(next(iter(kept)), None)
        known = kept[number] = (found, Features(found))
    return known[1]


def _placed(service: Service, caller: Caller, number: str) -> MapRecord:
    record, _ = the_map(service, caller, number)
    if not record.described["georeferenced"]:
        raise HTTPException(404, "this map lies nowhere on the ground: it is no collection of features")
    return record


def _collection(request: Request, record: MapRecord, caller: Caller) -> dict[str, Any]:
    here = f"/ogc/collections/{record.id}"
    bounds = record.described["bounds"]
    if caller.area is not None and record.seen_by(caller) == "part":
        bounds = list(caller.area.shape.intersection(record.ground).bounds)
    return {
        "id": record.id,
        "title": record.title,
        "itemType": "feature",
        "crs": [CRS84],
        "storageCrs": CRS84,
        "extent": {"spatial": {"bbox": [bounds], "crs": CRS84}},
        "links": [_link(request, here, "self"), _link(request, f"{here}/items", "items", GEOJSON)],
    }


def _box(text: str | None) -> Box | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 6:  # heights take no part
        numbers = [numbers[0], numbers[1], numbers[3], numbers[4]]
    if len(numbers) != 4 or not all(abs(number) <= 1e6 for number in numbers) or numbers[1] > numbers[3]:
        raise HTTPException(400, "bbox: expected west,south,east,north in degrees")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _check_known(request: Request, *known: str) -> None:
    """The standard wants a question with unknown parameters to be refused."""
    if odd := [name for name in request.query_params if name not in known]:
        raise HTTPException(400, f"there is no parameter {odd[0][:100]!r}")


def _url(request: Request, offset: int) -> str:
    url = request.url.include_query_params(offset=offset)
    return f"{url.path}?{url.query}"


def _link(request: Request, path: str, rel: str, kind: str = "application/json") -> dict[str, str]:
    root = f"{request.url.scheme}://{request.headers.get('host', '')}"
    return {"href": root + path, "rel": rel, "type": kind}
