"""The two-date U-Net with an encoder for each date: what it sees, and that it learns from what radar alone shows."""

import pytest
import torch
import torch.nn.functional as F

from aftermap.config import build_config
from aftermap.errors import RecipeError
from aftermap.models.build import build_model
from aftermap.models.configs import PseudoSiameseUnetConfig

SMALL = {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": (16, 16, 16)}


def pairs(count=2, side=32):
    """Optical noise before, and after it radar that is bright where something is destroyed, in three equal bands."""
    torch.manual_seed(0)
    image = torch.randn(count, 2, 3, side, side)
    mask = torch.zeros(count, side, side, dtype=torch.int64)
    mask[:, 4:14, 6:16], mask[:, 18:28, 12:24] = 1, 4
    image[:, 1] = 0.1 * image[:, 1, :1] + (mask == 4)[:, None] - (mask == 1)[:, None].float()
    return image, mask


@pytest.mark.parametrize("fuse", ["encoder", "difference", "decoder"])
def test_logits_are_of_the_image(fuse):
    model = build_model(PseudoSiameseUnetConfig(**SMALL, fuse=fuse)).eval()
    assert model.dates == 2
    assert model(pairs()[0]).shape == (2, 5, 32, 32)


def test_of_the_second_date_only_its_bands_are_seen():
    model = build_model(PseudoSiameseUnetConfig(**SMALL, fuse="difference")).eval()
    image, _ = pairs()
    with torch.no_grad():
        before = model(image)
        image[:, 1, 1:] = 9
        assert torch.equal(model(image), before)
        image[:, 1, 0] = 9
        assert not torch.equal(model(image), before)
    stems = [next(encoder.parameters()).shape[1] for encoder in (model.encoder, model.post_encoder)]
    assert stems == [3, 1]


def test_one_batch_is_learned():
    image, mask = pairs()
    model = build_model(PseudoSiameseUnetConfig(**SMALL, fuse="difference"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(image), mask)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert (model(image).argmax(1) == mask).float().mean() > 0.95


@pytest.mark.parametrize(
    ("options", "told"),
    [({"post_channels": 4}, "images have 3 bands"), ({"pixel_skip": True}, "as many bands")],
)
def test_bands_that_do_not_fit_are_refused(options, told):
    with pytest.raises(RecipeError, match=told):
        build_config(PseudoSiameseUnetConfig, {**SMALL, **options}, source="recipe")
