"""Adapting to an event without labels: squares of an event that is seen through haze."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from test_adapt import COLOURS, save

from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.store import load_card, load_model, save_model
from aftermap.config import load_config
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, ModelError, OutputError, RecipeError, TrainingError
from aftermap.learning.configs.optimizer import CosineConfig, OptimizerConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.objectives.supervised import Supervised
from aftermap.workflows.adaptation import without_labels as module
from aftermap.workflows.adaptation.config import AdaptEventRecipe
from aftermap.workflows.adaptation.run import adapt
from aftermap.workflows.adaptation.scenes import event_scenes
from aftermap.workflows.adaptation.without_labels import adapted_model
from aftermap.workflows.kinds import interrupted_recipe
from aftermap.workflows.training.recipe_files import recipe_path

pytestmark = pytest.mark.usefixtures("undrawn")

HAZE = {"clear": (1.0, 0), "haze": (0.4, 120)}


def write_scene(folder, event, n, *, labelled=True, split="train"):
    rng = np.random.default_rng(n)
    pre = rng.integers(90, 120, (32, 32, 3), np.uint8)
    post, mask = pre.copy(), np.zeros((32, 32), np.uint8)
    for k, colour in enumerate(rng.permutation(4)):
        area = slice(2 + 15 * (k // 2), 13 + 15 * (k // 2)), slice(2 + 15 * (k % 2), 13 + 15 * (k % 2))
        pre[area], post[area] = 230, COLOURS[colour]
        mask[area] = colour + 1
    gain, offset = HAZE[event]
    pre, post = (np.rint(image * gain + offset).astype(np.uint8) for image in (pre, post))
    files = {"pre": pre[..., ::-1], "post": post[..., ::-1]}
    if labelled:
        files |= {"building_mask": np.uint8(mask > 0), "damage_mask": mask}
    paths = {key: folder / f"{event}_{n}_{key}.png" for key in files}
    for key, array in files.items():
        cv2.imwrite(str(paths[key]), array)
    counts = np.bincount(mask.ravel(), minlength=5).tolist() if labelled else []
    return Scene(
        name=f"{event}_{n}", event=event, split=split, width=32, height=32, class_pixels=counts, **paths
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    scenes = [write_scene(folder, "clear", n) for n in range(4)]
    scenes += [write_scene(folder, "haze", n, split="test" if n > 3 else "train") for n in range(6)]
    Manifest(kind="folder", scheme="joint-damage-scale", licence="CC0-1.0", scenes=scenes).save(folder)
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    scenes = [write_scene(folder, "haze", n, labelled=False) for n in range(6)]
    Manifest(kind="folder", scheme="joint-damage-scale", licence="CC0-1.0", scenes=scenes).save(folder)
    return folder


@pytest.fixture(scope="module")
def parent(data, tmp_path_factory):
    """Knows clear images."""
    folder = save(tmp_path_factory.mktemp("parent") / "model")
    loaded = load_model(folder)
    given = event_scenes(recipe(data, folder, event="clear"), loaded.card)
    source = module.CropSource(
        given.scenes,
        target="damage",
        dates=2,
        sampling=module.ClassSampling(crop_px=32, batch_size=4),
        augment=None,
        mean=loaded.card.normalisation.mean,
        std=loaded.card.normalisation.std,
        seed=0,
    )
    optimizer = OptimizerConfig(lr=0.02, schedule=CosineConfig(warmup_steps=5))
    training = Training(
        loaded.model, Supervised(SupervisedConfig()), optimizer, steps=60, seed=0, precision="no"
    )
    list(fit(training, source))
    source.close()
    save_model(folder, loaded.model.eval(), loaded.card)
    return folder


def recipe(data, parent, **changes):
    options = {
        "model": str(parent),
        "data": (data,),
        "event": "haze",
        "steps": 8,
        "lr": 0.002,
        "crop_px": 32,
        "precision": "no",
        "augment": None,
        "objective": {"terms": (), "norm": "adapt", "confidence": 0.0, "strong": {"cutout_px": 8}},
        "guard": {"contradiction": 1.0, "share_factor": 10.0},
    }
    if "source" in changes:
        options["objective"] = options["objective"] | {"terms": [{"loss": "cross-entropy"}]}
    return AdaptEventRecipe.model_validate(options | changes)


def report_of(folder):
    return json.loads((folder / "adaptation.json").read_text())


def test_statistics_of_the_images_undo_a_change_of_light(data, parent, tmp_path):
    done = adapt(recipe(data, parent, method="batch-norm", statistics=1.0), tmp_path / "run")
    assert done.truth_before["score"] < 0.7 and done.truth_after["score"] > done.truth_before["score"] + 0.1
    assert done.before.source == "views" and done.scenes == 6


def test_statistics_are_moved_by_the_share_that_is_asked_for(data, parent):
    given = event_scenes(recipe(data, parent), load_card(parent))
    moved = {}
    for share in (0.25, 1.0):
        wanted = recipe(data, parent, method="batch-norm", statistics=share, steps=4)
        moved[share] = adapted_model(wanted, given).model.state_dict()
    old = load_model(parent).model.state_dict()
    name = "encoder.1.running_mean"
    quarter = old[name] + 0.25 * (moved[1.0][name] - old[name])
    assert torch.allclose(moved[0.25][name], quarter, atol=1e-5)
    assert torch.equal(moved[1.0]["head.weight"], old["head.weight"])


@pytest.mark.pictures
def test_the_mean_teacher_learns_from_images_alone(bare, parent, tmp_path):
    done = adapt(recipe(bare, parent), tmp_path / "run")
    old, new = load_model(parent).model.state_dict(), load_model(done.model).model.state_dict()
    assert done.truth_before is None and report_of(tmp_path / "run")["truth_after"] is None
    assert (done.kept == "adapted") == (not torch.equal(old["head.weight"], new["head.weight"]))
    assert {"adaptation.json", "before-after.png", "recipe.yaml", "run.json", "metrics.jsonl", "model"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_labels_of_the_event_change_nothing(data, bare, parent, tmp_path):
    one, other = (adapt(recipe(d, parent), tmp_path / d.name) for d in (data, bare))
    assert one.before.as_dict() == other.before.as_dict() and one.after.as_dict() == other.after.as_dict()
    first, second = (load_model(d.model).model.state_dict() for d in (one, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_labels_decide_where_the_guard_is_told_to_ask_them(data, parent, tmp_path):
    guard = {"labels": True}
    done = adapt(recipe(data, parent, method="batch-norm", statistics=1.0, guard=guard), tmp_path / "run")
    assert done.before.source == "labels" and done.kept == "adapted"
    assert done.before.score == pytest.approx(done.truth_before["score"])


def test_a_refused_adaptation_leaves_the_parents_weights(data, parent, tmp_path):
    done = adapt(recipe(data, parent, guard={"min_gain": 2.0}), tmp_path / "run")
    old, new = load_model(parent).model.state_dict(), load_model(done.model).model.state_dict()
    assert done.kept == "parent" and all(torch.equal(value, new[name]) for name, value in old.items())
    card = load_card(done.model)
    assert card.name == "squares" and "without labels was refused (no gain" in card.limits


def test_force_keeps_what_was_refused_and_says_so(data, parent, tmp_path):
    done = adapt(recipe(data, parent, guard={"min_gain": 2.0}, force=True), tmp_path / "run")
    card = load_card(done.model)
    assert done.kept == "adapted" and done.verdict.kept == "teacher"
    assert card.name == "squares-haze" and "Kept against the verdict: no gain" in card.limits
    assert card.training.parent_sha256 == load_model(parent).sha256 and "CC0-1.0" in card.licence


def test_labelled_scenes_of_other_events_take_part(data, parent, tmp_path):
    adapt(recipe(data, parent, source={"manifests": [str(data)]}), tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["source_scenes"] == 4 and facts["status"] == "complete"


def test_an_interrupted_adaptation_goes_on_to_the_same_weights(data, parent, tmp_path):
    wanted = recipe(data, parent, force=True, save_every=2)
    whole = adapt(wanted, tmp_path / "whole")

    def stop(progress):
        if progress.stage == "adapting" and progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(wanted, tmp_path / "run", on_progress=stop)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    again = adapt(interrupted_recipe(tmp_path / "run")[1], tmp_path / "run", resume=True)
    first, second = (load_model(d.model).model.state_dict() for d in (whole, again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert again.before.as_dict() == whole.before.as_dict() and again.truth_before == whole.truth_before
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4, 6, 8, 8]
    assert not (tmp_path / "run" / "resume").exists()


def test_a_finished_run_is_not_resumed(data, parent, tmp_path):
    adapt(recipe(data, parent, method="batch-norm", steps=1), tmp_path / "run")
    with pytest.raises(TrainingError, match="no interrupted run to resume"):
        interrupted_recipe(tmp_path / "run")[1]
    with pytest.raises(OutputError, match="already holds a run"):
        adapt(recipe(data, parent), tmp_path / "run")


def test_the_recipe_in_the_folder_says_the_same(data, parent, tmp_path):
    wanted = recipe(data, parent, method="batch-norm", steps=1)
    adapt(wanted, tmp_path / "run")
    tree = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert AdaptEventRecipe.model_validate(tree) == wanted


def test_a_building_model_of_one_date_can_be_adapted(data, tmp_path):
    folder = save(tmp_path / "model", dates=1, classes=2)
    done = adapt(recipe(data, folder, steps=2), tmp_path / "run")
    assert set(done.before.per_class) == {"building"} and "localization_f1" in done.truth_before


def test_scenes_may_be_named_or_taken_by_split(data, parent):
    card = load_card(parent)
    named = event_scenes(recipe(data, parent, names=("haze_2",)), card)
    split = event_scenes(recipe(data, parent, splits=("test",)), card)
    assert [s.name for s in named.scenes] == ["haze_2"]
    assert [s.name for s in split.scenes] == ["haze_4", "haze_5"]
    assert all(not s.is_labelled and not s.class_pixels for s in split.bare)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"event": "flood"}, DataError, r"no scenes of event flood: its events are clear \(4\), haze \(6\)"),
        ({"names": ("clear_0",)}, DataError, "has no scene clear_0 here: it has 6, such as haze_0"),
        (
            {"splits": ("validation",)},
            DataError,
            "none of the 6 scenes is of split validation: theirs are test, train",
        ),
        ({"model": "nowhere"}, ModelError, "no model at nowhere"),
        (
            {"objective": {"terms": (), "confidence": (0.5, 0.5)}},
            RecipeError,
            "objective.confidence has 2 values, the model has 5 classes",
        ),
        (
            {"objective": {"terms": (), "activation": "sigmoid"}},
            RecipeError,
            "objective.activation is sigmoid, the model's is softmax",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(data, parent, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        adapt(recipe(data, parent, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_a_source_without_other_events_is_refused(bare, parent, tmp_path):
    with pytest.raises(DataError, match="source has 0 scenes of other events"):
        adapt(recipe(bare, parent, source={"manifests": [str(bare)]}), tmp_path / "run")


def test_an_ensemble_is_refused(data, parent, tmp_path):
    card, members = compose("one", [Ingredient(parent)])
    save_ensemble(tmp_path / "both", card, members)
    with pytest.raises(ModelError, match="is an ensemble: adapt its members one by one"):
        adapt(recipe(data, tmp_path / "both"), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "batch-norm", "source": {"manifests": ["x"]}}, "learns nothing, so source has no use"),
        ({"method": "batch-norm", "statistics": 0.0}, "changes nothing"),
        ({"source": {"manifests": ["x"]}, "objective": {"terms": ()}}, "objective.terms is empty"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AdaptEventRecipe.model_validate({"data": ["data"]} | changes)


def test_the_shipped_recipe_is_what_is_done_by_default():
    shipped = load_config(AdaptEventRecipe, recipe_path("adapt-event"), ["data=[prepared]"])
    assert shipped == AdaptEventRecipe(data=(Path("prepared"),))
