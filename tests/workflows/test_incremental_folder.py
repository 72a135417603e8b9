"""Steps of one run folder are learned by one recipe: what may change between them, and what is refused."""

import pytest
import yaml

from aftermap.artefacts.store import load_card
from aftermap.errors import RecipeError
from aftermap.workflows.incremental.run import learn_incrementally
from aftermap.workflows.kinds import interrupted_recipe
from coloured_cities import make_cities
from incremental_runs import tiny_recipe

pytestmark = pytest.mark.usefixtures("undrawn")

TASK = [["building"], ["tree"], ["car"]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_cities(tmp_path_factory.mktemp("data") / "cities")


@pytest.fixture
def begun(data, tmp_path):
    """A run whose step 0 is finished, and whose step 1 is not."""
    folder = tmp_path / "run"

    def break_off(progress):
        if (progress.stage, progress.task_step, progress.done) == ("learning the classes", 1, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_incrementally(tiny_recipe(data, task=TASK), folder, on_progress=break_off)
    return folder


def stored(folder):
    return yaml.safe_load((folder / "recipe.yaml").read_text())


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def resumed(folder, *overrides):
    return learn_incrementally(interrupted_recipe(folder, list(overrides))[1], folder, resume=True)


def test_another_method_in_the_folder_of_earlier_steps_is_refused(data, tmp_path):
    folder = tmp_path / "run"
    learn_incrementally(tiny_recipe(data, task=TASK), folder, step=0)
    before = content(folder)
    other = tiny_recipe(data, task=TASK, objective={"method": "lwf"})
    with pytest.raises(
        RecipeError,
        match=r"step 0 in .* was learned with objective.method mib, the recipe now says lwf: .*--from",
    ):
        learn_incrementally(other, folder, step=1)
    assert content(folder) == before


def test_another_method_from_the_same_step_has_a_folder_of_its_own(data, tmp_path):
    learn_incrementally(tiny_recipe(data, task=TASK), tmp_path / "mib", step=0)
    other = tiny_recipe(data, task=TASK, objective={"method": "lwf"})
    learned = learn_incrementally(other, tmp_path / "lwf", step=1, start=tmp_path / "mib")
    assert learned.scores["method"] == "lwf"
    assert load_card(learned.model).incremental.method == "lwf"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("objective.method=lwf", "step 0 in .* was learned with objective.method mib"),
        (
            "sampling.batch_size=4",
            "step 0 in .* was learned with sampling.batch_size 2, the recipe now says 4",
        ),
        ("steps=11", "step 1 in .* was begun with steps 4, the recipe now says 11: leave it so$"),
        ("later.lr=0.1", "step 1 in .* was begun with optimizer.lr 0.005, the recipe now says 0.1"),
    ],
)
def test_a_resumed_run_keeps_to_what_its_steps_were_learned_with(begun, override, told):
    before = content(begun)
    with pytest.raises(RecipeError, match=told):
        resumed(begun, override)
    assert content(begun) == before


def test_what_says_nothing_of_the_learning_may_change_and_is_written(begun):
    resumed(begun, "last_step=1", "licence=CC0", "report.strips=0")
    assert [stored(begun)[key] for key in ("last_step", "licence")] == [1, "CC0"]


def test_steps_to_come_may_have_another_pace_which_is_written(data, tmp_path):
    folder = tmp_path / "run"
    learn_incrementally(tiny_recipe(data, task=TASK), folder, step=0)
    resumed(folder, "steps=2", "last_step=1")
    paces = [stored(at)["steps"] for at in (folder / "steps/0", folder / "steps/1", folder)]
    assert paces == [4, 2, 2]


class TestBands:
    FOUR = ("red", "green", "blue", "nir")

    def test_input_channels_and_normalisation_follow_from_them(self, data):
        recipe = tiny_recipe(data, bands=list(self.FOUR))
        assert recipe.model.in_channels == 4
        assert recipe.normalisation.mean == recipe.normalisation.std == (127.5,) * 4

    def test_what_the_recipe_says_stays(self, data):
        recipe = tiny_recipe(
            data, bands=list(self.FOUR), model={"in_channels": 5}, normalisation={"std": [1, 2, 3, 4]}
        )
        assert recipe.model.in_channels == 5
        assert recipe.normalisation.mean == (127.5,) * 4
        assert recipe.normalisation.std == (1, 2, 3, 4)

    def test_a_model_of_the_users_own_is_left_as_it_is(self, data):
        own = {"kind": "custom", "target": "package.module:function", "classes": 2}
        recipe = type(tiny_recipe(data)).model_validate(
            tiny_recipe(data).model_dump() | {"bands": self.FOUR, "model": own, "normalisation": {}}
        )
        assert recipe.model.kind == "custom"
