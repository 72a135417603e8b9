"""The pictures of a search and of a learning-rate range test."""

import cv2
import optuna
import pytest
from matplotlib import pyplot

from aftermap.learning.range_test import RangeTest
from aftermap.products.figures.range_figure import draw_range
from aftermap.products.figures.search_figure import draw_search
from aftermap.products.figures.sheet import DPI


def study(*, pruned: bool):
    made = optuna.create_study(direction="maximize")
    lr, model = (
        optuna.distributions.FloatDistribution(1e-4, 1, log=True),
        optuna.distributions.CategoricalDistribution(["a", "b"]),
    )
    for n in range(10):
        state = optuna.trial.TrialState.PRUNED if pruned and n == 3 else optuna.trial.TrialState.COMPLETE
        made.add_trial(
            optuna.create_trial(
                state=state,
                value=n / 10,
                params={"optimizer.lr": 10.0 ** -(n % 4), "model": "ab"[n % 2]},
                distributions={"optimizer.lr": lr, "model": model},
                intermediate_values={0: 0.1, 1: n / 10},
            )
        )
    return made


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("judged", [False, True])
def test_optunas_plots_stand_one_below_the_other(tmp_path, pruned, judged):
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5) if judged else None
    before = pyplot.get_fignums()
    path = draw_search(
        tmp_path / "search.png", study(pruned=pruned), metric="score", title="$t_$", evaluator=evaluator
    )
    height, width = cv2.imread(str(path)).shape[:2]
    assert width == pytest.approx(2 * 3.4 * DPI, abs=2)
    assert height == pytest.approx((2 + judged + pruned) * 3.2 * DPI, abs=4)
    assert pyplot.get_fignums() == before


def test_a_range_without_a_suggestion_is_drawn_too(tmp_path):
    rates = [10.0**n for n in range(-6, 0)]
    result = RangeTest(rates, [1.0] * 6, [1.0] * 6, "all steps were done", None)
    assert draw_range(tmp_path / "range.png", result, title="t").stat().st_size > 5000
