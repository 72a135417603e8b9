"""A review under way: who gets what, what is kept, what stands after a change of mind."""

import json
import shutil

import pytest
from pydantic import ValidationError

from aftermap.errors import InputError, OutputError
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Journal
from aftermap.workflows.review.opened import open_review
from reviewed_map import make_map


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    make_map(folder)
    return folder


@pytest.fixture
def begin(made, tmp_path):
    """Opens the review of a copy of the map; again with the same arguments, as a restart would."""
    out = shutil.copytree(made / "map", tmp_path / "map")

    def opened(**options):
        return open_review(open_map(out), pre=made / "before.tif", post=made / "after.tif", **options)

    return opened


def said(item, verdict="no-damage", **more):
    return {"building_id": item["id"], "verdict": verdict, **more}


def test_sample_and_picks_are_mixed_as_asked_and_never_twice(begin):
    review = begin(budget=10, active=0.4)
    origins, names = [], []
    while items := review.take("ana", "one"):
        origins.append(items[0]["origin"])
        names.append(items[0]["id"])
        review.answer("ana", said(items[0]))
    assert (origins.count("sample"), origins.count("active")) == (6, 4)
    assert len(set(names)) == 10 and names[0] == review.sample[0]
    assert origins[:5].count("active") in (1, 2)
    state = review.state("ana")
    assert (state["sample"], state["active"], state["mine"]) == ([6, 6], [4, 4], 10)


def test_two_browsers_get_different_buildings_until_one_is_gone(begin):
    now = [0.0]
    review = begin(budget=4, active=0, double=0)
    review._clock = lambda: now[0]
    first = review.take("ana", "one", count=2)
    second = review.take("ana", "two", count=4)
    assert not {each["id"] for each in first} & {each["id"] for each in second}
    assert len(first) + len(second) == 4 and review.take("bo", "three") == []
    now[0] = 1000.0
    assert len(review.take("bo", "three", count=4)) == 4


def test_it_goes_on_where_it_stopped(begin):
    review = begin(budget=6, active=0.5)
    for _ in range(3):
        review.answer("ana", said(review.take("ana", "one")[0]))
    again = begin()
    assert again.plan == review.plan and again.state()["answered"] == 3
    told = {answer.building_id for answer in again.answers}
    assert again.take("ana", "new")[0]["id"] not in told
    with pytest.raises(InputError, match="drawn with --seed 0"):
        begin(seed=1)


def test_more_buildings_begin_with_the_old_sample(begin):
    review = begin(budget=6, active=0)
    before = list(review.sample)
    review.more(4)
    assert review.sample[:6] == before and len(review.sample) == 10
    assert begin().plan.budget == 10


def test_a_pick_that_a_longer_sample_takes_in_counts_once(begin):
    review = begin(budget=8, active=0.5, double=0)
    while items := review.take("ana", "one"):
        review.answer("ana", said(items[0]))
    review.more(16)  # all 24: the sample of 12 meets some of the picks
    both = set(review.sample) & set(review.plan.picks)
    assert both and sum(review.state()["sample"] + review.state()["active"]) > 8
    while items := review.take("ana", "one"):
        review.answer("ana", said(items[0]))
    state = review.state()
    assert (state["sample"], state["others"]) == ([12, 12], 0)
    assert state["active"][0] + 12 == state["answered"] == 24


def test_a_smaller_budget_asks_for_the_beginning_of_the_sample(begin):
    review = begin(budget=10, active=0, double=0)
    before = list(review.sample)
    review.answer("ana", said({"id": before[7]}))
    again = begin(budget=4)
    assert again.sample == before[:4] and "sample of 10 buildings was drawn before" in again.remark
    assert (again.state()["sample"], again.state()["others"]) == ([0, 4], 1)
    assert begin().remark == ""
    again.more(6)
    assert again.sample == before


def test_a_share_of_the_sample_is_read_by_two(begin):
    review = begin(budget=8, active=0, double=1)
    while items := review.take("ana", "one"):
        review.answer("ana", said(items[0], "destroyed"))
    assert review.take("ana", "one") == []
    names = []
    while items := review.take("bo", "two"):
        names.append(items[0]["id"])
        review.answer("bo", said(items[0], "destroyed" if len(names) > 2 else "no-damage"))
    assert names == review.sample
    agreed = review.state()["agreement"]
    assert (agreed["pairs"], agreed["agree"]) == (8, 6)


def test_an_answer_says_what_was_shown(begin):
    review = begin(budget=4, active=0)
    item = review.take("ana", "one")[0]
    answer = review.answer(
        "ana", said(item, "cannot-tell", reason="cloud", seconds=1.5, shown={"mode": "flicker"})
    )
    (line,) = Journal(review.found.folder).lines()
    assert line == answer and answer.origin == "sample" and answer.seconds == 1.5
    shown = {"mode": "flicker", "outlines_sha256": review.found.outlines_sha256, **item["map"]}
    del shown["reason"]
    assert {**answer.shown, "confidence": round(answer.shown["confidence"], 3)} == shown


def test_the_same_answer_sent_twice_counts_once(begin):
    review = begin(budget=4)
    item = review.take("ana", "one")[0]
    for _ in range(2):
        review.answer("ana", said(item, key="k" * 32))
    assert len(list(Journal(review.found.folder).lines())) == 1


def test_an_answer_that_was_written_and_not_synced_is_confirmed_once_it_is(begin, monkeypatch):
    review = begin(budget=4)
    answer = said(review.take("ana", "one")[0], key="k" * 32)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("aftermap.workflows.review.answers.os.fsync", full)
        for _ in range(2):  # the line is in the file from the first try on
            with pytest.raises(OutputError):
                review.answer("ana", answer)
    assert review.answer("ana", answer).key == "k" * 32 and len(review.answers) == 1


def test_undo_gives_the_building_back_even_after_a_restart(begin):
    review = begin(budget=4)
    item = review.take("ana", "one")[0]
    review.answer("ana", said(item, "destroyed", note="roof gone"))
    review = begin()
    undone = review.undo("ana", "u" * 32)
    assert undone["item"]["id"] == item["id"] and undone["withdrawn"]["note"] == "roof gone"
    assert review.undo("ana", "u" * 32)["item"]["id"] == item["id"]  # sent twice
    assert review.answers == [] and review.undo("ana") is None


def test_what_is_skipped_comes_last(begin):
    review = begin(budget=3, active=0)
    first = review.take("ana", "one")[0]["id"]
    review.skip("one", first)
    names = []
    while items := review.take("ana", "one"):
        names.append(items[0]["id"])
        review.answer("ana", said(items[0]))
    assert names[-1] == first and len(names) == 3


def test_what_was_skipped_comes_again_after_some_others(begin):
    review = begin(budget=20, active=0, double=0)
    first = review.take("ana", "one")[0]["id"]
    review.skip("one", first)
    names = []
    for _ in range(10):
        names.append(review.take("ana", "one")[0]["id"])
        review.answer("ana", said({"id": names[-1]}))
    assert names.index(first) == 8


def test_a_closed_browser_gives_back_what_it_held(begin):
    review = begin(budget=3, active=0, double=0)
    held = [each["id"] for each in review.take("ana", "one", count=3)]
    assert review.take("bo", "two") == []
    review.release("one")
    assert review.take("bo", "two")[0]["id"] == held[0]


def test_outlines_are_kept_in_degrees(begin):
    review = begin(budget=4)
    item = review.take("ana", "one")[0]
    moved = [[[x + 2, y] for x, y in ring] for ring in item["outline"]]
    answer = review.answer("ana", said(item, outline=moved))
    (lon, lat), *_ = answer.geometry["coordinates"][0]
    assert -180 < lon < 180 and 35 < lat < 37
    drawn = review.answer(
        "ana", {"building_id": "", "verdict": "destroyed", "outline": [[[1, 1], [9, 1], [9, 9]]]}
    )
    assert (
        drawn.origin == "drawn"
        and drawn.building_id.startswith("new-")
        and drawn.geometry["type"] == "Polygon"
    )


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"building_id": "nobody", "verdict": "destroyed"}, InputError, "no building nobody"),
        ({"building_id": "", "verdict": "destroyed"}, InputError, "needs an outline"),
        ({"building_id": "b1", "verdict": "flat"}, ValidationError, "verdict"),
        ({"building_id": "b1", "verdict": "destroyed", "outline": [[[0, 0], [1, 1]]]}, InputError, "no area"),
        (
            {"building_id": "b1", "verdict": "destroyed", "outline": [[[900, 0], [901, 0], [901, 9]]]},
            InputError,
            "out",
        ),
        (
            {"building_id": "b1", "verdict": "destroyed", "outline": [[[float("nan"), 0]] * 4]},
            InputError,
            "no",
        ),
    ],
)
def test_what_makes_no_sense_is_not_journalled(begin, wrong, error, told):
    review = begin(budget=4)
    with pytest.raises(error, match=told):
        review.answer("ana", wrong)
    assert not list(Journal(review.found.folder).lines())


def test_what_could_not_be_saved_is_not_counted(begin, monkeypatch):
    review = begin(budget=4)
    item = review.take("ana", "one")[0]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        review.answer("ana", said(item, key="k" * 32))
    monkeypatch.undo()
    assert review.answer("ana", said(item, key="k" * 32)).key == "k" * 32
    assert review.state()["answered"] == 1


def test_other_outlines_are_told(begin):
    review = begin(budget=4)
    path = review.found.folder / "review" / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "outlines_sha256": "0" * 64}))
    with pytest.raises(InputError, match="review of other buildings"):
        begin()


def test_a_building_that_was_looked_up_does_not_count_as_drawn_at_random(begin):
    review = begin(budget=4, active=0)
    item = review.item(review.sample[2], "chosen")
    assert review.answer("ana", said(item, origin="chosen")).origin == "chosen"
