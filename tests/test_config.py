from typing import Literal

import pytest
from pydantic import Field

from aftermap.config import Config, build_config, load_config, read_tree
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
    path = write(tmp_path, "steps: ${STEPS}\ninner: {names: ['${NAME:-none}']}\n")
    monkeypatch.setenv("STEPS", "12")
    assert load_config(Outer, path) == Outer(steps=12, inner=Inner(names=("none",)))
    monkeypatch.delenv("STEPS")
    with pytest.raises(RecipeError, match=r"uses \$\{STEPS\}, which is not set"):
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


def test_a_file_extends_another_group_by_group(tmp_path):
    (tmp_path / "base.yaml").write_text("name: base\ninner: {rate: 1.0, depth: 3}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "top.yaml").write_text("extends: ../base.yaml\ninner: {depth: 5}\n")
    assert read_tree(tmp_path / "sub" / "top.yaml") == {"name": "base", "inner": {"rate": 1.0, "depth": 5}}


def test_files_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(RecipeError, match="extends itself"):
        read_tree(tmp_path / "a.yaml")
