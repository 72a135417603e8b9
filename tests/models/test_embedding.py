"""Features caught on the way of one forward pass."""

import pytest
import torch
from torch import nn

from aftermap.errors import RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import (
    SegformerConfig,
    SiameseUnetConfig,
    SmpConfig,
    UnetConfig,
    Xview2UnetConfig,
)
from aftermap.models.embedding import forward_all

SMALL = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (8, 8, 8)}
KINDS = {
    "unet": UnetConfig(**SMALL),
    "siamese-unet": SiameseUnetConfig(**SMALL),
    "siamese-folded": SiameseUnetConfig(**SMALL, fold=2, pixel_skip=True, head_stride=2),
    "xview2-unet": Xview2UnetConfig(encoder_name="test_resnet", decoder_channels=(8,) * 5),
    "segformer": SegformerConfig(decoder_channels=8),
    "smp-fpn": SmpConfig(architecture="fpn", encoder_name="test_resnet"),
}


class Wrapper(nn.Module):
    """What distributed training puts around a model."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.passes = 0

    def forward(self, *inputs, **options):
        self.passes += 1
        return self.module(*inputs, **options)


def built(kind):
    torch.manual_seed(0)
    model = build_model(KINDS[kind]).eval()
    return model, torch.randn(2, model.dates, 3, 64, 64)


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_gives_the_logits_of_an_ordinary_pass(self, kind):
        model, image = built(kind)
        assert torch.equal(forward_all(model, image, features="trunk", stages=True).logits, model(image))

    def test_gives_the_features_of_the_head(self, kind):
        model, image = built(kind)
        assert torch.equal(
            forward_all(model, image, features="trunk").features, model.forward_features(image)
        )

    def test_gives_the_encoders_maps_from_fine_to_coarse(self, kind):
        model, image = built(kind)
        stages = forward_all(model, image, stages=True).stages
        heights = [stage.shape[-2] for stage in stages]
        assert heights == sorted(set(heights), reverse=True)
        assert {len(stage) for stage in stages} == {2 * model.dates}
        assert all(stage.shape[1] > 4 * 3 for stage in stages)  # neither the image nor its folded pixels

    def test_leaves_the_model_as_it_was(self, kind):
        model, image = built(kind)
        with pytest.raises(RuntimeError):
            forward_all(model, image[..., :5, :5, :, :][:, :, :1], features="trunk", stages=True)
        assert "forward_features" not in vars(model)
        assert not any(module._forward_hooks for module in model.modules())


def test_a_wrapped_model_runs_once_through_its_wrapper():
    model, image = built("unet")
    wrapper = Wrapper(model)
    outputs = forward_all(wrapper, image, features="trunk", stages=True)
    assert wrapper.passes == 1
    assert torch.equal(outputs.features, model.forward_features(image))


def test_gradients_of_features_and_stages_reach_the_weights():
    model, image = built("siamese-unet")
    model.train()
    outputs = forward_all(model, image, features="trunk", stages=True)
    (outputs.features.square().mean() + sum(stage.square().mean() for stage in outputs.stages)).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == ["head.weight", "head.bias"]


def test_nothing_is_kept_that_nobody_asked_for():
    model, image = built("unet")
    outputs = forward_all(model, image)
    assert outputs.features is None
    assert outputs.stages == ()


def test_a_dropout_at_the_end_of_the_trunk_is_left_out():
    model, image = built("segformer")
    clean = forward_all(model, image, features="trunk").features
    model.decoder.dropout.train()
    model.decoder.dropout.p = 0.5
    assert torch.equal(forward_all(model, image, features="trunk").features, clean)
    assert not torch.equal(model.forward_features(image), clean)


def test_models_without_an_embedding_are_refused():
    model, image = built("unet")
    with pytest.raises(RecipeError, match="Unet has no features at full resolution after a dropout"):
        forward_all(model, image, features="embedding")


def test_a_model_without_an_encoder_has_no_stages():
    with pytest.raises(RecipeError, match="Conv2d has no encoder"):
        forward_all(nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 8, 8), stages=True)
