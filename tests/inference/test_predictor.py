import numpy as np
import pytest
import torch

from aftermap.artefacts.activation import to_channels, to_probabilities, to_uint8, truncated
from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.store import LoadedModel
from aftermap.inference.predictor import Predictor
from aftermap.models.configs import CustomConfig
from aftermap.models.networks.dense import DenseModel


def at(*values):
    return torch.tensor(values).reshape(1, -1, 1, 1)


def test_one_logit_is_the_probability_of_a_building():
    p = to_probabilities(to_channels(at(1.0), activation="sigmoid", channel_0="background"))
    assert p.flatten().tolist() == pytest.approx([0.268941, 0.731059], abs=1e-6)


def test_a_softmax_comes_out_as_it_went_in():
    logits = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    p = to_probabilities(to_channels(logits, activation="softmax", channel_0="background"))
    assert torch.allclose(p, logits.softmax(1), atol=1e-6)


def test_a_very_unlikely_building_still_tells_its_damage():
    p = to_probabilities(
        to_channels(at(40.0, 0.0, 1.0, 0.0, 0.0), activation="softmax", channel_0="background")
    )
    assert p[0, 2].item() / p[0, 1].item() == pytest.approx(np.e, rel=1e-4) and p[0, 0] == 1


def test_sigmoid_channels_share_out_the_building_channel():
    logits = torch.logit(at(0.6, 0.5, 0.2, 0.3, 0.0 + 1e-9))
    channels = to_channels(logits, activation="sigmoid", channel_0="building")
    p = to_probabilities(channels).flatten().tolist()
    assert p == pytest.approx([0.4, 0.3, 0.12, 0.18, 0.0], abs=1e-6)


def test_sigmoid_channels_with_a_background_channel_are_turned_over():
    channels = to_channels(
        torch.logit(at(0.9, 0.2, 0.2, 0.4, 0.2)), activation="sigmoid", channel_0="background"
    )
    p = to_probabilities(channels).flatten().tolist()
    assert p == pytest.approx([0.9, 0.02, 0.02, 0.04, 0.02], abs=1e-6)


def test_the_temperature_divides_logits_before_the_activation():
    channels = to_channels(at(2.0), activation="sigmoid", channel_0="background", temperature=2.0)
    assert channels.item() == pytest.approx(0.731059, abs=1e-6)


def test_a_building_whose_classes_are_all_zero_is_shared_out_evenly():
    assert to_probabilities(at(0.8, 0.0, 0.0, 0.0, 0.0)).flatten().tolist() == pytest.approx(
        [0.2] + [0.2] * 4
    )


def test_truncation_cuts_and_does_not_round():
    values = at(0.0, 0.38, 0.5, 0.99999, 1.0, 0.1294)
    assert to_uint8(values).flatten().tolist() == [0, 96, 127, 254, 255, 32]
    assert truncated(values).flatten().tolist() == pytest.approx(
        [v / 255 for v in (0, 96, 127, 254, 255, 32)]
    )


class Echo(DenseModel):
    """Logits are the normalised bands of the first date."""

    dates, stride = 1, 1

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward_features(self, image):
        return image[:, 0]

    def forward_head(self, features, size):
        return features[:, : self.classes]


def echo(classes=2, **values):
    card = Card(
        name="echo",
        model=CustomConfig(target="test_predictor:Echo", classes=classes),
        dates=1,
        scheme=values.pop("scheme", "building"),
        training=TrainingRecord(data="none", data_licence="none"),
        licence="MIT",
        **values,
    )
    return Predictor(LoadedModel(Echo(classes), card, None, "0"))


IMAGES = np.array([200, 100, 20], np.uint8).reshape(1, 1, 3, 1, 1)


def test_images_reach_the_model_in_the_order_of_its_bands():
    assert echo().prepare(IMAGES).flatten().tolist() == pytest.approx([v / 127.5 - 1 for v in (200, 100, 20)])
    turned = echo(bands=("blue", "green", "red"), normalisation=Normalisation(mean=(1, 2, 3), std=(1, 1, 2)))
    assert turned.prepare(IMAGES).flatten().tolist() == [19, 98, 98.5]


def test_bands_that_are_no_colours_stay_in_the_order_given():
    card = echo(bands=("nir", "red", "green")).card
    assert card.band_order == (0, 1, 2) and card.given_bands == ("nir", "red", "green")


def test_pixels_without_data_are_in_the_middle_of_the_range():
    assert echo().prepare(IMAGES, np.zeros((1, 1, 1, 1), bool)).abs().sum() == 0


def test_damage_weights_of_the_card_shift_mass_between_the_classes():
    images = np.log([0.5, 0.2, 0.1, 0.1, 0.1], dtype=np.float32).reshape(1, 1, 5, 1, 1)
    found = [
        echo(
            classes=5,
            scheme="joint-damage-scale",
            bands=("a", "b", "c", "d", "e"),
            normalisation=Normalisation(mean=(0,) * 5, std=(1,) * 5),
            damage_weights=weights,
        ).predict(images)
        for weights in (None, (1.0, 1.0, 2.0, 4.0))
    ]
    assert found[0].flatten() == pytest.approx([0.5, 0.2, 0.1, 0.1, 0.1], abs=1e-6)
    assert found[1].flatten() == pytest.approx([0.5, *(0.5 * w / 9 for w in (2, 1, 2, 4))], abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"class_thresholds": (0.1, 0.2)}, "class_thresholds has 2 values"),
        ({"bands": ("red", "red", "blue")}, "name one twice"),
        ({"minor_dilation": "right"}, "needs a scheme with minor-damage"),
        ({"scheme": "joint-damage-scale"}, "the model has 2 classes"),
        ({"scheme": "none"}, "no class scheme 'none'"),
    ],
)
def test_cards_that_contradict_themselves_are_refused(values, message):
    tree = echo().card.model_dump() | values
    with pytest.raises(ValueError, match=message):
        Card.model_validate(tree)


def test_one_logit_needs_a_sigmoid():
    tree = echo().card.model_dump() | {"model": {"kind": "custom", "target": "x:y", "classes": 1}}
    with pytest.raises(ValueError, match="one logit needs activation sigmoid"):
        Card.model_validate(tree)
    assert Card.model_validate(tree | {"activation": "sigmoid"}).model.classes == 1
