"""Files in: the body of the request is the file."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

from aftermap.web.service.access import Id, Mapper, TheService, sees_all, the_upload
from aftermap.web.service.routes.shapes import UploadShown, upload_shown
from aftermap.workflows.service.uploads import Purpose

router = APIRouter(prefix="/api/uploads", tags=["uploads"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file itself.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_TOO_LARGE = {"description": "Beyond a budget of bytes or pixels"}
_FULL = {"description": "The disk of the service is full"}


@router.post("", status_code=201, openapi_extra=_BODY, responses={413: _TOO_LARGE, 507: _FULL})
async def send(
    service: TheService,
    caller: Mapper,
    request: Request,
    response: Response,
    name: Annotated[str, Query(min_length=1, max_length=300)],
    kind: Purpose = "image",
) -> UploadShown:
    """Send an image, a zip archive of tiles, or footprints or an area.

    Images are GeoTIFF, PNG, JPEG, WebP and JPEG 2000; what a file is told by its content. It is written as it comes and
    checked before anything else reads it; nothing stays of one that is refused.
    """
    length = request.headers.get("content-length")
    upload = await service.uploads.receive(
        caller.id, name, kind, request.stream(), told_bytes=int(length) if length else None
    )
    service.metrics.uploaded.inc(upload.bytes)
    response.headers["location"] = f"/api/uploads/{upload.id}"
    return upload_shown(upload)


@router.get("")
def listed(
    service: TheService,
    caller: Mapper,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> list[UploadShown]:
    """One's uploads, the latest first."""
    owner = None if sees_all(caller) else caller.id
    return [upload_shown(upload) for upload in service.uploads.all(owner, limit=limit, offset=offset)]


@router.get("/{number}")
def one(service: TheService, caller: Mapper, number: Id) -> UploadShown:
    """An upload."""
    return upload_shown(the_upload(service, caller, number))


@router.delete("/{number}", status_code=204, response_class=Response)
def remove(service: TheService, caller: Mapper, number: Id) -> Response:
    """Delete an upload that no job is waiting for; a map made of it can be reviewed no longer."""
    upload = the_upload(service, caller, number)
    for job in service.jobs.all(upload.owner, limit=1000):
        if not job.has_ended and number in job.wanted.values():
            raise HTTPException(409, f"job {job.id} needs it: cancel that first")
    service.uploads.remove(number)
    return Response(status_code=204)
