from collections.abc import Iterator

import pytest

from web_server import Site, serving


@pytest.fixture(scope="module")
def _server() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(_server: Site) -> Site:
    """A web server of this machine without files."""
    for held in (
        _server.files,
        _server.faults,
        _server.passing,
        _server.asked,
        _server.headers,
        _server.answers,
    ):
        held.clear()
    return _server
