"""Scenes without buildings: the rule, the ratio, and the masks."""

import cv2
import numpy as np
import pytest
import torch

from aftermap.artefacts.store import load_model
from aftermap.data.scene import Scene, read_mask
from aftermap.errors import RecipeError
from aftermap.inference.ensemble import Options
from aftermap.inference.predictor import Predictor
from aftermap.models.configs import FpnEfficientnetConfig
from aftermap.models.networks.fpn import presence_probability
from aftermap.workflows.self_training import negatives
from aftermap.workflows.self_training.config import NegativesConfig
from aftermap.workflows.self_training.negatives import (
    find_negatives,
    is_negative,
    open_classifier,
    write_negatives,
)
from aftermap.workflows.self_training.pseudo_labels import Predicted
from saved_models import save, save_building


def scene(name):
    return Scene(name=name, event="e", pre=f"/{name}.png", width=6, height=4)


def candidate(name, building, presence=None):
    return Predicted(scene(name), 1.0, building, presence, (24, 0))


@pytest.mark.parametrize(
    ("presence", "building", "both", "classifier", "by_map"),
    [
        (0.19, 0.19, True, True, True),
        (0.19, 0.2, False, True, False),
        (0.2, 0.19, False, False, True),
        (0.2, 0.2, False, False, False),
    ],
)
def test_the_rule_looks_at_classifier_and_map(presence, building, both, classifier, by_map):
    rules = {"both": both, "classifier": classifier, "map": by_map}
    found = {rule: is_negative(building, presence, NegativesConfig(rule=rule)) for rule in rules}
    assert found == rules


def test_the_rule_of_the_map_needs_no_classifier():
    assert is_negative(0.1, None, NegativesConfig(rule="map"))
    with pytest.raises(ValueError, match="rule both needs"):
        is_negative(0.1, None, NegativesConfig())


def test_the_ratio_keeps_the_surest():
    config = NegativesConfig(ratio=0.5, rule="map")
    candidates = [candidate("a", 0.15), candidate("b", 0.01), candidate("c", 0.5), candidate("d", 0.1)]
    found, count = find_negatives(candidates, config, labelled=4)
    assert [s.name for s in found] == ["b", "d"] and count == 3


def test_none_is_looked_for_without_a_ratio():
    assert find_negatives([candidate("a", 0.0, 0.0)], NegativesConfig(), labelled=4) == ([], 0)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_negative_is_background_all_over(tmp_path, classes):
    (made,) = write_negatives([scene("a")], tmp_path / "negatives", scheme_classes=classes)
    assert np.array_equal(read_mask(made, target="building"), np.zeros((4, 6)))
    assert (read_mask(made, target="damage") == (0 if classes == 5 else 255)).all()
    assert made.class_pixels == [24] + [0] * (classes - 1)
    assert cv2.imread(str(made.building_mask), cv2.IMREAD_UNCHANGED).dtype == np.uint8


def test_a_model_without_the_head_is_refused_for_the_classifier(tmp_path):
    model = save_building(tmp_path / "model")
    with pytest.raises(RecipeError, match="no presence head"):
        open_classifier(model, Options())


def test_the_classifier_looks_at_large_images_in_parts(tmp_path, monkeypatch):
    config = FpnEfficientnetConfig(encoder_name="tf_efficientnet_b0", encoder_weights=None)
    model = save(tmp_path / "model", config)
    classify = open_classifier(model, Options())
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 40, 64), dtype=np.uint8)
    loaded = load_model(model)

    def presence(part):
        image = Predictor(loaded).prepare(part[None])
        with torch.inference_mode():
            return float(presence_probability(loaded.model, image)[0])

    mirrored = np.concatenate([images, images[:, :, :15:-1]], axis=2)  # 40 rows and 24 mirrored ones
    assert classify(images) == pytest.approx(presence(mirrored), abs=1e-6)
    monkeypatch.setattr(negatives, "_LARGEST_PX", 32)
    square = images[:, :, :32]
    halves = [presence(square[..., :32]), presence(square[..., 32:])]
    assert classify(square) == pytest.approx(max(halves), abs=1e-6) and halves[0] != halves[1]
