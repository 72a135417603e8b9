"""The folder of a prepared dataset: what may go into it, and what a failed preparation leaves."""

import numpy as np
import pytest

from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.footprint_tiles import from_footprints
from aftermap.data.scene import Manifest
from aftermap.errors import DataError, DataWarning, FootprintError, OutputError
from made_xbd import image, write_image
from prepared_datasets import prepare_folder, prepare_opencities
from towns_in_rasters import write_footprints, write_raster


def town(root, stems, mask_px=32):
    """A folder of images with masks of `mask_px`."""
    for number, stem in enumerate(stems):
        write_image(root / "images" / f"{stem}.png", image(number))
        write_image(root / "masks" / f"{stem}.png", np.eye(mask_px, dtype=np.uint8))
    return root


def test_the_manifest_of_another_dataset_is_not_replaced(tmp_path):
    first = prepare_folder(town(tmp_path / "one", ["a", "b"]), tmp_path / "out")
    with pytest.raises(OutputError, match=r"another dataset \(2 scenes of kind folder\)"):
        prepare_folder(town(tmp_path / "two", ["c"]), tmp_path / "out")
    assert Manifest.load(tmp_path / "out") == first


def test_the_manifest_of_another_reader_is_not_replaced(tmp_path):
    raster, labels = write_raster(tmp_path / "town.tif"), write_footprints(tmp_path / "houses.geojson")
    from_footprints(raster, labels, tmp_path / "out", CutConfig(size_px=64))
    with pytest.raises(OutputError, match=r"another dataset \(4 scenes of kind tiles\)"):
        prepare_folder(town(tmp_path / "one", ["a"]), tmp_path / "out")
    assert len(Manifest.load(tmp_path / "out").scenes) == 4


def test_another_dataset_is_replaced_when_asked(tmp_path):
    prepare_folder(town(tmp_path / "one", ["a", "b"]), tmp_path / "out")
    manifest = prepare_folder(town(tmp_path / "two", ["c"]), tmp_path / "out", overwrite=True)
    assert [scene.name for scene in manifest.scenes] == ["c"]


def test_a_dataset_that_grew_is_prepared_again(tmp_path):
    prepare_folder(town(tmp_path / "one", ["a"]), tmp_path / "out")
    manifest = prepare_folder(town(tmp_path / "one", ["a", "b"]), tmp_path / "out")
    assert [scene.name for scene in manifest.scenes] == ["a", "b"]


def test_tiles_never_remove_the_files_of_another_reader(tmp_path):
    raster, labels = write_raster(tmp_path / "town.tif"), write_footprints(tmp_path / "houses.geojson")
    prepare_folder(town(tmp_path / "one", ["a"]), tmp_path / "out")
    with pytest.raises(OutputError, match=r"of another kind \(folder\).* choose another -o$"):
        from_footprints(raster, labels, tmp_path / "out", CutConfig(size_px=64), overwrite=True)


def test_masks_of_another_size_leave_nothing(tmp_path):
    with pytest.raises(DataError, match=r"16 x 16 pixels, its image 32 x 32: mend or remove .* run again$"):
        prepare_folder(town(tmp_path / "one", ["a"], mask_px=16), tmp_path / "out", labels="soft")
    assert not (tmp_path / "out").exists()


def test_scenes_finished_before_a_failure_are_kept(tmp_path):
    town(tmp_path / "one", ["a"])
    town(tmp_path / "one", ["b"], mask_px=16)
    with pytest.raises(DataError, match="finished scenes are kept"):
        prepare_folder(tmp_path / "one", tmp_path / "out", strict=True)
    assert (tmp_path / "out" / "prepare.journal").is_file()


def test_windows_that_make_no_tile_leave_nothing(tmp_path):
    raster, labels = write_raster(tmp_path / "town.tif"), write_footprints(tmp_path / "houses.geojson")
    with pytest.raises(DataError, match="gives a tile"):
        from_footprints(raster, labels, tmp_path / "out", CutConfig(size_px=64, min_building=1.0))
    assert not (tmp_path / "out").exists()


def test_images_that_give_no_tile_leave_nothing(tmp_path):
    write_raster(tmp_path / "town.tif")
    (tmp_path / "text.geojson").write_text("hello")
    (tmp_path / "train_metadata.csv").write_text("img_uri,label_uri\ntown.tif,text.geojson\n")
    with pytest.raises(DataError, match=r"mend or remove the files and run again$"):
        prepare_opencities(tmp_path, tmp_path / "out", CutConfig(size_px=64))
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("error")
def test_a_vector_file_beside_images_without_masks_is_named(tmp_path):
    write_image(tmp_path / "one" / "images" / "a.png", image(1))
    prepare_folder(tmp_path / "one", tmp_path / "none")
    write_footprints(tmp_path / "one" / "houses.geojson")
    with pytest.warns(DataWarning, match=r"pass --footprints houses\.geojson"):
        prepare_folder(tmp_path / "one", tmp_path / "out")


def test_footprints_do_not_become_soft_labels(tmp_path):
    write_image(tmp_path / "one" / "images" / "a.png", image(1))
    houses = write_footprints(tmp_path / "houses.geojson")
    with pytest.raises(DataError, match="not as labels soft"):
        prepare_folder(tmp_path / "one", tmp_path / "out", labels="soft", footprints=houses)


def test_a_grey_mask_points_to_soft_labels(tmp_path):
    root = town(tmp_path / "one", ["a"])
    write_image(root / "masks" / "a.png", np.full((32, 32), 77, np.uint8))
    with pytest.raises(DataError, match="pass --labels soft"):
        prepare_folder(root, tmp_path / "out")


def test_what_reads_vector_files_gives_no_advice_of_its_own(tmp_path):
    (tmp_path / "text.geojson").write_text("hello")
    with pytest.raises(FootprintError, match=r"expected GeoJSON$"):
        from_footprints(
            write_raster(tmp_path / "town.tif"), tmp_path / "text.geojson", tmp_path / "out", CutConfig()
        )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"compat_scales": (2.0,)}, "compat_scales goes with compat_every_building"),
        ({"compat_top_left": True}, "compat_top_left goes with compat_every_building"),
        ({"by": "building", "overlap_px": 8}, "overlap_px is for tiles by grid"),
        ({"jitter_px": 8}, "jitter_px is for tiles by building"),
        ({"padding_px": 8}, "padding_px is for tiles by building"),
        ({"by": "building", "margin_px": 8}, "margin_px is for tiles by empty"),
    ],
)
def test_options_of_another_way_to_cut_are_refused(options, part):
    with pytest.raises(ValueError, match=part):
        CutConfig(**options)
