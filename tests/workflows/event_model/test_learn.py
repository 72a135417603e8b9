"""Learning from answers: what is learnt, what is refused, what stays, and how everything is brought back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

pytest.importorskip("sklearn")

from aftermap.errors import InputError
from aftermap.products.page.page import write_page
from aftermap.products.page.stored import read_page
from aftermap.products.summary import summarise
from aftermap.products.view import Picture, damage_view
from aftermap.workflows.event_model.check import blocks_of, check_model, macro_f1
from aftermap.workflows.event_model.described import of_numbers
from aftermap.workflows.event_model.kept import REWRITTEN
from aftermap.workflows.event_model.model import fit_levels
from aftermap.workflows.event_model.run import answer_weights, learn_from_answers, undo
from aftermap.workflows.mapping.features import FILE, Features, _write
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.totals.sampling import draw_sample
from finished_maps import UTM, finish, table

COUNT = 200


def made_map(folder: Path, *, features: bool = True, said: np.ndarray | None = None) -> np.ndarray:
    """A map that calls everything undamaged, though one in three is destroyed; the features tell which. The truth."""
    random = np.random.default_rng(0)
    places = [(5 + 5.5 * (n % 20), 4 + 7 * (n // 20)) for n in range(COUNT)]
    destroyed = random.random(COUNT) < 1 / 3
    frame = table(
        places,
        ["no-damage"] * COUNT if said is None else list(said),
        columns={"reviewed": ["by the user"] * COUNT},
    )
    finish(folder, frame)
    if features:
        values = random.normal(size=(COUNT, 6))
        values[:, 2] += 4 * destroyed
        names = frame["building_id"].to_numpy()
        _write(folder / FILE, names, Features(tuple("abcdef"), values.astype(np.float32)))
    image = np.zeros((80, 120, 3), np.uint8)
    image[..., 1] = 90
    view = damage_view(frame, Picture("Before", image), Picture("After", image), UTM, summarise(frame, UTM))
    write_page(folder / "map.html", view, UTM, title="Town <&>", warnings=["a warning"])
    return np.where(destroyed, "destroyed", "no-damage")


def answer(folder: Path, truth: np.ndarray, rows: range, **more: object) -> None:
    shown = {"outlines_sha256": open_map(folder).outlines_sha256}
    Journal(folder).add(
        Answer(building_id=f"b{row + 1}", verdict=truth[row], reviewer="ana", shown=shown, **more)
        for row in rows
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in REWRITTEN if (folder / name).is_file()}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learn") / "Stadt Örö"
    truth = made_map(folder)
    before = contents(folder)
    answer(folder, truth, range(0, COUNT, 2))
    Journal(folder).add([Answer(building_id="new", verdict="destroyed", reviewer="ana", origin="drawn")])
    return folder, truth, before, learn_from_answers(folder)


def test_the_other_buildings_follow_the_answers(learnt):
    folder, truth, _, found = learnt
    buildings = open_map(folder).buildings
    others = slice(1, None, 2)
    assert found.better and found.check.macro_f1_after > 0.9
    assert found.check.macro_f1_before == pytest.approx(0.4, abs=0.03)  # F1 0.8 of no damage, 0 of destroyed
    assert (buildings["damage"][others] == truth[others]).mean() > 0.95
    assert (buildings["damage_model"] == "no-damage").all()


def test_answers_win_and_are_marked(learnt):
    folder, truth, _, _ = learnt
    buildings = open_map(folder).buildings
    assert buildings["reviewed"].tolist() == [True, False] * (COUNT // 2)
    assert (buildings["damage"][::2] == truth[::2]).all()
    assert (buildings["confidence"][::2] == 1).all()
    assert (buildings["user_reviewed"] == "by the user").all()


def test_every_file_tells_the_same(learnt):
    folder, _, _, found = learnt
    buildings = open_map(folder).buildings
    summary = json.loads((folder / "summary.json").read_text())
    damaged = int((buildings["damage"] == "destroyed").sum())
    assert summary["damaged"]["buildings"] == damaged and summary["reviewed"] == COUNT // 2
    assert json.loads((folder / "provenance.json").read_text())["learnt"]["better"]
    page = (folder / "map.html").read_text()
    assert f'"{damaged}"," of {COUNT} assessed buildings are damaged"' in page
    assert read_page(folder / "map.html").title == "Town <&>"
    assert found.summary == summary


def test_the_page_keeps_its_pictures_byte_for_byte(learnt):
    folder, _, before, _ = learnt
    old = json.loads(before["map.html"].decode().split('id="data">')[1].split("</script>")[0])
    now = json.loads((folder / "map.html").read_text().split('id="data">')[1].split("</script>")[0])
    assert now["images"] == old["images"] and now["warnings"] == old["warnings"]


def test_learning_twice_gives_the_same_files_and_undo_brings_all_back(learnt, tmp_path):
    folder, _, before, _ = learnt
    once = contents(folder)
    learn_from_answers(folder)
    assert contents(folder) == once
    undo(folder)
    assert contents(folder) == before
    assert not (folder / "learnt").exists() and len(Journal(folder).answers()) == COUNT // 2 + 1
    with pytest.raises(InputError, match="nothing was learnt here"):
        undo(folder)


def test_a_model_that_is_no_better_changes_nothing_but_what_was_answered(tmp_path):
    folder = tmp_path / "map"
    truth = np.where(np.random.default_rng(1).random(COUNT) < 0.5, "destroyed", "no-damage")
    truth = truth.astype(object)
    made_map(folder, features=False, said=truth)
    truth[3] = "minor-damage"
    answer(folder, truth, range(40))
    found = learn_from_answers(folder)
    buildings = open_map(folder).buildings
    assert not found.better and not found.with_features
    assert (buildings["damage"] == truth).all() and buildings["damage_model"][3] != truth[3]
    assert not buildings["reviewed"][40:].any()


def test_what_cannot_be_learnt_from_is_refused_in_a_line(tmp_path):
    folder = tmp_path / "map"
    truth = made_map(folder)
    answer(folder, truth, range(29))
    with pytest.raises(InputError, match=r"29 answers .* at least 30"):
        learn_from_answers(folder)
    answer(folder, np.full(COUNT, "no-damage"), range(40))
    with pytest.raises(InputError, match="all 40 answers say no-damage"):
        learn_from_answers(folder)
    answer(folder, np.full(COUNT, "cannot-tell"), range(15))
    with pytest.raises(InputError, match=r"25 answers .*\(of 40 in all\)"):
        learn_from_answers(folder)
    assert not (folder / "learnt").exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            Answer(building_id="b7", verdict="destroyed", reviewer="x", shown={"outlines_sha256": "0"}),
            "other outlines",
        ),
        (Answer(building_id="z1", verdict="destroyed", reviewer="x"), "no building z1"),
    ],
)
def test_answers_to_another_map_are_refused(tmp_path, other, message):
    folder = tmp_path / "map"
    answer(folder, made_map(folder), range(60))
    Journal(folder).add([other])
    with pytest.raises(InputError, match=message):
        learn_from_answers(folder)


def test_what_is_no_building_is_not_assessed(tmp_path):
    folder = tmp_path / "map"
    truth = made_map(folder)
    answer(folder, np.where(truth == "destroyed", "not-a-building", "minor-damage"), range(0, COUNT, 2))
    answer(folder, np.full(COUNT, "no-damage"), range(1, 20, 2))
    found = learn_from_answers(folder)
    buildings = open_map(folder).buildings
    phantom = buildings["reason"] == "not a building"
    assert found.check.rejects
    assert (phantom == (truth == "destroyed")).mean() > 0.9
    assert (buildings["damage"][phantom] == "not-assessed").all()
    assert buildings["p_not_building"][phantom & ~buildings["reviewed"].astype(bool)].min() > 0.5


def test_macro_f1_is_the_mean_over_the_levels_that_are_there():
    truth, told = np.array([[0, 0, 0, 2]]), np.array([[0, 0, 1, 2]])
    assert macro_f1(truth, told)[0] == pytest.approx(
        (0.8 + 1) / 2
    )  # no damage: 2 hits, 1 missed; major: right


def test_neighbours_share_a_block():
    random = np.random.default_rng(0)
    centres = random.random((300, 2)) * [1000, 600]
    blocks = blocks_of(centres)
    assert len(np.unique(blocks)) >= 12
    for block in np.unique(blocks):
        assert np.ptp(centres[blocks == block], axis=0).max() <= 250


def test_a_model_without_knowledge_is_not_called_better():
    random = np.random.default_rng(4)
    own = np.tile([0.7, 0.1, 0.1, 0.1], (300, 1))

    outlines = np.array(
        [shapely.box(x, y, x + 5, y + 5) for x, y in random.random((300, 2)) * 900], dtype=object
    )
    described = of_numbers(
        own, np.full(300, 0.9), outlines, np.ones(300, bool), random.normal(size=(300, 20))
    )
    levels = (random.random(100) < 0.3) * 3
    rows = np.arange(100)
    check = check_model(described, np.where(random.random(300) < 0.5, 0, 3), rows, levels, rows[:0])
    assert check.gain < 0.15 and check.gain_interval[0] < 0


def test_answers_that_agree_with_the_map_change_nothing():
    own = np.tile([0.7, 0.1, 0.1, 0.1], (100, 1))
    outlines = np.array([shapely.box(9 * n, 0, 9 * n + 5, 5) for n in range(100)], dtype=object)
    described = of_numbers(own, np.full(100, 0.9), outlines, np.ones(100, bool), np.zeros((100, 0)))
    flat = replace(described, values=np.zeros((100, 3)))
    levels = np.repeat([0, 1, 2, 3], [70, 10, 10, 10])
    np.testing.assert_allclose(fit_levels(flat, np.arange(100), levels).probabilities, own, atol=1e-6)
    rare = fit_levels(flat, np.arange(20), np.zeros(20, int)).probabilities[0]
    assert (
        rare[0] > 0.7 and rare[1] == pytest.approx(rare[3]) and rare[3] > 0.01
    )  # drawn there, not all the way


def test_a_level_of_the_map_that_nobody_looked_at_stays(tmp_path):
    folder = tmp_path / "map"
    said = np.array(["no-damage"] * COUNT, object)
    said[150:170] = "major-damage"
    answer(folder, made_map(folder, said=said), range(60))
    found = learn_from_answers(folder)
    buildings = open_map(folder).buildings
    assert found.better and found.check.unknown == ("major-damage",)
    assert (buildings["damage"][150:170] == "major-damage").all()
    assert buildings["p_major"][160] == pytest.approx(0.7, abs=1e-3)


def test_answers_of_the_sample_count_as_many_buildings_as_they_stand_for(tmp_path):
    folder = tmp_path / "map"
    said = np.array(["no-damage"] * 160 + ["destroyed"] * 40, object)
    made_map(folder, features=False, said=said)
    sample = draw_sample(open_map(folder).buildings, 20, seed=0, strata=2)
    sample.save(folder)
    parts = dict(zip(sample.ids, sample.stratum.tolist(), strict=True))
    names = np.array([*sample.drawn, "b1"])
    weights = answer_weights(folder, names, np.arange(21) < 20)
    counts = sample.counts()
    stands = np.array([sample.sizes[parts[name]] / counts[parts[name]] for name in sample.drawn])
    np.testing.assert_allclose(weights, [*(stands / stands.mean()), 1.0])
    assert len(set(weights.round(6))) == 3


def test_only_answers_drawn_at_random_are_compared_where_there_are_enough():
    random = np.random.default_rng(2)
    levels = np.where(random.random(120) < 0.4, 3, 0)
    outlines = np.array(
        [shapely.box(x, y, x + 5, y + 5) for x, y in random.random((120, 2)) * 900], dtype=object
    )
    own = np.tile([0.7, 0.1, 0.1, 0.1], (120, 1))
    hints = levels[:, None] + random.normal(size=(120, 3))
    described = of_numbers(own, np.full(120, 0.9), outlines, np.ones(120, bool), hints)
    rows, before = np.arange(120), levels.copy()
    before[60:] = 3 - before[60:]  # the map is right of the first half and wrong of the other
    right = check_model(described, before, rows, levels, rows[:0], rows < 60)
    wrong = check_model(described, before, rows, levels, rows[:0], rows >= 60)
    few = check_model(described, before, rows, levels, rows[:0], rows < 29)
    assert (right.judged, right.accuracy_before, right.better) == (60, 1.0, False)
    assert (wrong.judged, wrong.accuracy_before, wrong.better) == (60, 0.0, True)
    assert few.judged == 120
