"""The real sets of many classes, read, tiled and drawn in one command each."""

import json

import numpy as np
import pytest
from PIL import Image

from aftermap.classes import IGNORE
from aftermap.cli.app import main
from aftermap.data.legends import ISPRS
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.class_folder import FolderLayout
from aftermap.data.scene import Manifest, read_bands, read_mask
from aftermap.errors import DataWarning
from prepared_datasets import prepare_class_folder

pytestmark = pytest.mark.real


def run(capsys, *arguments):
    """The command's JSON."""
    with pytest.raises(SystemExit) as done:
        main([*map(str, arguments), "--json"])
    assert done.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_zurich_is_stretched_tiled_and_keeps_its_place(shared_data, tmp_path, capsys):
    out = tmp_path / "zurich"
    options = ("--legend", "zurich-summer", "--bands", "blue,green,red,nir", "--tile-px", 256)
    shown = run(capsys, "data", "prepare", "folder", shared_data / "zurich-summer", "-o", out, *options)
    manifest = Manifest.load(out)
    assert (shown["scenes"], shown["georeferenced"]) == (12, 12)
    whole = np.zeros((622, 782), np.uint8)
    for scene in manifest.scenes:
        rows = slice(scene.tile.row, scene.tile.row + 256)
        whole[rows, scene.tile.col : scene.tile.col + 256] = read_mask(scene, target="classes")
    # pixels of the label's six colours, white is unknown
    counts = np.bincount(whole.ravel(), minlength=256)
    assert counts[[0, 1, 2, 3, 5]].tolist() == [86_744, 114_932, 26_744, 5_751, 142_198]
    assert counts[IGNORE] == 110_035
    first = manifest.scenes[0]
    assert first.grid.crs == "EPSG:32632"
    assert first.grid.transform[:6:2] == pytest.approx((0.6, 465595.8, -0.6))
    trees = np.concatenate(
        [read_bands(s, ("nir", "red"))[:, read_mask(s, target="classes") == 2].T for s in manifest.scenes]
    )
    assert np.median(trees[:, 0]) > 1.5 * np.median(trees[:, 1])


@pytest.mark.parametrize(
    ("folder", "options", "unknown"),
    [
        ("loveda", ("--legend", "loveda"), 0),
        ("potsdam", ("--legend", "isprs", "--first-value", 1), 24_696),
        ("vaihingen", ("--legend", "isprs", "--first-value", 1, "--bands", "nir,red,green"), 21_283),
    ],
)
def test_the_samples_of_loveda_and_isprs(shared_data, tmp_path, capsys, folder, options, unknown):
    source = shared_data / "isprs-loveda-mini" / folder
    shown = run(capsys, "data", "prepare", "folder", source, "-o", tmp_path / "out", *options)
    pixels = sum(s.width * s.height for s in Manifest.load(tmp_path / "out").scenes)
    assert pixels - sum(shown["class_pixels"].values()) == unknown


@pytest.mark.parametrize("folder", ["potsdam", "vaihingen"])
def test_isprs_samples_without_their_first_value_are_warned_of(shared_data, tmp_path, folder):
    source = shared_data / "isprs-loveda-mini" / folder
    with pytest.warns(DataWarning, match="which is impervious_surfaces, nowhere wider than 14 px"):
        prepare_class_folder(source, tmp_path / "out", ISPRS, layout=FolderLayout(), tiling=Tiling())


def test_dubai_in_whole_images_has_the_stated_shares(shared_data, tmp_path, capsys):
    options = ("--legend", "dubai-landcover", "--event-pattern", "tile[0-9]", "--masks", "masks_index")
    shown = run(
        capsys, "data", "prepare", "folder", shared_data / "dubai-landcover", "-o", tmp_path / "out", *options
    )
    shares = {name: count / 99_000_000 for name, count in shown["class_pixels"].items()}
    assert shown["scenes"] == 72
    stated = {"building": 0.133, "land": 0.524, "road": 0.094, "vegetation": 0.103, "water": 0.136}
    assert shares == pytest.approx(stated, abs=0.006)
    assert {s.event for s in Manifest.load(tmp_path / "out").scenes} == {f"tile{n}" for n in range(1, 9)}


def test_the_prepared_set_is_remapped_and_drawn(shared_data, tmp_path, capsys):
    source = shared_data / "isprs-loveda-mini" / "potsdam"
    options = ("--legend", "isprs", "--first-value", 1, "--tile-px", 128)
    run(capsys, "data", "prepare", "folder", source, "-o", tmp_path / "out", *options)
    picture = tmp_path / "steps.png"
    shown = run(capsys, "data", "steps", tmp_path / "out", "--task", "321", "-o", picture)
    assert len(shown["steps"]) == 3
    assert len(Image.open(picture).convert("RGB").getcolors(1 << 24)) > 100
