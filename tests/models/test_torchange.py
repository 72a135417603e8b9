"""ChangeOS through torchange: the package's own numbers, joined to five classes, and its weights as a model folder."""

import hashlib
import logging
import sys
from importlib.util import find_spec

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aftermap.artefacts.changeos import XVIEW2_WEIGHTS, import_torchange
from aftermap.artefacts.store import load_card, load_model
from aftermap.errors import ModelError, RasterError
from aftermap.models.build import build_model
from aftermap.models.configs import TorchangeConfig
from aftermap.models.networks import torchange

pytestmark = pytest.mark.skipif(find_spec("torchange") is None, reason="needs the extra torchange")

ENCODERS = ["resnet18", "resnet34", "resnet50", "resnet101", "swin_t"]


@pytest.fixture(scope="module")
def swin():
    torch.manual_seed(0)
    return build_model(TorchangeConfig()).eval()


@pytest.fixture(scope="module")
def resnet():
    """The smallest of them, for what is alike in all."""
    torch.manual_seed(0)
    return build_model(TorchangeConfig(encoder_name="resnet18")).eval()


def pair(batch=1):
    return torch.randn(batch, 2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_branches_are_the_packages_own(name):
    torch.manual_seed(0)
    model = build_model(TorchangeConfig(encoder_name=name)).eval()
    theirs = torchange.build_changeos(name).eval()
    theirs.load_state_dict(model.state_dict())  # the same names
    image = pair()
    with torch.no_grad():
        localization, damage = model.branches(model.forward_features(image), (64, 96))
        expected = theirs(image.flatten(1, 2))  # pre and post side by side, (B, 6, H, W)
    assert torch.allclose(localization.sigmoid(), expected.t1_semantic_prediction, atol=1e-6)
    assert torch.allclose(damage.softmax(dim=1), expected.change_prediction, atol=1e-6)


def test_the_joined_classes_share_out_the_probability_of_a_building(resnet):
    with torch.no_grad():
        features = resnet.forward_features(pair())
        localization, damage = resnet.branches(features, (64, 96))
        joined = resnet.forward_head(features, (64, 96)).softmax(dim=1)
    building, kinds = localization.sigmoid(), damage.softmax(dim=1)[:, 1:]
    assert torch.allclose(joined[:, :1], 1 - building, atol=1e-6)
    assert torch.allclose(joined[:, 1:], building * kinds / kinds.sum(dim=1, keepdim=True), atol=1e-6)


def test_gives_logits_gradients_and_an_order_of_dates(resnet):
    image = pair(2)
    logits = resnet(image)
    assert logits.shape == (2, 5, 64, 96)
    logits[:, 3].mean().backward()
    assert sum(float(p.grad.abs().sum()) for p in resnet.encoder.parameters()) > 0
    resnet.zero_grad()
    with torch.no_grad():
        assert torch.equal(resnet(image), resnet(image))
        assert not torch.allclose(resnet(image), resnet(image.flip(1)), atol=1e-4)


def test_a_size_that_does_not_divide_is_refused(swin):
    with pytest.raises(RasterError, match="multiples of 32 pixels, found 64 x 80"):
        swin(torch.zeros(1, 2, 3, 64, 80))


def test_the_package_changes_nothing_for_others(swin):
    import torchvision

    assert torchvision.models.swin_t(weights=None).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
    assert logging.getLogger().level != logging.INFO


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchange.models.changeos", None)
    torchange._torchange.cache_clear()
    try:
        with pytest.raises(
            ModelError, match=r"needs the package torchange .*: pip install 'aftermap\[changeos\]'"
        ):
            build_model(TorchangeConfig())
    finally:
        torchange._torchange.cache_clear()


def test_weights_become_a_model_folder_that_says_where_they_are_from(resnet, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({f"_orig_mod.{k}": v for k, v in resnet.state_dict().items()}, file)
    card = import_torchange(file, tmp_path / "model", data="some towns", licence="cc-by-4.0")
    assert card.model == TorchangeConfig(encoder_name="resnet18") and card.licence == "cc-by-4.0"
    assert card.training.parent_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card.training.data == "some towns" and card == load_card(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model").model(pair()), resnet(pair()))


def test_a_model_folder_answers_through_the_predictor(resnet, tmp_path):
    from aftermap.inference.predictor import Predictor

    save_file(resnet.state_dict(), tmp_path / "model.safetensors")
    import_torchange(tmp_path, tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    probabilities = Predictor(load_model(tmp_path / "model")).predict(image[None])[0]
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    normalised = (image.transpose(0, 2, 3, 1) - mean) / std
    with torch.no_grad():
        expected = resnet(torch.tensor(normalised, dtype=torch.float32).permute(0, 3, 1, 2)[None]).softmax(
            dim=1
        )[0]
    assert np.allclose(probabilities, expected.numpy(), atol=1e-5)


def test_published_weights_come_from_the_hubs_cache_with_their_licence(swin, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = XVIEW2_WEIGHTS.removeprefix("hf://")
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(swin.state_dict(), snapshot / "model.safetensors")
    (snapshot / "README.md").write_text("---\nlibrary_name: torchange\nlicense: apache-2.0\n---\n# A model\n")
    card = import_torchange(XVIEW2_WEIGHTS, tmp_path / "model")
    assert card.licence == "apache-2.0" and card.training.data_licence == "CC BY-NC-SA 4.0"
    assert XVIEW2_WEIGHTS in card.training.command


def test_weights_of_another_network_are_refused(swin, tmp_path):
    state = dict(swin.state_dict())
    state["head.dam_cls.0.weight"] = state["head.dam_cls.0.weight"][:4].clone()
    save_file(state, tmp_path / "four.safetensors")
    with pytest.raises(
        ModelError, match=r"nearest \(swin_t\) 1 names or shapes differ, it has head\.dam_cls\.0"
    ):
        import_torchange(tmp_path / "four.safetensors", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_programs_of_others_are_not_run(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "changeos_r18.pt")
    with pytest.raises(ModelError, match="is a TorchScript program"):
        import_torchange(tmp_path / "changeos_r18.pt", tmp_path / "model")


def test_an_encoder_starts_from_a_file(tmp_path):
    import torchvision

    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    config = TorchangeConfig(encoder_name="resnet18", encoder_weights=tmp_path / "resnet18.pth")
    assert torch.equal(
        build_model(config).encoder.resnet.layer4[1].conv2.weight, state["layer4.1.conv2.weight"]
    )
    with pytest.raises(ModelError, match=r"download swin_t-704ceda3\.pth"):
        build_model(TorchangeConfig(encoder_weights="imagenet"))


def test_the_command_turns_a_weight_file_into_a_model_folder(resnet, tmp_path, capsys):
    from aftermap.cli.app import main

    save_file(resnet.state_dict(), tmp_path / "model.safetensors")
    words = ["weights", "import", str(tmp_path / "model.safetensors"), "--as", "changeos", "-o"]
    with pytest.raises(SystemExit) as stop:
        main([*words, str(tmp_path / "made")])
    assert stop.value.code == 0 and "changeos-resnet18" in capsys.readouterr().out
    assert load_card(tmp_path / "made").model.kind == "torchange"
    with pytest.raises(SystemExit) as stop:
        main([*words, str(tmp_path / "other"), "--partial"])
    assert stop.value.code == 2 and not (tmp_path / "other").exists()
