"""Results as files: one by one, or all of them as an archive that is made as it goes out."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from aftermap.web.service.access import Id, Reader, TheService, the_map

router = APIRouter(prefix="/api/maps", tags=["files"])

_PRIVATE = ("review/images.json", "review/plan.json")
"""What is for this machine alone."""

_BLOCK = 1 << 20
_SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


class FileShown(BaseModel):
    """A file of a map."""

    name: str
    bytes: int


@router.get("/{number}/files")
def listed(service: TheService, caller: Reader, number: Id) -> list[FileShown]:
    """The files of a map: rasters, layers, tables, page and provenance."""
    the_map(service, caller, number, whole=True)
    folder = service.place.map(number)
    return [FileShown(name=name, bytes=(folder / name).stat().st_size) for name in _names(folder)]


@router.get(
    "/{number}/files.zip",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "All files"}},
)
def archive(service: TheService, caller: Reader, number: Id, request: Request) -> StreamingResponse:
    """All files of a map as one archive."""
    record, _ = the_map(service, caller, number, whole=True)
    request.state.audited = True
    folder = service.place.map(number)
    return StreamingResponse(
        _zipped(folder, _names(folder), record.id),
        media_type="application/zip",
        headers={"content-disposition": f'attachment; filename="map-{number[:8]}.zip"'},
    )


@router.get(
    "/{number}/files/{name:path}",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file"},
        206: {"content": {"application/octet-stream": {}}, "description": "A part of it"},
        416: {"description": "No such part"},
    },
)
def one(
    service: TheService,
    caller: Reader,
    number: Id,
    name: Annotated[str, InPath(min_length=1, max_length=300)],
    request: Request,
) -> Response:
    """A file of a map; parts of it by the header `Range`."""
    the_map(service, caller, number, whole=True)
    folder = service.place.map(number)
    if name not in _names(folder):
        raise HTTPException(404, "there is no such file")
    request.state.audited = True
    # always as a file to keep: a page of a map shall not run as a page of the service
    answer = FileResponse(folder / name, filename=Path(name).name, media_type="application/octet-stream")
    answer.headers["content-security-policy"] = _SANDBOX
    return answer


def _names(folder: Path) -> list[str]:
    """What may be taken of a map's folder: plain files, none of them hidden or for this machine alone."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not path.is_symlink() and not hidden and name.as_posix() not in _PRIVATE:
            found.append(name.as_posix())
    return found


class _Buffer:
    """What a ZipFile writes into, and a stream takes out of."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep some bytes."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _zipped(folder: Path, names: list[str], title: str) -> Iterator[bytes]:
    buffer = _Buffer()
    into: Any = buffer
    # rasters and GeoPackages are packed already: what costs time is left out
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for name in names:
            path = folder / name
            info = zipfile.ZipInfo.from_file(path, f"map-{title[:8]}/{name}")
            with path.open("rb") as source, file.open(info, "w", force_zip64=True) as target:
                while block := source.read(_BLOCK):
                    target.write(block)
                    yield buffer.taken()
    yield buffer.taken()
