"""Jobs are lost by nobody and done by one, in SQLite and in PostgreSQL."""

import threading
import time

import pytest

from aftermap.errors import InputError
from aftermap.workflows.service import jobs as module
from aftermap.workflows.service.database import Database, is_postgres
from aftermap.workflows.service.jobs import Jobs

WANTED = {"pre": "a" * 32, "post": "b" * 32}


@pytest.fixture
def jobs(database):
    return Jobs(database, attempts=3)


def test_a_key_that_is_sent_twice_is_one_job(jobs):
    first = jobs.add("ana", "map", WANTED, key="k1")
    assert jobs.add("ana", "map", WANTED, key="k1").id == first.id
    assert jobs.add("bo", "map", WANTED, key="k1").id != first.id
    assert jobs.add("ana", "map", WANTED).id != jobs.add("ana", "map", WANTED).id
    with pytest.raises(InputError, match="another job"):
        jobs.add("ana", "map", {**WANTED, "post": "c" * 32}, key="k1")
    assert len(jobs.all("ana")) == 3 and len(jobs.all()) == 4 and jobs.count("queued", owner="bo") == 1


def test_of_many_workers_one_has_the_job(jobs, address):
    number = jobs.add("ana", "map", WANTED).id
    taken, begin = [], threading.Barrier(8)

    def take(name):
        mine = Database(address)
        begin.wait()
        if Jobs(mine).claim(number, name) is not None:
            taken.append(name)
        mine.close()

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1 and jobs.find(number).worker == taken[0]


def test_a_worker_that_lost_its_job_can_say_nothing_of_it(jobs):
    number = jobs.add("ana", "map", WANTED).id
    jobs.claim(number, "one")
    assert jobs.tell(number, "one", {"stage": "predicting", "done": 1, "total": 2})
    assert jobs.give_back("one") == [number]
    assert not jobs.tell(number, "one") and not jobs.end(number, "one", "done")
    jobs.claim(number, "two")
    assert not jobs.end(number, "one", "done") and jobs.end(number, "two", "done")
    assert jobs.find(number).state == "done" and jobs.find(number).attempts == 2


def test_what_was_not_heard_of_for_a_while_waits_again(jobs, database, monkeypatch):
    number = jobs.add("ana", "map", WANTED).id
    jobs.claim(number, "one")
    assert jobs.give_back() == []
    later = time.time() + module.LEASE_SECONDS + 1
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert jobs.give_back() == [number] and jobs.find(number).state == "queued"


def test_a_job_that_ends_its_workers_is_given_up(jobs):
    number = jobs.add("ana", "map", WANTED).id
    for attempt in (1, 2, 3):
        assert jobs.claim(number, "one").attempts == attempt
        assert jobs.give_back("one") == ([number] if attempt < 3 else [])
    failed = jobs.find(number)
    assert failed.state == "failed" and "3 times" in failed.error
    assert jobs.retry(number) and jobs.find(number).attempts == 0


def test_an_attempt_that_was_ended_in_good_order_does_not_count(jobs):
    number = jobs.add("ana", "map", WANTED).id
    for _ in range(5):
        jobs.claim(number, "one")
        assert jobs.give_back("one", unbegun=True) == [number]
    assert jobs.find(number).attempts == 0


def test_cancelling_ends_a_job_that_waits_at_once_and_one_that_runs_when_it_hears_of_it(jobs):
    waiting, running = jobs.add("ana", "map", WANTED).id, jobs.add("ana", "map", WANTED).id
    jobs.claim(running, "one")
    jobs.cancel(waiting)
    jobs.cancel(running)
    assert jobs.find(waiting).state == "cancelled" and jobs.claim(waiting, "two") is None
    assert jobs.find(running).stopping and not jobs.tell(running, "one")
    assert (
        jobs.give_back("one") == [] and jobs.find(running).state == "cancelled"
    )  # its worker was killed meanwhile
    assert jobs.retry(waiting) and jobs.claim(waiting, "two") is not None
    assert not jobs.retry(waiting)


def test_jobs_that_the_queue_forgot_are_found(jobs, monkeypatch):
    number = jobs.add("ana", "map", WANTED).id
    assert jobs.untold() == []
    later = time.time() + 6
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert jobs.untold() == [number]


def test_a_connection_that_was_cut_is_made_again(postgres):
    first, second = Database(postgres), Database(postgres)
    pid = first.row("SELECT pg_backend_pid() AS n")["n"]
    second.run("SELECT pg_terminate_backend(?)", (pid,))
    assert first.row("SELECT 1 AS n") == {"n": 1}
    first.close()
    second.close()


def test_only_postgresql_is_an_address():
    assert is_postgres("postgresql://a@b/c") and not is_postgres("/data/service.db")


def test_a_database_that_is_not_there_is_told_without_its_password():
    pytest.importorskip("psycopg")
    with pytest.raises(InputError) as told:
        Database("postgresql://ana:geheim@127.0.0.1:1/nothing")
    assert "geheim" not in str(told.value) and "\n" not in str(told.value)
