"""The pages of the service: files that come along, which ask the API for everything else."""

from functools import cache
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "html": "text/html; charset=utf-8",
}


@router.get("/", response_class=HTMLResponse)
def start() -> Response:
    """Sign in, upload, follow jobs, open maps."""
    return Response(_asset("start.html"), media_type=_TYPES["html"])


@router.get("/static/{name}")
def static(name: Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]*\.(css|js)$")]) -> Response:
    """What the pages load."""
    try:
        data = _asset(name)
    except FileNotFoundError:
        raise HTTPException(404, "there is no such file") from None
    return Response(data, media_type=_TYPES[name.rpartition(".")[2]], headers={"cache-control": "no-cache"})


@router.get("/favicon.ico")
def icon() -> Response:
    """None."""
    return Response(status_code=204)


@cache
def _asset(name: str) -> bytes:
    return (resources.files("aftermap.web") / "assets" / "service" / name).read_bytes()
