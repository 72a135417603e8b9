import hashlib
import json

import cv2
import numpy as np
import pytest
import torch

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.ensemble import GateIngredient, Ingredient, compose, load_ensemble, save_ensemble
from aftermap.artefacts.ensemble_card import EnsembleCard
from aftermap.artefacts.hub import check_folder, model_files
from aftermap.artefacts.store import load_model, save_model
from aftermap.data.scene import Scene
from aftermap.errors import DataError, ModelError
from aftermap.geo.grid import Grid
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.gate import choose_gate, largest_threshold
from aftermap.inference.predictor import Predictor
from aftermap.inference.tiling import Sample, predict_rows
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from colour_town import save_colour_model

ANYTHING = TrainingRecord(data="none", data_licence="none")


class Brightness(DenseModel):
    """p(building) is the red of the first date, from 0 to 1."""

    dates, classes, stride = 1, 1, 32

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward_features(self, image):
        return image[:, 0, :1]

    def forward_head(self, features, size):
        return torch.logit((features * 127.5 + 127.5) / 255, eps=1e-6)


def save_gate(folder, *, name="red", **card):
    values = {
        "scheme": "building",
        "dates": 1,
        "activation": "sigmoid",
        "training": ANYTHING,
        "licence": "MIT",
    }
    config = CustomConfig(target="test_gate:Brightness", classes=1)
    save_model(folder, Brightness(), Card(name=name, model=config, **values | card))
    return folder


def gated(folder, *, threshold=0.5, min_pixels=4, **options):
    """An ensemble of the colour model behind the gate."""
    model = save_colour_model(folder / "colours")
    gate = save_gate(folder / "red")
    guard = GateIngredient(gate, threshold=threshold, min_pixels=min_pixels)
    card, parts = compose("gated", [Ingredient(model)], gate=guard, **options)
    save_ensemble(folder / "gated", card, parts)
    return folder / "gated"


def windows(*red_pixels, size=32):
    """A batch of dark windows, with this many pixels of a house in each."""
    images = np.full((len(red_pixels), 2, 3, size, size), 40, np.uint8)
    for image, count in zip(images, red_pixels, strict=True):
        image[0, 0].reshape(-1)[:count] = 230
        image[1, 1] = 100
    return images


@pytest.fixture
def count_windows(monkeypatch):
    """How many windows each call of a damage model sees."""
    seen = []
    original = Predictor.channels

    def counting(self, images, valid=None):
        if self.dates == 2:
            seen.append(len(images))
        return original(self, images, valid)

    monkeypatch.setattr(Predictor, "channels", counting)
    return seen


def test_only_windows_that_may_hold_buildings_are_shown_to_the_members(tmp_path, count_windows):
    predictor = open_predictor(gated(tmp_path))

    predictor.predict(windows(0, 50, 3, 4))

    assert count_windows == [2]
    assert (predictor.gate.seen, predictor.gate.skipped) == (4, 2)


def test_members_are_not_called_where_every_window_is_empty(tmp_path, count_windows):
    predictor = open_predictor(gated(tmp_path))

    predictor.predict(windows(0, 0))
    predictor.predict(windows(3))

    assert count_windows == []
    assert predictor.gate.as_dict() == {
        "model": "red",
        "threshold": 0.5,
        "min_pixels": 4,
        "windows": 3,
        "skipped": 3,
    }


def test_windows_that_are_shown_get_what_the_ensemble_says_without_a_gate(tmp_path):
    images = windows(0, 50, 2, 4)
    card, parts = compose("free", [Ingredient(save_colour_model(tmp_path / "colours"))])
    save_ensemble(tmp_path / "free", card, parts)

    found = open_predictor(gated(tmp_path)).predict(images)

    shown = open_predictor(tmp_path / "free").predict(images[[1, 3]])
    np.testing.assert_array_equal(found[[1, 3]], shown)


def test_empty_windows_are_background_with_the_gates_doubt_shared_evenly(tmp_path):
    # red 40 is a p(building) of 40 / 255; the 3 red pixels have 230 / 255, held below the building threshold
    found = open_predictor(gated(tmp_path)).predict(windows(3))

    doubt = 40 / 255
    np.testing.assert_allclose(found[0, :, 20, 20], [1 - doubt, *[doubt / 4] * 4], atol=1e-6)
    np.testing.assert_allclose(found[0, :, 0, 0], [0.5, *[0.125] * 4], atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_no_building_stands_in_an_empty_window(tmp_path):
    predictor = open_predictor(gated(tmp_path, class_thresholds=(0.6, 0.2, 0.3, 0.4)))

    found = predictor.predict(windows(3))

    assert (1 - found[:, 0]).max() < 0.2


def test_pixels_without_data_open_no_gate(tmp_path, count_windows):
    images = windows(60)
    valid = np.ones((1, 2, 32, 32), bool)
    valid[0, 1, :2] = False  # where the house is, nothing is known of the second date

    open_predictor(gated(tmp_path)).predict(images, valid)

    assert count_windows == []


def test_a_map_skips_the_windows_of_empty_land(tmp_path, count_windows):
    # 4 windows of 64 px in a row; a house stands in the last
    images = np.full((2, 3, 64, 256), 40, np.uint8)
    images[0, 0, 20:40, 225:245] = 230
    predictor = open_predictor(gated(tmp_path))

    def read(window):
        part = images[:, :, window.row : window.row + window.height, window.col : window.col + window.width]
        shape = part.shape[-2:]
        return Sample(part, np.ones((2, *shape), bool), np.zeros(shape, np.uint8))

    (band,) = predict_rows(read, predictor, Grid.pixels(256, 64), window_px=64, halo_px=0, batch=3)

    buildings = 1 - band.probabilities[0] > 0.5
    assert (predictor.gate.seen, predictor.gate.skipped) == (4, 3)
    assert count_windows == [1]
    assert buildings[20:40, 225:245].all()
    assert buildings.sum() == 400


def test_the_gate_is_written_and_read_with_its_hash(tmp_path):
    folder = gated(tmp_path, threshold=0.25, min_pixels=7)

    card = load_ensemble(folder)

    assert (card.gate.folder, card.gate.threshold, card.gate.min_pixels) == ("gate", 0.25, 7)
    assert card.gate.sha256 == load_model(folder / "gate").sha256
    assert list(card.parts) == ["colours", "gate"]
    assert "fewer than 7 pixels of p(building) above 0.25" in (folder / "README.md").read_text()


def test_a_gate_belongs_to_the_ensembles_identity(tmp_path):
    card = load_ensemble(gated(tmp_path))
    other = card.model_copy(update={"gate": card.gate.model_copy(update={"threshold": 0.4})})
    bare = card.model_copy(update={"gate": None})

    assert len({card.sha256, other.sha256, bare.sha256}) == 3


def test_an_ensemble_without_a_gate_keeps_its_identity():
    member = {"folder": "a", "role": "damage", "sha256": "b" * 64}
    values = {"name": "x", "dates": 2, "scheme": "joint-damage-scale", "licence": "MIT", "training": ANYTHING}
    old = [["damage", 1.0, None, "b" * 64], "probabilities", False]

    card = EnsembleCard(members=(member,), **values)

    assert card.sha256 == hashlib.sha256(json.dumps(old).encode()).hexdigest()


def test_a_gated_ensemble_travels_whole(tmp_path):
    folder = gated(tmp_path)

    check_folder(folder)

    assert {"gate/card.json", "gate/model.safetensors"} <= set(model_files(folder))


def test_a_member_called_gate_makes_room_for_the_gate(tmp_path):
    model = save_colour_model(tmp_path / "gate")

    card, parts = compose("x", [Ingredient(model)], gate=GateIngredient(save_gate(tmp_path / "red")))

    assert [member.folder for member in card.members] == ["gate-2"]
    assert parts["gate"] == tmp_path / "red"


def test_a_damage_model_is_no_gate(tmp_path):
    model = save_colour_model(tmp_path / "colours")
    card, parts = compose("x", [Ingredient(model)], gate=GateIngredient(model))

    with pytest.raises(ModelError, match=r"colours tells .* from 2 date\(s\), so it cannot be a gate"):
        save_ensemble(tmp_path / "x", card, parts)


def test_a_gate_that_wants_other_bands_is_refused(tmp_path):
    gate = save_gate(tmp_path / "infrared", name="infrared", bands=("nir", "red", "green"))
    card, parts = compose(
        "x", [Ingredient(save_colour_model(tmp_path / "colours"))], gate=GateIngredient(gate)
    )

    with pytest.raises(
        ModelError, match="the gate infrared wants the bands nir, red, green, the ensemble is given red"
    ):
        save_ensemble(tmp_path / "x", card, parts)


def test_a_gate_with_other_weights_is_refused(tmp_path):
    folder = gated(tmp_path)
    text = json.loads((folder / "ensemble.json").read_text())
    text["gate"]["sha256"] = "0" * 64
    (folder / "ensemble.json").write_text(json.dumps(text))

    with pytest.raises(ModelError, match=r"gate holds other weights .* make it again"):
        open_predictor(folder)


# windows by strength, with the building pixels in each: 100 in all
STRENGTHS = np.array([0.9, 0.05, 0.2, 0.6, 0.05, 0.35])
BUILDINGS = np.array([70.0, 0.0, 2.0, 20.0, 1.0, 7.0])


@pytest.mark.parametrize(
    ("lose", "threshold", "lost", "skipped"),
    [
        (0.0, 0.0499, 0.0, 0),
        (0.01, 0.1999, 0.01, 2),
        (0.03, 0.3499, 0.03, 3),
        (0.0999, 0.3499, 0.03, 3),
        (0.10, 0.5999, 0.10, 4),
        (0.30, 0.8999, 0.30, 5),
    ],
)
def test_the_threshold_is_the_largest_that_loses_no_more(lose, threshold, lost, skipped):
    choice = largest_threshold(STRENGTHS, BUILDINGS, lose=lose)

    assert choice.threshold == pytest.approx(threshold)
    assert choice.lost == pytest.approx(lost)
    assert choice.skipped == pytest.approx(skipped / 6)
    assert choice.windows == 6


def test_the_threshold_stays_below_what_it_may_not_exceed():
    choice = largest_threshold(STRENGTHS, BUILDINGS, lose=0.30, highest=0.5)

    assert (choice.threshold, choice.lost, choice.skipped) == pytest.approx((0.5, 0.10, 4 / 6))


def test_a_window_in_which_the_gate_finds_a_building_is_never_empty(tmp_path):
    # p(building) is 204 / 255 = 0.8 everywhere, above the model's threshold of 0.3
    red, mask = np.full((64, 64), 204, np.uint8), np.zeros((64, 64), np.uint8)
    mask[:8] = 1
    scene = write_scene(tmp_path, "one", red, mask)
    predictor = Predictor(load_model(save_gate(tmp_path / "red", building_threshold=0.3)))

    choice = choose_gate(predictor, [scene], lose=0.5, window_px=64, halo_px=0)

    assert (choice.threshold, choice.skipped) == (0.3, 0.0)


def test_a_gate_that_sees_nothing_where_buildings_are_is_refused():
    with pytest.raises(ModelError, match=r"holds? 5.0% of them, and 1.0% may be lost"):
        largest_threshold(np.array([0.0, 0.8]), np.array([5.0, 95.0]), lose=0.01)


def write_scene(folder, name, red, mask):
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[..., 2] = red
    cv2.imwrite(str(folder / f"{name}.png"), image)
    cv2.imwrite(str(folder / f"{name}_mask.png"), mask)
    height, width = mask.shape
    paths = {"pre": folder / f"{name}.png", "building_mask": folder / f"{name}_mask.png"}
    return Scene(name=name, event="e", width=width, height=height, **paths)


def test_a_threshold_chosen_on_scenes_does_to_windows_what_was_promised(tmp_path):
    # three windows of 64 px: p(building) is 204 / 255 = 0.8, 50 / 255 = 0.196 and 0.1; buildings are 90, 9 and 1 %
    red, mask = np.full((64, 192), 26, np.uint8), np.zeros((64, 192), np.uint8)
    for left, value, pixels in ((0, 204, 90), (64, 50, 9), (128, 26, 1)):
        block = np.zeros(64 * 64, bool)
        block[:pixels] = True
        mask[:, left : left + 64][block.reshape(64, 64)] = 1
        red[:, left : left + 64] = value
    scene = write_scene(tmp_path, "three", red, mask)
    predictor = Predictor(load_model(save_gate(tmp_path / "red")))

    choice = choose_gate(predictor, [scene], lose=0.01, min_pixels=4, window_px=64, halo_px=0)

    assert choice.threshold == pytest.approx(0.196)
    assert (choice.lost, choice.skipped, choice.windows) == pytest.approx((0.01, 1 / 3, 3))


def test_scenes_without_buildings_choose_no_threshold(tmp_path):
    scene = write_scene(tmp_path, "bare", 30, np.zeros((32, 32), np.uint8))
    predictor = Predictor(load_model(save_gate(tmp_path / "red")))

    with pytest.raises(DataError, match="no labelled building"):
        choose_gate(predictor, [scene], lose=0.01)
