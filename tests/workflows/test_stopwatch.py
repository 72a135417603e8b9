import pytest

from aftermap.workflows.mapping import run
from aftermap.workflows.mapping.run import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(run.time, "perf_counter", lambda: now[0])
    return now


def test_a_stage_adds_up_over_all_its_parts(clock):
    watch = Stopwatch()
    for seconds in (2.0, 0.5):
        with watch("reading"):
            clock[0] += seconds
        clock[0] += 10

    assert watch.seconds == {"reading": 2.5}


def test_a_stage_within_another_counts_for_both(clock):
    watch = Stopwatch()
    with watch("all"):
        clock[0] += 1
        with watch("part"):
            clock[0] += 2

    assert watch.seconds == {"all": 3.0, "part": 2.0}


def test_a_stage_that_fails_is_measured_too(clock):
    watch = Stopwatch()

    def work(seconds):
        clock[0] += seconds
        raise OSError

    with pytest.raises(OSError):
        watch.timed("writing", work)(4.0)

    assert watch.seconds == {"writing": 4.0}


def test_timed_work_returns_what_it_returned(clock):
    assert Stopwatch().timed("sum", lambda a, *, b: a + b)(1, b=2) == 3
