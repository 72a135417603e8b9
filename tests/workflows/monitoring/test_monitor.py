"""Maps of several dates as one series: states, changes, gaps and contradictions, each computed by hand."""

import json
import re

import geopandas
import numpy as np
import pytest

from aftermap import api
from aftermap.errors import InputError, OutputError
from aftermap.geo.grid import Grid
from aftermap.workflows.monitoring.states import UNKNOWN, contradictions, states
from finished_maps import GRID, SHARES, finished, house

PLACES = {"A": house(4, 4), "B": house(24, 4), "C": house(44, 4), "D": house(64, 4), "E": house(84, 4)}
FIRST = {"A": "no-damage", "B": "no-damage", "C": "not-assessed", "D": "minor-damage", "E": "destroyed"}
SECOND = {"A": "destroyed", "B": "not-assessed", "C": "destroyed", "D": "major-damage", "E": "no-damage"}
THIRD = {"A": "destroyed", "B": "minor-damage", "C": "destroyed", "D": "destroyed", "E": "destroyed"}


def town(classes, places=PLACES):
    return {name: (places[name], damage) for name, damage in classes.items()}


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    days = ("2026-02-08", "2026-02-20", "2026-03-03")
    return [
        finished(folder / f"map{number}", town(classes), acquired=("2026-01-01", day))
        for number, (classes, day) in enumerate(zip((FIRST, SECOND, THIRD), days, strict=True), start=1)
    ]


@pytest.fixture(scope="module")
def series(maps, tmp_path_factory):
    return api.monitor([maps[2], maps[0], maps[1]], tmp_path_factory.mktemp("series") / "out")


def test_states_follow_the_days_and_damage_stays(series):
    rows = series.buildings.set_index("building_id")
    days = ["state_20260208", "state_20260220", "state_20260303"]
    assert rows.loc["A", days].tolist() == ["no-damage", "destroyed", "destroyed"]
    assert rows.loc["B", days].tolist() == [
        "no-damage",
        "no-damage",
        "minor-damage",
    ]  # not assessed in between
    assert rows.loc["C", days].tolist() == ["not-assessed", "destroyed", "destroyed"]
    assert rows.loc["D", days].tolist() == ["minor-damage", "major-damage", "destroyed"]
    # destroyed, none, destroyed: .8 .01 .8 against .05 .9 .8 for none, none, destroyed
    assert rows.loc["E", days].tolist() == ["no-damage", "no-damage", "destroyed"]
    assert rows["contradicted"].tolist() == [False, False, False, False, True]
    assert rows["destroyed_since"].tolist() == ["2026-02-20", "", "2026-02-20", "2026-03-03", "2026-03-03"]
    assert rows["newly_destroyed"].tolist() == [False, False, False, True, True]
    assert rows.loc["E", "map_20260208"] == "destroyed" and rows.loc["B", "assessed"] == 2


def test_the_summary_counts_what_is_new(series):
    told = series.summary
    assert [row["date"] for row in told["dates"]] == ["2026-02-08", "2026-02-20", "2026-03-03"]
    assert [row["map"] for row in told["dates"]] == ["map1", "map2", "map3"]
    assert told["dates"][1]["held_over"] == 1 and told["contradicted"] == 1
    first, second = told["changes"]
    assert (first["newly_destroyed"], first["worse"], first["first_assessed_destroyed"]) == (1, 2, 1)
    assert (second["newly_damaged"], second["newly_destroyed"], second["better"]) == (2, 2, 0)
    assert json.loads((series.folder / "series.json").read_text()) == told


def test_every_change_is_a_row(series):
    written = geopandas.read_file(series.folder / "changes.gpkg", layer="changes")
    rows = list(
        zip(written["building_id"], written["from"], written["damage"], written["until"], strict=True)
    )
    assert rows == [
        ("A", "no-damage", "destroyed", "2026-02-20"),
        ("C", "not-assessed", "destroyed", "2026-02-20"),
        ("D", "minor-damage", "major-damage", "2026-02-20"),
        ("B", "no-damage", "minor-damage", "2026-03-03"),
        ("D", "major-damage", "destroyed", "2026-03-03"),
        ("E", "no-damage", "destroyed", "2026-03-03"),
    ]
    assert written["first_assessed"].tolist() == [False, True, False, False, False, False]


def test_the_page_holds_every_date_offline(series):
    page = (series.folder / "series.html").read_text()
    assert "default-src 'none'" in page and not re.search(r"https?://|<link|<script src", page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["times"]["labels"] == ["2026-02-08", "2026-02-20", "2026-03-03"]
    assert data["times"]["notes"] == [
        "0 destroyed",
        "1 newly destroyed",
        "2 newly destroyed",
    ]
    assert [len(tiles) for tiles in data["times"]["tiles"]] == [1, 1, 1]


def test_with_repair_every_map_is_taken_at_its_word(maps, tmp_path):
    told = api.monitor(maps, tmp_path / "out", allow_repair=True)
    days = ["state_20260208", "state_20260220", "state_20260303"]
    assert told.buildings.set_index("building_id").loc["E", days].tolist() == [
        "destroyed",
        "no-damage",
        "destroyed",
    ]
    assert told.summary["changes"][0]["better"] == 1


def test_other_outlines_are_matched_by_overlap(maps, tmp_path):
    places = {"1": house(5, 5), "2": house(64, 4), "3": house(4, 40)}
    later = {"1": "destroyed", "2": "destroyed", "3": "destroyed"}
    other = finished(
        tmp_path / "traced", town(later, places), acquired=("2026-01-01", "2026-04-01"), model="other"
    )
    told = api.monitor([maps[0], other], tmp_path / "out")
    rows = told.buildings.set_index("building_id")
    assert rows["state_20260401"].to_dict() == {
        "A": "destroyed",
        "B": "no-damage",  # the later map has it not: it stays
        "C": "not-assessed",
        "D": "destroyed",
        "E": "destroyed",
        "3": "destroyed",
    }
    assert rows.loc["3", "state_20260208"] == "not-assessed"
    assert [note.split()[:5] for note in told.summary["notes"]] == [
        ["the", "maps", "are", "of", "different"],
        ["the", "maps", "have", "different", "outlines:"],
    ]


def test_what_cannot_be_a_series_is_told(maps, tmp_path):
    undated = finished(tmp_path / "undated", town(FIRST), acquired=(None, None))
    with pytest.raises(InputError, match="undated does not say when"):
        api.monitor([maps[0], undated], tmp_path / "out")
    for match, given, days in (
        ("two maps are of the same day", [maps[0], undated], ["2026-02-08", "2026-02-08"]),
        ("expected a day such as", [maps[0], undated], ["2026-02-08", "soon"]),
        ("3 days for 2 maps", [maps[0], undated], ["2026-02-08", "2026-02-09", "2026-02-10"]),
        ("takes two or more", [maps[0]], None),
    ):
        with pytest.raises(InputError, match=match):
            api.monitor(given, tmp_path / "out", dates=days)
    api.monitor([maps[0], undated], tmp_path / "out", dates=["2026-02-08", "2026-02-09"])
    with pytest.raises(OutputError, match="--overwrite"):
        api.monitor(maps, tmp_path / "out")
    api.monitor(maps, tmp_path / "out", overwrite=True)
    away = finished(
        tmp_path / "away", town({"A": "destroyed"}, {"A": house(2000, 4)}), acquired=("", "2026-05-01")
    )
    with pytest.raises(InputError, match="does not lie where"):
        api.monitor([maps[0], away], tmp_path / "away-series")
    pixels = Grid(None, GRID.transform, GRID.width, GRID.height)
    plain = finished(tmp_path / "plain", town(SECOND), grid=pixels, acquired=("", "2026-05-01"))
    with pytest.raises(InputError, match="counts pixels"):
        api.monitor([maps[0], plain], tmp_path / "plain-series")


def test_the_most_likely_sequence_that_never_falls():
    likely = np.array([SHARES["no-damage"], SHARES["destroyed"], SHARES["no-damage"]])
    said = np.array([[0, 3, 0], [0, UNKNOWN, 1], [UNKNOWN, 2, UNKNOWN]])
    found = states(said, np.stack([likely] * 3), allow_repair=False)
    # none three times: .9 .05 .9; none, destroyed, destroyed: .9 .8 .01
    assert found.tolist() == [[0, 0, 0], [0, 0, 1], [UNKNOWN, 2, 2]]
    assert contradictions(said).tolist() == [True, False, False]
    assert states(said, np.stack([likely] * 3), allow_repair=True)[0].tolist() == [0, 3, 0]


def test_against_every_sequence_that_never_falls():
    from itertools import combinations_with_replacement

    rng = np.random.default_rng(0)
    likely = rng.dirichlet(np.ones(4), (40, 4))
    said = likely.argmax(axis=2)
    found = states(said, likely, allow_repair=False)
    for row in range(40):
        paths = list(combinations_with_replacement(range(4), 4))
        best = max(paths, key=lambda path, row=row: np.prod(likely[row, range(4), path]))
        expected = best if contradictions(said[row : row + 1])[0] else said[row]
        assert found[row].tolist() == list(expected)
