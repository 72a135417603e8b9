"""The pages of the service: files that come along, which ask the API for everything else."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse

from aftermap.web.service.access import Id

router = APIRouter(include_in_schema=False)

_FOLDERS = ("service", "maplibre-gl")
_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
_FOR_EVER = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
"""The address of a file holds the checksum of all of them."""


@dataclass(frozen=True)
class _Asset:
    data: bytes
    packed: bytes
    media_type: str


@router.get("/", response_class=HTMLResponse)
def start() -> Response:
    """Sign in, upload, follow jobs, open maps."""
    return HTMLResponse(_page("start.html"))


@router.get("/maps/{number}", response_class=HTMLResponse)
def live_map(number: Id) -> Response:
    """A map that is looked at and answered in place; whether there is one, the page asks the API."""
    return HTMLResponse(_page("livemap.html"))


@router.get("/static/{digest}/{name}")
def static(
    request: Request,
    digest: Annotated[str, Path(pattern="^[0-9a-f]{12}$")],
    name: Annotated[str, Path(pattern=r"^[A-Za-z][A-Za-z0-9-]*\.(css|js|mjs|txt)$")],
) -> Response:
    """What the pages load."""
    asset = _assets().get(name)
    if asset is None or digest != _digest():
        raise HTTPException(404, "there is no such file")
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            asset.packed, media_type=asset.media_type, headers={**_FOR_EVER, "content-encoding": "gzip"}
        )
    return Response(asset.data, media_type=asset.media_type, headers=_FOR_EVER)


@router.get("/favicon.ico")
def icon() -> Response:
    """None."""
    return Response(status_code=204)


@cache
def _assets() -> dict[str, _Asset]:
    """Files by name, as they are and packed once for all who ask."""
    found = {}
    for folder in _FOLDERS:
        for file in (resources.files("aftermap.web") / "assets" / folder).iterdir():
            kind = file.name.rpartition(".")[2]
            if kind in _TYPES:
                data = file.read_bytes()
                found[file.name] = _Asset(data, gzip.compress(data, 9, mtime=0), _TYPES[kind])
    return found


@cache
def _digest() -> str:
    sums = [name.encode() + hashlib.sha256(asset.data).digest() for name, asset in sorted(_assets().items())]
    return hashlib.sha256(b"".join(sums)).hexdigest()[:12]


@cache
def _page(name: str) -> str:
    text = (resources.files("aftermap.web") / "assets" / "service" / name).read_text(encoding="utf-8")
    return text.replace("@@static@@", f"/static/{_digest()}")
