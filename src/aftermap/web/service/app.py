"""The whole service as an ASGI application, with its OpenAPI description at /openapi.json."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import FastAPI

from aftermap import __version__
from aftermap.web.guard import App
from aftermap.web.service.access import Doorman
from aftermap.web.service.errors import RESPONSES, tell_errors
from aftermap.web.service.expiry import Expiry
from aftermap.web.service.reviews import Reviews
from aftermap.web.service.routes import features, files, jobs, maps, page, review, system, tiles, uploads
from aftermap.web.service.service import Service
from aftermap.web.service.shield import Shield


def service_api(service: Service) -> FastAPI:
    """The routes of a service, without what stands before them."""

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as beside:
            beside.start_soon(app.state.expiry.watch)
            yield
            beside.cancel_scope.cancel()
        app.state.reviews.close()
        service.audit.close()
        service.database.close()

    app = FastAPI(
        title="aftermap",
        version=__version__,
        description="Maps of damaged buildings from images taken before and after a disaster.",
        docs_url=None,
        redoc_url=None,
        responses=RESPONSES,
        lifespan=alive,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.doorman = Doorman(service)
    app.state.reviews = Reviews(service)
    app.state.shelf = tiles.TileShelf()
    app.state.features = {}

    def forget(number: str) -> None:
        """Delete a map, and close what is open of it."""
        app.state.reviews.end(number)
        app.state.shelf.rasters.forget(service.place.display(number))
        service.maps.remove(number)

    app.state.forget = forget
    app.state.expiry = Expiry(service, forget, app.state.reviews.is_open)
    app.state.streams = Counter()
    tell_errors(app)
    for part in (page, system, uploads, jobs, tiles, maps, files, review, features):
        app.include_router(part.router)
    return app


def service_app(service: Service) -> App:
    """The service behind its shield."""
    app: Any = service_api(service)
    return Shield(app, service)
