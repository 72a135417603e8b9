"""Files that others wrote, odd in every place: one line each, never a traceback, and the others go on."""

import json
import warnings
from itertools import islice

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.checking.doctor import check
from aftermap.data.geotransform import read_geotransforms, to_grid
from aftermap.data.legends import Legend, read_legend
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.dataset import SourceScene
from aftermap.data.preparing.footprint_tiles import footprints_in_pixels
from aftermap.data.readers.opencities import find_images
from aftermap.data.readers.xbd import POST_LABEL, PRE_LABEL, read_label_file, read_labels
from aftermap.data.scene import Manifest, SceneGrid, read_bands, read_images, read_mask
from aftermap.errors import AftermapWarning, DataError, DataWarning, InputError
from aftermap.geo.raster import RasterSource
from made_image_sets import write_labels, write_opencities
from made_image_sets import write_raster as write_utm
from made_xbd import box, image, label, write_image, write_pair
from made_xbd import manifest as as_manifest
from made_xbd import scene as as_scene
from odd_trees import odd_trees
from prepared_datasets import prepare_opencities, prepare_xbd

SIZE = 32
TREE = label([box(1, 1), box(12, 1)], ["no-damage", "destroyed"])
WKT = (
    "",
    "POLYGON",
    "POLYGON EMPTY",
    "MULTIPOLYGON EMPTY",
    "POINT (1 1)",
    "POLYGON ((inf 1, 5 1, 5 5, inf 1))",
    "POLYGON ((nan nan, nan nan, nan nan, nan nan))",
    "POLYGON ((1e300 1, 5 1, 5 5, 1e300 1))",
    "POLYGON ((380000 4200000, 380010 4200000, 380010 4200010, 380000 4200000))",
    "POLYGON ((1 1, 1 1, 1 1, 1 1))",
    "POLYGON ((1 1, 9 9, 9 1, 1 9, 1 1))",
    "POLYGON Z ((1 1 5, 9 1 5, 9 9 5, 1 1 5))",
    "GEOMETRYCOLLECTION (" * 5000,
    "POLYGON (" * 5000,
)


def scene_of(folder):
    labels = {PRE_LABEL: folder / "pre.json", POST_LABEL: folder / "post.json"}
    return SourceScene("a", "storm", folder / "pre.png", folder / "post.png", labels=labels)


def labels_of(folder):
    """The labels, or None where they are refused in one line."""
    try:
        found = read_labels(scene_of(folder), height=SIZE, width=SIZE)
    except DataError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400 + 2 * len(str(folder))
        return None
    for kind, mask in found.masks.items():
        assert mask.shape == (SIZE, SIZE)
        assert set(np.unique(mask)) <= ({0, 1} if kind == "building" else {0, 1, 2, 3, 4, 255})
    return found


def test_an_xbd_label_that_is_odd_in_one_place_is_read_or_refused(tmp_path):
    (tmp_path / "pre.json").write_text(json.dumps(TREE))
    refused = 0
    for _, tree in odd_trees(TREE):
        (tmp_path / "post.json").write_text(json.dumps(tree))
        refused += labels_of(tmp_path) is None
    assert refused > 300


@pytest.mark.parametrize("wkt", WKT)
@pytest.mark.parametrize("system", ["xy", "lng_lat"])
def test_odd_geometries_are_read_or_refused(tmp_path, wkt, system):
    tree = json.loads(json.dumps(TREE))
    tree["features"][system][1]["wkt"] = wkt
    for date in ("pre", "post"):
        (tmp_path / f"{date}.json").write_text(json.dumps(tree))
    found = labels_of(tmp_path)
    if "inf" in wkt or "nan" in wkt or "e300" in wkt or ("EMPTY" not in wkt and "(" not in wkt):
        assert found is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00",
        b"null",
        b"NaN",
        b"[" * 100_000,
        b'{"features":' * 100_000,
        b"\xff\xfe{",
        b"9" * 5000,
        b"\xef\xbb\xbf",
    ],
)
def test_files_that_are_no_labels_are_refused(tmp_path, text):
    (tmp_path / "post.json").write_bytes(text)
    with pytest.raises(DataError, match=r"post.json (is not|cannot be understood)"):
        read_label_file(tmp_path / "post.json")


@settings(max_examples=200)
@given(st.binary(max_size=12), st.integers(0, 1200), st.integers(0, 12))
def test_a_label_file_with_foreign_bytes_is_read_or_refused(tmp_path_factory, foreign, place, cut):
    text = json.dumps(TREE).encode()
    path = tmp_path_factory.getbasetemp() / "foreign.json"
    path.write_bytes(text[:place] + foreign + text[place + cut :])
    try:
        read_label_file(path)
    except DataError as error:
        assert "\n" not in str(error)


def test_the_other_files_go_on(tmp_path):
    root = tmp_path / "s"
    odd = list(islice((tree for what, tree in odd_trees(TREE, (None, "x")) if "wkt" in what), 8))
    for number in range(12):
        write_pair(root, number, [box(1, 1)], ["destroyed"])
        if number < len(odd):
            (root / "labels" / f"storm_{number:08d}_post_disaster.json").write_text(json.dumps(odd[number]))
    with pytest.warns(DataWarning) as caught:
        manifest = prepare_xbd(root, tmp_path / "out", workers=2)
    left_out = manifest.options["left_out"].split(",")
    assert len(caught) == len(left_out) == len(odd)
    assert [scene.name for scene in manifest.scenes] == [f"storm_{number:08d}" for number in range(8, 12)]
    assert all(scene.polygons == {"destroyed": 1} for scene in manifest.scenes)


def listing_or_none(path):
    try:
        return find_images(path)[1]
    except DataError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("file", ["catalog.json", "acc/collection.json", "acc/665946/665946.json"])
def test_a_stac_catalogue_that_is_odd_in_one_place_is_read_or_refused(tmp_path, file):
    root = write_opencities(tmp_path / "s", listing="stac") / "train_tier_1"
    tree = json.loads((root / file).read_text())
    for what, odd in odd_trees(
        tree, (None, "x", "\x00", "x" * 5000, 3, [], {}, "https://example.org/a.json")
    ):
        (root / file).write_text(json.dumps(odd))
        found = listing_or_none(root)
        assert found is None or all(image.pre.suffix == ".tif" for image in found), what


@settings(max_examples=100)
@given(st.text(alphabet=st.sampled_from('abc,"\n\r\x00;/.\t é'), max_size=80))
def test_a_csv_of_anything_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "odd.csv"
    path.write_text("img_uri,label_uri\n" + text, newline="")
    listing_or_none(path)


def test_geojson_labels_that_are_odd_in_one_place_are_read_or_refused(tmp_path):
    write_utm(tmp_path / "a.tif")
    write_labels(tmp_path / "a.geojson", [(20, 30, 60, 80), (120, 130, 160, 150)])
    tree = json.loads((tmp_path / "a.geojson").read_text())
    source = RasterSource.open(tmp_path / "a.tif")
    odd = tmp_path / "odd.geojson"
    for what, changed in odd_trees(tree, (None, "x", -1e308, float("inf"), [], {})):
        odd.write_text(json.dumps(changed))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AftermapWarning)
                shapes = footprints_in_pixels(odd, source.grid)
        except InputError as error:
            assert "\n" not in str(error), what
            continue
        assert np.isfinite([shape.bounds for shape in shapes if not shape.is_empty]).all(), what
    source.close()


def test_an_image_with_odd_labels_is_left_out_of_the_tiles(tmp_path):
    root = write_opencities(tmp_path / "s")
    (root / "train_tier_2/dar/f883a0-labels/f883a0.geojson").write_text('{"type": "FeatureCollection"')
    with pytest.warns(DataWarning, match=r"left out: .*f883a0.geojson"):
        manifest = prepare_opencities(root, tmp_path / "out", CutConfig(size_px=200), workers=2)
    assert {scene.event for scene in manifest.scenes} == {"665946", "825a50"}


READ = (
    lambda scene: read_images(scene, dates=2),
    lambda scene: read_bands(scene, ("red",)),
    lambda scene: read_mask(scene, target="damage"),
)


def test_a_manifest_that_is_odd_in_one_place_is_read_or_refused(tmp_path):
    for number in range(2):
        write_pair(tmp_path / "s", number, [box(1, 1), box(12, 1)], ["no-damage", "destroyed"])
    prepare_xbd(tmp_path / "s", tmp_path / "out")
    file = tmp_path / "out" / "manifest.json"
    tree = json.loads(file.read_text())
    del tree["scenes"][1:]
    for what, odd in odd_trees(tree, (None, "x", -1, 0, float("inf"), [], {}, 1e300)):
        file.write_text(json.dumps(odd))
        try:
            manifest = Manifest.load(file)
        except DataError as error:
            assert "\n" not in str(error), what
            continue
        check(manifest)
        for scene in manifest.scenes:
            for read in READ:
                try:
                    read(scene)
                except DataError as error:
                    assert "\n" not in str(error), what


LEGEND = {
    "name": "town",
    "names": ["ground", "house"],
    "colours": ["#000000", "#ff0000"],
    "background": 0,
    "label_values": [1, 2],
    "ignored": [0],
    "ignored_colours": ["#ffffff"],
}


def test_a_legend_that_is_odd_in_one_place_is_read_or_refused(tmp_path):
    refused = 0
    for _, odd in odd_trees(LEGEND):
        (tmp_path / "town.yaml").write_text(yaml.safe_dump(odd))
        refused += legend_or_none(tmp_path / "town.yaml") is None
    assert refused > 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 20_000,
        "a: &a [*a]",
        "? [1]\n: 2",
        "2024-13-45",
        "9" * 5000,
        "a: !!python/object:os.system x",
        "\x00",
        "1: 2",
        "- a",
    ],
)
def test_files_that_are_no_legend_are_refused(tmp_path, text):
    (tmp_path / "town.yaml").write_text(text)
    assert legend_or_none(tmp_path / "town.yaml") is None


def legend_or_none(path):
    try:
        legend = read_legend(path)
    except DataError as error:
        assert "\n" not in str(error)
        return None
    assert isinstance(legend, Legend)
    return legend


def test_a_geotransforms_file_that_is_odd_in_one_place_is_read_or_refused(tmp_path):
    tree = {"storm_00000000_pre_disaster.png": [[-85.5, 5e-6, 0, 30.25, 0, -5e-6], "EPSG:4326"]}
    for what, odd in odd_trees(tree):
        (tmp_path / "g.json").write_text(json.dumps(odd))
        try:
            grids = read_geotransforms(tmp_path / "g.json")
        except DataError as error:
            assert "\n" not in str(error), what
            continue
        assert all(np.isfinite(grid.transform).all() for grid in grids.values()), what


def test_an_image_that_is_no_image_is_left_out(tmp_path):
    write_pair(tmp_path / "s", 0, [box(1, 1)], ["destroyed"])
    for number, data in enumerate((b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + bytes(40)), 1):
        write_pair(tmp_path / "s", number, [box(1, 1)], ["destroyed"])
        (tmp_path / "s" / "images" / f"storm_{number:08d}_post_disaster.png").write_bytes(data)
    with pytest.warns(DataWarning, match="left out") as caught:
        manifest = prepare_xbd(tmp_path / "s", tmp_path / "out")
    assert [scene.name for scene in manifest.scenes] == ["storm_00000000"]
    assert len(caught) == 4


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../x", "/etc/x", "a/b", "a\\b", ".hidden", "a\nb", "a\0", "x" * 201]
)
def test_a_scene_is_called_what_a_file_can_be_called(tmp_path, name):
    good = as_manifest([as_scene("a", tile={"source": "b", "row": 0, "col": 0, "height": 9, "width": 9})])
    assert Manifest.load(good.save(tmp_path)).scenes[0].tile.source == "b"
    file = tmp_path / "manifest.json"
    tree = json.loads(file.read_text())
    for place in (tree["scenes"][0], tree["scenes"][0]["tile"]):
        key = "name" if "name" in place else "source"
        old, place[key] = place[key], name
        file.write_text(json.dumps(tree))
        with pytest.raises(DataError, match="expected what a file can be called"):
            Manifest.load(file)
        place[key] = old


def test_a_message_is_one_line_whatever_the_file_holds(tmp_path):
    tree = {"features": {"xy": [{"properties": {"subtype": "a\n\x1b[2J" + "x" * 9000}, "wkt": box(1, 1)}]}}
    (tmp_path / "post.json").write_text(json.dumps(tree))
    scene = SourceScene("a", "storm", tmp_path, tmp_path, labels={POST_LABEL: tmp_path / "post.json"})
    with pytest.raises(DataError, match="subtype") as error:
        read_labels(scene, height=SIZE, width=SIZE)
    assert str(error.value).isprintable() and len(str(error.value)) < 2600


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_all_numbers_are_refused_without_remarks(tmp_path):
    wkt = "POLYGON ((1e999 1, 5 1, 5 5, 1e999 1))"
    (tmp_path / "post.json").write_text(json.dumps(label([wkt], ["destroyed"])))
    with pytest.raises(DataError, match="that no image has"):
        read_label_file(tmp_path / "post.json")


def test_a_reference_system_nested_without_end_is_refused(tmp_path):
    deep = "[" * 9000
    (tmp_path / "g.json").write_text(json.dumps({"a.png": [[0, 1, 0, 0, 0, -1], deep]}))
    with pytest.raises(DataError, match="unknown reference system"):
        read_geotransforms(tmp_path / "g.json")
    with pytest.raises(DataError, match="unknown reference system"):
        to_grid(SceneGrid(crs=deep, transform=(1, 0, 0, 0, -1, 0)), height=2, width=2)


def test_dates_of_different_sizes_are_told_of(tmp_path):
    paths = [tmp_path / "pre.png", tmp_path / "post.png"]
    for path, size in zip(paths, (32, 24), strict=True):
        write_image(path, image(1, size))
    odd = as_scene("a", pre=paths[0], post=paths[1], size=32)
    with pytest.raises(DataError, match=r"scene a have 32 x 32 and 24 x 24 pixels"):
        read_images(odd, dates=2)
    assert read_images(odd, dates=1).shape == (1, 3, 32, 32)
