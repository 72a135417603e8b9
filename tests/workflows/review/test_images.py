"""The images of a finished map, opened again."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from aftermap.artefacts.store import load_card
from aftermap.errors import DataWarning, InputError
from aftermap.geo.alignment.local_shift import LocalShift
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


def test_a_grid_of_shifts_is_taken_out_as_the_map_did(made, tmp_path):
    folder, _ = made
    inputs = open_pair(folder / "before.tif", folder / "after.tif", load_card("box"), Reading(), align="off")
    nodes, rest = np.array([48, 144]), np.array([[0.5, 2.0], [-1.0, 3.0]], np.float32)
    local = LocalShift(nodes, nodes, rest, -rest, 4, 1.0, 3.0, 0.1, 0.2, True, "helps")
    inputs = replace(inputs, scene=replace(inputs.scene, local=local))
    found = make_map(tmp_path, local_shift=inputs.local_shift)
    images = open_images(found)
    window = Window(20, 30, 64, 80)
    for mine, theirs in zip(images.read(window, 640), inputs.read(window).images, strict=True):
        np.testing.assert_array_equal(mine, np.moveaxis(theirs, 0, -1))
    assert [each.shape for each in images.read(window, 40)] == [(32, 40, 3)] * 2
    told = local.as_dict((8, 40))
    assert (told["rows"], told["cols"]) == ([40, 136], [8, 104])
    with pytest.warns(DataWarning, match="which it does not keep"):
        old = tmp_path / "old"
        old.mkdir()
        open_images(make_map(old, local_shift={"applied": True}))


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
    with pytest.raises(
        InputError, match=r"before\.tif and after\.tif were not found .*: say where with --pre and --post"
    ):
        open_images(found)
    open_images(found, away / "before.tif", away / "after.tif").close()
    open_images(found).close()
    side = found.folder / "review" / "images.json"
    assert json.loads(side.read_text())["pre"] == str(away / "before.tif")
    assert side.stat().st_mode & 0o077 == 0
    (away / "after.tif").unlink()
    with pytest.raises(InputError, match=r"after\.tif \(it was .*\) was not found .* with --post"):
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
