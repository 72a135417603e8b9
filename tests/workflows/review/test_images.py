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
from aftermap.workflows.mapping.provenance import describe_file
from aftermap.workflows.review.beside import Nearby, find_nearby
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


def test_paths_are_remembered_beside_the_answers_and_nowhere_else(tmp_path, monkeypatch):
    place, away = tmp_path / "work" / "town", tmp_path / "away"
    place.mkdir(parents=True)
    away.mkdir()
    monkeypatch.chdir(place)
    found = make_map(place)
    for name in ("before.tif", "after.tif"):
        (place / name).rename(away / name)
    with pytest.raises(InputError, match=r"before\.tif was not found near .*: say where it lies with --pre"):
        open_images(found)
    open_images(found, away / "before.tif", away / "after.tif").close()
    open_images(found).close()
    side = found.folder / "review" / "images.json"
    assert json.loads(side.read_text())["pre"] == str(away / "before.tif")
    assert side.stat().st_mode & 0o077 == 0
    (away / "after.tif").unlink()
    with pytest.raises(InputError, match=r"nor .*away/after\.tif any more: say where it lies with --post"):
        open_images(found)


def test_images_near_a_map_are_found_by_what_they_are(tmp_path):
    found = make_map(tmp_path)
    for place, name in (("old", "before.tif"), ("x/tiles", "after.tif")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / name).rename(tmp_path / place / name)
    (tmp_path / "after.tif").write_bytes(b"another of that name")
    open_images(found).close()
    tree = json.loads((found.folder / "review" / "images.json").read_text())
    assert [tree[date] for date in ("pre", "post")] == [
        str(tmp_path / "old" / "before.tif"),
        str(tmp_path / "x" / "tiles" / "after.tif"),
    ]


def test_a_folder_of_tiles_is_found_where_it_holds_them_all_and_nothing_else(tmp_path):
    files = []
    (tmp_path / "tiles").mkdir()
    for name in ("a.tif", "b.tif"):
        write_image(tmp_path / "tiles" / name, np.zeros((3, 32, 32), np.uint8), GROUND)
        files.append(describe_file(tmp_path / "tiles" / name))
    assert find_nearby(tmp_path / "map", files) == Nearby(tmp_path / "tiles")
    (tmp_path / "tiles" / "c.tif").write_bytes(b"one more")
    assert find_nearby(tmp_path / "map", files).path is None
    (tmp_path / "tiles" / "a.tif").write_bytes(b"changed")
    assert find_nearby(tmp_path / "map", files[:1]) == Nearby(None, tmp_path / "tiles" / "a.tif")


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
