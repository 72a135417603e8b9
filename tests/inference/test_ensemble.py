import json

import numpy as np
import pytest
import torch

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.ensemble import (
    Ingredient,
    compose,
    is_ensemble,
    load_ensemble,
    read_card,
    save_ensemble,
)
from aftermap.artefacts.ensemble_card import EnsembleMember
from aftermap.artefacts.store import load_model, save_model
from aftermap.errors import ModelError
from aftermap.inference import ensemble as module
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.predictor import Predictor
from aftermap.inference.tiling import predict_scene
from aftermap.models.build import build_model
from aftermap.models.configs import CustomConfig, SiameseUnetConfig, UnetConfig
from aftermap.models.networks.dense import DenseModel
from colour_town import save_colour_model

ANYTHING = TrainingRecord(data="none", data_licence="none")


class Tone(DenseModel):
    """One logit: `gain` times a band of the first date."""

    dates, classes, stride = 1, 1, 2

    def __init__(self, gain, band=0):
        super().__init__()
        self.gain, self.band = torch.nn.Parameter(torch.tensor(float(gain))), band

    def forward_features(self, image):
        return image[:, 0, self.band : self.band + 1]

    def forward_head(self, features, size):
        return features * self.gain


def save_tone(folder, gain, *, band=0, **card):
    config = CustomConfig(target="test_ensemble:Tone", classes=1, arguments={"gain": 0, "band": band})
    values = {
        "scheme": "building",
        "dates": 1,
        "activation": "sigmoid",
        "training": ANYTHING,
        "licence": "MIT",
    }
    values |= {"name": folder.name, "model": config} | card
    save_model(folder, Tone(gain, band), Card(**values))
    return folder


def save_siamese(folder, seed, **card):
    torch.manual_seed(seed)
    config = SiameseUnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(16, 16, 16))
    values = {"scheme": "joint-damage-scale", "dates": 2, "training": ANYTHING, "licence": "MIT"}
    save_model(folder, build_model(config), Card(name=folder.name, model=config, **values | card))
    return folder


def make(folder, parts, **options):
    """An ensemble folder of ingredients, or of folders."""
    parts = [part if isinstance(part, Ingredient) else Ingredient(part) for part in parts]
    card, members = compose(folder.name, parts, **options)
    save_ensemble(folder, card, members)
    return folder


def pictures(dates=2, size=(32, 64), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (2, dates, 3, *size), dtype=np.uint8)


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
@pytest.mark.parametrize("tta", ["none", "full"])
def test_twice_the_same_model_is_that_model(tmp_path, averaging, tta):
    path = save_siamese(tmp_path / "one", 0, temperature=1.5, damage_weights=(1.0, 2.0, 0.5, 1.0))
    twins = make(tmp_path / "twins", [path, path], averaging=averaging)
    options = Options(tta=tta, averaging=averaging)
    one, two = (open_predictor(p, options).predict(pictures()) for p in (path, twins))
    assert np.abs(one - two).max() < 2e-6


def test_an_ensemble_of_one_is_its_member(tmp_path):
    path = save_tone(tmp_path / "m", 2.0)
    alone = make(tmp_path / "alone", [path])
    found, expected = (open_predictor(p).predict(pictures(1)) for p in (alone, path))
    assert np.allclose(found, expected, atol=1e-6) and found.shape[1] == 2


def test_weights_decide_the_mean(tmp_path):
    a, b = save_tone(tmp_path / "a", 1.0), save_tone(tmp_path / "b", -3.0)
    mixed = make(tmp_path / "mixed", [Ingredient(a, weight=3), Ingredient(b, weight=1)])
    pa, pb, pm = (open_predictor(p).predict(pictures(1)) for p in (a, b, mixed))
    assert np.allclose(pm, 0.75 * pa + 0.25 * pb, atol=1e-6)


def test_logits_are_averaged_before_one_activation(tmp_path):
    a, b = save_tone(tmp_path / "a", 1.0), save_tone(tmp_path / "b", 3.0, temperature=2.0)
    mixed = make(tmp_path / "mixed", [a, b], averaging="logits")
    x = pictures(1)[:, 0, 0] / 127.5 - 1
    expected = 1 / (1 + np.exp(-(x + 1.5 * x) / 2))
    assert np.allclose(open_predictor(mixed).predict(pictures(1))[:, 1], expected, atol=1e-6)


def test_localization_members_place_buildings_and_damage_members_judge_them(tmp_path):
    parts = [save_tone(tmp_path / "loc", 2.0), save_siamese(tmp_path / "cls", 1)]
    found = open_predictor(make(tmp_path / "both", parts)).predict(pictures())
    located = open_predictor(parts[0]).predict(pictures()[:, :1])
    judged = open_predictor(parts[1]).predict(pictures())
    assert np.allclose(found[:, 0], located[:, 0], atol=1e-6)
    shares = judged[:, 1:] / judged[:, 1:].sum(axis=1, keepdims=True)
    assert np.allclose(found[:, 1:], located[:, 1:2] * shares, atol=1e-6)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6)


def test_a_damage_model_can_be_a_localization_member(tmp_path):
    a, b = save_siamese(tmp_path / "a", 1), save_siamese(tmp_path / "b", 2)
    parts = [Ingredient(a, role="localization"), Ingredient(b, role="damage")]
    found, of_a = (
        open_predictor(make(tmp_path / "e", parts)).predict(pictures()),
        open_predictor(a).predict(pictures()),
    )
    assert np.allclose(found[:, 0], of_a[:, 0], atol=1e-6)


def test_members_keep_their_own_bands_and_normalisation(tmp_path):
    bgr = {"bands": ("blue", "green", "red"), "normalisation": Normalisation(mean=(127,) * 3, std=(127,) * 3)}
    parts = [save_tone(tmp_path / "rgb", 1.0), save_tone(tmp_path / "bgr", 1.0, **bgr)]
    found = open_predictor(make(tmp_path / "e", parts)).predict(pictures(1))[:, 1]
    red, blue = pictures(1)[:, 0, 0] / 127.5 - 1, pictures(1)[:, 0, 2] / 127 - 1
    assert np.allclose(found, (1 / (1 + np.exp(-red)) + 1 / (1 + np.exp(-blue))) / 2, atol=1e-6)


def test_members_of_different_strides_share_a_multiple(tmp_path):
    torch.manual_seed(0)
    config = UnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(16, 16, 16))
    card = Card(name="u", model=config, dates=1, scheme="building", training=ANYTHING, licence="MIT")
    save_model(tmp_path / "u", build_model(config), card)
    both = make(tmp_path / "e", [tmp_path / "u", save_tone(tmp_path / "t", 1.0)])
    assert open_predictor(tmp_path / "u").multiple == 8 and open_predictor(both).multiple == 8


def test_the_published_mean_of_two_aggregated_models(tmp_path):
    # MetaDamageNet's Mean of k = 1 and k = 3, worked in its specification on sin(i) + sin(1.3 i)
    parts = [save_tone(tmp_path / "one", 1.0), save_tone(tmp_path / "three", 3.0)]
    x = np.array([np.sin(i) + np.sin(1.3 * i) for i in range(4)])
    for path in parts:
        loaded = load_model(path)
        card = loaded.card.model_copy(update={"normalisation": Normalisation(mean=(0,) * 3, std=(1,) * 3)})
        save_model(path, loaded.model, card)
    images = np.broadcast_to(x.astype(np.float32), (1, 1, 3, 2, 4))
    found = open_predictor(make(tmp_path / "mean", parts, averaging="logits")).predict(images)[0, 1, 0]
    assert found == pytest.approx([0.500000, 0.973662, 0.945298, 0.250999], abs=1e-6)


def test_low_memory_holds_one_member_at_a_time_and_changes_nothing(tmp_path, monkeypatch):
    parts = [
        save_tone(tmp_path / "loc", 2.0),
        save_siamese(tmp_path / "a", 1),
        save_siamese(tmp_path / "b", 2),
    ]
    folder = make(tmp_path / "e", parts)
    alive, most = 0, 0

    class Counted(Predictor):
        def __init__(self, *arguments, **options):
            nonlocal alive, most
            super().__init__(*arguments, **options)
            alive, most = alive + 1, max(most, alive + 1)

        def __del__(self):
            nonlocal alive
            alive -= 1

    plain = open_predictor(folder).predict(pictures())
    monkeypatch.setattr(module, "Predictor", Counted)
    frugal = open_predictor(folder, Options(low_memory=True))
    assert np.array_equal(frugal.predict(pictures()), plain) and most == 1
    assert len(open_predictor(folder)._held) == 3


def test_each_member_runs_once_per_window_and_view(tmp_path, monkeypatch):
    calls = []
    forward = Tone.forward_features
    monkeypatch.setattr(Tone, "forward_features", lambda self, image: calls.append(1) or forward(self, image))
    folder = make(tmp_path / "e", [save_tone(tmp_path / "a", 1.0), save_tone(tmp_path / "b", 2.0)])
    predictor = open_predictor(folder, Options(tta="flips"))
    predictor.predict(pictures(1))
    assert len(calls) == 2 * 4


def test_a_scene_in_windows_is_the_scene_in_one_piece(tmp_path):
    parts = [save_tone(tmp_path / "loc", 2.0), save_colour_model(tmp_path / "colours")]
    predictor = open_predictor(make(tmp_path / "e", parts), Options(tta="full"))
    images = pictures(size=(96, 160))[0]
    whole = predictor.predict(images[None])[0]
    from aftermap.geo.grid import Grid
    from aftermap.inference.tiling import Sample, predict_rows

    def read(window):
        part = images[(..., *window.slices)]
        return Sample(part, np.ones((2, *part.shape[-2:]), bool), np.zeros(part.shape[-2:], np.uint8))

    bands = predict_rows(read, predictor, Grid.pixels(160, 96), window_px=64, halo_px=16)
    assert np.allclose(np.concatenate([b.probabilities for b in bands], axis=1), whole, atol=1e-5)
    assert np.allclose(predict_scene(predictor, images), whole, atol=1e-6)


def test_the_hash_tells_members_weights_and_averaging_apart(tmp_path):
    a, b = save_tone(tmp_path / "a", 1.0), save_tone(tmp_path / "b", 2.0)
    cards = {
        "plain": make(tmp_path / "1", [a, b]),
        "again": make(tmp_path / "2", [a, b]),
        "logits": make(tmp_path / "3", [a, b], averaging="logits"),
        "weights": make(tmp_path / "4", [Ingredient(a, weight=2), Ingredient(b)]),
        "members": make(tmp_path / "5", [a, a]),
    }
    hashes = {name: open_predictor(path).sha256 for name, path in cards.items()}
    assert hashes.pop("again") == hashes["plain"] and len(set(hashes.values())) == 4


def test_the_card_combines_what_its_members_say(tmp_path):
    a = save_tone(
        tmp_path / "a", 1.0, building_threshold=0.3, resolution_m=(0.2, 1.0), limits="Not at night."
    )
    b = save_siamese(tmp_path / "b", 0, resolution_m=(0.3, 2.0), building_threshold=0.9)
    folder = make(tmp_path / "e", [a, b])
    card = read_card(folder)
    assert is_ensemble(folder) and not is_ensemble(a) and read_card(a).name == "a"
    assert (card.dates, card.scheme, card.building_threshold) == (2, "joint-damage-scale", 0.3)
    assert (card.resolution_m, card.limits, card.licence) == ((0.3, 1.0), "Not at night.", "MIT")
    assert [m.sha256 for m in card.members] == [load_model(p).sha256 for p in (a, b)]
    text = (folder / "README.md").read_text()
    assert "Ensemble of 2 models" in text and "`b`: damage, weight 1" in text


def test_members_of_one_name_get_different_folders(tmp_path):
    (tmp_path / "x").mkdir(), (tmp_path / "y").mkdir()
    parts = [save_tone(tmp_path / d / "tone", g) for d, g in (("x", 1.0), ("y", 2.0))]
    assert [m.folder for m in load_ensemble(make(tmp_path / "e", parts)).members] == ["tone", "tone-2"]


def test_models_of_runs_are_named_after_their_runs(tmp_path):
    (tmp_path / "run-1").mkdir()
    folder = make(tmp_path / "e", [save_tone(tmp_path / "run-1" / "model", 1.0)])
    assert [m.folder for m in load_ensemble(folder).members] == ["run-1"]


def test_a_changed_member_is_noticed(tmp_path):
    folder = make(tmp_path / "e", [save_tone(tmp_path / "a", 1.0)])
    save_tone(folder / "a", 5.0)
    with pytest.raises(ModelError, match="holds other weights"):
        open_predictor(folder)


def test_a_missing_member_is_named(tmp_path):
    folder = make(tmp_path / "e", [save_tone(tmp_path / "a", 1.0)])
    (folder / "a").rename(tmp_path / "gone")
    with pytest.raises(ModelError, match=r"no model at .*a"):
        open_predictor(folder)


def test_a_building_model_cannot_judge_damage(tmp_path):
    parts = [
        Ingredient(save_tone(tmp_path / "t", 1.0), role="damage"),
        Ingredient(save_siamese(tmp_path / "s", 0)),
    ]
    with pytest.raises(
        ModelError, match=r"make no ensemble: .* with damage members|cannot be a damage member"
    ):
        make(tmp_path / "e", parts)
    assert not (tmp_path / "e").exists()


def test_logits_of_different_kinds_are_not_averaged(tmp_path):
    other = {"activation": "sigmoid", "channel_0": "building"}
    folder = make(tmp_path / "e", [save_siamese(tmp_path / "a", 0), save_siamese(tmp_path / "b", 1, **other)])
    open_predictor(folder)
    with pytest.raises(ModelError, match="cannot be averaged"):
        open_predictor(folder, Options(averaging="logits"))


def test_eight_bit_rounding_does_not_go_with_logits(tmp_path):
    path = save_tone(tmp_path / "a", 1.0)
    for name in (path, make(tmp_path / "e", [path])):
        with pytest.raises(ModelError, match="cannot go with averaging logits"):
            open_predictor(name, Options(averaging="logits", compat_uint8=True))
    with pytest.raises(ModelError, match="cannot go with averaging logits"):
        make(tmp_path / "f", [path], averaging="logits", compat_uint8=True)


def test_one_model_can_be_cut_to_eight_bits_too(tmp_path):
    path = save_tone(tmp_path / "a", 1.0)
    plain, cut = (
        open_predictor(path, Options(compat_uint8=c)).predict(pictures(1))[:, 1] for c in (None, True)
    )
    assert np.allclose(cut, np.floor(plain * 255) / 255, atol=1e-6)


def test_an_ensemble_is_no_member(tmp_path):
    folder = make(tmp_path / "e", [save_tone(tmp_path / "a", 1.0)])
    with pytest.raises(ModelError, match="is an ensemble already"):
        make(tmp_path / "f", [folder])


def test_members_outside_the_folder_are_refused(tmp_path):
    folder = make(tmp_path / "e", [save_tone(tmp_path / "a", 1.0)])
    tree = json.loads((folder / "ensemble.json").read_text())
    tree["members"][0]["folder"] = "../a"
    (folder / "ensemble.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match="plain names"):
        open_predictor(folder)


def test_weights_are_positive():
    with pytest.raises(ValueError, match="greater than 0"):
        EnsembleMember(folder="a", role="damage", weight=0)
