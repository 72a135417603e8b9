"""The table of published networks: what each is, and its weight names key for key (xview2-kd P9, sections 2.3, 2.4)."""

import hashlib

import pytest
import torch

from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.networks.dense import count_parameters
from aftermap.models.weights.published import (
    PUBLISHED,
    original_keys,
    original_shapes,
    published,
    to_original,
    to_ours,
)

WINNER = {
    # name: keys, keys without counters, signature in order, signature sorted, parameters of features and head
    "xview2-resnet34-localization": (236, 200, "3914d92da0c7ff71", "f059e89ffdc3b38f", 25_728_112, 49),
    "xview2-resnet34-damage": (236, 200, "2edf130dd5b51804", "a45832d8f6ce9286", 25_728_112, 485),
    "xview2-seresnext50-localization": (402, 349, "6baa00806f67e561", "b6397ba45f04c716", 34_559_728, 33),
    "xview2-seresnext50-damage": (402, 349, "8eb954e9f2667e86", "e2c6a5150effb9db", 34_559_728, 325),
    "xview2-dpn92-localization": (615, 519, "d10a376c565f1712", "9a5f11c9f97a986b", 47_408_735, 33),
    "xview2-dpn92-damage": (615, 519, "32b9e129022c5710", "1674ac7482c2979b", 47_408_735, 325),
    "xview2-senet154-localization": (1162, 1005, "a5e09a3be8a44009", "c22da21edc406bec", 124_874_656, 49),
    "xview2-senet154-damage": (1162, 1005, "c85012244baacc91", "1585fa35855bbd68", 124_874_656, 485),
    "kd-student-localization": (402, 349, "faf34977c6464012", "d0440b30acfeadae", 29_734_064, 17),
    "kd-student-damage": (402, 349, "e19305f551bd7288", "870fe9efeacec023", 29_734_064, 165),
}
UNETS = [name for name in PUBLISHED if PUBLISHED[name].config.kind == "xview2-unet"]


@pytest.mark.parametrize("name", WINNER)
class TestTheWinnersClasses:
    def test_have_the_published_number_of_keys(self, name):
        keys = list(original_shapes(name))
        counters = [key for key in keys if key.endswith("num_batches_tracked")]
        assert (len(keys), len(keys) - len(counters)) == WINNER[name][:2]

    def test_have_their_keys_and_shapes_in_the_published_order(self, name):
        lines = [f"{key} {shape}" for key, shape in original_shapes(name).items()]
        assert signature(lines) == WINNER[name][2]

    def test_have_the_published_keys_and_shapes_without_the_counters(self, name):
        shapes = sorted(original_shapes(name).items())
        lines = [f"{key} {shape}" for key, shape in shapes if not key.endswith("num_batches_tracked")]
        assert signature(lines) == WINNER[name][3]

    def test_have_the_published_parameters(self, name):
        model = on_meta(name)
        head = count_parameters(model.head)
        assert (count_parameters(model) - head, head) == WINNER[name][4:]


def signature(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def on_meta(name):
    with torch.device("meta"):
        return build_model(PUBLISHED[name].config)


@pytest.mark.parametrize("name", UNETS)
def test_every_weight_of_ours_has_one_original_name(name):
    ours = list(original_keys(name).values())
    assert len(set(ours)) == len(ours)
    assert set(ours) == set(on_meta(name).state_dict())


def test_the_table_has_both_networks_of_all_sixteen_families():
    families = {name.rpartition("-")[0] for name in UNETS}
    assert len(families) == 16
    assert set(UNETS) == {f"{family}-{role}" for family in families for role in ("localization", "damage")}


@pytest.mark.parametrize("name", UNETS)
def test_localization_has_one_date_and_one_logit_and_damage_two_and_five(name):
    entry = PUBLISHED[name]
    assert name.endswith(entry.role)
    expected = (1, 1, "sigmoid") if entry.role == "localization" else (2, 5, entry.activation)
    assert (entry.config.dates, entry.config.classes, entry.activation) == expected


def test_only_the_winners_resnet_has_sigmoids_and_the_building_in_channel_0():
    odd = {n for n in UNETS if PUBLISHED[n].role == "damage" and PUBLISHED[n].activation == "sigmoid"}
    assert odd == {"xview2-resnet34-damage"} == {n for n in UNETS if PUBLISHED[n].channel_0 == "building"}


@pytest.mark.parametrize(
    ("name", "bands", "of_0", "of_127", "of_255"),
    [
        ("xview2-senet154-damage", ("blue", "green", "red"), -1.0, 0.0, 255 / 127 - 1),
        ("kd-student-localization", ("blue", "green", "red"), -1.0, 0.0, 1.007874),
        ("metadamagenet-dpn92-localization", ("red", "green", "blue"), -1.0, 127 / 255 * 2 - 1, 1.0),
    ],
)
def test_bands_and_range_are_those_of_the_system(name, bands, of_0, of_127, of_255):
    entry = PUBLISHED[name]
    assert entry.bands == bands
    values = [(x - entry.mean[0]) / entry.std[0] for x in (0, 127, 255)]
    assert values == pytest.approx([of_0, of_127, of_255], abs=1e-6)


def test_weights_go_to_the_original_names_and_come_back_the_same():
    name = "metadamagenet-efficientunet-b0-scse-damage"
    torch.manual_seed(0)
    ours = build_model(PUBLISHED[name].config).state_dict()
    original = to_original(name, ours)
    assert list(original) == list(original_keys(name))
    assert original["unet.conv2.block0.se.squeeze.weight"].shape == (4, 96)  # a matrix, as NVIDIA has it
    back = to_ours(name, original)
    assert set(back) == set(ours)
    assert all(torch.equal(back[key], ours[key]) for key in ours)


def test_squeeze_weights_may_be_convolutions_already():
    key = "unet.conv2.block0.se.squeeze.weight"
    name = "metadamagenet-efficientunet-b0-damage"
    value = torch.arange(4 * 96.0).reshape(4, 96)
    flat, deep = to_ours(name, {key: value}), to_ours(name, {key: value[:, :, None, None]})
    (own,) = flat
    assert own == "encoder.body.blocks.1.0.se.conv_reduce.weight"
    assert torch.equal(flat[own], deep[own])


def test_names_that_a_network_does_not_have_stay_for_the_loader_to_report():
    strange = torch.zeros(3)
    assert to_ours("xview2-resnet34-damage", {"conv99.weight": strange}) == {"conv99.weight": strange}


def test_weights_of_another_network_have_no_original_names():
    with pytest.raises(
        ModelError, match=r"no weights of xview2-resnet34-damage: 236 are missing, such as dec"
    ):
        to_original("xview2-resnet34-damage", {})


def test_an_unknown_network_is_named_with_similar_ones():
    with pytest.raises(ModelError, match=r"no published network is named .*: similar names are xview2-res"):
        published("xview2-resnet43-damage")


@pytest.mark.parametrize(
    ("name", "original", "ours"),
    [
        ("xview2-resnet34-damage", "conv2.1.0.bn1.weight", "encoder.body.layer1.0.bn1.weight"),
        ("xview2-senet154-damage", "conv1.6.weight", "encoder.body.layer0.conv3.weight"),
        (
            "xview2-dpn92-damage",
            "conv4.19.c1x1_c.conv.weight",
            "encoder.body.features.conv4_20.c1x1_c.conv.weight",
        ),
        ("xview2-dpn92-damage", "conv9_2.1.spatial_se.0.weight", "decoder.steps.3.scse.spatial.weight"),
        ("metadamagenet-resnet34-damage", "unet.conv10.layer.0.bias", "decoder.last.0.bias"),
        ("metadamagenet-efficientunet-b4-damage", "unet.conv10.conv.layer.1.bias", "decoder.last.1.bias"),
        (
            "metadamagenet-efficientunet-b4-scse-damage",
            "unet.conv7.conv2.1.fc2.bias",
            "decoder.steps.1.scse.excite.bias",
        ),
        (
            "metadamagenet-efficientunet-b4-damage",
            "unet.conv5.1.block1.expand.bn.running_var",
            "encoder.body.blocks.6.1.bn1.running_var",
        ),
        (
            "metadamagenet-efficientunet-b0-damage",
            "unet.conv1.1.block0.proj.conv.weight",
            "encoder.body.blocks.0.0.conv_pw.weight",
        ),
        ("metadamagenet-efficientunet-b0-damage", "res.bias", "head.bias"),
    ],
)
def test_an_original_name_means_the_right_weight(name, original, ours):
    assert original_keys(name)[original] == ours
