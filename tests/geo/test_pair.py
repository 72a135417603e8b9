import json
import warnings
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform as warp_points
from textures import texture

from aftermap.errors import AlignmentWarning, GeoreferenceError, PixelCoordinatesWarning, RasterError
from aftermap.geo.grid import Window
from aftermap.geo.pair import DatePair

UTM = CRS.from_epsg(32615)
WEST, NORTH = 367000, 4104000


def test_both_dates_are_read_on_the_first_ones_grid(write_tif):
    scene = texture(260, 260)
    pre = write_tif("pre.tif", scene)
    post = write_tif("post.tif", scene[:, 20:, 10:], transform=from_origin(WEST + 10, NORTH - 20, 1, 1))
    pair = DatePair.open(pre, post)
    assert pair.grid == pair.pre.grid
    assert not pair.shift.applied and pair.warnings == []
    before, after = pair.read(Window(10, 5, 30, 30))
    np.testing.assert_array_equal(before.array, scene[:, 10:40, 5:35])
    np.testing.assert_array_equal(after.array[:, 10:, 5:], scene[:, 20:40, 10:35])
    assert not after.valid[:10].any() and not after.valid[:, :5].any()
    assert after.grid == before.grid == pair.grid.crop(Window(10, 5, 30, 30))


def test_a_shifted_second_date_is_read_back_into_place(write_tif):
    scene = texture(320, 320)
    pre = write_tif("pre.tif", scene[:, 10:310, 10:310])
    post = write_tif(
        "post.tif", scene[:, 13:313, 5:305]
    )  # content lies 5 px further right and 3 px further up
    pair = DatePair.open(pre, post)
    assert (pair.shift.dx_px, pair.shift.dy_px) == (pytest.approx(5, abs=0.05), pytest.approx(-3, abs=0.05))
    assert pair.shift.applied
    before, after = pair.read(Window(100, 100, 64, 64))
    assert np.abs(before.array.astype(int) - after.array)[:, after.valid].mean() < 1.5
    assert after.grid == before.grid
    json.dumps(asdict(pair.shift))


def test_alignment_off_measures_but_does_not_move(write_tif):
    scene = texture(320, 320)
    pre, post = write_tif("pre.tif", scene[:, 10:310, 10:310]), write_tif("post.tif", scene[:, 10:310, 5:305])
    pair = DatePair.open(pre, post, align="off")
    assert pair.shift.dx_px == pytest.approx(5, abs=0.05)
    assert (pair.shift.applied, pair.shift.reason) == (False, "alignment is off")
    np.testing.assert_array_equal(pair.read(Window(0, 0, 50, 50))[1].array, scene[:, 10:60, 5:55])


def test_a_shift_that_cannot_be_measured_is_a_warning_that_is_kept(write_tif):
    pre, post = write_tif("pre.tif", texture(64, 64)), write_tif("post.tif", texture(64, 64, seed=5))
    with pytest.warns(AlignmentWarning, match="too small"):
        pair = DatePair.open(pre, post)
    assert len(pair.warnings) == 1 and "too small to measure" in pair.warnings[0]


def test_dates_that_do_not_overlap_name_both_places(write_tif):
    pre = write_tif("pre.tif", texture(64, 64))
    post = write_tif("post.tif", texture(64, 64), transform=from_origin(WEST + 5000, NORTH, 1, 1))
    with pytest.raises(GeoreferenceError) as error:
        DatePair.open(pre, post)
    to_degrees = Transformer.from_crs(32615, 4326, always_xy=True).transform
    places = []
    for west in (WEST, WEST + 5000):
        lons, lats = to_degrees([west, west, west + 64, west + 64], [NORTH, NORTH - 64, NORTH, NORTH - 64])
        places.append(f"lon {min(lons):.4f} to {max(lons):.4f}, lat {min(lats):.4f} to {max(lats):.4f}")
    assert str(error.value) == (
        f"the dates do not overlap: pre.tif covers {places[0]} and post.tif covers {places[1]}: "
        "check that they show the same place"
    )


def test_a_georeference_on_one_date_only_is_refused(tmp_path, write_tif):
    cv2.imwrite(str(tmp_path / "post.png"), texture(64, 64).transpose(1, 2, 0))
    with pytest.raises(GeoreferenceError, match=r"post\.png has no georeference but pre\.tif has"):
        DatePair.open(write_tif("pre.tif", texture(64, 64)), tmp_path / "post.png")


def test_plain_images_of_one_size_are_a_pair_in_pixels_with_a_warning(tmp_path):
    for name in ("pre.png", "post.png"):
        cv2.imwrite(str(tmp_path / name), texture(256, 256)[::-1].transpose(1, 2, 0))
    with pytest.warns(PixelCoordinatesWarning, match="all outputs are in pixel coordinates"):
        pair = DatePair.open(tmp_path / "pre.png", tmp_path / "post.png")
    assert pair.grid.crs is None and pair.grid.shape == (256, 256)
    assert pair.warnings == ["the images have no georeference: all outputs are in pixel coordinates"]
    assert pair.shift.dx_m is None and pair.shift.patches > 0
    np.testing.assert_array_equal(pair.read(Window(0, 0, 9, 9))[1].array, texture(256, 256)[:, :9, :9])


def test_plain_images_of_different_sizes_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "pre.png"), texture(64, 64).transpose(1, 2, 0))
    cv2.imwrite(str(tmp_path / "post.png"), texture(64, 60).transpose(1, 2, 0))
    with pytest.raises(GeoreferenceError, match=r"pre\.png has 64 x 64 pixels and post\.png 60 x 64"):
        DatePair.open(tmp_path / "pre.png", tmp_path / "post.png")


def test_plain_images_cannot_be_given_a_resolution(tmp_path):
    cv2.imwrite(str(tmp_path / "pre.png"), texture(64, 64).transpose(1, 2, 0))
    with pytest.raises(GeoreferenceError, match="--crs and --resolution cannot be used"):
        DatePair.open(tmp_path / "pre.png", tmp_path / "pre.png", resolution=0.5)


@pytest.fixture
def pair_in_utm(write_tif):
    return write_tif("pre.tif", texture(200, 200)), write_tif("post.tif", texture(200, 200))


def test_a_resolution_makes_a_common_grid_around_the_first_date(pair_in_utm):
    grid = DatePair.open(*pair_in_utm, resolution=2.5, align="off").grid
    assert grid.transform == Affine(2.5, 0, WEST, 0, -2.5, NORTH)
    assert (grid.width, grid.height) == (80, 80)


def test_a_reference_system_keeps_the_ground_size_of_the_pixels(pair_in_utm):
    grid = DatePair.open(*pair_in_utm, crs="EPSG:5070", align="off").grid
    assert grid.crs == CRS.from_epsg(5070)
    assert grid.resolution_m == pytest.approx(1.0, rel=0.01)
    assert grid.transform.b == grid.transform.d == 0


def test_metres_are_converted_for_reference_systems_in_feet(pair_in_utm):
    grid = DatePair.open(*pair_in_utm, crs="EPSG:2263", resolution=2.0, align="off").grid
    assert grid.transform.a == pytest.approx(2.0 / 0.3048006096)


def test_degrees_stay_degrees(write_tif):
    t = from_origin(-94.5, 37.07, 6e-6, 6e-6)
    paths = [
        write_tif(name, texture(200, 200), crs="EPSG:4326", transform=t) for name in ("pre.tif", "post.tif")
    ]
    pair = DatePair.open(*paths)
    assert pair.grid.crs == CRS.from_epsg(4326) and pair.grid.transform == t
    assert pair.shift.dx_px == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crs": "EPSG:4326", "resolution": 0.5}, "would be degrees"),
        ({"crs": "moon"}, "--crs 'moon' is not a known reference system"),
        ({"resolution": -1.0}, "is not a size"),
        ({"resolution": 1e-4}, "would make 2000000 x 2000000 pixels"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(pair_in_utm, options, message):
    with pytest.raises(GeoreferenceError, match=message):
        DatePair.open(*pair_in_utm, **options)


def test_the_grid_is_upright_whatever_the_images_are(write_tif):
    scene = texture(200, 200)
    upside_down = Affine(1, 0, WEST, 0, 1, NORTH - 200)
    flipped = write_tif("down.tif", scene[:, ::-1], transform=upside_down)
    pair = DatePair.open(flipped, write_tif("post.tif", scene))
    assert pair.grid.transform == from_origin(WEST, NORTH, 1, 1)
    before, after = pair.read(pair.grid.window)
    np.testing.assert_array_equal(before.array, after.array)

    turned = (
        Affine.translation(WEST + 100, NORTH - 100) * Affine.rotation(20) * Affine(1, 0, -100, 0, -1, 100)
    )
    grid = DatePair.open(write_tif("turned.tif", scene, transform=turned), flipped, align="off").grid
    assert (
        grid.transform.b == grid.transform.d == 0
        and grid.transform.a == pytest.approx(1) == -grid.transform.e
    )
    side = 200 * (np.cos(np.radians(20)) + np.sin(np.radians(20)))
    assert grid.width == pytest.approx(side, abs=2)


def test_dates_in_different_reference_systems_and_types_are_aligned(write_tif):
    """Post in degrees and 16 bits, made by sampling a known scene: what comes back must be that scene."""
    scene = texture(300, 300)
    lon, lat = warp_points(UTM, CRS.from_epsg(4326), [WEST + 20.0], [NORTH - 20.0])
    t = from_origin(lon[0], lat[0], 1e-5, 8e-6)
    cols, rows = np.meshgrid(np.arange(250) + 0.5, np.arange(250) + 0.5)
    lons, lats = (t.c + t.a * cols).ravel(), (t.f + t.e * rows).ravel()
    xs, ys = warp_points(CRS.from_epsg(4326), UTM, lons.tolist(), lats.tolist())
    at = (np.array(xs).reshape(250, 250) - WEST - 0.5, NORTH - np.array(ys).reshape(250, 250) - 0.5)
    post = np.stack([cv2.remap(b, at[0].astype("f4"), at[1].astype("f4"), cv2.INTER_LINEAR) for b in scene])
    pair = DatePair.open(
        write_tif("pre.tif", scene),
        write_tif("post.tif", post.astype(np.uint16) * 100, crs="EPSG:4326", transform=t),
    )
    assert abs(pair.shift.dx_px) < 0.15 and abs(pair.shift.dy_px) < 0.15
    before, after = pair.read(Window(60, 60, 100, 100))
    assert after.array.dtype == np.uint16 and after.valid.all()
    assert np.corrcoef(before.array.ravel(), after.array.ravel())[0, 1] > 0.95


def test_images_that_cannot_be_read_are_an_error_of_their_own(tmp_path, write_tif):
    (tmp_path / "post.tif").write_text("hello")
    with pytest.raises(RasterError, match=r"post\.tif is not an image"):
        DatePair.open(write_tif("pre.tif", texture(8, 8)), tmp_path / "post.tif")


@pytest.mark.real
def test_joplin_in_utm_and_degrees_lies_within_two_pixels(shared_data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        pair = DatePair.open(shared_data / "joplin-geotiff" / "pre", shared_data / "joplin-geotiff" / "post")
    assert pair.grid.shape == (2048, 2048) and pair.grid.crs == CRS.from_epsg(26915)
    assert 0.3 < np.hypot(pair.shift.dx_px, pair.shift.dy_px) < 2
    assert pair.shift.patches >= 10 and pair.shift.applied
    before, after = pair.read(Window(1024, 1024, 256, 256))
    assert before.valid.all() and after.valid.all()


@pytest.mark.parametrize(
    ("first", "second", "warned"),
    [
        ("2021:05:02 10:00:00", "2020:05:02 10:00:00", True),
        ("2020:05:02 10:00:00", "2021:05:02 10:00:00", False),
        ("2020:05:02 10:00:00", "2020:05:02 10:00:00", False),
        (None, "2020:05:02 10:00:00", False),
        ("yesterday", "2020:05:02 10:00:00", False),
    ],
)
def test_dates_that_were_exchanged_are_told_from_their_metadata(write_tif, first, second, warned):
    paths = []
    for name, date in (("pre", first), ("post", second)):
        paths.append(write_tif(f"{name}.tif", texture(64, 64)))
        if date is not None:
            with rasterio.open(paths[-1], "r+") as dataset:
                dataset.update_tags(TIFFTAG_DATETIME=date)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pair = DatePair.open(*paths)
    told = [str(w.message) for w in caught if "by their metadata" in str(w.message)]
    assert bool(told) == warned and ([m for m in pair.warnings if "metadata" in m] == told)
    if warned:
        assert told[0].startswith(
            "pre.tif was taken at 2021-05-02 10:00:00, after post.tif at 2020-05-02 10:00:00"
        )
