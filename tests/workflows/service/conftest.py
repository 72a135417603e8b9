import pytest

from aftermap.workflows.service.database import Database
from aftermap.workflows.service.queues import open_queue
from private_postgres import private_postgres


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL of our own."""
    pytest.importorskip("psycopg")
    with private_postgres() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def address(request, tmp_path):
    """Where records and queue lie: each kind in turn, empty."""
    if request.param == "sqlite":
        return tmp_path / "service.db"
    found = request.getfixturevalue("postgres")
    tables = Database(found)
    for name in ("tokens", "uploads", "jobs", "maps"):
        tables.run(f"DELETE FROM {name}")
    tables.close()
    return found


@pytest.fixture
def database(address):
    found = Database(address)
    yield found
    found.close()


@pytest.fixture
def queue(address, tmp_path):
    found = open_queue(address if isinstance(address, str) else tmp_path / "queue.db")
    yield found
    if hasattr(found, "close"):
        found.close()
