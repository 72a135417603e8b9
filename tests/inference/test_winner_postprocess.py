"""The winner's post-processing, through ensemble folders whose members give prescribed maps."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.store import save_model
from aftermap.data.scene import Scene
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.postprocess import Decision, damage_classes, spread_minor, spread_minor_rows
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel
from aftermap.workflows.scoring.evaluate import decide
from aftermap.workflows.scoring.predict import predict_scenes

THRESHOLDS = (0.38, 0.13, 0.13, 0.14)


class Stored(DenseModel):
    """Gives the logits that it was made with, whatever it sees."""

    stride = 1

    def __init__(self, classes, dates, size):
        super().__init__()
        self.classes, self.dates = classes, dates
        self.register_buffer("stored", torch.zeros(classes, *size))

    def forward_features(self, image):
        return image

    def forward_head(self, features, size):
        return self.stored.expand(len(features), -1, -1, -1)


def save_stored(folder, maps, *, activation):
    """A model folder that gives maps uint8 (C, H, W), p(building) alone or the five channels of damage, or logits."""
    count, *size = maps.shape
    damage = count > 1
    model = Stored(count, 2 if damage else 1, size)
    if isinstance(maps, torch.Tensor):
        model.stored = maps
    elif activation == "softmax":
        values = between(maps)
        values = torch.cat([1 - values[1:].sum(0, keepdim=True), values[1:]])
        model.stored = values.log().float()
    else:
        model.stored = torch.logit(between(maps)).float()
    arguments = {"classes": count, "dates": model.dates, "size": size}
    card = Card(
        name=folder.name,
        model=CustomConfig(target="test_winner_postprocess:Stored", classes=count, arguments=arguments),
        dates=model.dates,
        scheme="joint-damage-scale" if damage else "building",
        activation=activation,
        channel_0="building" if damage and activation == "sigmoid" else "background",
        training=TrainingRecord(data="none", data_licence="none"),
        licence="MIT",
    )
    save_model(folder, model, card)
    return folder


def between(maps):
    """Probabilities between two bytes, so that cutting gives the lower."""
    return (torch.from_numpy(maps).double() + 0.5) / 255.01


def winner(tmp_path, localization, damage, *, minor_dilation="none", networks=12):
    """An ensemble folder of four localization networks and `networks` damage networks that all give these maps."""
    folders = [save_stored(tmp_path / f"loc-{n}", localization[None], activation="sigmoid") for n in range(4)]
    activations = ["sigmoid" if n % 4 == 1 else "softmax" for n in range(networks)]
    folders += [save_stored(tmp_path / f"cls-{n}", damage, activation=a) for n, a in enumerate(activations)]
    card, members = compose("winner", [Ingredient(path) for path in folders], compat_uint8=True)
    card = card.model_copy(update={"class_thresholds": THRESHOLDS, "minor_dilation": minor_dilation})
    save_ensemble(tmp_path / "winner", card, members)
    return tmp_path / "winner"


def p13():
    """Localization uint8 (12, 12) and the five stored damage channels."""
    classes = np.ones((12, 12), np.uint8)
    for (row, col), value in {
        (2, 2): 2, (3, 3): 3, (4, 4): 3, (4, 2): 4, (5, 2): 4, (6, 9): 3, (7, 9): 3, (9, 9): 2, (9, 11): 3, (11, 9): 4,
        (1, 7): 2, (1, 9): 2, (1, 11): 4, (0, 11): 4,
    }.items():  # fmt: skip
        classes[row, col] = value
    damage = np.full((5, 12, 12), 20, np.uint8)
    for value in range(1, 5):
        damage[value][classes == value] = 150
    localization = np.full((12, 12), 200, np.uint8)
    localization[11] = 0
    for place, value in {
        (11, 9): 36, (0, 5): 96, (0, 6): 97, (1, 7): 33, (1, 9): 34, (1, 11): 35, (0, 11): 36, (5, 5): 0
    }.items():  # fmt: skip
        localization[place] = value
    return localization, damage


LOCALIZATION = """
111110111111 111111101110 111111111111 111111111111 111111111111 111110111111
111111111111 111111111111 111111111111 111111111111 111111111111 000000000100
"""
COMPAT = """
222220122224 222221102220 222221122222 222221122222 224221111111 114110111111
111111111311 111111122222 111111122222 111111122222 111111122222 000000000400
"""
RIGHT = """
222220122224 222221102220 222221122222 222321122222 224231111111 114110111111
111111111311 111111122322 111111122222 111111122223 111111122222 000000000400
"""


def grid(text):
    return np.array([[int(digit) for digit in row] for row in text.split()], np.uint8)


@pytest.mark.parametrize(("mode", "expected"), [("compat", COMPAT), ("right", RIGHT)])
def test_sixteen_networks_of_the_winner_give_the_published_submission(tmp_path, mode, expected):
    localization, damage = p13()
    folder = winner(tmp_path, localization, damage, minor_dilation=mode)
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((12, 12, 3), np.uint8))
    scene = Scene(name="test_pre_00000_part1.png", event="test", pre=image, post=image, width=12, height=12)
    assert predict_scenes(open_predictor(folder), [scene], tmp_path / "submission") == 1
    written = {
        path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (tmp_path / "submission").iterdir()
    }
    assert set(written) == {"test_localization_00000_prediction.png", "test_damage_00000_prediction.png"}
    assert np.array_equal(written["test_localization_00000_prediction.png"], grid(LOCALIZATION))
    assert np.array_equal(written["test_damage_00000_prediction.png"], grid(expected))


def as_published(loc_logits, cls_logits):
    """The winner's two masks of what its networks gave: four views, bytes, sums in 64 bits, in its order."""
    views = (np.s_[:, :], np.s_[::-1, :], np.s_[:, ::-1], np.s_[::-1, ::-1])

    def stored(members):
        maps = [m[(slice(None), *view)] for m in members for view in views]
        return (np.asarray(maps).mean(axis=0) * 255).astype("uint8")

    building = [stored([torch.sigmoid(z).numpy() for z in seeds])[0] for seeds in loc_logits]
    damage = []
    for number, logits in enumerate(cls_logits):
        p = torch.sigmoid(logits) if number in (1, 5) else torch.softmax(logits, dim=0)
        p = p.numpy()
        if number not in (1, 5):
            p[0] = 1 - p[0]
        damage.append(stored([p]))
    loc = np.asarray(building).astype("float").sum(axis=0) / 4.0 / 255
    channels = np.asarray(damage).astype("float").sum(axis=0) / 12.0 / 255
    classes = channels[1:].argmax(axis=0) + 1
    mask = (loc > 0.38) | ((loc > 0.13) & (classes > 1) & (classes < 4)) | ((loc > 0.14) & (classes > 1))
    classes = classes * mask
    minor = classes == 2
    if minor.any():
        grown = cv2.dilate(minor.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        classes[(grown & classes) == 1] = 2
    sums = np.sort(np.asarray(damage).astype(int).sum(axis=0)[1:], axis=0)
    return mask.astype(np.uint8), classes.astype(np.uint8), int((sums[-1] == sums[-2])[mask].sum())


def test_the_published_files_are_averaged_without_a_pixel_of_difference(tmp_path):
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape):
        return torch.randn(shape, generator=generator)

    size = (64, 64)
    loc_logits = [[drawn(1, *size) - 0.9 for _ in range(3)] for _ in range(4)]
    first = [drawn(5, *size) for _ in range(6)]
    # the others with two levels of damage exchanged, so that in the sum these two are equally likely
    cls_logits = [*first[:4], *(z[[0, 1, 3, 2, 4]] for z in first[:4]), *first[4:], *first[4:]]
    cls_logits[10], cls_logits[11] = (z[[0, 1, 3, 2, 4]] for z in first[4:])
    parts = []
    for number, seeds in enumerate(loc_logits):
        for seed, logits in enumerate(seeds):
            folder = save_stored(tmp_path / f"loc-{number}-{seed}", logits, activation="sigmoid")
            parts.append(Ingredient(folder, "localization", weight=1 / 3, group=f"loc-{number}"))
    for number, logits in enumerate(cls_logits):
        activation = "sigmoid" if number in (1, 5) else "softmax"
        parts.append(
            Ingredient(save_stored(tmp_path / f"cls-{number}", logits, activation=activation), "damage")
        )
    card, members = compose("winner", parts, compat_uint8=True)
    card = card.model_copy(update={"class_thresholds": THRESHOLDS, "minor_dilation": "compat"})
    save_ensemble(tmp_path / "winner", card, members)
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((*size, 3), np.uint8))
    scene = Scene(name="test_pre_00000", event="test", pre=image, post=image, width=64, height=64)
    predict_scenes(open_predictor(tmp_path / "winner", Options(tta="flips")), [scene], tmp_path / "out")
    found = [
        cv2.imread(str(tmp_path / "out" / f"test_{task}_00000_prediction.png"), cv2.IMREAD_UNCHANGED)
        for task in ("localization", "damage")
    ]
    building, classes, ties = as_published(loc_logits, cls_logits)
    assert ties > 500 and 0.2 < building.mean() < 0.9
    assert (found[0] != building).sum() == 0 and (found[1] != classes).sum() == 0


def test_metadamagenets_worked_ensemble_comes_out_with_its_quirk(tmp_path):
    damage = np.zeros((5, 16, 16), np.uint8)
    damage[1] = 200
    localization = np.zeros((16, 16), np.uint8)
    localization[1:6, 1:11] = 120
    for value, block in {2: np.s_[2:5, 2:5], 3: np.s_[2:5, 6:9], 4: np.s_[10:13, 10:13]}.items():
        damage[value][block] = 220
        localization[block] = 36 if value == 4 else 40
    localization[13, 13], localization[0, 0] = 40, 97
    maps = {value: (damage[value] / 255).astype(np.float32) for value in range(1, 5)}
    shares = np.stack(list(maps.values()))
    p = (localization / np.float32(255)).astype(np.float32)
    probabilities = np.concatenate([(1 - p)[None], p * shares / shares.sum(0)])
    building, classes = decide(probabilities, Decision(THRESHOLDS, "compat"))
    assert building.sum() == 60 and np.bincount((classes * building).ravel(), minlength=5).tolist() == [
        196,
        14,
        31,
        6,
        9,
    ]
    assert building[13, 13] == 0 and (classes[2:5, 6] == 2).all()


def test_truncated_members_average_like_the_published_bytes(tmp_path):
    folders = [
        save_stored(tmp_path / f"m{n}", np.full((1, 2, 2), 7 + 20 * n, np.uint8), activation="sigmoid")
        for n in range(12)
    ]
    card, members = compose("twelve", [Ingredient(path) for path in folders], compat_uint8=True)
    save_ensemble(tmp_path / "twelve", card, members)
    p = open_predictor(tmp_path / "twelve").predict(np.zeros((1, 1, 3, 2, 2), np.uint8))
    assert np.allclose(p[0, 1], 0.458824, atol=1e-6)  # (7 + 27 + ... + 227) / 12 / 255


def test_seeds_of_a_group_are_averaged_before_they_are_cut(tmp_path):
    values = (10, 11)  # cut alone they give 10.5; their mean lies just below 11 and is cut to 10
    folders = [
        save_stored(tmp_path / f"m{v}", np.full((1, 2, 2), v, np.uint8), activation="sigmoid") for v in values
    ]
    found = []
    for group in (None, "resnet34"):
        parts = [Ingredient(path, group=group) for path in folders]
        card, members = compose("pair", parts, compat_uint8=True)
        save_ensemble(tmp_path / "pair", card, members)
        found.append(
            open_predictor(tmp_path / "pair").predict(np.zeros((1, 1, 3, 2, 2), np.uint8))[0, 1, 0, 0]
        )
    assert found == pytest.approx([10.5 / 255, 10 / 255], abs=1e-6)


@pytest.mark.parametrize(
    ("building", "level", "expected"),
    [(0.38, 1, 0), (0.39, 1, 1), (0.13, 2, 0), (0.131, 2, 2), (0.131, 3, 3), (0.139, 4, 0), (0.141, 4, 4)],
)
def test_each_class_has_its_own_threshold(building, level, expected):
    p = np.full((5, 1, 1), 0.01 * building, np.float32)
    p[level] = 0.97 * building
    p[0] = 1 - np.float32(building)
    assert damage_classes(p, np.zeros((1, 1), np.uint8), Decision(THRESHOLDS))[0, 0] == expected


def test_minor_damage_takes_over_no_damage_alone_or_major_damage_too():
    damage = np.array([[2, 1, 3, 1, 4], [0, 255, 1, 4, 1]], np.uint8)
    assert spread_minor(damage, "right").tolist() == [[2, 2, 3, 1, 4], [0, 255, 2, 4, 1]]
    assert spread_minor(damage, "compat").tolist() == [[2, 2, 2, 1, 4], [0, 255, 2, 4, 1]]
    assert spread_minor(damage, "none").tolist() == damage.tolist()


@given(st.data(), st.sampled_from(["none", "right", "compat"]))
def test_bands_of_rows_spread_like_the_whole_scene(data, mode):
    height = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    damage = rng.choice([0, 1, 1, 1, 2, 3, 4, 255], (height, 7)).astype(np.uint8)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(height - 1, 1)), max_size=8)) & set(range(1, height)))
    bands = np.split(damage, cuts)
    assert np.array_equal(
        np.concatenate(list(spread_minor_rows(iter(bands), mode))), spread_minor(damage, mode)
    )


def test_few_rows_are_held_at_a_time():
    handed, taken = 0, 0

    def bands():
        nonlocal taken
        for _ in range(100):
            taken += 8
            yield np.full((8, 4), 1, np.uint8)

    for band in spread_minor_rows(bands(), "right"):
        handed += len(band)
        assert taken - handed <= 2
    assert handed == 800
