"""The journal of answers: what stands, what a kill leaves, what is refused."""

import pytest
from pydantic import ValidationError

from aftermap.errors import InputError
from aftermap.workflows.review.answers import Answer, Journal, settle


def said(building: str, verdict: str, reviewer: str = "ana", **more: object) -> Answer:
    return Answer(building_id=building, verdict=verdict, reviewer=reviewer, **more)


def test_the_last_answer_of_a_reviewer_stands(tmp_path):
    journal = Journal(tmp_path)
    journal.add([said("1", "destroyed"), said("2", "no-damage")])
    journal.add([said("1", "major-damage"), said("1", "no-damage", "bo")])
    standing = [(a.building_id, a.verdict, a.reviewer) for a in Journal(tmp_path).answers()]
    assert standing == [("2", "no-damage", "ana"), ("1", "major-damage", "ana"), ("1", "no-damage", "bo")]


def test_a_withdrawn_answer_gives_way_to_the_one_before(tmp_path):
    journal, wrong = Journal(tmp_path), said("1", "destroyed")
    journal.add([said("1", "minor-damage"), wrong])
    journal.add([Answer(building_id="1", reviewer="ana", withdraws=wrong.key)])
    assert [a.verdict for a in journal.answers()] == ["minor-damage"]
    assert len(list(journal.lines())) == 3


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_a_line_that_was_cut_off_harms_no_other(tmp_path, lost):
    journal = Journal(tmp_path)
    journal.add([said("1", "destroyed"), said("2", "destroyed")])
    journal.path.write_bytes(journal.path.read_bytes()[:-lost])
    journal.add([said("3", "no-damage")])
    expected = ["1", "2", "3"] if lost == 1 else ["1", "3"]  # the first loses its end of line only
    assert [a.building_id for a in journal.answers()] == expected


def test_a_whole_line_that_is_no_answer_is_told(tmp_path):
    journal = Journal(tmp_path)
    journal.add([said("1", "destroyed")])
    with journal.path.open("a") as file:
        file.write('{"building_id": "2", "verdict": "flattened", "reviewer": "ana"}\n')
    with pytest.raises(InputError, match="line 2 is no answer: verdict"):
        journal.answers()


def test_a_file_of_something_else_is_not_taken_for_no_answers(tmp_path):
    journal = Journal(tmp_path)
    journal.path.parent.mkdir()
    journal.path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="line 1 is no answer, nor a part of one"):
        journal.answers()


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": None},
        {"verdict": "destroyed", "reason": "cloud"},
        {"verdict": "destroyed", "withdraws": "x"},
    ],
)
def test_an_answer_says_one_thing(wrong):
    with pytest.raises(ValidationError):
        Answer(building_id="1", reviewer="ana", **wrong)


def test_the_verdict_of_most_reviewers_counts_and_the_latest_of_a_tie():
    given = [
        said("1", "destroyed", "ana"),
        said("1", "destroyed", "bo"),
        said("1", "no-damage", "cy"),
        said("2", "no-damage", "ana"),
        said("2", "cannot-tell", "bo", reason="cloud"),
    ]
    assert {k: (a.verdict, a.reviewer) for k, a in settle(given).items()} == {
        "1": ("destroyed", "bo"),
        "2": ("cannot-tell", "bo"),
    }


def test_a_journal_that_is_a_folder_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "review" / "answers.jsonl").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot read .*answers\.jsonl"):
        Journal(tmp_path).answers()
