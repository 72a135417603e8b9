"""Steps that add places and no class: PLOP's protocol of Cityscapes, on two made cities."""

import json

import pytest
import torch

from aftermap.artefacts.store import load_card, load_model
from aftermap.classes import IGNORE
from aftermap.config import build_config
from aftermap.data.incremental.protocol import Protocol, describe, protocol_for
from aftermap.data.legends import CITYSCAPES, LEGENDS
from aftermap.errors import DataError, ModelError, RecipeError
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.configs.incremental_terms import ExcludedDistillation
from aftermap.learning.losses.pseudo_labels import pseudo_labels
from aftermap.learning.objectives.held_knowledge import of_old_logits
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.segmentation_terms import segmentation_value
from aftermap.models.embedding import Outputs
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.incremental.tiles import gather
from coloured_cities import make_cities
from incremental_runs import tiny_recipe

pytestmark = pytest.mark.usefixtures("undrawn")

ISPRS = LEGENDS["isprs"]
PLACES = [["easton"], ["weston"]]


def recipe_of(data, *places, **changes):
    tree = {"task": "offline", "protocol": {"places": places or PLACES}, "steps": 2, "report": {"strips": 0}}
    return tiny_recipe(data, **tree | {"objective": {"method": "plop"}} | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Of each city six tiles to train on, one to validate on, one to test on."""
    return make_cities(tmp_path_factory.mktemp("data") / "cities")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Broken off after the first optimizer step of the second city, and gone on with."""
    folder = tmp_path_factory.mktemp("runs") / "whole"

    def break_off(progress):
        if (progress.stage, progress.task_step, progress.done) == ("learning the classes", 1, 1):
            raise KeyboardInterrupt

    recipe = recipe_of(data, save_every=1)
    with pytest.raises(KeyboardInterrupt):
        learn_incrementally(recipe, folder, on_progress=break_off)
    return folder, learn_incrementally(recipe, folder, resume=True)


def test_the_published_tasks_take_21_cities_and_all_classes_from_the_start():
    for task, counts in {"11-5": [11, 5, 5], "11-1": [11] + [1] * 10, "1-1": [1] * 21}.items():
        protocol = protocol_for(CITYSCAPES, task)
        assert [len(places) for places in protocol.places] == counts
        assert protocol.heads(len(counts) - 1) == [20] + [0] * (len(counts) - 1)
        cities = [city for places in protocol.places for city in places]
        assert (cities[0], cities[10:12], cities[-1]) == ("aachen", ["cologne", "dusseldorf"], "munster")
        assert len(set(cities)) == 21


def test_masks_keep_all_classes_in_every_step_and_use():
    protocol = protocol_for(ISPRS, "offline", places=PLACES)
    for step in range(2):
        for use in ("train", "validation", "test", "replay"):
            table = protocol.lookup(step, use)
            channels = [protocol.channel_names(step)[value] for value in table[:6]]
            assert channels == list(ISPRS.names)
            assert table[IGNORE] == IGNORE


def test_a_step_sees_the_tiles_of_its_places_and_is_judged_on_those_so_far(data):
    material = gather(recipe_of(data), dates=1)
    learned = [{scene.event for scene in material.learned_from(step).scenes} for step in range(2)]
    assert learned == [{"easton"}, {"weston"}]
    assert [sum(material.tiles_of(step)) for step in range(2)] == [6, 6]
    assert [len(material.judged(step)) for step in range(2)] == [1, 2]
    assert [len(material.judged(step, filtered=True)) for step in range(2)] == [1, 1]
    assert [len(material.tested(step)) for step in range(2)] == [1, 2]
    joint = gather(recipe_of(data, joint=True), dates=1)
    assert sum(joint.tiles_of(0)) == 12


def test_the_model_keeps_its_channels_and_its_card_names_the_places(run):
    folder, learned = run
    cards = [load_card(learned.steps[step]) for step in range(2)]
    assert [card.model.classes for card in cards] == [7, 7]
    assert cards[1].incremental.heads == (7, 0)
    assert cards[1].incremental.places == (("easton",), ("weston",))
    assert cards[1].incremental.parent_sha256 == load_model(learned.steps[0]).sha256
    assert (
        "Places learned in 2 steps of offline by plop: easton; weston"
        in (folder / "steps/1/model/README.md").read_text()
    )


def test_scores_list_every_class_and_each_steps_places(run):
    folder, learned = run
    tiles = [json.loads((folder / f"steps/{t}/scores.json").read_text())["tiles"] for t in range(2)]
    assert tiles == [1, 2]
    assert [step["scores"]["pixels"] for step in learned.scores["steps"]] == [64 * 64, 2 * 64 * 64]
    assert sorted(learned.scores["steps"][1]["forgetting"]) == sorted(ISPRS.names)
    assert [len(values) for values in learned.scores["by_place"]] == [1, 2]
    assert "| after step | easton | weston |" in (folder / "incremental.md").read_text()


def test_going_on_from_elsewhere_gives_the_weights_of_a_resumed_run(run, data, tmp_path):
    _, learned = run
    other = learn_incrementally(recipe_of(data, save_every=1), tmp_path / "run", start=learned.steps[0])
    mine, theirs = (load_model(path).model.state_dict() for path in (learned.steps[1], other.steps[1]))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with pytest.raises(
        ModelError, match="has learned the places easton in this order, task offline learns weston"
    ):
        learn_incrementally(recipe_of(data, ["weston"], ["easton"]), tmp_path / "x", start=learned.steps[0])


def test_steps_of_a_recipe_name_classes_and_places():
    steps = [{"classes": ["tree", "car"], "places": ["x"]}, {"places": ["y", "z"]}]
    recipe = tiny_recipe("somewhere", task=steps)
    assert recipe.task == (("tree", "car"), ())
    assert recipe.protocol.places == (("x",), ("y", "z"))
    assert tiny_recipe("somewhere", **recipe.model_dump(include={"task", "protocol"})) == recipe
    with pytest.raises(RecipeError, match="step 1 of the task says place: known are classes, places"):
        tiny_recipe("somewhere", task=[{"classes": ["tree"]}, {"place": ["y"]}])


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ([["tree"], ["car"]], {"places": PLACES}, "step 1 adds car: steps that add places want every class"),
        ([["tree"], []], {}, "step 1 has no class"),
        ([["tree"], []], {"places": [["x"]]}, "places of 1 step, the task has 2"),
        ([["tree"], []], {"places": [["x"], []]}, "step 1 adds no place"),
        ([["tree"], []], {"places": [["x"], ["x"]]}, "place 'x' is in steps 0 and 1"),
        ("offline", {"places": PLACES, "filter": "disjoint"}, "filter disjoint chooses tiles by class"),
    ],
)
def test_what_is_no_protocol_of_places_is_refused(task, options, message):
    with pytest.raises(RecipeError, match=message):
        protocol_for(ISPRS, task, **options)


def test_a_place_without_a_tile_is_refused(data):
    with pytest.raises(
        DataError, match="step 1 of task offline has no tile of norton: there are tiles of easton"
    ):
        gather(recipe_of(data, ["easton"], ["norton"]), dates=1).learned_from(1)


def test_a_protocol_tells_its_places_and_those_without_keep_their_hash():
    protocol = protocol_for(ISPRS, [["tree"]], places=PLACES)
    assert describe(protocol)[1:3] == [
        "step 0: tree 1; places: easton",
        "step 1: no new class; places: weston",
    ]
    again = build_config(Protocol, protocol.model_dump(mode="json"), source="run")
    assert again.sha256 == protocol.sha256 != protocol_for(ISPRS, [["tree"]]).sha256


def test_labels_of_a_step_that_adds_no_class_are_learned_as_they_are():
    ours = Outputs(torch.tensor([[1.0, 2.0, 0.0]]).reshape(1, 3, 1, 1))
    told = Outputs(torch.tensor([[0.0, 0.0, 1.0]]).reshape(1, 3, 1, 1))
    seen = torch.tensor([[[1]]])
    objective = Incremental(
        build_config(IncrementalConfig, {"method": "unbiased-fine-tuning"}, source="t"), step=1, heads=[3, 0]
    )
    value = segmentation_value(objective.config.segmentation, ours.logits, seen, objective.unclear, None)
    # -log softmax(1, 2, 0)[1]
    assert value.item() == pytest.approx(0.407606, abs=1e-6)
    # cross-entropy with softmax(0, 0, 1) = (0.2119, 0.2119, 0.5761): 2.407606 - 0.2119 * (1 + 2)
    excluded = ExcludedDistillation(loss="excluded-distillation", weight=1.0)
    term = of_old_logits(excluded, ours, told, seen)["excluded-distillation"]
    assert term.item() == pytest.approx(1.771780, abs=1e-5)


def test_pseudo_labels_leave_the_labels_of_a_step_that_adds_no_class():
    mask = torch.tensor([[[0, 1, 2, IGNORE]]])
    sees_two = torch.zeros(1, 3, 1, 4)
    sees_two[:, 2] = 5.0
    kept = pseudo_labels(mask, sees_two, torch.zeros(3), classes=3, unclear=1, kind="naive")
    assert kept.mask.tolist() == [[[2, 1, 2, IGNORE]]]  # all of 0 to 2 would be 2 where classes are added
