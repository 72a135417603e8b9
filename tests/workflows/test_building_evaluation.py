"""A building model evaluated on scenes whose Jaccard is known, and a run that chooses by it."""

import io
import json

import cv2
import numpy as np
import pytest
from rich.console import Console

from aftermap.artefacts.card import Normalisation
from aftermap.artefacts.store import load_model
from aftermap.cli.app import main
from aftermap.data.scene import Manifest
from aftermap.errors import DataError
from aftermap.inference.predictor import Predictor
from aftermap.products.score_table import score_tables
from aftermap.workflows.scoring.evaluate import evaluate
from aftermap.workflows.scoring.score import score_folders
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train
from saved_models import save_bands
from squares import make_dataset

# 4 roofs of 18 x 18 px per scene; in the last one, half a roof more is labelled than can be seen
ROOFS = 4 * 18 * 18
MORE = 18 * 9


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """Six scenes, two of 0.15 m and the others of 0.3 m; the last is mislabelled."""
    folder = make_dataset(tmp_path_factory.mktemp("town") / "data")
    manifest = Manifest.load(folder)
    scenes = [
        s.model_copy(update={"resolution_m": 0.15 if n < 2 else 0.3}) for n, s in enumerate(manifest.scenes)
    ]
    mask = cv2.imread(str(scenes[-1].building_mask), cv2.IMREAD_UNCHANGED)
    mask[6:24, 24:33] = 1
    cv2.imwrite(str(scenes[-1].building_mask), mask)
    manifest.model_copy(update={"scenes": scenes}).save(folder)
    return folder


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """A model for which everything above grey 150 is building."""
    normalisation = Normalisation(mean=(150.0,) * 3, std=(10.0,) * 3)
    folder = tmp_path_factory.mktemp("model") / "bright"
    return save_bands(folder, 1, activation="sigmoid", normalisation=normalisation)


def scores(bright, town, **options):
    return evaluate(Predictor(load_model(bright)), Manifest.load(town).scenes, **options).report


def test_the_map_is_scored_by_scene_and_by_ground_resolution(bright, town):
    found = scores(bright, town).building_map
    assert found.jaccard == pytest.approx(6 * ROOFS / (6 * ROOFS + MORE))
    assert [s.jaccard for s in found.by_scene] == pytest.approx([1] * 5 + [ROOFS / (ROOFS + MORE)])
    by_resolution = {name: (s.scenes, s.jaccard) for name, s in found.resolutions.items()}
    assert by_resolution == {"0.15": (2, 1), "0.3": (4, pytest.approx(4 * ROOFS / (4 * ROOFS + MORE)))}
    assert found.object_f1 == 1  # half a roof more is still an overlap of 2/3


def test_the_band_is_as_wide_as_asked(bright, town):
    assert scores(bright, town).building_map.boundary == "2 % of the diagonal"
    # 2 px at 0.15 m and 1 px at 0.3 m, inside squares that are all right: only the last scene differs
    found = scores(bright, town, boundary_m=0.3).building_map
    assert found.boundary == "0.3 m" and found.resolutions["0.15"].boundary_iou == 1
    # there a frame of 18 x 18 (68 px) lies in one of 18 x 27 (86 px) but for 16 px of its right side; 15 roofs agree
    both = 15 * 68 + 52
    either = 15 * 68 + 68 + 86 - 52
    assert found.resolutions["0.3"].boundary_iou == pytest.approx(both / either)


def test_a_scene_without_resolution_cannot_have_a_band_in_metres(bright, tmp_path):
    scenes = Manifest.load(make_dataset(tmp_path / "data")).scenes
    with pytest.raises(DataError, match="has no ground resolution"):
        evaluate(Predictor(load_model(bright)), scenes, boundary_m=0.5)


def test_the_json_keeps_what_it_had_and_gains_the_map(bright, town, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(bright), str(town), "--split", "all", "--json", "--bootstrap", "20"])
    report = json.loads(capsys.readouterr().out)
    assert stop.value.code == 0
    assert report["localization"]["iou"] == pytest.approx(report["building_map"]["jaccard"])
    assert report["score"] is None and report["buildings"]["localization"]["f1"] == 1
    assert len(report["building_map"]["by_scene"]) == 6
    low, high = report["building_map"]["intervals"]["jaccard"]
    assert low < report["building_map"]["jaccard"] < high == 1


def test_the_table_shows_every_group(bright, town):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(score_tables(scores(bright, town, bootstrap=20).as_dict()))
    text = console.export_text()
    for part in (
        "Building map (6 scenes, pooled)",
        "0.9796",
        "0.15 m",
        "0.3 m",
        "squares_00000005",
        "By event",
    ):
        assert part in text, part
    assert "xView2" not in text


def test_folders_of_building_masks_are_scored_as_maps(tmp_path):
    for role, last in (("prediction", 6), ("target", 8)):
        mask = np.zeros((16, 16), np.uint8)
        mask[2:last, 2:10] = 1
        (tmp_path / role).mkdir()
        cv2.imwrite(str(tmp_path / role / f"town_0_localization_{role}.png"), mask)
    with pytest.warns(match="only localization is scored"):
        report = score_folders(tmp_path / "prediction", tmp_path / "target", bootstrap=0)
    assert report.building_map.jaccard == pytest.approx(4 / 6)
    assert report.building_map.resolutions["unknown"].scenes == 1


def test_a_run_chooses_its_step_by_jaccard(town, tmp_path):
    recipe = TrainRecipe.model_validate(
        {
            "name": "squares",
            "task": "building",
            "data": {"manifests": [str(town)]},
            "model": {
                "kind": "unet",
                "encoder_name": "test_resnet",
                "encoder_depth": 2,
                "decoder_channels": [8, 8],
            },
            "sampling": {"batch_size": 2, "crop_px": 32},
            "optimizer": {"lr": 0.01, "schedule": {"kind": "one-cycle"}},
            "selection": {"metric": "jaccard", "tune": False},
            "steps": 12,
            "evaluate_every": 6,
            "precision": "no",
        }
    )
    trained = train(recipe, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["score"] == row["jaccard"] for row in rows)
    f1 = rows[-1]["localization_f1"]
    assert rows[-1]["jaccard"] == pytest.approx(f1 / (2 - f1), abs=1e-6)
    assert trained.metrics["score"] == max(row["score"] for row in rows)
