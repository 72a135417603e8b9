"""`aftermap totals` on the command line: what it prints, and what it refuses in one line."""

import json

import pytest

import finished_maps
from aftermap.cli.app import main
from aftermap.cli.maps.totals import share_of
from aftermap.errors import InputError
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.totals.sampling import sample_of

DAMAGE = ["destroyed", "no-damage", "no-damage", "minor-damage"] * 15


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main(["totals", *map(str, words)])
    return ended.value.code


@pytest.fixture
def folder(tmp_path):
    places = [(5 + 10 * (n % 11), 5 + 10 * (n // 11)) for n in range(len(DAMAGE))]
    return finished_maps.finish(tmp_path / "karte", finished_maps.table(places, DAMAGE))


def answer(folder, count):
    sample = sample_of(open_map(folder), count)
    truth = dict(zip((f"b{n}" for n in range(1, 61)), DAMAGE, strict=True))
    Journal(folder).add(
        Answer(building_id=name, verdict=truth[name], reviewer="ana", origin="sample")
        for name in sample.drawn
    )


def test_a_map_nobody_looked_at_has_counts_and_no_interval(folder, capsys):
    assert run(folder) == 0
    told = capsys.readouterr().out
    assert "the map counts 30 damaged of 60 buildings" in told and "nothing is known of their error" in told
    assert "interval" not in told


def test_an_answered_sample_has_intervals(folder, capsys):
    answer(folder, 24)
    assert run(folder, "--target", "5%") == 0
    told = capsys.readouterr().out
    assert "about 30 damaged buildings, between" in told and "95 % interval" in told
    assert "± 5 % of damaged takes about" in told and "uncalibrated on this event" in told


def test_a_full_count_is_called_one(folder, capsys):
    answer(folder, 60)
    assert run(folder) == 0
    assert "30 damaged buildings: every one was looked at" in capsys.readouterr().out


def test_json_is_all_that_is_printed(folder, capsys):
    answer(folder, 24)
    assert run(folder, "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["sample"]["answers"] == 24 and tree["totals"]["damaged"]["low"] < 30


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no such folder"),
        (["."], "not a finished map"),
        (["karte", "--target", "much"], "--target much is no share"),
        (["karte", "--target", "0%"], "is no share"),
        (["karte", "--risk", "2"], "risk"),
    ],
)
def test_a_mistake_is_one_line(folder, words, told, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert run(*words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1].lower() or told in lines[-1]


def test_shares_are_read_in_both_ways():
    assert share_of("10%") == share_of("0.1") == share_of(" 10 % ")
    with pytest.raises(InputError):
        share_of("150%")
