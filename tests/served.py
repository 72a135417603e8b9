"""A service in a folder, with finished maps in it, and a client of it; no network, no model."""

import shutil
import uuid
from pathlib import Path

from fastapi.testclient import TestClient

from aftermap.web.service.app import service_app
from aftermap.web.service.service import Rules, Service
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.images import open_images
from aftermap.workflows.service.place import Limits, Place
from aftermap.workflows.service.tiles.display import make_display
from reviewed_map import GROUND, make_map

BASE = "http://127.0.0.1:8765"


def make_made(folder: Path, grid=GROUND) -> Path:
    """A finished map with its images and its tiles, to be copied into services."""
    found = make_map(folder, grid)
    open_images(found, folder / "before.tif", folder / "after.tif").close()
    make_display(found, folder / "display", progress=lambda *_: None)
    return folder


def open_service(folder: Path, *, rules: Rules | None = None, limits: Limits | None = None) -> Service:
    return Service.open(Place(folder, limits or Limits(free_bytes=0)), rules or Rules())


def add_map(service: Service, made: Path, *, owner: str = "local", title: str = "town") -> str:
    """Put a finished map into a service as if a job had made it."""
    number = uuid.uuid4().hex
    out = Path(shutil.copytree(made / "map", service.place.map(number)))
    shutil.copytree(made / "display", service.place.display(number))
    found = open_map(out)
    described = make_display(found, service.place.display(number), progress=lambda *_: None)
    service.maps.add(number, owner, title, found, described)
    return number


def client_of(service: Service, token: str | None = None) -> TestClient:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return TestClient(service_app(service), base_url=BASE, headers=headers, raise_server_exceptions=False)
