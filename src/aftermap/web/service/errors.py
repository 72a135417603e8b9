"""Every error as one line of JSON: what was wrong, never where in the code."""

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException as PlainHTTPException

from aftermap.errors import AftermapError, InputError, OutputError
from aftermap.web.service.log import log
from aftermap.workflows.service.uploads import TooLargeError
from aftermap.workflows.service.wanted import CRS_PATTERN, ID_PATTERN, SOURCE_PATTERN


class Problem(BaseModel):
    """What was wrong."""

    error: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Not understood"},
    401: {"model": Problem, "description": "No valid token"},
    403: {"model": Problem, "description": "The token lacks a scope, or another site asks"},
    404: {"model": Problem, "description": "Not there, or not for this caller"},
    409: {"model": Problem, "description": "Not in this state"},
    422: {"model": Problem, "description": "Makes no sense"},
    429: {"model": Problem, "description": "Too many requests"},
}


def tell_errors(app: FastAPI) -> None:
    """Answer errors of all kinds: 507 where something cannot be kept, 413 for too much, 422 for no sense."""

    @app.exception_handler(OutputError)
    async def unsaved(request: Request, error: OutputError) -> Response:
        return _problem(507, _without_folders(request, error))

    @app.exception_handler(TooLargeError)
    async def too_large(_: Request, error: TooLargeError) -> Response:
        return _problem(413, str(error))

    @app.exception_handler(InputError)
    async def no_use(request: Request, error: InputError) -> Response:
        return _problem(422, _without_folders(request, error))

    @app.exception_handler(AftermapError)
    async def refused(request: Request, error: AftermapError) -> Response:
        return _problem(422, _without_folders(request, error))

    @app.exception_handler(ValidationError)
    async def no_answer(_: Request, error: ValidationError) -> Response:
        return _problem(422, _first(error.errors()))

    @app.exception_handler(RequestValidationError)
    async def no_request(request: Request, error: RequestValidationError) -> Response:
        # the standard of features wants 400 where the rest of the web has 422
        status = 400 if request.url.path.startswith("/ogc") else 422
        return _problem(status, _first(error.errors()))

    @app.exception_handler(PlainHTTPException)
    async def told(_: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log("broken", {"path": request.url.path, "kind": type(error).__name__, "error": str(error)[:500]})
        return _problem(500, "something went wrong that should not: tell whoever runs the service")


def _without_folders(request: Request, error: AftermapError) -> str:
    """What an error says, without where on this machine things lie."""
    folder = request.app.state.service.place.folder
    text = str(error)
    for place in {str(folder.absolute()), str(folder.resolve()), str(folder)}:
        text = text.replace(f"{place}/", "")
    return text


def _problem(status: int, text: str, headers: Any = None) -> Response:
    return JSONResponse({"error": text}, status_code=status, headers=headers)


_WORDS = {
    "missing": "it is missing",
    "extra_forbidden": "it is not known here",
    "json_invalid": "it is no JSON",
    "string_type": "expected a text",
    "model_attributes_type": "expected a JSON object",
}
_PATTERNS = {
    ID_PATTERN: "expected an id of 32 hexadecimal digits",
    SOURCE_PATTERN: "expected the id of an upload, or an address (https, s3, gs or az)",
    CRS_PATTERN: "expected a reference system such as EPSG:32615",
}


def _first(errors: Any) -> str:
    """The first thing that is wrong, where and in words of ours as far as there are any."""
    error = errors[0]
    words = _WORDS.get(error["type"]) or _PATTERNS.get(error.get("ctx", {}).get("pattern", ""))
    place = ".".join(str(part) for part in error["loc"] if error["type"] != "json_invalid" or part == "body")
    return f"{place}: {words or error['msg']}"
