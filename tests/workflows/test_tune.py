import itertools
import json

import cv2
import numpy as np
import pytest
import torch

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose, load_ensemble, save_ensemble
from aftermap.artefacts.store import load_card, save_model
from aftermap.cli.app import main
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, DataWarning, ModelError, OutputError
from aftermap.inference.ensemble import open_predictor
from aftermap.inference.postprocess import Decision
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.scoring import tuning
from aftermap.scoring.decision_weights import reweight
from aftermap.scoring.pixels import Score
from aftermap.scoring.tuning import DecisionTable
from aftermap.workflows.scoring.evaluate import decide, evaluate
from aftermap.workflows.scoring.tune import tune_model


class Encoded(DenseModel):
    """Reads its answer from the images: p(building) from red before, shares of the classes from the next four bands."""

    dates, classes, stride = 2, 5, 1

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward_features(self, image):
        return image.flatten(1, 2)

    def forward_head(self, features, size):
        building = features[:, :1].clamp(1, 254) / 255
        shares = features[:, 1:5] + 0.5
        damage = building * shares / shares.sum(1, keepdim=True)
        return torch.cat([1 - building, damage], 1).log()


class Located(Encoded):
    """The same for localization."""

    dates, classes = 1, 1

    def forward_head(self, features, size):
        return torch.logit(features[:, :1].clamp(1, 254) / 255)


def save_encoded(folder, *, damage=True, **values):
    kind = "Encoded" if damage else "Located"
    entries = {
        "name": folder.name,
        "model": CustomConfig(target=f"test_tune:{kind}", classes=5 if damage else 1),
        "dates": 2 if damage else 1,
        "scheme": "joint-damage-scale" if damage else "building",
        "activation": "softmax" if damage else "sigmoid",
        "normalisation": Normalisation(mean=(0,) * 3, std=(1,) * 3),
        "training": TrainingRecord(data="none", data_licence="none"),
        "licence": "MIT",
    }
    save_model(folder, (Encoded if damage else Located)(), Card(**entries | values))
    return folder


def write_scene(folder, stripes, *, name="town_00000001", split="validation"):
    """A scene of stripes of 16 x 64 pixels, each (target, p(building), the four shares)."""
    folder.mkdir(exist_ok=True)
    images = np.zeros((2, 16 * len(stripes), 64, 3), np.uint8)
    mask = np.zeros(images.shape[1:3], np.uint8)
    for n, (target, building, *shares) in enumerate(stripes):
        rows = slice(16 * n, 16 * n + 16)
        bands = [round(255 * building), *(round(200 * share) for share in shares), 0]
        images[0, rows], images[1, rows] = bands[:3], bands[3:]
        mask[rows] = target
    paths = {key: folder / f"{name}_{key}.png" for key in ("pre", "post", "building_mask", "damage_mask")}
    arrays = [images[0][..., ::-1], images[1][..., ::-1], np.uint8(mask > 0), mask]
    for path, array in zip(paths.values(), arrays, strict=True):
        cv2.imwrite(str(path), array)
    return Scene(name=name, event="town", split=split, width=64, height=len(mask), **paths)


SURE = {1: (0.9, 0.1, 0, 0), 2: (0.1, 0.9, 0, 0), 3: (0, 0.1, 0.9, 0), 4: (0, 0, 0.1, 0.9)}
"""Shares of stripes whose class is plain to see."""

FAINT_RUINS = [
    *((k, 0.8, *SURE[k]) for k in (1, 2, 3)),
    (4, 0.3, *SURE[4]),
    (0, 0.2, *SURE[4]),
    (0, 0.45, *SURE[1]),
]
"""Ruins are fainter than what looks like an undamaged building and is none: no single threshold serves both."""

SHY_MINOR = [
    (1, 0.9, 0.7, 0.2, 0.05, 0.05),
    (2, 0.9, 0.5, 0.3, 0.1, 0.1),
    *((k, 0.9, *SURE[k]) for k in (3, 4)),
]
SHY_MINOR += [(0, 0.1, *SURE[1])]
"""Minor damage always comes second to no damage."""


def test_each_class_gets_the_threshold_that_it_needs(tmp_path):
    model, scene = save_encoded(tmp_path / "m"), write_scene(tmp_path / "data", FAINT_RUINS)
    tuned = tune_model(model, [scene])
    card = load_card(model)
    assert tuned.improved and tuned.by == "official" and tuned.model == model
    assert card.class_thresholds is not None and card.class_thresholds == tuned.thresholds
    assert 0.44 <= card.class_thresholds[0] < 0.8 and 0.2 <= card.class_thresholds[3] < 0.3
    assert tuned.before["localization_f1"] == pytest.approx(6 / 7)  # the ruins are missed
    assert tuned.after["score"] == pytest.approx(1, abs=1e-5)
    assert card.metrics["the 1 scene it was tuned on"]["score"] == 1


def test_what_was_promised_is_what_evaluate_measures(tmp_path):
    model, scene = save_encoded(tmp_path / "m"), write_scene(tmp_path / "data", FAINT_RUINS + SHY_MINOR)
    tuned = tune_model(model, [scene])
    pixels = evaluate(open_predictor(model), [scene]).report.pixels
    assert (
        pixels.score == pytest.approx(tuned.after["score"]) and tuned.after["score"] > tuned.before["score"]
    )
    assert pixels.localization_f1 == pytest.approx(tuned.after["localization_f1"])


def test_class_weights_bring_a_shy_class_forward(tmp_path):
    model, scene = save_encoded(tmp_path / "m"), write_scene(tmp_path / "data", SHY_MINOR)
    tuned = tune_model(model, [scene])
    weights = load_card(model).damage_weights
    assert weights == tuned.damage_weights and weights[0] == 1
    assert 0.5 / 0.3 <= weights[1] <= 0.7 / 0.2  # between the ratios of the two stripes
    assert tuned.before["f1_minor-damage"] == 0 and tuned.after["score"] == pytest.approx(1, abs=1e-5)


def test_new_weights_multiply_those_of_the_card(tmp_path):
    model = save_encoded(tmp_path / "m", damage_weights=(2.0, 1.0, 2.0, 2.0))  # minor is held back twice over
    tuned = tune_model(model, [write_scene(tmp_path / "data", SHY_MINOR)])
    assert tuned.after["score"] == pytest.approx(1, abs=1e-5)
    weights = load_card(model).damage_weights
    assert weights is not None and weights[0] == 1 and 0.5 / 0.3 <= weights[1] <= 0.7 / 0.2


@pytest.mark.parametrize("what", ["thresholds", "weights"])
def test_one_of_the_two_can_be_left_alone(tmp_path, what):
    model = save_encoded(tmp_path / "m", building_threshold=0.4)
    tune_model(model, [write_scene(tmp_path / "data", FAINT_RUINS + SHY_MINOR)], what=what)
    card = load_card(model)
    weights = set(card.damage_weights or ())
    assert (weights <= {1.0}) == (what == "thresholds")
    assert (Decision.of(card).thresholds == (0.4,) * 4) == (what == "weights")


def test_a_localization_model_gets_one_threshold(tmp_path):
    model = save_encoded(tmp_path / "m", damage=False)
    tuned = tune_model(model, [write_scene(tmp_path / "data", [(1, 0.3, *SURE[1]), (0, 0.2, *SURE[1])])])
    card = load_card(model)
    assert tuned.by == "localization" and card.class_thresholds is None and card.damage_weights is None
    assert 0.2 <= card.building_threshold < 0.3 and tuned.after["localization_f1"] == 1


def test_a_copy_leaves_the_original_alone(tmp_path):
    model = save_encoded(tmp_path / "m")
    original = (model / "card.json").read_bytes()
    tuned = tune_model(model, [write_scene(tmp_path / "data", FAINT_RUINS)], out=tmp_path / "tuned")
    assert tuned.model == tmp_path / "tuned" and (model / "card.json").read_bytes() == original
    assert load_card(tmp_path / "tuned").class_thresholds == tuned.thresholds
    assert "Building thresholds: no-damage" in (tmp_path / "tuned" / "README.md").read_text()
    assert open_predictor(tmp_path / "tuned").sha256 == open_predictor(model).sha256


def test_an_ensemble_is_tuned_as_one_model(tmp_path):
    parts = [Ingredient(save_encoded(tmp_path / name)) for name in ("a", "b")]
    save_ensemble(tmp_path / "e", *compose("e", parts))
    tuned = tune_model(tmp_path / "e", [write_scene(tmp_path / "data", FAINT_RUINS)])
    assert tuned.after["score"] == pytest.approx(1, abs=1e-5)
    assert load_ensemble(tmp_path / "e").class_thresholds == tuned.thresholds
    assert load_card(tmp_path / "e" / "a").class_thresholds is None


def test_a_card_that_cannot_be_bettered_stays(tmp_path):
    model, scene = save_encoded(tmp_path / "m"), write_scene(tmp_path / "data", FAINT_RUINS)
    tune_model(model, [scene])
    best = load_card(model)
    again = tune_model(model, [scene])
    assert not again.improved and load_card(model) == best and again.after == again.before


def test_the_spread_of_minor_damage_is_part_of_what_is_compared(tmp_path):
    stripes = [(k, 0.9, *SURE[k]) for k in (1, 2, 1, 3, 4)] + [(0, 0.1, *SURE[1])]
    model = save_encoded(tmp_path / "m", minor_dilation="right")
    tuned = tune_model(model, [write_scene(tmp_path / "data", stripes)])
    # two of 16 rows of no damage on either side of the minor damage change: 28 of 32 rows stay
    assert tuned.before["f1_no-damage"] == pytest.approx(2 * 28 / (28 + 32))


def test_scenes_without_labels_are_refused(tmp_path):
    scene = write_scene(tmp_path / "data", FAINT_RUINS)
    bare = scene.model_copy(update={"building_mask": None, "damage_mask": None})
    with pytest.raises(DataError, match="none of the scenes has labels"):
        tune_model(save_encoded(tmp_path / "m"), [bare])


def test_labels_of_one_class_are_refused(tmp_path):
    scene = write_scene(tmp_path / "data", [(1, 0.9, *SURE[1]), (0, 0.1, *SURE[1])])
    with pytest.raises(DataError, match="hold no-damage alone"):
        tune_model(save_encoded(tmp_path / "m"), [scene])
    assert tune_model(save_encoded(tmp_path / "n"), [scene], by="localization").by == "localization"


def test_labels_without_background_are_refused(tmp_path):
    with pytest.raises(DataError, match="background or buildings alone"):
        tune_model(
            save_encoded(tmp_path / "m", damage=False), [write_scene(tmp_path / "d", [(1, 0.9, *SURE[1])])]
        )


def test_a_class_that_does_not_occur_is_left_out_of_the_score_aloud(tmp_path):
    scene = write_scene(tmp_path / "data", [(k, 0.4, *SURE[k]) for k in (1, 2, 3)] + [(0, 0.1, *SURE[1])])
    with pytest.warns(DataWarning, match="destroyed does not occur"):
        tuned = tune_model(save_encoded(tmp_path / "m"), [scene])
    assert tuned.by == "present" and tuned.after["score_present"] == pytest.approx(1, abs=1e-5)


def test_the_model_in_the_box_is_not_changed_in_place(tmp_path):
    with pytest.raises(ModelError, match="name a new folder with -o"):
        tune_model("box", [write_scene(tmp_path / "data", FAINT_RUINS)])


def test_a_folder_that_is_no_model_is_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(OutputError, match="is no model folder"):
        tune_model(
            save_encoded(tmp_path / "m"),
            [write_scene(tmp_path / "data", FAINT_RUINS)],
            out=tmp_path / "mine",
        )


def test_a_localization_model_has_no_official_score(tmp_path):
    with pytest.raises(ModelError, match="tells no damage"):
        tune_model(save_encoded(tmp_path / "m", damage=False), [], by="official")


def random_scene(seed):
    """Probabilities whose ratios of classes lie in the middle of the table's cells, and labels that follow them."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-9, 9, (3, 40, 50)) + 0.5
    logs = np.concatenate([np.zeros((1, 40, 50)), 0.2 * steps + 0.01 * np.arange(3)[:, None, None]])
    building = np.round(rng.beta(0.6, 0.6, (40, 50)), 2).clip(0.01, 0.99) - 0.005
    shares = np.exp(logs) / np.exp(logs).sum(0)
    likely = (logs + rng.gumbel(0, 0.7, logs.shape)).argmax(0) + 1
    target = np.where(rng.random((40, 50)) < building * np.array([1, 1.2, 1.4, 1.6])[likely - 1], likely, 0)
    return np.concatenate([1 - building[None], building * shares]), target.astype(np.uint8)


def exact(probabilities, target, thresholds, weights):
    score = Score()
    weighted = reweight(probabilities, np.array(weights))
    score.add(
        *decide(weighted, Decision(tuple(thresholds))), np.uint8(target > 0), target, event="e", scene="s"
    )
    return score.result(bootstrap=0).score


@pytest.mark.parametrize("seed", range(3))
def test_the_search_is_no_worse_than_many_drawn_answers_and_its_score_is_right(seed):
    probabilities, target = random_scene(seed)
    table = DecisionTable(4)
    table.add(probabilities, np.uint8(target > 0), target)
    choice = table.search((0.5,) * 4, by="official")
    found = exact(probabilities, target, choice.thresholds, choice.weights)
    assert found == pytest.approx(choice.score, abs=0.01)
    rng = np.random.default_rng(seed)
    drawn = [
        exact(probabilities, target, rng.uniform(0.05, 0.95, 4), [1, *np.exp(rng.uniform(-1.5, 1.5, 3))])
        for _ in range(200)
    ]
    assert found >= max(drawn) - 0.005


def test_with_equal_weights_the_table_scores_like_the_scorer():
    probabilities, target = random_scene(7)
    table = DecisionTable(4)
    table.add(probabilities, np.uint8(target > 0), target)
    found = table.search((0.5,) * 4, by="official", what="thresholds")
    grid = itertools.product((0.1, 0.3, 0.5, 0.7), repeat=4)
    best = max(exact(probabilities, target, thresholds, (1, 1, 1, 1)) for thresholds in grid)
    assert exact(probabilities, target, found.thresholds, (1, 1, 1, 1)) == pytest.approx(
        found.score, abs=2e-3
    )
    assert found.score >= best - 2e-3


def test_the_table_grows_with_what_differs_and_not_with_scenes():
    probabilities, target = random_scene(1)
    table = DecisionTable(4)
    sizes = []
    for _ in range(3):
        table.add(probabilities, np.uint8(target > 0), target)
        sizes.append(len(table))
    assert len(set(sizes)) == 1 and sizes[0] <= target.size
    assert table.damage_pixels().tolist() == [3 * int((target == k).sum()) for k in range(1, 5)]
    assert table.building_pixels() == (3 * int((target == 0).sum()), 3 * int((target > 0).sum()))


def test_a_table_that_grows_too_large_merges_ratios_and_still_finds_the_thresholds(monkeypatch):
    probabilities, target = random_scene(1)
    fine, coarse = DecisionTable(4), DecisionTable(4)
    fine.add(probabilities, np.uint8(target > 0), target)
    monkeypatch.setattr(tuning, "_MOST_ROWS", 1500)
    for half in (slice(0, 20), slice(20, 40)):
        coarse.add(probabilities[:, half], np.uint8(target[half] > 0), target[half])
    assert len(coarse) <= 1500 < len(fine) and coarse.building_pixels() == fine.building_pixels()
    found = [t.search((0.5,) * 4, by="official") for t in (fine, coarse)]
    scores = [exact(probabilities, target, c.thresholds, c.weights) for c in found]
    assert scores[1] == pytest.approx(scores[0], abs=0.03)


def test_unknown_pixels_take_no_part():
    probabilities, target = random_scene(2)
    table, masked = DecisionTable(4), DecisionTable(4)
    unknown = np.full((20, 50), 255, np.uint8)
    for part, one in ((table, False), (masked, True)):
        part.add(probabilities[:, :20], np.uint8(target[:20] > 0), target[:20])
        if one:
            part.add(probabilities[:, 20:], unknown, unknown)
    assert table.search((0.5,) * 4, by="official") == masked.search((0.5,) * 4, by="official")


@pytest.fixture
def prepared(tmp_path):
    scenes = [
        write_scene(tmp_path / "data", FAINT_RUINS),
        write_scene(tmp_path / "data", SHY_MINOR, name="town_00000002", split="test"),
    ]
    Manifest(kind="folder", scheme="joint-damage-scale", scenes=scenes).save(tmp_path / "data")
    return tmp_path / "data"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    return stopped.value.code, *capsys.readouterr()


def test_the_command_prints_json_alone(tmp_path, prepared, capsys):
    model = save_encoded(tmp_path / "m")
    code, out, _ = run(capsys, "tune-thresholds", model, prepared, "-o", tmp_path / "t", "--json")
    told = json.loads(out)
    assert code == 0 and told["model"] == str(tmp_path / "t") and told["scenes"] == 1 and told["improved"]
    assert told["after"]["score"] == pytest.approx(1, abs=1e-5) and len(told["thresholds"]) == 4


def test_the_command_shows_before_and_after_and_replaces_only_by_request(tmp_path, prepared, capsys):
    model = save_encoded(tmp_path / "m")
    arguments = ("tune-thresholds", model, prepared, "--split", "test", "-o", tmp_path / "t")
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "before" in out and "f1_minor-damage" in out and "written to" in out
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "pass --overwrite" in err
    assert run(capsys, *arguments, "--overwrite")[0] == 0


def test_the_command_needs_labels_in_the_split(tmp_path, prepared, capsys):
    code, _, err = run(capsys, "tune-thresholds", save_encoded(tmp_path / "m"), prepared, "--split", "train")
    assert code == 2 and "no labelled scenes in split train" in err
