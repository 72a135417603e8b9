import os
import sys

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.graphs.calibration import calibration_windows, normalised
from aftermap.artefacts.graphs.graph_modules import graph_module
from aftermap.artefacts.graphs.layers import Judge, Node, Nodes, probabilities
from aftermap.artefacts.graphs.quantise import Quantisation, _import_nncf, quantise_onnx, quantise_openvino
from aftermap.artefacts.graphs.write import to_onnx, to_openvino
from aftermap.artefacts.store import save_model
from aftermap.data.scene import Manifest, read_images, read_mask
from aftermap.errors import DataError, InputError, ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import SiameseUnetConfig
from squares import make_dataset

CONFIG = SiameseUnetConfig(encoder_name="resnet10t", encoder_depth=3, decoder_channels=(16, 16, 16))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return Manifest.load(make_dataset(tmp_path_factory.mktemp("quantise") / "data")).scenes


@pytest.fixture(scope="module")
def windows(scenes):
    return list(calibration_windows(scenes[:4], 2, size_px=64, count=6))


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """A siamese network that has learned the squares for a moment, as a model folder."""
    torch.manual_seed(0)
    model = build_model(CONFIG)
    images = torch.from_numpy(np.stack([read_images(s, dates=2) for s in scenes[:4]])).float() / 127.5 - 1
    masks = torch.from_numpy(np.stack([read_mask(s, target="damage") for s in scenes[:4]])).long()
    optimizer = torch.optim.AdamW(model.parameters(), 0.004)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), masks).backward()
        optimizer.step()
    record = TrainingRecord(data="squares", data_licence="none")
    card = Card(
        name="squares", model=CONFIG, dates=2, scheme="joint-damage-scale", training=record, licence="none"
    )
    folder = tmp_path_factory.mktemp("models") / "squares"
    save_model(folder, model, card)
    return folder


@pytest.fixture(scope="module")
def float_onnx(trained, tmp_path_factory):
    module = graph_module(trained, inside=True, graph_format="onnx").module
    return to_onnx(module, tmp_path_factory.mktemp("float") / "model.onnx")


@pytest.fixture(scope="module")
def float_openvino(trained):
    return to_openvino(graph_module(trained, inside=True, graph_format="openvino").module)


@pytest.fixture(scope="module")
def int8_onnx(float_onnx, windows, tmp_path_factory):
    return quantise_onnx(float_onnx, tmp_path_factory.mktemp("int8") / "model.onnx", windows)


@pytest.fixture(scope="module")
def int8_openvino(float_openvino, windows):
    return quantise_openvino(float_openvino, windows)


@pytest.fixture(scope="module")
def unseen(scenes):
    """Two pairs of 64 x 96 px that no range was measured on."""
    images = np.stack([read_images(s, dates=2) for s in scenes[4:6]])
    return np.concatenate([images, images[..., :32]], axis=-1)


def run_onnx(path, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def run_openvino(model, images):
    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images])[0]


def float_layers_of_onnx(path):
    """Names of the layers whose weights are not bytes."""
    graph = onnx.load(path).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return [node.name for node in layers if made_by.get(node.input[1]) != "DequantizeLinear"]


def float_layers_of_openvino(model):
    layers = [op for op in model.get_ordered_ops() if op.get_type_name().endswith("Convolution")]
    kinds = {op.get_friendly_name(): op.input_value(1).get_node().get_type_name() for op in layers}
    return [name for name, kind in kinds.items() if kind == "Constant"]


def test_windows_show_every_class_and_are_raw_pixels_of_the_scenes(scenes):
    drawn = list(calibration_windows(scenes, 2, size_px=32, count=10))
    assert all(w.shape == (1, 2, 3, 32, 32) and w.dtype == np.uint8 for w in drawn)
    red = np.array([w[0, 1, 0].astype(int) - w[0, 1, 2] for w in drawn])  # post: red - blue tells damage here
    assert (red > 120).any(axis=(1, 2)).sum() >= 4  # minor, major and destroyed squares
    scene = read_images(scenes[0], dates=2)
    whole = list(calibration_windows([scenes[0]] * 3, 2, size_px=64, count=2))
    assert all(np.array_equal(w[0], scene) for w in whole)


def test_the_same_seed_draws_the_same_windows(scenes):
    first, second, other = (
        np.concatenate(list(calibration_windows(scenes, 2, size_px=32, count=5, seed=s))) for s in (3, 3, 4)
    )
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_windows_need_neither_labels_nor_large_scenes(scenes):
    bare = [s.model_copy(update={"damage_mask": None, "building_mask": None}) for s in scenes]
    drawn = list(calibration_windows(bare, 1, size_px=96, count=3))
    assert [w.shape for w in drawn] == [(1, 1, 3, 96, 96)] * 3


def test_too_few_scenes_are_one_clear_line(scenes):
    single = [s.model_copy(update={"post": None}) for s in scenes[2:]]
    with pytest.raises(DataError, match=r"^2 pairs to measure 8-bit ranges on, at least 3 are needed"):
        calibration_windows([*scenes[:2], *single], 2, size_px=32, count=4)


def test_normalised_windows_are_in_the_models_order():
    raw = np.arange(3, dtype=np.uint8).reshape(1, 1, 3, 1, 1) * 10  # red 0, green 10, blue 20
    norm = Normalisation(mean=(20, 5, 1), std=(1, 5, 2))
    found = normalised(raw, norm, (2, 1, 0))
    assert found.dtype == np.float32 and found.ravel().tolist() == [0.0, 1.0, -0.5]


GRAPH = Nodes(
    [
        Node("images", "Parameter", ()),
        Node("scale", "Multiply", ("images",)),
        Node("stem", "Convolution", ("scale",)),
        Node("relu", "Relu", ("stem",)),
        Node("attention", "Softmax", ("relu",)),
        Node("mix", "MatMul", ("attention", "relu")),
        Node("size", "ShapeOf", ("images",)),
        Node("head", "Convolution", ("mix",)),
        Node("up", "Interpolate", ("head", "size")),
    ]
)


def test_the_ends_of_a_graph_are_found_by_its_edges():
    assert (GRAPH.first, GRAPH.last, GRAPH.tail) == (["stem"], ["head"], ["up"])
    assert GRAPH.layers == ["stem", "mix", "head"] and GRAPH.attends


def test_a_softmax_behind_the_heads_is_no_attention():
    nodes = Nodes([Node("conv", "Conv", ()), Node("p", "Softmax", ("conv",))])
    assert not nodes.attends and nodes.tail == ["p"]


def test_patterns_name_layers_or_are_an_error():
    assert GRAPH.matching(["^h", "m"]) == ["head", "stem", "mix"]
    with pytest.raises(ModelError, match="named like 'relu': there are stem, mix, head"):
        GRAPH.matching(["relu"])
    with pytest.raises(ModelError, match="no regular expression"):
        GRAPH.matching(["("])


def test_the_costliest_layers_are_those_that_bring_probabilities_nearest():
    def logits(shift):
        return lambda inputs: inputs["x"] + np.array([0, shift]).reshape(1, 2, 1, 1)

    inputs = [{"x": np.zeros((1, 2, 2, 2))}]
    judge = Judge(logits(0), inputs, activation="softmax")
    assert judge.cost(logits(1)) == pytest.approx(1 / (1 + np.exp(-1)) - 0.5)
    trials = [("little", logits(0.9)), ("much", logits(0.1)), ("harm", logits(2)), ("some", logits(0.5))]
    assert judge.costliest(logits(1), trials, 2) == ["much", "some"]
    assert judge.costliest(logits(1), trials, 9) == ["much", "some", "little"]


def test_one_logit_is_activated_by_a_sigmoid():
    one = probabilities(np.full((1, 1, 1, 1), 1.0), "softmax")
    assert one.item() == pytest.approx(0.731059, abs=1e-6)


def test_int8_decides_like_the_float_graph_at_other_sizes_and_batches(
    float_onnx, int8_onnx, float_openvino, int8_openvino, unseen
):
    truth = run_onnx(float_onnx, unseen).argmax(1)
    assert len(np.unique(truth)) == 5  # the network has learned something that could be lost
    for found in (run_onnx(int8_onnx, unseen), run_openvino(int8_openvino, unseen)):
        assert found.shape == (2, 5, 64, 96) and found.dtype == np.float32
        assert (found.argmax(1) == truth).mean() > 0.97


def test_weights_become_bytes(float_onnx, int8_onnx, int8_openvino):
    assert int8_onnx.stat().st_size < 0.4 * float_onnx.stat().st_size
    kinds = {
        onnx.helper.tensor_dtype_to_np_dtype(t.data_type) for t in onnx.load(int8_onnx).graph.initializer
    }
    assert np.dtype("int8") in kinds
    constants = [op for op in int8_openvino.get_ordered_ops() if op.get_type_name() == "Constant"]
    large = [op for op in constants if np.prod(op.get_output_shape(0)) > 1000]
    assert large and {op.get_output_element_type(0).get_type_name() for op in large} == {"i8"}


def test_every_layer_computes_in_8_bits_unless_told_otherwise(int8_onnx, int8_openvino):
    assert float_layers_of_onnx(int8_onnx) == ["/model/head/Conv"]
    assert float_layers_of_openvino(int8_openvino) == []


def test_logits_are_never_rounded(int8_onnx, int8_openvino, unseen):
    for found in (run_onnx(int8_onnx, unseen), run_openvino(int8_openvino, unseen)):
        assert len(np.unique(found[:, 0])) > 256


def test_the_float_model_is_left_as_it_is(float_openvino, int8_openvino):
    kinds = [op.get_type_name() for op in float_openvino.get_ordered_ops()]
    assert "FakeQuantize" not in kinds and "BatchNormInference" in kinds


def test_batch_normalisation_is_fused_before_ranges_are_measured(int8_openvino):
    kinds = [op.get_type_name() for op in int8_openvino.get_ordered_ops()]
    assert "BatchNormInference" not in kinds


def test_a_range_reaches_as_far_as_a_single_window_does(float_openvino, windows):
    dark = np.zeros_like(windows[0])
    model = quantise_openvino(float_openvino, [dark, dark, dark + 255, dark])
    rounded = [op for op in model.get_ordered_ops() if op.get_type_name() == "FakeQuantize"]
    low, high = (float(rounded[0].input_value(i).get_node().data.item()) for i in (1, 2))  # of the input
    assert (low, high) == pytest.approx((-1, 1), abs=0.01)  # normalised 0 and 255


def test_the_ends_stay_in_float_on_demand(float_onnx, float_openvino, windows, tmp_path):
    options = Quantisation(keep_first=True, keep_last=True)
    path = quantise_onnx(float_onnx, tmp_path / "ends.onnx", windows[:2], options=options)
    nodes = onnx.load(path).graph.node
    layers = [node.name for node in nodes if node.op_type == "Conv"]
    assert float_layers_of_onnx(path) == [layers[0], layers[-1]]
    model = quantise_openvino(float_openvino, windows[:2], options=options)
    kept = float_layers_of_openvino(model)
    assert len(kept) == 2 and "head" in kept[1]


def test_named_layers_stay_in_float(float_openvino, windows):
    model = quantise_openvino(float_openvino, windows[:2], options=Quantisation(keep=("decoder",)))
    kept = float_layers_of_openvino(model)
    assert kept and all("decoder" in name for name in kept)


def test_the_costliest_layer_stays_in_float_and_probabilities_come_nearer(
    float_onnx, int8_onnx, windows, tmp_path
):
    options = Quantisation(keep=("decoder",), keep_costliest=3, judged_on=2)
    path = quantise_onnx(float_onnx, tmp_path / "kept.onnx", windows, options=options)
    kept = [name for name in float_layers_of_onnx(path) if "encoder" in name]
    assert 1 <= len(kept) <= 3

    def cost(other):
        pairs = [[probabilities(run_onnx(p, w), "softmax") for p in (float_onnx, other)] for w in windows[:2]]
        return np.mean([np.abs(a - b).max(1).mean() for a, b in pairs])

    assert cost(path) < cost(int8_onnx)


def test_the_costliest_layer_stays_in_float_in_openvino(float_openvino, windows):
    options = Quantisation(keep=("encoder",), keep_costliest=1, judged_on=1)
    model = quantise_openvino(float_openvino, windows[:1], options=options)
    kept = float_layers_of_openvino(model)
    assert len([name for name in kept if "encoder" not in name]) == 1


def test_reduced_range_keeps_weights_within_7_bits(float_onnx, int8_onnx, windows, tmp_path):
    def largest(path):
        tensors = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
        return max(int(np.abs(t.astype(int)).max()) for t in tensors if t.dtype == np.int8 and t.ndim == 4)

    options = Quantisation(reduced_range=True)
    path = quantise_onnx(float_onnx, tmp_path / "seven.onnx", windows[:2], options=options)
    assert largest(int8_onnx) == 127 and largest(path) <= 64


@pytest.mark.parametrize("ranges", ["percentile", "entropy"])
def test_other_ways_to_measure_ranges(float_onnx, windows, tmp_path, unseen, ranges):
    options = Quantisation(ranges=ranges, percentile=99.999)
    path = quantise_onnx(float_onnx, tmp_path / "q.onnx", windows, options=options)
    same = run_onnx(path, unseen).argmax(1) == run_onnx(float_onnx, unseen).argmax(1)
    assert same.mean() > 0.9


def test_normalised_float_inputs_are_taken_where_normalisation_is_outside(trained, windows, tmp_path, unseen):
    outside = [normalised(w, Normalisation(), (0, 1, 2)) for w in windows]
    given = normalised(unseen, Normalisation(), (0, 1, 2))
    source = to_onnx(graph_module(trained, inside=False, graph_format="onnx").module, tmp_path / "f.onnx")
    found = run_onnx(quantise_onnx(source, tmp_path / "q.onnx", outside), given)
    model = to_openvino(graph_module(trained, inside=False, graph_format="openvino").module)
    truth = run_onnx(source, given).argmax(1)
    assert (found.argmax(1) == truth).mean() > 0.97
    by_name = [{"images": w} for w in outside]
    found = run_openvino(quantise_openvino(model, by_name), given)
    assert (found.argmax(1) == truth).mean() > 0.97


def test_nothing_is_left_behind_where_it_fails(float_onnx, windows, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        quantise_onnx(float_onnx, tmp_path / "q.onnx", windows, options=Quantisation(keep=("nowhere",)))
    with pytest.raises(InputError, match="no windows"):
        quantise_onnx(float_onnx, tmp_path / "q.onnx", [])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_printed(float_onnx, float_openvino, windows, tmp_path, capfd):
    quantise_onnx(float_onnx, tmp_path / "q.onnx", windows[:1], options=Quantisation(ranges="percentile"))
    quantise_openvino(float_openvino, windows[:1])
    assert capfd.readouterr().out == ""


def test_entropy_is_no_choice_with_openvino(float_openvino, windows):
    with pytest.raises(InputError, match="use minmax or percentile"):
        quantise_openvino(float_openvino, windows, options=Quantisation(ranges="entropy"))


def test_missing_packages_are_named_with_their_command(
    float_onnx, float_openvino, windows, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"needs nncf: pip install 'aftermap\[export\]'"):
        quantise_openvino(float_openvino, windows)
    with pytest.raises(InputError, match=r"needs onnx: pip install 'aftermap\[export\]'"):
        quantise_onnx(float_onnx, tmp_path / "q.onnx", windows)


def test_nncf_is_imported_without_its_reports_to_a_server(tmp_path, monkeypatch):
    (tmp_path / "nncf.py").write_text("import os\nci = os.environ.get('NNCF_CI')\n")
    monkeypatch.delitem(sys.modules, "nncf", raising=False)
    monkeypatch.delenv("NNCF_CI", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    found = _import_nncf()
    monkeypatch.delitem(sys.modules, "nncf")
    assert found.ci == "1" and "NNCF_CI" not in os.environ
