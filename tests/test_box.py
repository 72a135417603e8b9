"""The model in the box: there, small, honest about itself, and able to find buildings."""

import numpy as np

from aftermap.artefacts.store import BOX, load_card, load_model, model_folder
from aftermap.inference.predictor import Predictor
from aftermap.inference.tiling import predict_scene
from aftermap.synthetic import make_pair
from aftermap.workflows.scoring.evaluate import decide


def test_the_box_weighs_at_most_eight_megabytes():
    assert sum(file.stat().st_size for file in model_folder(BOX).iterdir()) <= 8_000_000


def test_its_card_says_what_it_is_and_what_it_is_not():
    card = load_card(BOX)
    assert card.dates == 2 and card.scheme == "joint-damage-scale" and card.licence == "MIT"
    assert "synthetic" in card.training.data and "not for operations" in card.limits
    assert {"held-out synthetic scenes", "real scenes (xbd-real, test blocks)"} <= set(card.metrics)


def test_it_finds_the_buildings_of_an_unseen_town():
    predictor = Predictor(load_model(BOX))
    hits = wrong = 0
    for seed in (5_000_001, 5_000_002, 5_000_003):
        pair = make_pair(seed, size_px=384)
        probabilities = predict_scene(predictor, np.stack([pair.pre, pair.post]))
        found, truth = decide(probabilities, predictor.card.building_threshold)[0] > 0, pair.building_mask > 0
        hits, wrong = hits + 2 * int((found & truth).sum()), wrong + int((found ^ truth).sum())
    assert hits / (hits + wrong) > 0.5
