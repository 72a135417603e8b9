"""What the pictures of a search say."""

import cv2
import pytest

from aftermap.learning.range_test import RangeTest
from aftermap.products.figures.search_figure import (
    DrawnTrial,
    SearchPicture,
    _limits,
    best_so_far,
    draw_range,
    draw_search,
)


def trials(*values):
    return [
        DrawnTrial(
            n, "failed" if value is None else "complete", value, {"optimizer.lr": 10.0**-n, "model": "a"}
        )
        for n, value in enumerate(values)
    ]


def test_the_best_so_far_passes_over_failed_and_pruned_trials():
    made = [*trials(0.2, None, 0.1), DrawnTrial(3, "pruned", 0.9, {}), DrawnTrial(4, "complete", 0.4, {})]
    assert best_so_far(made, higher_is_better=True) == [(0, 0.2), (2, 0.2), (4, 0.4)]
    assert best_so_far(made, higher_is_better=False) == [(0, 0.2), (2, 0.1), (4, 0.1)]


def test_a_loss_that_exploded_does_not_hide_the_others():
    picture = SearchPicture("t", "loss", False, trials(0.3, 0.4, 0.5, 900.0), ["optimizer.lr"])
    low, high = _limits(picture)  # lowest 0.3, median 0.5: cut at 0.3 + 4 x 0.2
    assert low < 0.3 and high == pytest.approx(1.1 + 0.08 * 0.8)


def test_a_search_is_drawn_with_a_panel_for_each_key(tmp_path):
    keys = ["optimizer.lr", "model"]
    shares = {"optimizer.lr": 0.9, "model": 0.1}
    for picture, panels in (
        (SearchPicture("t", "score", True, trials(0.2, None, 0.5), keys, frozenset(keys[:1])), (3, 1)),
        (
            SearchPicture("t", "score", True, trials(0.2, 0.5), keys, importance=shares, method="PED-ANOVA"),
            (3, 2),
        ),
    ):
        path = draw_search(tmp_path / "search.png", picture)
        height, width = cv2.imread(str(path)).shape[:2]
        assert width == pytest.approx(panels[0] * 3.9 * 130, abs=1)
        assert height == pytest.approx((panels[1] * 2.9 + 0.65) * 130, abs=1)


def test_a_search_without_a_value_is_not_drawn(tmp_path):
    with pytest.raises(ValueError, match="no trial has a value"):
        draw_search(
            tmp_path / "search.png", SearchPicture("t", "score", True, trials(None), ["optimizer.lr"])
        )


def test_a_range_without_a_suggestion_is_drawn_too(tmp_path):
    rates = [10.0**n for n in range(-6, 0)]
    result = RangeTest(rates, [1.0] * 6, [1.0] * 6, "all steps were done", None)
    assert draw_range(tmp_path / "range.png", result, title="t").stat().st_size > 5000
