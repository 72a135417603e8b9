"""Training tiles from rasters and vector files."""

import json
import tracemalloc

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window as RasterWindow

from aftermap.classes import IGNORE
from aftermap.data.checking.doctor import check
from aftermap.data.checking.splits import assign_splits
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.cutter import draw_mask
from aftermap.data.preparing.footprint_tiles import from_footprints
from aftermap.data.scene import Manifest, read_image, read_mask
from aftermap.data.soft_labels import read_soft
from aftermap.errors import DataError, DataWarning, FootprintError, OutputError, RasterError
from aftermap.geo.grid import Window
from aftermap.geo.raster import RasterSource
from prepared_datasets import cut_tiles
from towns_in_rasters import CRS, HOUSES, RESOLUTION, footprints, write_footprints, write_raster

TILES = CutConfig(size_px=64)


@pytest.fixture
def raster(tmp_path):
    return write_raster(tmp_path / "town.tif")


@pytest.fixture
def labels(tmp_path):
    return write_footprints(tmp_path / "houses.geojson")


def drawn(houses, size=128):
    mask = np.zeros((size, size), np.uint8)
    for left, top, right, bottom in houses:
        mask[top:bottom, left:right] = 1
    return mask


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_tiles_hold_the_images_pixels_and_the_houses(raster, labels, tmp_path):
    result = from_footprints(raster, labels, tmp_path / "out", TILES)
    scenes = {scene.name: scene for scene in result.manifest.scenes}
    assert sorted(scenes) == [f"town_500mm_r{r:05d}_c{c:05d}" for r in (0, 64) for c in (0, 64)]
    with rasterio.open(raster) as file:
        whole = file.read()
    for name, scene in scenes.items():
        row, col = (int(part[1:]) for part in name.split("_")[2:])
        window = slice(row, row + 64), slice(col, col + 64)
        np.testing.assert_array_equal(read_image(scene.pre), whole[:, *window])
        np.testing.assert_array_equal(read_mask(scene, target="building"), drawn(HOUSES)[window])
    assert result.buildings == 5
    assert [scene.polygons["building"] for scene in result.manifest.scenes] == [2, 1, 1, 1]


def test_tiles_are_georeferenced_and_counted(raster, labels, tmp_path):
    result = from_footprints(raster, labels, tmp_path / "out", TILES, event="flood")
    scene = result.manifest.scenes[3]
    with rasterio.open(scene.pre) as file:
        assert file.crs.to_string() == CRS
        assert file.transform == Affine(0.5, 0, 500_032, 0, -0.5, 99_968)
    assert scene.grid is not None
    assert scene.grid.transform == (0.5, 0, 500_032, 0, -0.5, 99_968)
    assert (scene.event, scene.resolution_m) == ("flood", pytest.approx(0.5, rel=1e-3))
    assert scene.class_pixels == [64 * 64 - 20 * 14, 20 * 14]
    assert (result.manifest.kind, result.manifest.scheme) == ("tiles", "building")


def test_the_doctor_has_nothing_against_tiles(raster, labels, tmp_path):
    manifest = from_footprints(raster, labels, tmp_path / "out", TILES).manifest
    split = assign_splits(manifest, by="random", fractions=(0.5, 0.25, 0.25))
    assert check(split, deep=True).errors == []


def test_each_resolution_has_tiles_of_its_own(raster, labels, tmp_path):
    config = CutConfig(size_px=32, resolutions=(0.5, 1.0))
    scenes = from_footprints(raster, labels, tmp_path / "out", config).manifest.scenes
    coarse = [scene for scene in scenes if "_1000mm_" in scene.name]
    assert (len(scenes), len(coarse)) == (20, 4)
    assert [scene.resolution_m for scene in coarse] == pytest.approx([1.0] * 4, rel=1e-3)
    # A house of 16 x 16 px of half a metre.
    assert coarse[0].class_pixels[1] + coarse[1].class_pixels[1] == pytest.approx(
        (12 * 8 + 16 * 16 + 10 * 18) / 4, abs=12
    )


def test_pixels_without_data_are_unknown_and_black(tmp_path, labels):
    image = write_raster(tmp_path / "town.tif", nodata=0, empty=slice(50, None))
    result = from_footprints(image, labels, tmp_path / "out", TILES)
    assert [scene.name for scene in result.manifest.scenes] == [
        "town_500mm_r00000_c00000",
        "town_500mm_r00064_c00000",
    ]
    mask = read_mask(result.manifest.scenes[0], target="building")
    assert (mask[:, 50:] == IGNORE).all()
    assert (mask[:, :50] != IGNORE).all()
    assert (read_image(result.manifest.scenes[0].pre)[:, :, 50:] == 0).all()
    assert result.dropped == {"without enough data": 2}


def test_narrow_rests_at_the_edges_are_left_out(raster, labels, tmp_path):
    result = from_footprints(raster, labels, tmp_path / "out", CutConfig(size_px=100, block_tiles=0))
    assert [(s.width, s.height) for s in result.manifest.scenes] == [(100, 100)]
    assert result.dropped == {"too narrow": 3}


def test_an_image_smaller_than_a_tile_is_one_tile(raster, labels, tmp_path):
    result = from_footprints(raster, labels, tmp_path / "out", CutConfig(size_px=512))
    assert [(s.width, s.height) for s in result.manifest.scenes] == [(128, 128)]


def test_tiles_without_buildings_are_limited(raster, tmp_path):
    one = write_footprints(tmp_path / "one.geojson", HOUSES[:1])
    config = CutConfig(size_px=32, max_empty_ratio=3)
    scenes = from_footprints(raster, one, tmp_path / "out", config).manifest.scenes
    assert sorted(scene.polygons["building"] for scene in scenes) == [0, 0, 0, 1]


def test_by_building_empty_areas_are_added_in_a_ratio(raster, tmp_path):
    one = write_footprints(tmp_path / "one.geojson", HOUSES[:1])
    config = CutConfig(by="building", size_px=32, max_empty_ratio=2)
    scenes = from_footprints(raster, one, tmp_path / "out", config).manifest.scenes
    assert sorted(scene.polygons["building"] for scene in scenes) == [0, 0, 1]


def test_the_number_of_tiles_is_limited_and_leaves_room_for_empty_ones(raster, labels, tmp_path):
    config = CutConfig(size_px=32, max_tiles=4, max_empty_ratio=1)
    scenes = from_footprints(raster, labels, tmp_path / "out", config).manifest.scenes
    assert sorted(min(1, scene.polygons["building"]) for scene in scenes) == [0, 0, 1, 1]


def test_tiles_with_too_little_building_are_left_out(raster, labels, tmp_path):
    config = CutConfig(size_px=64, min_building=0.07)
    result = from_footprints(raster, labels, tmp_path / "out", config)
    assert [s.class_pixels[1] for s in result.manifest.scenes] == [352, 336]
    assert result.dropped == {"with too little building": 2}


def test_empty_areas_hold_no_building(raster, labels, tmp_path):
    config = CutConfig(by="empty", size_px=32, margin_px=2)
    scenes = from_footprints(raster, labels, tmp_path / "out", config).manifest.scenes
    assert len(scenes) >= 4
    assert all(scene.class_pixels == [32 * 32, 0] for scene in scenes)


def test_tiles_can_be_cut_without_labels(raster, tmp_path):
    scenes = cut_tiles(raster, None, tmp_path / "out", TILES, name="pool", source_split="unlabelled")
    assert scenes[0].name == "pool_500mm_r00000_c00000"
    assert not any(scene.is_labelled for scene in scenes)
    assert {(scene.event, scene.source_split) for scene in scenes} == {("pool", "unlabelled")}


def test_labels_may_be_a_frame_in_another_reference_system(raster, tmp_path):
    scenes = cut_tiles(raster, footprints().to_crs(3857), tmp_path / "out", TILES)
    np.testing.assert_array_equal(read_mask(scenes[0], target="building"), drawn(HOUSES)[:64, :64])


def test_jpeg_tiles_are_smaller_and_nearly_the_same(raster, labels, tmp_path):
    exact = from_footprints(raster, labels, tmp_path / "exact", TILES).manifest.scenes[0]
    lossy = from_footprints(raster, labels, tmp_path / "lossy", TILES, jpeg_quality=85).manifest.scenes[0]
    difference = np.abs(read_image(exact.pre).astype(int) - read_image(lossy.pre))
    assert 0 < difference.mean() < 6
    assert lossy.pre.stat().st_size < exact.pre.stat().st_size


def test_a_killed_run_goes_on_where_it_stopped(raster, labels, tmp_path, monkeypatch):
    whole = from_footprints(raster, labels, tmp_path / "whole", TILES).manifest
    read, reads = RasterSource.read, []

    def dying(self, grid, resampling="bilinear"):
        reads.append(grid)
        if len(reads) == 3:
            raise KeyboardInterrupt
        return read(self, grid, resampling)

    monkeypatch.setattr(RasterSource, "read", dying)
    with pytest.raises(KeyboardInterrupt):
        from_footprints(raster, labels, tmp_path / "out", TILES)
    assert len(names(tmp_path / "out" / "images")) == 2
    assert not (tmp_path / "out" / "manifest.json").exists()
    result = from_footprints(raster, labels, tmp_path / "out", TILES).manifest
    assert len(reads) == 5
    assert [s.model_copy(update={"pre": None, "building_mask": None}) for s in result.scenes] == [
        s.model_copy(update={"pre": None, "building_mask": None}) for s in whole.scenes
    ]


def test_a_folder_with_tiles_cut_otherwise_needs_overwrite(raster, labels, tmp_path):
    from_footprints(raster, labels, tmp_path / "out", TILES)
    other = CutConfig(size_px=100, block_tiles=0)
    with pytest.raises(OutputError, match="--overwrite"):
        from_footprints(raster, labels, tmp_path / "out", other)
    from_footprints(raster, labels, tmp_path / "out", other, overwrite=True)
    assert names(tmp_path / "out" / "images") == ["town_500mm_r00000_c00000.tif"]
    assert names(tmp_path / "out" / "masks") == ["town_500mm_r00000_c00000_building.png"]


def test_a_large_image_is_read_in_windows_only(tmp_path, monkeypatch):
    side, houses = 20_000, [(6_000, 15_500, 6_040, 15_530), (19_900, 100, 19_950, 140)]
    path = tmp_path / "large.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=3,
        height=side,
        width=side,
        crs=CRS,
        transform=Affine(RESOLUTION, 0, 500_000, 0, -RESOLUTION, 100_000),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
        nodata=0,
        SPARSE_OK=True,
    ) as file:
        for left, top, _, _ in houses:  # what a sparse file leaves out is no ground
            col, row = min(max(left - 600, 0), side - 1200), min(max(top - 600, 0), side - 1200)
            file.write(np.full((3, 1200, 1200), 90, np.uint8), window=RasterWindow(col, row, 1200, 1200))
            file.write(np.full((3, 40, 40), 200, np.uint8), window=RasterWindow(left, top, 40, 40))
    read, pixels = RasterSource.read, []

    def counted(self, grid, resampling="bilinear"):
        pixels.append(grid.width * grid.height)
        return read(self, grid, resampling)

    monkeypatch.setattr(RasterSource, "read", counted)
    config = CutConfig(by="building", size_px=256, resolutions=(0.5, 1.0))
    tracemalloc.start()
    scenes = cut_tiles(path, footprints(houses), tmp_path / "out", config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scenes) == 4
    assert pixels == [256 * 256] * 4
    assert peak < 24e6
    assert read_image(scenes[0].pre).max() == 200


def test_the_mask_of_the_original_counts_every_touched_pixel():
    shape = shapely.box(1536, 1536, 1636.5, 1616.25)
    touched = draw_mask([shape], height=3153, width=3173, all_touched=True)
    centres = draw_mask([shape], height=3153, width=3173, all_touched=False)
    rows, cols = np.nonzero(touched)
    assert (int(touched.sum()), int(centres.sum())) == (8181, 8080)
    assert (cols.min(), cols.max(), rows.min(), rows.max()) == (1536, 1636, 1536, 1616)


@pytest.mark.parametrize(("scale", "shape", "grey"), [(0.5, (6306, 6346), 1456), (2, (1576, 1586), None)])
def test_the_originals_resized_mask_has_its_grey_pixels(scale, shape, grey):
    mask = draw_mask([shapely.box(1536, 1536, 1636.5, 1616.25)], height=3153, width=3173, all_touched=True)
    height, width = (int(side / scale) for side in mask.shape)
    resized = cv2.resize(mask * np.uint8(255), (width, height))
    assert resized.shape == shape
    if grey is not None:
        assert int(((resized > 0) & (resized < 255)).sum()) == grey


def test_the_originals_way_cuts_a_window_for_every_building(raster, labels, tmp_path):
    config = CutConfig(compat_every_building=True, padding_px=10, compat_scales=(1,))
    scenes = cut_tiles(raster, footprints(), tmp_path / "out", config)
    assert [scene.name for scene in scenes] == [f"town_1_{n}" for n in range(5)]
    assert [(s.width, s.height) for s in scenes[:2]] == [(30, 26), (36, 36)]
    assert scenes[1].class_pixels == [36 * 36 - 256, 256]
    assert scenes[1].grid.transform[2::3] == (500_015.0, 100_000.0)


def test_the_originals_masks_are_grey_at_other_resolutions(raster, labels, tmp_path):
    config = CutConfig(compat_every_building=True, padding_px=10, compat_scales=(0.5,))
    scene = cut_tiles(raster, footprints(), tmp_path / "out", config)[1]
    soft = read_soft(scene)[..., 0]
    assert scene.name == "town_0_5_1"
    assert (scene.width, scene.height) == (72, 72)
    np.testing.assert_array_equal(read_mask(scene, target="building"), soft >= 127)
    assert ((soft > 0) & (soft < 254)).sum() > 4 * 30
    assert scene.resolution_m == pytest.approx(0.25, rel=1e-3)


def test_the_originals_windows_keep_their_upper_left_part(raster, labels, tmp_path):
    config = CutConfig(compat_every_building=True, compat_top_left=True, padding_px=10, size_px=20)
    scene = cut_tiles(raster, footprints(), tmp_path / "out", config)[1]
    with rasterio.open(raster) as file:
        whole = file.read()
    np.testing.assert_array_equal(read_image(scene.pre), whole[:, :20, 30:50])


def test_sixteen_bits_need_a_stretch(tmp_path, labels):
    image = write_raster(tmp_path / "town.tif", dtype="uint16")
    with pytest.raises(RasterError, match=r"pixels of uint16.*--stretch 2,98"):
        from_footprints(image, labels, tmp_path / "out", TILES)


def test_a_stretch_brings_sixteen_bits_to_eight(tmp_path, labels):
    image = write_raster(tmp_path / "town.tif", dtype="uint16")
    scenes = from_footprints(image, labels, tmp_path / "out", TILES, stretch=(2, 98)).manifest.scenes
    pixels = np.concatenate([read_image(scene.pre).ravel() for scene in scenes])
    assert (pixels == 0).mean() == pytest.approx(0.02, abs=0.005)
    assert pixels.max() == 255


def test_four_bands_need_a_choice(tmp_path, labels):
    image = write_raster(tmp_path / "town.tif", bands=4)
    with pytest.raises(RasterError, match=r"4 bands.*--bands 1,2,3"):
        from_footprints(image, labels, tmp_path / "out", TILES)
    scene = from_footprints(image, labels, tmp_path / "out", TILES, bands=(4, 2, 1)).manifest.scenes[0]
    with rasterio.open(image) as file:
        np.testing.assert_array_equal(read_image(scene.pre), file.read([4, 2, 1])[:, :64, :64])


def test_a_mosaic_of_mixed_band_counts_is_refused(tmp_path, labels):
    (tmp_path / "mosaic").mkdir()
    write_raster(tmp_path / "mosaic" / "a.tif")
    write_raster(tmp_path / "mosaic" / "b.tif", bands=4)
    with pytest.raises(RasterError, match=r"bands 3, .* bands 4"):
        from_footprints(tmp_path / "mosaic", labels, tmp_path / "out", TILES)


def test_labels_elsewhere_are_refused_with_both_places(raster, tmp_path):
    path = tmp_path / "far.geojson"
    footprints().to_crs(4326).translate(xoff=10).to_file(path, driver="GeoJSON")
    with pytest.raises(FootprintError, match=r"lon 43\.0\d+ .*the image lon 33\.0"):
        from_footprints(raster, path, tmp_path / "out", TILES)


def test_degrees_in_a_file_that_claims_metres_are_named(raster, tmp_path):
    frame = footprints().to_crs(4326).set_crs(32636, allow_override=True)
    frame.to_file(tmp_path / "wrong.gpkg", driver="GPKG")
    with pytest.raises(FootprintError, match=r"metres \(EPSG:32636\), but they look like degrees \(x 33"):
        from_footprints(raster, tmp_path / "wrong.gpkg", tmp_path / "out", TILES)


def test_metres_in_a_geojson_without_reference_system_are_named(raster, tmp_path):
    path = tmp_path / "metres.geojson"
    tree = json.loads(footprints().to_json())
    tree.pop("crs", None)
    path.write_text(json.dumps(tree))
    with pytest.raises(FootprintError, match=r"counts as degrees .*x 500004.*-a_srs EPSG:32636"):
        from_footprints(raster, path, tmp_path / "out", TILES)


def test_an_empty_vector_file_is_refused(raster, tmp_path):
    path = tmp_path / "empty.geojson"
    path.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(FootprintError, match="holds 0 rows but no usable polygon"):
        from_footprints(raster, path, tmp_path / "out", TILES)


def test_no_tile_at_all_is_an_error_with_the_reasons(raster, labels, tmp_path):
    config = CutConfig(size_px=64, min_building=0.9)
    with pytest.raises(DataError, match=r"gives a tile \(4 with too little building\)"):
        from_footprints(raster, labels, tmp_path / "out", config)


def test_a_folder_that_holds_the_source_is_refused(tmp_path, labels):
    (tmp_path / "data" / "images").mkdir(parents=True)
    image = write_raster(tmp_path / "data" / "images" / "town.tif")
    with pytest.raises(OutputError, match="is the source itself"):
        from_footprints(image, labels, tmp_path / "data", TILES, overwrite=True)


@pytest.mark.real
def test_real_pixels_lie_on_their_lattice(shared_data, tmp_path):
    folder = shared_data / "joplin-geotiff"
    config = CutConfig(size_px=256, max_tiles=3)
    labels = folder / "footprints" / "joplin.geojson"
    result = from_footprints(folder / "pre", labels, tmp_path / "out", config)
    assert (result.buildings, len(Manifest.load(tmp_path / "out").scenes)) == (539, 3)
    scene = result.manifest.scenes[0]
    source = RasterSource.open(folder / "pre")
    row, col = (int(part[1:]) for part in scene.name.split("_")[2:])
    exact = source.read(source.grid.crop(Window(row, col, 256, 256)))
    np.testing.assert_array_equal(read_image(scene.pre), exact.array)


def test_a_black_rest_is_unknown_to_the_labels_unless_it_is_said_to_be_ground(raster, labels, tmp_path):
    with rasterio.open(raster, "r+") as file:
        pixels = file.read().clip(1)
        pixels[:, :, :40] = 0
        file.write(pixels)
    with pytest.warns(DataWarning, match=r"31\.2% of town\.tif is black up to its edge"):
        guessed = from_footprints(raster, labels, tmp_path / "guessed", CutConfig(size_px=128)).manifest
    (scene,) = guessed.scenes
    mask = read_mask(scene, target="building")
    assert (mask[:, :40] == IGNORE).all() and (mask[:, 40:] == drawn(HOUSES)[:, 40:]).all()
    assert "undeclared-rest" not in {finding.code for finding in check(guessed).findings}
    said = from_footprints(raster, labels, tmp_path / "said", CutConfig(size_px=128), nodata="none").manifest
    np.testing.assert_array_equal(read_mask(said.scenes[0], target="building"), drawn(HOUSES))
