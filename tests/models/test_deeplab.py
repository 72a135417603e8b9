"""DeepLab v3 of MiB and PLOP: its arithmetic by hand, its weights' names, its checkpoints."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aftermap.artefacts.store import load_model
from aftermap.data.legends import CITYSCAPES, VOC
from aftermap.errors import InputError, ModelError, RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import DeeplabConfig
from aftermap.models.growth import grow
from aftermap.models.networks.deeplab import Abn, AtrousPyramid, Bottleneck, Deeplab
from aftermap.workflows.weights.import_steps import import_steps


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build_model(DeeplabConfig(encoder_name="resnet50", classes=3, compat_positive_scale=True)).eval()


def moved(module):
    """The module with normalisations that do something, some of whose scales are negative."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight.data, part.bias.data, part.running_mean):
                values.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.eval()


@pytest.mark.parametrize("active", [True, False])
def test_in_place_normalisation_is_reproduced(active):
    norm = moved(Abn(4, positive=True, active=active))
    norm.weight.data[0] = -0.5
    x = torch.randn(2, 4, 3, 3)

    def shaped(values):
        return values[None, :, None, None]

    scaled = (x - shaped(norm.running_mean)) / (shaped(norm.running_var) + 1e-5).sqrt()
    expected = scaled * shaped(norm.weight.abs() + 1e-5) + shaped(norm.bias)
    expected = torch.where(expected > 0, expected, 0.01 * expected) if active else expected
    assert torch.allclose(norm(x), expected, atol=1e-6)


def test_normalisation_learns_the_same_statistics_either_way():
    torch.manual_seed(2)
    x = torch.randn(4, 3, 5, 5) * 2 + 1
    ours, plain = Abn(3, positive=True).train(), nn.BatchNorm2d(3).train()
    ours(x), plain(x)
    assert torch.equal(ours.running_mean, plain.running_mean)
    assert torch.equal(ours.running_var, plain.running_var)
    assert ours.num_batches_tracked == 1


def test_a_block_activates_after_the_sum():
    block = moved(Bottleneck(8, 2, stride=1, dilation=2, positive=False))
    x = torch.randn(1, 8, 6, 6)
    c = block.convs
    y = c.bn1(F.conv2d(x, c.conv1.weight))
    y = c.bn2(F.conv2d(y, c.conv2.weight, padding=2, dilation=2))
    y = nn.BatchNorm2d.forward(c.bn3, F.conv2d(y, c.conv3.weight)) + x
    assert torch.allclose(block(x), torch.where(y > 0, y, 0.01 * y), atol=1e-6)
    assert not hasattr(block, "proj_conv")


@pytest.mark.parametrize(
    ("stride", "strides", "dilated"), [(16, [4, 8, 16, 16], [1, 1, 1, 2]), (8, [4, 8, 8, 8], [1, 1, 2, 4])]
)
def test_later_groups_are_dilated_in_place_of_strided(stride, strides, dilated):
    with torch.device("meta"):
        model = Deeplab(DeeplabConfig(encoder_name="resnet50", output_stride=stride)).eval()
        stages = model.encoder(torch.zeros(1, 3, 64, 64))
    assert [64 // stage.shape[-1] for stage in stages] == model.encoder.strides == strides
    groups = [model.encoder.get_submodule(f"mod{n}.block2.convs.conv2") for n in (2, 3, 4, 5)]
    assert [conv.dilation[0] for conv in groups] == dilated
    rates = [conv.dilation[0] for conv in list(model.decoder.map_convs)[1:]]
    assert rates == ([6, 12, 18] if stride == 16 else [12, 24, 32])


def test_the_pyramid_means_windows_in_use_and_the_image_in_training():
    with torch.device("meta"):
        pyramid = AtrousPyramid(1, DeeplabConfig(pooling=2))
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert pyramid.train()._pooled(x).flatten().tolist() == [4.0]
    # windows of 2 x 2 have means 2 3 / 5 6; an even window leaves the further cell to the right and below
    assert pyramid.eval()._pooled(x)[0, 0].tolist() == [[2, 3, 3], [5, 6, 6], [5, 6, 6]]
    with torch.device("meta"):
        wide = AtrousPyramid(1, DeeplabConfig(pooling=32)).eval()
    assert wide._pooled(x)[0, 0].flatten().tolist() == pytest.approx([4] * 9)


@pytest.mark.parametrize(("size", "height", "width"), [(5, 9, 7), (4, 7, 8), (6, 4, 11)])
def test_the_windows_are_those_of_the_published_pooling(size, height, width):
    with torch.device("meta"):
        pyramid = AtrousPyramid(1, DeeplabConfig(pooling=size)).eval()
    x = torch.rand(2, 3, height, width)
    sides = min(size, height), min(size, width)
    before = [(side - 1) // 2 for side in sides]
    after = [b if side % 2 else b + 1 for b, side in zip(before, sides, strict=True)]
    pooled = F.avg_pool2d(x, sides, stride=1)
    theirs = F.pad(pooled, (before[1], after[1], before[0], after[0]), mode="replicate")
    assert torch.allclose(pyramid._pooled(x), theirs, atol=1e-6)


def test_maps_before_their_activation_leave_the_output_as_it_is(small):
    config = DeeplabConfig(encoder_name="resnet50", classes=3, compat_positive_scale=True, compat_sums=True)
    other = build_model(config).eval()
    other.load_state_dict(small.state_dict())
    x = torch.sin(0.01 * torch.arange(3 * 32 * 32.0)).reshape(1, 1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(other(x), small(x))
        sums, active = other.encoder(x[:, 0]), small.encoder(x[:, 0])
    assert (sums[0] < 0).any()
    for before, after in zip(sums, active, strict=True):
        assert torch.equal(torch.where(before > 0, before, 0.01 * before), after)


def test_names_of_the_weights_are_the_originals(small):
    names = set(small.state_dict())
    for name in (
        "encoder.mod1.conv1.weight",
        "encoder.mod1.bn1.running_var",
        "encoder.mod2.block1.proj_bn.bias",
        "encoder.mod5.block3.convs.conv3.weight",
        "decoder.map_convs.3.weight",
        "decoder.global_pooling_bn.weight",
        "decoder.pool_red_conv.weight",
    ):
        assert name in names
    assert not [name for name in names if "proj" in name and ".block1." not in name]


def test_it_grows_and_does_not_learn_from_one_image(small):
    config = DeeplabConfig(encoder_name="resnet50", classes=3, compat_positive_scale=True)
    grown, larger = grow(small, config, heads=[3], added=2)
    assert (larger.classes, grown.head.weight.shape[0]) == (5, 5)
    with pytest.raises(RecipeError, match="batch_size to 2"):
        grown.train()(torch.zeros(1, 1, 3, 32, 32))


@pytest.fixture(scope="module")
def checkpoint(small, tmp_path_factory):
    """A file as their training leaves it: a classifier of two steps, no counters of batches, `module.` before all."""
    state = {}
    for key, value in small.state_dict().items():
        if key.startswith("head."):
            part = key.removeprefix("head.")
            state |= {f"module.cls.0.{part}": value[:2].clone(), f"module.cls.1.{part}": value[2:].clone()}
        elif not key.endswith("num_batches_tracked"):
            theirs = key.replace("decoder.", "head.", 1).replace("encoder.", "body.", 1)
            state[f"module.{theirs}"] = value
    path = tmp_path_factory.mktemp("mib") / "15-5-voc_MIB_1.pth"
    torch.save({"epoch": 3, "model_state": state, "best_score": 0.5, "trainer_state": {"x": 1}}, path)
    return path


def test_a_checkpoint_becomes_a_model_of_the_same_values(small, checkpoint, tmp_path):
    card = import_steps(checkpoint, tmp_path / "model", legend=VOC, task="19-1b")
    assert card.classes.names == ("background", "aeroplane", "bicycle")
    model = load_model(tmp_path / "model").model.eval()
    x = torch.sin(0.01 * torch.arange(3 * 32 * 48.0)).reshape(1, 1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model(x), small(x))
        features = small.forward_features(x)
        scores = [F.conv2d(features, w, b) for w, b in ((small.head.weight[:2], small.head.bias[:2]),)]
        theirs = F.interpolate(scores[0], (32, 48), mode="bilinear", align_corners=False)
        assert torch.allclose(small(x)[:, :2], theirs, atol=1e-5)


def test_files_that_do_not_fit_are_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match="no task"):
        import_steps(checkpoint, tmp_path / "a", legend=VOC, task="9-9")
    with pytest.raises(InputError, match="cityscapes has no background"):
        import_steps(checkpoint, tmp_path / "a", legend=CITYSCAPES, task="11-5")
    torch.save({"state_dict": {"module.mod1.conv1.weight": torch.zeros(1)}}, tmp_path / "body.pth")
    with pytest.raises(ModelError, match="no classifier"):
        import_steps(tmp_path / "body.pth", tmp_path / "a", legend=VOC)
    torch.save({"cls.0.weight": torch.zeros(2, 256, 1, 1)}, tmp_path / "head.pth")
    with pytest.raises(ModelError, match="lacks"):
        import_steps(tmp_path / "head.pth", tmp_path / "a", legend=VOC)


def test_the_published_start_is_read_without_its_classifier(small, tmp_path):
    body = {f"module.{k}": v for k, v in small.encoder.state_dict().items() if "tracked" not in k}
    torch.save(
        {"state_dict": body | {"module.classifier.fc.bias": torch.zeros(9)}}, tmp_path / "iabn.pth.tar"
    )
    model = build_model(DeeplabConfig(encoder_name="resnet50", encoder_weights=tmp_path / "iabn.pth.tar"))
    assert torch.equal(model.encoder.mod1.conv1.weight, small.encoder.mod1.conv1.weight)
