"""The winner's networks with reproducible weights, seen four ways and stored in eight bits (parity check P14)."""

import numpy as np
import pytest

from aftermap.artefacts.activation import to_uint8
from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.artefacts.store import LoadedModel, save_model
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.predictor import Predictor
from aftermap.models.weights.published import PUBLISHED, original_shapes
from published_fills import published_model, winner_fill

CASES = {
    "xview2-resnet34-localization": ([0.657638], [167], [739323]),
    "xview2-resnet34-damage": (
        [0.638927, 0.505898, 0.226887, 0.325351, 0.601116],
        [162, 129, 57, 82, 153],
        [774158, 705731, 199300, 231268, 516931],
    ),
    "xview2-seresnext50-damage": (
        [0.930105, 0.149688, 0.059504, 0.042682, 0.678231],
        [237, 38, 15, 10, 172],
        [955561, 140460, 118273, 64966, 625694],
    ),
}


def loaded(name, path=None):
    """The network with reproducible weights and the card that its table of published networks implies."""
    weights = winner_fill(original_shapes(name))
    for key in ("res.weight", "res.bias"):
        weights[key] = 8 * weights[key]
    model = published_model(name, weights).float()
    entry = PUBLISHED[name]
    damage = entry.role == "damage"
    card = Card(
        name=name,
        model=entry.config,
        dates=2 if damage else 1,
        scheme="joint-damage-scale" if damage else "building",
        bands=entry.bands,
        normalisation=Normalisation(mean=entry.mean, std=entry.std),
        activation=entry.activation,
        channel_0=entry.channel_0,
        training=TrainingRecord(data="none", data_licence="none"),
        licence="not stated",
    )
    return LoadedModel(model, card, path, "0")


def picture(dates):
    """8-bit images (1, T, 3, 64, 64) of the check, in red, green, blue where the networks read blue, green, red."""
    c, h, w = np.ogrid[: 3 * dates, :64, :64]
    stacked = ((7 * h + 3 * w + 11 * c + 5 * ((h * w) % 13)) % 256).astype(np.uint8)
    return np.ascontiguousarray(stacked.reshape(1, dates, 3, 64, 64)[:, :, ::-1])


@pytest.mark.parametrize("name", CASES)
def test_the_winners_networks_see_four_ways_and_store_bytes_as_published(name):
    probabilities, stored, sums = CASES[name]
    network = loaded(name)
    channels = Predictor(network, tta="flips").channels(picture(network.card.dates))
    assert channels[0, :, 31, 17].tolist() == pytest.approx(probabilities, abs=2e-6)
    assert to_uint8(channels)[0, :, 31, 17].tolist() == stored
    assert to_uint8(channels).double().sum((0, 2, 3)).tolist() == pytest.approx(sums, abs=2)


def test_an_ensemble_of_the_winners_networks_averages_their_bytes(tmp_path):
    names = list(CASES)
    for name in names:
        network = loaded(name)
        save_model(tmp_path / name, network.model, network.card)
    parts = [Ingredient(tmp_path / name) for name in names]
    save_ensemble(tmp_path / "three", *compose("three", parts, compat_uint8=True))
    found = open_predictor(tmp_path / "three", Options(tta="flips")).predict(picture(2))[0, :, 31, 17]
    building = 167 / 255
    classes = np.array([129 + 38, 57 + 15, 82 + 10, 153 + 172])
    assert found == pytest.approx([1 - building, *(building * classes / classes.sum())], abs=1e-6)
