import socket
from pathlib import Path

import pytest

import odd_jobs
from aftermap.errors import AftermapError, InputError, ModelError
from aftermap.worklist.job import Job, Outcome
from aftermap.worklist.run import run_jobs
from aftermap.worklist.team import Limits

ENDS = ("well", "input", "bug", "second", "killed", "killed-once", "large", "long")


@pytest.fixture(scope="module", autouse=True)
def workers_find_the_work() -> "object":
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(odd_jobs.__file__).parent))
        yield


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def ended(folder: Path, told: list[str]) -> dict[str, Outcome]:
    """Each kind of job once, by two workers."""
    found = run_jobs(
        odd_jobs.OddWork(folder),
        [Job(end, {"end": end}) for end in ENDS],
        limits=Limits(workers=2, retries=1, memory_bytes=300_000_000, seconds=2.0),
        say=told.append,
    )
    assert [outcome.name for outcome in found] == list(ENDS)
    return {outcome.name: outcome for outcome in found}


def begun(folder: Path, name: str) -> int:
    return len((folder / name).read_text().splitlines())


def test_a_job_that_ends_well_is_done_once_and_tells_its_facts(ended, folder):
    assert (ended["well"].state, ended["well"].attempts, begun(folder, "well")) == ("done", 1, 1)
    assert ended["well"].facts["by"] > 0


def test_a_job_whose_input_is_at_fault_is_not_tried_again(ended, folder):
    assert (ended["input"].cause, ended["input"].reason) == ("input", "pre.tif is no image")
    assert begun(folder, "input") == 1


def test_an_error_of_another_kind_is_tried_again_and_told_in_one_line(ended, folder):
    assert (ended["bug"].cause, ended["bug"].reason) == ("error", "ZeroDivisionError: division by zero")
    assert begun(folder, "bug") == ended["bug"].attempts == 2
    assert (ended["second"].state, ended["second"].attempts) == ("done", 2)


def test_a_job_that_kills_its_worker_is_given_up_and_the_rest_is_done(ended, folder):
    assert (ended["killed"].state, ended["killed"].cause) == ("failed", "crash")
    assert "SIGKILL" in ended["killed"].reason
    assert begun(folder, "killed") == 2
    assert (ended["killed-once"].state, ended["killed-once"].attempts) == ("done", 2)


def test_a_job_beyond_the_memory_of_a_worker_fails_at_once(ended, folder):
    assert (ended["large"].cause, begun(folder, "large")) == ("memory", 1)
    assert ended["large"].reason == "needs more memory than the 0.3 GB of a worker"


def test_a_job_that_takes_too_long_is_stopped(ended, folder):
    assert (ended["long"].cause, begun(folder, "long")) == ("time", 1)
    assert ended["long"].reason == "took longer than 2 s"


def test_the_log_tells_every_attempt(ended, told):
    assert sum(line.startswith("killed: attempt") for line in told) == 2
    assert any("tried again" in line for line in told)


def test_work_that_cannot_be_started_is_refused_in_its_own_words(tmp_path):
    with pytest.raises(ModelError, match="no model at nowhere"):
        run_jobs(odd_jobs.OddWork(tmp_path, "missing"), [Job("a", {"end": "well"})], limits=Limits(1))


def test_workers_that_die_before_any_job_are_not_replaced_for_ever(tmp_path):
    with pytest.raises(AftermapError, match="die before any job: exit status 3"):
        run_jobs(odd_jobs.OddWork(tmp_path, "deadly"), [Job("a", {"end": "well"})], limits=Limits(1))


def test_workers_that_may_hold_less_than_they_begin_with_are_told_by_their_limit(tmp_path):
    with pytest.raises(
        AftermapError, match=r"more memory than 0.001 GB before any job: allow more \(--memory"
    ):
        limits = Limits(1, memory_bytes=10**6)
        run_jobs(odd_jobs.OddWork(tmp_path, "slow"), [Job("a", {"end": "well"})], limits=limits)


def test_no_jobs_need_no_worker(tmp_path):
    assert run_jobs(odd_jobs.OddWork(tmp_path, "missing"), []) == []


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://localhost:{port}"])
def test_a_cluster_that_does_not_answer_is_told_before_any_work(tmp_path, address):
    with socket.socket() as bound:  # a port that nobody listens at
        bound.bind(("127.0.0.1", 0))
        where = address.format(port=bound.getsockname()[1])
        with pytest.raises(InputError, match=f"no Ray cluster at {where}: nothing answers there"):
            run_jobs(odd_jobs.OddWork(tmp_path), [], engine="ray", address=where)


def test_an_address_without_ray_is_refused(tmp_path):
    with pytest.raises(InputError, match="pass --engine ray"):
        run_jobs(odd_jobs.OddWork(tmp_path), [], address="auto")
