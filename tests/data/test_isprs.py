import numpy as np
import pytest
import rasterio

from aftermap.classes import IGNORE
from aftermap.data.checking.doctor import check
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.isprs import CITIES, IsprsOptions, find_isprs
from aftermap.data.scene import read_bands, read_mask
from aftermap.errors import DataError, DataWarning
from made_classes import ISPRS_COLOURS, coloured, noise, stripes, write_potsdam, write_raster, write_vaihingen
from prepared_datasets import prepare_isprs

TILES = Tiling(tile_px=16, overlap_px=4, mostly_unknown=0.75)
POTSDAM, VAIHINGEN = IsprsOptions("potsdam"), IsprsOptions("vaihingen")


def masks(*names, size=(28, 40)):
    return {name: stripes(*size, (0, 1, 2, 3, 4, 5, IGNORE)) for name in names}


def prepare(source, out, options=POTSDAM, *, tiling=TILES, **more):
    return prepare_isprs(source, out, options, tiling=tiling, **more)


def assembled(scenes, bands, size=(28, 40)):
    """Bands and classes of an image, from its tiles."""
    image, mask = np.zeros((len(bands), *size), np.uint8), np.full(size, 99, np.uint8)
    for scene in scenes:
        rows = slice(scene.tile.row, scene.tile.row + scene.height)
        cols = slice(scene.tile.col, scene.tile.col + scene.width)
        image[:, rows, cols] = read_bands(scene, bands)
        mask[rows, cols] = read_mask(scene, target="classes")
    return image, mask


def test_the_official_splits_have_the_published_sizes():
    sizes = {name: (len(city.train), len(city.test)) for name, city in CITIES.items()}
    assert sizes == {"potsdam": (24, 14), "vaihingen": (16, 17)}
    assert CITIES["potsdam"].train[:4] == ("2_10", "2_11", "2_12", "3_10")
    assert {"6_7", "7_7", "4_12", "7_12"} <= set(CITIES["potsdam"].train)
    assert set(CITIES["potsdam"].test).isdisjoint(CITIES["potsdam"].train)


def test_tiles_hold_all_bands_the_classes_and_the_surface(tmp_path):
    source = write_potsdam(tmp_path / "s", masks("2_10", "2_11", "2_13"))
    manifest = prepare(source, tmp_path / "out", IsprsOptions("potsdam", dsm=True))
    mine = [s for s in manifest.scenes if s.tile.source == "potsdam_2_11"]
    image, mask = assembled(mine, ("red", "green", "blue", "nir", "dsm"))
    assert np.array_equal(image[:4], noise(1, 28, 40, 4))
    # the surface model lacks a row, as some of the release do
    assert np.array_equal(image[4], np.pad(np.full((27, 40), 41, np.uint8), ((0, 1), (0, 0))))
    assert np.array_equal(mask, masks("2_11")["2_11"])
    assert manifest.scheme == "isprs"


def test_the_world_file_gives_the_place_and_the_city_the_system(tmp_path):
    source = write_potsdam(tmp_path / "s", masks("2_10", "2_11"))
    scenes = prepare(source, tmp_path / "out").scenes
    scene = next(s for s in scenes if (s.tile.row, s.tile.col) == (12, 24) and s.event == "potsdam_2_10")
    assert scene.grid.crs == "EPSG:32633"
    assert scene.grid.transform == pytest.approx(
        (0.05, 0, 366676.9 + 24 * 0.05, 0, -0.05, 5807729.0 - 12 * 0.05)
    )
    with rasterio.open(scene.pre) as file:
        assert file.crs.to_epsg() == 32633
        assert file.descriptions == ("red", "green", "blue", "nir")


def test_whole_images_are_held_out_for_validation(tmp_path):
    names = ("2_10", "2_11", "2_12", "3_10", "2_13")
    source = write_potsdam(tmp_path / "s", masks(*names, size=(20, 20)))
    manifest = prepare(source, tmp_path / "out", IsprsOptions("potsdam", validation=0.25))
    splits = {(s.event, s.split) for s in manifest.scenes}
    assert len(splits) == 5
    assert sorted(split for _, split in splits) == ["test", "train", "train", "train", "validation"]
    assert ("potsdam_2_13", "test") in splits


def test_mostly_unknown_tiles_are_left_out_of_training_alone(tmp_path):
    mask = np.full((28, 40), IGNORE, np.uint8)
    mask[:4, :4] = 1
    made = {"2_10": mask, "2_11": masks("x")["x"], "2_13": mask}
    source = write_potsdam(tmp_path / "s", made)
    manifest = prepare(source, tmp_path / "out", IsprsOptions("potsdam", validation=0))
    counts = {name: sum(s.event == f"potsdam_{name}" for s in manifest.scenes) for name in made}
    assert counts == {"2_10": 0, "2_11": 6, "2_13": 6}
    assert manifest.options["dropped_tiles"] == "6"


def test_other_names_of_folders_and_channels_are_read(tmp_path):
    source = write_potsdam(
        tmp_path / "s", masks("2_10", "2_11"), folder="irrg", labels="labels_all", channels="IRRG", bands=3
    )
    manifest = prepare(source, tmp_path / "out", IsprsOptions("potsdam", channels="irrg"))
    assert manifest.scenes[0].bands == ("nir", "red", "green")
    assert np.array_equal(read_bands(manifest.scenes[0], ("green",))[0], noise(0, 28, 40)[2, :16, :16])


def test_eroded_labels_are_chosen_by_name(tmp_path):
    source = write_potsdam(tmp_path / "s", masks("2_10", "2_11"))
    for name in ("2_10", "2_11"):
        eroded = coloured(np.where(np.arange(40) % 4 == 0, IGNORE, masks("x")["x"]).astype(np.uint8))
        file = source / "5_Labels_all_noBoundary" / f"top_potsdam_{name}_label_noBoundary.tif"
        write_raster(file, eroded.transpose(2, 0, 1))
    full = prepare(source, tmp_path / "full").scenes[0]
    eroded = prepare(source, tmp_path / "eroded", IsprsOptions("potsdam", eroded=True)).scenes[0]
    assert (read_mask(full, target="classes")[:, 0] == 0).all()
    assert (read_mask(eroded, target="classes")[:, 0] == IGNORE).all()


def test_vaihingen_is_infrared_red_green_with_heights_in_metres(tmp_path):
    source = write_vaihingen(tmp_path / "s", masks("1", "3", "2"))
    manifest = prepare(source, tmp_path / "out", IsprsOptions("vaihingen", dsm=True))
    mine = [s for s in manifest.scenes if s.event == "vaihingen_3"]
    image, mask = assembled(mine, ("nir", "red", "green", "dsm"))
    heights = np.linspace(240, 361, 28 * 40, dtype=np.float32).reshape(28, 40)
    assert np.array_equal(image[:3], noise(1, 28, 40))
    assert np.array_equal(image[3], np.rint((heights - 240) * 255 / 121))
    assert np.array_equal(mask, masks("3")["3"])
    assert manifest.scenes[0].grid.crs == "EPSG:32632"


def test_test_images_without_labels_are_left_out_with_a_warning(tmp_path):
    source = write_vaihingen(tmp_path / "s", masks("1", "3", "2"))
    (source / "gts_for_participants" / "top_mosaic_09cm_area2.tif").unlink()
    with pytest.warns(DataWarning, match="the 1 test images have no labels"):
        manifest = prepare(source, tmp_path / "out", VAIHINGEN)
    assert {s.split for s in manifest.scenes} == {"train", "validation"}


def test_the_originals_grid_leaves_stripes_of_vaihingen_out(tmp_path):
    source = write_vaihingen(tmp_path / "s", masks("1", "3", size=(100, 60)))
    tiling = Tiling(tile_px=32, overlap_px=4, mostly_unknown=0.75, compat_grid="isprs")
    scenes = prepare(source, tmp_path / "out", VAIHINGEN, tiling=tiling).scenes
    assert sorted({s.tile.row for s in scenes}) == [9, 59]


class TestWrongInput:
    def test_off_palette_colours(self, tmp_path):
        source = write_potsdam(tmp_path / "s", masks("2_10", "2_11"))
        label = coloured(masks("x")["x"])
        label[4, 7] = (252, 255, 0)
        file = source / "5_Labels_all" / "top_potsdam_2_11_label.tif"
        write_raster(file, label.transpose(2, 0, 1))
        with pytest.raises(
            DataError, match=r"2_11_label.tif has 1 pixels .*252, 255, 0\) at row 4, column 7"
        ):
            prepare(source, tmp_path / "out")
        with pytest.warns(DataWarning, match="1 pixels in 1 label files"):
            near = prepare(source, tmp_path / "near", off_palette="nearest")
        with pytest.warns(DataWarning, match="1 pixels in 1 label files"):
            first = prepare(source, tmp_path / "first", off_palette="compat")
        found = [
            read_mask(next(s for s in m.scenes if s.name == "potsdam_2_11_00000_00000"), target="classes")[
                4, 7
            ]
            for m in (near, first)
        ]
        assert found == [4, 0]

    def test_a_missing_label(self, tmp_path):
        source = write_potsdam(tmp_path / "s", masks("2_10", "2_11"))
        (source / "5_Labels_all" / "top_potsdam_2_11_label.tif").unlink()
        with pytest.raises(DataError, match=r"2_11_RGBIR.tif has no label \(1 such images\)"):
            prepare(source, tmp_path / "out")

    def test_no_image_of_the_city(self, tmp_path):
        source = write_potsdam(tmp_path / "s", masks("2_10"))
        with pytest.raises(
            DataError, match="holds no rgb image of potsdam: expected files such as top_potsdam_2_10_RGB"
        ):
            find_isprs(source, IsprsOptions("potsdam", channels="rgb"))

    def test_an_unknown_city(self, tmp_path):
        with pytest.raises(DataError, match=r"no city 'toronto'.*potsdam or vaihingen"):
            find_isprs(tmp_path, IsprsOptions("toronto"))

    def test_bands_that_vaihingen_does_not_have(self, tmp_path):
        with pytest.raises(DataError, match="infrared, red, green"):
            find_isprs(tmp_path, IsprsOptions("vaihingen", channels="rgb"))

    def test_a_surface_of_another_size(self, tmp_path):
        source = write_potsdam(tmp_path / "s", masks("2_10", "2_11", size=(20, 20)))
        for file in (source / "1_DSM_normalisation").iterdir():
            write_raster(file, noise(0, 15, 20, 1))
        with pytest.raises(DataError, match="has 20 x 15 pixels, its image 20 x 20"):
            prepare(source, tmp_path / "out", IsprsOptions("potsdam", dsm=True))

    def test_a_single_image_gives_no_validation(self, tmp_path):
        source = write_potsdam(tmp_path / "s", masks("2_10"))
        with pytest.raises(DataError, match="1 training images cannot give 10% for validation"):
            prepare(source, tmp_path / "out")


def test_the_palette_of_the_labels_is_not_that_of_the_drawings():
    assert tuple(ISPRS_COLOURS[1]) == (0, 0, 255)


def test_the_doctor_reads_five_bands_in_silence(tmp_path, capfd):
    source = write_potsdam(tmp_path / "s", masks("2_10", "2_11", "2_13"))
    report = check(prepare(source, tmp_path / "out", IsprsOptions("potsdam", dsm=True)))
    assert [(f.code, f.message) for f in report.findings if f.severity != "info"] == []
    assert "channels" not in capfd.readouterr().err
