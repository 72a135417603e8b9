"""What a card says of data, parents and licences: words go with what they are about."""

import json
from pathlib import Path

import pytest

from aftermap.artefacts.card import Card, Parent, TrainingRecord, describe
from aftermap.artefacts.licences import UNSAID, with_others
from aftermap.artefacts.store import load_card
from aftermap.config import build_config, load_config, merge
from aftermap.workflows.plans.plan import load_plan, plan_jobs
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import recipe_path
from aftermap.workflows.training.start import licence_with, parents_of

PACKAGES = Path(__file__).resolve().parents[2] / "packages" / "aftermap-field" / "src"
WORDS = {
    "licence": "MIT",
    "limits": "none",
    "data": {"manifests": ["a"], "licence": "CC0", "description": "towns"},
}


def words(recipe):
    return recipe.licence, recipe.limits, recipe.data.licence, recipe.data.description


def test_other_data_leave_the_words_about_the_former_out():
    assert merge(WORDS, {"data": {"manifests": ["b"]}}) == {"data": {"manifests": ["b"]}}


def test_what_is_laid_over_may_say_its_own():
    own = {"licence": "GPL", "data": {"manifests": ["b"], "licence": "mine"}}
    assert merge(WORDS, own) == own


def test_the_same_data_keep_their_words():
    assert merge(WORDS, {"data": {"splits": "s"}, "steps": 3}) == {
        **WORDS,
        "data": {**WORDS["data"], "splits": "s"},
        "steps": 3,
    }


@pytest.mark.parametrize("name", ["box-teacher.yaml", "field.yaml", "field-start.yaml"])
def test_a_recipe_of_ours_with_data_of_ones_own_claims_nothing(name):
    own = load_config(TrainRecipe, recipe_path(name), ["data.manifests=[mine]"])
    assert words(own) == (UNSAID, "", UNSAID, "")
    said = load_config(TrainRecipe, recipe_path(name), ["data.licence=mine", "data.manifests=[mine]"])
    assert words(said) == (UNSAID, "", "mine", "")


def test_a_file_that_extends_one_of_ours_claims_nothing_either(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: box.yaml\ndata: {manifests: [mine]}\nlimits: for trial\n")
    assert words(load_config(TrainRecipe, tmp_path / "own.yaml")) == (UNSAID, "for trial", UNSAID, "")


def test_other_keys_change_no_words():
    changed = load_config(TrainRecipe, recipe_path("box.yaml"), ["steps=3", "data.exclude_events=[fire]"])
    assert changed.licence == "MIT" and changed.data.licence.endswith("(MIT)")


def test_recipes_say_what_the_cards_of_shipped_models_do():
    cards = {
        "box.yaml": load_card("box"),
        "field.yaml": load_card(PACKAGES / "aftermap_field" / "model"),
        "field-one-date.yaml": load_card(PACKAGES / "aftermap_field_one_date" / "model"),
    }
    for name, card in cards.items():
        recipe = load_config(TrainRecipe, recipe_path(name))
        told = card.licence, card.limits, card.training.data_licence, card.training.data
        assert words(recipe) == told, name


def test_a_plan_with_data_of_ones_own_claims_nothing(tmp_path):
    (tmp_path / "plan.yaml").write_text(
        "name: p\nstages:\n  - {kind: train, name: a, recipe: one.yaml}\ndata: {manifests: [mine]}\n"
    )
    (tmp_path / "one.yaml").write_text("extends: box-teacher.yaml\nname: one\n")
    plan, folder = load_plan(tmp_path / "plan.yaml", [])
    (job,) = plan_jobs(plan, folder, tmp_path / "out")
    assert words(job.recipe) == (UNSAID, "", UNSAID, "")


@pytest.mark.parametrize(
    ("own", "others", "told"),
    [
        ("MIT", [("began with a", "MIT")], "MIT"),
        ("MIT", [("began with a", "CC BY 4.0"), ("taught by b", "Apache-2.0")], "MIT"),
        ("MIT", [("began with a", "CC BY-NC-SA 4.0")], "MIT; began with a: CC BY-NC-SA 4.0"),
        ("CC BY-NC-SA 4.0", [("began with a", "CC BY-NC-SA 4.0")], "CC BY-NC-SA 4.0"),
        ("MIT", [("taught by a", UNSAID)], f"MIT; taught by a: {UNSAID}"),
        (UNSAID, [("began with a", UNSAID)], UNSAID),
        ("mine", [("began with a", "ODbL")] * 2, "mine; began with a: ODbL"),
    ],
)
def test_licences_that_limit_what_is_made_are_told_once(own, others, told):
    assert with_others(own, others) == told


def test_parents_stand_in_the_licence_and_on_the_card():
    field = PACKAGES / "aftermap_field" / "model"
    tree = {
        "name": "mine",
        "task": "damage",
        "licence": "MIT",
        "data": {"manifests": ["mine"]},
        "init_from": str(field),
        "model": {"kind": "siamese-unet", "encoder_name": "test_resnet"},
        "objective": {
            "kind": "distillation",
            "teachers": {"main": {"model": "box"}},
            "distil": [{"loss": "soft-targets"}],
        },
    }
    recipe = build_config(TrainRecipe, tree)
    parents = parents_of(recipe)
    began = json.loads((field / "card.json").read_text())
    assert [(p.part, p.name, p.sha256) for p in parents] == [
        ("start", "aftermap-field", began["weights"]["sha256"]),
        ("teacher", "aftermap-box", load_card("box").weights.sha256),
    ]
    assert (
        licence_with(recipe, None, parents)
        == f"MIT; began with aftermap-field (version {began['version']}): CC BY-NC-SA 4.0"
    )


def test_the_page_of_a_card_tells_the_parents():
    parents = (
        Parent(part="start", name="a", version="2", licence="MIT"),
        Parent(part="second", name="b", version="1", licence="CC0"),
    )
    box = load_card("box")
    card = box.model_copy(update={"training": TrainingRecord(data="d", data_licence="l", parents=parents)})
    assert Card.model_validate_json(card.model_dump_json()) == card
    page = describe(card)
    assert "- Began with a (version 2): MIT\n- Its second network with b (version 1): CC0\n" in page


def test_weights_of_an_encoder_keep_their_licence_until_it_begins_without_them():
    name = recipe_path("metadamagenet/suggested-damage-segformer-b0.yaml")
    with_theirs = load_config(TrainRecipe, name, ["data.manifests=[mine]"])
    assert licence_with(with_theirs, None) == f"{UNSAID}; encoder weights: research use only"
    without = load_config(TrainRecipe, name, ["data.manifests=[mine]", "model.encoder_weights=null"])
    assert licence_with(without, None) == UNSAID
