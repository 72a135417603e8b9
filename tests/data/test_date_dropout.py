"""Training samples that lack a date: what is shown in its place, and what is learned of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aftermap.artefacts.card import describe
from aftermap.classes import IGNORE
from aftermap.config import build_config
from aftermap.data.augment.operations import DEFAULT
from aftermap.data.batch import Batch
from aftermap.data.loading.date_dropout import BOTH, POST_ONLY, PRE_ONLY, DateDropout, put_other_date
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import ClassSampling
from aftermap.data.scene import Manifest
from aftermap.errors import DataError, RecipeError
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.losses.one_date import merged
from aftermap.learning.objectives.supervised import Supervised
from aftermap.workflows.training.config import TrainRecipe
from squares import make_dataset

TERMS = {"terms": [{"loss": "cross-entropy"}, {"loss": "dice"}]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("dropout") / "squares", scenes=4)


def crops(data, **given):
    said = {
        "target": "damage",
        "dates": 2,
        "augment": DEFAULT,
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
        "seed": 3,
    }
    sampling = ClassSampling(crop_px=32, batch_size=16, date_dropout=given.pop("dropout"))
    return CropSource(Manifest.load(data).scenes, sampling=sampling, **(said | given))


def test_the_missing_image_is_the_other_one_pixel_for_pixel():
    image = torch.arange(6.0).reshape(3, 2, 1, 1, 1)
    dates = put_other_date(image, np.array([BOTH, POST_ONLY, PRE_ONLY]))
    assert image.flatten().tolist() == [0, 1, 3, 3, 4, 4]
    assert dates.tolist() == [BOTH, POST_ONLY, PRE_ONLY]


def test_dates_are_drawn_by_their_chances():
    drawn = DateDropout(pre=0.3, post=0.1).draw(np.random.default_rng(0), 20_000)
    assert np.bincount(drawn) / 20_000 == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    assert DateDropout().draw(np.random.default_rng(0), 4) is None


def test_samples_that_keep_both_dates_are_those_of_a_run_without_dropout(data):
    batch = crops(data, dropout=DateDropout(pre=0.4, post=0.3)).batch(0)
    whole = crops(data, dropout=DateDropout()).batch(0)
    assert whole.dates is None and torch.equal(batch.mask, whole.mask)
    assert set(batch.dates.tolist()) == {BOTH, POST_ONLY, PRE_ONLY}
    both, post, pre = (batch.dates == shown for shown in (BOTH, POST_ONLY, PRE_ONLY))
    assert torch.equal(batch.image[both], whole.image[both])
    assert torch.equal(batch.image[post], whole.image[post][:, [1, 1]])
    assert torch.equal(batch.image[pre], whole.image[pre][:, [0, 0]])


def test_buildings_alone_are_not_taught_from_a_missing_date(data):
    with pytest.raises(DataError, match="date_dropout is for damage between two dates"):
        crops(data, dropout=DateDropout(pre=0.1), target="building", dates=1)


# probabilities by hand: background 0.1, no damage 0.2, minor 0.3, major 0.15, destroyed 0.25
SHARES = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)


@pytest.mark.parametrize(
    ("shown", "probability"),
    [
        (BOTH, [0.1, 0.2, 0.3, 0.15, 0.25]),
        (POST_ONLY, [0.1, 0.65, 0.65, 0.65, 0.25]),
        (PRE_ONLY, [0.1, 0.9, 0.9, 0.9, 0.9]),
    ],
)
def test_the_true_class_has_the_probability_of_all_that_one_image_does_not_tell_from_it(shown, probability):
    logits = SHARES.log().reshape(1, 5, 1, 1).expand(1, 5, 1, 5)
    index = torch.arange(5).reshape(1, 1, 5)
    found = merged(logits, index, torch.tensor([shown])).softmax(dim=1)
    assert found[0, range(5), 0, range(5)].tolist() == pytest.approx(probability)
    # where the class is another one, what the group's members have of it stays: at the background, as it was
    assert found[0, :, 0, 0].tolist() == pytest.approx(SHARES.tolist())


def test_nothing_is_learned_about_how_a_group_is_shared_out():
    logits = torch.randn(2, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    mask = torch.tensor([0, 1, 2, 3, 4, IGNORE, 0, 4] * 4).reshape(2, 4, 4)
    objective = Supervised(build_config(SupervisedConfig, TERMS))
    batch = Batch(torch.zeros(2, 2, 3, 4, 4), mask, dates=torch.tensor([PRE_ONLY, POST_ONLY]))
    sum(objective(lambda image: logits, batch).values()).backward()
    # every member is moved by the loss in proportion to its share: the shares stay, the sum does not
    for sample, members in ((0, slice(1, 5)), (1, slice(1, 4))):
        shares = logits[sample, members].softmax(dim=0)
        by = logits.grad[sample, members]
        torch.testing.assert_close(by, by.sum(dim=0, keepdim=True) * shares)
    assert logits.grad.abs().sum() > 0


def test_a_batch_before_the_disaster_costs_what_localization_does():
    logits = torch.randn(1, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([0, 1, 2, 3, 4, 0, IGNORE, 4] * 2).reshape(1, 4, 4)
    objective = Supervised(build_config(SupervisedConfig, {"terms": [{"loss": "cross-entropy"}]}))
    batch = Batch(torch.zeros(1, 2, 3, 4, 4), mask, dates=torch.tensor([PRE_ONLY]))
    found = objective(lambda image: logits, batch)["cross-entropy"]
    building = torch.stack([logits[:, 0], logits[:, 1:].logsumexp(dim=1)], dim=1)
    target = torch.where(mask == IGNORE, IGNORE, (mask > 0).long())
    assert found.item() == pytest.approx(F.cross_entropy(building, target, ignore_index=IGNORE).item())


def recipe(data, **changes):
    model = {"kind": "siamese-unet", "encoder_name": "resnet10t", "encoder_depth": 2, "classes": 5}
    model |= {"decoder_channels": [8, 8]}
    said = {"name": "tiny", "task": "damage", "data": {"manifests": [str(data)]}, "model": model}
    said |= {"objective": TERMS, "steps": 1, "teacher_check": False, "precision": "no"}
    dropout = {"crop_px": 32, "batch_size": 4, "date_dropout": {"pre": 0.5, "post": 0.25}}
    return build_config(TrainRecipe, said | {"sampling": dropout} | changes)


def test_the_card_says_for_which_dates_a_model_was_trained(data, tmp_path):
    from aftermap.artefacts.store import load_card
    from aftermap.workflows.training.run import train

    card = load_card(train(recipe(data), tmp_path / "run").model)
    assert card.one_date == ("post-only", "pre-only")
    assert "- Maps from one date too: post-only, pre-only" in describe(card)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "sigmoid"}, "activation softmax"),
        ({"objective": {**TERMS, "targets": {}}}, "no targets"),
        (
            {"objective": {**TERMS, "kind": "distillation", "distil": [{"loss": "hard-labels"}]}},
            "terms of teachers",
        ),
        (
            {"sampling": {"date_dropout": {"pre": 0.7, "post": 0.4}}},
            "pre and post are chances of one draw, 1.1 is more than 1",
        ),
        (
            {
                "task": "building",
                "model": {"kind": "unet", "classes": 2},
                "sampling": {"class_weights": [1, 2], "date_dropout": {"pre": 0.5}},
            },
            "date_dropout is for task damage",
        ),
    ],
)
def test_what_cannot_lack_a_date_is_refused(data, changes, said):
    with pytest.raises(RecipeError, match=said):
        recipe(data, **changes)
