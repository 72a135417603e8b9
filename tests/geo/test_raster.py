import cv2
import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform as warp_points
from textures import texture

from aftermap.errors import GeoreferenceError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import RasterSource, require_bands

UTM = CRS.from_epsg(32615)
WEST, NORTH = 367000, 4104000


def grid_at(col, row, width, height, *, size=1.0):
    return Grid(UTM, from_origin(WEST + col, NORTH - row, size, size), width, height)


def bilinear(image, cols, rows):
    """Reference: values of (C, H, W) between pixel centres, by hand."""
    x, y = cols - 0.5, rows - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - x0, y - y0
    image = image.astype(float)
    top = image[:, y0, x0] * (1 - fx) + image[:, y0, x0 + 1] * fx
    low = image[:, y0 + 1, x0] * (1 - fx) + image[:, y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + low * fy


@given(st.integers(-20, 40), st.integers(-20, 40), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_on_the_images_own_lattice_are_exact_wherever_they_lie(
    tmp_path, write_tif, row, col, height, width
):
    image = texture(32, 24)
    path = tmp_path / "a.tif"
    if not path.exists():
        write_tif("a.tif", image)
    source = RasterSource.open(path)
    patch = source.read(source.grid.crop(Window(row, col, height, width)))
    frame = np.zeros((3, 200, 200), np.uint8)
    frame[:, 60:92, 60:84] = image
    inside = np.zeros((200, 200), bool)
    inside[60:92, 60:84] = True
    slices = Window(row + 60, col + 60, height, width).slices
    np.testing.assert_array_equal(patch.array, frame[(slice(None), *slices)])
    np.testing.assert_array_equal(patch.valid, inside[slices])


def test_tiles_of_a_folder_read_as_one_image_without_seams(tmp_path, write_tif):
    image = texture(64, 64)
    for i, (row, col) in enumerate([(0, 0), (0, 32), (32, 0), (32, 32)]):
        write_tif(f"pre/{i}.tif", image[:, row : row + 32, col : col + 32],
                  transform=from_origin(WEST + col, NORTH - row, 1, 1))  # fmt: skip
    write_tif("whole.tif", image)
    tiles, whole = RasterSource.open(tmp_path / "pre"), RasterSource.open(tmp_path / "whole.tif")
    assert tiles.grid == whole.grid
    assert [p.name for p in tiles.files] == ["0.tif", "1.tif", "2.tif", "3.tif"]
    np.testing.assert_array_equal(tiles.read(tiles.grid).array, image)
    between = whole.grid.crop(Window(5, 5, 50, 50)).shift(0.3, 0.6)
    np.testing.assert_array_equal(tiles.read(between).array, whole.read(between).array)


def test_where_tiles_overlap_the_first_with_data_wins(tmp_path, write_tif):
    first, second = np.full((1, 8, 8), 10, np.uint8), np.full((1, 8, 8), 20, np.uint8)
    first[0, :, 6:] = 0
    a = write_tif("a.tif", first, nodata=0)
    b = write_tif("b.tif", second, nodata=0, transform=from_origin(WEST + 4, NORTH, 1, 1))
    patch = RasterSource.open([a, b]).read(grid_at(0, 0, 12, 1))
    assert patch.array[0, 0].tolist() == [10] * 6 + [20] * 6
    assert patch.valid.all()


def test_tiles_of_different_reference_systems_share_one_grid(write_tif):
    image = np.full((1, 60, 60), 50, np.uint8)
    a = write_tif("a.tif", image)
    lons, lats = warp_points(UTM, CRS.from_epsg(4326), [WEST + 30.0], [NORTH - 30.0])
    b = write_tif("b.tif", image + 50, crs="EPSG:4326", transform=from_origin(lons[0], lats[0], 1e-5, 1e-5))
    source = RasterSource.open([a, b])
    assert source.grid.crs == UTM
    assert source.grid.transform == from_origin(WEST, NORTH, 1, 1)
    assert source.grid.width > 80 and source.grid.height > 80
    patch = source.read(source.grid)
    assert set(np.unique(patch.array[0][patch.valid])) == {50, 100}
    assert (patch.array[0, :60, :60] == 50).all()


def test_shifted_reads_interpolate_between_pixel_centres(write_tif):
    image = texture(48, 48)
    source = RasterSource.open(write_tif("a.tif", image))
    patch = source.read(grid_at(8.25, 8.6, 30, 30))
    cols, rows = np.meshgrid(np.arange(30) + 8.75, np.arange(30) + 9.1)
    assert np.abs(patch.array - bilinear(image, cols, rows)).max() <= 1


def test_a_north_down_image_reads_upright_and_exact(write_tif):
    image = texture(20, 30)
    upside_down = Affine(1, 0, WEST, 0, 1, NORTH - 20)
    source = RasterSource.open(write_tif("a.tif", image[:, ::-1], transform=upside_down))
    assert source.grid.transform.e > 0
    np.testing.assert_array_equal(source.read(grid_at(0, 0, 30, 20)).array, image)
    np.testing.assert_array_equal(source.read(grid_at(4, 3, 10, 5)).array, image[:, 3:8, 4:14])


def test_a_rotated_image_is_put_upright(write_tif):
    image = texture(80, 80)
    turned = Affine.translation(WEST + 40, NORTH - 40) * Affine.rotation(30) * Affine(1, 0, -40, 0, -1, 40)
    source = RasterSource.open(write_tif("a.tif", image, transform=turned))
    patch = source.read(grid_at(20, 20, 40, 40))
    cols, rows = np.meshgrid(np.arange(40) + 20.5, np.arange(40) + 20.5)
    inverse = ~turned
    xs, ys = WEST + cols, NORTH - rows
    source_cols, source_rows = (
        inverse.a * xs + inverse.b * ys + inverse.c,
        inverse.d * xs + inverse.e * ys + inverse.f,
    )
    assert patch.valid.all()
    assert np.abs(patch.array - bilinear(image, source_cols, source_rows)).max() <= 2


def test_degrees_are_warped_to_where_the_projection_says(write_tif):
    """A ramp along longitude, read in UTM, must give every pixel its own longitude back."""
    lon, lat = warp_points(UTM, CRS.from_epsg(4326), [WEST - 20.0], [NORTH + 20.0])
    ramp = np.tile(np.arange(200, dtype=np.float32), (200, 1))[None]
    t = from_origin(lon[0], lat[0], 1e-5, 1e-5)
    source = RasterSource.open(write_tif("a.tif", ramp, crs="EPSG:4326", transform=t))
    patch = source.read(grid_at(20, 30, 50, 40))
    lons, _ = patch.grid.lonlat(*np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5))
    np.testing.assert_allclose(patch.array[0], (lons - lon[0]) / 1e-5 - 0.5, atol=0.13)
    assert patch.valid.all()


def test_holes_do_not_bleed_into_resampled_neighbours(write_tif):
    image = np.full((1, 40, 40), 200, np.uint8)
    image[:, 10:20, 10:20] = 0
    source = RasterSource.open(write_tif("a.tif", image, nodata=0))
    patch = source.read(grid_at(0.4, 0.4, 39, 39))
    assert set(np.unique(patch.array[0][patch.valid])) == {200}
    assert not patch.valid[10:19, 10:19].any()
    assert patch.valid[:9].all()


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_number_type_keeps_its_type_and_scale_when_resampled(write_tif, dtype):
    values = np.clip(texture(32, 32, bands=1).astype(float), 0, 120).astype(dtype)
    source = RasterSource.open(write_tif("a.tif", values))
    patch = source.read(grid_at(0.5, 0, 20, 20))
    assert patch.array.dtype == source.dtype == dtype
    expected = (values[:, :20, :20].astype(float) + values[:, :20, 1:21]) / 2
    assert np.abs(patch.array - expected).max() <= 0.51


def test_a_coarser_grid_holds_the_mean_of_the_pixels_below_it(write_tif):
    image = texture(96, 96)
    source = RasterSource.open(write_tif("a.tif", image))
    patch = source.read(grid_at(0, 0, 12, 12, size=8))
    expected = image.reshape(3, 12, 8, 12, 8).mean(axis=(2, 4))
    assert np.abs(patch.array - expected).max() <= 1


def test_nearest_never_invents_a_class(write_tif):
    classes = np.random.default_rng(0).choice([0, 3, 7], size=(1, 64, 64)).astype(np.uint8)
    source = RasterSource.open(write_tif("a.tif", classes))
    for size in (0.7, 1.0, 3.5):
        patch = source.read(grid_at(3.3, 3.3, 15, 15, size=size), resampling="nearest")
        assert set(np.unique(patch.array)) <= {0, 3, 7}


def test_a_pixel_does_not_depend_on_the_window_it_is_read_with(write_tif):
    lon, lat = warp_points(UTM, CRS.from_epsg(4326), [WEST - 9.0], [NORTH + 9.0])
    t = from_origin(lon[0], lat[0], 6e-6, 6e-6)
    source = RasterSource.open(write_tif("a.tif", texture(300, 300), crs="EPSG:4326", transform=t))
    grid = grid_at(0, 0, 120, 120)
    whole = source.read(grid)
    for row, col in ((0, 0), (17, 40), (60, 60)):
        part = source.read(grid.crop(Window(row, col, 60, 50)))
        expected = whole.array[:, row : row + 60, col : col + 50].astype(int)
        assert np.abs(part.array - expected).max() <= 4


def test_pixels_outside_every_tile_are_not_valid(write_tif):
    source = RasterSource.open(write_tif("a.tif", texture(16, 16)))
    assert not source.read(grid_at(500, 500, 8, 8)).valid.any()
    elsewhere = Grid(CRS.from_epsg(32633), from_origin(WEST, NORTH, 1, 1), 8, 8)
    assert not source.read(elsewhere).valid.any()


def test_bands_are_read_in_the_order_asked_for(write_tif):
    image = texture(16, 16)
    source = RasterSource.open(write_tif("a.tif", image), bands=(3, 1, 1))
    assert source.count == 3
    np.testing.assert_array_equal(source.read(source.grid).array, image[[2, 0, 0]])


def test_bands_that_do_not_exist_are_refused(write_tif):
    with pytest.raises(
        RasterError, match=r"a\.tif has 3 bands, --bands asks for 1,2,5: pass numbers from 1 to 3"
    ):
        RasterSource.open(write_tif("a.tif", texture(16, 16)), bands=(1, 2, 5))


def test_four_bands_for_a_model_of_three_name_the_option(write_tif):
    source = RasterSource.open(write_tif("post.tif", texture(16, 16, bands=4), photometric="MINISBLACK"))
    with pytest.raises(RasterError) as error:
        require_bands(source)
    assert str(error.value) == (
        "post.tif has 4 bands, the model expects 3 (red, green, blue): pass --bands 1,2,3"
    )


def test_one_band_for_a_model_of_three_names_the_option(write_tif):
    with pytest.raises(
        RasterError, match=r"a\.tif has 1 band, the model expects 3 .*: it is grey: pass --bands 1,1,1"
    ):
        require_bands(RasterSource.open(write_tif("a.tif", texture(16, 16, bands=1))))


def test_a_model_of_other_bands_gets_them_named(write_tif):
    with pytest.raises(RasterError, match=r"expects 4 \(red, green, blue, nir\)"):
        require_bands(
            RasterSource.open(write_tif("a.tif", texture(16, 16))), ("red", "green", "blue", "nir"), 4
        )


def test_too_few_chosen_bands_are_told_from_those_of_the_file(write_tif):
    path = write_tif("a.tif", texture(16, 16, bands=4), photometric="MINISBLACK")
    with pytest.raises(RasterError, match=r"--bands picks 2 of the 4 bands of a\.tif, the model expects 3"):
        require_bands(RasterSource.open(path, bands=(3, 2)))


def test_tiles_that_differ_in_bands_or_type_are_both_named(write_tif):
    a = write_tif("a.tif", texture(8, 8))
    b = write_tif("b.tif", texture(8, 8, bands=1))
    c = write_tif("c.tif", texture(8, 8).astype(np.uint16))
    with pytest.raises(RasterError, match=r"a\.tif has bands 3, .*b\.tif has bands 1"):
        RasterSource.open([a, b])
    with pytest.raises(RasterError, match=r"a\.tif has type uint8, .*c\.tif has type uint16"):
        RasterSource.open([a, c])


def test_tiles_on_two_continents_are_refused(write_tif):
    a = write_tif("a.tif", texture(64, 64), crs="EPSG:4326", transform=from_origin(-94, 37, 1e-5, 1e-5))
    b = write_tif("b.tif", texture(64, 64), crs="EPSG:4326", transform=from_origin(20, 47, 1e-5, 1e-5))
    with pytest.raises(GeoreferenceError, match="lie so far apart"):
        RasterSource.open([a, b])


def test_a_folder_without_images_says_what_it_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RasterError, match=r"holds no images: expected tiles ending in \.tif"):
        RasterSource.open(tmp_path)


def test_plain_images_read_in_pixel_coordinates(tmp_path):
    image = texture(40, 50)
    cv2.imwrite(str(tmp_path / "a.png"), image[::-1].transpose(1, 2, 0))
    source = RasterSource.open(tmp_path / "a.png")
    np.testing.assert_array_equal(source.read(source.grid).array, image)
    shifted = source.read(source.grid.crop(Window(5, 5, 20, 20)).shift(0.5, 0))
    expected = (image[:, 5:25, 5:25].astype(float) + image[:, 5:25, 6:26]) / 2
    assert np.abs(shifted.array - expected).max() <= 0.51
    with pytest.raises(GeoreferenceError, match="give both a reference system, or neither"):
        source.read(grid_at(0, 0, 8, 8))


def test_two_plain_tiles_cannot_be_placed(tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), texture(8, 8).transpose(1, 2, 0))
    with pytest.raises(GeoreferenceError, match="has no georeference"):
        RasterSource.open(tmp_path)


def test_a_projected_scene_across_the_antimeridian_reads_from_degrees_on_both_sides(write_tif):
    """UTM zone 1 reaches over 180 degrees; tiles in degrees end there and begin again."""
    zone = CRS.from_epsg(32701)
    x, y = warp_points(CRS.from_epsg(4326), zone, [180.0], [-17.0])
    target = Grid(zone, from_origin(x[0] - 100, y[0] - 400, 10, 10), 20, 20)
    east = write_tif("e.tif", np.full((1, 100, 100), 7, np.uint8), crs="EPSG:4326",
                     transform=from_origin(179.99, -17.0, 1e-4, 1e-4))  # fmt: skip
    west = write_tif("w.tif", np.full((1, 100, 100), 9, np.uint8), crs="EPSG:4326",
                     transform=from_origin(-180, -17.0, 1e-4, 1e-4))  # fmt: skip
    assert set(np.unique(RasterSource.open(east).read(target).array[0, :, :8])) == {7}
    assert set(np.unique(RasterSource.open(west).read(target).array[0, :, 12:])) == {9}
