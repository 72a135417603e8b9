"""Two siamese U-Nets as one: what is fused, where each begins, and that both learn."""

import pytest
import torch
import torch.nn.functional as F

from aftermap.config import build_config
from aftermap.errors import ModelError, RecipeError
from aftermap.learning.objectives.base import Objective
from aftermap.learning.trainable import fix_norm, tune_only
from aftermap.models.build import build_model
from aftermap.models.configs import LateFusionConfig, SiameseUnetConfig
from aftermap.models.growth import grow
from aftermap.models.weights.transfer import transfer_trunk

SMALL = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (16, 16, 16)}
OTHER = SiameseUnetConfig(**SMALL | {"decoder_channels": (8, 8, 8)}, fold=2, head_stride=2)


def images(side=64):
    return torch.randn(2, 2, 3, side, side, generator=torch.Generator().manual_seed(0))


def fused(**keys):
    torch.manual_seed(1)
    return build_model(LateFusionConfig(**SMALL | {"second": OTHER} | keys)).eval()


@torch.no_grad()
def test_buildings_are_a_weighted_mean_and_degrees_a_geometric_one():
    same = SiameseUnetConfig(**SMALL)
    model = fused(second=same, second_share=0.25)
    torch.manual_seed(1)
    first = build_model(same).eval()
    first.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("second.")})
    one, two = first(images()).softmax(1), model.second(images()).softmax(1)
    found = model(images()).softmax(1)
    building = 0.75 * (1 - one[:, 0]) + 0.25 * (1 - two[:, 0])
    torch.testing.assert_close(1 - found[:, 0], building)
    shares = one[:, 1:] ** 0.75 * two[:, 1:] ** 0.25
    shares /= shares.sum(1, keepdim=True)
    torch.testing.assert_close(found[:, 1:], building[:, None] * shares)


@torch.no_grad()
def test_the_second_sees_images_at_its_size():
    model = fused(second_scale=0.75)
    seen = []
    model.second.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert model.stride == 4 * model.second.stride
    side = 2 * model.stride
    assert model(images(side)).shape == (2, 5, side, side)
    assert seen == [(4, 3, side * 3 // 4, side * 3 // 4)]


@torch.no_grad()
def test_what_goes_into_a_graph_is_the_same():
    model = fused(second_scale=0.75)
    image = images(2 * model.stride)
    assert torch.equal(model.direct(image), model(image))


def test_the_first_grows_from_a_model_of_its_kind():
    report = transfer_trunk(build_model(SiameseUnetConfig(**SMALL)), fused())
    assert all(name.startswith("second.") for name in report.kept)
    assert not report.reshaped
    assert not report.unused


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_answers_that_are_certain_stay_numbers(dtype, share):
    model = fused(second_share=share)
    for head, sign in ((model.head, 1), (model.second.head, -1)):
        head.bias[0] = sign * 500.0
    logits = model.to(dtype)(images().to(dtype)).float()
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.softmax(1)[:, 0].mean().item(), 1 - share, atol=1e-2, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_gradients_of_certain_answers_stay_numbers(share):
    model = fused(second_share=share)
    with torch.no_grad():
        model.head.bias[0] = 500.0
    F.cross_entropy(model(images()), torch.ones(2, 64, 64, dtype=torch.int64)).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("part", "still"), [("decoder", "encoder."), ("head", "")])
def test_a_part_is_that_of_both_networks(part, still):
    model = fused()
    tune_only(model, part)
    learned = {name.removeprefix("second.") for name, p in model.named_parameters() if p.requires_grad}
    both = {name.startswith("second.") for name, p in model.named_parameters() if p.requires_grad}
    assert both == {True, False}
    if part == "head":
        assert learned == {"head.weight", "head.bias"}
    assert not any(still and name.startswith(still) for name in learned)


def test_a_frozen_encoder_is_that_of_both_networks():
    model = fused().train()
    seen = []
    watched = Watched(lambda m: seen.append([m.get_submodule(part).training for part in m.encoder_parts]))
    objective = fix_norm(model, watched, "fixed-encoder")
    objective(model, None)
    assert seen == [[False, False]]
    assert model.encoder.training
    assert model.second.encoder.training


class Watched(Objective):
    """Tells what the model is like when it is shown a batch."""

    def __init__(self, tell):
        super().__init__()
        self.tell = tell

    def forward(self, model, batch):
        self.tell(model)
        return {}


def test_both_learn():
    model = fused(second_scale=0.5).train()
    side = model.stride * 2
    image = images(side)
    mask = torch.zeros(2, side, side, dtype=torch.int64)
    mask[:, 8:24, 8:24], mask[:, 30:50, 30:50] = 1, 4
    image[:, 1] += (mask == 4)[:, None] * 3.0
    image[:, 0] += (mask > 0)[:, None] * 3.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(image), mask)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in (model.head.weight, model.second.head.weight)
    )


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"second_scale": 0.7}, "whole eighths"),
        ({"second": {"classes": 4}}, "4 classes of 3 bands"),
        ({"second_share": 1.0}, "second_share"),
        ({"second": {"encoder_weights": "encoder.safetensors"}}, "second_from"),
    ],
)
def test_networks_that_do_not_fit_are_refused(keys, told):
    with pytest.raises(RecipeError, match=told):
        build_config(LateFusionConfig, {"kind": "late-fusion"} | keys)


def test_it_does_not_grow_by_classes():
    config = LateFusionConfig(**SMALL | {"second": OTHER})
    with pytest.raises(ModelError, match="always"):
        grow(build_model(config), config, heads=[5], added=1)
