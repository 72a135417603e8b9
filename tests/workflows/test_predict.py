import json

import cv2
import numpy as np
import pytest
import rasterio
import torch

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.ensemble import load_ensemble
from aftermap.artefacts.store import save_model
from aftermap.classes import DAMAGE
from aftermap.cli.app import main
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import ModelError
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.postprocess import spread_minor
from aftermap.models.build import build_model
from aftermap.models.configs import FpnEfficientnetConfig
from aftermap.workflows.mapping.damage import map_damage
from aftermap.workflows.scoring.evaluate import evaluate
from aftermap.workflows.scoring.mask_files import find_masks
from aftermap.workflows.scoring.predict import competition_name, predict_dataset, predict_scenes
from aftermap.workflows.scoring.score import score_folders
from colour_town import LEVELS, save_colour_model, town, town_grid, write_image


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        ("test_00000", "test_damage_00000_prediction.png"),
        ("test_pre_00000", "test_damage_00000_prediction.png"),
        ("test_pre_00000_part1", "test_damage_00000_prediction.png"),
        ("test_pre_00000_part1.png.png", "test_damage_00000_prediction.png"),
        ("hold_post_00931", "hold_damage_00931_prediction.png"),
        ("guatemala-volcano_00000001", "guatemala-volcano_00000001_damage_prediction.png"),
        ("guatemala-volcano_00000001_pre_disaster", "guatemala-volcano_00000001_damage_prediction.png"),
        ("a-b_1", "a-b_1_damage_prediction.png"),
    ],
)
def test_files_are_named_as_the_competitions_scorer_wants_them(scene, expected):
    made = Scene(name=scene, event="e", pre="pre.png", width=1, height=1)
    assert competition_name(made, "damage", "prediction") == expected


def write_town_scene(folder, name="test_00000"):
    folder.mkdir(exist_ok=True)
    pre, post, truth = town()
    paths = {key: folder / f"{name}_{key}.png" for key in ("pre", "post", "building_mask", "damage_mask")}
    arrays = [pre[::-1].transpose(1, 2, 0), post[::-1].transpose(1, 2, 0), np.uint8(truth > 0), truth]
    for path, array in zip(paths.values(), arrays, strict=True):
        cv2.imwrite(str(path), array)
    return Scene(name=name, event="town", width=192, height=192, split="test", **paths)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    scenes = [write_town_scene(folder, name) for name in ("test_00000", "test_00001")]
    Manifest(kind="folder", scheme="joint-damage-scale", scenes=scenes).save(folder)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """An ensemble folder, made on the command line, of the colour model twice."""
    folder = tmp_path_factory.mktemp("models")
    parts = [str(save_colour_model(folder / name)) for name in ("a", "b")]
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "ensemble",
                *parts,
                "-o",
                str(folder / "both"),
                "--roles",
                "localization,damage",
                "--weights",
                "2,1",
            ]
        )
    assert stopped.value.code == 0
    return folder / "both"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    return stopped.value.code, *capsys.readouterr()


def test_predicting_with_an_ensemble_scores_as_evaluating_does(dataset, both, tmp_path):
    scenes = Manifest.load(dataset).scenes
    count = predict_scenes(open_predictor(both), scenes, tmp_path / "p", targets=tmp_path / "t")
    direct = evaluate(open_predictor(both), scenes).report.pixels
    files = score_folders(tmp_path / "p", tmp_path / "t", bootstrap=0).pixels
    assert (
        count == 2
        and (files.score, files.confusion) == (direct.score, direct.confusion)
        and direct.score > 0.99
    )
    assert len(find_masks(tmp_path / "p", "prediction")) == 2


def test_scenes_that_are_there_are_not_predicted_again(dataset, both, tmp_path):
    scenes = Manifest.load(dataset).scenes
    assert predict_scenes(open_predictor(both), scenes[:1], tmp_path) == 1
    assert predict_scenes(open_predictor(both), scenes, tmp_path) == 1
    assert predict_scenes(open_predictor(both), scenes, tmp_path, overwrite=True) == 2


def test_the_command_takes_ensembles_and_all_ways_of_running(dataset, both, tmp_path, capsys):
    options = ("--tta", "full", "--scales", "1,1.25", "--averaging", "logits", "--low-memory")
    code, out, _ = run(capsys, "predict", both, dataset, "-o", tmp_path / "p", *options)
    assert code == 0 and "2 scenes predicted" in out
    assert (tmp_path / "p" / "test_damage_00001_prediction.png").is_file()
    code, out, _ = run(capsys, "evaluate", both, dataset, "--json", "--tta", "rotations", "--compat-uint8")
    assert code == 0 and json.loads(out)["score"] > 0.99


def test_scales_that_are_no_numbers_are_named(dataset, both, tmp_path, capsys):
    code, _, err = run(capsys, "predict", both, dataset, "-o", tmp_path / "p", "--scales", "1,big")
    assert code == 2 and "--scales 1,big is not a list of numbers" in err


def test_the_ensemble_command_writes_roles_weights_and_the_rule(both):
    card = load_ensemble(both)
    assert [(m.folder, m.role, m.weight) for m in card.members] == [
        ("a", "localization", 2.0),
        ("b", "damage", 1.0),
    ]
    assert card.name == "both" and card.averaging == "probabilities" and not card.compat_uint8


def test_the_winners_rule_is_three_options(both, tmp_path, capsys):
    rule = ("--compat-uint8", "--class-thresholds", "0.38,0.13,0.13,0.14", "--minor-dilation", "compat")
    code, out, _ = run(
        capsys, "ensemble", both / "a", both / "b", "-o", tmp_path / "w", "--groups", "x,x", *rule
    )
    card = load_ensemble(tmp_path / "w")
    assert code == 0 and "0 localization and 2 damage members" in out and card.compat_uint8
    assert (card.class_thresholds, card.minor_dilation) == ((0.38, 0.13, 0.13, 0.14), "compat")
    assert {m.group for m in card.members} == {"x"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "1"), "--weights has 1 entries for 2 models"),
        (("--weights", "1,0"), "expected numbers above 0"),
        (("--roles", "localization,judge"), "'judge' is neither localization nor damage"),
        (("--class-thresholds", "0.1,0.2"), "class_thresholds has 2 values"),
        (("--averaging", "logits", "--compat-uint8"), "cannot go with averaging logits"),
    ],
)
def test_what_makes_no_ensemble_is_refused_in_a_line(both, tmp_path, capsys, options, message):
    code, _, err = run(capsys, "ensemble", both / "a", both / "b", "-o", tmp_path / "e", *options)
    assert code == 2 and message in err and len(err.splitlines()) == 1 and not (tmp_path / "e").exists()


def test_an_ensemble_does_not_replace_what_is_there(both, tmp_path, capsys):
    (tmp_path / "e").mkdir()
    arguments = ("ensemble", both / "a", "-o", tmp_path / "e")
    assert "pass --overwrite" in run(capsys, *arguments)[2]
    assert "is not a model folder" in run(capsys, *arguments, "--overwrite")[2]
    assert run(capsys, "ensemble", both / "a", "-o", tmp_path / "f")[0] == 0
    assert run(capsys, "ensemble", both / "b", "-o", tmp_path / "f", "--overwrite")[0] == 0
    assert [m.folder for m in load_ensemble(tmp_path / "f").members] == ["b"]


def test_an_ensemble_without_models_is_refused(tmp_path, capsys):
    assert "no models given" in run(capsys, "ensemble", "-o", tmp_path / "e")[2]


@pytest.fixture(scope="module")
def speckled(tmp_path_factory):
    """Both dates of a scene that is one building, every pixel of a level of its own."""
    folder = tmp_path_factory.mktemp("speckled")
    rng = np.random.default_rng(3)
    pre, post = (np.full((3, 192, 192), 60, np.uint8) for _ in range(2))
    pre[0] = post[0] = 230
    post[1] = rng.choice([32, 32, 32, 96, 160, 224], (192, 192))
    grid = town_grid()
    return write_image(folder / "pre.tif", pre, grid), write_image(folder / "post.tif", post, grid)


@pytest.mark.parametrize("mode", ["right", "compat"])
def test_minor_damage_spreads_on_maps_as_if_they_were_made_in_one_piece(tmp_path, speckled, mode):
    found = {}
    for dilation in ("none", mode):
        model = save_colour_model(tmp_path / f"m-{dilation}", minor_dilation=dilation)
        bands = []
        result = map_damage(
            *speckled,
            tmp_path / dilation,
            model=model,
            align="off",
            window_px=64,
            halo_px=8,
            progress=lambda stage, done, total, bands=bands: bands.append((stage, done)),
        )
        assert len({done for stage, done in bands if stage == "predicting"}) > 3  # several bands of rows
        with rasterio.open(result.folder / "damage.tif") as file:
            found[dilation] = file.read(1)
    assert np.bincount(found["none"].ravel(), minlength=5)[1:5].min() > 5000
    assert np.array_equal(found[mode], spread_minor(found["none"], mode))
    assert (found[mode] != found["none"]).mean() > 0.2


def test_maps_use_the_thresholds_of_each_class(tmp_path, speckled):
    model = save_colour_model(tmp_path / "m", class_thresholds=(0.5, 1.0, 0.5, 1.0))
    result = map_damage(*speckled, tmp_path / "map", model=model, align="off", window_px=96, halo_px=16)
    with rasterio.open(result.folder / "damage.tif") as file:
        assert set(np.unique(file.read(1))) == {0, 1, 3}
    told = json.loads((result.folder / "provenance.json").read_text())
    assert told["model"]["class_thresholds"] == [0.5, 1.0, 0.5, 1.0]


def test_an_ensemble_maps_like_the_model_it_repeats(tmp_path, both):
    pre, post, truth = town()
    grid = town_grid()
    pair = write_image(tmp_path / "pre.tif", pre, grid), write_image(tmp_path / "post.tif", post, grid)
    result = map_damage(
        *pair, tmp_path / "map", model=both, tta="flips", low_memory=True, window_px=128, halo_px=16
    )
    with rasterio.open(result.folder / "damage.tif") as file:
        assert np.array_equal(file.read(1), truth)
    assert len(result.buildings) == len(LEVELS)
    told = json.loads((result.folder / "provenance.json").read_text())
    assert told["model"]["sha256"] == open_predictor(both, Options(low_memory=True)).sha256


def test_classes_are_written_in_their_colours_too(dataset, both, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(both), str(dataset), "-o", str(tmp_path / "out"), "--coloured"])
    assert stopped.value.code in (0, None)
    name = "test_damage_00000_prediction.png"
    mask = cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED)
    shown = cv2.imread(str(tmp_path / "out" / "coloured" / name))[..., ::-1]
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in DAMAGE.colours], np.uint8)
    assert len(np.unique(mask)) > 2 and np.array_equal(shown, colours[mask])


def test_the_dice_heads_map_is_written_as_the_original_writes_it(tmp_path):
    torch.manual_seed(4)
    config = FpnEfficientnetConfig(encoder_name="tf_efficientnet_b0", encoder_weights=None)
    model = build_model(config).eval()
    model.dice_head.weight.data *= 3000
    card = Card(
        name="fpn", model=config, dates=1, scheme="building", licence="MIT",
        training=TrainingRecord(data="none", data_licence="none"),
    )  # fmt: skip
    save_model(tmp_path / "model", model, card)
    image = np.random.default_rng(2).integers(0, 256, (60, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    scene = Scene(name="a", event="e", pre=tmp_path / "a.png", width=64, height=60, split="test")
    Manifest(kind="folder", scheme="building", scenes=[scene]).save(tmp_path)
    predict_dataset(tmp_path / "model", tmp_path, tmp_path / "out", dice=True, backend="torch")
    found = cv2.imread(str(tmp_path / "out" / "dice" / "a.png"), cv2.IMREAD_UNCHANGED)
    mean, std = (np.array(v, np.float32) for v in (card.normalisation.mean, card.normalisation.std))
    wide = np.pad(image, ((0, 4), (0, 0), (0, 0)), mode="edge")
    x = torch.from_numpy((wide - mean) / std).permute(2, 0, 1)[None, None]
    with torch.no_grad():
        p = torch.sigmoid(model(x, heads=True).dice)[0, 0, :15]
    assert found.shape == (15, 16)
    assert (
        np.abs(found.astype(int) - (p.numpy() * 255).astype(np.uint8)).max() <= 1
        and len(np.unique(found)) > 3
    )
    with pytest.raises(ModelError, match="no Dice head that can be asked"):
        predict_dataset("box", tmp_path, tmp_path / "out", dice=True)
