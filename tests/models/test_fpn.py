"""The Open Cities network: counts (section 4.8), module values (16.3), whole-network values (16.4), switches."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from aftermap.errors import ModelError, RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import FpnEfficientnetConfig, UnetConfig
from aftermap.models.networks.dense import count_parameters
from aftermap.models.networks.encoders import drop_rates
from aftermap.models.networks.fpn import Aspp, GlobalContext, UpsampleStep, presence_probability
from aftermap.models.weights.published import PUBLISHED, original_keys, original_shapes, to_original, to_ours
from published_fills import filled, golden_fill, published_model

PUBLISHED_NAMES = ("opencities-b1", "opencities-b2")
B0, B1, B2, B3 = ({"encoder_name": f"tf_efficientnet_b{n}"} for n in range(4))
COUNTS = [
    # config, parameters, of the encoder's blocks, of the second context with the last convolution, state entries
    (B1, 8_129_061, 6_100_096, 110_720, 575),
    (B1 | {"mish": True}, 8_129_061, 6_100_096, 110_720, 575),
    (B1 | {"context": True, "compat_second_context": True}, 8_134_475, 6_100_096, 114_201, 591),
    (B2, 9_326_471, 7_201_634, 110_720, 575),
    (B2 | {"context": True, "mish": True}, 9_329_952, 7_201_634, 110_720, 583),
    (B0, 5_623_425, 3_594_460, 110_720, 427),
    (B3, 12_331_821, 10_102_176, 110_720, 641),
]
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def on_meta(**values):
    with torch.device("meta"):
        return build_model(FpnEfficientnetConfig(**values))


@pytest.fixture(scope="module")
def small():
    """A network on B0 in evaluation mode."""
    torch.manual_seed(0)
    return build_model(FpnEfficientnetConfig(**B0)).eval()


@pytest.fixture
def images():
    return torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def wave(step, *shape):
    angles = step * torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(angles).float().reshape(shape)


@pytest.mark.parametrize(("values", "total", "blocks", "last", "entries"), COUNTS)
def test_every_variant_has_the_published_parameters(values, total, blocks, last, entries):
    model = on_meta(**values)
    neck = model.neck
    parts = [neck.conv, neck.norm, *([neck.second_context] if neck.second_context else [])]
    assert count_parameters(model) == total
    assert count_parameters(model.encoder.body.blocks) == blocks
    assert sum(map(count_parameters, parts)) == last
    assert len(model.state_dict()) == entries


@pytest.mark.parametrize(
    ("values", "head", "laterals", "presence", "scale", "context"),
    [
        (B1, 409_600 + 2_560, [81_984, 7_232, 2_624, 1_600], 2_562, 1_281, 0),
        (B2 | {"context": True}, 495_616 + 2_816, [90_176, 7_744, 3_136, 1_600], 2_818, 1_409, 3_481),
    ],
)
def test_every_part_has_the_published_parameters(values, head, laterals, presence, scale, context):
    model = on_meta(**values)
    body, neck = model.encoder.body, model.neck
    assert count_parameters(body.conv_stem) + count_parameters(body.bn1) == 864 + 64
    assert count_parameters(body.conv_head) + count_parameters(body.bn2) == head
    assert [count_parameters(lateral) for lateral in model.pyramid.laterals] == laterals
    assert [count_parameters(top) for top in model.pyramid.tops] == [73_984, 36_992, 36_928]
    assert (count_parameters(neck.attention), count_parameters(neck.aspp)) == (4_096, 1_255_680)
    assert (0 if neck.context is None else count_parameters(neck.context)) == context
    assert (count_parameters(model.head), count_parameters(model.dice_head)) == (130, 64)
    assert (count_parameters(model.presence_head), count_parameters(model.scale_head)) == (presence, scale)


WHOLE = {
    # map: mean, std, two logits at [0, 0] and at [7, 9]; dice: mean, std, three logits of row 0; presence; scale
    "opencities-b1": (
        (-0.04072, 0.16247, -0.20830, 0.09298, -0.19884, 0.11312),
        (-0.03001, 0.01768, -0.02522, -0.04971, -0.05311),
        (0.04268, 0.10210),
        0.05277,
    ),
    "opencities-b2": (
        (-0.02758, 0.18900, -0.20975, 0.12657, -0.20679, 0.16732),
        (-0.02543, 0.03886, -0.03755, -0.02875, -0.03366),
        (0.04152, -0.04132),
        -0.12637,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
@torch.no_grad()
def test_all_heads_give_the_originals_values(name):
    model = published_model(name, golden_fill(original_shapes(name)))
    heads = model(wave(0.01, 1, 1, 3, 64, 64), heads=True)
    on_map, on_dice, presence, scale = WHOLE[name]
    y, d = heads.map, heads.dice
    assert y.shape == (1, 2, 16, 16)
    found = [y.mean(), y.std(), *y[0, :, 0, 0], *y[0, :, 7, 9]]
    assert [float(v) for v in found] == pytest.approx(on_map, abs=2e-5)
    assert [float(v) for v in (d.mean(), d.std(), *d[0, 0, 0, :3])] == pytest.approx(on_dice, abs=2e-5)
    assert heads.presence[0].tolist() == pytest.approx(presence, abs=2e-5)
    assert heads.scale.item() == pytest.approx(scale, abs=2e-5)


def test_mish_has_the_published_values():
    x = torch.tensor([-3, -1, 0, 0.5, 2])
    expected = [-0.145647, -0.303401, 0, 0.375245, 1.943959]
    assert nn.Mish()(x).tolist() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_the_context_block_starts_as_the_identity_and_has_the_published_values():
    block, x = GlobalContext(16, 2), wave(0.3, 1, 16, 3, 3)
    assert torch.equal(block(x), x)
    names = {"conv_mask": "attention"} | {
        f"channel_add_conv.{place}": ours for place, ours in ((0, "reduce"), (1, "norm"), (3, "expand"))
    }
    renamed = {f"{o}.{part}": f"{ours}.{part}" for o, ours in names.items() for part in ("weight", "bias")}
    y = filled(block, renamed, golden_fill)(x)
    added = (y - x)[0]
    assert float(y.sum()) == pytest.approx(-10.797859, abs=1e-5)
    assert added[:4, 0, 0].tolist() == pytest.approx([-2.175991, 0.945035, -0.851443, 0.254047], abs=1e-6)
    assert float((added - added[:, :1, :1]).abs().max()) < 1e-6


@torch.no_grad()
def test_an_upsampling_step_has_the_published_values():
    renamed = {"conv.weight": "0.weight", "gn.weight": "1.weight", "gn.bias": "1.bias"}
    y = filled(UpsampleStep(), renamed, golden_fill)(wave(0.3, 1, 64, 2, 2))
    assert y.shape == (1, 64, 4, 4) and float(y.sum()) == pytest.approx(442.2132, abs=1e-3)
    assert y[0, :3, 1, 1].tolist() == pytest.approx([0.408786, 0, 0], abs=1e-6)


@torch.no_grad()
def test_the_pyramid_pooling_has_the_published_values():
    places = [("atrous0", "point", 0), ("combine", "combine", 0), ("atrous4.module", "whole", 1)]
    places += [(f"atrous{n + 1}.module", f"atrous.{n}", 0) for n in range(3)]
    renamed = {}
    for theirs, ours, first in places:
        renamed[f"{theirs}.{first}.weight"] = f"{ours}.0.weight"
        renamed |= {f"{theirs}.{first + 1}.{part}": f"{ours}.1.{part}" for part in NORM}
    y = filled(Aspp(8, 8), renamed, golden_fill)(wave(0.3, 1, 8, 16, 16))
    assert float(y.sum()) == pytest.approx(479.9535, abs=1e-3)
    assert y[0, :4, 3, 5].tolist() == pytest.approx([0.048557, 0.544415, 0.506181, 0.381035], abs=1e-6)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.2, [0, 0.026087, 0.034783, 0.086957, 0.191304]),
        (0.5, [0, 0.026087, 0.086957, 0.217391, 0.478261]),
    ],
)
def test_drop_connect_rises_as_published(rate, expected):
    rates = drop_rates(23, rate)
    assert [rates[i] for i in (0, 3, 4, 10, 22)] == pytest.approx(expected, abs=1e-6)


def test_only_blocks_with_a_residual_drop_and_none_where_the_rate_is_0():
    blocks = [b for stage in on_meta(drop_connect=0.5).encoder.body.blocks for b in stage]
    rates = {n: b.drop_path.drop_prob for n, b in enumerate(blocks) if hasattr(b.drop_path, "drop_prob")}
    assert all(blocks[n].has_skip for n in rates) and len(rates) == 16  # 23 blocks less the first of 7 stages
    assert rates[22] == pytest.approx(0.5 * 22 / 23) and rates[3] == pytest.approx(0.2 * 3 / 23)
    still = [b for stage in on_meta(drop_connect=0.0).encoder.body.blocks for b in stage]
    assert all(isinstance(b.drop_path, nn.Identity) for b in still)


def test_batch_normalisation_is_that_of_the_original():
    encoder = on_meta(**B2).encoder
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


@torch.no_grad()
def test_the_answer_is_the_map_head_resized(small, images):
    heads = small(images, heads=True)
    resized = nn.functional.interpolate(heads.map, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(small(images), resized)
    assert heads.dice.shape == (2, 1, 16, 16) and heads.scale.shape == (2, 1)


@torch.no_grad()
def test_probabilities_are_resized_by_request(small):
    resizing = build_model(FpnEfficientnetConfig(**B0, compat_resize_probabilities=True)).eval()
    resizing.head.load_state_dict(small.head.state_dict())
    features = 10 * torch.randn(2, 64, 4, 4, generator=torch.Generator().manual_seed(2))
    cells = torch.softmax(small.head(features), dim=1)
    expected = nn.functional.interpolate(cells, size=(16, 16), mode="bilinear", align_corners=False)
    found, ours = (torch.softmax(m.forward_head(features, (16, 16)), dim=1) for m in (resizing, small))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert (ours - expected).abs().max() > 0.1


@torch.no_grad()
def test_presence_is_told_by_encoder_and_head_alone(small, images):
    expected = torch.softmax(small(images, heads=True).presence, dim=1)[:, 1]
    calls = []
    handle = small.pyramid.register_forward_hook(lambda *_: calls.append(1))
    found = presence_probability(small, images)
    handle.remove()
    assert torch.equal(found, expected) and calls == []


def test_a_model_without_a_presence_head_is_told(images):
    with pytest.raises(ModelError, match="Unet has no presence head: take a model of kind fpn-efficientnet"):
        presence_probability(build_model(UnetConfig()), images)


@pytest.mark.parametrize(
    ("frozen", "trained", "moved"),
    [("none", True, True), ("statistics", True, False), ("weights", False, False)],
)
def test_the_stem_is_frozen_by_request(frozen, trained, moved, images):
    model = build_model(FpnEfficientnetConfig(**B0, compat_frozen_stem=frozen))
    assert model.encoder.body.bn1.training == moved == model.train().encoder.body.bn1.training
    before = model.encoder.body.bn1.running_mean.clone()
    sum(head.sum() for head in model(images, heads=True)).backward()
    body = model.encoder.body
    stem = [body.conv_stem.weight, body.bn1.weight, body.bn1.bias]
    others = [p for p in model.parameters() if all(p is not s for s in stem)]
    assert [p.grad is not None for p in stem] == [trained] * 3
    assert all(p.grad is not None for p in others)
    assert torch.equal(body.bn1.running_mean, before) == (not moved)
    assert body.bn2.training


def test_one_image_at_a_time_is_refused_in_training_where_it_cannot_be_normalised(images):
    model = build_model(FpnEfficientnetConfig(**B0)).train()
    with pytest.raises(RecipeError, match="cannot learn from one sample at a time: set batch_size to 2"):
        model(images[:1])
    without = build_model(FpnEfficientnetConfig(**B0, aspp=False)).train()
    assert without(images[:1]).shape == (1, 2, 64, 64)


def test_context_acts_without_pyramid_pooling_too(images):
    model = build_model(FpnEfficientnetConfig(**B0, aspp=False, context=True)).eval()
    with torch.no_grad():
        before = model(images)
        model.neck.context.expand.bias.fill_(1.0)
        assert not torch.equal(model(images), before)


def test_a_second_context_needs_a_first():
    with pytest.raises(ValidationError, match="compat_second_context adds to context, which is off"):
        FpnEfficientnetConfig(compat_second_context=True)


def test_another_encoder_is_refused_with_those_that_fit():
    with pytest.raises(ValidationError, match="tf_efficientnet_b0"):
        FpnEfficientnetConfig(encoder_name="resnet18")


@pytest.mark.parametrize(("name", "entries"), [("opencities-b1", 575), ("opencities-b2", 583)])
def test_every_weight_has_one_original_name_and_comes_back_the_same(name, entries):
    keys = original_keys(name)
    assert len(keys) == entries and len(set(keys.values())) == entries
    torch.manual_seed(0)
    ours = build_model(PUBLISHED[name].config).state_dict()
    back = to_ours(name, to_original(name, ours))
    assert set(back) == set(ours) and all(torch.equal(back[key], ours[key]) for key in ours)


@pytest.mark.parametrize(
    ("original", "ours"),
    [
        ("_bn0.running_var", "encoder.body.bn1.running_var"),
        ("_blocks.0._project_conv.weight", "encoder.body.blocks.0.0.conv_pw.weight"),
        ("_blocks.2._expand_conv.weight", "encoder.body.blocks.1.0.conv_pw.weight"),
        ("_blocks.22._bn2.bias", "encoder.body.blocks.6.1.bn3.bias"),
        ("_blocks.8._se_reduce.bias", "encoder.body.blocks.3.0.se.conv_reduce.bias"),
        ("lateral0.weight", "pyramid.laterals.0.weight"),
        ("top1.1.gn.weight", "pyramid.tops.0.1.1.weight"),
        ("ctx.channel_add_conv.3.bias", "neck.context.expand.bias"),
        ("aspp.atrous4.module.2.running_mean", "neck.aspp.whole.1.running_mean"),
        ("top4.1.weight", "neck.norm.weight"),
        ("_fc2.weight", "scale_head.weight"),
    ],
)
def test_an_original_name_means_the_right_weight(original, ours):
    assert original_keys("opencities-b2")[original] == ours


def test_original_shapes_are_those_of_the_checkpoints():
    shapes = original_shapes("opencities-b2")
    expected = {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_conv_head.weight": (1408, 352, 1, 1),
        "ctx.conv_mask.weight": (1, 192, 1, 1),
        "ctx.channel_add_conv.0.weight": (8, 192, 1, 1),
        "ctx.channel_add_conv.1.bias": (8, 1, 1),
        "ctx.channel_add_conv.3.weight": (192, 8, 1, 1),
        "top4.0.weight": (64, 192, 3, 3),
        "conv_att.weight": (64, 64, 1, 1),
        "aspp.combine.0.weight": (192, 960, 1, 1),
        "bce_logit.weight": (2, 64, 1, 1),
        "dice.weight": (1, 64, 1, 1),
        "_fc.weight": (2, 1408),
        "_fc2.weight": (1, 1408),
    }
    assert {key: shapes[key] for key in expected} == expected


def test_pixels_are_fed_as_the_original_fed_them():
    entry = PUBLISHED["opencities-b1"]
    grey = [(128 - mean) / std for mean, std in zip(entry.mean, entry.std, strict=True)]
    assert grey == pytest.approx([0.074065, 0.205182, 0.426492], abs=1e-6)
    assert entry.bands == ("red", "green", "blue") and entry.role == "localization"


def test_the_variant_with_two_contexts_moves_the_last_convolution_behind_the_second():
    from aftermap.models.weights.published_keys import opencities_keys

    config = FpnEfficientnetConfig(**B1, context=True, compat_second_context=True)
    keys = opencities_keys(config, on_meta(**B1, context=True, compat_second_context=True).state_dict())
    assert len(keys) == 591 and keys["top4.0.conv_mask.weight"] == "neck.second_context.attention.weight"
    assert keys["top4.1.weight"] == "neck.conv.weight" and keys["top4.2.bias"] == "neck.norm.bias"
