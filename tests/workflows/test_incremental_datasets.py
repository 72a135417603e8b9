"""Classes learned from different datasets: buildings in 0 and 1, then roads and water of a legend without buildings."""

import json

import pytest

from aftermap.artefacts.store import load_card
from aftermap.classes import BUILDING
from aftermap.config import build_config, merge
from aftermap.data.incremental.protocol import protocol_for
from aftermap.data.legends import legend_of
from aftermap.errors import DataError, DataWarning, ModelError, RecipeError
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.incremental.tiles import gather
from incremental_runs import TINY
from labelled_towns import GROUNDS, make_towns
from squares import make_dataset

pytestmark = pytest.mark.usefixtures("undrawn")

BOTH = [["building"], ["road", "water"]]


@pytest.fixture(scope="module")
def roofs(tmp_path_factory):
    return make_towns(tmp_path_factory.mktemp("data") / "roofs")


@pytest.fixture(scope="module")
def grounds(tmp_path_factory):
    return make_towns(tmp_path_factory.mktemp("data") / "grounds", legend=GROUNDS, seed=1)


def recipe_on(*folders, **changes):
    """A recipe of two optimizer steps per step of the task."""
    manifests = {"data": {"manifests": [str(folder) for folder in folders]}}
    return build_config(IncrementalRecipe, merge(TINY | {"task": BOTH, "steps": 2} | manifests, changes))


@pytest.fixture(scope="module")
def year_one(roofs, tmp_path_factory):
    """Buildings, learned from the dataset of buildings alone."""
    folder = tmp_path_factory.mktemp("runs") / "buildings"
    learn_incrementally(recipe_on(roofs, task=[["building"]]), folder)
    return folder


@pytest.fixture(scope="module")
def year_two(year_one, grounds, tmp_path_factory):
    """Roads and water, learned from the other dataset and the model alone."""
    folder = tmp_path_factory.mktemp("runs") / "grounds"
    return folder, learn_incrementally(recipe_on(grounds), folder, start=year_one)


def values(lookups, count):
    return [lookup[:count].tolist() for lookup in lookups]


def of_dataset(tiles, origin):
    return tiles.pick([n for n, own in enumerate(tiles.origins) if own == origin])


def test_classes_of_all_datasets_are_those_of_one_legend(roofs, grounds):
    material = gather(recipe_on(roofs, grounds), dates=1)
    assert material.legend.names == ("background", "building", "road", "water")
    assert material.legend.colours == ("#000000", "#4c9be8", "#ffff00", "#0000ff")
    assert [one.values for one in material.protocol.datasets] == [(0, 1), (0, 2, 3)]
    assert set().union(*of_dataset(material.training, 1).labels) == {0, 2, 3}


def test_each_step_learns_from_the_dataset_that_labels_its_classes(roofs, grounds):
    material = gather(recipe_on(roofs, grounds), dates=1)
    assert [material.tiles_of(step) for step in range(2)] == [[4, 0], [0, 4]]
    first, second = material.learned_from(0), material.learned_from(1)
    assert values(first.lookups, 3) == [[0, 1, 255]] * 4
    assert values(second.lookups, 3) == [[0, 2, 3]] * 4


@pytest.mark.parametrize("stage", ["validation", "test"])
@pytest.mark.parametrize(
    ("future", "step", "of_roofs", "of_grounds"),
    [
        ("background", 0, [0, 1, 255], [255, 0, 0]),
        ("ignore", 0, [0, 1, 255], [255, 255, 255]),
        ("background", 1, [255, 1, 255], [255, 2, 3]),
        ("ignore", 1, [255, 1, 255], [255, 2, 3]),
    ],
)
def test_a_background_that_may_hold_a_class_seen_is_unknown(
    roofs, grounds, stage, future, step, of_roofs, of_grounds
):
    material = gather(recipe_on(roofs, grounds, protocol={"future": future}), dates=1)
    lookups = material.lookups(material.test, step, stage)
    assert values(lookups, 3) == [of_roofs, of_grounds]


def test_a_dataset_without_background_keeps_all_its_pixels(roofs, tmp_path):
    cover = GROUNDS.model_copy(update={"background": None})
    whole = make_towns(tmp_path / "cover", legend=cover)
    material = gather(recipe_on(roofs, whole, task=[["building"], ["road"], ["water"]]), dates=1)
    tables = [values(material.lookups(of_dataset(material.test, 1), step, "test"), 3) for step in range(3)]
    assert tables == [[[0, 0, 0]], [[0, 2, 0]], [[0, 2, 3]]]


def test_a_remembered_tile_keeps_only_the_labels_of_its_dataset(roofs, grounds):
    learned = gather(recipe_on(roofs, grounds), dates=1).learned_from(1, memory_mb=1)
    assert values(learned.lookups[learned.fresh :], 3) == [[255, 1, 255]] * 4


def test_validation_leaves_out_tiles_that_tell_nothing(roofs, grounds):
    material = gather(recipe_on(roofs, grounds, protocol={"future": "ignore"}), dates=1)
    assert [material.judged(step).origins for step in range(2)] == [(0,), (0, 1)]


def test_the_protocol_of_one_legend_is_what_it_was(roofs, tmp_path):
    one = gather(recipe_on(roofs, task=[["building"]]), dates=1)
    other = make_towns(tmp_path / "more", seed=2)
    two = gather(recipe_on(roofs, other, task=[["building"]]), dates=1)
    assert (
        one.protocol == two.protocol == protocol_for(legend_of(BUILDING), [["building"]], future="background")
    )
    assert one.protocol.sha256 == "57eee4a823bcb38cc1b446df2edcfd47b52cb5157e1c5972261508e74c460b16"


def test_the_hash_tells_which_dataset_labels_what(roofs, grounds, tmp_path):
    told = GROUNDS.model_copy(update={"names": ("other", "water", "road")})
    swapped = make_towns(tmp_path / "grounds", legend=told)
    hashes = [gather(recipe_on(roofs, data), dates=1).protocol.sha256 for data in (grounds, swapped)]
    assert hashes[0] != hashes[1]


def test_a_run_on_both_learns_all_and_tells_who_gave_what(roofs, grounds, tmp_path):
    learned = learn_incrementally(recipe_on(roofs, grounds), tmp_path / "run")
    facts = json.loads((tmp_path / "run/run.json").read_text())
    tiles = [(d["legend"], d["steps"], d["training"], d["validation"], d["test"]) for d in facts["datasets"]]
    assert tiles == [("building", [4, 0], 4, 1, 1), ("grounds", [0, 4], 4, 1, 1)]
    assert load_card(learned.model).legend.names == ("background", "building", "road", "water")
    known = [step["scores"]["pixels"] for step in learned.scores["steps"]]
    assert known == [64 * 64 + 2 * 24 * 24, 3 * 24 * 24]


def test_a_later_year_needs_the_model_and_its_own_images_alone(year_two):
    folder, learned = year_two
    card = load_card(learned.model)
    assert card.legend.names == ("background", "building", "road", "water")
    assert card.legend.colours[1] == "#4c9be8"  # as on the card of the first model
    facts = json.loads((folder / "run.json").read_text())
    assert facts["datasets"][0]["steps"] == [0, 4]
    assert facts["protocol"]["datasets"] == [{"legend": "grounds", "values": [0, 1, 2]}]


def test_a_finished_year_is_gone_on_with_in_its_own_folder(year_one, grounds, tmp_path):
    steps = [["building"], ["road"], ["water"]]
    recipe = recipe_on(grounds, task=steps)
    learn_incrementally(recipe, tmp_path / "run", step=1, start=year_one)
    learned = learn_incrementally(recipe, tmp_path / "run", step=2)
    assert load_card(learned.model).legend.names == ("background", "building", "road", "water")


def test_a_first_model_of_which_the_test_tiles_tell_nothing_is_not_scored(year_one, grounds, tmp_path):
    recipe = recipe_on(grounds, protocol={"future": "ignore"}, replay={"memory_mb": 1})
    with pytest.warns(DataWarning, match="replay: no tile of a step before step 1 is at hand"):
        learned = learn_incrementally(recipe, tmp_path / "run", start=year_one, step=1)
    assert learned.scores["first_step"] == 1


def test_without_a_model_every_class_must_be_labelled(grounds, tmp_path):
    with pytest.raises(RecipeError, match="legend grounds has no class 'building'"):
        learn_incrementally(recipe_on(grounds), tmp_path / "run")


def test_a_model_that_learned_another_order_is_refused(year_one, grounds, tmp_path):
    with pytest.raises(ModelError, match="has learned building in this order, task custom learns road"):
        learn_incrementally(recipe_on(grounds, task=[["road"], ["water"]]), tmp_path / "run", start=year_one)
    assert not (tmp_path / "run").exists()


def test_names_that_may_mean_one_class_are_asked_about(roofs, tmp_path):
    plural = GROUNDS.model_copy(update={"names": ("other", "buildings", "water")})
    other = make_towns(tmp_path / "plural", legend=plural)
    with pytest.raises(
        DataError, match=r"building \(building\) and buildings \(grounds\) may be one class or two"
    ):
        gather(recipe_on(roofs, other, task=[["building"], ["water"]]), dates=1)
    same = recipe_on(roofs, other, task=[["building"], ["water"]], data={"rename": {"buildings": "building"}})
    assert gather(same, dates=1).tiles_of(0) == [4, 4]


def test_new_classes_of_one_step_that_a_dataset_does_not_label_are_warned_of(roofs, grounds):
    material = gather(recipe_on(roofs, grounds, task=[["building", "road"], ["water"]]), dates=1)
    with pytest.warns(DataWarning) as told:
        material.check([0])
    said = [str(one.message).partition(", which")[0] for one in told]
    assert said == [
        f"step 0: {roofs} has labels of building and none of road",
        f"step 0: {grounds} has labels of road and none of building",
    ]


def test_every_dataset_has_the_bands_of_the_recipe(roofs, tmp_path):
    other = make_towns(tmp_path / "irrg", legend=GROUNDS, bands=("nir", "red", "green"))
    with pytest.raises(
        DataError, match=r"irrg has images of the bands nir, red, green, the recipe wants red"
    ):
        gather(recipe_on(roofs, other), dates=1)


def test_tiles_of_one_name_in_two_datasets_are_told_apart(roofs, grounds):
    test = gather(recipe_on(roofs, grounds), dates=1).test
    assert [scene.name for scene in test.scenes] == ["roofs-tile_5", "grounds-tile_5"]
    assert [scene.tile.source for scene in test.scenes] == ["roofs-tile_5", "grounds-tile_5"]


def test_buildings_of_a_damage_dataset_count_among_classes(grounds, tmp_path):
    pairs = make_dataset(tmp_path / "pairs")
    splits = {"train_splits": ["train"], "test_split": "validation"}
    material = gather(recipe_on(pairs, grounds, data=splits), dates=1)
    assert material.protocol.datasets[0].values == (0, 1)
    assert material.training.labels[0] == {0, 1}
