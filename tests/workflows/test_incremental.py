"""Classes learned step by step: a task end to end, broken off and gone on with, step by step and from elsewhere."""

import json
import os
import signal

import numpy as np
import pytest
import torch

from aftermap.artefacts.store import load_card, load_model
from aftermap.errors import DataError, ModelError, OutputError, RecipeError, TrainingError
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.incremental.tiles import gather
from coloured_cities import make_cities
from incremental_runs import tiny_recipe
from other_processes import exit_code

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_cities(tmp_path_factory.mktemp("data") / "cities")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Task 6s, unbroken."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, learn_incrementally(tiny_recipe(data), folder, command="aftermap train tiny")


def weights(folder, step):
    return load_model(folder / "steps" / str(step) / "model").model.state_dict()


def assert_equal_weights(one, other, steps):
    for step in steps:
        mine, theirs = weights(one, step), weights(other, step)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_each_step_adds_a_class_to_the_model_of_the_step_before(run):
    folder, learned = run
    names = [load_card(folder / "steps" / str(t) / "model").classes.names for t in range(6)]
    order = ("building", "tree", "impervious_surfaces", "low_vegetation", "car", "clutter")
    assert names == [("background", *order[: t + 1]) for t in range(6)]
    assert load_model(learned.model).model.classes == 7


def test_every_model_names_its_parent_by_hash(run):
    folder, _ = run
    loaded = [load_model(folder / "steps" / str(t) / "model") for t in range(6)]
    parents = [model.card.incremental.parent_sha256 for model in loaded]
    assert parents == [None, *(model.sha256 for model in loaded[:-1])]
    assert [model.card.incremental.heads for model in loaded[:3]] == [(2,), (2, 1), (2, 1, 1)]


def test_the_run_tells_protocol_and_tiles_of_each_step(run, data):
    folder, _ = run
    facts = json.loads((folder / "run.json").read_text())
    material = gather(tiny_recipe(data), dates=1)
    assert facts["protocol_sha256"] == material.protocol.sha256
    assert facts["tiles"] == {"steps": [12] * 6, "training": 12, "validation": 2, "test": 2}
    assert facts["status"] == "complete"


def test_scores_count_every_test_pixel_once(run):
    _, learned = run
    pixels = [step["scores"]["pixels"] for step in learned.scores["steps"]]
    assert pixels == [2 * 64 * 64] * 6


def test_a_run_broken_off_in_step_two_ends_with_the_same_weights(run, data, tmp_path):
    folder, _ = run

    def break_off(progress):
        if (progress.stage, progress.task_step, progress.done) == ("learning the classes", 2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_incrementally(tiny_recipe(data), tmp_path / "run", on_progress=break_off)
    before = (tmp_path / "run/steps/1/model/model.safetensors").stat().st_mtime_ns
    seen = []
    learned = learn_incrementally(
        tiny_recipe(data), tmp_path / "run", resume=True, on_progress=lambda p: seen.append(p)
    )
    assert next((p.task_step, p.done) for p in seen if p.stage == "learning the classes") == (2, 4)
    assert (tmp_path / "run/steps/1/model/model.safetensors").stat().st_mtime_ns == before
    assert_equal_weights(folder, tmp_path / "run", range(6))
    assert learned.scores == json.loads((folder / "incremental.json").read_text())


def learn_until_killed(data, folder):
    def kill(progress):
        if (progress.stage, progress.task_step, progress.done) == ("learning the classes", 1, 3):
            os.kill(os.getpid(), signal.SIGKILL)

    learn_incrementally(tiny_recipe(data, task="222a"), folder, on_progress=kill)


def test_a_killed_process_leaves_a_run_that_ends_with_the_same_weights(data, tmp_path):
    assert exit_code(learn_until_killed, data, tmp_path / "killed") == -signal.SIGKILL
    learn_incrementally(tiny_recipe(data, task="222a"), tmp_path / "killed", resume=True)
    learn_incrementally(tiny_recipe(data, task="222a"), tmp_path / "whole")
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed", range(3))


def test_one_step_per_call_gives_what_all_at_once_give(run, data, tmp_path):
    folder, _ = run
    for step in range(3):
        learned = learn_incrementally(tiny_recipe(data), tmp_path / "run", step=step)
        assert sorted(learned.steps) == list(range(step + 1))
    assert_equal_weights(folder, tmp_path / "run", range(3))
    assert load_model(tmp_path / "run/model").model.classes == 4


def test_what_single_steps_left_is_gone_on_with_to_the_end(run, data, tmp_path):
    folder, _ = run
    learn_incrementally(tiny_recipe(data), tmp_path / "run", step=0)
    learn_incrementally(tiny_recipe(data), tmp_path / "run", resume=True)
    assert_equal_weights(folder, tmp_path / "run", range(6))


def test_a_run_from_the_first_step_of_another_goes_on_to_the_same_end(run, data, tmp_path):
    folder, _ = run
    learned = learn_incrementally(tiny_recipe(data), tmp_path / "run", start=folder)
    assert_equal_weights(folder, tmp_path / "run", range(6))
    assert [s["learned"] for s in learned.scores["steps"]][:2] == [["building"], ["tree"]]


def test_a_run_from_a_later_step_counts_all_before_it_as_one(run, data, tmp_path):
    folder, _ = run
    learned = learn_incrementally(tiny_recipe(data), tmp_path / "run", start=folder / "steps/4/model")
    assert learned.scores["first_step"] == 4
    assert learned.scores["heads"] == [6, 1]
    assert_equal_weights(folder, tmp_path / "run", [5])


def test_fine_tuning_shares_the_first_step_of_another_method(run, data, tmp_path):
    folder, _ = run
    learned = learn_incrementally(
        tiny_recipe(data, objective={"method": "fine-tuning"}), tmp_path / "run", start=folder / "steps/0"
    )
    assert_equal_weights(folder, tmp_path / "run", [0])
    assert load_card(learned.model).incremental.method == "fine-tuning"


def test_joint_training_learns_all_classes_in_the_same_order_in_one_step(data, tmp_path):
    learned = learn_incrementally(tiny_recipe(data, joint=True), tmp_path / "run")
    assert list(learned.steps) == [0]
    assert learned.scores["names"][1:4] == ["building", "tree", "impervious_surfaces"]
    assert learned.scores["heads"] == [7]


def test_the_users_own_steps_are_a_task(data, tmp_path):
    recipe = tiny_recipe(data, task=[["car", "tree"], ["building"]])
    learned = learn_incrementally(recipe, tmp_path / "run")
    assert learned.scores["names"] == ["background", "car", "tree", "building"]


def test_steps_may_stop_before_the_end_of_the_task(data, tmp_path):
    learned = learn_incrementally(tiny_recipe(data, last_step=1), tmp_path / "run")
    assert sorted(learned.steps) == [0, 1]


def test_the_first_step_and_later_ones_may_differ_in_length(data, tmp_path):
    recipe = tiny_recipe(data, task="222a", first={"steps": 3}, later={"steps": 2, "lr": 1e-4})
    done = []
    learn_incrementally(
        recipe,
        tmp_path / "run",
        on_progress=lambda p: done.append((p.task_step, p.done, p.step.lr)) if p.step else None,
    )
    assert [(step, number) for step, number, _ in done] == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]
    assert max(lr for step, _, lr in done if step) <= 1e-4


def test_replayed_tiles_come_with_the_labels_of_their_own_step(data):
    material = gather(tiny_recipe(data, protocol={"filter": "image-split"}), dates=1)
    learned = material.learned_from(1, memory_mb=0.02)  # a tile takes 64 * 64 * 4 bytes
    replayed = learned.lookups[learned.fresh :]
    assert (learned.fresh, len(replayed)) == (2, 1)
    for lookup in replayed:
        assert lookup[1] == 1  # buildings, learned in step 0
        assert set(np.delete(lookup, 1)) == {255}


@pytest.mark.parametrize(
    ("compat", "scores", "kept"),
    [
        (True, [0.5, 0.4, 0.3, 0.2], 4),
        (True, [0.5, 0.4, 0.6, 0.2], 3),
        (True, [0.1, 0.5, 0.4, 0.3, 0.6], 5),
        (True, [0.1, 0.5, 0.4, 0.3], 2),
        (False, [0.5, 0.4, 0.3, 0.2], 1),
    ],
)
def test_the_published_way_overwrites_the_first_evaluation_until_one_beats_it(
    compat, scores, kept, data, tmp_path, monkeypatch
):
    told = iter(scores)
    monkeypatch.setattr(
        "aftermap.workflows.incremental.step.IncrementalStep._validate", lambda *_: {"score": next(told)}
    )
    recipe = tiny_recipe(
        data,
        last_step=0,
        steps=len(scores),
        evaluate_every=1,
        selection={"compat_overwrite_first": compat},
    )
    learned = learn_incrementally(recipe, tmp_path / "run")
    assert load_card(learned.steps[0]).training.steps == kept


def test_a_step_ends_when_patience_runs_out(data, tmp_path):
    recipe = tiny_recipe(
        data, last_step=0, steps=20, evaluate_every=1, optimizer={"lr": 1e-12}, selection={"patience": 3}
    )
    learn_incrementally(recipe, tmp_path / "run")
    lines = (tmp_path / "run/steps/0/metrics.jsonl").read_text().splitlines()
    scores = [json.loads(line)["score"] for line in lines]
    best = scores.index(max(scores))
    assert len(scores) == best + 4 < 20


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({"task": "7s"}, {}, RecipeError, "no task '7s': known are offline, 222a, 321, 6s"),
        ({"task": [["car"], ["tree", "car"]]}, {}, RecipeError, "'car' is in steps 0 and 1"),
        ({"task": [["car"], ["boat"]]}, {}, RecipeError, "no class 'boat'"),
        ({"last_step": 6}, {}, RecipeError, "last_step is 6, task 6s has the steps 0 to 5"),
        ({"sampling": {"crop_px": 30}}, {}, RecipeError, "multiples of 4, such as 32"),
        (
            {"data": {"target": "building"}, "task": "offline"},
            {},
            DataError,
            "no training tiles with masks of target b",
        ),
        ({"data": {"test_split": "unassigned"}}, {}, DataError, "no test tiles"),
        ({"normalisation": {"mean": [0, 0]}}, {}, RecipeError, "2 means and 3 deviations, there are 3 bands"),
        ({"objective": {"contrastive": {"features": "embedding"}}}, {}, RecipeError, "a unet has none"),
        ({}, {"step": 6}, RecipeError, "--step 6: task 6s has the steps 0 to 5"),
        ({}, {"step": 2}, TrainingError, "holds no model of step 1.*run --step 1 first"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_anything_is_written(
    data, tmp_path, changes, options, error, message
):
    with pytest.raises(error, match=message):
        learn_incrementally(tiny_recipe(data, **changes), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_step_whose_class_never_occurs_is_refused_before_anything_is_written(tmp_path):
    bare = make_cities(tmp_path / "cities", tiles=6, classes=(1, 2, 3, 4))
    with pytest.raises(DataError, match="step 5 of task 6s has no tile to learn clutter from"):
        learn_incrementally(tiny_recipe(bare), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_order_of_steps_is_refused(run, data, tmp_path):
    folder, _ = run
    with pytest.raises(ModelError, match="has learned building, tree in this order, task custom learns"):
        learn_incrementally(
            tiny_recipe(data, task=[["tree"], ["building"], ["car"]]),
            tmp_path / "run",
            start=folder / "steps/1/model",
        )
    assert not (tmp_path / "run").exists()


def test_a_model_of_the_wrong_step_is_refused(run, data, tmp_path):
    folder, _ = run
    with pytest.raises(ModelError, match=r"has learned step 1 .*--step 4 needs the model of step 3"):
        learn_incrementally(tiny_recipe(data), tmp_path / "run", step=4, start=folder / "steps/1/model")


def test_a_model_of_the_last_step_leaves_nothing_to_learn(run, data, tmp_path):
    _, learned = run
    with pytest.raises(RecipeError, match="has learned step 5, the last one"):
        learn_incrementally(tiny_recipe(data), tmp_path / "run", start=learned.model)


def test_a_model_made_for_other_images_is_refused_before_anything_is_written(run, data, tmp_path):
    folder, _ = run
    with pytest.raises(RecipeError, match="was made for normalisation"):
        learn_incrementally(
            tiny_recipe(data, normalisation={"mean": [0, 0, 0]}), tmp_path / "run", start=folder
        )
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_neither_resumed_nor_overwritten(run, data):
    folder, _ = run
    with pytest.raises(TrainingError, match="is complete"):
        learn_incrementally(tiny_recipe(data), folder, resume=True)
    with pytest.raises(OutputError, match="already holds a run"):
        learn_incrementally(tiny_recipe(data), folder)
    with pytest.raises(OutputError, match="already holds step 2"):
        learn_incrementally(tiny_recipe(data), folder, step=2)


def test_a_run_is_not_resumed_with_another_task(data, tmp_path):
    learn_incrementally(tiny_recipe(data), tmp_path / "run", step=0)
    with pytest.raises(RecipeError, match="holds a run of task 6s with another"):
        learn_incrementally(tiny_recipe(data, task="222a"), tmp_path / "run", step=1)
