"""Recipes that are trained for a benchmark, on what its protocol allows."""

import json

import pytest
import yaml

import aftermap
from aftermap.cli.app import main
from aftermap.errors import AftermapError, InputError, ModelError
from aftermap.workflows.benchmark import entrants
from aftermap.workflows.benchmark.protocol import Fold, Protocol
from squares import make_dataset

RECIPE = {
    "name": "tiny",
    "task": "damage",
    "data": {"manifests": ["nowhere"]},
    "model": {
        "kind": "siamese-unet",
        "encoder_name": "resnet10t",
        "encoder_options": {"channels": [8, 16, 16, 16], "stem_width": 8},
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


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            "recipes/adapt-event.yaml",
            "is of kind adapt-event: a benchmark trains recipes of kind train and meta-train, and plans",
        ),
        ("recipes/localization.yaml", "learns task building: a benchmark compares models of damage"),
        ("recipes/damages.yaml", "there is no recipe .*: did you mean damage"),
    ],
)
def test_a_recipe_that_cannot_take_part_is_refused_before_another_is_trained(
    data, recipe, tmp_path, wrong, words
):
    with pytest.raises(AftermapError, match=words):
        aftermap.benchmark(data, tmp_path / "out", recipes=[str(recipe), f"wrong={wrong}"])
    assert not (tmp_path / "out-runs").exists()


def test_a_plan_takes_part_with_its_last_model(trained, data, recipe, tmp_path):
    stages = [
        {"kind": "train", "name": "first", "recipe": recipe.name},
        {"kind": "train", "name": "second", "recipe": recipe.name, "init_from": "first"},
    ]
    plan = recipe.with_name("chain.yaml")
    plan.write_text(yaml.safe_dump({"name": "chain", "data": {"manifests": ["nowhere"]}, "stages": stages}))
    out = tmp_path / "out"
    run = {"recipes": [str(plan)], "events": ["event1"], "overrides": ["each.steps=1"], "bootstrap": 0}
    report = aftermap.benchmark(data, out, models=[f"other={one_run(trained, 'event1')}"], **run).report
    folder = tmp_path / "out-runs" / "chain-event1-0"
    assert {path.name for path in folder.iterdir()} >= {"first-0", "second-0"}
    other, chain = report["entrants"]
    assert chain["models"] == {aftermap.open_model(folder / "second-0" / "model").sha256: "tiny"}
    assert chain["leak"] == "checked: trained on what the protocol allows" and not chain["leaks"]
    assert list(report["protocol"]["folds"]) == ["event1"]
    seconds = [
        json.loads((folder / name / "run.json").read_text())["cpu_seconds"]
        for name in ("first-0", "second-0")
    ]
    assert chain["training_cpu_seconds"] == pytest.approx(sum(seconds), abs=0.1) and min(seconds) > 0
    assert other["training_cpu_seconds"] is None and "names are not among those tested" in other["leak"]


def one_run(trained, fold):
    return trained.folder.with_name("compared-runs") / f"tiny-{fold}-0" / "model"


def test_a_model_that_learned_from_the_tested_event_is_told(trained, data, tmp_path, capsys):
    words = ["benchmark", data, "-m", f"seen={one_run(trained, 'event0')}", "-o", tmp_path / "out"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, words), "--event", "event1", "--bootstrap", "0"])
    assert end.value.code == 0
    assert "seen leaks: it has learned from event1, on which it is tested" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (
        "Not to be compared: seen learned from tested events"
        in (tmp_path / "out" / "leaderboard.html").read_text()
    )


def test_a_recipe_that_begins_with_such_a_model_leaks_too():
    entrant = entrants.Entrant("mine", {("fire", 0): "a"}, trained=True, begun_from={("fire", 0): ("start",)})
    fold = Fold(name="fire", train=("x",), validation=("y",), test=("z",))
    protocol = Protocol(kind="leave-one-event-out", data="", folds=(fold,))
    known = {
        path: entrants.Known("", "", frozenset(events))
        for path, events in (("a", ["flood"]), ("start", ["fire"]))
    }
    assert entrants.leaks(entrant, protocol, known) == ["fire"]
    known["start"] = entrants.Known("", "", frozenset())
    assert entrants.leaks(entrant, protocol, known) == []
    assert entrants.provenance(entrant, protocol, known).startswith(
        "not checked: trained on what the protocol allows, but"
    )
    blocks = protocol.model_copy(update={"kind": "block"})
    assert (
        entrants.leaks(
            entrant, blocks, {"a": entrants.Known("", "", frozenset(["fire"])), "start": known["a"]}
        )
        == []
    )


def test_a_fold_without_a_model_is_told_before_the_first_scene(trained, data, tmp_path):
    folder = trained.folder.with_name("compared-runs")
    (tmp_path / "mine-event0").symlink_to(folder / "tiny-event0-0")
    words = f"mine={tmp_path}/mine-{{fold}}/model"
    with pytest.raises(ModelError, match=r"mine has no model for fold event1: .*mine-event1/model"):
        aftermap.benchmark(data, tmp_path / "out", models=[words])
    assert not (tmp_path / "out.work").exists()


def test_a_protocol_file_can_be_cut_to_some_events(trained, data, tmp_path):
    protocol = trained.folder / "protocol.json"
    with pytest.raises(InputError, match="no fold event7: the protocol has event0, event1"):
        aftermap.benchmark(data, tmp_path / "out", models=["box"], protocol=protocol, events=["event7"])


def test_names_follow_paths():
    words = ["runs/mine/model", "runs/mine-{fold}/model", "recipes/damage.yaml", "box", "a=runs/b"]
    assert [name for name, _ in entrants.named(words[:1] + words[2:], "x")] == ["mine", "damage", "box", "a"]
    assert entrants.named(words[1:2], "x") == [("mine", "runs/mine-{fold}/model")]
