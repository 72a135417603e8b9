"""Storing a teacher's predictions, and choosing those that become labels, with values worked out by hand."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from aftermap.classes import BUILDING
from aftermap.data.scene import Scene, SceneGrid
from aftermap.data.soft_labels import read_soft, write_soft
from aftermap.errors import RecipeError
from aftermap.workflows.self_training.config import LabelsConfig
from aftermap.workflows.self_training.pseudo_labels import (
    BEYOND_LIMIT,
    LOW_CONFIDENCE,
    NOTHING_LEFT,
    describe_prediction,
    missing_ground,
    predict_pool,
    select_labels,
)


def scene_of(folder, name="a", side=4, **said):
    return Scene(name=name, event="e", pre=folder / f"{name}.png", width=side, height=side, **said)


def predicted(folder, name, values):
    """A stored prediction of probabilities (K - 1, H, W), or (H, W) for buildings."""
    values = np.array(values, np.float32)
    values = values[None] if values.ndim == 2 else values
    file = write_soft(folder / f"{name}.tif", values, None)
    scene = Scene(
        name=name,
        event="e",
        pre=folder / f"{name}.png",
        soft=file,
        width=values.shape[2],
        height=values.shape[1],
    )
    return describe_prediction(scene, None, classes=len(values) + 1)


def choose(found, tmp_path, *, shares=(0.5, 0.5), refused=(), **config):
    made = LabelsConfig(**config)
    least = made.least_confidence(BUILDING) if len(shares) == 2 else [0.0] * len(shares)
    return select_labels(
        found, made, tmp_path / "labels", least_confidence=least, shares=shares, refused=refused
    )


def labels(selection, number=0):
    return read_soft(selection.accepted[number])[..., 0]


class Fixed:
    """A predictor whose p(building) is the first band over 254."""

    sha256, multiple, dates = "f" * 64, 1, 1
    calls = 0
    card = SimpleNamespace(classes=BUILDING)

    def predict(self, images, valid=None):
        type(self).calls += 1
        building = images[:, 0, 0].astype(np.float32) / 254
        return np.stack([1 - building, building], axis=1)


def write_image(folder, name, band):
    image = np.full((*band.shape, 3), 9, np.uint8)
    image[..., 2] = band  # red; files are blue, green, red
    cv2.imwrite(str(folder / f"{name}.png"), image)
    return scene_of(folder, name, side=band.shape[0])


def test_a_prediction_is_stored_to_a_254th(tmp_path):
    p = np.random.default_rng(0).random((16, 16), np.float32)
    stored = read_soft(predicted(tmp_path, "a", p).scene)[..., 0] / 254
    assert np.abs(stored - p).max() <= 0.5 / 254 + 1e-6


def test_the_pool_is_predicted_into_files_with_the_georeference_of_the_scene(tmp_path):
    band = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10 + 1
    grid = SceneGrid(crs="EPSG:32629", transform=(0.5, 0.0, 500000.0, 0.0, -0.5, 4500000.0))
    scene = write_image(tmp_path, "a", band).model_copy(update={"grid": grid})
    (found,) = predict_pool(Fixed(), [scene], tmp_path / "out", settings={})
    assert np.array_equal(read_soft(found.scene)[..., 0], band)
    assert found.building == 151 / 254 and found.pixels == (13, 3)
    import rasterio

    with rasterio.open(found.scene.soft) as file:
        assert file.crs.to_epsg() == 32629 and file.transform[:6] == grid.transform


def test_black_pixels_get_no_label(tmp_path):
    scene = write_image(tmp_path, "a", np.full((4, 4), 200, np.uint8))
    image = cv2.imread(str(scene.pre))
    image[0] = 0
    cv2.imwrite(str(scene.pre), image)
    (found,) = predict_pool(Fixed(), [scene], tmp_path / "out", settings={})
    assert found.pixels == (0, 12)
    (found,) = predict_pool(Fixed(), [scene], tmp_path / "out", settings={}, black_is_missing=False)
    assert found.pixels == (4, 12)


def test_only_what_is_missing_or_of_another_teacher_is_predicted(tmp_path):
    scenes = [write_image(tmp_path, name, np.full((4, 4), 100, np.uint8)) for name in "abc"]
    Fixed.calls = 0
    predict_pool(Fixed(), scenes[:2], tmp_path / "out", settings={"tta": "none"})
    predict_pool(Fixed(), scenes, tmp_path / "out", settings={"tta": "none"})
    assert Fixed.calls == 3
    predict_pool(Fixed(), scenes, tmp_path / "out", settings={"tta": "flips"})
    assert Fixed.calls == 6
    (tmp_path / "out" / "b.json").write_text("{")  # broken off
    predict_pool(Fixed(), scenes, tmp_path / "out", settings={"tta": "flips"})
    assert Fixed.calls == 7


def test_soft_labels_keep_the_stored_probabilities(tmp_path):
    found = predicted(tmp_path, "a", [[0.1, 0.45], [0.55, 0.9]])
    chosen = choose([found], tmp_path)
    assert labels(chosen).tolist() == [[25, 114], [140, 229]]
    assert chosen.learned == [2, 2] and chosen.unknown == {} and chosen.rejected == {}


def test_hard_labels_leave_the_band_out(tmp_path):
    found = predicted(tmp_path, "a", [[0.1, 0.45, 0.38], [0.55, 0.9, 0.62]])
    chosen = choose([found], tmp_path, kind="hard")
    assert labels(chosen).tolist() == [[0, 255, 0], [255, 254, 254]]
    assert chosen.unknown == {"ignored band": 2} and chosen.learned == [2, 2]


def test_of_several_classes_the_likeliest_must_be_above_the_band(tmp_path):
    # background .1, classes .25 .65 in the first pixel; .1 .45 .45 in the second
    found = predicted(tmp_path, "a", [[[0.25, 0.45]], [[0.65, 0.45]]])
    chosen = choose([found], tmp_path, kind="hard", shares=(0.2, 0.4, 0.4))
    assert read_soft(chosen.accepted[0]).tolist() == [[[0, 254], [255, 255]]]
    assert chosen.learned == [0, 0, 1]


def test_the_least_confidence_goes_by_class(tmp_path):
    # confidence: background .9, background .75, building .75, building .9
    found = predicted(tmp_path, "a", [[0.1, 0.25], [0.75, 0.9]])
    chosen = choose([found], tmp_path, kind="hard", min_confidence={"building": 0.8})
    assert labels(chosen).tolist() == [[0, 0], [255, 254]]
    chosen = choose([found], tmp_path, kind="hard", min_confidence=0.8)
    assert labels(chosen).tolist() == [[0, 255], [255, 254]]
    assert chosen.unknown == {"confidence of the class": 2}


def test_an_unknown_class_of_the_least_confidence_is_named():
    with pytest.raises(RecipeError, match="names 'house': the classes are background, building"):
        LabelsConfig(min_confidence={"house": 0.5}).least_confidence(BUILDING)


def test_the_cap_on_shares_drops_the_least_confident_of_the_class(tmp_path):
    # 10 pixels, 6 of them buildings; a labelled share of .2 and a cap of 2 leave 4
    a = predicted(tmp_path, "a", [[0.95, 0.9, 0.6, 0.1, 0.1]])
    b = predicted(tmp_path, "b", [[0.8, 0.7, 0.55, 0.2, 0.2]])
    chosen = choose([a, b], tmp_path, shares=(0.8, 0.2), class_prior_cap=2)
    assert [labels(chosen, n)[0].tolist() for n in (0, 1)] == [
        [241, 229, 255, 25, 25],
        [203, 178, 255, 51, 51],
    ]
    assert chosen.learned == [4, 4] and chosen.unknown == {"share of the class": 2}
    assert chosen.cutoffs == [0, 152 / 254]
    assert chosen.predicted == [4, 6]


def test_of_equal_pixels_at_the_cap_an_even_part_is_kept(tmp_path):
    # limit 2 * .2 * 10 = 4: .9, .8 and two of the four that are .7, counted over both scenes
    a = predicted(tmp_path, "a", [[0.7, 0.8, 0.7, 0.1, 0.1]])
    b = predicted(tmp_path, "b", [[0.7, 0.7, 0.9, 0.1, 0.1]])
    chosen = choose([a, b], tmp_path, shares=(0.8, 0.2), class_prior_cap=2)
    assert [labels(chosen, n)[0].tolist() for n in (0, 1)] == [
        [255, 203, 178, 25, 25],
        [255, 178, 229, 25, 25],
    ]
    assert chosen.learned == [4, 4] and chosen.cutoffs[1] == 178 / 254


def test_a_saturated_class_keeps_its_share(tmp_path):
    found = predicted(tmp_path, "a", np.repeat([[0.0], [1.0]], 50, axis=1))
    chosen = choose([found], tmp_path, shares=(0.9, 0.1), class_prior_cap=1.5)
    assert chosen.learned == [50, 15]


def test_the_background_is_not_capped(tmp_path):
    found = predicted(tmp_path, "a", [[0.0, 0.0, 0.0, 1.0]])
    assert choose([found], tmp_path, shares=(0.5, 0.5), class_prior_cap=1).learned == [3, 1]


def test_a_class_that_no_label_shows_is_capped_to_nothing(tmp_path):
    found = predicted(tmp_path, "a", [[0.9, 0.1]])
    chosen = choose([found], tmp_path, shares=(1.0, 0.0), class_prior_cap=1.5)
    assert labels(chosen).tolist() == [[255, 25]]


def test_scenes_of_low_confidence_are_rejected(tmp_path):
    # means of the likeliest class: .9 and .6
    found = [predicted(tmp_path, "a", [[0.1, 0.9]]), predicted(tmp_path, "b", [[0.4, 0.6]])]
    assert [p.confidence for p in found] == pytest.approx([0.9, 0.6], abs=0.5 / 254)
    chosen = choose(found, tmp_path, min_scene_confidence=0.7)
    assert [scene.name for scene in chosen.accepted] == ["a"]
    assert chosen.rejected == {"b": LOW_CONFIDENCE}


def test_the_most_confident_scenes_with_buildings_are_taken_first(tmp_path):
    found = [
        predicted(tmp_path, "empty", [[0.0, 0.0]]),
        predicted(tmp_path, "unsure", [[0.4, 0.6]]),
        predicted(tmp_path, "sure", [[0.1, 0.9]]),
    ]
    chosen = choose(found, tmp_path, max_scenes=2)
    assert [scene.name for scene in chosen.accepted] == ["unsure", "sure"]
    assert chosen.rejected == {"empty": BEYOND_LIMIT}


def test_a_scene_of_which_nothing_is_left_is_rejected(tmp_path):
    found = [predicted(tmp_path, "a", [[0.45, 0.55]])]
    chosen = choose(found, tmp_path, kind="hard")
    assert chosen.accepted == [] and chosen.rejected == {"a": NOTHING_LEFT}


def test_a_refused_class_becomes_unknown(tmp_path):
    found = predicted(tmp_path, "a", [[[0.8, 0.1]], [[0.1, 0.8]]])
    chosen = choose([found], tmp_path, shares=(0.2, 0.4, 0.4), refused={1})
    assert (read_soft(chosen.accepted[0])[0, :, 0] == [255, 25]).all()
    assert chosen.unknown == {"class refused": 1} and chosen.learned == [0, 0, 1]


def test_the_summary_counts_reasons(tmp_path):
    found = [predicted(tmp_path, name, [[0.4, 0.6]]) for name in "ab"] + [
        predicted(tmp_path, "c", [[0.0, 1.0]])
    ]
    summary = choose(found, tmp_path, min_scene_confidence=0.7).as_dict()
    assert summary["accepted"] == 1 and summary["rejected_because"] == {"low confidence": 2}


def test_shadows_are_no_missing_ground():
    images = np.full((2, 3, 64, 64), 90, np.uint8)
    images[0, :, 20:30, 20:30] = 0  # a shadow
    images[1, :, :, 50:] = 0  # where a mosaic ends
    missing = missing_ground(images)
    assert missing[:, 50:].all() and not missing[:, :50].any()
    images[0, :, 20:40, 20:40] = 0
    assert missing_ground(images)[20:40, 20:40].all()
