"""The images of a finished map, opened again."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from aftermap.artefacts.store import load_card
from aftermap.errors import InputError
from aftermap.geo.grid import Window
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.mapping.inputs.dates import Reading, open_pair
from aftermap.workflows.review.images import open_images
from reviewed_map import GROUND, make_map, write_image


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return folder, make_map(folder)


def test_pixels_are_those_that_the_map_read(made, tmp_path):
    folder, _ = made
    inputs = open_pair(folder / "before.tif", folder / "after.tif", load_card("box"), Reading(), align="off")
    shift = replace(inputs.shift, dx_px=1.5, dy_px=-0.5, applied=True)
    inputs = replace(inputs, scene=replace(inputs.scene, shift=shift))
    found = make_map(tmp_path, shift=asdict(shift))
    images = open_images(found, tmp_path / "before.tif", tmp_path / "after.tif")
    window = Window(20, 30, 64, 80)
    for mine, theirs in zip(images.read(window, 640), inputs.read(window).images, strict=True):
        np.testing.assert_array_equal(mine, np.moveaxis(theirs, 0, -1))


def test_a_large_window_is_thinned(made):
    folder, found = made
    images = open_images(found, folder / "before.tif", folder / "after.tif")
    assert [each.shape for each in images.read(Window(0, 0, 192, 96), 48)] == [(48, 24, 3)] * 2


def test_paths_are_remembered_beside_the_answers_and_nowhere_else(tmp_path):
    found = make_map(tmp_path)
    with pytest.raises(InputError, match=r"pass --pre and --post, .*before\.tif"):
        open_images(found)
    open_images(found, tmp_path / "before.tif", tmp_path / "after.tif").close()
    open_images(found).close()
    side = found.folder / "review" / "images.json"
    assert json.loads(side.read_text())["pre"] == str(tmp_path / "before.tif")
    assert side.stat().st_mode & 0o077 == 0
    (tmp_path / "after.tif").unlink()
    with pytest.raises(InputError, match=r"there is no image .*after\.tif, where it was the last time"):
        open_images(found)


def test_other_images_are_refused(made, tmp_path):
    folder, found = made
    with pytest.raises(InputError, match=r"after\.tif is not among the files of the map"):
        open_images(found, folder / "after.tif", folder / "after.tif")
    write_image(tmp_path / "after.tif", np.zeros((3, 192, 192), np.uint8), GROUND)
    with pytest.raises(InputError, match="has changed since the map was made"):
        open_images(found, folder / "before.tif", tmp_path / "after.tif")


def test_a_map_that_does_not_say_how_it_was_read_is_told(made, tmp_path):
    folder, found = made
    out = shutil.copytree(found.folder, tmp_path / "map")
    tree = json.loads((out / "provenance.json").read_text())
    (out / "provenance.json").write_text(json.dumps({**tree, "shift": None}))
    with pytest.raises(InputError, match="does not say how the images were read"):
        open_images(open_map(out), folder / "before.tif", folder / "after.tif")
