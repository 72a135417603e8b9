"""A residual U-Net that took two further classes, as a graph: an ordinary model with more of them."""

import json

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

from aftermap.artefacts.card import Card, TrainingRecord
from aftermap.artefacts.graphs.graph_modules import SingleGraph
from aftermap.artefacts.graphs.write import to_onnx, to_openvino
from aftermap.artefacts.store import LoadedModel, load_model, save_model
from aftermap.models.build import build_model
from aftermap.models.configs import ResidualUnetConfig
from aftermap.models.growth import grow

NARROW = {"channels": [8, 16, 24, 32]}
CONFIGS = {
    "resnet": ResidualUnetConfig(encoder_name="test_resnet", encoder_options=NARROW, classes=3),
    "resnet-dilated-four-bands": ResidualUnetConfig(
        encoder_name="test_resnet",
        encoder_options=NARROW,
        classes=3,
        output_stride=16,
        in_channels=4,
        norm="iabn",
    ),
    "tresnet": ResidualUnetConfig(
        encoder_name="tresnet_m", encoder_options={"layers": [1, 1, 1, 1], "width_factor": 0.25}, classes=3
    ),
}


def grown(config):
    torch.manual_seed(0)
    model = build_model(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    model, wider = grow(model, config, heads=[3], added=2, initialisation="random")
    bands = ("red", "green", "blue", "nir")[: config.in_channels]
    values = {"name": "grown", "model": wider, "dates": 1, "licence": "MIT", "scheme": "joint-damage-scale"}
    values |= {"bands": bands} if len(bands) > 3 else {}
    values |= {"training": TrainingRecord(data="none", data_licence="none")}
    return model, Card(**values)


def softmax(logits):
    return torch.from_numpy(np.array(logits)).softmax(1)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_grown_model_gives_the_same_on_both_runtimes_at_other_sizes(kind, tmp_path):
    config = CONFIGS[kind]
    model, card = grown(config)
    module = SingleGraph(LoadedModel(model, card, None, "0" * 64), inside=False)
    shape = (2, 1, config.in_channels, 96, 160)
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).softmax(1)
    assert expected.shape == (2, 5, 96, 160)
    assert expected.std(dim=(0, 2, 3)).min() > 1e-4
    session = onnxruntime.InferenceSession(
        to_onnx(module, tmp_path / "m.onnx"), providers=["CPUExecutionProvider"]
    )
    torch.testing.assert_close(
        softmax(session.run(["logits"], {"images": images})[0]), expected, atol=1e-4, rtol=0
    )
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(to_openvino(module), "CPU", settings)
    torch.testing.assert_close(softmax(compiled({"images": images})["logits"]), expected, atol=1e-4, rtol=0)


def test_a_grown_model_is_saved_and_read_as_any_other(tmp_path):
    model, card = grown(CONFIGS["resnet"])
    save_model(tmp_path / "grown", model, card)
    assert json.loads((tmp_path / "grown" / "card.json").read_text())["model"]["classes"] == 5
    loaded = load_model(str(tmp_path / "grown"))
    image = torch.randn(1, 1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model.eval()(image), model(image))
