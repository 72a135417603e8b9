"""Where standard error is no terminal, long work says now and then how far it is."""

import pytest

from aftermap.cli.progress import EVERY_SECONDS, Lines, amount_done, clock_time, progress


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def told(clock, unit=""):
    lines = []
    return Lines(unit, clock=clock, write=lines.append), lines


def test_short_work_says_nothing(clock):
    show, lines = told(clock)
    for done in range(101):
        clock.seconds += 0.29
        show("scoring", done, 100)
    assert lines == []


def test_long_work_says_every_thirty_seconds_how_much_is_done_and_left(clock):
    show, lines = told(clock)
    show("training", 0, 1000)
    for step in range(1, 301):
        clock.seconds += 1
        show("training", step, 1000, f"loss {step / 100:.2f}")
    assert len(lines) == 300 / EVERY_SECONDS
    assert lines[0] == "training: 30 of 1000, 3 %, 16:10 left  loss 0.30"
    assert lines[-1] == "training: 300 of 1000, 30 %, 11:40 left  loss 3.00"


def test_the_time_left_of_a_resumed_run_is_that_of_its_own_pace(clock):
    """From 600 to 660 in one minute: the 340 that are left take 340 seconds, not those of 660 in a minute."""
    show, lines = told(clock)
    show("training", 600, 1000)
    clock.seconds += 60
    show("training", 660, 1000)
    assert lines == ["training: 660 of 1000, 66 %, 5:40 left"]


def test_the_end_of_a_stage_is_said_where_the_stage_was_heard_of(clock):
    show, lines = told(clock, "Mpx")
    show("reading", 0, 2.0)
    show("reading", 2.0, 2.0)
    show("mapping", 0, 20.5)
    clock.seconds += 31
    show("mapping", 10.25, 20.5)
    clock.seconds += 10
    show("mapping", 20.5, 20.5)
    assert lines == [
        "mapping: 10.2 of 20.5 Mpx, 50 %, 0:31 left",
        "mapping: 20.5 of 20.5 Mpx, done in 0:41",
    ]


def test_many_short_stages_are_heard_of_together(clock):
    show, lines = told(clock)
    for number in range(12):
        show(f"model {number}", 0, 1)
        clock.seconds += 10
        show(f"model {number}", 1, 1)
    assert lines == [f"model {number}: 1 of 1, done in 0:10" for number in (2, 5, 8, 11)]


def test_work_without_a_known_end_says_how_much_is_done(clock):
    show, lines = told(clock)
    clock.seconds += 30
    show("cutting", 17, None)
    assert lines == ["cutting: 17"]


def test_lines_go_to_standard_error_where_it_is_no_terminal(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("aftermap.cli.progress.time.monotonic", clock)
    monkeypatch.setattr(
        "aftermap.cli.progress.Lines.__init__.__kwdefaults__", {"clock": clock, "write": None}
    )
    with progress("Mpx") as show:
        show("mapping", 0.0, 4.0)
        clock.seconds += 45
        show("mapping", 1.0, 4.0)
    assert capsys.readouterr().err == "mapping: 1.0 of 4.0 Mpx, 25 %, 2:15 left\n"


def test_a_terminal_gets_bars(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress() as show:
        show("scoring", 1, 4, "a note")
    err = capsys.readouterr().err
    assert "scoring" in err and "1 of 4" in err and "a note" in err


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"),
    [(3, 10, "", "3 of 10"), (3, None, "", "3"), (1.25, 4, "Mpx", "1.2 of 4.0 Mpx"), (0, 0, "", "0 of 0")],
)
def test_counts(done, total, unit, text):
    assert amount_done(done, total, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (42.4, "0:42"), (59.6, "1:00"), (725, "12:05"), (7200, "2:00:00")]
)
def test_clock_times(seconds, text):
    assert clock_time(seconds) == text
