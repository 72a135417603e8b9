"""SegFormer against the published counts and values, through the names of the published checkpoints."""

import zlib

import numpy as np
import pytest
import torch

from aftermap.artefacts.store import load_model
from aftermap.errors import ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import SegformerConfig
from aftermap.models.networks.dense import count_parameters
from aftermap.models.weights.published import published, to_original, to_ours
from aftermap.models.weights.published_keys import segformer_keys, transformers_5_name
from aftermap.workflows.weights.import_weights import import_weights

LOCALIZER = SegformerConfig(classes=1, internal_px=512)
CLASSIFIER = SegformerConfig(dates=2, classes=5, internal_px=512)


def golden_fill(model):
    """Every weight from a random stream seeded by its name in the published checkpoints."""
    state = model.state_dict()
    for theirs, ours in segformer_keys().items():
        value = state[ours]
        if not value.is_floating_point():
            continue
        seed = zlib.crc32(theirs.encode()) & 0x7FFFFFFF
        r = np.random.RandomState(seed).standard_normal(value.numel()).astype(np.float32)
        if value.ndim in (2, 4):
            r = r * np.float32((value.shape[0] / value.numel()) ** 0.5)
        elif theirs.endswith("running_mean"):
            r = 0.1 * r
        elif theirs.endswith("running_var"):
            r = 1 + 0.1 * np.abs(r)
        elif theirs.endswith(".weight"):
            r = 1 + 0.1 * r
        else:
            r = 0.1 * r
        value.copy_(torch.from_numpy(np.asarray(r, dtype=np.float32)).reshape(value.shape))
    return model.eval()


def fill_image():
    return torch.sin(0.01 * torch.arange(6 * 64 * 64, dtype=torch.float32)).reshape(1, 2, 3, 64, 64)


def test_the_recipe_of_the_golden_fill_is_the_specs():
    r = np.random.RandomState(zlib.crc32(b"fc1.weight") & 0x7FFFFFFF).standard_normal(3)
    assert r == pytest.approx([0.38558215, 0.28261633, 1.40343589], abs=1e-8)


def test_parameters_are_the_published_ones():
    localizer, classifier = build_model(LOCALIZER), build_model(CLASSIFIER)
    assert count_parameters(localizer) == 3_714_401
    assert count_parameters(localizer.encoder) == 3_319_392
    assert count_parameters(classifier) == 3_846_501
    assert count_parameters(classifier.decoder) + count_parameters(classifier.head) == 527_109


def test_every_weight_has_its_name_in_the_published_checkpoints():
    names = segformer_keys()
    assert len(names) == 208 and len(set(names.values())) == 208
    for config in (LOCALIZER, CLASSIFIER):
        assert set(names.values()) == set(build_model(config).state_dict())
    assert names["segformer.encoder.block.2.1.attention.self.sr.weight"] == (
        "encoder.stages.2.blocks.1.attention.reduce.weight"
    )


def test_the_localizer_gives_the_published_values():
    logits = golden_fill(build_model(LOCALIZER))(fill_image()[:, :1])[0, 0].detach()
    assert [float(logits.mean()), float(logits.std())] == pytest.approx([-1.5169, 0.3649], abs=2e-4)
    assert logits[0, :2].tolist() == pytest.approx([-0.77119, -0.64050], abs=2e-4)
    assert float(logits[31, 40]) == pytest.approx(-1.70594, abs=2e-4)


def test_the_classifier_gives_the_published_values():
    logits = golden_fill(build_model(CLASSIFIER))(fill_image())[0].detach()
    assert [float(logits.mean()), float(logits.std())] == pytest.approx([-0.6755, 0.5199], abs=2e-4)
    expected = [-0.30317, -1.62720, -0.99569, -0.15341, -0.13750]
    assert logits[:, 31, 40].tolist() == pytest.approx(expected, abs=2e-4)


def test_both_are_among_the_published_networks_by_name():
    name = "metadamagenet-segformer-b0-damage"
    assert published(name).config == CLASSIFIER and published(name).activation == "softmax"
    assert published("metadamagenet-segformer-b0-localization").config == LOCALIZER
    state = build_model(CLASSIFIER).state_dict()
    theirs = to_original(name, state)
    assert next(iter(theirs)) == "segformer.encoder.patch_embeddings.0.proj.weight"
    assert theirs["decode_head.classifier.weight"].shape == (5, 256, 1, 1)
    back = to_ours(name, theirs)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


@pytest.mark.parametrize(("dates", "internal_px"), [(1, None), (2, None), (1, 64), (2, 96)])
def test_gives_a_logit_per_class_and_pixel(dates, internal_px):
    model = build_model(SegformerConfig(dates=dates, classes=5, internal_px=internal_px)).eval()
    size = (64, 96) if internal_px is None else (50, 70)
    image = torch.randn(2, dates, 3, *size)
    features = model.forward_features(image)
    assert features.shape[-1] == (internal_px or 96) // 4
    logits = model(image)
    assert logits.shape == (2, 5, *size) and torch.equal(logits, model.forward_head(features, size))


def test_internal_size_equal_to_the_images_changes_nothing():
    native = golden_fill(build_model(SegformerConfig(classes=1)))
    squashed = golden_fill(build_model(SegformerConfig(classes=1, internal_px=64)))
    image = fill_image()[:, :1]
    assert torch.equal(native(image), squashed(image)) and native.stride == 32 and squashed.stride == 1


def test_every_parameter_has_a_gradient_and_pre_is_not_post():
    torch.manual_seed(0)
    model = build_model(SegformerConfig(dates=2, classes=5))
    image = torch.randn(2, 2, 3, 64, 64)
    model(image).square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    model.eval()
    assert not torch.allclose(model(image), model(image.flip(1)), atol=1e-4)
    assert torch.equal(model(image), model(image))


def test_a_larger_encoder_has_the_published_number_of_weights():
    with torch.device("meta"):
        model = build_model(SegformerConfig(encoder_name="mit_b2", classes=150))
    # Xie et al., table 1a: B2 has 24.2 M in the encoder; the decoder of width 768 has 3.3 M
    assert count_parameters(model.encoder) == pytest.approx(24.2e6, rel=2e-3)
    assert count_parameters(model) - count_parameters(model.encoder) == pytest.approx(3.3e6, rel=5e-2)


def test_names_of_transformers_5():
    names = [transformers_5_name(key) for key in segformer_keys()]
    # as its SegformerForSemanticSegmentation lists them (5.24.0)
    block = "segformer.stages.1.blocks.0."
    for name in (
        "segformer.stages.3.patch_embeddings.proj.weight", "segformer.stages.0.patch_embeddings.layer_norm.bias",
        f"{block}attention.q_proj.weight", f"{block}attention.k_proj.bias", f"{block}attention.v_proj.weight",
        f"{block}attention.sequence_reduction.sequence_reduction.weight", f"{block}layernorm_before.bias",
        f"{block}attention.sequence_reduction.layer_norm.weight", f"{block}attention.o_proj.weight",
        f"{block}mlp.fc1.weight", f"{block}mlp.dwconv.dwconv.bias", f"{block}mlp.fc2.bias",
        f"{block}layernorm_after.weight", "segformer.stages.2.layer_norm.weight",
        "decode_head.linear_projections.3.proj.bias", "decode_head.linear_fuse.weight",
    ):  # fmt: skip
        assert name in names
    assert len(set(names)) == 208 and not any("encoder" in name or "linear_c" in name for name in names)


@pytest.mark.parametrize("base", [False, True])
def test_an_encoder_starts_from_a_state_of_transformers_5(tmp_path, base):
    source = golden_fill(build_model(SegformerConfig())).state_dict()
    state = {transformers_5_name(theirs): source[ours] for theirs, ours in segformer_keys().items()}
    if base:
        state = {k.removeprefix("segformer."): v for k, v in state.items() if not k.startswith("decode_head")}
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = build_model(SegformerConfig(encoder_weights=tmp_path)).state_dict()
    assert all(torch.equal(found[key], source[key]) for key in source if key.startswith("encoder."))


def test_a_checkpoint_of_transformers_5_is_imported_whole(tmp_path):
    source = golden_fill(build_model(LOCALIZER)).state_dict()
    state = {transformers_5_name(theirs): source[ours] for theirs, ours in segformer_keys().items()}
    torch.save(state, tmp_path / "model.pth")
    done = import_weights(tmp_path / "model.pth", "metadamagenet-segformer-b0-localization", tmp_path / "m")
    assert (len(done.report.matched), len(done.report.renamed), done.report.fits) == (208, 200, True)
    found = load_model(tmp_path / "m").model.state_dict()
    assert all(torch.equal(found[key], source[key]) for key in source)


@pytest.mark.parametrize("prefix", ["segformer.encoder.", "encoder."])
def test_an_encoder_starts_from_a_file_in_the_published_layout(tmp_path, prefix):
    source = build_model(SegformerConfig()).state_dict()
    names = {ours: theirs for theirs, ours in segformer_keys().items()}
    state = {names[k].replace("segformer.encoder.", prefix): v for k, v in source.items() if "encoder" in k}
    torch.save({**state, "classifier.weight": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    model = build_model(SegformerConfig(encoder_weights=tmp_path, dates=2, classes=5))
    key = "encoder.stages.3.blocks.1.attention.value.weight"
    assert torch.equal(model.state_dict()[key], source[key])
    state.pop(f"{prefix}layer_norm.2.bias")
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"lacks 1 weights, such as segformer\.encoder\.layer_norm\.2\.bias"):
        build_model(SegformerConfig(encoder_weights=tmp_path))
