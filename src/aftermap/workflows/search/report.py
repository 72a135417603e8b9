"""The results of a search: `search.json`, `search.png`, and the best trial as a recipe."""

from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from aftermap.files import write_json, write_text
from aftermap.products.figures.search_figure import draw_search
from aftermap.workflows.search.run import Search
from aftermap.workflows.training.config import TrainRecipe

METHOD = "PED-ANOVA"
_LEAST_FOR_IMPORTANCE = 8
_LEAST_IN_TOP = 5


def search_report(search: Search) -> dict[str, Any]:
    """A search as plain values: settings, trials, the best one, importances."""
    settings = search.settings.search
    best = search.best()
    left = search.wanted - len(search.ended())
    return {
        "folder": search.folder,
        "name": search.settings.recipe.get("name"),
        "command": search.settings.command,
        "study": settings.study.model_dump(mode="json"),
        "direction": search.study.direction.name.lower(),
        "space": settings.model_dump(mode="json", by_alias=True, exclude_none=True)["space"],
        "fixed": settings.fixed,
        "trials_left": max(0, left),
        "best": None if best is None else _row(search, best),
        "best_recipe": None if best is None else search.folder / "best.yaml",
        "importance": {"method": METHOD, "share": importance(search)},
        "trials": [_row(search, trial) for trial in search.trials()],
    }


def write_results(search: Search, *, picture: bool = True) -> dict[str, Any]:
    """Write `search.json`, `best.yaml` and, once a trial is complete, `search.png` into the search's folder.

    Returns:
        What `search.json` holds.

    Raises:
        OutputError: a file cannot be written.
    """
    best = search.best()
    if best is not None:
        recipe = best_recipe(search, best)
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
        heading = (
            f"# {search.settings.search.study.metric} {best.value:.4f} in trial {best.number}, the best of "
            f"{len(search.ended())}.\n# aftermap train {search.folder / 'best.yaml'} -o runs/best\n"
        )
        write_text(search.folder / "best.yaml", heading + text)
    report = search_report(search)
    write_json(search.folder / "search.json", report)
    if picture and best is not None:
        draw_search(
            search.folder / "search.png",
            search.study,
            metric=search.settings.search.study.metric,
            title=f"{report['name']}: {len(search.ended())} of {search.wanted} trials",
            evaluator=_evaluator(search),
        )
    return report


def best_recipe(search: Search, best: FrozenTrial) -> TrainRecipe:
    """The complete recipe of a trial, under the name of the recipe that was searched."""
    settings = search.settings
    return settings.search.recipe(settings.recipe, settings.search.values(best.params))


def importance(search: Search) -> dict[str, float]:
    """Which keys decided whether a trial was among the best; empty with fewer than 8 complete trials.

    Source: Watanabe et al. 2023, PED-ANOVA, with the best tenth of the trials, or the best five where that is more,
    but never more than half.
    """
    evaluator = _evaluator(search)
    if evaluator is None:
        return {}
    keys = list(search.settings.search.space)
    if len(keys) == 1:
        return {keys[0]: 1.0}
    shares = optuna.importance.get_param_importances(search.study, evaluator=evaluator)
    return {key: float(share) for key, share in shares.items()}


def _evaluator(search: Search) -> optuna.importance.PedAnovaImportanceEvaluator | None:
    """What measures importance, see `importance`; None where too few trials are complete."""
    complete = [t for t in search.trials() if t.state == TrialState.COMPLETE]
    if len(complete) < _LEAST_FOR_IMPORTANCE or len({t.value for t in complete}) < 2:
        return None
    return optuna.importance.PedAnovaImportanceEvaluator(
        target_quantile=max(0.1, min(0.5, _LEAST_IN_TOP / len(complete)))
    )


def _row(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """A trial as plain values."""
    known = trial.user_attrs
    value = trial.value
    if trial.state == TrialState.RUNNING and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return {
        "number": trial.number,
        "state": trial.state.name.lower().replace("fail", "failed"),
        "value": value,
        "values": search.settings.search.values(trial.params),
        "step": known.get("step"),
        "minutes": known.get("minutes"),
        "reason": known.get("reason") or None,
        "retry_of": known.get("retry_of"),
        "at_steps": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        "folder": search.trial_folder(trial.number),
    }
