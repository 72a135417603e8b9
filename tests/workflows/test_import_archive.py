from types import MappingProxyType

import numpy as np
import pytest
import torch

from aftermap.artefacts.ensemble import load_ensemble
from aftermap.errors import ModelError
from aftermap.inference.ensemble import open_predictor
from aftermap.models.build import build_model
from aftermap.models.configs import Xview2UnetConfig
from aftermap.models.weights import published
from aftermap.models.weights.published import Published
from aftermap.workflows.weights import import_weights
from aftermap.workflows.weights.archives import STEMS, UNTUNED
from aftermap.workflows.weights.import_archive import import_archive
from aftermap.workflows.weights.import_weights import KeysError
from published_checkpoints import as_the_winner_saved, golden_meta

WIDTHS = (16, 12, 8, 8, 8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The winner's 24 files, of small networks, named as the container that was evaluated wanted them."""
    folder = tmp_path_factory.mktemp("xview2_1st_weights")
    for stem, name in STEMS.items():
        torch.manual_seed(len(stem))
        state = build_model(small(name).config).state_dict()
        end = "1" if name in UNTUNED else "tuned2" if stem == "res50_cls_cce" else "tuned"
        for seed in range(3):
            tree = as_the_winner_saved(
                state, prefix=stem.startswith(("res34", "se154")), best_score=0.7 + seed / 10
            )
            torch.save(tree, folder / f"{stem}_{seed}_{end}_best")
    return folder


def small(name):
    """A network with the role and the card of a published one, and a small encoder."""
    dates = 1 if name.endswith("localization") else 2
    entry = ORIGINAL[name]
    config = Xview2UnetConfig(
        encoder_name="mobilenetv3_small_050",
        dates=dates,
        classes=entry.config.classes,
        decoder_channels=WIDTHS,
    )
    facts = {
        key: getattr(entry, key) for key in ("system", "activation", "channel_0", "bands", "mean", "std")
    }
    return Published(config=config, keys=lambda _, names: {key: key for key in names}, **facts)


ORIGINAL = published.PUBLISHED


@pytest.fixture
def small_networks(monkeypatch):
    table = MappingProxyType({name: small(name) for name in STEMS.values()})
    monkeypatch.setattr(published, "PUBLISHED", table)
    monkeypatch.setattr(import_weights, "PUBLISHED", table)
    published._layout.cache_clear()
    published.original_keys.cache_clear()
    yield
    published._layout.cache_clear()
    published.original_keys.cache_clear()


def linked(files, folder, leave_out=()):
    """A folder with the winner's files but some."""
    folder.mkdir()
    for path in files.iterdir():
        if not path.name.startswith(tuple(leave_out) or ("-",)):
            (folder / path.name).hardlink_to(path)
    return folder


@pytest.mark.usefixtures("small_networks")
def test_the_winners_archive_becomes_an_ensemble_that_decides_as_it_did(files, tmp_path):
    steps = []
    done = import_archive(files, tmp_path / "winner", on_member=lambda *step: steps.append(step))
    card = load_ensemble(tmp_path / "winner")
    assert [sum(m.role == role for m in card.members) for role in ("localization", "damage")] == [12, 12]
    assert card.class_thresholds == (0.38, 0.13, 0.13, 0.14)
    assert (card.minor_dilation, card.compat_uint8, card.averaging) == ("right", False, "probabilities")
    groups = {member.group for member in card.members if member.role == "localization"}
    assert len(groups) == 4 and {member.group for member in card.members if member.role == "damage"} == {None}
    assert all(report.fits for report in done.reports.values()) and done.gaps == ()
    assert done.files["seresnext50-damage-1"].name == "res50_cls_cce_1_tuned2_best"
    assert (card.licence, card.training.data_licence) == ("MIT", "CC BY-NC-SA 4.0")
    assert [step[1:] for step in steps] == [(n, 24) for n in range(1, 25)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["winner"]
    image = np.random.default_rng(0).integers(0, 256, (1, 2, 3, 32, 32), np.uint8)
    probabilities = open_predictor(tmp_path / "winner").predict(image)
    assert probabilities.shape == (1, 5, 32, 32)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.usefixtures("small_networks")
def test_a_gap_is_refused_by_its_file_name(files, tmp_path):
    source = linked(files, tmp_path / "some", ["res50_cls_cce_1", "se154_loc_0"])
    with pytest.raises(ModelError) as caught:
        import_archive(source, tmp_path / "winner")
    text = str(caught.value)
    assert "lacks 2 of the 24 files" in text and "se154_loc_0_1_best" in text
    assert "res50_cls_cce_1_tuned_best" in text
    assert not (tmp_path / "winner").exists()


@pytest.mark.usefixtures("small_networks")
def test_gaps_are_allowed_by_request_and_said_on_the_card(files, tmp_path):
    only = ("res34_loc_0", "res34_loc_1", "dpn92_loc_0", "res34_cls2_0")
    others = [path.name for path in files.iterdir() if not path.name.startswith(only)]
    done = import_archive(linked(files, tmp_path / "some", others), tmp_path / "w", partial=True, compat=True)
    weights = {member.folder: member.weight for member in done.card.members}
    assert weights == {
        "dpn92-localization-0": 1,
        "resnet34-damage-0": 1,
        "resnet34-localization-0": 0.5,
        "resnet34-localization-1": 0.5,
    }
    assert len(done.gaps) == 20 and done.card.limits.startswith(
        "Not the published ensemble: of its 24 files it lacks "
    )
    assert (done.card.minor_dilation, done.card.compat_uint8) == ("compat", True)


@pytest.mark.usefixtures("small_networks")
def test_a_file_from_before_the_tuning_is_not_taken_silently(files, tmp_path):
    source = linked(files, tmp_path / "some", ["dpn92_loc_0"])
    (source / "dpn92_loc_0_0_best").hardlink_to(files / "dpn92_loc_0_tuned_best")
    with pytest.raises(ModelError, match=r"with dpn92_loc_0_0_best in its place"):
        import_archive(source, tmp_path / "winner")


@pytest.mark.usefixtures("small_networks")
def test_a_file_that_is_not_what_its_name_says_leaves_nothing_behind(files, tmp_path):
    source = linked(files, tmp_path / "some", ["dpn92_loc_0"])
    (source / "dpn92_loc_0_tuned_best").hardlink_to(files / "dpn92_cls_cce_0_tuned_best")
    with pytest.raises(KeysError, match="is not xview2-dpn92-localization"):
        import_archive(source, tmp_path / "winner")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["some"]


def test_metadamagenets_folders_become_an_ensemble_of_mean_logits(tmp_path):
    for kind, name in (("localizer", "localization"), ("classifier", "damage")):
        folder = tmp_path / "models" / f"efficientunetb0{kind}V00S0"
        folder.mkdir(parents=True)
        torch.save(golden_meta(f"metadamagenet-efficientunet-b0-{name}"), folder / "model.pth")
    done = import_archive(tmp_path / "models", tmp_path / "m")
    assert (done.card.averaging, done.card.class_thresholds, done.card.minor_dilation) == (
        "logits",
        None,
        "none",
    )
    assert {m.folder: m.role for m in done.card.members} == {
        "efficientunet-b0-damage-0": "damage",
        "efficientunet-b0-localization-0": "localization",
    }
    assert all(report.fits for report in done.reports.values())
