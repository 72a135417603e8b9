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
