"""Convolutions that pad as TensorFlow does, in a graph: by constants where the stride divides every size."""

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.graphs.graph_modules import SingleGraph
from aftermap.artefacts.graphs.write import fixed_padding, to_onnx, to_openvino
from aftermap.artefacts.store import LoadedModel
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel


class Padded(DenseModel):
    """Two convolutions of stride 2 whose padding depends on the size."""

    dates, classes = 2, 5

    def __init__(self, stride):
        super().__init__()
        self.stride = stride
        self.body = nn.Sequential(Conv2dSame(6, 4, 3, stride=2), Conv2dSame(4, 4, 5, stride=2))
        self.head = nn.Conv2d(4, 5, 1)

    def forward_features(self, image):
        return self.body(image.flatten(1, 2))

    def forward_head(self, features, size):
        return nn.functional.interpolate(self.head(features), size=size)


def graph_of(stride):
    torch.manual_seed(3)
    card = Card(
        name="padded",
        model=CustomConfig(target="x:y", classes=5),
        dates=2,
        scheme="joint-damage-scale",
        licence="MIT",
        training=TrainingRecord(data="none", data_licence="none"),
    )
    return SingleGraph(LoadedModel(Padded(stride).eval(), card, None, "0" * 64), inside=False)


def images(*size):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(1, 2, 3, *size)).astype(np.float32))


def run(model, given):
    """What a graph says, and how many paddings OpenVINO computes beside its convolutions."""
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info()["layerType"] for node in compiled.get_runtime_model().get_ops()]
    return compiled([given.numpy()])[0], sum(kind == "Pad" for kind in kinds)


def by_torch(module, given):
    with torch.no_grad():
        return module(given).numpy()


def test_convolutions_pad_within_themselves_where_the_stride_divides_every_size():
    module, given = graph_of(4), images(72, 44)
    found, beside = run(to_openvino(module), given)
    assert beside == 0 and np.abs(found - by_torch(module, given)).max() < 1e-4


@pytest.mark.parametrize("size", [(64, 40), (67, 41), (33, 34)])
def test_other_sizes_are_padded_as_they_need(size):
    module, given = graph_of(1), images(*size)
    found, beside = run(to_openvino(module), given)
    assert beside == 2 and np.abs(found - by_torch(module, given)).max() < 1e-4


@pytest.mark.parametrize(("stride", "size"), [(4, (72, 44)), (1, (67, 41))])
def test_an_onnx_graph_pads_alike(stride, size, tmp_path):
    module, given = graph_of(stride), images(*size)
    session = onnxruntime.InferenceSession(to_onnx(module, tmp_path / "padded.onnx"))
    found = session.run(None, {"images": given.numpy()})[0]
    assert np.abs(found - by_torch(module, given)).max() < 1e-4


def test_timm_pads_by_itself_again_afterwards():
    own = Conv2dSame.forward
    with fixed_padding():
        assert Conv2dSame.forward is not own
    assert Conv2dSame.forward is own
