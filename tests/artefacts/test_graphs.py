"""Every kind of model as a graph, at another size and batch than it was traced with."""

import sys
from importlib.util import find_spec

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.graphs.graph_modules import SingleGraph, graph_module
from aftermap.artefacts.graphs.write import adaptive_pool, free_sizes, save_openvino, to_onnx, to_openvino
from aftermap.artefacts.store import LoadedModel, save_model
from aftermap.data.scene import read_image
from aftermap.errors import ModelError
from aftermap.inference.ensemble import open_predictor
from aftermap.models.build import build_model
from aftermap.models.configs import (
    CustomConfig,
    LateFusionConfig,
    SegformerConfig,
    SiameseUnetConfig,
    TorchangeConfig,
    UnetConfig,
    Xview2UnetConfig,
)
from aftermap.models.networks.dense import DenseModel
from narrow_smp import config_of

TINY = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (8, 8, 8)}
NARROW = {"decoder_channels": (8,) * 5}
MNV3 = {"encoder_name": "mobilenetv3_small_050", "decoder_channels": (16, 16, 8, 8, 8)}
KINDS = {
    "unet": UnetConfig(**TINY),
    "one-logit": UnetConfig(**TINY, classes=1),
    "siamese-fused-early": SiameseUnetConfig(**TINY),
    "siamese-fused-late-coarse-head": SiameseUnetConfig(**TINY, fuse="decoder", head_stride=4),
    "siamese-folded": SiameseUnetConfig(**TINY, fold=2, head_stride=4),
    "siamese-mobilenet": SiameseUnetConfig(**MNV3, head_stride=2),
    "late-fusion": LateFusionConfig(
        **TINY, second=SiameseUnetConfig(**TINY, fold=2, head_stride=4), second_scale=0.75
    ),
    "xview2-two-dates-scse": Xview2UnetConfig(encoder_name="test_resnet", scse="concat", **NARROW),
    "xview2-one-date": Xview2UnetConfig(encoder_name="efficientnet_b0_widese", dates=1, classes=1, **NARROW),
    "segformer": SegformerConfig(dates=2, classes=5, decoder_channels=16),
    "segformer-squeezed": SegformerConfig(decoder_channels=16, internal_px=96),
    "smp-fused-late": config_of("unet", dates=2, fusion="decoder"),
}
SMP = [
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "pan",
    "deeplabv3",
    "deeplabv3plus",
    "upernet",
    "segformer",
]

BGR = {
    "bands": ("blue", "green", "red"),
    "normalisation": Normalisation(mean=(90, 100, 120), std=(40, 50, 60)),
}


class Gains(DenseModel):
    """A user's own model: the bands of the last date, times a factor each."""

    dates, classes, stride = 2, 5, 1

    def __init__(self):
        super().__init__()
        self.gains = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0]))

    def forward_features(self, image):
        return image[:, 1]

    def forward_head(self, features, size):
        return features[:, [0, 1, 2, 0, 1]] * self.gains[:, None, None]


def load(config, *, seed=0, **card):
    torch.manual_seed(seed)
    model = Gains() if isinstance(config, CustomConfig) else build_model(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    values = {"name": config.kind, "model": config, "dates": model.dates, "licence": "MIT"}
    values |= {"scheme": "joint-damage-scale" if config.classes == 5 else "building"}
    values |= {"activation": "sigmoid"} if config.classes == 1 else {}
    values |= {"training": TrainingRecord(data="none", data_licence="none")}
    return LoadedModel(model.eval(), Card(**values | card), None, "0" * 64)


def other_images(module, seed=1):
    """Of another batch, height and width than the example's, and no square."""
    batch, dates, bands, height, width = module.example().shape
    shape = (batch + 1, dates, bands, height - module.multiple, width + 2 * module.multiple)
    if module.inside:
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def probabilities(logits):
    logits = torch.from_numpy(np.array(logits, dtype=np.float32))
    return (torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)).numpy()


def by_torch(module, images):
    with torch.inference_mode():
        return probabilities(module(torch.from_numpy(images)).numpy())


def by_onnx(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return probabilities(session.run(["logits"], {"images": images})[0])


def by_openvino(model, images):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return probabilities(openvino.Core().compile_model(model, "CPU", settings)({"images": images})["logits"])


def worst(a, b):
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


@pytest.fixture(scope="module", params=KINDS)
def graphs(request, tmp_path_factory):
    """A model and its graphs for both runtimes, written once: that takes longer than to run them."""
    module = SingleGraph(load(KINDS[request.param]), inside=False)
    return module, to_onnx(module, tmp_path_factory.mktemp("graph") / "m.onnx"), to_openvino(module)


def test_every_kind_of_model_gives_the_same_on_both_runtimes(graphs):
    module, onnx, model = graphs
    images = other_images(module)
    expected = by_torch(module, images)
    assert expected.std() > 1e-4
    assert worst(by_onnx(onnx, images), expected) < 1e-4
    assert worst(by_openvino(model, images), expected) < 1e-4


@pytest.mark.real
def test_every_kind_of_model_gives_the_same_on_a_real_tile(graphs, shared_data):
    """Normalised outside; that a graph normalises as its card says is a test of its own."""
    module, onnx, model = graphs
    folder = shared_data / "xbd-real" / "santa-rosa-wildfire" / "images"
    dates = [read_image(sorted(folder.glob(f"*_{date}_*"))[0]) for date in ("pre", "post")]
    raw = np.stack(dates)[None, : module.dates, :, 400:528, 300:492]
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in ((90, 100, 120), (40, 50, 60)))
    images = (raw.astype(np.float32) - mean) / std
    expected = by_torch(module, images)
    assert worst(by_onnx(onnx, images), expected) < 1e-4
    assert worst(by_openvino(model, images), expected) < 1e-4


@pytest.mark.parametrize("architecture", SMP)
def test_every_architecture_of_smp_can_be_written_as_onnx(architecture, tmp_path):
    module = SingleGraph(load(config_of(architecture, dates=2)), inside=False)
    images = other_images(module)
    found = by_onnx(to_onnx(module, tmp_path / "m.onnx"), images)
    assert worst(found, by_torch(module, images)) < 1e-4


def test_dpt_can_be_written_for_openvino_only(tmp_path):
    module = SingleGraph(load(config_of("dpt", encoder_depth=4)), inside=False)
    images = other_images(module)
    assert worst(by_openvino(to_openvino(module), images), by_torch(module, images)) < 1e-4
    with pytest.raises(ModelError, match=r"cannot be written as ONNX .*upsample_bicubic2d_aa.*take openvino"):
        to_onnx(module, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_changeos_is_the_same_from_the_size_on_that_its_graph_states(tmp_path):
    if find_spec("torchange") is None:  # importing it here would change torchvision for every test after
        pytest.skip("torchange is not installed")
    module = SingleGraph(load(TorchangeConfig(encoder_name="swin_t")), inside=False)
    assert module.least_px == 256
    for stage in module.model.encoder.swin.features:
        if isinstance(stage, nn.Sequential):
            del stage[2:]  # a block of plain windows is left, and one of shifted ones
    images = np.random.default_rng(0).normal(size=(1, 2, 3, 256, 320)).astype(np.float32)
    found = by_onnx(to_onnx(module, tmp_path / "m.onnx"), images)
    assert worst(found, by_torch(module, images)) < 1e-4


def test_a_users_own_model_is_exported_by_the_same_way(tmp_path):
    module = SingleGraph(load(CustomConfig(target="x:y", classes=5)), inside=False)
    images = other_images(module)
    for found in (
        by_onnx(to_onnx(module, tmp_path / "m.onnx"), images),
        by_openvino(to_openvino(module), images),
    ):
        assert worst(found, by_torch(module, images)) < 1e-6


def test_a_model_that_cannot_be_traced_is_one_clear_line(tmp_path):
    class Odd(Gains):
        def forward_head(self, features, size):
            return torch.from_numpy(features.detach().numpy()[:, [0, 1, 2, 0, 1]]).special_bessel_j0()

    loaded = load(CustomConfig(target="x:y", classes=5))
    module = SingleGraph(LoadedModel(Odd().eval(), loaded.card, None, "0"), inside=False)
    with pytest.raises(
        ModelError, match=r"^the model cannot be written as ONNX \(.*\): take openvino or PyTorch$"
    ):
        to_onnx(module, tmp_path / "m.onnx")


def test_both_ends_of_a_graph_are_named_and_free_in_batch_and_size(tmp_path):
    module = SingleGraph(load(KINDS["siamese-folded"]), inside=True)
    session = onnxruntime.InferenceSession(to_onnx(module, tmp_path / "m.onnx"))
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    assert given.shape == ["batch", 2, 3, "height", "width"]
    assert (made.name, made.type, made.shape) == ("logits", "tensor(float)", ["batch", 5, "height", "width"])
    model = to_openvino(module)
    assert str(model.input("images").partial_shape) == "[?,2,3,?,?]"
    assert model.input("images").element_type == openvino.Type.u8
    assert model.output("logits").element_type == openvino.Type.f32


def test_normalisation_inside_a_graph_is_that_of_the_card(tmp_path):
    loaded = load(KINDS["siamese-fused-early"], **BGR)
    raw = np.random.default_rng(2).integers(0, 256, (3, 2, 3, 48, 80), dtype=np.uint8)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in ((90, 100, 120), (40, 50, 60)))
    outside = (raw[:, :, ::-1].astype(np.float32) - mean) / std
    expected = by_torch(SingleGraph(loaded, inside=False), outside)
    inside = SingleGraph(loaded, inside=True)
    assert worst(by_onnx(to_onnx(inside, tmp_path / "m.onnx"), raw), expected) < 1e-5
    assert worst(by_openvino(to_openvino(inside), raw), expected) < 1e-5


def test_16_bit_weights_halve_both_files_and_barely_move_what_they_say(tmp_path):
    module = SingleGraph(load(KINDS["siamese-mobilenet"]), inside=False)
    images = other_images(module)
    expected = by_torch(module, images)
    files = [to_onnx(module, tmp_path / f"{half}.onnx", half=half) for half in (False, True)]
    model = to_openvino(module)
    files += [save_openvino(model, tmp_path / f"{h}.xml", half=h).with_suffix(".bin") for h in (False, True)]
    sizes = [file.stat().st_size for file in files]
    assert sizes[1] < 0.6 * sizes[0] and sizes[3] < 0.6 * sizes[2]
    for found in (by_onnx(files[1], images), by_openvino(tmp_path / "True.xml", images)):
        assert 0 < worst(found, expected) < 0.02


def test_weights_beyond_the_range_of_16_bits_stay_in_32(tmp_path):
    loaded = load(KINDS["unet"])
    with torch.no_grad():
        loaded.model.decoder.blocks[0][0].weight[0, 0] = 1e6
    module = SingleGraph(loaded, inside=False)
    images = other_images(module)
    found = by_onnx(to_onnx(module, tmp_path / "m.onnx", half=True), images)
    assert np.isfinite(found).all() and worst(found, by_torch(module, images)) < 0.05


def test_a_model_of_one_size_only_is_refused():
    loaded = load(KINDS["unet"])
    loaded.model.fixed_px = (224, 224)
    with pytest.raises(
        ModelError, match="takes images of 224 x 224 pixels only, and exported models take any size"
    ):
        SingleGraph(loaded, inside=False)


def test_without_the_package_onnx_the_way_to_get_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install 'aftermap\[export\]'"):
        to_onnx(SingleGraph(load(KINDS["unet"]), inside=False), tmp_path / "m.onnx")
    assert by_openvino(
        to_openvino(SingleGraph(load(KINDS["unet"]), inside=False)), np.zeros((1, 1, 3, 32, 32), "f4")
    ).shape == (1, 2, 32, 32)


def test_torch_has_its_own_pool_back_after_an_export():
    original = F.adaptive_avg_pool2d
    with pytest.raises(ZeroDivisionError), free_sizes():
        assert F.adaptive_avg_pool2d is not original
        raise ZeroDivisionError
    assert F.adaptive_avg_pool2d is original


@pytest.mark.parametrize(("height", "width", "cells"), [(8, 8, (2, 2)), (7, 11, (3, 6)), (5, 4, (6, 3))])
def test_the_free_pool_is_the_adaptive_pool(height, width, cells):
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(adaptive_pool(x, cells), F.adaptive_avg_pool2d(x, cells), atol=1e-6)


def save(folder, config, *, seed, **card):
    loaded = load(config, seed=seed, **card)
    save_model(folder, loaded.model, loaded.card)
    return folder


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Members of different bands, normalisation, temperature, activation, channel 0 and number of dates."""
    root, config = tmp_path_factory.mktemp("members"), KINDS["siamese-fused-early"]
    return {
        "a": save(root / "a", config, seed=1, **BGR),
        "b": save(root / "b", config, seed=2, temperature=1.7, damage_weights=(1, 2, 0.5, 4)),
        "sigmoid": save(root / "sigmoid", config, seed=3, activation="sigmoid", channel_0="building"),
        "one-date": save(root / "one-date", KINDS["one-logit"], seed=4),
        "two-logits": save(root / "two-logits", KINDS["unet"], seed=5, **BGR),
    }


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ([("a", 2.0, None), ("sigmoid", 1.0, None)], {}),
        ([("a", 2.0, None), ("b", 1.0, None), ("one-date", 1.0, None)], {}),
        ([("one-date", 1.0, "g"), ("two-logits", 3.0, "g"), ("b", 1.0, None)], {"compat_uint8": True}),
        ([("a", 1.0, None), ("a", 2.0, None), ("two-logits", 1.0, None)], {"averaging": "logits"}),
        ([("one-date", 1.0, None), ("two-logits", 1.0, None)], {}),
    ],
    ids=["damage-only", "roles", "groups-cut-to-8-bits", "logits", "buildings-only"],
)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_an_ensemble_in_one_graph_says_what_its_predictor_says(members, parts, options, inside, tmp_path):
    ingredients = [Ingredient(members[name], weight=weight, group=group) for name, weight, group in parts]
    save_ensemble(tmp_path / "e", *compose("e", ingredients, **options))
    exportable = graph_module(tmp_path / "e", inside=inside, graph_format="onnx")
    raw = np.random.default_rng(3).integers(0, 256, (3, exportable.card.dates, 3, 32, 48), dtype=np.uint8)
    images = raw
    if not inside:
        pair = exportable.card.normalisation
        mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (pair.mean, pair.std))
        images = (raw.astype(np.float32) - mean) / std
    expected = open_predictor(tmp_path / "e").predict(raw)
    # where a value is a whole 255th but for its last digit, cutting it may go either way
    allowed = 2 / 255 if options.get("compat_uint8") else 1e-5
    found = by_torch(exportable.module, images)
    assert worst(found, expected) < allowed and np.abs(found - expected).mean() < 1e-5
    if inside:
        assert worst(by_onnx(to_onnx(exportable.module, tmp_path / "m.onnx"), raw), expected) < allowed


def test_an_ensemble_runs_on_openvino_too(members, tmp_path):
    ingredients = [Ingredient(members[name]) for name in ("a", "one-date")]
    save_ensemble(tmp_path / "e", *compose("e", ingredients))
    module = graph_module(tmp_path / "e", inside=True, graph_format="openvino").module
    raw = np.random.default_rng(3).integers(0, 256, (1, 2, 3, 32, 48), dtype=np.uint8)
    model, expected = to_openvino(module), open_predictor(tmp_path / "e").predict(raw)
    assert worst(by_openvino(model, raw), expected) < 1e-5
    half = save_openvino(model, tmp_path / "m.xml", half=True)
    assert np.isfinite(by_openvino(half, np.zeros_like(raw))).all()  # logarithms of nothing


def test_the_card_of_an_ensemble_is_that_of_its_probabilities(members, tmp_path):
    ingredients = [Ingredient(members[name]) for name in ("sigmoid", "a")]
    save_ensemble(tmp_path / "e", *compose("e", ingredients, class_thresholds=(0.4, 0.3, 0.3, 0.2)))
    card = graph_module(tmp_path / "e", inside=True, graph_format="onnx").card
    assert (card.activation, card.channel_0, card.temperature) == ("softmax", "background", 1.0)
    assert (card.bands, card.class_thresholds) == (("red", "green", "blue"), (0.4, 0.3, 0.3, 0.2))
    of_one = sum(p.numel() for p in build_model(KINDS["siamese-fused-early"]).parameters())
    assert card.graph.parameters == 2 * of_one


def test_logits_of_members_that_differ_are_not_averaged(members, tmp_path):
    card, folders = compose("e", [Ingredient(members[name]) for name in ("a", "sigmoid")], averaging="logits")
    save_ensemble(tmp_path / "e", card, folders)
    with pytest.raises(ModelError, match="logits of the damage members cannot be averaged"):
        graph_module(tmp_path / "e", inside=True, graph_format="onnx")


def test_a_member_that_was_exchanged_is_refused(members, tmp_path):
    save_ensemble(tmp_path / "e", *compose("e", [Ingredient(members["a"])]))
    loaded = load(KINDS["siamese-fused-early"], seed=9)
    save_model(tmp_path / "e" / "a", loaded.model, loaded.card)
    with pytest.raises(ModelError, match="holds other weights"):
        graph_module(tmp_path / "e", inside=True, graph_format="onnx")


def test_the_model_in_the_box_keeps_its_card(tmp_path):
    exportable = graph_module("box", inside=True, graph_format="onnx", precision="fp16")
    card, graph = exportable.card, exportable.card.graph
    assert (card.name, graph.source.sha256) == (open_predictor("box").card.name, open_predictor("box").sha256)
    assert (graph.precision, graph.inside, graph.file) == ("fp16", True, "model.onnx")
