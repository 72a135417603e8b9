import numpy as np
import pytest
import rasterio

from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.scene import read_image, read_mask
from aftermap.errors import DataError
from made_image_sets import write_labels, write_raster
from prepared_datasets import prepare_spacenet

WHOLE = CutConfig(by="grid", size_px=1024)
CATALOGUE = "Atlanta_nadir16_catid_1030010002649200"
BOX = (20, 30, 60, 80)


def write_atlanta(root, *, tiles=("732701_3724239", "733151_3724689")):
    """Two labelled tiles of 4 bands and 16 bits; returns their pixels."""
    pixels = {}
    for place, tile in enumerate(tiles):
        image = root / CATALOGUE / "Pan-Sharpen" / f"Pan-Sharpen_{CATALOGUE}_{tile}.tif"
        pixels[tile] = write_raster(image, place=place, count=4, dtype="uint16")
        write_labels(
            root / "geojson/spacenet-buildings" / f"spacenet-buildings_{tile}.geojson", [BOX], place=place
        )
    return pixels


def stretched(pixels, *, truncate=False):
    """The stretch of the spec, written out."""
    low, high = np.percentile(pixels.astype(float), (2, 98))
    values = (np.clip(pixels.astype(float), low, high) - low) * 255 / (high - low)
    return (values if truncate else np.rint(values)).astype(np.uint8)


def test_tiles_of_atlanta_are_stretched_to_8_bits(tmp_path):
    pixels = write_atlanta(tmp_path / "s")
    scenes = prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE).scenes
    assert len(scenes) == 2
    for scene, (tile, image) in zip(scenes, pixels.items(), strict=True):
        assert tile in scene.name
        assert np.array_equal(read_image(scene.pre), stretched(image[:3]))


def test_labels_are_found_by_the_tile_in_their_name(tmp_path):
    write_atlanta(tmp_path / "s")
    expected = np.zeros((200, 200), np.uint8)
    expected[30:80, 20:60] = 1
    for scene in prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE).scenes:
        assert np.array_equal(read_mask(scene, target="building"), expected)


def test_the_originals_stretch_counts_zeros_and_drops_fractions(tmp_path):
    write_atlanta(tmp_path / "s", tiles=("732701_3724239",))
    image = next((tmp_path / "s").rglob("*.tif"))
    with rasterio.open(image, "r+") as file:
        pixels = file.read()
        pixels[:, :, :40] = 0
        file.write(pixels)
    ours = prepare_spacenet(tmp_path / "s", tmp_path / "a", WHOLE).scenes[0]
    theirs = prepare_spacenet(tmp_path / "s", tmp_path / "b", WHOLE, compat_stretch=True).scenes[0]
    assert np.array_equal(read_image(theirs.pre), stretched(pixels[:3], truncate=True))
    low, high = np.percentile(pixels[:3, :, 40:].astype(float), (2, 98))
    values = np.rint((np.clip(pixels[:3].astype(float), low, high) - low) * 255 / (high - low))
    assert np.array_equal(read_image(ours.pre), values.astype(np.uint8))


def test_tiles_of_zeros_are_left_out(tmp_path):
    write_atlanta(tmp_path / "s")
    folder = tmp_path / "s" / CATALOGUE / "Pan-Sharpen"
    empty = f"Pan-Sharpen_{CATALOGUE}_733601_3724689"
    write_raster(folder / f"{empty}.tif", place=7, count=4, dtype="uint16", zero=True)
    manifest = prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE)
    assert len(manifest.scenes) == 2
    assert manifest.options["empty_images"] == empty


@pytest.mark.parametrize(("policy", "pixels"), [("unlabelled", []), ("background", [40_000, 0])])
def test_a_tile_without_label_is_what_is_asked_for(tmp_path, policy, pixels):
    write_atlanta(tmp_path / "s")
    (tmp_path / "s/geojson/spacenet-buildings/spacenet-buildings_733151_3724689.geojson").unlink()
    scenes = prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE, missing_labels=policy).scenes
    assert [s.class_pixels for s in scenes] == [[38_000, 2000], pixels]


def test_a_label_without_features_says_that_there_is_no_building(tmp_path):
    write_atlanta(tmp_path / "s")
    write_labels(tmp_path / "s/geojson/spacenet-buildings/spacenet-buildings_733151_3724689.geojson", [])
    scenes = prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE).scenes
    assert [s.class_pixels for s in scenes] == [[38_000, 2000], [40_000, 0]]


def test_rio_is_recognised_and_its_8_bits_stay_as_they_are(tmp_path):
    root = tmp_path / "s"
    pixels = write_raster(root / "3band" / "3band_AOI_1_RIO_img1457.tif")
    write_labels(root / "vectordata/geojson/Geo_AOI_1_RIO_img1457.geojson", [BOX])
    scene = prepare_spacenet(root, tmp_path / "out", WHOLE).scenes[0]
    assert np.array_equal(read_image(scene.pre), pixels)
    assert scene.class_pixels == [38_000, 2000]
    assert scene.event == "s"


def test_the_four_cities_are_recognised(tmp_path):
    root = tmp_path / "AOI_2_Vegas_Train"
    write_raster(root / "RGB-PanSharpen" / "RGB-PanSharpen_AOI_2_Vegas_img1.tif", dtype="uint16")
    write_labels(root / "geojson/buildings/buildings_AOI_2_Vegas_img1.geojson", [BOX])
    scene = prepare_spacenet(root, tmp_path / "out", WHOLE).scenes[0]
    assert scene.class_pixels == [38_000, 2000]
    assert read_image(scene.pre).max() == 255


def test_other_folders_and_names_are_given(tmp_path):
    root = tmp_path / "s"
    pixels = write_raster(root / "pixels" / "img_a7.tif", count=4)
    write_labels(root / "outlines" / "bld_a7.geojson", [BOX])
    scene = prepare_spacenet(
        root, tmp_path / "out", WHOLE, images="pixels", labels="outlines",
        image_prefix="img_", label_prefix="bld_", bands=(3, 2, 1), event="town",
    ).scenes[0]  # fmt: skip
    assert np.array_equal(read_image(scene.pre), pixels[2::-1])
    assert (scene.event, scene.class_pixels) == ("town", [38_000, 2000])


def test_large_tiles_are_cut(tmp_path):
    write_atlanta(tmp_path / "s", tiles=("732701_3724239",))
    config = CutConfig(by="grid", size_px=100)
    assert len(prepare_spacenet(tmp_path / "s", tmp_path / "out", config).scenes) == 4


class TestWrongInput:
    def test_another_layout(self, tmp_path):
        (tmp_path / "s" / "photos").mkdir(parents=True)
        with pytest.raises(
            DataError, match="holds photos, expected a folder Pan-Sharpen, 3band, RGB-PanSharpen"
        ):
            prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE)

    def test_labels_that_belong_to_no_image(self, tmp_path):
        write_raster(tmp_path / "s" / "3band" / "3band_img1.tif")
        write_labels(tmp_path / "s" / "geojson" / "other_img1.geojson", [BOX])
        with pytest.raises(DataError, match=r"none of 1 image .* has a label, first 3band_img1"):
            prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE)

    def test_images_without_their_labels_folder(self, tmp_path):
        (tmp_path / "s").mkdir()
        with pytest.raises(DataError, match="--images pixels is given without --labels"):
            prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE, images="pixels")

    def test_a_folder_without_images(self, tmp_path):
        (tmp_path / "s" / "3band").mkdir(parents=True)
        with pytest.raises(DataError, match=r"no TIFF images in .*3band"):
            prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE)

    def test_a_tile_of_one_value(self, tmp_path):
        write_atlanta(tmp_path / "s")
        image = sorted((tmp_path / "s").rglob("*.tif"))[0]
        with rasterio.open(image, "r+") as file:
            file.write(np.full((4, 200, 200), 7, np.uint16))
        with pytest.raises(DataError, match="is 7 at both percentiles, 2 and 98"):
            prepare_spacenet(tmp_path / "s", tmp_path / "out", WHOLE, strict=True)
