"""What answers look like."""

from typing import Any

from pydantic import BaseModel, Field

from aftermap.web.service.service import Service
from aftermap.workflows.service.jobs import Job, Kind, State
from aftermap.workflows.service.maps import MapRecord, View
from aftermap.workflows.service.tiles.display import MARKER
from aftermap.workflows.service.uploads import Purpose, Upload


class UploadShown(BaseModel):
    """A file that was sent."""

    id: str
    name: str
    bytes: int
    kind: Purpose
    described: dict[str, Any]
    created: float


class Progress(BaseModel):
    """How far a job is."""

    stage: str
    done: int
    total: int


class JobShown(BaseModel):
    """A job."""

    id: str
    kind: Kind
    wanted: dict[str, Any]
    state: State
    stopping: bool
    progress: Progress | None
    error: str | None
    attempts: int
    map: str | None
    created: float
    started: float | None
    finished: float | None


class Layer(BaseModel):
    """A raster of a map as tiles of 256 px."""

    tiles: str
    minzoom: int
    maxzoom: int


class BuildingLayer(BaseModel):
    """The buildings of a map as vector tiles: points below `outlines_from`, outlines from there on."""

    tiles: str
    minzoom: int
    maxzoom: int
    outlines_from: int
    layer: str
    attributes: list[str]


class MapShown(BaseModel):
    """A finished map, or the part of it that may be seen."""

    id: str
    title: str
    created: float
    bounds: tuple[float, float, float, float]
    georeferenced: bool
    whole: bool
    may_review: bool


class MapDescribed(MapShown):
    """A finished map with its layers and counts."""

    layers: dict[str, Layer]
    buildings: BuildingLayer
    scale: str
    legend: list[dict[str, str]]
    counts: dict[str, int]
    total: int
    metres_per_px: float | None
    warnings: list[str]
    links: dict[str, str]
    h3: bool = Field(description="whether areas may be H3 cells, which the extra `areas` brings")


class CountShown(BaseModel):
    """How many buildings a filter lets through, and all that may be seen by what was said of them or the map says."""

    total: int
    left: int
    counts: dict[str, int]


def upload_shown(upload: Upload) -> UploadShown:
    """An upload as it is answered."""
    return UploadShown(
        id=upload.id,
        name=upload.name,
        bytes=upload.bytes,
        kind=upload.kind,
        described=upload.described,
        created=upload.created,
    )


def job_shown(job: Job) -> JobShown:
    """A job as it is answered."""
    made: str | None = job.map
    if job.kind == "map" and job.state == "done":
        made = job.id
    return JobShown(
        id=job.id,
        kind=job.kind,
        wanted=job.wanted,
        state=job.state,
        stopping=job.stopping and not job.has_ended,
        progress=Progress(**job.progress) if job.progress else None,
        error=job.error,
        attempts=job.attempts,
        map=made,
        created=job.created,
        started=job.started,
        finished=job.finished,
    )


def map_shown(record: MapRecord, view: View, *, may_review: bool) -> dict[str, Any]:
    """What a list says of a map."""
    return {
        "id": record.id,
        "title": record.title,
        "created": record.created,
        "bounds": record.described["bounds"],
        "georeferenced": record.described["georeferenced"],
        "whole": view == "whole",
        "may_review": may_review and view == "whole",
    }


def layers_shown(service: Service, record: MapRecord) -> dict[str, Any]:
    """The tiles of a map."""
    root = f"/api/maps/{record.id}/tiles"
    # browsers keep tiles: those of a map that was written anew have another address
    marker = service.place.display(record.id) / MARKER
    version = f"?v={marker.stat().st_mtime_ns:x}" if marker.is_file() else ""
    rasters = {
        name: {"tiles": f"{root}/{name}/{{z}}/{{x}}/{{y}}{version}", **zooms}
        for name, zooms in record.described["rasters"].items()
    }
    return {
        "layers": rasters,
        "buildings": {
            "tiles": f"{root}/buildings/{{z}}/{{x}}/{{y}}{version}",
            **record.described["buildings"],
        },
    }
