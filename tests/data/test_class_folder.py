import json

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from aftermap.classes import IGNORE
from aftermap.data.checking.doctor import check
from aftermap.data.checking.overlap import same_ground
from aftermap.data.checking.splits import assign_splits
from aftermap.data.legends import Legend, read_legend
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.class_folder import FolderLayout
from aftermap.data.scene import read_bands, read_mask
from aftermap.errors import DataError, DataWarning, OutputError
from made_classes import coloured, noise, stripes, write_png, write_raster
from prepared_datasets import prepare_class_folder

LEGEND = Legend(
    name="town",
    names=("ground", "road", "house"),
    colours=("#000000", "#808080", "#ff0000"),
    background=0,
    ignored_colours=("#ffffff",),
)
COLOURS = np.array([(0, 0, 0), (128, 128, 128), (255, 0, 0)], np.uint8)
WHOLE, TILES = Tiling(), Tiling(tile_px=16)


def town(root, *, colour=False, size=(20, 28), names=("a1", "b1")):
    """Two images with masks of three classes and of unknown pixels in the first row."""
    for number, name in enumerate(names):
        mask = stripes(*size, (0, 1, 2))
        mask[0] = IGNORE
        write_png(root / "images" / f"{name}.png", noise(number, *size).transpose(1, 2, 0))
        label = coloured(mask, COLOURS, (255, 255, 255)) if colour else mask
        write_png(root / "masks" / f"{name}.png", label)
    return root


def prepare(source, out, *, legend=LEGEND, tiling=WHOLE, layout=None, **options):
    return prepare_class_folder(
        source, out, legend, layout=layout or FolderLayout(), tiling=tiling, **options
    )


def expected(size=(20, 28)):
    mask = stripes(*size, (0, 1, 2))
    mask[0] = IGNORE
    return mask


@pytest.mark.parametrize("colour", [False, True])
def test_coloured_masks_and_masks_of_numbers_give_the_same_classes(tmp_path, colour):
    manifest = prepare(town(tmp_path / "s", colour=colour), tmp_path / "out")
    scene = manifest.scenes[0]
    assert np.array_equal(read_mask(scene, target="classes"), expected())
    assert scene.class_pixels == [int((expected() == k).sum()) for k in range(3)]
    assert (manifest.legend, manifest.scheme) == (LEGEND, "town")


def test_whole_8_bit_images_stay_where_they_are(tmp_path):
    source = town(tmp_path / "s")
    scene = prepare(source, tmp_path / "out").scenes[0]
    assert scene.pre == source / "images" / "a1.png"
    assert not (tmp_path / "out" / "images").exists()


def test_tiles_together_are_the_image_and_its_mask(tmp_path):
    prepare(town(tmp_path / "s"), tmp_path / "out", tiling=TILES)
    manifest = prepare(town(tmp_path / "s"), tmp_path / "out", tiling=TILES)
    image, mask = np.zeros((3, 20, 28), np.uint8), np.zeros((20, 28), np.uint8)
    mine = [scene for scene in manifest.scenes if scene.tile.source == "b1"]
    for scene in mine:
        place = (slice(scene.tile.row, scene.tile.row + 16), slice(scene.tile.col, scene.tile.col + 16))
        image[(..., *place)] = read_bands(scene, ("red", "green", "blue"))
        mask[place] = read_mask(scene, target="classes")
        assert (scene.tile.height, scene.tile.width) == (20, 28)
    assert len(mine) == 4
    assert np.array_equal(image, noise(1, 20, 28))
    assert np.array_equal(mask, expected())


def test_palette_files_are_read_by_colour_or_by_number(tmp_path):
    source = town(tmp_path / "s", names=("a1",))
    picture = Image.fromarray(expected(), "P")
    picture.putpalette([7, 7, 7] * 256)
    picture.save(source / "masks" / "a1.png")
    assert np.array_equal(read_mask(prepare(source, tmp_path / "n").scenes[0], target="classes"), expected())
    picture.putpalette([*COLOURS[[1, 0, 2]].ravel().tolist(), *[255] * 759])
    picture.save(source / "masks" / "a1.png")
    swapped = np.array([1, 0, 2, *[0] * 252, IGNORE], np.uint8)[expected()]
    assert np.array_equal(read_mask(prepare(source, tmp_path / "c").scenes[0], target="classes"), swapped)


def test_numbers_of_the_legend_and_of_the_option_become_indices(tmp_path):
    source = town(tmp_path / "s", names=("a1",))
    mask = stripes(20, 28, (0, 1, 2, 3))
    write_png(source / "masks" / "a1.png", mask)
    first = prepare(source, tmp_path / "one", first_value=1)
    own = LEGEND.model_copy(update={"label_values": (1, 2, 3), "ignored": (0,)})
    second = prepare(source, tmp_path / "two", legend=own)
    for manifest in (first, second):
        found = read_mask(manifest.scenes[0], target="classes")
        assert np.array_equal(found, np.where(mask == 0, IGNORE, mask - 1))


def without_background(root, wide, *, first, size=(40, 48)):
    """Classes of numbers from `first` on, and a square of `wide` pixels of the lowest number."""
    mask = stripes(*size, (first, first + 1))
    mask[:, 24:] = first + 1
    mask[10 : 10 + wide, 26 : 26 + wide] = 0
    write_png(root / "images" / "a.png", noise(0, *size).transpose(1, 2, 0))
    write_png(root / "masks" / "a.png", mask)
    return root


REAL_CLASSES = LEGEND.model_copy(update={"background": None})


def test_numbers_that_seem_to_count_from_1_are_warned_of(tmp_path):
    source = without_background(tmp_path / "s", 14, first=1)
    with pytest.warns(
        DataWarning, match=r"hold 0, which is ground, nowhere wider than 14 px.*--first-value 1$"
    ):
        prepare(source, tmp_path / "out", legend=REAL_CLASSES)
    stated = prepare(source, tmp_path / "stated", legend=REAL_CLASSES, first_value=1)
    assert stated.scenes[0].class_pixels[2] == 0  # no warning where the option says it


def test_a_first_class_with_an_area_is_not_taken_for_a_boundary(tmp_path):
    source = without_background(tmp_path / "s", 15, first=1)
    assert prepare(source, tmp_path / "out", legend=REAL_CLASSES).scenes[0].class_pixels[0] == 225


def test_bands_without_a_known_name_are_warned_of(tmp_path):
    source = town(tmp_path / "s")
    with pytest.warns(DataWarning, match="none of the bands vv, vh, ratio is called red, green, blue or nir"):
        manifest = prepare(source, tmp_path / "out", layout=FolderLayout(bands=("vv", "vh", "ratio")))
    assert manifest.scenes[0].bands == ("vv", "vh", "ratio")


def test_bands_are_named_left_out_and_stretched_to_8_bits(tmp_path):
    array = noise(0, 20, 28, 5, "uint16", 900)
    array[3] *= 3
    place = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    write_raster(tmp_path / "s" / "sat" / "a.tif", array, crs="EPSG:32632", transform=place)
    write_png(tmp_path / "s" / "gt" / "a.png", expected())
    layout = FolderLayout(bands=("red", "green", "blue", "nir", "-"))
    scene = prepare(tmp_path / "s", tmp_path / "out", layout=layout, stretch=(0, 100)).scenes[0]
    found = read_bands(scene, ("nir", "red"))
    low, high = int(array[:3].min()), int(array[:3].max())
    assert scene.bands == ("red", "green", "blue", "nir")
    assert np.array_equal(found[1], np.rint((array[0] - float(low)) * 255 / (high - low)))
    assert (found[0].min(), found[0].max()) == (0, 255)
    assert (scene.grid.crs, scene.grid.transform) == ("EPSG:32632", (0.5, 0, 500_000, 0, -0.5, 5_000_000))


def test_tiles_keep_the_georeference(tmp_path):
    place = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    write_raster(tmp_path / "s" / "images" / "a.tif", noise(0, 20, 28), crs="EPSG:32632", transform=place)
    write_png(tmp_path / "s" / "masks" / "a.png", expected())
    scenes = prepare(tmp_path / "s", tmp_path / "out", tiling=TILES).scenes
    last = scenes[-1]
    assert (last.tile.row, last.tile.col) == (4, 12)
    assert last.grid.transform == (0.5, 0, 500_006, 0, -0.5, 4_999_998)


def test_pixels_without_data_are_unknown(tmp_path):
    array = noise(0, 20, 28) | 1
    array[:, :, :4] = 0
    write_raster(tmp_path / "s" / "images" / "a.tif", array, nodata=0)
    write_png(tmp_path / "s" / "masks" / "a.png", expected())
    mask = read_mask(prepare(tmp_path / "s", tmp_path / "out").scenes[0], target="classes")
    assert (mask[:, :4] == IGNORE).all()
    assert np.array_equal(mask[:, 4:], expected()[:, 4:])


def test_the_event_is_read_from_the_name(tmp_path):
    source = town(tmp_path / "s", names=("tile1_a", "tile2_a"))
    layout = FolderLayout(event_pattern=r"tile(\d)")
    assert [s.event for s in prepare(source, tmp_path / "out", layout=layout).scenes] == ["1", "2"]


def test_folders_called_train_and_val_are_the_published_split(tmp_path):
    for part in ("train", "val"):
        write_png(tmp_path / "s" / "img_dir" / part / "x.png", noise(0, 8, 8).transpose(1, 2, 0))
        write_png(tmp_path / "s" / "ann_dir" / part / "x_label.png", stripes(8, 8, (0, 1)))
    scenes = prepare(tmp_path / "s", tmp_path / "out").scenes
    assert [(s.name, s.source_split) for s in scenes] == [("train-x", "train"), ("val-x", "hold")]


def test_other_colours_are_counted(tmp_path):
    source = town(tmp_path / "s", colour=True)
    label = coloured(expected(), COLOURS, (255, 255, 255))
    label[5, :2] = (250, 3, 0)
    write_png(source / "masks" / "a1.png", label)
    with pytest.warns(DataWarning, match=r"2 pixels in 1 label files .* legend town does not list: a1 2"):
        manifest = prepare(source, tmp_path / "out", off_palette="nearest")
    assert read_mask(manifest.scenes[0], target="classes")[5, :2].tolist() == [2, 2]
    assert manifest.options["off_palette_pixels"] == "2"


def test_finished_tiles_are_taken_over(tmp_path):
    source = town(tmp_path / "s")
    broken = source / "masks" / "b1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"b1.png is truncated.*finished scenes are kept"):
        prepare(source, tmp_path / "out", tiling=TILES, strict=True)
    first = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "images").iterdir()}
    broken.write_bytes(whole)
    assert len(prepare(source, tmp_path / "out", tiling=TILES).scenes) == 8
    again = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "images").iterdir()}
    assert len(first) == 4
    assert first.items() <= again.items()


def test_two_processes_give_the_same_tiles(tmp_path):
    source = town(tmp_path / "s")
    one, two = (prepare(source, tmp_path / str(n), tiling=TILES, workers=n) for n in (1, 2))
    assert [s.checksums["pre"] for s in one.scenes] == [s.checksums["pre"] for s in two.scenes]


def test_tiles_of_another_size_are_replaced_only_when_asked(tmp_path):
    source = town(tmp_path / "s")
    prepare(source, tmp_path / "out", tiling=TILES)
    with pytest.raises(OutputError, match="prepared otherwise"):
        prepare(source, tmp_path / "out", tiling=Tiling(tile_px=8))
    manifest = prepare(source, tmp_path / "out", tiling=Tiling(tile_px=8), overwrite=True)
    assert len(list((tmp_path / "out" / "images").iterdir())) == len(manifest.scenes) == 2 * 3 * 4


def test_a_split_survives_preparing_again(tmp_path):
    source = town(tmp_path / "s")
    split = assign_splits(prepare(source, tmp_path / "out"), by="random", fractions=(0.5, 0.5, 0))
    split.save(tmp_path / "out")
    again = prepare(source, tmp_path / "out")
    assert sorted(s.split for s in again.scenes) == ["train", "validation"]


def test_overlapping_tiles_of_an_image_come_into_one_split(tmp_path):
    manifest = prepare(town(tmp_path / "s"), tmp_path / "out", tiling=TILES)
    pairs = {(p.first, p.second): p.share for p in same_ground(manifest.scenes)}
    # 20 x 28 px in tiles of 16 from rows 0, 4 and columns 0, 12
    assert pairs[0, 1] == pytest.approx(4 / 16)
    assert pairs[0, 2] == pytest.approx(12 / 16)
    split = assign_splits(manifest, by="random", fractions=(0.5, 0.5, 0))
    assert len({(s.tile.source, s.split) for s in split.scenes}) == 2


def test_events_are_named_for_validation_and_test(tmp_path):
    source = town(tmp_path / "s", names=("a1", "b1", "c1", "d1"))
    manifest = prepare(source, tmp_path / "out", layout=FolderLayout(event_pattern="[a-z]"))
    split = assign_splits(manifest, hold_out=["c"], validate_on=["a"])
    assert {s.event: s.split for s in split.scenes} == {
        "a": "validation",
        "b": "train",
        "c": "test",
        "d": "train",
    }
    with pytest.raises(DataError, match="event c is named for test and for validation"):
        assign_splits(manifest, hold_out=["c"], validate_on=["c"])


class TestTheDoctor:
    def test_finds_nothing_in_what_was_prepared(self, tmp_path):
        manifest = prepare(town(tmp_path / "s"), tmp_path / "out", tiling=TILES)
        manifest = assign_splits(manifest, by="random", fractions=(0.5, 0.5, 0))
        report = check(manifest)
        assert [f.code for f in report.findings if f.severity != "info"] == ["event-leakage"]
        shares = next(f.message for f in report.findings if f.code == "class-balance")
        known = sum(sum(s.class_pixels) for s in manifest.scenes)
        assert shares.startswith(f"{known} known pixels: ground ")

    def test_knows_values_bands_and_missing_masks(self, tmp_path):
        array = noise(0, 20, 28, 4)
        for name in ("a", "b", "c"):
            write_raster(tmp_path / "s" / "images" / f"{name}.tif", array)
            write_png(tmp_path / "s" / "masks" / f"{name}.png", expected())
        layout = FolderLayout(bands=("red", "green", "blue", "nir"))
        manifest = prepare(tmp_path / "s", tmp_path / "out", layout=layout)
        write_png(manifest.scenes[0].class_mask, np.full((20, 28), 7, np.uint8))
        manifest.scenes[1].class_mask.unlink()
        write_raster(manifest.scenes[2].pre, noise(0, 20, 28, 3))
        found = {(f.scene, f.code) for f in check(manifest).errors}
        assert {("a", "label-values"), ("b", "missing-mask"), ("c", "bands")} <= found

    def test_names_a_class_that_never_occurs(self, tmp_path):
        source = town(tmp_path / "s", names=("a1",))
        write_png(source / "masks" / "a1.png", stripes(20, 28, (0, 1)))
        found = check(prepare(source, tmp_path / "out")).findings
        assert "no pixels of class house anywhere: a step cannot learn it" in [f.message for f in found]


class TestWrongInput:
    def test_an_image_without_mask(self, tmp_path):
        source = town(tmp_path / "s")
        (source / "masks" / "b1.png").unlink()
        with pytest.raises(DataError, match=r"b1.png has no mask of its name in .*masks \(1 such images\)"):
            prepare(source, tmp_path / "out")
        layout = FolderLayout(missing_mask="unlabelled")
        assert [s.is_labelled for s in prepare(source, tmp_path / "o", layout=layout).scenes] == [True, False]
        layout = FolderLayout(missing_mask="background")
        assert prepare(source, tmp_path / "b", layout=layout).scenes[1].class_pixels == [560, 0, 0]

    def test_a_mask_without_image(self, tmp_path):
        source = town(tmp_path / "s")
        write_png(source / "masks" / "z.png", expected())
        with pytest.raises(DataError, match=r"z.png has no image of its name"):
            prepare(source, tmp_path / "out")

    def test_a_mask_of_another_size(self, tmp_path):
        source = town(tmp_path / "s")
        write_png(source / "masks" / "a1.png", expected((20, 24)))
        with pytest.raises(DataError, match=r"a1.png has 24 x 20 pixels, its image a1.png 28 x 20"):
            prepare(source, tmp_path / "out", strict=True)

    def test_a_number_of_no_class(self, tmp_path):
        source = town(tmp_path / "s")
        mask = expected()
        mask[3, 5] = 9
        write_png(source / "masks" / "a1.png", mask)
        with pytest.raises(
            DataError, match=r"holds the value 9 at row 3, column 5, legend town expects 0, 1, 2, 255"
        ) as refused:
            prepare(source, tmp_path / "out")
        assert str(refused.value).endswith("the number of its first class, finished scenes are kept")

    def test_bands_that_are_not_named(self, tmp_path):
        write_raster(tmp_path / "s" / "images" / "a.tif", noise(0, 20, 28, 4))
        write_png(tmp_path / "s" / "masks" / "a.png", expected())
        with pytest.raises(
            DataError, match=r"has 4 bands, expected 3 \(red, green, blue\).*'-' leaves one out$"
        ):
            prepare(tmp_path / "s", tmp_path / "out")
        with pytest.raises(DataError, match="does not name each band once"):
            prepare(tmp_path / "s", tmp_path / "out", layout=FolderLayout(bands=("red", "red", "x", "y")))

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "s" / "images").mkdir(parents=True)
        (tmp_path / "s" / "masks").mkdir()
        with pytest.raises(DataError, match="no images in"):
            prepare(tmp_path / "s", tmp_path / "out")
        with pytest.raises(DataError, match="holds masks: expected images/ and masks/"):
            (tmp_path / "s" / "images").rmdir()
            prepare(tmp_path / "s", tmp_path / "out")

    def test_an_event_that_a_name_does_not_hold(self, tmp_path):
        with pytest.raises(DataError, match="holds nothing that --event-pattern"):
            prepare(town(tmp_path / "s"), tmp_path / "out", layout=FolderLayout(event_pattern="tile"))

    def test_a_file_that_describes_no_legend(self, tmp_path):
        (tmp_path / "l.json").write_text(json.dumps({"names": ["a"], "colours": ["#000000", "#ffffff"]}))
        with pytest.raises(DataError, match=r"describes no legend: colours has 2 values, there are 1 names$"):
            read_legend(tmp_path / "l.json")

    def test_an_empty_legend_file(self, tmp_path):
        (tmp_path / "l.yaml").write_text("")
        with pytest.raises(DataError, match="describes no legend: expected the keys names, colours"):
            read_legend(tmp_path / "l.yaml")

    def test_a_number_that_stands_for_two_classes(self, tmp_path):
        tree = {"names": ["a", "b"], "colours": ["#000000", "#ffffff"], "label_values": [3, 3]}
        (tmp_path / "l.json").write_text(json.dumps(tree))
        with pytest.raises(DataError, match="label values and ignored hold one twice: 3, 3"):
            read_legend(tmp_path / "l.json")

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"first_value": -3}, "the first value is -3, expected 0 to 254"),
            ({"tolerance": -5.0}, "the colour tolerance is -5, expected 0 or more"),
        ],
    )
    def test_options_that_describe_no_label_files(self, tmp_path, option, message):
        with pytest.raises(DataError, match=message):
            prepare(town(tmp_path / "s"), tmp_path / "out", **option)
        assert not (tmp_path / "out").exists()
