"""Draws a search with Optuna's own plots, one below the other."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import optuna
from matplotlib import pyplot
from optuna.importance import BaseImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as plots

from aftermap.products.figures.sheet import DPI, write_figure

_PANEL_IN = (3.4, 3.2)
_LOOK = {"backend": "agg", "figure.dpi": DPI, "figure.constrained_layout.use": True}


def draw_search(
    path: Path, study: optuna.Study, *, metric: str, title: str, evaluator: BaseImportanceEvaluator | None
) -> Path:
    """Write a PNG: the trials in order with the best so far, a slice for each key, the importances, pruned trials.

    Args:
        path: the file, written in one step.
        study: with at least one complete trial.
        metric: name of the measure.
        title: heading.
        evaluator: of the importances; None where they cannot be known.

    Raises:
        OutputError: the file cannot be written.
    """
    keys = sorted({key for trial in study.get_trials(deepcopy=False) for key in trial.params})
    with warnings.catch_warnings(), matplotlib.rc_context(_LOOK):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        drawn = [plots.plot_optimization_history(study, target_name=metric)]
        drawn.append(plots.plot_slice(study, params=keys, target_name=metric))
        if evaluator is not None and len(keys) > 1:
            drawn.append(plots.plot_param_importances(study, evaluator=evaluator, target_name=metric))
        if any(trial.state == TrialState.PRUNED for trial in study.get_trials(deepcopy=False)):
            drawn.append(plots.plot_intermediate_values(study))
        figures = [np.ravel(axes)[0].get_figure() for axes in drawn]
        for figure in figures:
            figure.set_size_inches(_PANEL_IN[0] * max(2, len(keys)), _PANEL_IN[1])
        figures[0].suptitle(title, parse_math=False)
        write_figure(path, *figures)
        for figure in figures:
            pyplot.close(figure)
    return path
