from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from aftermap.config import (
    Config,
    build_config,
    load_config,
    load_yaml,
    overridden,
    read_tree,
    shipped_recipes_folder,
)
from aftermap.errors import RecipeError


class Inner(Config):
    learning_rate: float = 0.1
    names: tuple[str, ...] = ()


class Outer(Config):
    steps: int
    inner: Inner = Inner()


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_overrides_win_over_yaml_and_yaml_over_defaults(tmp_path):
    path = write(tmp_path, "steps: 5\ninner: {names: [a]}\n")
    config = load_config(Outer, path, ["inner.learning_rate=0.5", "steps=7"])
    assert config == Outer(steps=7, inner=Inner(learning_rate=0.5, names=("a",)))


def test_the_environment_fills_placeholders(tmp_path, monkeypatch):
    path = write(tmp_path, "steps: ${AFTERMAP_STEPS}\ninner: {names: ['${AFTERMAP_NAME:-none}']}\n")
    monkeypatch.setenv("AFTERMAP_STEPS", "12")
    assert load_config(Outer, path) == Outer(steps=12, inner=Inner(names=("none",)))
    monkeypatch.delenv("AFTERMAP_STEPS")
    with pytest.raises(RecipeError, match=r"uses \$\{AFTERMAP_STEPS\}, which is not set"):
        load_config(Outer, path)


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        RecipeError, match=r"unknown key 'inner.learning_rat': did you mean 'learning_rate'\?"
    ):
        load_config(Outer, write(tmp_path, "steps: 1\ninner: {learning_rat: 2}\n"))


def test_a_key_in_the_wrong_group_is_named_with_its_group():
    with pytest.raises(RecipeError, match=r"unknown key 'names': did you mean 'inner\.names'\?"):
        build_config(Outer, {"steps": 1, "names": ["a"]})


def test_a_list_is_asked_for_in_brackets():
    with pytest.raises(RecipeError, match=r"inner\.names: found 'a', expected a list in square brackets"):
        build_config(Outer, {"steps": 1, "inner": {"names": "a"}})


def test_a_missing_and_a_wrong_value_are_named():
    with pytest.raises(RecipeError, match="key 'steps' is required"):
        build_config(Outer, {})
    with pytest.raises(RecipeError, match=r"steps: .*\(found 'many'\)"):
        build_config(Outer, {"steps": "many"})


class Round(Config):
    shape: Literal["round"]


class Square(Config):
    shape: Literal["square"]


class Drawing(Config):
    form: Round | Square = Field(discriminator="shape")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"shape": "sqare"}, r"form: unknown shape 'sqare': did you mean 'square'\?"),
        ({"shape": "xyz"}, "form: unknown shape 'xyz': known are round, square"),
        ({}, "key 'form.shape' is required and not given"),
    ],
)
def test_a_wrong_kind_of_a_group_is_named_with_the_nearest(form, said):
    with pytest.raises(RecipeError, match=said):
        build_config(Drawing, {"form": form})


@pytest.mark.parametrize(("text", "said"), [("[1, 2]", "holds a list"), ("a: [", "not valid YAML")])
def test_files_that_are_no_mapping_are_refused(tmp_path, text, said):
    with pytest.raises(RecipeError, match=said):
        load_config(Outer, write(tmp_path, text))


@pytest.mark.parametrize("override", ["steps", "=3", "steps.x.y=1"])
def test_broken_overrides_are_refused(override):
    with pytest.raises(RecipeError, match="override"):
        build_config(Outer, {"steps": 1}, [override])


@pytest.mark.parametrize("name", ["localization.yaml", "recipes/xview2/common.yaml"])
def test_a_file_extends_a_shipped_one_by_its_name(tmp_path, name):
    (tmp_path / "own.yaml").write_text(f"extends: {name}\nname: own\n")
    tree = read_tree(tmp_path / "own.yaml")
    assert tree["name"] == "own" and "data" in tree


def test_a_file_beside_the_recipe_comes_before_a_shipped_one(tmp_path):
    (tmp_path / "localization.yaml").write_text("name: mine\n")
    (tmp_path / "own.yaml").write_text("extends: localization.yaml\n")
    assert read_tree(tmp_path / "own.yaml") == {"name": "mine"}


def test_a_file_extends_another_group_by_group(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.yaml").write_text("name: base\ninner: {rate: 1.0, depth: 3}\n")
    (tmp_path / "top.yaml").write_text("extends: sub/base.yaml\ninner: {depth: 5}\n")
    assert read_tree(tmp_path / "top.yaml") == {"name": "base", "inner": {"rate": 1.0, "depth": 5}}


def test_files_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(RecipeError, match="extends itself"):
        read_tree(tmp_path / "a.yaml")


@pytest.mark.parametrize("base", ["../base.yaml", "/etc/hostname", "sub/../../base.yaml"])
def test_a_recipe_extends_nothing_outside_of_its_folder(tmp_path, base):
    (tmp_path / "base.yaml").write_text("steps: 1\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "r.yaml").write_text(f"extends: {base}\n")
    with pytest.raises(RecipeError, match="lies outside of the recipe's folder"):
        read_tree(tmp_path / "own" / "r.yaml")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "base.yaml").write_text("steps: 1\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "link.yaml").symlink_to(tmp_path / "base.yaml")
    (tmp_path / "own" / "r.yaml").write_text("extends: link.yaml\n")
    with pytest.raises(RecipeError, match="outside"):
        read_tree(tmp_path / "own" / "r.yaml")


def test_a_recipe_reads_only_variables_of_ours_and_those_that_the_user_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME_TOKEN", "7")
    path = write(tmp_path, "steps: ${HOME_TOKEN}\n")
    with pytest.raises(
        RecipeError, match="asks for the environment variable HOME_TOKEN: only names that start with"
    ):
        load_config(Outer, path)
    monkeypatch.setenv("AFTERMAP_RECIPE_VARIABLES", "OTHER, HOME_TOKEN")
    assert load_config(Outer, path).steps == 7


def test_aliases_that_unfold_to_too_much_are_refused(tmp_path):
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 9)]
    with pytest.raises(RecipeError, match="aliases unfold to too many values"):
        load_config(Outer, write(tmp_path, "\n".join(lines)))
    assert load_yaml("a: &a [1, 2]\nb: [*a, *a]\n") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_groups_nested_too_deeply_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="nested too deeply"):
        load_config(Outer, write(tmp_path, "steps: " + "[" * 5000))
    assert load_yaml("[" * 90 + "]" * 90) is not None


leaves = st.integers() | st.text("ab:#-[]{}&*!", max_size=5) | st.none()
keys = st.text("xyz", min_size=1, max_size=3)


def groups(inner):
    return st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)


@given(st.recursive(leaves, groups, max_leaves=30))
def test_whatever_yaml_writes_is_read_as_it_was(tree):
    assert load_yaml(yaml.safe_dump(tree)) == tree


@pytest.mark.parametrize("text", ["a: \udcff", "a: \x01", "a: \0", "a: [", "a: b: c", "@"])
def test_what_is_no_yaml_is_refused_as_such(text):
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)


def test_recipes_are_read_by_libyaml_as_by_pyyaml_itself():
    texts = [path.read_text() for path in shipped_recipes_folder().rglob("*.yaml")]
    assert len(texts) > 50
    for text in texts[::4]:
        assert load_yaml(text) == yaml.load(text, Loader=yaml.SafeLoader)


class Files(Config):
    file: Path
    layers: dict[str, Path] = Field(default_factory=dict)


@pytest.mark.parametrize("name", ["\0", "a\0b", "x" * 1001])
def test_what_no_file_can_be_called_is_refused(tmp_path, name):
    assert build_config(Files, {"file": "a.tif", "layers": {"b": "x" * 1000}}).file == Path("a.tif")
    for key, tree in (("file", {"file": name}), ("layers", {"file": "a", "layers": {"b": name}})):
        with pytest.raises(RecipeError, match=f"^recipe: {key} is '.*', which is no path$"):
            build_config(Files, tree)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"extends": name}))
    with pytest.raises(RecipeError, match=r"which is no path$"):
        read_tree(tmp_path / "a.yaml")


def test_a_long_value_is_shown_in_part():
    with pytest.raises(RecipeError) as error:
        build_config(Outer, {"steps": "[" * 9000})
    assert len(str(error.value)) < 400 and "[[[...[[[" in str(error.value)


def test_overrides_leave_the_tree_that_they_are_laid_over_as_it_was():
    tree = {"inner": {"depth": 3}, "data": {"manifests": ["a"], "licence": "MIT"}}
    laid = overridden(tree, ["inner.depth=5", "data.manifests=[b]"])
    assert laid == {"inner": {"depth": 5}, "data": {"manifests": ["b"]}}
    assert tree == {"inner": {"depth": 3}, "data": {"manifests": ["a"], "licence": "MIT"}}
