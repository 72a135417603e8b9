"""Encoder weights come from a file, a folder or a cache without any network, and are refused where they do not fit."""

import socket

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import SiameseUnetConfig, UnetConfig
from aftermap.models.weights.pretrained import (
    create_timm,
    encoder_file,
    load_weights,
    local_file,
    read_weights,
)

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise OSError("sockets are blocked in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path


def weights_of(name, seed=1):
    torch.manual_seed(seed)
    return timm.create_model(name).state_dict()


def in_hub_cache(caches, repository, state, file="model.safetensors"):
    """A repository as the hub's client lays it out in its cache."""
    folder = caches / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    (folder / "blobs").mkdir(parents=True)
    (folder / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    save_file(state, folder / "blobs" / "abc")
    (snapshot / file).symlink_to("../../blobs/abc")


def test_imagenet_takes_the_tag_of_the_originals_from_the_hub_cache(caches):
    state = weights_of("resnet34")
    in_hub_cache(caches, "timm/resnet34.tv_in1k", state)
    model = build_model(UnetConfig(encoder_name="resnet34", encoder_weights="imagenet"))
    for key in ("conv1.weight", "layer4.2.conv2.weight", "bn1.running_var"):
        assert torch.equal(model.encoder.body.state_dict()[key], state[key])


def test_imagenet_takes_other_encoders_by_their_default_tag(caches):
    state = weights_of("resnet10t")
    in_hub_cache(caches, "timm/resnet10t.c3_in1k", state)
    body = create_timm("resnet10t", weights="imagenet", features_only=True)
    assert torch.equal(body.state_dict()["layer4.0.conv2.weight"], state["layer4.0.conv2.weight"])


def test_a_tag_in_the_name_is_kept(caches):
    state = weights_of("resnet34")
    in_hub_cache(caches, "timm/resnet34.a1_in1k", state)
    assert encoder_file("resnet34.a1_in1k", "imagenet").name == "model.safetensors"
    with pytest.raises(ModelError, match=r"timm/resnet34\.tv_in1k"):
        encoder_file("resnet34", "imagenet")


def test_weights_published_outside_the_hub_are_found_in_torchs_cache(caches):
    file = caches / "torch" / "checkpoints" / "legacy_se_resnext50_32x4d-f3651bad.pth"
    file.parent.mkdir(parents=True)
    torch.save(weights_of("legacy_seresnext50_32x4d"), file)
    assert encoder_file("legacy_seresnext50_32x4d", "imagenet") == file


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet34", r"model\.safetensors of https://huggingface\.co/timm/resnet34\.tv_in1k into the cache"),
        ("dpn92", r"timm/dpn92\.mx_in1k"),
        ("efficientnet_b4", r"timm/efficientnet_b4\.ra2_in1k"),
        ("legacy_senet154", r"put https://github\.com/.*/legacy_senet154-e9eb9fe6\.pth at .*checkpoints"),
    ],
)
def test_without_network_the_message_says_which_file_belongs_where(name, said):
    with pytest.raises(ModelError, match=said) as error:
        encoder_file(name, "imagenet")
    assert "cannot be fetched" in str(error.value) and "\n" not in str(error.value)


def test_a_folder_with_a_whole_network_is_enough(tmp_path):
    state = weights_of("convnext_atto")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "pytorch_model.bin")
    body = create_timm("convnext_atto", weights=tmp_path, features_only=True)
    # the trunk's names differ from the whole network's: stages.0. became stages_0.
    assert torch.equal(
        body.state_dict()["stages_0.blocks.0.norm.weight"], state["stages.0.blocks.0.norm.weight"]
    )
    assert "state_dict" not in body.pretrained_cfg


def test_a_fourth_band_starts_from_the_mean_of_three(tmp_path):
    state = weights_of("resnet10t")
    torch.save(state, tmp_path / "w.pth")
    first = create_timm("resnet10t", weights=tmp_path / "w.pth", in_channels=1).state_dict()["conv1.0.weight"]
    assert torch.allclose(first, state["conv1.0.weight"].sum(dim=1, keepdim=True), atol=1e-6)


def test_weights_of_another_network_are_refused_by_the_first_missing_name(tmp_path):
    save_file(weights_of("mobilenetv3_small_050"), tmp_path / "other.safetensors")
    with pytest.raises(
        ModelError, match=r"does not fit encoder resnet10t: it lacks \d+ weights, such as conv1\.0"
    ):
        create_timm("resnet10t", weights=tmp_path / "other.safetensors", features_only=True)


def test_weights_of_another_width_are_refused_by_name(tmp_path):
    state = weights_of("resnet10t")
    state["layer3.0.conv1.weight"] = state["layer3.0.conv1.weight"][:, :8].clone()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        ModelError, match=r"does not fit encoder resnet10t: size mismatch for layer3\.0\.conv1"
    ):
        create_timm("resnet10t", weights=tmp_path / "w.safetensors", features_only=True)


def test_a_module_takes_only_weights_of_its_own_names_and_shapes(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))
    save_file({"0.weight": torch.zeros(4, 3, 1, 1), "0.bias": torch.ones(4)}, tmp_path / "fits.safetensors")
    load_weights(module, tmp_path / "fits.safetensors", what="the stem")
    assert module[0].bias.tolist() == [1, 1, 1, 1]
    save_file({"0.weight": torch.zeros(4, 2, 1, 1), "0.bias": torch.ones(4)}, tmp_path / "wide.safetensors")
    with pytest.raises(ModelError, match=r"0\.weight is \(4, 2, 1, 1\), expected \(4, 3, 1, 1\)"):
        load_weights(module, tmp_path / "wide.safetensors", what="the stem")


def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "short.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    for name in ("text.pth", "short.safetensors"):
        with pytest.raises(ModelError, match="is not a plain weight file") as error:
            read_weights(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_folder_with_several_files_asks_which(tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"should hold one weight file, found a\.pth, b\.pth"):
        local_file(tmp_path)


def test_a_saved_model_needs_no_encoder_weights(caches, tmp_path):
    from aftermap.artefacts.card import Card, TrainingRecord
    from aftermap.artefacts.store import load_model, save_model

    in_hub_cache(caches, "timm/resnet10t.c3_in1k", weights_of("resnet10t"))
    config = SiameseUnetConfig(
        encoder_name="resnet10t",
        encoder_weights="imagenet",
        encoder_depth=4,
        decoder_channels=(16, 16, 16, 8),
    )
    model = build_model(config)
    card = Card(
        name="x",
        dates=2,
        scheme="joint-damage-scale",
        model=config,
        licence="MIT",
        training=TrainingRecord(data="none", data_licence="none"),
    )
    save_model(tmp_path / "model", model, card)
    (caches / "hub").rename(caches / "gone")
    loaded = load_model(tmp_path / "model").model
    assert torch.equal(loaded.state_dict()["encoder.body.conv1.0.weight"], model.encoder.body.conv1[0].weight)
