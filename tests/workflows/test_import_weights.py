import hashlib
import json

import numpy as np
import pytest
import torch

import aftermap
from aftermap.artefacts.card import Normalisation
from aftermap.artefacts.store import load_card, load_model
from aftermap.errors import ModelError, OutputError
from aftermap.inference.predictor import Predictor
from aftermap.models.weights.published import original_shapes
from aftermap.workflows.weights.import_weights import KeysError, best_fit, compare_keys, import_weights
from published_checkpoints import (
    as_the_winner_saved,
    golden_meta,
    golden_winner,
    meta_image,
    winner_image,
    winner_values,
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Imports a golden checkpoint once, and says where the model is."""
    made = {}

    def get(name, file, *, prefix=False):
        if name not in made:
            folder = tmp_path_factory.mktemp("imported")
            torch.save(as_the_winner_saved(golden_winner(name), prefix=prefix), folder / file)
            made[name] = import_weights(folder / file, name, folder / "model")
        return made[name]

    return get


def shapes(name):
    """The weights of a published network, without their values."""
    return {key: torch.empty(shape, device="meta") for key, shape in original_shapes(name).items()}


def test_the_fill_is_that_of_the_parity_values():
    expected = [0.4414772168, 0.4010023130, -0.6178061361, 0.3586276979]
    assert winner_values("conv1.0.weight", 4) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("name", "file", "prefix", "mean", "std", "inside"),
    [
        (
            *("xview2-resnet34-localization", "res34_loc_0_1_best", True),
            *(0.132518, 0.112956, [0.202389]),
        ),
        (
            *("xview2-resnet34-damage", "res34_cls2_0_tuned_best", True),
            *(-0.027245, 0.213098, [0.071404, 0.009402, -0.297639, -0.023499, 0.132116]),
        ),
        (
            *("xview2-seresnext50-damage", "res50_cls_cce_0_tuned2_best", True),
            *(-0.100784, 0.221697, [-0.155243, -0.204667, -0.265626, -0.218560, 0.249583]),
        ),
        (
            *("kd-student-damage", "cls_KD_1610592762_best_best", False),
            *(0.046893, 0.208810, [0.186149, -0.151858, 0.306700, -0.175872, -0.272642]),
        ),
    ],
)
def test_an_imported_checkpoint_gives_the_original_networks_outputs(
    imported, name, file, prefix, mean, std, inside
):
    loaded = aftermap.load_model(imported(name, file, prefix=prefix).folder)
    dates = loaded.card.dates
    blue_green_red = winner_image(3 * dates).reshape(1, dates, 3, 64, 64)
    logits = Predictor(loaded).logits(blue_green_red[:, :, ::-1])  # a predictor is handed red, green, blue
    assert (logits.mean().item(), logits.std().item()) == pytest.approx((mean, std), abs=3e-6)
    assert logits[0, :, 31, 17].tolist() == pytest.approx(inside, abs=3e-6)


def test_a_metadamagenet_folder_gives_the_original_networks_outputs(tmp_path):
    source = tmp_path / "efficientunetb0localizerV00S0"
    source.mkdir()
    torch.save(golden_meta("metadamagenet-efficientunet-b0-localization"), source / "model.pth")
    (source / "metadata.json").write_text(json.dumps({"best_score": 0.8, "trained_epochs": 30}))
    name = "metadamagenet-efficientunet-b0-localization"
    card = import_weights(source / "model.pth", name, tmp_path / "m").card
    with torch.inference_mode():
        logits = load_model(tmp_path / "m").model(meta_image()[:, None, :3])
    assert (logits.mean().item(), logits.std().item()) == pytest.approx((0.1933, 0.0302), abs=2e-4)
    assert logits[0, 0, 0, :2].tolist() == pytest.approx([0.25643, 0.26040], abs=2e-4)
    assert logits[0, 0, 31, 40].item() == pytest.approx(0.22227, abs=2e-4)
    assert card.name == f"{name}-0" and card.training.data.endswith("file model.pth, epoch 30")
    assert card.bands == ("red", "green", "blue") and card.normalisation.std == (127.5, 127.5, 127.5)


def test_the_card_says_how_the_original_fed_and_read_the_network(imported):
    card = imported("xview2-resnet34-damage", "res34_cls2_0_tuned_best", prefix=True).card
    assert (card.bands, card.dates, card.scheme) == (("blue", "green", "red"), 2, "joint-damage-scale")
    assert card.normalisation == Normalisation(mean=(127, 127, 127), std=(127, 127, 127))
    assert (card.activation, card.channel_0, card.licence) == ("sigmoid", "building", "MIT")
    card = imported("xview2-seresnext50-damage", "res50_cls_cce_0_tuned2_best", prefix=True).card
    assert (card.activation, card.channel_0) == ("softmax", "background")
    card = imported("xview2-resnet34-localization", "res34_loc_0_1_best", prefix=True).card
    assert (card.activation, card.dates, card.scheme) == ("sigmoid", 1, "building")


def test_the_card_says_where_the_weights_come_from(imported):
    done = imported("xview2-resnet34-damage", "res34_cls2_0_tuned_best", prefix=True)
    digest = hashlib.sha256(done.checkpoint.read_bytes()).hexdigest()
    card = load_card(done.folder)
    assert card.training.parent_sha256 == digest == done.sha256
    assert card.name == "xview2-resnet34-damage-0"
    assert card.training.data.endswith("file res34_cls2_0_tuned_best, epoch 12")
    assert card.metrics == {"its own training, on images it learned from": {"best_score": 0.8125}}
    assert "non-commercial" in card.limits and "INCOMPLETE" not in card.limits


def test_a_seed_and_a_licence_can_be_said(imported, tmp_path):
    done = imported("xview2-resnet34-localization", "res34_loc_0_1_best", prefix=True)
    card = import_weights(done.checkpoint, done.report.name, tmp_path / "m", seed=2, licence="mine").card
    assert (card.name, card.licence) == ("xview2-resnet34-localization-2", "mine")


@pytest.mark.parametrize(
    ("source", "target", "matched", "total"),
    [
        ("xview2-seresnext50", "xview2-seresnext50", 400, 402),
        ("xview2-dpn92", "xview2-dpn92", 613, 615),
        ("xview2-senet154", "xview2-senet154", 1160, 1162),
        ("xview2-resnet34", "xview2-resnet34", 234, 236),
        ("kd-student", "kd-student", 400, 402),
    ],
)
def test_from_localization_to_damage_everything_but_the_head_matches(source, target, matched, total):
    report = compare_keys(f"{target}-damage", shapes(f"{source}-localization"))
    assert (len(report.matched), report.total) == (matched, total)
    assert [wrong.key for wrong in report.wrong_shape] == ["res.weight", "res.bias"]
    assert report.missing == report.unexpected == ()


def test_the_teacher_matches_whole():
    report = compare_keys("xview2-seresnext50-damage", shapes("xview2-seresnext50-damage"))
    assert (len(report.matched), report.total, report.fits) == (402, 402, True)


def test_a_checkpoint_of_another_network_is_told_by_its_keys(imported, tmp_path):
    file = imported("xview2-resnet34-localization", "res34_loc_0_1_best", prefix=True).checkpoint
    with pytest.raises(KeysError) as caught:
        import_weights(file, "xview2-seresnext50-damage", tmp_path / "m")
    text = str(caught.value)
    assert "is not xview2-seresnext50-damage" in text and "missing (conv2.1.0.conv3.weight" in text
    assert text.endswith("these are the weights of xview2-resnet34-localization")
    assert list(tmp_path.iterdir()) == [] and "\n" not in text


@pytest.mark.parametrize(
    "name", ["kd-student-damage", "xview2-dpn92-localization", "metadamagenet-resnet34-damage"]
)
def test_every_network_is_nearest_to_itself(name):
    best = best_fit(shapes(name))
    assert best.name == name and best.fits


def test_what_fits_is_taken_by_request_and_the_card_says_what_is_random(imported, tmp_path):
    source = imported("xview2-resnet34-localization", "res34_loc_0_1_best", prefix=True)
    done = import_weights(source.checkpoint, "xview2-resnet34-damage", tmp_path / "m", partial=True, seed=3)
    assert (len(done.report.matched), len(done.report.wrong_shape)) == (234, 2)
    assert done.card.limits.startswith("INCOMPLETE: 2 of 236 weights (res.weight, res.bias) were not in the")
    ours, theirs = load_model(tmp_path / "m").model, load_model(source.folder).model
    assert torch.equal(ours.decoder.last[0].weight, theirs.decoder.last[0].weight)
    again = import_weights(source.checkpoint, "xview2-resnet34-damage", tmp_path / "n", partial=True, seed=3)
    assert again.card.weights.sha256 == done.card.weights.sha256


def test_with_nothing_in_common_even_the_partial_import_is_refused(tmp_path):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "f")
    with pytest.raises(KeysError, match=r"0 of 236 keys match, .*no published network has such keys"):
        import_weights(tmp_path / "f", "xview2-resnet34-damage", tmp_path / "m", partial=True)


def test_absent_batch_counters_are_reported_and_do_no_harm(imported, tmp_path):
    source = imported("xview2-resnet34-localization", "res34_loc_0_1_best", prefix=True)
    state = torch.load(source.checkpoint, weights_only=False)["state_dict"]
    old = {key: value.half() for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    done = import_weights(tmp_path / "old.pth", "xview2-resnet34-localization", tmp_path / "m")
    assert (len(done.report.matched), len(done.report.counters), done.report.fits) == (200, 36, True)
    assert done.card.weights.dtype == "float32"


def test_files_of_the_release_whose_gates_have_older_names_are_the_same(imported, tmp_path):
    source = imported("xview2-seresnext50-damage", "res50_cls_cce_0_tuned2_best", prefix=True)
    tree = torch.load(source.checkpoint, weights_only=False)
    older = {key.replace(".se_module.fc", ".se_fc"): value for key, value in tree["state_dict"].items()}
    torch.save(tree | {"state_dict": older}, tmp_path / "res50_cls_cce_0_tuned_best")
    done = import_weights(tmp_path / "res50_cls_cce_0_tuned_best", source.report.name, tmp_path / "m")
    assert (len(done.report.matched), len(done.report.renamed), done.report.fits) == (402, 64, True)
    assert done.card.weights.sha256 == source.card.weights.sha256


def test_an_unexpected_key_is_refused_and_named(imported, tmp_path):
    source = imported("xview2-resnet34-localization", "res34_loc_0_1_best", prefix=True)
    state = torch.load(source.checkpoint, weights_only=False)["state_dict"]
    torch.save(state | {"auxiliary.weight": torch.zeros(2)}, tmp_path / "f")
    with pytest.raises(
        KeysError, match=r"236 of 236 keys match, 1 unexpected \(auxiliary\.weight\): --partial"
    ):
        import_weights(tmp_path / "f", "xview2-resnet34-localization", tmp_path / "m")


def test_weights_that_are_not_finite_are_refused(imported, tmp_path):
    source = imported("xview2-resnet34-localization", "res34_loc_0_1_best", prefix=True)
    state = torch.load(source.checkpoint, weights_only=False)["state_dict"]
    state["module.res.bias"][0] = np.nan
    torch.save(state, tmp_path / "f")
    with pytest.raises(ModelError, match=r"res\.bias holds values that are not finite"):
        import_weights(tmp_path / "f", "xview2-resnet34-localization", tmp_path / "m")


def test_wrong_names_and_outputs_are_explained(tmp_path):
    with pytest.raises(ModelError, match="no published network is named 'xview2-resnet34-loc'"):
        import_weights(tmp_path / "f", "xview2-resnet34-loc", tmp_path / "m")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    with pytest.raises(OutputError, match="is no model folder"):
        import_weights(tmp_path / "f", "xview2-resnet34-damage", tmp_path / "home")
