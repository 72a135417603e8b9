"""Checkpoints of the Open Cities system, with and without what its training left in them (section 14)."""

import pytest
import torch

from aftermap.artefacts.ensemble import load_ensemble
from aftermap.artefacts.store import load_model
from aftermap.inference.predictor import Predictor
from aftermap.models.weights.published import original_shapes
from aftermap.workflows.weights.archives import OPEN_CITIES, file_names, recognise_file
from aftermap.workflows.weights.import_archive import import_archive
from aftermap.workflows.weights.import_weights import KeysError, best_fit, import_weights
from published_fills import golden_fill


@pytest.fixture(scope="module")
def state():
    """The golden fill of B1 under the original's names."""
    return golden_fill(original_shapes("opencities-b1"))


def trained(state):
    """What the original's training saved."""
    optimizer = {"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    return {"epoch": 3, "best_loss": 0.25, "state_dict": state, "optimizer": optimizer}


def test_a_stripped_file_gives_the_original_networks_values(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "m40000.pth")
    done = import_weights(tmp_path / "m40000.pth", "opencities-b1", tmp_path / "model")
    assert (len(done.report.matched), done.report.total, done.report.fits) == (575, 575, True)
    model = load_model(tmp_path / "model").model
    x = torch.sin(0.01 * torch.arange(12288, dtype=torch.float64)).float().reshape(1, 1, 3, 64, 64)
    with torch.inference_mode():
        heads = model(x, heads=True)
    assert heads.map[0, :, 7, 9].tolist() == pytest.approx([-0.19884, 0.11312], abs=2e-4)
    assert heads.presence[0].tolist() == pytest.approx([0.04268, 0.10210], abs=2e-4)


def test_a_file_with_the_optimizer_gives_the_same_weights_and_its_epoch(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "bare.pth")
    torch.save(trained(state), tmp_path / "m.pth")
    bare = import_weights(tmp_path / "bare.pth", "opencities-b1", tmp_path / "a")
    whole = import_weights(tmp_path / "m.pth", "opencities-b1", tmp_path / "b")
    assert whole.card.weights.sha256 == bare.card.weights.sha256
    assert whole.card.training.data.endswith("file m.pth, epoch 3")
    assert set(whole.report.ignored) == {"best_loss", "optimizer"}


def test_the_card_says_how_the_network_was_fed_and_what_it_learned_from(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "m40000.pth")
    card = import_weights(tmp_path / "m40000.pth", "opencities-b1", tmp_path / "model").card
    assert (card.name, card.scheme, card.dates, card.activation) == (
        *("opencities-b1-0", "building", 1),
        "softmax",
    )
    assert card.normalisation.mean == pytest.approx((123.675, 116.28, 103.53))
    assert card.building_threshold == 0.57
    assert card.resolution_m == (0.03, 0.5) and "xBD" not in card.limits + card.training.data
    assert "CC BY-SA 4.0 (SpaceNet)" in card.training.data_licence


def test_an_imported_network_predicts_resized_probabilities(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "m40000.pth")
    import_weights(tmp_path / "m40000.pth", "opencities-b1", tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    raw = torch.arange(3 * 64 * 64).reshape(1, 1, 3, 64, 64).remainder(251).to(torch.uint8)
    mean, std = (
        torch.tensor(v).reshape(3, 1, 1)
        for v in (loaded.card.normalisation.mean, loaded.card.normalisation.std)
    )
    with torch.inference_mode():
        cells = torch.softmax(loaded.model((raw - mean) / std, heads=True).map, dim=1)
    expected = torch.nn.functional.interpolate(cells, size=(64, 64), mode="bilinear", align_corners=False)
    found = torch.from_numpy(Predictor(loaded).predict(raw.numpy()))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_strict_import_names_what_is_missing_and_what_it_is_instead(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "m40000.pth")
    with pytest.raises(KeysError, match=r"is not opencities-b2: .*these are the weights of opencities-b1$"):
        import_weights(tmp_path / "m40000.pth", "opencities-b2", tmp_path / "m")
    torch.save({"state_dict": {k: v for k, v in state.items() if k != "dice.weight"}}, tmp_path / "cut.pth")
    with pytest.raises(KeysError, match=r"574 of 575 keys match, 1 missing \(dice\.weight\)"):
        import_weights(tmp_path / "cut.pth", "opencities-b1", tmp_path / "m")


def test_both_networks_are_told_by_their_keys():
    for name in ("opencities-b1", "opencities-b2"):
        shapes = original_shapes(name)
        best = best_fit({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
        assert best.name == name and best.fits


def test_files_are_known_by_the_names_of_the_release(tmp_path):
    assert file_names("opencities-b1") == "m40000.pth"
    assert file_names("opencities-b2").startswith("ave.pth, ave2.pth, mb2-m20000.pth")
    found = [recognise_file(tmp_path / name) for name in OPEN_CITIES]
    assert [one.name for one in found] == list(OPEN_CITIES.values())
    assert len({one.seed for one in found}) == 7


def test_a_folder_of_files_becomes_an_ensemble_in_which_every_run_has_one_voice(state, tmp_path):
    source = tmp_path / "released"
    source.mkdir()
    other = golden_fill(original_shapes("opencities-b2"))
    for name in ("m40000.pth", "ave.pth", "ave2.pth"):
        torch.save({"state_dict": state if OPEN_CITIES[name].endswith("b1") else other}, source / name)
    done = import_archive(source, tmp_path / "ensemble")
    members = load_ensemble(tmp_path / "ensemble").members
    assert [(m.folder, m.role, m.weight) for m in members] == [
        ("b1-0", "localization", 1.0),
        ("b2-1", "localization", 1.0),
        ("b2-2", "localization", 1.0),
    ]
    assert (
        done.card.training.data.startswith("Open Cities AI and SpaceNet") and done.card.scheme == "building"
    )
    assert done.card.building_threshold == 0.54
