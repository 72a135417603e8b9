"""Training, evaluation and prediction end to end, on scenes made here."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
import yaml

import aftermap
from aftermap.artefacts.store import load_card, load_model
from aftermap.cli.app import main
from aftermap.config import build_config
from aftermap.data.scene import Manifest, read_images
from aftermap.errors import DataError, ModelError, OutputError, RecipeError, RecordsError
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.predictor import Predictor
from aftermap.inference.tiling import predict_scene
from aftermap.workflows.scoring.evaluate import best_threshold, decide, evaluate, spread
from aftermap.workflows.scoring.predict import predict_scenes
from aftermap.workflows.scoring.score import score_folders
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import load_recipe
from aftermap.workflows.training.run import finish_training, train
from squares import make_dataset

MODEL = {
    "encoder_name": "resnet10t",
    "encoder_options": {"channels": [16, 32, 32, 32], "stem_width": 16},
    "encoder_depth": 3,
    "decoder_channels": [16, 16, 16],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "squares")


def recipe(data, **changes):
    tree = {
        "name": "tiny",
        "task": "damage",
        "data": {"manifests": [str(data)]},
        "model": {"kind": "siamese-unet", **MODEL},
        "sampling": {"crop_px": 64, "batch_size": 4},
        "augment": None,
        "optimizer": {"lr": 0.01, "schedule": {"kind": "cosine", "warmup_steps": 5}},
        "precision": "no",
        "steps": 80,
        "evaluate_every": 40,
        "seed": 1,
    } | changes
    return build_config(TrainRecipe, tree)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(recipe(data), folder, command="aftermap train tiny")


def test_a_short_run_learns_the_squares(trained):
    assert trained.metrics["official_score"] > 0.8
    assert trained.metrics["step"] in (40, 80)


def test_the_run_folder_tells_what_happened(trained):
    folder = trained.model.parent
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "complete" and facts["training_scenes"] == 4 and facts["events"] == ["squares"]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [40, 80]
    assert load_recipe(TrainRecipe, folder / "recipe.yaml", []) == recipe(facts["data"][0])
    assert len(list((folder / "samples").glob("*.png"))) == 4
    assert not (folder / "resume").exists()


def test_the_card_carries_score_threshold_and_command(trained):
    card = load_card(trained.model)
    assert card.metrics["validation, before tuning"]["official_score"] == pytest.approx(
        trained.metrics["official_score"], abs=1e-4
    )
    assert 0.05 <= card.building_threshold <= 0.95 and card.training.command == "aftermap train tiny"


def test_a_killed_run_resumes_to_the_same_weights(data, tmp_path):
    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step.number == 11:
            raise KilledError

    short = recipe(data, steps=12, evaluate_every=6, save_every=5, selection={"keep": "last"})
    whole = train(short, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(short, tmp_path / "run", on_progress=kill)
    assert json.loads((tmp_path / "run" / "resume" / "step.json").read_text())["step"] == 10
    resumed = train(short, tmp_path / "run", resume=True)
    expected, found = (load_model(run.model).model.state_dict() for run in (whole, resumed))
    assert all(torch.equal(found[k], expected[k]) for k in expected)


@pytest.mark.parametrize(
    "where", ["aftermap.learning.run.Run.append_metrics", "aftermap.learning.run.Run.log"]
)
def test_an_evaluation_that_is_interrupted_is_made_again(data, tmp_path, monkeypatch, where):
    """Before its scores are written, and between them and the model."""
    short = recipe(data, steps=3, evaluate_every=1)
    whole = train(short, tmp_path / "whole")
    called = []

    def interrupted(*_):
        called.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(where, interrupted)
        train(short, tmp_path / "run")
    resumed = train(short, tmp_path / "run", resume=True)
    assert called == [1]
    scores = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "run")
    ]
    assert scores[0] == scores[1] and len(scores[0]) == 3
    expected, found = (load_model(run.model).model.state_dict() for run in (whole, resumed))
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_a_training_is_finished_whatever_state_its_run_is_in(data, tmp_path):
    short = recipe(data, steps=4, evaluate_every=4)

    def finish():
        seen = []
        model = finish_training(
            short, tmp_path / "run", command="", on_progress=lambda progress: seen.append(progress.done)
        )
        return load_model(model).sha256, seen

    first, steps = finish()
    assert steps == [1, 2, 3, 4] and finish() == (first, [])
    facts = tmp_path / "run" / "run.json"
    facts.write_text(facts.read_text().replace('"complete"', '"running"'))  # killed before anything was saved
    assert finish() == (first, [1, 2, 3, 4])
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_the_function_trains_a_recipe_file_and_goes_on_with_its_run(data, tmp_path):
    file, short = tmp_path / "tiny.yaml", recipe(data, steps=4, evaluate_every=2)
    file.write_text(yaml.safe_dump(recipe(data).model_dump(mode="json")))
    told = ["steps=4", "evaluate_every=2"]

    def interrupt(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        aftermap.train(file, tmp_path / "run", overrides=told, on_progress=interrupt)
    done = aftermap.train(file, tmp_path / "run", resume=True)
    assert load_model(done.model).sha256 == load_model(train(short, tmp_path / "whole").model).sha256
    with pytest.raises(
        RecipeError, match=r"step and start are of recipes of kind incremental, .* kind train"
    ):
        aftermap.train(file, tmp_path / "other", step=1)


def test_damage_grows_from_localization(data, tmp_path):
    single = recipe(
        data,
        task="building",
        model={"kind": "unet", **MODEL},
        steps=15,
        evaluate_every=15,
        sampling={"crop_px": 64, "batch_size": 4},
    )
    first = train(single, tmp_path / "loc")
    assert first.metrics["localization_f1"] > 0.8
    grown = recipe(data, init_from=str(first.model), steps=1, evaluate_every=1)
    second = train(grown, tmp_path / "damage")
    assert load_card(second.model).training.parent_sha256 == load_model(first.model).sha256


def test_a_late_fusion_begins_with_two_models_and_is_mapped_with_as_one(data, trained, tmp_path):
    model = {"kind": "late-fusion", **MODEL, "second": MODEL}
    both = {"init_from": str(trained.model), "second_from": str(trained.model), "model": model}
    still = recipe(data, **both, steps=1, norm="fixed", optimizer={"lr": 1e-9, "weight_decay": 0})
    run = train(still, tmp_path / "both")
    assert load_card(run.model).training.events == load_card(trained.model).training.events
    pair = read_images(Manifest.load(data).scenes[0], dates=2)[None]
    alone, joined = (open_predictor(path).predict(pair) for path in (trained.model, run.model))
    np.testing.assert_allclose(joined, alone, atol=1e-3)


def test_a_second_network_of_another_make_is_refused(data, trained, tmp_path):
    other = {"kind": "late-fusion", **MODEL, "second": {**MODEL, "decoder_channels": [8, 8, 8]}}
    with pytest.raises(ModelError, match=r"second_from .* does not fit model\.second"):
        train(recipe(data, model=other, second_from=str(trained.model)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RecipeError, match="second_from is for"):
        recipe(data, second_from=str(trained.model))


def test_a_run_folder_is_not_overwritten(data, trained):
    with pytest.raises(OutputError, match="already holds a run"):
        train(recipe(data), trained.model.parent)


def test_data_that_fails_its_check_is_refused(tmp_path):
    folder = make_dataset(tmp_path / "broken")
    (folder / "0_post.png").unlink()
    with pytest.raises(DataError, match="did not pass its check"):
        train(recipe(folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [7, 255])
def test_masks_that_do_not_fit_the_scheme_are_refused_before_a_run_starts(tmp_path, value):
    folder = make_dataset(tmp_path / "wrong")
    for path in folder.glob("*_building_mask.png"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * value)
    with pytest.raises(DataError, match="did not pass its check"):
        train(recipe(folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_needs_its_number_of_classes(data):
    with pytest.raises(RecipeError, match=r"task building has 2 classes, model.classes is 5"):
        recipe(data, task="building")


def test_class_weights_of_crops_need_a_value_for_each_class(data):
    with pytest.raises(RecipeError, match=r"class_weights has 2 values, task damage has 5 classes"):
        recipe(data, sampling={"class_weights": [1, 2]})
    with pytest.raises(RecipeError, match=r"crop.class_weights has 3 values, task damage has 5 classes"):
        recipe(data, sampling={"kind": "epochs", "crop": {"class_weights": [0, 1, 1]}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"task": "building", "model": {"kind": "siamese-unet", "classes": 2, **MODEL}},
            r"2 date\(s\), task",
        ),
        ({"sampling": {"crop_px": 90}}, "crop_px 90: this model takes multiples of 8, such as 88"),
    ],
)
def test_a_model_that_cannot_take_the_crops_is_refused_before_a_run_starts(data, tmp_path, changes, said):
    with pytest.raises(RecipeError, match=said):
        train(recipe(data, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_equals_scoring_the_written_predictions(data, trained, tmp_path):
    scenes = Manifest.load(data).scenes
    predictor = Predictor(load_model(trained.model))
    direct = evaluate(predictor, scenes).report.pixels
    count = predict_scenes(predictor, scenes, tmp_path / "p", targets=tmp_path / "t")
    assert count == 6 and predict_scenes(predictor, scenes, tmp_path / "p") == 0
    written = score_folders(tmp_path / "p", tmp_path / "t", bootstrap=0).pixels
    assert written.score == pytest.approx(direct.score, abs=1e-12)
    assert written.damage_f1_per_class == pytest.approx(direct.damage_f1_per_class)


def test_flips_average_four_mirrorings(data, trained):
    images = read_images(Manifest.load(data).scenes[0], dates=2)
    plain, flipped = (Predictor(load_model(trained.model), tta=t) for t in ("none", "flips"))
    expected = np.mean(
        [
            np.flip(plain.predict(np.flip(images, axes)[None])[0], axes)
            for axes in ((), (-2,), (-1,), (-2, -1))
        ],
        axis=0,
    )
    assert np.allclose(flipped.predict(images[None])[0], expected, atol=1e-5)


def test_probabilities_of_a_scene_sum_to_one(data, trained):
    images = read_images(Manifest.load(data).scenes[0], dates=2)
    probabilities = predict_scene(Predictor(load_model(trained.model)), images)
    assert probabilities.shape == (5, 64, 64) and np.allclose(probabilities.sum(0), 1, atol=1e-5)


def test_decisions_by_hand():
    p = np.array([[0.7, 0.3], [0.1, 0.2], [0.2, 0.1], [0.0, 0.4], [0.0, 0.0]], np.float32)[:, None]
    building, damage = decide(p, 0.5)
    assert building.tolist() == [[0, 1]] and damage.tolist() == [[2, 3]]


def test_the_best_threshold_separates_two_heaps():
    histogram = np.zeros((2, 201), int)
    histogram[0, 40], histogram[1, 120] = 100, 50
    assert 0.2 < best_threshold(histogram) < 0.6
    histogram[0, 119] = 1000
    assert best_threshold(histogram) == pytest.approx(0.5975)


def test_spread_takes_evenly():
    assert spread(list(range(10)), 4) == [0, 3, 6, 9] and spread([1, 2], 5) == [1, 2]


def run_cli(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


def test_evaluate_prints_json(data, trained, capsys):
    code, out, _ = run_cli(
        capsys, "evaluate", trained.model, data, "--split", "all", "--json", "--bootstrap", "0"
    )
    report = json.loads(out)
    assert code == 0 and report["score"] > 0.8 and set(report["damage_f1_per_class"]) >= {"destroyed"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "no recipe given"),
        (["train", "nowhere.yaml"], "there is no recipe nowhere.yaml"),
        (["evaluate", "nowhere", "data"], "no model at nowhere"),
        (["train", "--resume", "nowhere"], "holds no interrupted run"),
    ],
)
def test_user_mistakes_are_one_line_and_exit_2(words, said, capsys):
    code, _, err = run_cli(capsys, *words)
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_an_unknown_recipe_key_names_the_nearest(data, tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text("name: x\ntask: building\nmodel: {kind: unet}\ndata: {manifests: [x]}\nstepps: 3\n")
    code, _, err = run_cli(capsys, "train", path)
    assert code == 2 and "unknown key 'stepps': did you mean 'steps'?" in err


def test_a_run_is_recorded_in_the_database_it_names(data, tmp_path, empty_database):
    from aftermap.learning.experiments.tracking import quiet_client

    database = shutil.copy(empty_database, tmp_path / "records.db")
    done = train(recipe(data, steps=4, evaluate_every=2, records={"uri": str(database)}), tmp_path / "run")
    client = quiet_client(f"sqlite:///{database}")
    (entry,) = client.search_runs([client.get_experiment_by_name("aftermap").experiment_id])
    assert entry.info.status == "FINISHED" and entry.data.params["sampling.crop_px"] == "64"
    assert entry.data.metrics["best_score"] == pytest.approx(done.metrics["score"])
    history = client.get_metric_history(entry.info.run_id, "score")
    assert [point.step for point in history] == [2, 4]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert entry.data.tags["data_checksum"] == facts["data_checksum"] and len(facts["data_checksum"]) == 64


def test_an_unreachable_database_stops_a_run_before_its_folder_is_made(data, tmp_path):
    wanted = recipe(data, records={"uri": "postgresql://nobody@127.0.0.1:9/none"})
    with pytest.raises(RecordsError, match=r"127\.0\.0\.1:9"):
        train(wanted, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_score_that_cannot_be_measured_still_leaves_a_model(data, tmp_path, monkeypatch):
    from aftermap.workflows.training.selection import StepJudge

    assess = StepJudge.assess

    def blind(self, *arguments):
        metrics, card = assess(self, *arguments)
        return {**metrics, "score": float("nan")}, card

    monkeypatch.setattr(StepJudge, "assess", blind)
    done = train(recipe(data, steps=2, evaluate_every=1), tmp_path / "run")
    assert load_card(done.model).training.steps == 1


def test_a_secret_on_the_command_line_reaches_no_file(data, tmp_path, monkeypatch, capsys):
    words = [
        "train",
        str(tmp_path / "r.yaml"),
        "notify.urls=[json://127.0.0.1:9/hush-token]",
        "-o",
        str(tmp_path / "run"),
    ]
    (tmp_path / "r.yaml").write_text(
        json.dumps(
            recipe(data, steps=1, evaluate_every=1).model_dump(mode="json", exclude={"notify", "records"})
        )
    )
    monkeypatch.setattr("sys.argv", ["aftermap", *words])
    code, _, err = run_cli(capsys, *words)
    assert code == 0, err
    written = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert written and not any(b"hush-token" in p.read_bytes() for p in written)
