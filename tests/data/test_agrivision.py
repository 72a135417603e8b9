import numpy as np
import pytest

from aftermap.classes import IGNORE
from aftermap.data.legends import AGRIVISION
from aftermap.data.scene import read_bands, read_mask
from aftermap.errors import DataError
from made_classes import noise, write_png
from prepared_datasets import prepare_agrivision

SIDE = 16


def square(row, col, size=4, value=255):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[row : row + size, col : col + size] = value
    return mask


def write_images(root, subset, names):
    for number, name in enumerate(names):
        pixels = noise(number + 50 * len(subset), SIDE, SIDE)
        write_png(root / subset / "images" / "rgb" / f"{name}.png", pixels.transpose(1, 2, 0))
        write_png(root / subset / "images" / "nir" / f"{name}.png", 255 - pixels[0])


def release(root):
    """Layout of the release: a file per class, of the field and of the pixels that count."""
    for subset, names in {"train": ("F1_0-0", "F1_0-9", "F2_0-0"), "val": ("F3_0-0",)}.items():
        write_images(root, subset, names)
        for name in names:
            marks = {"drydown": square(0, 0), "waterway": square(2, 2), "storm_damage": square(8, 8)}
            for kind, mask in marks.items():
                write_png(root / subset / "labels" / kind / f"{name}.png", mask)
            write_png(root / subset / "boundaries" / f"{name}.png", 255 - square(0, 12))
            write_png(root / subset / "masks" / f"{name}.png", 255 - square(12, 0))
    write_images(root, "test", ("F9_0-0",))
    return root


def truth():
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[0:4, 0:4] = AGRIVISION.names.index("drydown")
    mask[2:6, 2:6] = AGRIVISION.names.index("waterway")
    mask[0:4, 12:16] = mask[12:16, 0:4] = IGNORE
    return mask


def test_the_release_becomes_masks_with_unknown_pixels_outside_the_field(tmp_path):
    manifest = prepare_agrivision(release(tmp_path / "s"), tmp_path / "out")
    scene = next(s for s in manifest.scenes if s.name == "F1_0-0")
    assert np.array_equal(read_mask(scene, target="classes"), truth())
    assert scene.class_pixels[0] == int((truth() == 0).sum())


def test_infrared_is_a_layer_beside_the_image(tmp_path):
    manifest = prepare_agrivision(release(tmp_path / "s"), tmp_path / "out")
    scene = next(s for s in manifest.scenes if s.name == "F1_0-9")
    found = read_bands(scene, ("nir", "red"))
    assert np.array_equal(found[0], 255 - found[1])
    assert scene.layers["nir"].parts[-3:-1] == ("images", "nir")


def test_the_official_splits_are_kept_and_the_test_has_no_labels(tmp_path):
    manifest = prepare_agrivision(release(tmp_path / "s"), tmp_path / "out")
    found = {(s.event, s.split, s.is_labelled) for s in manifest.scenes}
    assert found == {
        ("F1", "train", True),
        ("F2", "train", True),
        ("F3", "validation", True),
        ("F9", "test", False),
    }


def test_whole_fields_are_held_out_where_the_official_set_is_the_test(tmp_path):
    manifest = prepare_agrivision(release(tmp_path / "s"), tmp_path / "out", val_is="test", validation=0.5)
    splits = {s.event: s.split for s in manifest.scenes}
    assert splits["F3"] == "test"
    assert sorted((splits["F1"], splits["F2"])) == ["train", "validation"]


def test_class_numbers_have_storm_damage_as_background_and_keep_unknown(tmp_path):
    write_images(tmp_path / "s", "train", ("F1_a", "F2_a"))
    mask = square(0, 0, value=9) + square(4, 4, value=8) + square(8, 8, value=255)
    for name in ("F1_a", "F2_a"):
        write_png(tmp_path / "s" / "train" / "gt" / f"{name}.png", mask)
    scene = prepare_agrivision(tmp_path / "s", tmp_path / "out").scenes[0]
    assert np.array_equal(read_mask(scene, target="classes"), square(4, 4, value=8) + square(8, 8, value=255))


class TestWrongInput:
    def test_an_image_without_infrared(self, tmp_path):
        source = release(tmp_path / "s")
        (source / "train" / "images" / "nir" / "F2_0-0.png").unlink()
        with pytest.raises(DataError, match=r"F2_0-0.png has no infrared image .*\(1 such\)"):
            prepare_agrivision(source, tmp_path / "out")

    def test_an_image_without_labels(self, tmp_path):
        source = release(tmp_path / "s")
        for kind in ("drydown", "waterway"):
            (source / "train" / "labels" / kind / "F2_0-0.png").unlink()
        with pytest.raises(DataError, match=r"F2_0-0.png has no labels in .*train \(1 such images\)"):
            prepare_agrivision(source, tmp_path / "out")

    def test_a_class_that_there_is_not(self, tmp_path):
        source = release(tmp_path / "s")
        write_png(source / "train" / "labels" / "locusts" / "F2_0-0.png", square(0, 0))
        with pytest.raises(DataError, match="locusts is no class of Agriculture-Vision"):
            prepare_agrivision(source, tmp_path / "out")

    def test_a_label_of_another_size(self, tmp_path):
        source = release(tmp_path / "s")
        write_png(source / "train" / "labels" / "drydown" / "F2_0-0.png", np.zeros((8, 8), np.uint8))
        with pytest.raises(DataError, match="has 8 x 8 pixels, its image 16 x 16"):
            prepare_agrivision(source, tmp_path / "out", strict=True)

    def test_a_number_of_no_class(self, tmp_path):
        write_images(tmp_path / "s", "train", ("F1_a", "F2_a"))
        for name in ("F1_a", "F2_a"):
            write_png(tmp_path / "s" / "train" / "gt" / f"{name}.png", square(0, 0, value=77))
        with pytest.raises(DataError, match="holds the value 77, expected 0 to 9"):
            prepare_agrivision(tmp_path / "s", tmp_path / "out")

    def test_another_folder(self, tmp_path):
        (tmp_path / "s" / "photos").mkdir(parents=True)
        with pytest.raises(DataError, match="holds photos: expected train/ and val/"):
            prepare_agrivision(tmp_path / "s", tmp_path / "out")
