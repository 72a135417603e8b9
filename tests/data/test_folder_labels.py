"""Plain folders beyond images and masks: one vector file for all, grey masks, masks beside images, tile names."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import mapping

from aftermap.classes import IGNORE
from aftermap.data.readers.folder import harden_grey
from aftermap.data.readers.webtiles import WebTile
from aftermap.data.scene import read_mask
from aftermap.data.soft_labels import read_soft
from aftermap.errors import AftermapError, DataError, FootprintError
from aftermap.geo.polygons import from_pixels
from made_xbd import image, write_image, write_tiff
from prepared_datasets import prepare_folder, prepare_xbd

PARENT = WebTile(309606, 261636, 19)


def write_tiles(root, zooms=(19, 20), size=64):
    """The images of a tile of zoom 19 and of what it holds at finer zooms; returns the folder."""
    for zoom in zooms:
        count = 2 ** (zoom - 19)
        for i in range(count):
            for j in range(count):
                name = f"OAM-{PARENT.x * count + i}-{PARENT.y * count + j}-{zoom}"
                write_image(root / "images" / f"{name}.png", image(i + 9 * j + 99 * zoom, size))
    return root


def write_footprints(path, boxes, *, grid=None, crs=None):
    """Boxes (left, top, right, bottom) in pixels of the tile of zoom 19 (64 px), as GeoJSON in degrees or in `crs`."""
    grid = grid or PARENT.grid(height=64, width=64)
    move = Transformer.from_crs(grid.crs.to_wkt(), crs or "EPSG:4326", always_xy=True).transform
    shapes = [
        shapely.transform(from_pixels(shapely.box(*box), grid), lambda xy: np.column_stack(move(*xy.T)))
        for box in boxes
    ]
    features = [{"type": "Feature", "properties": {}, "geometry": mapping(shape)} for shape in shapes]
    tree = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        tree["crs"] = {"type": "name", "properties": {"name": crs}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
    return path


def by_name(manifest):
    return {scene.name: scene for scene in manifest.scenes}


class TestFootprints:
    @pytest.mark.parametrize("crs", [None, "EPSG:3857", "EPSG:32636"])
    def test_masks_are_drawn_where_the_footprints_lie(self, tmp_path, crs):
        source = write_tiles(tmp_path / "s")
        write_footprints(source / "labels.geojson", [(8, 16, 24, 48), (40, 4, 60, 10)], crs=crs)
        scenes = by_name(prepare_folder(source, tmp_path / "out", footprints=source / "labels.geojson"))
        whole = np.zeros((64, 64), np.uint8)
        whole[16:48, 8:24] = 1
        whole[4:10, 40:60] = 1
        x, y = PARENT.x, PARENT.y
        assert np.array_equal(read_mask(scenes[f"OAM-{x}-{y}-19"], target="building"), whole)
        for i in (0, 1):
            for j in (0, 1):
                child = scenes[f"OAM-{2 * x + i}-{2 * y + j}-20"]
                part = whole[32 * j : 32 * j + 32, 32 * i : 32 * i + 32]
                assert np.array_equal(read_mask(child, target="building"), part.repeat(2, 0).repeat(2, 1))

    def test_the_area_of_the_footprints_is_kept(self, tmp_path):
        # 100 boxes of 5.5 x 5.5 px at arbitrary places cover 3025 px
        rng = np.random.default_rng(0)
        corners = [
            (25 * (n % 10) + rng.uniform(1, 9), 25 * (n // 10) + rng.uniform(1, 9)) for n in range(100)
        ]
        source = write_tiles(tmp_path / "s", zooms=(19,), size=256)
        grid = PARENT.grid(height=256, width=256)
        write_footprints(source / "a.geojson", [(x, y, x + 5.5, y + 5.5) for x, y in corners], grid=grid)
        scene = prepare_folder(source, tmp_path / "out", footprints=source / "a.geojson").scenes[0]
        assert scene.class_pixels[1] == pytest.approx(3025, rel=0.02)
        assert scene.polygons == {"building": 100}

    def test_the_file_is_also_looked_for_in_the_source(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(19,))
        write_footprints(source / "labels.geojson", [(8, 16, 24, 48)])
        manifest = prepare_folder(source, tmp_path / "out", footprints=Path("labels.geojson"))
        assert manifest.scenes[0].class_pixels == [4096 - 512, 512]

    def test_a_layer_of_the_file_can_be_named(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(19,))
        for layer, box in (("north", (8, 16, 24, 48)), ("south", (0, 0, 8, 8))):
            file = write_footprints(tmp_path / f"{layer}.geojson", [box])
            geopandas.read_file(file).to_file(source / "all.gpkg", layer=layer)
        manifest = prepare_folder(source, tmp_path / "out", footprints=Path("all.gpkg:south"))
        assert manifest.scenes[0].class_pixels == [4096 - 64, 64]
        with pytest.raises(
            FootprintError, match=r"several layers of polygons.*north \(Polygon, 1\), south \(Polygon, 1\)"
        ):
            prepare_folder(source, tmp_path / "other", footprints=Path("all.gpkg"))

    def test_georeference_and_resolution_follow_from_the_names(self, tmp_path):
        source = write_tiles(tmp_path / "s")
        file = write_footprints(tmp_path / "labels.geojson", [(8, 16, 24, 48)])
        scenes = by_name(prepare_folder(source, tmp_path / "out", footprints=file))
        parent, child = (
            scenes[f"OAM-{PARENT.x}-{PARENT.y}-19"],
            scenes[f"OAM-{2 * PARENT.x}-{2 * PARENT.y}-20"],
        )
        assert parent.grid == PARENT.scene_grid(height=64, width=64)
        # 40075017 m / 2^19 / 64 px on the equator; Kampala lies at 0.35 degrees north
        assert parent.resolution_m == pytest.approx(1.1943, rel=0.005)
        assert child.resolution_m == pytest.approx(parent.resolution_m / 2, rel=1e-4)

    def test_a_building_counts_in_one_tile_only(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(20,))
        file = write_footprints(tmp_path / "labels.geojson", [(20, 8, 38, 20)])  # across the middle
        scenes = prepare_folder(source, tmp_path / "out", footprints=file).scenes
        assert sorted(scene.polygons["building"] for scene in scenes) == [0, 0, 0, 1]
        assert sum(bool(scene.class_pixels[1]) for scene in scenes) == 2

    def test_geotiffs_of_different_systems_share_one_file(self, tmp_path):
        root = tmp_path / "s"
        write_tiff(root / "images" / "a.tif", crs="EPSG:32616")
        write_tiff(root / "images" / "b.tif", crs="EPSG:32617", origin=(500_000, 3_300_000))
        frames = []
        for zone in (16, 17):
            move = Transformer.from_crs(f"EPSG:326{zone}", "EPSG:4326", always_xy=True).transform
            box = shapely.box(500_004, 3_299_992, 500_008, 3_299_996)  # columns and rows 8 to 16
            frames.append(shapely.transform(box, lambda xy, move=move: np.column_stack(move(*xy.T))))
        features = [{"type": "Feature", "properties": {}, "geometry": mapping(shape)} for shape in frames]
        (root / "b.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        expected = np.zeros((32, 32), np.uint8)
        expected[8:16, 8:16] = 1
        for scene in prepare_folder(root, tmp_path / "out", footprints=root / "b.geojson").scenes:
            assert np.array_equal(read_mask(scene, target="building"), expected)

    def test_an_unchanged_preparation_draws_nothing_again(self, tmp_path):
        source = write_tiles(tmp_path / "s")
        file = write_footprints(tmp_path / "labels.geojson", [(8, 16, 24, 48)])
        first, second = (
            [
                s.building_mask.stat().st_mtime_ns
                for s in prepare_folder(source, tmp_path / "out", footprints=file, group_zoom=19).scenes
            ]
            for _ in range(2)
        )
        assert first == second

    def test_other_footprints_are_drawn_anew(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(19,))
        file = write_footprints(tmp_path / "labels.geojson", [(8, 16, 24, 48)])
        prepare_folder(source, tmp_path / "out", footprints=file)
        write_footprints(file, [(8, 16, 24, 32)])
        again = prepare_folder(source, tmp_path / "out", footprints=file)
        assert again.scenes[0].class_pixels == [4096 - 256, 256]

    def test_footprints_far_from_every_tile(self, tmp_path):
        source = write_tiles(tmp_path / "s")
        file = write_footprints(tmp_path / "far.geojson", [(90_000, 0, 90_010, 10)])
        with pytest.raises(FootprintError, match=r"no footprint lies on the image: they span lon 33\.5552"):
            prepare_folder(source, tmp_path / "out", footprints=file)

    def test_footprints_between_the_tiles(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(20,))
        for path in sorted((source / "images").iterdir())[1:3]:
            path.unlink()  # two opposite corners are left
        file = write_footprints(tmp_path / "labels.geojson", [(40, 8, 48, 16)])
        with pytest.raises(FootprintError, match="no footprint lies on any of the 2 images: they span lon"):
            prepare_folder(source, tmp_path / "out", footprints=file)

    def test_an_empty_vector_file(self, tmp_path):
        source = write_tiles(tmp_path / "s")
        file = write_footprints(tmp_path / "none.geojson", [])
        with pytest.raises(FootprintError, match=r"none.geojson holds .*no"):
            prepare_folder(source, tmp_path / "out", footprints=file)

    def test_a_missing_vector_file(self, tmp_path):
        source = write_tiles(tmp_path / "s")
        with pytest.raises(AftermapError, match=r"cannot read footprints nowhere.geojson: no such file"):
            prepare_folder(source, tmp_path / "out", footprints=Path("nowhere.geojson"))

    def test_images_without_georeference(self, tmp_path):
        write_image(tmp_path / "s" / "images" / "town.png", image(1))
        file = write_footprints(tmp_path / "labels.geojson", [(8, 16, 24, 48)])
        with pytest.raises(
            DataError, match=r"town.png has no georeference, which --footprints needs: give GeoTIFFs"
        ):
            prepare_folder(tmp_path / "s", tmp_path / "out", footprints=file)

    def test_masks_and_footprints_at_once(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(19,))
        write_image(source / "masks" / f"OAM-{PARENT.x}-{PARENT.y}-19.png", np.zeros((64, 64), np.uint8))
        file = write_footprints(tmp_path / "labels.geojson", [(8, 16, 24, 48)])
        with pytest.raises(DataError, match=r"is a mask and --footprints .* is given: leave one of them out"):
            prepare_folder(source, tmp_path / "out", footprints=file)


class TestGroups:
    def test_events_are_parent_tiles(self, tmp_path):
        source = write_tiles(tmp_path / "s")
        for given, expected in ((None, "309606-261636"), ("ggaba", "ggaba-309606-261636")):
            manifest = prepare_folder(source, tmp_path / (given or "o"), group_zoom=19, event=given)
            assert {scene.event for scene in manifest.scenes} == {expected}
            assert all(scene.grid is not None and not scene.is_labelled for scene in manifest.scenes)

    def test_a_finer_zoom_makes_smaller_groups(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(20, 21))
        manifest = prepare_folder(source, tmp_path / "out", group_zoom=20)
        sizes = [
            sum(s.event == event for s in manifest.scenes) for event in {s.event for s in manifest.scenes}
        ]
        assert sizes == [5] * 4

    def test_another_zoom_is_no_reason_to_keep_old_events(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(20,))
        prepare_folder(source, tmp_path / "out", group_zoom=20)
        assert {s.event for s in prepare_folder(source, tmp_path / "out", group_zoom=19).scenes} == {
            PARENT.name
        }
        assert {s.event for s in prepare_folder(source, tmp_path / "out").scenes} == {"s"}

    def test_names_that_are_no_tiles(self, tmp_path):
        write_image(tmp_path / "s" / "images" / "town_1.png", image(1))
        with pytest.raises(DataError, match=r"town_1.png is not named by a web-mercator tile x-y-z"):
            prepare_folder(tmp_path / "s", tmp_path / "out", group_zoom=19)

    def test_a_zoom_finer_than_the_tiles(self, tmp_path):
        source = write_tiles(tmp_path / "s", zooms=(19,))
        with pytest.raises(DataError, match="is a tile of zoom 19, which has no parent of zoom 21"):
            prepare_folder(source, tmp_path / "out", group_zoom=21)


class TestSoftMasks:
    GREY = np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 4)).reshape(32, 32)

    def test_grey_is_kept_as_a_probability(self, tmp_path):
        write_image(tmp_path / "s" / "images" / "a.png", image(1))
        write_image(tmp_path / "s" / "masks" / "a.png", self.GREY)
        scene = prepare_folder(tmp_path / "s", tmp_path / "out", labels="soft").scenes[0]
        kept = read_soft(scene)[..., 0] / 254
        assert np.abs(kept - self.GREY / 255).max() <= 0.5 / 254

    def test_the_mask_leaves_out_what_is_unsure(self, tmp_path):
        write_image(tmp_path / "s" / "images" / "a.png", image(1))
        write_image(tmp_path / "s" / "masks" / "a.png", self.GREY)
        scene = prepare_folder(tmp_path / "s", tmp_path / "out", labels="soft").scenes[0]
        mask = read_mask(scene, target="building")
        # 0.4 x 255 = 102 and 0.6 x 255 = 153 belong to their classes
        assert [int(mask[v == self.GREY][0]) for v in (0, 102, 103, 127, 152, 153, 255)] == [
            0,
            0,
            *[IGNORE] * 3,
            1,
            1,
        ]
        assert scene.class_pixels == [103 * 4, 103 * 4]

    def test_hardening_is_that_of_the_limits(self):
        grey = np.arange(256, dtype=np.uint8)[None]
        mask = harden_grey(grey)[0]
        p = grey[0] / 255
        assert (mask[p <= 0.4] == 0).all()
        assert (mask[p >= 0.6] == 1).all()
        assert (mask[(p > 0.4) & (p < 0.6)] == IGNORE).all()

    def test_a_missing_soft_file_is_made_again(self, tmp_path):
        write_image(tmp_path / "s" / "images" / "a.png", image(1))
        write_image(tmp_path / "s" / "masks" / "a.png", self.GREY)
        scene = prepare_folder(tmp_path / "s", tmp_path / "out", labels="soft").scenes[0]
        scene.soft.unlink()
        again = prepare_folder(tmp_path / "s", tmp_path / "out", labels="soft").scenes[0]
        assert read_soft(again).shape == (32, 32, 1)


class TestMasksBesideImages:
    MASK = np.kron(np.eye(2, dtype=np.uint8), np.full((16, 16), 255, np.uint8))

    @pytest.mark.parametrize("ending", ["_mask", "_target"])
    def test_a_mask_is_named_after_its_image(self, tmp_path, ending):
        write_image(tmp_path / "s" / "1_17.jpg", image(1))
        write_image(tmp_path / "s" / f"1_17{ending}.png", self.MASK)
        scenes = prepare_folder(tmp_path / "s", tmp_path / "out").scenes
        assert [scene.name for scene in scenes] == ["1_17"]
        assert np.array_equal(read_mask(scenes[0], target="building"), self.MASK // 255)

    def test_folders_of_a_tree_are_events(self, tmp_path):
        for number, folder in enumerate(("tier_1/665946", "tier_1/a42435", "tier_2/665946")):
            write_image(tmp_path / "s" / folder / "1_17.jpg", image(number))
            write_image(tmp_path / "s" / folder / "1_17_mask.png", self.MASK)
        scenes = prepare_folder(tmp_path / "s", tmp_path / "out").scenes
        assert [(scene.name, scene.event) for scene in scenes] == [
            ("tier_1-665946-1_17", "665946"),
            ("tier_1-a42435-1_17", "a42435"),
            ("tier_2-665946-1_17", "665946"),
        ]

    def test_masks_in_a_folder_may_carry_the_ending(self, tmp_path):
        for stem in ("a_mask", "b_target", "c"):
            write_image(tmp_path / "s" / "images" / f"{stem[0]}.png", image(ord(stem[0])))
            write_image(tmp_path / "s" / "masks" / f"{stem}.png", self.MASK)
        manifest = prepare_folder(tmp_path / "s", tmp_path / "out")
        assert [s.class_pixels for s in manifest.scenes] == [[512, 512]] * 3

    @pytest.mark.parametrize(("policy", "pixels"), [("unlabelled", []), ("background", [1024, 0])])
    def test_a_missing_mask_is_what_is_asked_for(self, tmp_path, policy, pixels):
        write_image(tmp_path / "s" / "a.jpg", image(1))
        write_image(tmp_path / "s" / "b.jpg", image(2))
        write_image(tmp_path / "s" / "b_mask.png", self.MASK)
        scenes = by_name(prepare_folder(tmp_path / "s", tmp_path / "out", missing_mask=policy))
        assert scenes["a"].class_pixels == pixels
        assert scenes["b"].class_pixels == [512, 512]

    def test_a_mask_alone(self, tmp_path):
        write_image(tmp_path / "s" / "a.jpg", image(1))
        write_image(tmp_path / "s" / "b_mask.png", self.MASK)
        with pytest.raises(DataError, match=r"b_mask.png has no image of that name"):
            prepare_folder(tmp_path / "s", tmp_path / "out")

    def test_a_folder_of_prepared_layouts(self, tmp_path):
        write_image(tmp_path / "s" / "train" / "images" / "a.png", image(1))
        with pytest.raises(DataError, match=r"has a folder images in .*train: prepare that one"):
            prepare_folder(tmp_path / "s", tmp_path / "out")

    def test_two_images_of_one_name(self, tmp_path):
        for suffix in ("jpg", "png"):
            write_image(tmp_path / "s" / f"a.{suffix}", image(1))
        with pytest.raises(DataError, match=r"a.jpg and a.png differ in their suffix only"):
            prepare_folder(tmp_path / "s", tmp_path / "out")


def test_a_16_bit_png_is_refused(tmp_path):
    write_image(tmp_path / "s" / "images" / "a.png", image(1).astype(np.uint16) * 200)
    with pytest.raises(DataError, match=r"a.png has 3 bands of uint16, expected 3 bands of 8 bits"):
        prepare_folder(tmp_path / "s", tmp_path / "out")


@pytest.mark.real
class TestRealTiles:
    def test_kampala_prepares_as_its_derived_masks(self, shared_data, tmp_path):
        source = shared_data / "oam-ggaba"
        labels = Path("labels.geojson")
        with pytest.warns(match="1 self-intersecting"):
            manifest = prepare_folder(source, tmp_path / "out", footprints=labels, group_zoom=19)
        assert len(manifest.scenes) == 147
        assert len({scene.event for scene in manifest.scenes}) == 7
        pixels = np.array([scene.class_pixels for scene in manifest.scenes]).sum(0)
        assert pixels[1] / pixels.sum() == pytest.approx(0.292, abs=0.0005)
        assert sum(scene.class_pixels[1] == 0 for scene in manifest.scenes) == 9

    def test_mexico_pairs_come_with_their_buildings(self, shared_data, tmp_path):

        manifest = prepare_xbd(shared_data / "xbd-mexico", tmp_path / "out")
        assert len(manifest.scenes) == 61
        shares = [read_mask(scene, target="building").mean() for scene in manifest.scenes]
        assert np.mean(shares) == pytest.approx(0.29125, abs=0.0001)
        damage = np.array([scene.class_pixels for scene in manifest.scenes]).sum(0)
        assert damage.tolist() == [11561703, 4396743, 31098, 1240, 0]
