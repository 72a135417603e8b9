"""`totals` of a finished map: with a sample, without one, and what is refused."""

import json

import numpy as np
import pandas
import pytest

import aftermap
from aftermap.errors import InputError
from aftermap.products.vectors import write_buildings
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.totals.estimate import looked_at
from aftermap.workflows.totals.further import answers_needed
from aftermap.workflows.totals.sampling import sample_of
from finished_maps import finish, table
from sampled_towns import answered


@pytest.fixture(scope="module")
def made():
    """Places and damage of 400 buildings, eight of which were not assessed, and the truth."""
    generator = np.random.default_rng(8)
    damage = generator.choice(
        ["no-damage", "minor-damage", "major-damage", "destroyed"], 400, p=[0.7, 0.1, 0.05, 0.15]
    )
    truth = np.where(generator.random(400) < 0.85, damage, "no-damage")
    damage[:8] = "not-assessed"
    places = [(5 + 6 * (n % 18), 3 + 3 * (n // 18)) for n in range(400)]
    return table(places, damage.tolist()), truth


@pytest.fixture
def folder(made, tmp_path):
    return finish(tmp_path / "karte-ä", made[0])


@pytest.fixture
def reviewed(made, folder):
    frame, truth = made
    sample = sample_of(open_map(folder), 100, seed=1)
    known = pandas.DataFrame({"building_id": frame["building_id"], "truth": truth})
    Journal(folder).add(answered(known, sample))
    return folder


def test_without_a_sample_no_interval_is_shown(folder):
    found = aftermap.totals(folder)
    assert found.estimate is None and found.confidence is None
    assert "nothing is known of their error" in found.words[1]
    assert found.table[["estimate", "low", "high"]].isna().all(axis=None)
    assert found.table.set_index("kind")["mapped"]["buildings"] == 392
    tree = json.loads((folder / "totals/totals.json").read_text())
    assert tree["totals"] == {} and tree["sample"] is None and tree["not_assessed"] == 8


def test_a_sample_gives_intervals_that_hold_the_truth(made, reviewed):
    found = aftermap.totals(reviewed, target=0.1)
    true = (made[1][8:] != "no-damage").sum()
    total = found.totals["damaged"]
    assert total.low <= true <= total.high
    assert "95 % interval" in found.words[0] and found.further.more > 0
    written = pandas.read_csv(reviewed / "totals/totals.csv").set_index("kind")
    assert written["estimate"]["damaged"] == pytest.approx(total.estimate, abs=0.01)
    assert {path.name for path in found.files} >= {"totals.png", "totals.json", "confidence.csv"}
    assert "<table" in found._repr_html_()


def test_every_building_of_the_sample_frame_has_a_confidence(reviewed):
    found = aftermap.totals(reviewed)
    rows = pandas.read_csv(reviewed / "totals/confidence.csv", keep_default_na=False)
    assert len(rows) == 392 and rows["building_id"].is_unique
    assert found.confidence.state.startswith("calibrated on this event by 100 answers")
    silent = rows["told"] == "not-assessed"
    assert (rows.loc[silent, "reason"] == "model undecided").all() and (
        rows.loc[~silent, "reason"] == ""
    ).all()


def test_few_answers_leave_confidence_uncalibrated(made, folder):
    sample = sample_of(open_map(folder), 40, seed=1)
    known = pandas.DataFrame({"building_id": made[0]["building_id"], "truth": made[1]})
    Journal(folder).add(answered(known, sample, 30))
    assert aftermap.totals(folder).confidence.state == "uncalibrated on this event"


def test_drawn_buildings_come_on_top(reviewed):
    before = aftermap.totals(reviewed)
    Journal(reviewed).add([Answer(building_id="new", verdict="destroyed", reviewer="ana", origin="drawn")])
    after = aftermap.totals(reviewed)
    assert after.drawn == {"destroyed": 1} and after.totals == before.totals


def test_the_answers_that_a_target_takes_do_reach_it(made, reviewed):
    frame, truth = made
    sample = sample_of(open_map(reviewed), 100)
    looked = looked_at(sample, Journal(reviewed).answers())
    told = answers_needed(sample, looked, 0.15)
    assert 0 < told.more == sum(told.strata.values())
    longer = sample_of(open_map(reviewed), 100 + told.more)
    known = pandas.DataFrame({"building_id": frame["building_id"], "truth": truth})
    more = answers_needed(longer, looked_at(longer, answered(known, longer)), 0.15)
    assert more.now < 0.15 * 1.25
    assert answers_needed(sample, looked, 0.9).more == 0


def test_a_sample_of_other_outlines_is_refused(made, reviewed):
    path = reviewed / "review/sample.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree | {"outlines_sha256": "0" * 64}))
    with pytest.raises(InputError, match="other outlines"):
        aftermap.totals(reviewed)


def test_answers_that_were_given_to_another_map_are_refused_though_their_ids_are_known(reviewed):
    journal = Journal(reviewed)
    first = journal.answers()[0]
    foreign = Answer(**first.model_dump(exclude={"key", "shown"}), shown={"outlines_sha256": "0" * 64})
    journal.add([foreign])
    with pytest.raises(
        InputError, match=f"answer to building {first.building_id} was given to other outlines"
    ):
        aftermap.totals(reviewed)


def test_a_map_without_a_building_is_counted(tmp_path, made):
    folder = finish(tmp_path / "empty", made[0].iloc[:0])
    assert aftermap.totals(folder).mapped["buildings"] == 0


def test_the_map_of_today_stands_beside_the_estimate(made, reviewed):
    before = aftermap.totals(reviewed).totals["damaged"]
    changed = made[0].copy()
    changed.loc[changed["damage"] == "destroyed", "damage"] = "no-damage"
    write_buildings(changed, reviewed)
    after = aftermap.totals(reviewed).totals["damaged"]
    assert after.mapped == (changed["damage"].isin(["minor-damage", "major-damage"])).sum() < before.mapped
    assert (after.estimate, after.low, after.high) == (before.estimate, before.low, before.high)


def test_phantoms_that_a_map_has_learnt_are_not_called_unsurveyed(made, reviewed):
    changed = made[0].copy()
    levels = ["p_no_damage", "p_minor", "p_major", "p_destroyed", "p_building", "confidence"]
    changed.loc[20:24, levels] = np.nan
    changed.loc[20:24, ["damage", "reason"]] = ["not-assessed", "not a building"]
    write_buildings(changed, reviewed)
    assert aftermap.totals(reviewed).not_assessed == 8
