import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from served import add_map, client_of, make_made, open_service


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A finished map of 25 buildings with its images and tiles."""
    return make_made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def service(tmp_path):
    found = open_service(tmp_path / "data")
    yield found
    found.database.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A service and its client for tests of a file that leave nothing behind: making one takes a tenth of a second."""
    found = open_service(tmp_path_factory.mktemp("shared") / "data")
    yield found, client_of(found)
    found.database.close()


@pytest.fixture
def client(service):
    return client_of(service)


@pytest.fixture
def number(service, made):
    """The id of a finished map in the service."""
    return add_map(service, made)


@pytest.fixture(scope="module")
def browser():
    """Chromium, whose graphics are drawn by the processor: those of maps alone, as pages cost less without."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = Path("/usr/bin/chromium")
    if not chromium.is_file():
        pytest.skip(f"needs {chromium}")
    drawn = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing"]
    with playwright.sync_playwright() as engines:
        made = engines.chromium.launch(
            executable_path=str(chromium), args=["--headless", "--no-sandbox", *drawn]
        )
        yield made
        made.close()


@pytest.fixture
def running(tmp_path):
    """A service that asks for tokens, and its address."""
    import uvicorn

    from aftermap.web.service.app import service_app
    from aftermap.web.service.service import Rules
    from aftermap.web.serving import address, bind

    service = open_service(tmp_path / "data", rules=Rules(tokens=True))
    listener = bind("127.0.0.1", 0)
    options = {"log_level": "critical", "lifespan": "off", "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(service_app(service), **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield service, address(listener, "").rstrip("/")
    server.should_exit = True
    thread.join(10)
    listener.close()
    service.database.close()
