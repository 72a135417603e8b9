"""Recipe names become files: as given, from an installed package, from a checkout."""

from pathlib import Path

import pytest
import yaml

from aftermap.config import read_tree
from aftermap.errors import RecipeError
from aftermap.workflows.kinds import read_recipe
from aftermap.workflows.training.recipe_files import recipe_path, shipped_recipes

ROOT = Path(__file__).resolve().parents[2]


def test_a_path_that_exists_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "damage.yaml").write_text("name: mine\n")
    assert recipe_path("recipes/damage.yaml") == Path("recipes/damage.yaml")


@pytest.mark.parametrize("name", ["recipes/damage.yaml", "damage.yaml", "damage", Path("recipes/damage")])
def test_shipped_recipes_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_path(name) == ROOT / "recipes" / "damage.yaml"


def test_an_installed_package_carries_its_recipes_inside(tmp_path, monkeypatch):
    inside = tmp_path / "site-packages" / "aftermap" / "recipe_files" / "xview2"
    inside.mkdir(parents=True)
    (inside / "plan.yaml").write_text("name: plan\n")
    monkeypatch.setattr("aftermap.config._PACKAGE", inside.parents[1])
    monkeypatch.chdir(tmp_path)
    assert shipped_recipes() == {"xview2/plan.yaml": inside / "plan.yaml"}
    assert recipe_path("recipes/xview2/plan.yaml") == inside / "plan.yaml"


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match=r"no recipe recipes/damge.yaml: did you mean .*damage.*yaml\?"):
        recipe_path("recipes/damge.yaml")


def test_a_name_like_no_other_is_answered_with_what_there_is():
    with pytest.raises(
        RecipeError, match=r"shipped are adapt-event.yaml, box-teacher.yaml, .*, xview2/\.\.\.$"
    ):
        recipe_path("nowhere.yaml")


def test_the_wheel_is_told_to_carry_every_recipe():
    import tomllib

    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {"recipes": "aftermap/recipe_files"}


def test_an_objective_that_is_no_group_is_refused(tmp_path):
    tree = read_tree(ROOT / "recipes" / "damage.yaml")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tree | {"objective": "dice"}))
    with pytest.raises(RecipeError, match=r"objective.*valid dictionary.*\(found 'dice'\)"):
        read_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "incremental").glob("*.yaml")), ids=lambda p: p.stem
)
def test_incremental_recipes_can_be_read(path):
    assert read_recipe(path)[1].name == path.stem


def test_plops_run_differs_from_mibs_by_its_method_alone():
    folder = ROOT / "recipes" / "incremental"
    mib, plop = (read_recipe(folder / f"{name}.yaml")[1] for name in ("voc-15-5-mib", "voc-15-5s-plop"))
    assert plop.objective.method == "plop"
    assert plop.objective.distillation is None
    assert plop.objective.pseudo_labels.least == 0.001
    assert (mib.objective.distillation.weight, mib.objective.segmentation.loss) == (
        10,
        "unbiased-cross-entropy",
    )
    assert mib.optimizer == plop.optimizer
    assert (mib.changed(0).optimizer.lr, mib.changed(1).optimizer.lr) == (0.01, 0.001)
