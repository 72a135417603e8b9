"""Every route answers as its description says, whatever it is asked: cases made by schemathesis."""

import os
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from aftermap.web.service.app import service_api
from served import add_map, client_of, open_service

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
QUICK = settings(
    max_examples=int(os.environ.get("SCHEMA_EXAMPLES", "1")), database=None, deadline=None, derandomize=True,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
FOLLOWED = ("/events",)
"""Streams that do not end by themselves."""


@pytest.fixture(scope="module")
def served(tmp_path_factory, made):
    service = open_service(tmp_path_factory.mktemp("schema") / "data")
    number = add_map(service, made)
    with client_of(service) as client:
        yield service, number, client


def cases(app):
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    return [operation.ok() for operation in schema.get_all_operations()]


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_route_keeps_its_word(served, mode):
    """What fits the description, and what does not: no error of ours, no status or answer that is not described."""
    service, number, client = served
    walked = []
    for operation in cases(service_api(service)):
        if operation.path.endswith(FOLLOWED) or (mode == "negative" and operation.method == "get"):
            continue

        def keeps(case):
            if "/maps/" in case.path and "number" in case.path_parameters:
                case.path_parameters["number"] = number
            if case.method == "DELETE" and case.path.startswith("/api/maps"):
                return
            answer = case.call(session=client)
            case.validate_response(answer, checks=CHECKS)
            walked.append(answer.status_code)

        strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
        with suppress(Unsatisfiable):  # nothing can be wrong about what takes nothing
            QUICK(given(case=strategy)(keeps))()
    assert len(walked) > 12 and (mode == "negative" or any(status < 300 for status in walked))
