"""Meta-training end to end, on events that disagree: in one the red squares are the buildings, in the next the blue."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from aftermap.artefacts.store import load_card, load_model
from aftermap.cli.app import main
from aftermap.config import build_config, load_config
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, RecipeError, TrainingError
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.adaptation.config import MetaRecipe
from aftermap.workflows.adaptation.meta_training import meta_train
from aftermap.workflows.kinds import interrupted_recipe
from aftermap.workflows.training.recipe_files import recipe_path

EVENTS = {"red-1": 0, "red-2": 0, "blue-1": 1, "blue-2": 1, "red-held-out": 0, "blue-held-out": 1}


class Pixelwise(DenseModel):
    """Looks at one pixel at a time; normalises the colours."""

    dates, classes, stride = 1, 2, 1

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 24, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Conv2d(24, 2, 1)

    def forward_features(self, image):
        return self.body(image[:, 0])

    def forward_head(self, features, size):
        return self.head(features)


def make_events(folder, scenes_per_event=5):
    rng = np.random.default_rng(0)
    folder.mkdir()
    scenes = []
    for event, kind in EVENTS.items():
        for n in range(scenes_per_event):
            image = rng.integers(100, 140, (32, 32, 3), np.uint8)
            mask = np.zeros((32, 32), np.uint8)
            for k, corner in enumerate(rng.permutation([(2, 2), (2, 18), (18, 2), (18, 18)])):
                area = slice(corner[0], corner[0] + 10), slice(corner[1], corner[1] + 10)
                image[area] = (240, 30, 30) if k % 2 else (30, 30, 240)  # blue, green, red
                mask[area] = (k % 2) == kind
            paths = {"pre": folder / f"{event}_{n}.png", "building_mask": folder / f"{event}_{n}_mask.png"}
            cv2.imwrite(str(paths["pre"]), image)
            cv2.imwrite(str(paths["building_mask"]), mask)
            scenes.append(Scene(name=f"{event}_{n}", event=event, width=32, height=32, **paths))
    Manifest(kind="folder", scheme="building", scenes=scenes).save(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_events(tmp_path_factory.mktemp("meta") / "events")


def recipe(folder, **changes):
    tree = {
        "name": "meta",
        "task": "building",
        "data": {"manifests": [str(folder)], "validation_events": ["red-held-out", "blue-held-out"]},
        "model": {"kind": "custom", "target": "test_meta_training:Pixelwise", "classes": 2},
        "shots": {"crop_px": 32},
        "meta": {
            "inner_lr": 0.5,
            "inner_steps": 3,
            "support_shots": 2,
            "query_shots": 3,
            "task_set_size": 4,
            "norm": "batch",
        },
        "optimizer": {"lr": 0.02, "weight_decay": 0.0, "schedule": {"kind": "cosine", "warmup_steps": 3}},
        "steps": 40,
        "evaluate_every": 20,
        "seed": 1,
    }
    return build_config(MetaRecipe, tree | changes)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return meta_train(recipe(data), tmp_path_factory.mktemp("runs") / "run", command="aftermap meta-train r")


def test_a_few_steps_on_the_support_settle_what_the_buildings_of_a_new_event_are(trained):
    assert trained.metrics["score"] > 0.95
    assert trained.metrics["score_before"] < 0.75  # nobody can know beforehand


def test_the_run_folder_tells_what_happened(trained, data):
    folder = trained.model.parent
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "complete"
    assert facts["events"] == ["blue-1", "blue-2", "red-1", "red-2"]
    assert facts["validation_events"] == ["blue-held-out", "red-held-out"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40]
    assert {"score", "score_before", "score_red-held-out", "score_blue-held-out"} <= set(lines[0])
    assert not (folder / "resume").exists()


def test_the_card_says_that_the_model_is_a_start(trained):
    card = load_card(trained.model)
    assert "3 SGD steps at 0.5" in card.limits and card.training.command == "aftermap meta-train r"
    assert card.metrics["held-out events, after adapting"]["score"] == pytest.approx(
        trained.metrics["score"], abs=1e-4
    )


def test_the_saved_model_has_running_statistics_although_the_inner_loop_has_none(trained):
    statistics = load_model(trained.model).model.body[1]
    assert float(statistics.running_mean.abs().sum()) > 0.1
    assert not torch.allclose(statistics.running_var, torch.ones(24), atol=1e-3)


def test_a_killed_run_resumes_to_the_same_weights(data, tmp_path):
    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step.number == 5:
            raise KilledError

    short = recipe(data, steps=8, evaluate_every=8, save_every=2)
    whole = meta_train(short, tmp_path / "whole")
    with pytest.raises(KilledError):
        meta_train(short, tmp_path / "run", on_progress=kill)
    again = interrupted_recipe(tmp_path / "run", [])[1]
    assert again == short
    resumed = meta_train(again, tmp_path / "run", resume=True)
    expected, found = load_model(whole.model).model.state_dict(), load_model(resumed.model).model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_interrupt_keeps_the_task_sets_done(data, tmp_path):
    def interrupt(progress):
        if progress.step.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meta_train(recipe(data, steps=8, evaluate_every=8), tmp_path / "run", on_progress=interrupt)
    assert json.loads((tmp_path / "run" / "resume" / "step.json").read_text())["step"] == 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_a_run_goes_on_from_a_model_folder_with_its_statistics_frozen(data, tmp_path, trained):
    meta = recipe(data).meta.model_dump() | {"norm": "frozen", "first_order": True}
    second = recipe(data, init_from=str(trained.model), model=None, meta=meta, steps=2, evaluate_every=2)
    result = meta_train(second, tmp_path / "run")
    parent, child = load_model(trained.model), load_model(result.model)
    assert child.card.training.parent_sha256 == parent.sha256
    assert torch.equal(child.model.body[1].running_mean, parent.model.body[1].running_mean)
    assert not torch.equal(child.model.head.weight, parent.model.head.weight)


def test_epochs_count_task_sets(data, tmp_path):
    meta = recipe(data).meta.model_dump() | {"task_set_size": 2}
    run = meta_train(recipe(data, epochs=2, evaluate_every=1, meta=meta), tmp_path / "run").model.parent
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4]  # four events, two a set: two sets are an epoch


def test_a_held_out_event_that_is_not_there_is_named(data, tmp_path):
    wrong = recipe(data, data={"manifests": [str(data)], "validation_events": ["green"]})
    with pytest.raises(DataError, match="green, which has no labelled scenes"):
        meta_train(wrong, tmp_path / "run")


def test_frozen_statistics_need_a_model_that_has_some(data):
    with pytest.raises(RecipeError, match="a fresh one has none"):
        recipe(data, meta={"norm": "frozen"})


def test_a_run_starts_from_one_thing(data):
    with pytest.raises(RecipeError, match="either init_from"):
        recipe(data, model=None)


def test_a_model_of_another_task_is_refused(data, tmp_path):
    with pytest.raises(RecipeError, match="the model has 2 classes"):
        meta_train(recipe(data, task="damage"), tmp_path / "run")


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(TrainingError, match="no interrupted run"):
        interrupted_recipe(tmp_path, [])[1]


def test_the_published_meta_learning_is_a_recipe():
    published = load_config(MetaRecipe, recipe_path("recipes/metadamagenet/maml.yaml"))
    meta = published.meta
    assert (meta.inner_lr, meta.inner_steps, meta.task_set_size) == (1e-4, 5, 17)
    assert (meta.support_shots, meta.query_shots, meta.images_per_pass) == (1, 2, 1)
    assert (published.optimizer.lr, published.epochs) == (15e-6, 50)
    assert published.data.validation_events == ["mexico-earthquake", "joplin-tornado"]
    published.objective.check_classes(published.model.classes)


def test_the_command_trains_and_resumes_nothing_twice(data, tmp_path, capsys):
    text = yaml.safe_dump(recipe(data, steps=2, evaluate_every=2).model_dump(mode="json"))
    (tmp_path / "meta.yaml").write_text(text)
    with pytest.raises(SystemExit) as end:
        main(["meta-train", str(tmp_path / "meta.yaml"), "seed=3", "-o", str(tmp_path / "run")])
    assert end.value.code == 0 and "held-out events score" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["seed"] == 3
    with pytest.raises(SystemExit) as end:
        main(["meta-train", "--resume", str(tmp_path / "run")])
    assert end.value.code == 2 and "no interrupted run" in capsys.readouterr().err
