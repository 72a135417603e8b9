"""Adapting to an event, on squares whose colours mean other damage in another event."""

import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import aftermap
from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.store import load_card, load_model, save_model
from aftermap.cli.app import main
from aftermap.config import load_config
from aftermap.data.loading.sampling import ShotConfig
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, DataWarning, ModelError, OutputError, RecipeError
from aftermap.learning.trainable import tune_only
from aftermap.models.build import build_model
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.scoring.pixels import Score
from aftermap.workflows.adaptation.config import AdaptConfig, default_objective
from aftermap.workflows.adaptation.run import adapt
from aftermap.workflows.adaptation.scenes import choose_scenes, draw_scenes
from aftermap.workflows.adaptation.with_labels import fine_tune
from aftermap.workflows.kinds import interrupted_recipe, train_recipe
from aftermap.workflows.scoring.evaluate import decisive_score

pytestmark = pytest.mark.usefixtures("undrawn")

COLOURS = [(60, 160, 60), (200, 200, 60), (220, 120, 40), (200, 40, 60)]
MEANING = {"spring": (1, 2, 3, 4), "autumn": (4, 3, 2, 1)}
"""Damage class of each colour; what looks whole in spring is destroyed in autumn."""


class Pixelwise(DenseModel):
    """Looks at one pixel of both dates."""

    dates, classes, stride = 2, 5, 1

    def __init__(self, dates=2, classes=5):
        super().__init__()
        self.dates, self.classes = dates, classes
        self.encoder = nn.Sequential(nn.Conv2d(3 * dates, 32, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Conv2d(32, classes, 1)

    def forward_features(self, image):
        return self.decoder(self.encoder(image.flatten(1, 2)))

    def forward_head(self, features, size):
        return self.head(features)


def write_scene(folder, event, n, *, labels="both", meaning=None, roof=230):
    rng = np.random.default_rng(n)
    pre = rng.integers(90, 120, (32, 32, 3), np.uint8)
    post, mask = pre.copy(), np.zeros((32, 32), np.uint8)
    for k, colour in enumerate(rng.permutation(4)):
        area = slice(2 + 15 * (k // 2), 13 + 15 * (k // 2)), slice(2 + 15 * (k % 2), 13 + 15 * (k % 2))
        pre[area], post[area] = roof, COLOURS[colour]
        mask[area] = (meaning or MEANING[event])[colour]
    files = {"pre": pre[..., ::-1], "post": post[..., ::-1]}
    if labels in ("both", "building"):
        files["building_mask"] = np.uint8(mask > 0)
    if labels == "both":
        files["damage_mask"] = mask
    paths = {key: folder / f"{event}_{n}_{key}.png" for key in files}
    for key, array in files.items():
        cv2.imwrite(str(paths[key]), array)
    counts = np.bincount(mask.ravel(), minlength=5).tolist() if labels == "both" else []
    return Scene(name=f"{event}_{n}", event=event, width=32, height=32, class_pixels=counts, **paths)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    scenes = [write_scene(folder, event, n) for event in MEANING for n in range(6)]
    scenes.append(write_scene(folder, "autumn", 99, meaning=MEANING["spring"]))  # labelled wrongly
    scenes += [write_scene(folder, "unlabelled", n, labels="none", meaning=(1, 2, 3, 4)) for n in range(2)]
    scenes += [write_scene(folder, "outlines", n, labels="building", meaning=(1, 2, 3, 4)) for n in range(4)]
    Manifest(kind="folder", scheme="joint-damage-scale", licence="CC0-1.0", scenes=scenes).save(folder)
    return folder


def save(folder, *, dates=2, classes=5, **said):
    torch.manual_seed(0)
    config = CustomConfig(
        target="test_adapt:Pixelwise", classes=classes, arguments={"dates": dates, "classes": classes}
    )
    values = {
        "name": "squares",
        "model": config,
        "dates": dates,
        "scheme": "joint-damage-scale" if classes == 5 else "building",
        "training": TrainingRecord(data="squares of spring", data_licence="none"),
        "licence": "MIT",
    }
    card = Card(**values | said)
    save_model(folder, build_model(config), card)
    return folder


@pytest.fixture(scope="module")
def parent(data, tmp_path_factory):
    """Knows spring."""
    folder = save(tmp_path_factory.mktemp("parent") / "model")
    loaded = load_model(folder)
    config = settings(data, folder, event="spring", steps=60, lr=0.02, norm="updated")
    scenes = [s for s in Manifest.load(data).scenes if s.event == "spring"]
    for _ in fine_tune(loaded, scenes, config):
        pass
    save_model(folder, loaded.model, loaded.card)
    return folder


def settings(data, model, **changes):
    options = {
        "event": "autumn",
        "names": ("autumn_0", "autumn_1"),
        "steps": 40,
        "lr": 0.02,
        "shots": ShotConfig(crop_px=32, turn=True),
        "batch_size": 4,
        "precision": "no",
    }
    return AdaptConfig(model=str(model), data=data, **options | changes)


@pytest.fixture(scope="module")
def adapted(data, parent, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return adapt(settings(data, parent), folder, command="aftermap adapt ...")


def test_two_scenes_teach_the_model_what_the_colours_of_the_event_mean(adapted):
    assert adapted.before["localization_f1"] > 0.9 and adapted.before["f1_destroyed"] < 0.3
    assert adapted.after["f1_destroyed"] > 0.7 and adapted.after["score"] > adapted.before["score"] + 0.3
    assert adapted.kept == "adapted" and adapted.evaluated == 5


def test_the_card_records_parent_scenes_and_scores(adapted, parent):
    card = load_card(adapted.model)
    assert card.training.parent_sha256 == load_model(parent).sha256
    assert card.training.data == "squares of spring; adapted to autumn with 2 scene(s): autumn_0, autumn_1"
    assert card.training.steps == 40 and card.training.command == "aftermap adapt ..."
    before = card.metrics["autumn, 5 other scenes, before adapting"]
    after = card.metrics["autumn, 5 other scenes, after adapting"]
    assert (before["score"], after["score"]) == (
        pytest.approx(adapted.before["score"], abs=1e-4),
        pytest.approx(adapted.after["score"], abs=1e-4),
    )
    assert card.licence == "MIT; adapted with data whose licence is: CC0-1.0"
    assert "Adapted to autumn" in card.limits


def test_the_run_folder_holds_report_picture_and_losses(adapted):
    folder = adapted.model.parent
    report = json.loads((folder / "adaptation.json").read_text())
    assert report["event"] == "autumn" and report["kept"] == "adapted"
    assert report["after"]["score"] == pytest.approx(adapted.after["score"], abs=1e-4)
    picture = cv2.imread(str(folder / "before-after.png"))
    assert picture.shape[1] == 5 * 325 and picture.std() > 10
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["score"]) for line in lines] == [
        (0, adapted.before["score"]),
        (40, adapted.after["score"]),
    ]
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


def test_scenes_learned_from_are_not_scored(data, parent):
    card = load_card(parent)
    chosen, others = choose_scenes(Manifest.load(data), settings(data, parent, names=(), scenes=3), card)
    assert len(chosen) == 3 and len(others) == 4
    assert not {s.name for s in chosen} & {s.name for s in others}


def test_the_seed_chooses_the_scenes(data, parent):
    card, manifest = load_card(parent), Manifest.load(data)

    def names(seed):
        config = settings(data, parent, names=(), scenes=2, seed=seed)
        return [scene.name for scene in choose_scenes(manifest, config, card)[0]]

    assert names(3) == names(3)
    assert len({tuple(names(seed)) for seed in range(8)}) > 3


def test_scenes_that_show_more_classes_are_preferred():
    def made(name, **polygons):
        polygons = {key.replace("_", "-"): value for key, value in polygons.items()}
        return Scene(name=name, event="e", pre=f"{name}.png", width=8, height=8, polygons=polygons)

    scenes = [
        made("many", no_damage=80),
        made("both", no_damage=10, destroyed=5),
        made("few", no_damage=10),
        made("unknown", un_classified=50, no_damage=1),
    ]
    # shares of no-damage 80/101, 10/101, 10/101, 1/101: square roots 0.89, 0.31 (+ 1 for destroyed), 0.31, 0.10
    assert [s.name for s in draw_scenes(scenes, 2, seed=0)] == ["both", "many"]


def test_scenes_that_lack_a_class_of_the_event_are_warned_of(data, parent):
    manifest = Manifest.load(data)
    one_class = [0, 100, 0, 0, 0]
    scenes = [
        s.model_copy(update={"class_pixels": one_class}) if s.name == "autumn_0" else s
        for s in manifest.scenes
    ]
    config = settings(data, parent, names=("autumn_0",))
    with pytest.warns(DataWarning, match="show no minor-damage, major-damage, destroyed, which other scenes"):
        choose_scenes(manifest.model_copy(update={"scenes": scenes}), config, load_card(parent))


def test_labels_that_lead_astray_leave_the_parents_weights(data, parent, tmp_path):
    spring = settings(data, parent, event="autumn", names=("autumn_99",), steps=5)
    good = tmp_path / "good"
    adapt(settings(data, parent), good)
    result = adapt(spring.model_copy(update={"model": str(good / "model"), "steps": 60}), tmp_path / "run")
    assert result.after["score"] < result.before["score"] and result.kept == "parent"
    first, second = load_model(good / "model"), load_model(result.model)
    assert first.sha256 == second.sha256
    assert "scored lower and was not kept" in second.card.limits and second.card.name == first.card.name


@pytest.fixture(scope="module")
def half_better(parent, tmp_path_factory):
    """Learned from dark roofs, which the parent overlooks, with the damage of another event: better at half of it."""
    folder = tmp_path_factory.mktemp("dusk")
    scenes = [write_scene(folder, "dusk", n, meaning=MEANING["spring"], roof=131) for n in range(4)]
    scenes += [write_scene(folder, "dusk", n, meaning=MEANING["autumn"], roof=131) for n in (10, 11)]
    Manifest(kind="folder", scheme="joint-damage-scale", licence="CC0-1.0", scenes=scenes).save(folder)
    config = settings(folder, parent, event="dusk", names=("dusk_10", "dusk_11"))
    return adapt(config, folder / "run")


def test_what_was_learned_of_localization_stays_where_damage_got_worse(half_better):
    before, after, together = half_better.before, half_better.after, half_better.together
    damage = [found["score"] - 0.3 * found["localization_f1"] for found in (before, after)]
    assert after["localization_f1"] > before["localization_f1"] and damage[1] < damage[0]
    assert half_better.kept == "localization"
    assert together["score"] > max(before["score"], after["score"])
    assert together["localization_f1"] == after["localization_f1"]


def test_the_ensemble_of_both_says_what_it_is_and_opens(half_better, parent):
    model = aftermap.open_model(half_better.model)
    assert {m.role: m.folder for m in model.card.members} == {"localization": "adapted", "damage": "parent"}
    assert model.card.members[1].sha256 == load_model(parent).sha256
    assert model.card.metrics["dusk, both together"]["score"] == round(half_better.together["score"], 4)
    assert "Adapted to dusk" in model.card.limits and model.card.licence.startswith("MIT; adapted with data")
    report = json.loads((half_better.model.parent / "adaptation.json").read_text())
    assert report["kept"] == "localization" and report["together"]["score"] > report["before"]["score"]


def test_force_keeps_what_scored_lower(data, parent, tmp_path):
    wrong = settings(data, parent, event="spring", names=("spring_0",), lr=5.0, steps=5, force=True)
    result = adapt(wrong, tmp_path / "run")
    assert result.after["score"] < result.before["score"] and result.kept == "adapted"
    assert load_model(result.model).sha256 != load_model(parent).sha256


def tuned(data, parent, **changes):
    loaded = load_model(parent)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    scenes = [s for s in Manifest.load(data).scenes if s.event == "autumn"][:2]
    for _ in fine_tune(loaded, scenes, settings(data, parent, steps=2, **changes)):
        pass
    after = loaded.model.state_dict()
    assert not loaded.model.training
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_frozen_statistics_stay_as_they_were(data, parent):
    changed = tuned(data, parent, norm="frozen")
    assert "encoder.0.weight" in changed and not [n for n in changed if "running" in n or "num_batches" in n]


def test_updated_statistics_follow_the_event(data, parent):
    assert {"encoder.1.running_mean", "decoder.1.running_var"} <= tuned(data, parent, norm="updated")


def test_tuning_the_head_changes_nothing_else(data, parent):
    assert tuned(data, parent, tune="head") == {"head.weight", "head.bias"}


def test_tuning_the_decoder_leaves_the_encoder_alone(data, parent):
    changed = tuned(data, parent, tune="decoder")
    assert {name.partition(".")[0] for name in changed} == {"decoder", "head"}


def test_a_model_without_such_a_part_says_which_it_has():
    class Odd(Pixelwise):
        def __init__(self):
            super().__init__()
            self.classifier = self.head
            del self.head

    with pytest.raises(ModelError, match=r"no part named head \(it has classifier, decoder, encoder\)"):
        tune_only(Odd(), "head")


def test_the_same_seed_gives_the_same_weights(data, parent, tmp_path):
    folders = [adapt(settings(data, parent, steps=3, force=True), tmp_path / n).model for n in ("a", "b")]
    assert load_model(folders[0]).sha256 == load_model(folders[1]).sha256


def test_an_interrupted_adaptation_goes_on_to_the_same_weights(data, parent, tmp_path):
    wanted = settings(data, parent, steps=6, force=True)
    whole = adapt(wanted, tmp_path / "whole")

    def stop(progress):
        if progress.stage == "adapting" and progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(wanted, tmp_path / "run", on_progress=stop)
    kind, again = interrupted_recipe(tmp_path / "run")
    resumed = train_recipe(again, tmp_path / "run", resume=True)
    assert (kind, again) == ("adapt", wanted)
    assert load_model(resumed.model).sha256 == load_model(whole.model).sha256
    assert resumed.before == whole.before and resumed.after == whole.after
    lines, expected = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    )
    assert lines == expected and len(lines) == 2


def test_a_localization_model_of_one_logit_learns_from_damage_labels(data, tmp_path):
    model = save(tmp_path / "model", dates=1, classes=1, activation="sigmoid")
    config = settings(data, model, norm="updated", steps=60, names=("autumn_0", "autumn_1", "autumn_2"))
    result = adapt(config, tmp_path / "run")
    assert result.after["localization_f1"] > 0.9 > result.before["localization_f1"]
    assert set(result.after) == {"localization_f1", "score"}


def test_a_model_whose_first_channel_is_any_building_keeps_it_so(data, tmp_path):
    model = save(tmp_path / "model", activation="sigmoid", channel_0="building")
    result = adapt(settings(data, model, norm="updated", steps=80), tmp_path / "run")
    assert result.after["localization_f1"] > 0.9


def test_the_objective_follows_the_card(parent):
    card = load_card(parent)
    assert [t.loss for t in default_objective(card).terms] == ["cross-entropy", "dice"]
    sigmoid = default_objective(card.model_copy(update={"activation": "sigmoid", "channel_0": "building"}))
    assert [(t.loss, t.activation) for t in sigmoid.terms] == [
        ("binary-cross-entropy", "sigmoid"),
        ("dice", "sigmoid"),
    ]
    assert sigmoid.targets.channel_0 == "building" and sigmoid.targets.dilation_px == 1


def test_the_decisive_score_is_the_mean_over_the_classes_that_occur():
    # buildings found exactly; class 1 right, class 4 taken for class 1
    truth = np.array([[0, 1, 1, 4]], np.uint8)
    predicted = np.array([[0, 1, 1, 1]], np.uint8)
    score = Score()
    score.add(np.uint8(predicted > 0), predicted, np.uint8(truth > 0), truth, event="e", scene="s")
    # F1 of class 1: TP 2, FP 1 -> 0.8; of class 4: 0; localization 1
    assert decisive_score(score.result(bootstrap=0)) == pytest.approx(0.3 + 0.7 * 0.4)


class TestWrongInput:
    def test_an_unknown_event_is_answered_with_those_there_are(self, data, parent, tmp_path):
        with pytest.raises(
            DataError, match=r"no scenes of event winter: .*autumn \(7\), outlines \(4\), spring"
        ):
            adapt(settings(data, parent, event="winter"), tmp_path / "run")

    def test_an_event_without_labels(self, data, parent, tmp_path):
        with pytest.raises(DataError, match="no labelled scenes of event unlabelled"):
            adapt(settings(data, parent, event="unlabelled"), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_labels_that_the_model_cannot_learn_damage_from(self, data, parent, tmp_path):
        with pytest.raises(DataError, match="where buildings are and not how damaged"):
            adapt(settings(data, parent, event="outlines"), tmp_path / "run")

    def test_more_scenes_than_there_are(self, data, parent, tmp_path):
        with pytest.raises(DataError, match=r"8 scenes were asked for, autumn has 7 .* pass --scenes 6"):
            adapt(settings(data, parent, names=(), scenes=8), tmp_path / "run")

    def test_all_scenes_leave_none_to_measure_on(self, data, parent, tmp_path):
        with pytest.raises(DataError, match="none left to measure on"):
            adapt(settings(data, parent, names=(), scenes=7), tmp_path / "run")

    def test_a_scene_that_is_not_there(self, data, parent, tmp_path):
        with pytest.raises(DataError, match="nowhere is no labelled scene of autumn"):
            adapt(settings(data, parent, names=("nowhere",)), tmp_path / "run")

    def test_an_ensemble(self, data, parent, tmp_path):
        folder = save_as_ensemble(parent, tmp_path / "ensemble")
        with pytest.raises(ModelError, match="is an ensemble: adapt its members"):
            adapt(settings(data, folder), tmp_path / "run")

    def test_a_folder_that_holds_a_run(self, data, parent, adapted):
        with pytest.raises(OutputError, match=r"already holds a run: .* another -o"):
            adapt(settings(data, parent), adapted.model.parent)

    def test_an_objective_for_another_number_of_classes(self, data, parent, tmp_path):
        objective = default_objective(load_card(parent))
        terms = [t.model_copy(update={"class_weights": (1.0, 1.0)}) for t in objective.terms]
        wrong = objective.model_copy(update={"terms": tuple(terms)})
        with pytest.raises(RecipeError, match="has 2 values, the model has 5 classes"):
            adapt(settings(data, parent, objective=wrong), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def save_as_ensemble(member, folder):
    card, members = compose("one", [Ingredient(member)])
    save_ensemble(folder, card, members)
    return folder


def test_the_command_prints_json_and_says_by_its_exit_code_whether_it_helped(data, parent, tmp_path, capsys):
    words = [
        "adapt",
        str(parent),
        str(data),
        "--event",
        "autumn",
        "--json",
        "--steps",
        "20",
        "--precision",
        "no",
    ]
    with pytest.raises(SystemExit) as end:
        main([*words, "--scene", "autumn_0", "--scene", "autumn_1", "-o", str(tmp_path / "run")])
    report = json.loads(capsys.readouterr().out)
    assert report["scenes"] == ["autumn_0", "autumn_1"] and report["event"] == "autumn"
    assert end.value.code == (0 if report["kept"] == "adapted" else 1)


def test_the_function_does_what_the_recipe_says(data, parent, tmp_path):
    wanted = settings(data, parent, steps=3, force=True)
    keys = {"names": wanted.names, "steps": 3, "lr": 0.02, "shots": {"crop_px": 32, "turn": True}}
    done = aftermap.adapt(
        parent, data, tmp_path / "a", event="autumn", precision="fp32", force=True, batch_size=4, **keys
    )
    assert load_model(done.model).sha256 == load_model(adapt(wanted, tmp_path / "b").model).sha256
    assert recipe_in(tmp_path / "a") == wanted
    with pytest.raises(RecipeError, match="adapt: unknown key 'stepps': did you mean 'steps'"):
        aftermap.adapt(parent, data, tmp_path / "c", event="autumn", stepps=3)


def recipe_in(folder):
    return load_config(AdaptConfig, folder / "recipe.yaml")


def test_the_command_prints_a_table(data, parent, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(
            [
                "adapt",
                str(parent),
                str(data),
                "--event",
                "autumn",
                "--steps",
                "2",
                "--precision",
                "no",
                "-o",
                str(tmp_path / "run"),
            ]
        )
    out = capsys.readouterr().out
    assert "localization f1" in out and "before" in out and f"model: {tmp_path / 'run' / 'model'}" in out
