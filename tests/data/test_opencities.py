import json

import numpy as np
import pytest

from aftermap.data.checking.folds import assign_folds
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.readers.opencities import find_images
from aftermap.data.scene import read_image, read_mask
from aftermap.errors import DataError, OutputError
from made_image_sets import IMAGES, write_labels, write_opencities, write_raster
from prepared_datasets import prepare_opencities

WHOLE = CutConfig(by="grid", size_px=200)
LISTINGS = ["csv", "stac", "stac-label-items"]


def drawn(boxes, size=200):
    mask = np.zeros((size, size), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize("listing", LISTINGS)
def test_every_listing_gives_the_same_images(tmp_path, listing):
    root = write_opencities(tmp_path / "s", listing=listing)
    _, images = find_images(root)
    found = [(i.name, i.pre, i.label, i.source_split) for i in images]
    expected = []
    for tier, area, name in sorted((f.split("/") for f in IMAGES), key=lambda parts: parts[2]):
        folder = root / tier / area
        expected.append(
            (name, folder / name / f"{name}.tif", folder / f"{name}-labels" / f"{name}.geojson", "train")
        )
    assert found == expected


def test_tiles_hold_the_pixels_and_the_buildings(tmp_path):
    root = write_opencities(tmp_path / "s")
    manifest = prepare_opencities(root, tmp_path / "out", WHOLE)
    scene = next(s for s in manifest.scenes if s.event == "665946")
    assert np.array_equal(read_image(scene.pre), write_raster(tmp_path / "again.tif", place=0))
    assert np.array_equal(read_mask(scene, target="building"), drawn(IMAGES["train_tier_1/acc/665946"]))
    assert scene.resolution_m == pytest.approx(0.1, rel=2e-3)
    assert scene.polygons == {"building": 2}
    assert manifest.kind == "opencities"


def test_several_resolutions_are_cut_of_the_same_ground(tmp_path):
    root = write_opencities(tmp_path / "s")
    config = CutConfig(by="grid", size_px=100, resolutions=(0.1, 0.2))
    scenes = prepare_opencities(root, tmp_path / "out", config, areas=["acc"]).scenes
    fine = [s for s in scenes if s.resolution_m < 0.15]
    coarse = [s for s in scenes if s.resolution_m > 0.15]
    assert (len(fine), len(coarse)) == (4, 1)
    # 40 x 50 px and 40 x 20 px of 0.1 m; a quarter as many of 0.2 m
    assert sum(s.class_pixels[1] for s in fine) == pytest.approx(2800, rel=0.02)
    assert coarse[0].class_pixels[1] == pytest.approx(700, rel=0.04)


def test_crops_around_buildings_and_of_empty_ground(tmp_path):
    root = write_opencities(tmp_path / "s")
    around = prepare_opencities(root, tmp_path / "a", CutConfig(by="building", size_px=64))
    empty = prepare_opencities(root, tmp_path / "b", CutConfig(by="empty", size_px=64))
    assert all(s.class_pixels[1] > 0 for s in around.scenes)
    assert sum(s.class_pixels[1] for s in around.scenes) >= 2000 + 800 + 400 + 600
    assert {s.class_pixels[1] for s in empty.scenes} == {0}


def test_tiers_and_areas_are_chosen(tmp_path):
    root = write_opencities(tmp_path / "s")
    events = {
        tuple(chosen): {
            s.event for s in prepare_opencities(root, tmp_path / str(n), WHOLE, **{kind: chosen}).scenes
        }
        for n, (kind, chosen) in enumerate([("tiers", [2]), ("tiers", [1]), ("areas", ["nia"])])
    }
    assert events == {(2,): {"f883a0"}, (1,): {"665946", "825a50"}, ("nia",): {"825a50"}}


def test_an_image_without_labels_is_unlabelled(tmp_path):
    root = write_opencities(tmp_path / "s")
    write_raster(root / "test" / "x1" / "x1.tif", place=5)
    tree = {"type": "Feature", "assets": {"image": {"href": "./x1.tif"}}, "links": []}
    (root / "test" / "x1" / "x1.json").write_text(json.dumps(tree))
    catalogue = {"type": "Catalog", "links": [{"rel": "item", "href": "./x1/x1.json"}]}
    (root / "test" / "catalog.json").write_text(json.dumps(catalogue))
    scenes = prepare_opencities(root / "test", tmp_path / "out", WHOLE).scenes
    assert [(s.is_labelled, s.source_split) for s in scenes] == [(False, "test")]


def test_an_image_without_buildings_is_all_background(tmp_path):
    root = write_opencities(tmp_path / "s")
    write_labels(root / "train_tier_2/dar/f883a0-labels/f883a0.geojson", [], place=2)
    scene = prepare_opencities(root, tmp_path / "out", WHOLE, tiers=[2]).scenes[0]
    assert scene.class_pixels == [40_000, 0]


def test_folds_keep_the_tiles_of_an_image_together(tmp_path):
    root = write_opencities(tmp_path / "s")
    manifest = prepare_opencities(root, tmp_path / "out", CutConfig(by="grid", size_px=100))
    result = assign_folds(manifest, folds=3, fold=1)
    validated = {s.event for s in result.scenes if s.split == "validation"}
    assert len(manifest.scenes) == 12
    assert len(validated) == 1
    assert sum(s.split == "validation" for s in result.scenes) == 4


def test_an_interrupted_preparation_goes_on(tmp_path, monkeypatch):
    root = write_opencities(tmp_path / "s")
    label = root / "train_tier_2/dar/f883a0-labels/f883a0.geojson"
    good = label.read_text()
    label.write_text("no json")
    state = (label.stat().st_size, label.stat().st_mtime_ns)
    monkeypatch.setattr("aftermap.data.preparing.footprint_tiles._state", lambda images: "as it was")
    with pytest.raises(DataError, match=r"cannot read footprints .*f883a0.geojson.*finished scenes are kept"):
        prepare_opencities(root, tmp_path / "out", WHOLE, strict=True)
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()}
    label.write_text(good)
    assert state != (label.stat().st_size, label.stat().st_mtime_ns)
    manifest = prepare_opencities(root, tmp_path / "out", WHOLE)
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").iterdir()}
    assert len(manifest.scenes) == 3
    assert len(first) == 2
    assert first.items() <= again.items()


def test_tiles_cut_otherwise_are_only_replaced_when_asked(tmp_path):
    root = write_opencities(tmp_path / "s")
    prepare_opencities(root, tmp_path / "out", CutConfig(by="grid", size_px=100))
    with pytest.raises(OutputError, match="holds tiles or data that were prepared otherwise"):
        prepare_opencities(root, tmp_path / "out", WHOLE)
    manifest = prepare_opencities(root, tmp_path / "out", WHOLE, overwrite=True)
    assert len(manifest.scenes) == 3
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3


def test_images_of_one_name_are_told_apart_by_their_area(tmp_path):
    images = {"train_tier_1/acc/a1": [(9, 9, 20, 20)], "train_tier_1/nia/a1": [(9, 9, 20, 20)]}
    _, found = find_images(write_opencities(tmp_path / "s", images=images))
    assert [image.name for image in found] == ["acc-a1", "nia-a1"]


class TestWrongInput:
    def test_files_of_the_csv_that_are_missing(self, tmp_path):
        root = write_opencities(tmp_path / "s")
        (root / "train_tier_1/nia/825a50/825a50.tif").unlink()
        (root / "train_tier_1/acc/665946-labels/665946.geojson").unlink()
        with pytest.raises(
            DataError, match=r"2 of 6 files named in .*csv are missing, the first is .*665946.geojson"
        ):
            prepare_opencities(root, tmp_path / "out", WHOLE)

    def test_no_listing(self, tmp_path):
        (tmp_path / "s" / "photos").mkdir(parents=True)
        with pytest.raises(DataError, match=r"holds photos: expected train_metadata.csv, or catalog.json"):
            prepare_opencities(tmp_path / "s", tmp_path / "out", WHOLE)

    def test_other_columns(self, tmp_path):
        (tmp_path / "train_metadata.csv").write_text("image,label\na.tif,a.geojson\n")
        with pytest.raises(DataError, match="has columns image, label, expected img_uri and label_uri"):
            find_images(tmp_path)

    def test_an_empty_csv(self, tmp_path):
        (tmp_path / "train_metadata.csv").write_text("img_uri,label_uri\n")
        with pytest.raises(DataError, match="lists no images"):
            find_images(tmp_path)

    def test_a_tier_that_is_not_there(self, tmp_path):
        root = write_opencities(tmp_path / "s")
        with pytest.raises(DataError, match="it lists 1 acc of tier 1, 1 dar of tier 2, 1 nia of tier 1"):
            prepare_opencities(root, tmp_path / "out", WHOLE, tiers=[3])

    def test_a_catalogue_of_remote_files(self, tmp_path):
        tree = {"type": "Catalog", "links": [{"rel": "child", "href": "https://example.org/c.json"}]}
        (tmp_path / "catalog.json").write_text(json.dumps(tree))
        with pytest.raises(DataError, match=r"names the remote file https://example.org/c.json"):
            find_images(tmp_path)

    def test_a_catalogue_without_images(self, tmp_path):
        (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": []}))
        with pytest.raises(DataError, match="leads to no item with an asset 'image'"):
            find_images(tmp_path)

    def test_mixed_band_counts(self, tmp_path):
        root = write_opencities(tmp_path / "s")
        write_raster(root / "train_tier_2/dar/f883a0/f883a0.tif", place=2, count=5)
        with pytest.raises(
            DataError, match=r"665946.tif has 3 bands, .*f883a0.tif has 5: pass --bands 1,2,3"
        ):
            prepare_opencities(root, tmp_path / "out", WHOLE)
        assert len(prepare_opencities(root, tmp_path / "out", WHOLE, bands=(1, 2, 3)).scenes) == 3

    def test_16_bits_without_stretch(self, tmp_path):
        root = write_opencities(tmp_path / "s", dtype="uint16")
        with pytest.raises(
            DataError, match=r"665946.tif has pixels of uint16.*pass --stretch 2,98.*2 more like it"
        ):
            prepare_opencities(root, tmp_path / "out", WHOLE)
        manifest = prepare_opencities(root, tmp_path / "two", WHOLE, stretch=(2, 98))
        assert {int(read_image(s.pre).max()) for s in manifest.scenes} == {255}

    def test_labels_beside_their_image(self, tmp_path):
        root = write_opencities(tmp_path / "s")
        write_labels(root / "train_tier_2/dar/f883a0-labels/f883a0.geojson", [(5, 5, 9, 9)], place=40)
        with pytest.raises(DataError, match="no footprint lies on the image"):
            prepare_opencities(root, tmp_path / "out", WHOLE, tiers=[2])

    def test_no_tile_at_all(self, tmp_path):
        root = write_opencities(tmp_path / "s")
        config = CutConfig(by="empty", size_px=200)
        with pytest.raises(DataError, match="none of 3 images gives a tile"):
            prepare_opencities(root, tmp_path / "out", config)
