"""Jitter and dropout of colours, combined losses and class weights from files, as MiB-CD has them."""

import json

import numpy as np
import pytest
import torch
from worked_incremental import MASK, OLD, student_logits

from aftermap.config import build_config
from aftermap.data.augment.apply import apply_to_floats
from aftermap.data.augment.chain import draw
from aftermap.data.augment.operations import ChannelDropout
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.configs.incremental_terms import ColourJitter
from aftermap.learning.losses.class_overlap import focal_tversky
from aftermap.learning.losses.incremental import unbiased_cross_entropy
from aftermap.learning.objectives.colour_views import jittered
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.segmentation_terms import segmentation_value
from incremental_stub import Stub, worked_batch

MEAN, STD = (120.0, 100.0, 90.0), (60.0, 50.0, 40.0)


def normalised(images):
    middle, width = (torch.tensor(v).reshape(1, 1, 3, 1, 1) / 255 for v in (MEAN, STD))
    return (images - middle) / width, middle, width


@pytest.mark.parametrize("alike", [False, True])
def test_colours_are_jittered_as_torchvision_does(alike):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = torch.rand(3, 1, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    x, middle, width = normalised(images)
    jitter = ColourJitter(brightness=0.4, contrast=0.3, saturation=0.2)
    torch.manual_seed(5)
    found = jittered(x, jitter, MEAN, STD, alike=alike) * width + middle
    torch.manual_seed(5)
    expected = images[:, 0].clone()
    for number in torch.randperm(3).tolist():
        amount = (0.4, 0.3, 0.2)[number]
        change = ("adjust_brightness", "adjust_contrast", "adjust_saturation")[number]
        draws = torch.rand(1).expand(3) if alike else torch.rand(3)
        factors = (1 + amount * (2 * draws - 1)).tolist()
        expected = torch.stack(
            [getattr(functional, change)(i, f) for i, f in zip(expected, factors, strict=True)]
        )
    assert (found[:, 0] - expected).abs().max() < 1e-6


def test_the_original_cuts_normalised_values():
    x, *_ = normalised(torch.rand(2, 1, 3, 4, 4))
    still = ColourJitter(brightness=0, contrast=0, saturation=0)
    assert jittered(x, still, MEAN, STD) == pytest.approx(x, abs=1e-6)
    assert torch.equal(jittered(x, still.model_copy(update={"compat_clipped": True}), MEAN, STD), x)
    cut = jittered(x, ColourJitter(compat_clipped=True), MEAN, STD)
    assert cut.min() >= 0 and cut.max() <= 1


def test_only_turned_images_get_other_colours():
    config = build_config(
        IncrementalConfig,
        {"method": "mib-cd", "contrastive": {"colour": {"brightness": 0.5}, "flips": False}},
    )
    with pytest.raises(RecipeError, match="how images are normalised"):
        Incremental(config, step=0, heads=[3])
    objective = Incremental(config, step=0, heads=[3], normalisation=(MEAN, STD))
    shown = []

    class Spy(Stub):
        def forward_features(self, image):
            shown.append(image)
            return super().forward_features(image)

    batch = worked_batch()
    objective(Spy(3), batch)
    both = torch.cat(shown)
    assert torch.equal(both[: len(batch.image)], batch.image)
    assert not torch.equal(both[len(batch.image) :].sort().values, batch.image.sort().values)


def dropped(operation, bands, count=40):
    drawn = draw([operation], np.random.default_rng(3), batch=count, dates=1)
    image, _, _ = apply_to_floats(drawn, torch.ones(count, 1, bands, 2, 2), torch.zeros(count, 2, 2).long())
    return image[:, 0, :, 0, 0]


def test_whole_bands_are_dropped():
    one = dropped(ChannelDropout(), 4)
    assert (one.sum(1) == 3).all() and (one.sum(0) < 40).all()
    some = dropped(ChannelDropout(channels=(1, 2)), 3)
    assert set(some.sum(1).tolist()) == {1.0, 2.0}
    assert (dropped(ChannelDropout(), 1) == 1).all()


def test_a_modality_goes_whole():
    rows = {tuple(row) for row in dropped(ChannelDropout(modality=True), 4).tolist()}
    assert rows == {(0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0, 0.0)}


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_combined_loss_is_half_of_each(unbiased):
    method = "mib" if unbiased else "lwf"
    config = build_config(
        IncrementalConfig, {"method": method, "segmentation": {"loss": "combo", "share": 0.3}}
    )
    assert config.segmentation.unbiased == unbiased
    logits, old = student_logits(), OLD if unbiased else 1
    found = segmentation_value(config.segmentation, logits, MASK, OLD, None)
    pixels, overlap = (
        unbiased_cross_entropy(logits, MASK, old, known_old=True),
        focal_tversky(logits, MASK, old=old),
    )
    assert found.item() == pytest.approx((0.3 * pixels + 0.7 * overlap).item(), abs=1e-12)


@pytest.mark.parametrize("ending", ["npy", "json", "txt"])
def test_class_weights_come_from_a_file(tmp_path, ending):
    file, weights = tmp_path / f"weights.{ending}", [1.0, 1.77, 4.6]
    if ending == "npy":
        np.save(file, np.array(weights))
    else:
        file.write_text(json.dumps(weights) if ending == "json" else "\n".join(map(str, weights)))
    given = {"method": "mib", "segmentation": {"loss": "unbiased-cross-entropy", "class_weights": str(file)}}
    assert build_config(IncrementalConfig, given).segmentation.class_weights == tuple(weights)


@pytest.mark.parametrize("content", [None, "[[1, 2]]", "nothing", "[1, -2]"])
def test_a_file_without_weights_is_refused(tmp_path, content):
    file = tmp_path / "weights.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(RecipeError):
        build_config(
            IncrementalConfig, {"segmentation": {"loss": "cross-entropy", "class_weights": str(file)}}
        )
