"""docs/tutorial.md is followed: its script and its recipe are written, its data prepared and checked."""

import runpy
import shlex

import pytest
import yaml
from document_commands import ROOT
from test_extending import BLOCK, call

from aftermap.config import build_config
from aftermap.data.scene import Manifest
from aftermap.workflows.incremental.config import IncrementalRecipe

PAGE = (ROOT / "docs" / "tutorial.md").read_text()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which the page was followed up to training; test_change_classes.py trains and maps such pairs."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, title, text in BLOCK.findall(PAGE):
            if title:
                short = (
                    text.replace("range(60)", "range(6)")
                    .replace("(60, 70)", "(6, 8)")
                    .replace("(70, 80)", "(70, 72)")
                )
                (folder / title).write_text(short)
            elif not language:
                for line in text.splitlines():
                    words = shlex.split(line)
                    if words[0] == "python":
                        runpy.run_path(words[1], run_name="__main__")
                    elif words[1] == "data":
                        assert call(*words[1:]) == 0, line
    return folder


def test_the_data_of_the_tutorial_are_pairs_with_the_classes_of_its_recipe(followed):
    manifest = Manifest.load(followed / "pairs-prepared")
    recipe = build_config(IncrementalRecipe, yaml.safe_load((followed / "moves.yaml").read_text()))
    assert (len(manifest.scenes), manifest.licence) == (10, "made up, CC0")
    assert all(scene.post is not None for scene in manifest.scenes)
    assert recipe.task == (manifest.legend.names,)
    assert manifest.select("test")[0].class_pixels[1:] != [0, 0]
    assert (followed / "pairs" / "test" / "71_after.png").is_file()
