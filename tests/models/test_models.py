import pytest
import torch

from aftermap.errors import ModelError, RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import CustomConfig, SiameseUnetConfig, UnetConfig
from aftermap.models.networks.dense import DenseModel, count_parameters
from aftermap.models.networks.encoders import folded
from aftermap.models.networks.siamese import pre_first_mix
from aftermap.models.weights.transfer import transfer_trunk

SMALL = {"encoder_name": "test_resnet", "encoder_depth": 4, "decoder_channels": (32, 24, 16, 16)}
CONFIGS = [
    UnetConfig(**SMALL),
    UnetConfig(**SMALL, head_stride=2),
    UnetConfig(encoder_name="mobilenetv3_small_050", decoder_channels=(32, 24, 16, 16, 8), in_channels=4),
    SiameseUnetConfig(**SMALL),
    SiameseUnetConfig(**SMALL, fold=2, head_stride=4),
    SiameseUnetConfig(**SMALL, fuse="decoder", head_stride=4),
    SiameseUnetConfig(**SMALL, fuse="difference", fold=2, pixel_skip=True, head_stride=2),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}-{c.encoder_name}-{c.head_stride}")
class TestEveryModel:
    def test_gives_a_logit_per_class_and_pixel(self, config):
        model = build_model(config).eval()
        image = torch.randn(2, model.dates, config.in_channels, 64, 96)
        assert model(image).shape == (2, config.classes, 64, 96)

    def test_is_the_head_of_its_features(self, config):
        torch.manual_seed(0)
        model = build_model(config).eval()
        image = torch.randn(1, model.dates, config.in_channels, 64, 64)
        features = model.forward_features(image)
        assert features.shape[-1] == 64 // config.head_stride
        assert torch.equal(model.forward_head(features, (64, 64)), model(image))

    def test_runs_its_encoder_once_per_batch(self, config):
        model = build_model(config).eval()
        calls = []
        model.encoder.register_forward_hook(lambda *_: calls.append(1))
        model(torch.randn(1, model.dates, config.in_channels, 64, 64))
        assert len(calls) == 1

    def test_has_a_gradient_for_every_parameter(self, config):
        torch.manual_seed(0)
        model = build_model(config)
        model(torch.randn(2, model.dates, config.in_channels, 64, 64)).square().mean().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_resnet18_unet_has_the_hand_counted_head():
    model = build_model(UnetConfig(encoder_depth=5))
    # decoder ends in 16 channels: 16 x 2 weights and 2 biases
    assert count_parameters(model.head) == 34
    # torchvision's resnet18 has 11,689,512 parameters, 513,000 of them in its classifier
    assert count_parameters(model.encoder) == 11_689_512 - 513_000


def test_late_fusion_without_change_sees_the_same_features_twice():
    torch.manual_seed(0)
    model = build_model(SiameseUnetConfig(**SMALL, fuse="decoder")).eval()
    image = torch.randn(1, 1, 3, 64, 64).expand(1, 2, 3, 64, 64)
    pre, post = model.forward_features(image).chunk(2, dim=1)
    assert torch.allclose(pre, post, atol=1e-5)


def test_the_difference_of_equal_dates_adds_nothing():
    torch.manual_seed(0)
    differing = build_model(SiameseUnetConfig(**SMALL, fuse="difference")).eval()
    plain = build_model(SiameseUnetConfig(**SMALL)).eval()
    weights = differing.state_dict()
    for name in [name for name in weights if name.startswith("mix.") and name.endswith("weight")]:
        weights[name] = weights[name][:, : 2 * len(weights[name])]  # (C, 3C, 1, 1): pre, post, difference
    plain.load_state_dict(weights)
    same, other = torch.randn(1, 1, 3, 64, 64).expand(1, 2, 3, 64, 64), torch.randn(1, 2, 3, 64, 64)
    assert torch.allclose(differing(same), plain(same), atol=1e-6)
    assert not torch.allclose(differing(other), plain(other), atol=1e-5)


def test_the_mix_starts_as_the_pre_image():
    mix = pre_first_mix(8)
    pre = torch.randn(1, 8, 4, 4)
    assert torch.allclose(mix(torch.cat([pre, torch.zeros_like(pre)], dim=1)), pre, atol=1e-6)


def test_a_siamese_model_grown_from_localization_starts_with_its_features():
    torch.manual_seed(0)
    single, double = build_model(UnetConfig(**SMALL)).eval(), build_model(SiameseUnetConfig(**SMALL)).eval()
    report = transfer_trunk(single, double)
    assert set(report.reshaped) == {"head.weight", "head.bias"}
    assert all(name.startswith("mix.") for name in report.kept)
    with torch.no_grad():
        for mix in double.mix:
            mix.weight[:, mix.out_channels :] = 0
    image = torch.randn(1, 2, 3, 64, 64)
    grown, own = double.forward_features(image), single.forward_features(image[:, :1])
    assert torch.allclose(grown, own, atol=1e-4)


def test_transfer_between_different_encoders_is_refused():
    other = build_model(
        UnetConfig(encoder_name="mobilenetv3_small_050", decoder_channels=(32, 24, 16, 16, 8))
    )
    with pytest.raises(ModelError, match="another encoder"):
        transfer_trunk(other, build_model(SiameseUnetConfig(**SMALL)))


def test_an_unknown_encoder_is_named_with_similar_ones():
    with pytest.raises(RecipeError, match=r"no encoder named 'resnet1888': similar names are resnet"):
        build_model(UnetConfig(encoder_name="resnet1888"))


def test_more_stages_than_the_encoder_has_are_refused():
    with pytest.raises(RecipeError, match="encoder convnext_atto has 4 stages, the recipe asks for 5"):
        build_model(UnetConfig(encoder_name="convnext_atto"))


def test_too_few_decoder_channels_are_refused():
    with pytest.raises(RecipeError, match="decoder_channels has 2 values, 5 are needed"):
        build_model(UnetConfig(decoder_channels=(32, 16)))


def test_an_encoder_starts_from_a_local_weight_file(tmp_path):
    source = build_model(UnetConfig(**SMALL))
    torch.save(source.encoder.body.state_dict(), tmp_path / "w.pth")
    copy = build_model(UnetConfig(**SMALL, encoder_weights=tmp_path / "w.pth"))
    name = "conv1.0.weight"
    assert torch.equal(copy.encoder.body.state_dict()[name], source.encoder.body.state_dict()[name])
    with pytest.raises(ModelError, match="no encoder weights"):
        build_model(UnetConfig(**SMALL, encoder_weights=tmp_path / "absent.pth"))


class Outsider(DenseModel):
    dates, classes, stride = 1, 2, 1

    def forward_features(self, image):
        return image[:, 0, :2]

    def forward_head(self, features, size):
        return features


def make_outsider():
    return Outsider()


def test_a_custom_model_is_built_by_its_target():
    model = build_model(CustomConfig(target=f"{__name__}:make_outsider", classes=2))
    assert isinstance(model, Outsider)
    with pytest.raises(RecipeError, match="cannot be imported"):
        build_model(CustomConfig(target="nowhere:nothing", classes=2))


def test_a_folded_image_holds_every_pixel_beside_its_neighbours():
    image = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    blocks = folded(image, 2)
    assert blocks.shape == (1, 8, 2, 2)
    # the bands of the upper left, upper right, lower left and lower right pixel of the first block
    assert blocks[0, :, 0, 0].tolist() == [0, 16, 1, 17, 4, 20, 5, 21]


def test_a_student_folded_from_its_teacher_starts_as_the_teacher_on_a_smaller_image():
    torch.manual_seed(0)
    teacher = build_model(UnetConfig(**SMALL | {"head_stride": 1})).eval()
    student = build_model(UnetConfig(**SMALL | {"fold": 2, "head_stride": 2})).eval()
    report = transfer_trunk(teacher, student)
    assert report.kept == report.reshaped == report.unused == ()
    image = torch.randn(1, 1, 3, 64, 64)
    small = torch.nn.functional.avg_pool2d(image[:, 0], 2)[:, None]
    assert torch.allclose(student.forward_features(image), teacher.forward_features(small), atol=1e-4)


def test_encoder_options_reach_timm():
    model = build_model(
        UnetConfig(encoder_depth=3, encoder_options={"channels": [8, 12, 16, 24]}, decoder_channels=(8, 8, 8))
    )
    assert model.encoder.channels[1:] == [8, 12]


def test_an_option_that_the_encoder_does_not_have_is_refused():
    with pytest.raises(RecipeError, match="does not take encoder_options"):
        build_model(UnetConfig(encoder_options={"colour": "blue"}))


def test_a_pixel_skip_keeps_the_names_and_starts_of_the_other_weights():
    torch.manual_seed(0)
    plain = build_model(SiameseUnetConfig(**SMALL, fold=2, head_stride=4))
    skipping = build_model(
        SiameseUnetConfig(
            **SMALL | {"decoder_channels": (32, 24, 16, 16)}, fold=2, pixel_skip=True, head_stride=2
        )
    )
    report = transfer_trunk(plain, skipping)
    new = {name.rpartition(".")[0] for name in (*report.kept, *report.reshaped)}
    assert {name for name in new if name.startswith("mix")} == {"mix.4"}
    assert skipping.mix[-1].in_channels == 2 * 12
    assert skipping(torch.randn(1, 2, 3, 64, 96)).shape == (1, 5, 64, 96)


@pytest.mark.parametrize("change", [{"encoder_depth": 10**30}, {"decoder_channels": (10**30, 16, 16)}])
def test_sizes_that_no_array_can_have_are_refused_in_one_line(change):
    config = UnetConfig(encoder_name="test_resnet", encoder_depth=3, decoder_channels=(16, 16, 16))
    with pytest.raises(RecipeError, match=r"^model: \S") as error:
        build_model(config.model_copy(update=change))
    assert len(str(error.value)) < 300
