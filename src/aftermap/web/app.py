"""What the page of a review asks for, and what it gets."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aftermap.errors import AftermapError, OutputError
from aftermap.web.guard import App, Guard
from aftermap.web.page import script, served_page, style
from aftermap.workflows.review.answers import Name, Reason, Text, Verdict
from aftermap.workflows.review.session import Review

Rings = Annotated[list[Annotated[list[tuple[float, float]], Field(max_length=5000)]], Field(max_length=500)]
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


def review_app(review: Review, token: str) -> App:
    """The server of a review, behind its guard; `token` is the first part of every path."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _tell_errors(app)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return served_page(review.found.folder.absolute().name)

    @app.get("/review.js")
    def code() -> Response:
        return Response(script(), media_type="text/javascript; charset=utf-8")

    @app.get("/review.css")
    def sheet() -> Response:
        return Response(style(), media_type="text/css; charset=utf-8")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/state")
    def state(reviewer: str = "") -> dict[str, Any]:
        return review.state(reviewer)

    @app.post("/next")
    def take(asked: Next) -> dict[str, Any]:
        items = review.take(asked.reviewer, asked.browser, count=asked.count, holding=asked.holding)
        return {"items": items, "state": review.state(asked.reviewer)}

    @app.get("/building")
    def building(id: str) -> dict[str, Any]:
        return review.item(id, "chosen")

    @app.post("/skip")
    def skip(asked: Skipped) -> dict[str, Any]:
        review.skip(asked.browser, asked.building_id)
        return {}

    @app.post("/release")
    def release(asked: Closed) -> dict[str, Any]:
        review.release(asked.browser)
        return {}

    @app.post("/answer")
    def answer(said: Said) -> dict[str, Any]:
        tree = said.model_dump(exclude={"reviewer"})
        saved = review.answer(said.reviewer, tree)
        return {"saved": saved.key, "building_id": saved.building_id, "state": review.state(said.reviewer)}

    @app.post("/undo")
    def undo(asked: Undone) -> dict[str, Any]:
        return {"undone": review.undo(asked.reviewer, asked.key), "state": review.state(asked.reviewer)}

    @app.post("/more")
    def more(asked: More) -> dict[str, Any]:
        review.more(asked.count)
        return {"state": review.state(asked.reviewer)}

    @app.get("/ground")
    def ground() -> dict[str, Any]:
        return review.ground()

    @app.post("/mark")
    def mark(asked: Marked) -> dict[str, Any]:
        review.mark(asked.reviewer, asked.model_dump(exclude={"reviewer"}))
        return review.ground()

    @app.get("/crop/{row}/{frame}/{date}")
    def crop(row: int, frame: Literal["near", "wide"], date: Literal["pre", "post"]) -> Response:
        return _picture(review.crop(row, frame)[date == "post"])

    @app.get("/overview/{date}")
    def overview(date: Literal["pre", "post"]) -> Response:
        return _picture(review.overview()[date == "post"])

    return Guard(app, token)


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
