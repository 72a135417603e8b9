"""Recipes that are trained for a benchmark, on what its protocol allows."""

import json

import pytest
import yaml

import aftermap
from aftermap.errors import InputError
from aftermap.workflows.benchmark import entrants
from squares import make_dataset

RECIPE = {
    "name": "tiny",
    "task": "damage",
    "data": {"manifests": ["nowhere"]},
    "model": {
        "kind": "siamese-unet",
        "encoder_name": "resnet10t",
        "encoder_depth": 3,
        "decoder_channels": [16, 16, 16],
    },
    "sampling": {"crop_px": 64, "batch_size": 2},
    "augment": None,
    "precision": "no",
    "steps": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = make_dataset(tmp_path_factory.mktemp("data") / "squares")
    manifest = aftermap.Manifest.load(folder)
    scenes = [s.model_copy(update={"event": f"event{n % 2}"}) for n, s in enumerate(manifest.scenes)]
    manifest.model_copy(update={"scenes": scenes}).save(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(yaml.safe_dump(RECIPE))
    return file


@pytest.fixture(scope="module")
def trained(data, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "compared"
    return aftermap.benchmark(data, out, recipes=[str(recipe)], seeds=2, bootstrap=20, overrides=["steps=1"])


def test_a_run_for_each_fold_and_seed_learns_from_the_others(trained):
    runs = trained.folder.with_name("compared-runs")
    names = {path.name for path in runs.iterdir() if path.is_dir()}
    assert names == {f"tiny-event{fold}-{seed}" for fold in (0, 1) for seed in (0, 1)}
    facts = json.loads((runs / "tiny-event1-1" / "run.json").read_text())
    assert facts["events"] == ["event0"] and facts["seed"] == 1
    (row,) = trained.report["entrants"]
    assert row["kind"] == "recipe" and row["leak"].startswith("checked") and list(row["seeds"]) == ["0", "1"]
    values = [run["localization_f1"] for run in row["seeds"].values()]
    assert row["mean"]["values"]["localization_f1"] == pytest.approx(sum(values) / 2, abs=1e-5)


def test_finished_runs_are_taken_as_they_are(trained, data, recipe, monkeypatch):
    monkeypatch.setattr(
        "aftermap.workflows.kinds.train_recipe", lambda *_, **__: pytest.fail("trained again")
    )
    again = aftermap.benchmark(
        data,
        trained.folder,
        recipes=[str(recipe)],
        seeds=2,
        bootstrap=0,
        overrides=["steps=1"],
        overwrite=True,
    )
    assert again.report["entrants"][0]["mean"]["values"] == trained.report["entrants"][0]["mean"]["values"]


def test_runs_of_other_settings_are_not_passed_off(trained, data, recipe):
    with pytest.raises(InputError, match=r"tiny-event0-0 was trained with other settings \(steps\)"):
        aftermap.benchmark(
            data, trained.folder, recipes=[str(recipe)], seeds=2, overrides=["steps=2"], overwrite=True
        )


def test_recipes_of_another_kind_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="is of kind adapt-event: a benchmark trains recipes of kind train"):
        aftermap.benchmark(data, tmp_path / "out", recipes=["recipes/adapt-event.yaml"])


def test_names_follow_paths():
    words = ["runs/mine/model", "runs/mine-{fold}/model", "recipes/damage.yaml", "box", "a=runs/b"]
    assert [name for name, _ in entrants.named(words[:1] + words[2:], "x")] == ["mine", "damage", "box", "a"]
    assert entrants.named(words[1:2], "x") == [("mine", "runs/mine-{fold}/model")]
