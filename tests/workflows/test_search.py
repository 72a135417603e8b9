"""Searches over recipe keys: what is tried, what survives an interruption, what is kept."""

import json
import math
import shutil

import optuna
import pytest
import torch
import yaml
from filelock import FileLock
from optuna.trial import TrialState

from aftermap.artefacts.store import load_model
from aftermap.config import build_config, load_config
from aftermap.data.scene import Manifest, read_images, read_mask
from aftermap.errors import DataError, OutputError, RecipeError, TrainingError
from aftermap.workflows.search.report import importance, write_results
from aftermap.workflows.search.run import DIED, Search, SearchListener
from aftermap.workflows.search.space import (
    Range,
    SearchSpace,
    check_space,
    load_space,
    recipe_tree,
    with_lists,
)
from aftermap.workflows.search.trial import validation_loss
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.range_test import RangeSettings, range_test
from aftermap.workflows.training.recipe_files import shipped_recipes
from aftermap.workflows.training.run import train
from squares import make_dataset

SPACE = {
    "study": {"trials": 4, "startup": 2, "pruner": "none", "seed": 3},
    "space": {
        "optimizer.lr": {"log": ["1e-3", "5e-2"]},
        "sampling.batch_size": {"choice": [2, 4]},
        "objective.terms.1.weight": {"uniform": [0.5, 2.0], "step": 0.5},
    },
    "fixed": {"steps": 4, "evaluate_every": 2, "selection.tune": False},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "squares", scenes=4)


@pytest.fixture(scope="module")
def tree(data):
    return {
        "name": "tiny",
        "task": "building",
        "data": {"manifests": [str(data)]},
        "model": {
            "kind": "unet",
            "encoder_name": "resnet10t",
            "encoder_depth": 2,
            "decoder_channels": [8, 8],
        },
        "sampling": {"crop_px": 32},
        "augment": None,
        "optimizer": {"schedule": {"kind": "cosine", "warmup_steps": 1}},
        "precision": "no",
        "seed": 1,
    }


def space(**study):
    return build_config(SearchSpace, json.loads(json.dumps(SPACE)) | {"study": SPACE["study"] | study})


def outcomes(search):
    return [(t.state, t.params, t.value, t.intermediate_values) for t in search.trials()]


@pytest.fixture(scope="module")
def searched(tree, tmp_path_factory):
    search = Search.create(tree, space(), tmp_path_factory.mktemp("search") / "whole")
    search.run()
    write_results(search)
    return search


def test_the_best_trial_trained_again_reaches_its_score(searched, tmp_path):
    recipe = load_config(TrainRecipe, searched.folder / "best.yaml")
    assert recipe.name == "tiny" and recipe.optimizer.lr == searched.best().params["optimizer.lr"]
    assert recipe.objective.terms[1].weight == searched.best().params["objective.terms.1.weight"]
    again = train(recipe, tmp_path / "again")
    assert again.metrics["score"] == searched.best().value
    trial_model = searched.trial_folder(searched.best().number) / "model"
    first, second = (load_model(m).model.state_dict() for m in (trial_model, again.model))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_trials_are_runs_and_only_the_best_keeps_its_model(searched):
    folders = [searched.trial_folder(n) for n in range(4)]
    assert all((f / "metrics.jsonl").exists() and not (f / "resume").exists() for f in folders)
    assert [f.name for f in folders if (f / "model").exists()] == [f"{searched.best().number:04d}"]
    for trial, folder in zip(searched.trials(), folders, strict=True):
        scores = [json.loads(line)["score"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert list(trial.intermediate_values.values()) == scores and trial.value == max(scores)
        facts = json.loads((folder / "run.json").read_text())
        assert (facts["trial"], facts["study"], facts["state"]) == (trial.number, "whole", "complete")


def test_results_tell_every_trial(searched):
    report = json.loads((searched.folder / "search.json").read_text())
    assert [row["number"] for row in report["trials"]] == [0, 1, 2, 3] and report["trials_left"] == 0
    assert report["best"]["value"] == max(row["value"] for row in report["trials"])
    assert report["importance"] == {"method": "PED-ANOVA", "share": {}}  # four trials tell nothing
    assert (searched.folder / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_interrupted_within_a_trial_ends_as_one_that_was_not(searched, tree, tmp_path):
    search = Search.create(tree, space(), tmp_path / "broken")

    def interrupt(number, progress):
        if (number, progress.step.number) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(SearchListener(on_step=interrupt))
    assert [t.state for t in search.trials()] == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING]
    resumed = []
    again = Search.open(search.folder)
    again.run(SearchListener(on_trial=lambda number, values, resume: resumed.append((number, resume))))
    assert resumed == [(2, True), (3, False)]
    assert outcomes(again) == outcomes(searched)


def test_more_trials_can_be_asked_for(tree, tmp_path):
    search = Search.create(tree, space(trials=1), tmp_path / "s", keep_models=True)
    search.run()
    search.run()  # nothing is left
    assert len(search.trials()) == 1
    more = Search.open(search.folder, trials=2)
    more.run()
    assert len(more.trials()) == 2 and Search.open(search.folder).wanted == 2
    assert all((more.trial_folder(n) / "model").exists() for n in range(2))


def test_a_trial_that_died_with_nothing_saved_is_tried_once_more(tree, tmp_path):
    search = Search.create(tree, space(trials=2), tmp_path / "s")
    ranges = search.settings.search.distributions()
    lost = search.study.ask(ranges)
    search.run()
    states = [t.state for t in search.trials()]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert search.trials()[0].user_attrs["reason"] == DIED
    assert search.trials()[1].params == lost.params
    assert search.trials()[1].user_attrs["retry_of"] == 0 and len(search.ended()) == 2


def test_a_trial_that_dies_twice_is_not_tried_again(tree, tmp_path):
    search = Search.create(tree, space(trials=1), tmp_path / "s")
    search.study.ask(search.settings.search.distributions())
    search._claim().lock.release()  # the second process takes it and dies
    search.run()
    assert [t.state for t in search.trials()] == [TrialState.FAIL, TrialState.FAIL]
    assert [t.user_attrs["retried"] for t in search.trials()] == [True, False]


def test_a_trial_of_a_living_process_is_left_to_it(tree, tmp_path):
    search = Search.create(tree, space(trials=2), tmp_path / "s")
    search.study.ask(search.settings.search.distributions())
    with FileLock(search.folder / "locks" / "0000.lock"):
        search.run()
    assert [t.state for t in search.trials()] == [TrialState.RUNNING, TrialState.COMPLETE]


def test_a_trial_that_falls_behind_is_pruned_and_its_run_says_so(tree, tmp_path):
    search = Search.create(tree, space(trials=1), tmp_path / "s")
    search.study.pruner = optuna.pruners.ThresholdPruner(lower=2.0)
    search.run()
    (trial,) = search.trials()
    folder = search.trial_folder(0)
    assert trial.state == TrialState.PRUNED and list(trial.intermediate_values) == [2]
    facts = json.loads((folder / "run.json").read_text())
    assert facts["state"] == "pruned" and facts["reason"].startswith("pruned at step 2: score")
    assert not (folder / "model").exists() and not (folder / "resume").exists()
    assert search.best() is None


def test_a_trial_whose_loss_is_not_finite_fails_and_the_search_goes_on(tree, tmp_path):
    wanted = space(trials=3, sampler="random").model_copy(
        update={"space": {"optimizer.lr": build_config(Range, {"choice": ["1e-3", "1e30"]})}}
    )
    search = Search.create(tree, wanted, tmp_path / "s")
    search.run()
    by_lr = {t.params["optimizer.lr"]: t for t in search.trials()}
    assert (
        by_lr[1e30].state == TrialState.FAIL
        and "try a lower optimizer.lr" in by_lr[1e30].user_attrs["reason"]
    )
    assert by_lr[1e-3].state == TrialState.COMPLETE and len(search.trials()) == 3


def test_a_search_whose_first_trials_all_fail_ends_with_the_reason(tree, tmp_path):
    wanted = space(trials=9).model_copy(
        update={"space": {"sampling.crop_px": build_config(Range, {"choice": [33, 35]})}}
    )
    search = Search.create(tree, wanted, tmp_path / "s")
    with pytest.raises(TrainingError, match=r"first 5 trials all failed.*multiples of 4"):
        search.run()
    assert len(search.trials()) == 5


def test_data_that_fail_their_check_end_the_search(tree, tmp_path):
    folder = make_dataset(tmp_path / "squares", scenes=3)
    (folder / "0_pre.png").unlink()
    search = Search.create(tree | {"data": {"manifests": [str(folder)]}}, space(), tmp_path / "s")
    with pytest.raises(DataError, match="did not pass its check"):
        search.run()


def test_a_search_is_not_overwritten(searched, tree):
    with pytest.raises(OutputError, match="already holds a search: pass --resume"):
        Search.create(tree, space(), searched.folder)


def test_trials_stand_in_the_experiment_database(tree, tmp_path, empty_database):
    from aftermap.learning.experiments.tracking import quiet_client

    database = shutil.copy(empty_database, tmp_path / "records.db")
    search = Search.create(tree | {"records": {"uri": str(database)}}, space(trials=2), tmp_path / "found")
    begun = optuna.pruners.ThresholdPruner(lower=2.0)
    search.run(SearchListener(on_end=lambda trial: setattr(search.study, "pruner", begun)))
    client = quiet_client(f"sqlite:///{database}")
    runs = client.search_runs([client.get_experiment_by_name("aftermap").experiment_id])
    told = {r.data.tags["trial"]: (r.data.tags["study"], r.data.tags["state"], r.info.status) for r in runs}
    assert told == {"0": ("found", "complete", "FINISHED"), "1": ("found", "pruned", "KILLED")}
    assert {r.data.params["optimizer.lr"] for r in runs} == {
        str(t.params["optimizer.lr"]) for t in search.trials()
    }


def test_the_validation_loss_is_the_objective_over_whole_scenes(searched, tree, data):
    folder = searched.trial_folder(searched.best().number) / "model"
    recipe = build_config(
        TrainRecipe,
        tree
        | {"objective": {"terms": [{"loss": "cross-entropy"}]}, "sampling": {"crop_px": 32, "batch_size": 1}},
    )
    model = load_model(folder).model.eval()
    values = []
    for scene in Manifest.load(data).select("validation"):
        image = torch.from_numpy(read_images(scene, dates=1)).float()[None]
        mean, std = (
            torch.tensor(v).view(3, 1, 1) for v in (recipe.normalisation.mean, recipe.normalisation.std)
        )
        with torch.no_grad():
            logits = model((image - mean) / std)
        truth = torch.from_numpy(read_mask(scene, target="building")).long()[None]
        values.append(float(torch.nn.functional.cross_entropy(logits, truth)))
    assert len(values) == 2
    assert validation_loss(recipe, folder) == pytest.approx(sum(values) / 2, rel=1e-5)
    both = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"batch_size": 5})})
    # one batch, scenes of one size: its mean is theirs; the original divides it by the two images
    assert validation_loss(both, folder) == pytest.approx(sum(values) / 2, rel=1e-5)
    assert validation_loss(both, folder, over_images=True) == pytest.approx(sum(values) / 4, rel=1e-5)


def test_a_search_can_minimise_the_validation_loss(tree, tmp_path):
    search = Search.create(tree, space(trials=2, metric="validation-loss"), tmp_path / "s")
    search.run()
    values = [t.value for t in search.trials()]
    assert search.best().value == min(values) and all(math.isfinite(v) and v > 0 for v in values)
    with pytest.raises(RecipeError, match="did you mean 'validation-loss'"):
        Search.create(tree, space(metric="validation_loss"), tmp_path / "other")


def test_importance_names_the_key_that_decides(tree, tmp_path):
    search = Search.create(tree, space(trials=30), tmp_path / "s")
    for number in range(30):
        trial = search.study.ask(search.settings.search.distributions())
        search.study.tell(trial, -abs(math.log10(trial.params["optimizer.lr"]) + 2) + 1e-4 * (number % 3))
    shares = importance(search)
    assert sum(shares.values()) == pytest.approx(1) and max(shares, key=shares.get) == "optimizer.lr"
    assert shares["optimizer.lr"] > 0.6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one of log, uniform, int, choice: found none"),
        ({"log": [1, 2], "int": [1, 2]}, "found log and int"),
        ({"log": [0, 1]}, "cannot begin at 0"),
        ({"uniform": [2, 1]}, "from 2.0 to 1.0: put the lower end first"),
        ({"choice": [1]}, "needs two values or more"),
        ({"log": [1, 2], "step": 1}, "step goes with uniform and int, not with log"),
        ({"int": [1, 9], "step": 0.5}, "no whole number"),
        ({"lgo": [1, 2]}, "unknown key 'lgo': did you mean 'log'"),
    ],
)
def test_ranges_that_are_none_are_refused(given, said):
    with pytest.raises(RecipeError, match=said):
        build_config(Range, given)


def test_choices_that_are_lists_come_back_as_lists():
    wanted = build_config(Range, {"choice": [[8, 8], [16, 8], None, "1e-3"]})
    labels = wanted.distribution().choices
    assert labels == ("[8, 8]", "[16, 8]", None, 1e-3)
    assert [wanted.value(label) for label in labels] == [[8, 8], [16, 8], None, 1e-3]


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("optimizer.lrr", {"log": [1e-4, 1e-2]}, "unknown key 'optimizer.lrr': did you mean 'lr'"),
        ("sampling.crop_px", {"choice": [32, "large"]}, r"crop_px: .*integer.*'large'"),
        ("optimizer.lr.peak", {"log": [1e-4, 1e-2]}, "optimizer.lr is a value, not a group"),
        ("objective.terms.7.weight", {"uniform": [0, 1]}, "'7' is no place in a list of 2"),
    ],
)
def test_keys_and_values_are_checked_before_anything_is_trained(tree, key, given, said):
    wanted = build_config(SearchSpace, {"space": {key: given}})
    given_tree = tree | {"optimizer": {"lr": 0.001}}
    recipe = build_config(TrainRecipe, dict(given_tree))
    with pytest.raises(RecipeError, match=said):
        check_space(with_lists(given_tree, recipe, wanted.space), wanted)


@pytest.mark.parametrize("metric", ["f1_destroyed", "official_score"])
def test_a_measure_of_damage_is_refused_for_buildings_before_anything_is_trained(metric):
    tree = recipe_tree("recipes/localization.yaml", ["data.manifests=[x]"])
    wanted = build_config(
        SearchSpace, {"study": {"metric": metric}, "space": {"optimizer.lr": {"log": [1e-4, 1e-2]}}}
    )
    with pytest.raises(RecipeError, match=rf"'{metric}' tells of damage, and the recipe's task is building"):
        check_space(tree, wanted)


def test_one_value_is_not_set_twice():
    with pytest.raises(RecipeError, match=r"optimizer.lr and optimizer set the same value"):
        build_config(
            SearchSpace,
            {"space": {"optimizer.lr": {"log": [1e-4, 1e-2]}}, "fixed": {"optimizer": {"lr": 1}}},
        )


@pytest.mark.parametrize("name", ["search/small.yaml", "search/opencities.yaml"])
def test_shipped_spaces_fit_a_shipped_recipe(name):
    wanted = load_space(shipped_recipes()[name])
    tree = recipe_tree("recipes/localization.yaml", ["data.manifests=[x]"])
    check_space(with_lists(tree, build_config(TrainRecipe, dict(tree)), wanted.space), wanted)


def test_the_published_space_is_the_originals():
    wanted = load_space(shipped_recipes()["search/opencities.yaml"])
    assert {key: r.log for key, r in wanted.space.items()} == {
        "optimizer.lr": (1e-5, 1e-1),
        "optimizer.weight_decay": (1e-10, 1e-3),
    }
    study = wanted.study
    assert (study.trials, study.pruner, study.higher_is_better) == (50, "median", False)


def test_a_range_test_writes_its_curve_and_no_model(tree, tmp_path):
    recipe = build_config(TrainRecipe, tree | {"sampling": {"crop_px": 32, "batch_size": 2}})
    result = range_test(recipe, tmp_path / "range", RangeSettings(steps=24, lr_min=1e-5, lr_max=0.1))
    assert sorted(p.name for p in (tmp_path / "range").iterdir()) == ["range.json", "range.png"]
    told = json.loads((tmp_path / "range" / "range.json").read_text())
    assert told["loss"] == result.loss and told["recipe"] == "tiny"
    ratios = [b / a for a, b in zip(result.lr, result.lr[1:], strict=False)]
    assert result.lr[0] == pytest.approx(1e-5) and ratios == pytest.approx([1e4 ** (1 / 23)] * len(ratios))
    with pytest.raises(RecipeError, match=r"cannot rise from 1 to 0\.1"):
        RangeSettings(lr_min=1, lr_max=0.1)


def test_the_settings_survive_in_the_folder(searched, tree):
    stored = yaml.safe_load((searched.folder / "search.yaml").read_text())
    assert stored["recipe"]["augment"] is None and stored["search"]["space"]["optimizer.lr"]["log"] == [
        0.001,
        0.05,
    ]
    assert Search.open(searched.folder).settings == searched.settings
