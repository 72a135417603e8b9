"""Objectives that need no labels: what is hidden is guessed, and what looks otherwise is seen as the same."""

import pytest
import torch

from aftermap import extras
from aftermap.classes import IGNORE
from aftermap.data.batch import Batch
from aftermap.errors import MissingExtraError, RecipeError
from aftermap.learning.configs.pretraining import MaskedImageConfig, VicregConfig
from aftermap.learning.objectives.pretraining import MaskedImage, Vicreg, build_pretraining
from aftermap.models.networks.encoder_model import EncoderModel
from aftermap.models.networks.encoders import Encoder

TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


def batch(seed=0, size=32):
    """Stripes of one direction and colour an image, which half of it tells of the rest."""
    drawn = torch.Generator().manual_seed(seed)
    wave = torch.sin(torch.arange(size) * 0.4)[None, None, :].expand(3, size, size)
    images = [wave if n % 2 else wave.transpose(1, 2) for n in range(4)]
    colours = torch.randn(4, 3, 1, 1, generator=drawn)
    image = torch.stack(images) * colours
    return Batch(image[:, None], torch.full((4, size, size), IGNORE))


def encoder():
    torch.manual_seed(0)
    return EncoderModel(Encoder("resnet10t", depth=2, options=TINY))


def learned(objective, steps=40):
    """First and last loss, and the encoder's weights."""
    model = encoder()
    torch.manual_seed(1)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=0.01)
    losses = []
    for _ in range(steps):
        loss = sum(objective(model, batch()).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, model.state_dict()


def masked(seed=0, **said):
    torch.manual_seed(seed)
    return MaskedImage(MaskedImageConfig(patch_px=8, **said), channels=8, stride=4, bands=3)


def test_as_many_squares_as_asked_for_are_hidden_in_every_image():
    hidden = masked(share=0.25).hidden(torch.zeros(5, 1, 3, 32, 24))
    assert hidden.shape == (5, 1, 32, 24)
    assert hidden.flatten(1).sum(1).tolist() == [3 * 64] * 5  # a quarter of 4 x 3 squares of 8 x 8 px
    squares = hidden.reshape(5, 4, 8, 3, 8).float().mean((2, 4))
    assert set(squares.unique().tolist()) == {0.0, 1.0}
    assert masked(share=0.001).hidden(torch.zeros(1, 1, 3, 8, 8)).all()


def test_what_is_shown_costs_nothing_and_what_is_hidden_its_error():
    objective = masked(share=0.5)
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.zeros_(objective.head.bias)
    given, model = batch(), encoder().eval()
    torch.manual_seed(3)
    found = objective(model, given)["hidden"].detach()
    torch.manual_seed(3)
    hidden = objective.hidden(given.image)
    assert float(found) == pytest.approx(
        float(given.image[:, 0].abs().mean(1, keepdim=True)[hidden].mean()), rel=1e-5
    )


def test_hidden_squares_are_learned_and_alike_by_the_same_seed():
    losses, _ = learned(masked(), steps=60)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    (again, weights), (_, same) = learned(masked(), steps=5), learned(masked(), steps=5)
    assert again == losses[:5] and all(torch.equal(same[name], value) for name, value in weights.items())


def test_squares_go_with_the_stride():
    with pytest.raises(
        RecipeError, match=r"patch_px is 12, the encoder's deepest stride is 8: take a multiple"
    ):
        build_pretraining(MaskedImageConfig(patch_px=12), channels=8, stride=8, bands=3)


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != "pytorch_metric_learning")
    with pytest.raises(MissingExtraError, match=r"aftermap\[ssl\]"):
        Vicreg(VicregConfig(), channels=8)


def test_vicreg_is_learned_and_does_not_collapse():
    torch.manual_seed(0)
    objective = Vicreg(VicregConfig(width=16), channels=8)
    losses, _ = learned(objective)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    cells = objective.head(encoder()(batch().image).flatten(2).transpose(1, 2)).flatten(0, 1)
    assert float(cells.detach().std(0).mean()) > 0.1
