"""Models with a legend on prepared datasets: scores, maps of scenes, what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import colour_town
from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose
from aftermap.artefacts.store import load_model, save_model
from aftermap.classes import BUILDING, DAMAGE, IGNORE, ClassScheme
from aftermap.cli.app import main
from aftermap.data.legends import LEGENDS, Legend
from aftermap.data.scene import Manifest, read_mask
from aftermap.errors import DataError, InputError, ModelError
from aftermap.inference.agreement import ClassDecisions, lookup_between
from aftermap.inference.parity import Budget, compare
from aftermap.inference.predictor import Predictor
from aftermap.models.build import build_model
from aftermap.models.configs import UnetConfig
from aftermap.workflows.scoring.evaluate import evaluate, evaluate_legend
from aftermap.workflows.scoring.predict import predict_scenes
from aftermap.workflows.scoring.tune import tune_model
from coloured_cities import make_cities

LEGEND = Legend(
    name="isprs-step-1",
    names=("background", "tree", "building", "low_vegetation"),
    colours=("#000000", "#00ff00", "#0000af", "#00afff"),
    background=0,
)


@pytest.fixture(scope="module")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cities(tmp_path_factory.mktemp("cities") / "prepared", tiles=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    config = UnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(16, 16, 16), classes=4)
    card = Card(
        name="trees",
        model=config,
        dates=1,
        scheme=LEGEND.name,
        legend=LEGEND,
        training=TrainingRecord(data="none", data_licence="none"),
        licence="MIT",
    )
    folder = tmp_path_factory.mktemp("model") / "trees"
    save_model(folder, build_model(config).eval(), card)
    return folder


def run(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code


def test_classes_are_found_by_name_and_others_are_unknown() -> None:
    table = lookup_between(LEGENDS["isprs"].scheme, LEGEND.scheme)
    assert table[:6].tolist() == [IGNORE, 2, 3, 1, IGNORE, IGNORE] and (table[6:] == IGNORE).all()


def test_the_background_of_a_dataset_is_that_of_the_model() -> None:
    nothing = ClassScheme("other", ("tree", "nothing"), ("#000000", "#ffffff"), 1)
    assert lookup_between(nothing, LEGEND.scheme)[:2].tolist() == [1, 0]


def test_scores_are_those_of_the_maps_of_the_scenes(tmp_path: Path, cities: Path, model: Path) -> None:
    manifest, predictor = Manifest.load(cities), Predictor(load_model(model))
    scenes = manifest.select("train")
    assert predict_scenes(predictor, scenes, tmp_path) == len(scenes)
    expected = np.zeros((4, 4), np.int64)
    lookup = lookup_between(LEGENDS["isprs"].scheme, LEGEND.scheme)
    for scene in scenes:
        predicted = cv2.imread(str(tmp_path / f"{scene.name}_classes_prediction.png"), cv2.IMREAD_UNCHANGED)
        truth = lookup[read_mask(scene, target="classes")]
        np.add.at(expected, (truth[truth != IGNORE], predicted[truth != IGNORE]), 1)
    scores = evaluate_legend(predictor, manifest, scenes)
    np.testing.assert_array_equal(scores.confusion, expected)
    assert scores.names == LEGEND.names and scores.background == 0
    told = json.loads((tmp_path / "classes.json").read_text())
    assert told["classes"][1] == {"value": 1, "name": "tree", "colour": "#00ff00"}


def test_a_prediction_that_was_broken_off_goes_on(tmp_path: Path, cities: Path, model: Path) -> None:
    predictor, scenes = Predictor(load_model(model)), list(Manifest.load(cities).scenes)
    assert predict_scenes(predictor, scenes[:2], tmp_path) == 2
    assert predict_scenes(predictor, scenes[:3], tmp_path) == 1


def test_evaluate_prints_the_scores_of_every_class(
    capsys: pytest.CaptureFixture[str], cities: Path, model: Path
) -> None:
    assert run("evaluate", model, cities, "--split", "train", "--backend", "torch", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["classes"]) == list(LEGEND.names) and told["classes"]["tree"]["pixels"] > 0
    assert run("evaluate", model, cities, "--split", "train", "--backend", "torch") == 0
    assert "low_vegetation" in capsys.readouterr().out


def test_a_threshold_makes_no_sense_for_classes(
    capsys: pytest.CaptureFixture[str], cities: Path, model: Path
) -> None:
    assert run("evaluate", model, cities, "--split", "all", "--threshold", "0.4") == 2
    assert "leave --threshold and --boundary-m out" in capsys.readouterr().err


def test_a_damage_model_is_not_scored_on_a_legend(capsys: pytest.CaptureFixture[str], cities: Path) -> None:
    assert run("evaluate", "box", cities, "--split", "all", "--backend", "torch") == 2
    assert (
        "is labelled with the classes of isprs, aftermap-box tells joint-damage-scale"
        in capsys.readouterr().err
    )


def test_a_dataset_without_any_of_the_classes_is_refused(cities: Path, model: Path) -> None:
    manifest = Manifest.load(cities)
    other = manifest.model_copy(update={"legend": None, "scheme": DAMAGE.name})
    card = load_model(model).card
    assert lookup_between(BUILDING, card.classes)[1] == 2
    foreign = LEGEND.model_copy(update={"names": ("lake", "river", "sea", "pond"), "background": None})
    loaded = load_model(model)
    predictor = Predictor(loaded)
    predictor.card = loaded.card.model_copy(update={"legend": foreign})
    with pytest.raises(DataError, match="no class in common"):
        evaluate_legend(predictor, other, list(manifest.scenes))


def test_commands_about_buildings_and_damage_refuse_a_legend(
    tmp_path: Path, cities: Path, model: Path
) -> None:
    predictor, scenes = Predictor(load_model(model)), list(Manifest.load(cities).scenes)
    with pytest.raises(InputError, match="leave --targets out"):
        predict_scenes(predictor, scenes, tmp_path / "maps", targets=tmp_path / "truth")
    with pytest.raises(ModelError, match="'aftermap evaluate'"):
        evaluate(predictor, scenes)
    with pytest.raises(ModelError, match="likeliest class, without thresholds"):
        tune_model(model, scenes)
    with pytest.raises(ModelError, match="an ensemble combines models of buildings and damage"):
        compose("both", [Ingredient(model), Ingredient(colour_town.save_roof_model(tmp_path / "roofs"))])


def test_agreement_is_counted_by_class_with_the_background() -> None:
    decisions = ClassDecisions(LEGEND.scheme)
    first, second = np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 2]])
    decisions.add(first, second, np.array([[0, 0, 1, IGNORE]]))
    background, tree, building, vegetation = decisions.changes()
    assert (decisions.same, decisions.built, decisions.built_same) == (3, 3, 2)
    assert background.agreement == pytest.approx(2 / 3) and tree.agreement == pytest.approx(2 / 3)
    assert (background.original, background.exported) == (1.0, pytest.approx(2 / 3))
    assert building.agreement == 1 and np.isnan(building.original) and np.isnan(vegetation.agreement)
    assert (background.labelled_px, tree.decided_px, building.labelled_px) == (2, 1, 0)


def test_parity_of_a_legend_uses_the_labels_of_the_dataset(cities: Path, model: Path) -> None:
    manifest, predictor = Manifest.load(cities), Predictor(load_model(model))
    lookup = lookup_between(manifest.class_scheme, LEGEND.scheme)
    found = compare(predictor, predictor, manifest.scenes[:2], Budget.of("fp32"), lookup=lookup)
    assert found.passed and found.report["labelled_scenes"] == 2
    truth = np.concatenate([lookup[read_mask(s, target="classes")] for s in manifest.scenes[:2]])
    assert found.report["classes"]["tree"]["labelled_px"] == (truth == 1).sum()
    assert found.report["classes"]["background"]["labelled_px"] == 0
