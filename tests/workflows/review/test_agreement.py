"""Agreement of reviewers, by hand."""

import pytest

from aftermap.workflows.review.agreement import agreement, cohen_kappa, weighted_kappa
from aftermap.workflows.review.answers import Answer


def test_kappa_is_that_of_the_textbook():
    # Cohen 1960 by hand: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)


def test_weighted_kappa_counts_far_levels_more():
    # 0-0, 3-3, 0-1, 3-2: squared distances 0, 0, 1, 1, mean 0.5; all 16 pairs of both columns: 0, 9, 1, 4 twice and
    # 9, 0, 4, 1 twice, mean 3.5; 1 - 0.5 / 3.5
    assert weighted_kappa([(0, 0), (3, 3), (0, 1), (3, 2)]) == pytest.approx(1 - 0.5 / 3.5)


def test_without_pairs_or_with_one_word_there_is_none():
    assert cohen_kappa([]) is None and weighted_kappa([]) is None
    assert cohen_kappa([("a", "a"), ("a", "a")]) is None and weighted_kappa([(1, 1)]) is None


def test_readings_of_the_same_buildings_are_paired():
    said = [
        ("1", "ana", "destroyed"),
        ("1", "bo", "destroyed"),
        ("2", "bo", "no-damage"),
        ("2", "ana", "cannot-tell"),
    ]
    answers = [Answer(building_id=b, reviewer=r, verdict=v) for b, r, v in [*said, ("3", "ana", "no-damage")]]
    found = agreement(answers)
    assert (found.pairs, found.agree) == (2, 1)
    # ana: destroyed, cannot-tell; bo: destroyed, no-damage: observed 1/2, expected 1/4
    assert found.kappa == pytest.approx(1 / 3) and found.levels_kappa is None
