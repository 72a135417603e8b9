"""A worker does what is told of, says how far it is, ends when it is cancelled, and may be killed at any time."""

import os
import signal
import subprocess
import threading
import time
import uuid

import pytest

import waiting_worker
from aftermap import api
from aftermap.errors import InputError
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.service import worker as module
from aftermap.workflows.service.database import Database
from aftermap.workflows.service.jobs import Jobs
from aftermap.workflows.service.place import Limits, Place
from aftermap.workflows.service.queues import open_queue
from aftermap.workflows.service.staff import Staff
from aftermap.workflows.service.worker import Worker
from forked_python import forked_python
from reviewed_map import GROUND, make_map

WANTED = {"pre": "a" * 32, "post": "b" * 32}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data", Limits(free_bytes=0, attempts=50)).made()


@pytest.fixture
def tables(place):
    found = Database(place.database)
    yield found
    found.close()


@pytest.fixture
def jobs(tables):
    return Jobs(tables, attempts=50)


@pytest.fixture
def working(place, tables, monkeypatch):
    """A worker whose jobs do what a test says."""

    def make(do):
        monkeypatch.setattr(module, "run_job", lambda place, uploads, maps, job, report: do(job, report))
        return Worker(place, tables, open_queue(place.queue), name="one")

    return make


def test_a_job_is_done_and_says_how_far_it_is(working, jobs):
    number, seen = jobs.add("ana", "map", WANTED).id, []

    def do(job, report):
        report("predicting", 1, 4)
        seen.append(jobs.find(number).progress)

    worker = working(do)
    worker.handle(number)
    worker.handle(number)  # told twice, done once
    assert jobs.find(number).state == "done" and seen == [{"stage": "predicting", "done": 1, "total": 4}]


def test_an_error_of_the_user_is_told_without_folders_and_one_of_ours_without_words(working, jobs, place):
    def wrong(job, report):
        raise InputError(f"{place.folder}/uploads/x/pre.tif is empty")

    def broken(job, report):
        raise KeyError("secret")

    for do, told in ((wrong, "uploads/x/pre.tif is empty"), (broken, "KeyError")):
        number = jobs.add("ana", "map", WANTED).id
        working(do).handle(number)
        job = jobs.find(number)
        assert job.state == "failed" and told in job.error
        assert str(place.folder) not in job.error and "secret" not in job.error


def test_a_job_that_is_cancelled_ends_and_another_one_of_a_stopped_worker_waits_again(working, jobs):
    number = jobs.add("ana", "map", WANTED).id

    def cancelled(job, report):
        jobs.cancel(number)
        report("predicting", 0, 1)
        raise AssertionError("it went on")

    working(cancelled).handle(number)
    assert jobs.find(number).state == "cancelled"
    waiting = jobs.add("ana", "map", WANTED).id

    def stopped(job, report):
        worker.stop.set()
        report("predicting", 0, 1)

    worker = working(stopped)
    worker.handle(waiting)
    assert jobs.find(waiting).state == "queued" and jobs.find(waiting).attempts == 0


def test_a_job_of_a_lost_worker_is_found_by_the_next(working, jobs, monkeypatch):
    number = jobs.add("ana", "map", WANTED).id
    jobs.claim(number, "gone")
    later = time.time() + 60
    monkeypatch.setattr("aftermap.workflows.service.jobs.time.time", lambda: later)
    working(lambda job, report: None).look()
    assert jobs.find(number).state == "done" and jobs.find(number).attempts == 2


def test_a_worker_of_a_team_hears_of_jobs_and_of_those_that_were_forgotten(
    database, queue, place, monkeypatch
):
    done = []
    monkeypatch.setattr(module, "run_job", lambda place, uploads, maps, job, report: done.append(job.id))
    monkeypatch.setattr(module, "warm", lambda: None)
    monkeypatch.setattr("aftermap.workflows.service.jobs._TELLING_AGAIN_SECONDS", 0.0)
    jobs = Jobs(database)
    told, forgotten = (jobs.add("ana", "map", WANTED).id for _ in range(2))
    queue.put(told)
    queue.put(told)
    worker = Worker(place, database, queue, name="one")
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_for(lambda: jobs.count("done") == 2)
    worker.stop.set()
    thread.join(20)
    assert not thread.is_alive() and sorted(done) == sorted([told, forgotten])


def test_learning_makes_the_tiles_anew_and_keeps_the_answers(place, tables, jobs, tmp_path, monkeypatch):
    from aftermap.workflows.review.images import open_images
    from reviewed_map import make_map

    found = make_map(tmp_path)
    open_images(found, tmp_path / "before.tif", tmp_path / "after.tif").close()
    (tmp_path / "map").rename(place.map(number := uuid.uuid4().hex))
    shown = place.display(number)
    shown.mkdir()
    (shown / "display.json").write_text("{}")
    learnt = []
    monkeypatch.setattr("aftermap.workflows.event_model.run.learn_from_answers", learnt.append)
    job = jobs.add("local", "learn", {"map": number}, of=number).id
    Worker(place, tables, open_queue(place.queue), name="one").handle(job)
    assert jobs.find(job).state == "done" and learnt == [place.map(number)]
    assert (shown / "pre.tif").is_file() and (place.map(number) / "review" / "images.json").is_file()


def keep(place, tables, path, kind="image"):
    """An upload as if it had been sent."""
    number = uuid.uuid4().hex
    folder = place.upload(number)
    folder.mkdir()
    (folder / path.name).write_bytes(path.read_bytes())
    tables.run(
        "INSERT INTO uploads (id, owner, name, bytes, kind, described, created) VALUES (?,?,?,?,?,?,?)",
        (number, "local", path.name, path.stat().st_size, kind, "{}", time.time()),
    )
    return number


def wait_for(found, seconds=60.0):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "took too long"
        time.sleep(0.01)
    return value


def begin(place, *stages):
    """A worker as a process of its own, in which nothing was computed before: OpenVINO does not survive a fork."""
    return subprocess.Popen([forked_python(), waiting_worker.__file__, place.folder, *stages])


def test_a_worker_that_is_killed_twice_loses_no_job_and_makes_no_map_twice(
    place, tables, jobs, tmp_path, monkeypatch
):
    """The first time while it predicts, the second while it makes tiles; the map is as the command makes it."""
    make_map(tmp_path)
    monkeypatch.delenv("AFTERMAP_BACKEND")  # the exported graph, without PyTorch
    pre, post = tmp_path / "before.tif", tmp_path / "after.tif"
    wanted = {"pre": keep(place, tables, pre), "post": keep(place, tables, post), "align": "off"}
    number = jobs.add("local", "map", {**wanted, "title": "town"}).id
    open_queue(place.queue).put(number)
    for stage in ("predicting", "tiles"):
        worker = begin(place, stage)
        wait_for(lambda stage=stage: jobs.find(number).progress.get("stage") == stage)
        worker.kill()
        worker.wait()
    worker = begin(place)
    done = wait_for(lambda: (job := jobs.find(number)).has_ended and job)
    worker.terminate()
    worker.wait()
    assert done.state == "done" and done.attempts == 3
    assert len(tables.rows("SELECT id FROM maps")) == 1 and not list(place.folder.glob("maps/*.work"))
    api.map(pre, post, tmp_path / "by-command", align="off")
    assert open_map(place.map(number)).grid == GROUND
    for name in ("damage.tif", "buildings.gpkg", "buildings.geojson"):
        made, expected = (folder / name for folder in (place.map(number), tmp_path / "by-command"))
        assert made.read_bytes() == expected.read_bytes(), name


def test_a_worker_that_ends_is_started_again_and_gives_its_job_back(place, tables, jobs):
    said = []
    staff = Staff(place, None, 1, jobs, lambda event, about: said.append((event, about)))
    staff.start()
    (name,), (process,) = list(staff._running), staff.processes
    number = jobs.add("ana", "map", WANTED).id
    jobs.claim(number, name)
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: said)
    assert said == [("worker ended", {"worker": name, "status": -signal.SIGKILL, "gave back": [number]})]
    wait_for(lambda: staff.running() == 1)
    assert jobs.find(number).state == "queued"
    staff.stop()
    assert staff.running() == 0
