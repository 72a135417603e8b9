"""docs/recipes.md is what bench/recipe_gallery.py makes of the recipes, and the sizes are of their own networks."""

import sys

import pytest
from document_commands import ROOT

from aftermap.config import read_tree


@pytest.fixture(scope="module")
def gallery():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "bench")
        import recipe_gallery

        yield recipe_gallery
    del sys.modules["recipe_gallery"]


@pytest.fixture(scope="module")
def page(gallery):
    return gallery.page()


def test_the_page_of_recipes_is_made_from_the_recipes(gallery, page):
    assert gallery.PAGE.read_text() == page, "run python bench/recipe_gallery.py --count"


def test_every_row_has_the_columns_of_its_head(page):
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {5}


def test_networks_of_different_kinds_do_not_share_a_size(page):
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    # one date of the same widths takes less than two; the winner's ResNet-34 has 25.73 M parameters
    assert rows["xview2/damage-resnet34.yaml"].endswith("| 25.73 | 369.8 |")
    assert rows["localization.yaml"].split("|")[-3:-1] != rows["damage.yaml"].split("|")[-3:-1]


def test_a_recipe_is_told_by_the_first_sentence_of_its_comment(gallery):
    text = "# Two steps, 3.5 M\n# in all. More.\n# aftermap train x\nname: x\n"
    assert gallery.first_sentence(text) == "Two steps, 3.5 M in all."
    assert gallery.network(read_tree(ROOT / "recipes" / "kd" / "plan.yaml")) is None
