import numpy as np
import pytest

from aftermap.data.legends import ISAID, rgb
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.scene import read_image, read_mask
from aftermap.errors import DataError
from made_classes import coloured, noise, stripes, write_png
from prepared_datasets import prepare_isaid

COLOURS = np.array([rgb(colour) for colour in ISAID.colours], np.uint8)
TILES = Tiling(tile_px=16, overlap_px=4)
CLASSES = (0, 1, 9, 15)


def write(root, sizes):
    """Images by subset/name, with their masks in the same folder."""
    for number, (place, size) in enumerate(sizes.items()):
        subset, name = place.split("/")
        folder = root / subset / "images"
        write_png(folder / f"{name}.png", noise(number, *size).transpose(1, 2, 0))
        write_png(folder / f"{name}_instance_color_RGB.png", coloured(stripes(*size, CLASSES), COLOURS))
    return root


SIZES = {"train/P0002": (20, 28), "train/P0010": (10, 24), "valid/P0003": (20, 20)}


def test_validation_is_of_training_images_and_the_official_set_the_test(tmp_path):
    manifest = prepare_isaid(write(tmp_path / "s", SIZES), tmp_path / "out", tiling=TILES, validation=0.5)
    splits = {(s.event, s.split, s.source_split) for s in manifest.scenes}
    assert ("P0003", "test", "hold") in splits
    assert {split for event, split, _ in splits if event != "P0003"} == {"train", "validation"}
    assert manifest.scheme == "isaid"


def test_the_official_set_may_be_the_validation(tmp_path):
    manifest = prepare_isaid(
        write(tmp_path / "s", SIZES), tmp_path / "out", tiling=TILES, valid_is="validation"
    )
    assert {(s.event, s.split) for s in manifest.scenes} == {
        ("P0002", "train"),
        ("P0010", "train"),
        ("P0003", "validation"),
    }


def test_small_images_keep_their_shape(tmp_path):
    manifest = prepare_isaid(write(tmp_path / "s", SIZES), tmp_path / "out", tiling=TILES)
    small = [s for s in manifest.scenes if s.event == "P0010"]
    assert [(s.width, s.height, s.tile.col) for s in small] == [(16, 10, 0), (16, 10, 8)]
    assert np.array_equal(read_mask(small[1], target="classes"), stripes(10, 24, CLASSES)[:, 8:])
    assert np.array_equal(read_image(small[1].pre), noise(1, 10, 24)[:, :, 8:])


def test_the_original_squashes_small_images(tmp_path):
    tiling = Tiling(tile_px=16, overlap_px=4, compat_grid="isaid", compat_squash=True)
    manifest = prepare_isaid(write(tmp_path / "s", SIZES), tmp_path / "out", tiling=tiling)
    small = [s for s in manifest.scenes if s.event == "P0010"]
    assert [(s.width, s.height) for s in small] == [(16, 16)]
    assert (np.diff(np.flatnonzero(np.diff(read_mask(small[0], target="classes")[0].astype(int)))) < 4).all()


def test_images_that_the_kit_skips_are_skipped(tmp_path):
    source = write(tmp_path / "s", {**SIZES, "train/P1527": (20, 20)})
    events = {s.event for s in prepare_isaid(source, tmp_path / "out", tiling=TILES).scenes}
    assert events == {"P0002", "P0010", "P0003"}
    everything = prepare_isaid(source, tmp_path / "all", tiling=TILES, skip=())
    assert "P1527" in {s.event for s in everything.scenes}


def test_an_image_without_mask_is_refused(tmp_path):
    source = write(tmp_path / "s", SIZES)
    (source / "train" / "images" / "P0010_instance_color_RGB.png").unlink()
    with pytest.raises(
        DataError, match=r"P0010.png has no mask P0010_instance_color_RGB.png \(1 such images\)"
    ):
        prepare_isaid(source, tmp_path / "out", tiling=TILES)


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "s" / "photos").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds photos: expected train/ and valid/ with P0000.png"):
        prepare_isaid(tmp_path / "s", tmp_path / "out", tiling=TILES)
