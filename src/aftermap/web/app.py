"""What the page of a review asks for, and what it gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aftermap.errors import AftermapError, OutputError
from aftermap.web.guard import App, Guard
from aftermap.web.page import script, served_page, style
from aftermap.workflows.review.answers import Name, Reason, Text, Verdict
from aftermap.workflows.review.session import Review

Pixel = Annotated[float, Field(ge=-1e7, le=1e7)]
Rings = Annotated[list[Annotated[list[tuple[Pixel, Pixel]], Field(max_length=5000)]], Field(max_length=500)]
Key = Annotated[str, Field(min_length=8, max_length=64, pattern="^[0-9A-Za-z-]+$")]


class Asked(BaseModel):
    """What the page sends; anything else is refused."""

    model_config = ConfigDict(extra="forbid")

    reviewer: Name


class Next(Asked):
    """Wants the next buildings."""

    browser: Name
    count: int = Field(1, ge=1, le=10)
    holding: Annotated[list[Name], Field(max_length=20)] = []


class Skipped(Asked):
    """Puts a building off."""

    browser: Name
    building_id: Name


class Closed(Asked):
    """Says that a window was closed."""

    browser: Name


class Said(Asked):
    """An answer; see `Review.answer`."""

    key: Key
    building_id: Annotated[str, Field(max_length=200)]
    origin: str = ""
    verdict: Verdict
    reason: Reason = ""
    seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    note: Text = ""
    outline: Rings | None = None
    shown: Annotated[dict[str, str | float | bool | None], Field(max_length=12)] = {}


class Undone(Asked):
    """Takes the last answer back."""

    key: Key


class Marked(Asked):
    """Marks ground, or takes a mark back."""

    key: Key
    surveyed: bool | None = None
    outline: Rings | None = None
    withdraws: Key | None = None


class More(Asked):
    """Enlarges the budget."""

    count: int = Field(ge=1, le=100_000)


@dataclass(frozen=True)
class Reviewing:
    """A review, and who looks.

    Attributes:
        review: the review.
        name: of whoever is known by a token; what the page calls itself counts where nobody is.
        title: of the map; by default the name of its folder.
    """

    review: Review
    name: str | None = None
    title: str | None = None

    def state(self, asked: str) -> dict[str, Any]:
        """How far the review is."""
        told = self.review.state(self.called(asked))
        return told if self.title is None else {**told, "title": self.title}

    def called(self, asked: str) -> str:
        """Whose answers they are."""
        return self.name or asked


def review_app(review: Review, token: str) -> App:
    """The server of a review, behind its guard; `token` is the first part of every path."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _tell_errors(app)
    app.include_router(review_router(lambda: Reviewing(review)))

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    return Guard(app, token)


def review_router(find: Callable[..., Reviewing]) -> APIRouter:
    """The page of a review and what it asks for, below any path that ends in a slash.

    Args:
        find: a dependency of FastAPI that finds the review a request is about.
    """
    router = APIRouter()
    Found = Annotated[Reviewing, Depends(find)]  # noqa: N806  # a type

    @router.get("/", response_class=HTMLResponse)
    def page(at: Found) -> str:
        """The page."""
        return served_page(at.title or at.review.found.folder.absolute().name)

    @router.get("/review.js", response_class=Response)
    def code(at: Found) -> Response:
        """Its script."""
        return Response(script(), media_type="text/javascript; charset=utf-8")

    @router.get("/review.css", response_class=Response)
    def sheet(at: Found) -> Response:
        """Its style sheet."""
        return Response(style(), media_type="text/css; charset=utf-8")

    @router.get("/state")
    def state(at: Found, reviewer: str = "") -> dict[str, Any]:
        """How far the review is."""
        return at.state(reviewer)

    @router.post("/next")
    def take(at: Found, asked: Next) -> dict[str, Any]:
        """The next buildings."""
        name = at.called(asked.reviewer)
        items = at.review.take(name, asked.browser, count=asked.count, holding=asked.holding)
        return {"items": items, "state": at.state(asked.reviewer)}

    @router.get("/building")
    def building(at: Found, id: str) -> dict[str, Any]:
        """A building that was looked up."""
        return at.review.item(id, "chosen")

    @router.post("/skip")
    def skip(at: Found, asked: Skipped) -> dict[str, Any]:
        """Put a building off."""
        at.review.skip(asked.browser, asked.building_id)
        return {}

    @router.post("/release")
    def release(at: Found, asked: Closed) -> dict[str, Any]:
        """Give back what a closed window held."""
        at.review.release(asked.browser)
        return {}

    @router.post("/answer")
    def answer(at: Found, said: Said) -> dict[str, Any]:
        """Say what happened to a building."""
        name = at.called(said.reviewer)
        saved = at.review.answer(name, said.model_dump(exclude={"reviewer"}))
        return {"saved": saved.key, "building_id": saved.building_id, "state": at.state(said.reviewer)}

    @router.post("/undo")
    def undo(at: Found, asked: Undone) -> dict[str, Any]:
        """Take the last answer back."""
        name = at.called(asked.reviewer)
        return {"undone": at.review.undo(name, asked.key), "state": at.state(asked.reviewer)}

    @router.post("/more")
    def more(at: Found, asked: More) -> dict[str, Any]:
        """Enlarge the budget."""
        at.review.more(asked.count)
        return {"state": at.state(asked.reviewer)}

    @router.get("/ground")
    def ground(at: Found) -> dict[str, Any]:
        """Ground that was marked."""
        return at.review.ground()

    @router.post("/mark")
    def mark(at: Found, asked: Marked) -> dict[str, Any]:
        """Mark ground, or take a mark back."""
        at.review.mark(at.called(asked.reviewer), asked.model_dump(exclude={"reviewer"}))
        return at.review.ground()

    @router.get("/crop/{row}/{frame}/{date}", response_class=Response)
    def crop(at: Found, row: int, frame: Literal["near", "wide"], date: Literal["pre", "post"]) -> Response:
        """A picture of a building."""
        return _picture(at.review.crop(row, frame)[date == "post"])

    @router.get("/overview/{date}", response_class=Response)
    def overview(at: Found, date: Literal["pre", "post"]) -> Response:
        """A picture of the whole map."""
        return _picture(at.review.overview()[date == "post"])

    return router


def _picture(data: bytes) -> Response:
    return Response(data, media_type="image/webp", headers={"cache-control": "private, max-age=86400"})


def _tell_errors(app: FastAPI) -> None:
    """Every error as one line in JSON: 507 where something could not be saved, 422 where it makes no sense."""

    @app.exception_handler(OutputError)
    def unsaved(_: Request, error: OutputError) -> Response:
        return JSONResponse({"error": str(error)}, status_code=507)

    @app.exception_handler(AftermapError)
    def refused(_: Request, error: AftermapError) -> Response:
        return JSONResponse({"error": str(error)}, status_code=422)

    @app.exception_handler(ValidationError)
    def no_answer(_: Request, error: ValidationError) -> Response:
        return JSONResponse({"error": _first(error.errors())}, status_code=422)

    @app.exception_handler(RequestValidationError)
    def no_request(_: Request, error: RequestValidationError) -> Response:
        return JSONResponse({"error": _first(error.errors())}, status_code=422)

    @app.exception_handler(404)
    def unknown(_: Request, error: Exception) -> Response:
        return PlainTextResponse("nothing here", status_code=404)


def _first(errors: Any) -> str:
    place = ".".join(str(part) for part in errors[0]["loc"])
    return f"{place}: {errors[0]['msg']}"
