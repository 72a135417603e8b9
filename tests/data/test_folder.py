import cv2
import numpy as np
import pytest
import rasterio

from aftermap.classes import IGNORE
from aftermap.data.scene import read_mask
from aftermap.errors import DataError
from made_xbd import image, write_image, write_tiff
from prepared_datasets import prepare_folder


def squares(*values, size=32):
    """A mask with a 4 x 4 square of each value."""
    mask = np.zeros((size, size), np.uint8)
    for number, value in enumerate(values):
        mask[2:6, 6 * number : 6 * number + 4] = value
    return mask


def write_single(root, masks, suffix="png"):
    for stem, mask in masks.items():
        write_image(root / "images" / f"{stem}.{suffix}", image(len(stem)))
        if mask is not None:
            write_image(root / "masks" / f"{stem}.png", mask)
    return root


def write_pairs(root, masks):
    for number, (stem, mask) in enumerate(masks.items()):
        write_image(root / "pre" / f"{stem}.png", image(2 * number))
        write_image(root / "post" / f"{stem}.png", image(2 * number + 1))
        if mask is not None:
            write_image(root / "masks" / f"{stem}.png", mask)
    return root


def test_masks_of_0_and_1_are_buildings(tmp_path):
    manifest = prepare_folder(write_single(tmp_path / "s", {"a": squares(1, 1)}), tmp_path / "out")
    scene = manifest.scenes[0]
    assert manifest.scheme == "building"
    assert scene.class_pixels == [1024 - 32, 32]
    assert np.array_equal(read_mask(scene, target="building"), squares(1, 1))
    assert scene.post is None


def test_masks_of_0_and_255_are_buildings_too(tmp_path):
    manifest = prepare_folder(
        write_single(tmp_path / "s", {"a": squares(255), "b": squares()}), tmp_path / "out"
    )
    assert np.array_equal(read_mask(manifest.scenes[0], target="building"), squares(1))
    assert manifest.options["foreground"] == "255"


def test_255_beside_1_means_unknown(tmp_path):
    manifest = prepare_folder(write_single(tmp_path / "s", {"a": squares(1, 255)}), tmp_path / "out")
    assert np.array_equal(read_mask(manifest.scenes[0], target="building"), squares(1, IGNORE))
    assert manifest.scenes[0].class_pixels == [1024 - 32, 16]


def test_one_mask_with_damage_makes_all_of_them_damage_masks(tmp_path):
    manifest = prepare_folder(
        write_pairs(tmp_path / "s", {"a": squares(1), "b": squares(1, 4)}), tmp_path / "out"
    )
    first, second = manifest.scenes
    assert manifest.scheme == "joint-damage-scale"
    assert first.class_pixels == [1024 - 16, 16, 0, 0, 0]
    assert np.array_equal(read_mask(second, target="damage"), squares(1, 4))
    assert np.array_equal(read_mask(second, target="building"), squares(1, 1))


def test_a_scene_without_mask_is_unlabelled(tmp_path):
    manifest = prepare_folder(write_pairs(tmp_path / "s", {"a": squares(1), "b": None}), tmp_path / "out")
    assert [scene.is_labelled for scene in manifest.scenes] == [True, False]


def test_the_event_is_the_folder_or_as_given(tmp_path):
    source = write_single(tmp_path / "town", {"a": squares(1)})
    assert prepare_folder(source, tmp_path / "one").scenes[0].event == "town"
    assert prepare_folder(source, tmp_path / "two", event="flood").scenes[0].event == "flood"


def test_tiff_images_bring_their_georeference(tmp_path):
    write_tiff(tmp_path / "s" / "images" / "a.tif")
    scene = prepare_folder(tmp_path / "s", tmp_path / "out").scenes[0]
    assert scene.grid.crs == "EPSG:32616"
    assert scene.grid.transform == (0.5, 0, 500_000, 0, -0.5, 3_300_000)
    assert scene.resolution_m == pytest.approx(0.5, rel=2e-3)


class TestWrongInput:
    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"not a folder: expected images/"):
            prepare_folder(tmp_path / "nowhere", tmp_path / "out")

    def test_another_layout(self, tmp_path):
        (tmp_path / "s" / "photos").mkdir(parents=True)
        with pytest.raises(DataError, match=r"holds photos: expected images/"):
            prepare_folder(tmp_path / "s", tmp_path / "out")

    def test_a_missing_partner(self, tmp_path):
        source = write_pairs(tmp_path / "s", {"a": squares(1), "b": squares(1)})
        (source / "post" / "b.png").unlink()
        with pytest.raises(DataError, match=r"b.png has no partner in .*post"):
            prepare_folder(source, tmp_path / "out")

    def test_a_mask_without_image(self, tmp_path):
        source = write_single(tmp_path / "s", {"a": squares(1)})
        write_image(source / "masks" / "z.png", squares(1))
        with pytest.raises(DataError, match=r"z.png has no image of that name"):
            prepare_folder(source, tmp_path / "out")

    def test_values_of_no_scheme(self, tmp_path):
        with pytest.raises(DataError, match=r"hold 0, 7, expected 0/1, 0/255"):
            prepare_folder(write_pairs(tmp_path / "s", {"a": squares(7)}), tmp_path / "out")

    def test_damage_at_one_date(self, tmp_path):
        with pytest.raises(DataError, match="one date only"):
            prepare_folder(write_single(tmp_path / "s", {"a": squares(1, 3)}), tmp_path / "out")

    def test_a_mask_of_another_size(self, tmp_path):
        source = write_single(tmp_path / "s", {"a": squares(1, size=48)})
        with pytest.raises(DataError, match="48 x 48 pixels, its image 32 x 32"):
            prepare_folder(source, tmp_path / "out")

    def test_a_coloured_mask(self, tmp_path):
        source = write_single(tmp_path / "s", {"a": image(3)})
        with pytest.raises(DataError, match="3 bands of uint8, expected a single-band"):
            prepare_folder(source, tmp_path / "out")

    def test_a_truncated_mask(self, tmp_path):
        source = write_single(tmp_path / "s", {"a": squares(1)})
        file = source / "masks" / "a.png"
        file.write_bytes(file.read_bytes()[:20])
        with pytest.raises(DataError, match=r"a.png starts like a PNG but is truncated or damaged"):
            prepare_folder(source, tmp_path / "out")

    def test_a_16_bit_tiff(self, tmp_path):
        write_tiff(tmp_path / "s" / "images" / "a.tif", dtype="uint16", count=4)
        with pytest.raises(DataError, match="has 4 bands of uint16, expected 3 bands of 8 bits"):
            prepare_folder(tmp_path / "s", tmp_path / "out")

    def test_dates_in_different_systems(self, tmp_path):
        write_tiff(tmp_path / "s" / "pre" / "a.tif")
        write_tiff(tmp_path / "s" / "post" / "a.tif", crs="EPSG:32615")
        with pytest.raises(DataError, match=r"differ in reference system \(EPSG:32616, EPSG:32615\)"):
            prepare_folder(tmp_path / "s", tmp_path / "out")

    def test_one_date_without_a_system(self, tmp_path):
        write_tiff(tmp_path / "s" / "pre" / "a.tif")
        write_image(tmp_path / "s" / "post" / "a.png", image(1))
        with pytest.raises(DataError, match="have a reference system at one date only"):
            prepare_folder(tmp_path / "s", tmp_path / "out")

    def test_dates_on_different_grids(self, tmp_path):
        write_tiff(tmp_path / "s" / "pre" / "a.tif")
        write_tiff(tmp_path / "s" / "post" / "a.tif", origin=(500_002, 3_300_000))
        with pytest.raises(DataError, match="lie on different grids"):
            prepare_folder(tmp_path / "s", tmp_path / "out")

    def test_a_truncated_tiff(self, tmp_path):
        file = tmp_path / "s" / "images" / "a.tif"
        write_tiff(file)
        file.write_bytes(file.read_bytes()[:900])
        with pytest.raises(DataError, match=r"a.tif is truncated"):
            prepare_folder(tmp_path / "s", tmp_path / "out")


def test_an_image_in_a_tiff_with_opacity_is_one_of_three_bands(tmp_path):
    stored = np.random.default_rng(0).integers(1, 255, (4, 32, 32), dtype=np.uint8)
    stored[3] = 255
    stored[3, :8] = 0
    (tmp_path / "s" / "images").mkdir(parents=True)
    (tmp_path / "s" / "masks").mkdir()
    with rasterio.open(
        tmp_path / "s" / "images" / "a.tif", "w", driver="GTiff", count=4, height=32, width=32, dtype="uint8",
        photometric="RGB", alpha="yes", crs="EPSG:32615", transform=rasterio.Affine(1, 0, 5, 0, -1, 9),
    ) as file:  # fmt: skip
        file.write(stored)
    cv2.imwrite(str(tmp_path / "s" / "masks" / "a.png"), np.ones((32, 32), np.uint8))
    (scene,) = prepare_folder(tmp_path / "s", tmp_path / "out").scenes
    mask = read_mask(scene, target="building")
    assert (mask[:8] == 255).all() and (mask[8:] == 1).all()


@pytest.mark.parametrize("place", ["images", "masks"])
def test_a_vrt_named_like_an_image_is_not_opened(tmp_path, place):
    write_image(tmp_path / "s" / "images" / "a.tif", image(0))
    write_image(tmp_path / "s" / "masks" / "a.tif", np.ones((32, 32), np.uint8))
    (tmp_path / "s" / place / "a.tif").write_text(
        '<VRTDataset rasterXSize="32" rasterYSize="32"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        "<SourceFilename>/vsicurl/http://localhost/a.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(DataError, match=r"a\.tif is not an image"):
        prepare_folder(tmp_path / "s", tmp_path / "out")
