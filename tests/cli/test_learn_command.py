"""`aftermap learn` as a user types it."""

import json

import pytest

from aftermap.cli.app import main
from aftermap.workflows.review.answers import Answer, Journal
from finished_maps import finish, table


def run(capsys, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in ("learn", *words)])
    told = capsys.readouterr()
    return ended.value.code, told.out, " ".join(told.err.split())


@pytest.fixture
def town(tmp_path):
    places = [(4 + 9 * (n % 12), 5 + 12 * (n // 12)) for n in range(72)]
    folder = finish(tmp_path / "town", table(places, ["no-damage", "destroyed"] * 36))
    Journal(folder).add(
        Answer(building_id=f"b{n + 1}", verdict=("no-damage", "destroyed")[n % 2], reviewer="ana")
        for n in range(40)
    )
    return folder


def test_it_says_what_was_found_and_undoes_it(town, capsys):
    pytest.importorskip("sklearn")
    before = (town / "buildings.gpkg").read_bytes()
    status, out, _ = run(capsys, town)
    assert status == 0
    assert (
        "no better: log loss " in out
        and "macro F1 1.000 -> 1.000" in out
        and "this map kept no features" in out
    )
    status, out, _ = run(capsys, town, "--undo", "--json")
    assert status == 0 and json.loads(out)["undone"]
    assert (town / "buildings.gpkg").read_bytes() == before


@pytest.mark.parametrize("words", [(), ("--undo",)])
def test_what_is_no_map_is_refused_in_a_line(tmp_path, capsys, words):
    status, _, error = run(capsys, tmp_path / "nowhere", *words)
    assert status == 2 and "is not a finished map" in error
    status, _, error = run(capsys, tmp_path, *words)
    assert status == 2 and "is not a finished map" in error


def test_a_map_without_answers_is_told_how_to_get_some(tmp_path, capsys):
    pytest.importorskip("sklearn")
    folder = finish(tmp_path / "town", table([(5, 5)], ["destroyed"]))
    status, _, error = run(capsys, folder)
    assert status == 2 and "0 answers that tell the damage" in error and "aftermap review" in error
    status, _, error = run(capsys, folder, "--undo")
    assert status == 2 and "nothing was learnt here" in error
