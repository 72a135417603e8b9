"""Finished maps: what they show, their counts, areas and totals."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.extras import lacking
from aftermap.web.service.access import Id, Mapper, Reader, TheService, is_theirs, the_map
from aftermap.web.service.routes.features import features_of
from aftermap.web.service.routes.shapes import CountShown, MapDescribed, MapShown, layers_shown, map_shown
from aftermap.workflows.areas.run import count_areas
from aftermap.workflows.review.answers import Journal, check_shown, settle
from aftermap.workflows.service.features import KINDS
from aftermap.workflows.service.tiles.display import in_area, legend
from aftermap.workflows.totals.run import estimate_totals

router = APIRouter(prefix="/api/maps", tags=["maps"])


@router.get("")
def listed(
    service: TheService,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> list[MapShown]:
    """The maps that one may see, or see some of, the latest first."""
    may = caller.may("review")
    return [
        MapShown(**map_shown(record, record.seen_by(caller), may_review=may))
        for record in service.maps.seen_by(caller, limit=limit, offset=offset)
    ]


@router.get("/{number}")
def one(service: TheService, caller: Reader, number: Id) -> MapDescribed:
    """A map: where it lies, its layers, and how many buildings of each class may be seen."""
    record, view = the_map(service, caller, number)
    found = service.maps.opened(number)
    frame = found.buildings if view == "whole" else in_area(found, caller.area)
    counted = frame["damage"].value_counts()
    root = f"/api/maps/{number}"
    links = {"features": f"/ogc/collections/{number}/items"} if record.described["georeferenced"] else {}
    if view == "whole":
        links |= {
            name: f"{root}/{name}" for name in ("files", "files.zip", "answers", "totals", "areas", "events")
        }
        links |= {"review": f"{root}/review/"}
    return MapDescribed(
        **map_shown(record, view, may_review=caller.may("review")),
        **layers_shown(service, record),
        scale=str(found.provenance["scale"]),
        legend=legend(),
        counts={name: int(counted.get(name, 0)) for name in (*DAMAGE.names[1:], NOT_ASSESSED)},
        total=len(frame),
        metres_per_px=found.grid.resolution_m,
        warnings=[str(text) for text in found.provenance.get("warnings", [])] if view == "whole" else [],
        links=links,
        h3=not lacking("areas"),
    )


@router.delete("/{number}", status_code=204, response_class=Response)
def remove(service: TheService, caller: Mapper, request: Request, number: Id) -> Response:
    """Delete a map, its answers and its tiles; the uploads stay."""
    record, _ = the_map(service, caller, number)
    if not is_theirs(record.owner, caller):
        raise HTTPException(404, "there is no such map")
    request.app.state.forget(number)
    return Response(status_code=204)


@router.get("/{number}/totals")
def totals(service: TheService, caller: Reader, number: Id, request: Request, response: Response) -> Any:
    """How many buildings are damaged, with an interval, from the answers so far (`aftermap totals`)."""
    the_map(service, caller, number, whole=True)
    found = service.maps.opened(number)
    journal = Journal(found.folder)
    tag = f'"{journal.path.stat().st_size if journal.path.is_file() else 0}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag})
    answers = journal.answers()
    check_shown(answers, found.outlines_sha256, found.folder)
    tree = estimate_totals(found, answers, {}).as_dict()
    response.headers["etag"] = tag
    words = [line for line in tree["words"] if str(found.folder) not in line]
    return {**{key: value for key, value in tree.items() if key not in ("map", "confidence")}, "words": words}


@router.get("/{number}/count")
def count(
    service: TheService,
    caller: Reader,
    request: Request,
    number: Id,
    damage: Annotated[str | None, Query(max_length=200, description="Kinds, with commas between")] = None,
    least: Annotated[float, Query(ge=0, le=1)] = 0.0,
    most: Annotated[float, Query(ge=0, le=1)] = 1.0,
    area: Annotated[float, Query(ge=0, le=1e9)] = 0.0,
) -> CountShown:
    """How many buildings are of some kinds, a confidence and an area in m²; what people said stands before the map."""
    _, view = the_map(service, caller, number)
    kinds = KINDS if damage is None else [kind for kind in damage.split(",") if kind]
    if odd := [kind for kind in kinds if kind not in KINDS]:
        raise HTTPException(422, f"damage: there is no kind {odd[0][:100]!r}: choose from {', '.join(KINDS)}")
    whole = view == "whole"
    said = settle(Journal(service.place.map(number)).answers()) if whole else {}
    told = features_of(request, service, number).count(
        None if whole else caller.area,
        {name: str(answer.verdict) for name, answer in said.items()},
        kinds=kinds,
        confidence=(least, most),
        least_m2=area,
    )
    return CountShown(total=told.total, left=told.left, counts=told.counts)


@router.get("/{number}/areas")
def areas(
    service: TheService,
    caller: Reader,
    number: Id,
    grid: Annotated[float | None, Query(ge=20, le=100_000)] = None,
    h3: Annotated[int | None, Query(ge=4, le=12)] = None,
) -> dict[str, Any]:
    """The map counted by squares (their side in metres) or by H3 cells, as GeoJSON (`aftermap areas`)."""
    the_map(service, caller, number, whole=True)
    if (grid is None) == (h3 is None):
        raise HTTPException(422, "expected grid or h3, such as grid=500 or h3=9")
    (result,) = count_areas(service.place.map(number), grid=grid, h3=h3)
    frame = result.areas
    tree: dict[str, Any] = (
        frame[frame.geometry.notna() & ~frame.geometry.is_empty].to_crs(4326).__geo_interface__
    )
    return {"type": "FeatureCollection", "title": result.title, "features": tree["features"]}
