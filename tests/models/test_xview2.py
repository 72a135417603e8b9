"""The winner's U-Nets: values of the originals (xview2-kd P10), transfer (P17), first weights, options."""

import pytest
import torch

from aftermap.errors import ModelError, RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import Xview2UnetConfig
from aftermap.models.configs.networks import LARGE_DECODER
from aftermap.models.networks.stages import WideSeEncoder, published_encoder
from aftermap.models.networks.xview2 import Xview2Decoder
from aftermap.models.weights.published import PUBLISHED
from aftermap.models.weights.transfer import transfer_trunk
from published_fills import fill_pair, hashed_values, published_model, winner_fill, winner_input

TINY = {"encoder_name": "resnet10t", "decoder_channels": (24, 16, 16, 8, 8)}

FORWARD = {
    # localization: mean, std, [0, 0], [31, 17]; damage: mean, std, five channels at [0, 0], five at [31, 17]
    "xview2-resnet34": (
        (0.132518, 0.112956, [0.043447], [0.202389]),
        (
            *(-0.027245, 0.213098),
            [0.041621, -0.041723, -0.007511, -0.124074, -0.029702],
            [0.071404, 0.009402, -0.297639, -0.023499, 0.132116],
        ),
    ),
    "xview2-seresnext50": (
        (-0.053627, 0.103247, [-0.121478], [-0.063133]),
        (
            *(-0.100784, 0.221697),
            [-0.125791, -0.039869, -0.023387, -0.026894, -0.043139],
            [-0.155243, -0.204667, -0.265626, -0.218560, 0.249583],
        ),
    ),
    "xview2-dpn92": (
        (-0.012979, 0.067258, [-0.020919], [-0.004043]),
        (
            *(-0.021930, 0.081595),
            [-0.032612, -0.009584, 0.008629, 0.005586, 0.012829],
            [0.081376, -0.026131, -0.020150, -0.054156, 0.024352],
        ),
    ),
    "xview2-senet154": (
        (0.031984, 0.057018, [-0.005175], [0.077037]),
        (
            *(0.001770, 0.069552),
            [0.003125, -0.036384, -0.040698, -0.026867, -0.061897],
            [0.036681, -0.042075, 0.010959, -0.046052, -0.007420],
        ),
    ),
    "kd-student": (
        (-0.101148, 0.124058, [-0.046678], [-0.099877]),
        (
            *(0.046893, 0.208810),
            [-0.002127, 0.008899, 0.020369, 0.009780, -0.047384],
            [0.186149, -0.151858, 0.306700, -0.175872, -0.272642],
        ),
    ),
}


def test_the_fill_has_the_stated_values():
    expected = [0.4414772168, 0.4010023130, -0.6178061361, 0.3586276979]
    assert hashed_values("conv1.0.weight", 4) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("family", FORWARD)
def test_both_networks_give_the_originals_values(family):
    weights = fill_pair(family, winner_fill)
    for role, dates, state, expected in zip(
        ("localization", "damage"), (1, 2), weights, FORWARD[family], strict=True
    ):
        with torch.no_grad():
            logits = published_model(f"{family}-{role}", state)(winner_input(dates))
        assert logits.dtype == torch.float64
        found = [logits.mean(), logits.std(), *logits[0, :, 0, 0], *logits[0, :, 31, 17]]
        mean, std, corner, centre = expected
        assert [float(v) for v in found] == pytest.approx([mean, std, *corner, *centre], abs=1e-6)


@pytest.mark.parametrize(
    ("family", "copied", "total"),
    [
        ("xview2-resnet34", 234, 236),
        ("xview2-seresnext50", 400, 402),
        ("xview2-dpn92", 613, 615),
        ("xview2-senet154", 1160, 1162),
        ("kd-student", 400, 402),
    ],
)
def test_damage_takes_everything_but_the_head_from_localization(family, copied, total):
    with torch.device("meta"):
        single = build_model(PUBLISHED[f"{family}-localization"].config)
        double = build_model(PUBLISHED[f"{family}-damage"].config)
    report = transfer_trunk(single, double)
    assert (len(report.copied), len(double.state_dict())) == (copied, total)
    assert set(report.reshaped) == {"head.weight", "head.bias"}
    assert report.kept == report.unused == ()


def test_a_damage_model_starts_with_the_features_of_its_localization_model():
    single = tiny(dates=1, classes=1).eval()
    double = tiny(seed=1).eval()
    transfer_trunk(single, double)
    image = torch.randn(1, 2, 3, 64, 32)
    expected = [single.forward_features(image[:, date : date + 1]) for date in (0, 1)]
    assert torch.equal(double.forward_features(image), torch.cat(expected, dim=1))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"encoder_name": "mobilenetv3_small_050"}, "encoder"),
        ({"encoder_name": "resnet18", "decoder_channels": None}, "encoder"),
        ({"decoder_channels": (24, 16, 16, 8, 16)}, "decoder"),
        ({"decoder_norm": True}, "decoder"),
        ({"scse": "add"}, "decoder"),
    ],
)
def test_a_damage_model_does_not_grow_from_another_trunk(changes, part):
    single = tiny(dates=1, classes=1)
    double = tiny(**changes)
    before = double.state_dict()["head.weight"].clone()
    with pytest.raises(ModelError, match=f"has another {part}: .* settings"):
        transfer_trunk(single, double)
    assert torch.equal(double.state_dict()["head.weight"], before)


def test_part_of_a_larger_encoder_is_another_encoder():
    with torch.device("meta"):  # each weight of ResNet-18 has one of the same name and shape in ResNet-34
        large, small = (
            build_model(Xview2UnetConfig(encoder_name=name, decoder_channels=LARGE_DECODER.widths))
            for name in ("resnet34", "resnet18")
        )
    with pytest.raises(ModelError, match="another encoder: 96 weights"):
        transfer_trunk(large, small)


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    return build_model(Xview2UnetConfig(**{**TINY, **options}))


OPTIONS = [
    {},
    {"dates": 1, "classes": 1},
    {"scse": "concat"},
    {"scse": "add", "decoder_norm": True},
    {"encoder_name": "mobilenetv3_small_050", "in_channels": 4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_a_dense_model_whatever_the_options(options):
    model = tiny(**options).eval()
    image = torch.randn(2, model.dates, options.get("in_channels", 3), 64, 96)
    features = model.forward_features(image)
    assert features.shape == (2, model.dates * 8, 64, 96)
    logits = model(image)
    assert logits.shape == (2, model.classes, 64, 96)
    assert torch.equal(model.forward_head(features, (64, 96)), logits)
    logits.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_in_training_each_date_is_normalised_by_its_own_statistics():
    model = tiny()
    pre, post = torch.randn(2, 1, 3, 64, 64), 5 * torch.randn(2, 1, 3, 64, 64) + 3
    with torch.no_grad():
        both = model.forward_features(torch.cat([pre, post], dim=1))
        same = model.forward_features(torch.cat([pre, pre], dim=1))
    assert torch.allclose(both[:, :8], same[:, 8:], atol=1e-5)
    assert int(model.state_dict()["encoder.body.bn1.num_batches_tracked"]) == 4


def test_up_sampling_repeats_pixels_and_the_decoder_comes_before_the_skip():
    decoder = Xview2Decoder((1, 1, 1, 1, 1), Xview2UnetConfig(**TINY).decoder)
    for step in decoder.steps:
        torch.nn.init.zeros_(step.conv2[0].weight)
        with torch.no_grad():
            step.conv2[0].weight[0, -1, 1, 1] = 1.0  # pass the skip on, the last of the inputs
    torch.nn.init.zeros_(decoder.last[0].weight)
    with torch.no_grad():
        decoder.last[0].weight[0, 0, 1, 1] = 1.0
    stages = [torch.rand(1, 1, size, size) for size in (16, 8, 4, 2, 1)]
    expected = stages[0].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(decoder(stages)[:, :1], expected)


def test_decoder_and_head_start_from_kaimings_distribution_without_bias():
    torch.manual_seed(0)
    model = build_model(Xview2UnetConfig(encoder_name="resnet10t"))
    convolution = model.decoder.steps[0].conv1[0]  # 512 -> 256
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert float(model.head.weight.detach().square().mean()) == pytest.approx(2 / 64, rel=0.3)
    biases = [m.bias for m in [*model.decoder.modules(), model.head] if isinstance(m, torch.nn.Conv2d)]
    assert len(biases) == 10
    assert all(not bias.any() for bias in biases)


def test_a_resnet_starts_with_all_normalisations_at_one_as_in_torchvision():
    encoder = published_encoder("resnet34")
    assert all(bool((p == 1).all()) for n, p in encoder.named_parameters() if n.endswith("bn2.weight"))


def test_an_se_network_starts_from_kaimings_distribution_by_inputs():
    torch.manual_seed(0)
    with torch.device("cpu"):
        encoder = published_encoder("seresnext50")
    weight = encoder.body.layer4[0].conv2.weight  # 1024 -> 1024 in 32 groups: 32 inputs, stride 2
    assert float(weight.detach().std()) == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.01)


def test_the_wide_network_squeezes_to_a_quarter_of_the_expanded_channels():
    with torch.device("meta"):
        encoder = WideSeEncoder()
    sizes = [b.se.conv_reduce.out_channels for stage in encoder.body.blocks for b in stage]
    assert sizes == [8, 24, 36, 36, 60, 60, 120, 120, 120, 168, 168, 168, 288, 288, 288, 288]


def test_the_wide_network_starts_from_a_file_and_has_no_imagenet_weights(tmp_path):
    source = WideSeEncoder()
    torch.save(source.body.state_dict(), tmp_path / "wide.pth")
    copy = published_encoder("efficientnet_b0_widese", weights=tmp_path / "wide.pth")
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(copy.eval()(image)[-1], source.eval()(image)[-1])
    with pytest.raises(ModelError, match="no ImageNet weights of efficientnet_b0_widese"):
        published_encoder("efficientnet_b0_widese", weights="imagenet")


@pytest.mark.parametrize(
    ("encoder_name", "said"),
    [
        ("resnet1888", "no encoder named 'resnet1888'"),
        ("convnext_atto", "convnext_atto has 4 stages, the recipe asks for 5"),
        ("vgg11", "strides 2, 4, 8, 16, 32, this one has"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(encoder_name, said):
    with pytest.raises(RecipeError, match=said), torch.device("meta"):
        build_model(Xview2UnetConfig(encoder_name=encoder_name))
