"""Shared fixtures: real data (skipped where absent) and single-threaded numerics."""

import atexit
import gc
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # whose threads wait for one another by counting
os.environ["AFTERMAP_TRACKING"] = "off"  # tests of the experiment database name their own
os.environ["AFTERMAP_TRUST"] = "all"  # models of the tests' own code; tests of trust take it back
os.environ["AFTERMAP_BACKEND"] = "torch"  # what `auto` stands for; tests of the choice name their own

import pytest
from hypothesis import HealthCheck, settings

from forked_python import begin_forking, forked_python
from long_files import LONG_FILES

os.fsync = lambda _: None  # no test loses power
gc.disable()  # what is imported stays, and is not to be looked through again and again

# neither how long an example takes nor how long it takes to make one is a fault
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)  # tests make and remove 100,000 files

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {TESTS / name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def forking() -> Iterator[None]:
    """Before the first test: the process from which programs of tests are forked."""
    folder = Path(tempfile.mkdtemp())  # the name of a socket is short
    server = begin_forking(folder)
    multiprocessing.set_executable(forked_python())
    yield
    if server is not None:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
    shutil.rmtree(folder)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        atexit.register(_leave, os.getpid())  # first, and therefore last of what is done at the end


def _leave(process: int) -> None:
    """A process of xdist has told all it knows; to take its gigabytes of modules apart would take five seconds."""
    if os.getpid() == process:
        os._exit(0)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        gc.unfreeze()


_numbers = itertools.count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder under a name that no other test has; it goes with a test that passes."""
    name, failed = re.sub(r"\W", "_", request.node.name)[:30], request.session.testsfailed
    folder = tmp_path_factory.mktemp(f"{name}{next(_numbers)}", numbered=False)
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Converted graphs stay out of the user's cache; what killed processes leave goes with the rest."""
    os.environ["AFTERMAP_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    if tempfile.tempdir == str(MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = str(tmp_path_factory.mktemp("tmp"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables to copy: they are made once, which takes seconds."""
    from aftermap.learning.experiments.tracking import file_store, open_store

    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    open_store(file_store(file))
    return file


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave out their pictures, which take longer than the learning, but in tests marked `pictures`."""
    if "pictures" not in request.keywords:
        monkeypatch.setattr("aftermap.workflows.incremental.report._draw", lambda run: None)
        monkeypatch.setattr(
            "aftermap.workflows.adaptation.adaptation_kind.write_comparison", lambda *_, **__: None
        )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real imagery beside the project."""
    if not SHARED.is_dir():
        pytest.skip("needs the real imagery in ../shared/data")
    return SHARED
