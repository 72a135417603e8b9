"""Every listed architecture of segmentation_models_pytorch behind our model protocol, single and siamese."""

import typing

import pytest
import timm
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.store import load_model, save_model
from aftermap.errors import ModelError, RasterError, RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import SmpConfig
from aftermap.models.configs.libraries import Architecture
from aftermap.models.weights.transfer import transfer_trunk
from narrow_smp import config_of


def image_of(model, batch=2):
    size = (128, 160) if model.least_px > 64 else (64, 96)
    return torch.randn(batch, model.dates, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", typing.get_args(Architecture))
class TestEveryArchitecture:
    @pytest.mark.parametrize("dates", [1, 2])
    def test_gives_the_logits_of_its_features_twice_the_same(self, architecture, dates):
        torch.manual_seed(0)
        model = build_model(config_of(architecture, dates=dates)).eval()
        image = image_of(model)
        with torch.no_grad():
            logits = model(image)
            size = (image.shape[-2], image.shape[-1])
            assert logits.shape == (2, 5, *size)
            assert torch.equal(logits, model.forward_head(model.forward_features(image), size))
            assert torch.equal(logits, model(image))

    @pytest.mark.parametrize("fusion", ["concat", "difference", "decoder"])
    def test_every_weight_learns_and_pre_is_not_post(self, architecture, fusion):
        torch.manual_seed(0)
        model = build_model(config_of(architecture, dates=2, fusion=fusion))
        image = image_of(model)
        calls = []
        model.encoder.register_forward_hook(lambda *_: calls.append(1))
        model(image).square().mean().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == [] and len(calls) == 1
        assert sum(float(p.grad.abs().sum()) for p in model.encoder.parameters()) > 0
        with torch.no_grad():
            model.eval()
            assert not torch.allclose(model(image), model(image.flip(1)), atol=1e-6)

    def test_a_saved_model_comes_back_the_same(self, architecture, tmp_path):
        torch.manual_seed(0)
        config = config_of(architecture, dates=2, encoder_weights="imagenet")
        model = build_model(config.model_copy(update={"encoder_weights": None})).eval()
        record = TrainingRecord(data="none", data_licence="none")
        card = Card(
            name="x", dates=2, scheme="joint-damage-scale", model=config, licence="MIT", training=record
        )
        save_model(tmp_path / "model", model, card)
        with torch.no_grad():
            image = image_of(model, 1)
            assert torch.equal(load_model(tmp_path / "model").model(image), model(image))

    def test_a_size_that_does_not_divide_is_refused(self, architecture):
        model = build_model(config_of(architecture)).eval()
        height = model.least_px + model.stride // 2
        with pytest.raises(RasterError, match=f"multiples of {model.stride} pixels, found {height} x"):
            model(torch.zeros(1, 1, 3, height, 4 * model.least_px))


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [("upernet", "swin_tiny_patch4_window7_224"), ("fpn", "tu-convnext_atto"), ("unet", "mit_b0")],
)
def test_transformers_take_any_size_that_divides(architecture, encoder):
    model = build_model(SmpConfig(architecture=architecture, encoder_name=encoder, dates=2, classes=5)).eval()
    with torch.no_grad():
        for size in ((64, 96), (160, 32)):
            assert model(torch.randn(1, 2, 3, *size)).shape == (1, 5, *size)


def test_identical_dates_leave_nothing_to_a_difference():
    torch.manual_seed(0)
    model = build_model(config_of("fpn", dates=2, fusion="difference")).eval()
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, given: seen.extend(given[0][1:]))
    with torch.no_grad():
        model(torch.randn(1, 1, 3, 64, 64).expand(1, 2, 3, 64, 64))
    assert max(float(stage.abs().max()) for stage in seen) < 1e-5


def test_a_siamese_model_grown_from_localization_starts_with_its_features():
    torch.manual_seed(0)
    single = build_model(config_of("fpn", classes=2)).eval()
    double = build_model(config_of("fpn", dates=2)).eval()
    report = transfer_trunk(single, double)
    assert all(name.startswith("mix.") for name in report.kept)
    with torch.no_grad():
        for mix in double.mix.values():
            mix.weight[:, mix.out_channels :] = 0
        image = torch.randn(1, 2, 3, 64, 64)
        assert torch.allclose(
            double.forward_features(image), single.forward_features(image[:, :1]), atol=1e-4
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder_name": "resnet1888"}, "has an encoder named .resnet1888.: similar names are resnet"),
        ({"encoder_name": "vit_tiny_patch16_224"}, "Unsupported model downsampling"),
        ({"architecture": "deeplabv3plus", "encoder_name": "swin_tiny_patch4_window7_224"}, "cannot be dilated"),
        ({"architecture": "unetplusplus", "encoder_name": "mit_b0"}, "cannot be built on mit_b0"),
        ({"architecture": "dpt", "encoder_name": "vit_small_patch14_dinov2"}, "patches of 14 pixels"),
        ({"architecture": "dpt", "encoder_name": "mit_b0"}, "timm has no encoder named 'mit_b0'"),
        ({"arguments": {"widths": 3}}, "cannot be built on resnet10t: .*widths"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_line(changes, said):
    with pytest.raises(RecipeError, match=said) as error:
        build_model(SmpConfig(**{"architecture": "fpn", "encoder_name": "resnet10t", **changes}))
    assert "\n" not in str(error.value)


def test_sizes_are_refused_by_what_the_encoder_or_the_decoder_needs():
    with pytest.raises(RasterError, match="takes images of 224 x 224 pixels only, found 64 x 64"):
        build_model(SmpConfig(architecture="fpn", encoder_name="hiera_tiny_224"))(
            torch.zeros(1, 1, 3, 64, 64)
        )
    with pytest.raises(RasterError, match="at least 128 pixels, found 64 x 256"):
        build_model(config_of("pan"))(torch.zeros(1, 1, 3, 64, 256))


def test_batches_that_cannot_be_normalised_are_refused():
    model = build_model(config_of("deeplabv3plus"))
    with pytest.raises(RecipeError, match="set batch_size to 2 or more"):
        model(torch.zeros(1, 1, 3, 64, 64))
    assert model.eval()(torch.zeros(1, 1, 3, 64, 64)).shape == (1, 5, 64, 64)


@pytest.mark.parametrize("architecture", ["fpn", "dpt"])
def test_a_timm_encoder_starts_from_a_file(architecture, tmp_path):
    config = config_of(architecture)
    state = timm.create_model(config.encoder_name).state_dict()
    torch.save(state, tmp_path / "w.pth")
    built = build_model(config_of(architecture, dates=2, encoder_weights=tmp_path / "w.pth"))
    own = built.encoder.model.state_dict()
    key = "blocks.11.mlp.fc2.weight" if architecture == "dpt" else "layer4.0.conv2.weight"
    assert torch.equal(own[key], state[key])


def test_an_encoder_that_only_smp_has_starts_from_a_file(tmp_path):
    torch.manual_seed(1)
    state = get_encoder("mit_b0", weights=None).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    config = SmpConfig(architecture="fpn", encoder_name="mit_b0", encoder_weights=tmp_path, in_channels=4)
    own = build_model(config).encoder.state_dict()
    assert torch.equal(own["block4.1.mlp.fc2.weight"], state["block4.1.mlp.fc2.weight"])
    # smp spreads the weights of three bands over four
    assert own["patch_embed1.proj.weight"].shape[1] == 4
    assert torch.allclose(
        own["patch_embed1.proj.weight"][:, 0], state["patch_embed1.proj.weight"][:, 0] * 3 / 4
    )
    state.pop("norm4.bias")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"does not fit encoder mit_b0: it lacks 1 weights, such as norm4\.bias"
    ):
        build_model(config)
