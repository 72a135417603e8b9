import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from textures import texture

from aftermap.errors import GeoreferenceError, RasterError
from aftermap.geo.grid import Grid, Window
from aftermap.geo.opening.files import MAX_OPEN, OpenFiles, RasterFile
from aftermap.geo.raster import RasterSource

RGB = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]


def huge_tiff(path, side):
    """A little-endian TIFF header that claims side x side 8-bit pixels and holds one strip of 16 bytes."""
    entries = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
               (278, 4, side), (279, 4, 16)]  # fmt: skip
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 24) + bytes(16) + ifd + bytes(4))
    return path


def test_a_text_file_named_tif_is_refused_in_one_line(tmp_path):
    path = tmp_path / "post.tif"
    path.write_text("not an image\n")
    with pytest.raises(
        RasterError,
        match=r"post\.tif is not an image: its content is none of TIFF, PNG, JPEG, WebP, JPEG 2000, whatever",
    ):
        RasterFile.inspect(path)


@pytest.mark.parametrize(("content", "reason"), [(None, "no such file"), (b"", "is empty")])
def test_missing_and_empty_files_say_so(tmp_path, content, reason):
    path = tmp_path / "pre.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RasterError, match=reason):
        RasterFile.inspect(path)


def test_a_header_that_claims_a_million_squared_pixels_is_refused_with_the_way_to_raise_the_limit(tmp_path):
    with pytest.raises(
        RasterError, match=r"claims 1000000 x 1000000 pixels .* set AFTERMAP_MAX_PIXELS=1000000000000"
    ):
        RasterFile.inspect(huge_tiff(tmp_path / "huge.tif", 1_000_000))


def test_the_pixel_limit_can_be_lowered_and_raised(tmp_path, write_tif, monkeypatch):
    path = write_tif("sparse.tif", np.zeros((1, 512, 512), np.uint8), compress="deflate")
    monkeypatch.setenv("AFTERMAP_MAX_PIXELS", "1000")
    assert RasterFile.inspect(path).grid.shape == (512, 512)  # its bytes can hold that many: no limit applies
    path = huge_tiff(tmp_path / "hollow.tif", 1024)
    with pytest.raises(RasterError, match="limit of 1e\\+03 pixels"):
        RasterFile.inspect(path)
    monkeypatch.setenv("AFTERMAP_MAX_PIXELS", "2e6")
    with pytest.raises(
        RasterError, match="truncated"
    ):  # past the limit, the next check finds what is wrong with it
        RasterFile.inspect(path)
    monkeypatch.setenv("AFTERMAP_MAX_PIXELS", "many")
    with pytest.raises(RasterError, match="expected a number of pixels"):
        RasterFile.inspect(path)


@pytest.mark.parametrize(
    "options", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 64, "blockysize": 64}]
)
def test_a_truncated_tiff_is_refused_before_it_is_read(write_tif, options):
    path = write_tif("cut.tif", texture(256, 256), **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(RasterError, match=r"cut\.tif"):
        RasterFile.inspect(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_truncated_plain_image_is_refused(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    cv2.imwrite(str(path), texture(128, 128).transpose(1, 2, 0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(RasterError, match=f"cut{suffix}"):
        file = RasterFile.inspect(path)
        OpenFiles().read(file, file.grid.window, (1, 2, 3))


def test_a_block_damaged_in_the_middle_is_named_while_reading(write_tif):
    path = write_tif(
        "bad.tif", texture(256, 256), compress="deflate", tiled=True, blockxsize=64, blockysize=64
    )
    data = bytearray(path.read_bytes())
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data[offset : offset + 500] = bytes(500)
    path.write_bytes(data)
    file = replace(RasterFile.inspect(path), guesses=False)  # no rest is looked for, which reads all of it
    files = OpenFiles()
    assert files.read(file, Window(0, 0, 64, 64), (1,))[1].all()
    for damaged, window in ((file, Window(64, 64, 64, 64)), (RasterFile.inspect(path), Window(0, 0, 64, 64))):
        with pytest.raises(RasterError, match=r"bad\.tif: its image data is truncated or damaged"):
            files.read(damaged, window, (1,))


def test_opacity_is_a_mask_and_not_a_band(write_tif):
    image = np.concatenate([texture(32, 32), np.full((1, 32, 32), 255, np.uint8)])
    image[3, :8] = 0
    file = RasterFile.inspect(write_tif("rgba.tif", image, colorinterp=[*RGB, ColorInterp.alpha]))
    assert (file.count, file.alpha) == (3, 4)
    array, valid = OpenFiles().read(file, file.grid.window, (1, 2, 3))
    assert not valid[:8].any() and valid[8:].all()
    np.testing.assert_array_equal(array[:, 8:], image[:3, 8:])


def test_near_infrared_that_is_only_called_alpha_is_a_band(write_tif):
    file = RasterFile.inspect(write_tif("nir.tif", texture(64, 64, bands=4)))
    assert (file.count, file.alpha) == (4, None)


def test_near_infrared_that_is_only_called_alpha_hides_nothing_where_it_is_dark(write_tif):
    image = texture(64, 64, bands=4)
    image[3, :8] = 0
    file = RasterFile.inspect(write_tif("nir.tif", image))
    array, valid = OpenFiles().read(file, file.grid.window, (1, 2, 3))
    assert valid.all()
    np.testing.assert_array_equal(array, image[:3])


def test_four_bands_without_alpha_are_four_bands(write_tif):
    image = np.full((4, 8, 8), 255, np.uint8)
    assert RasterFile.inspect(write_tif("four.tif", image, photometric="MINISBLACK")).count == 4


def test_nodata_per_dataset_masks_and_nan_are_not_valid(write_tif):
    image = texture(16, 16)
    image[:, 0, 0] = 0
    image[0, 1, 1] = 0  # one band alone at the nodata value is a dark pixel, not a hole
    nodata = RasterFile.inspect(write_tif("nodata.tif", image, nodata=0))
    expected = np.ones((16, 16), bool)
    expected[0, 0] = False
    np.testing.assert_array_equal(OpenFiles().read(nodata, nodata.grid.window, (1, 2, 3))[1], expected)

    mask = np.random.default_rng(0).random((16, 16)) > 0.3
    masked = RasterFile.inspect(write_tif("masked.tif", image, mask=mask))
    np.testing.assert_array_equal(OpenFiles().read(masked, masked.grid.window, (1, 2, 3))[1], mask)

    heights = image.astype(np.float32)
    heights[1, 3, 3], heights[2, 4, 4] = np.nan, np.inf
    floats = RasterFile.inspect(write_tif("float.tif", heights))
    array, valid = OpenFiles().read(floats, floats.grid.window, (1, 2, 3))
    assert np.argwhere(~valid).tolist() == [[3, 3], [4, 4]]
    assert np.isfinite(array).all()


def test_bands_of_complex_numbers_are_refused(write_tif):
    with pytest.raises(RasterError, match="complex"):
        RasterFile.inspect(write_tif("sar.tif", np.zeros((1, 4, 4), np.complex64)))


def test_plain_images_lie_in_pixel_coordinates(tmp_path):
    cv2.imwrite(str(tmp_path / "plain.png"), texture(20, 30).transpose(1, 2, 0))
    assert RasterFile.inspect(tmp_path / "plain.png").grid == Grid.pixels(30, 20)


def test_a_georeference_can_be_given_to_a_plain_image_of_its_size(tmp_path):
    cv2.imwrite(str(tmp_path / "plain.png"), texture(20, 30).transpose(1, 2, 0))
    grid = Grid(rasterio.CRS.from_epsg(32615), Affine(1, 0, 5, 0, -1, 6), 30, 20)
    assert RasterFile.inspect(tmp_path / "plain.png", grid=grid).grid == grid
    with pytest.raises(GeoreferenceError, match="has 30 x 20 pixels, its georeference is for 20 x 30"):
        RasterFile.inspect(tmp_path / "plain.png", grid=Grid.pixels(20, 30))


def test_ground_control_points_become_an_affine_transform(write_tif):
    t = Affine(0.5, 0.1, 367000, 0.1, -0.5, 4104000)
    gcps = [GroundControlPoint(r, c, *(t * (c, r))) for r, c in ((0, 0), (0, 40), (40, 0), (40, 40))]
    path = write_tif("gcp.tif", texture(40, 40), transform=None, crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (gcps, rasterio.CRS.from_epsg(32615))
    grid = RasterFile.inspect(path).grid
    assert grid.crs == rasterio.CRS.from_epsg(32615)
    assert grid.transform.almost_equals(t, 1e-6)


def test_ground_control_points_that_bend_are_refused(write_tif):
    gcps = [GroundControlPoint(r, c, c + 0.2 * r * c, -r) for r, c in ((0, 0), (0, 40), (40, 0), (40, 40))]
    path = write_tif("gcp.tif", texture(40, 40), transform=None, crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (gcps, rasterio.CRS.from_epsg(32615))
    with pytest.raises(GeoreferenceError, match="do not fit one affine transform"):
        RasterFile.inspect(path)


def test_half_a_georeference_is_refused(write_tif):
    with pytest.raises(GeoreferenceError, match="no reference system"):
        RasterFile.inspect(write_tif("nocrs.tif", texture(8, 8), crs=None))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_reference_system_without_a_place_is_refused(write_tif):
    with pytest.raises(GeoreferenceError, match="no place in it"):
        RasterFile.inspect(write_tif("noplace.tif", texture(8, 8), transform=None))


def test_longitudes_beyond_180_are_turned_back(write_tif):
    t = Affine(1e-5, 0, 265.5, 0, -1e-5, 37.0)
    grid = RasterFile.inspect(write_tif("east.tif", texture(8, 8), crs="EPSG:4326", transform=t)).grid
    assert grid.bounds[0] == pytest.approx(-94.5)


def test_a_scene_across_the_antimeridian_is_refused_in_degrees(write_tif):
    t = Affine(1e-3, 0, 179.99, 0, -1e-3, -17.0)
    with pytest.raises(GeoreferenceError, match=r"crosses the antimeridian .* UTM"):
        RasterFile.inspect(write_tif("fiji.tif", texture(32, 32), crs="EPSG:4326", transform=t))


def test_only_a_few_files_are_held_open(write_tif):
    images = [np.full((1, 4, 4), i, np.uint8) for i in range(MAX_OPEN + 4)]
    files = [RasterFile.inspect(write_tif(f"{i}.tif", image)) for i, image in enumerate(images)]
    reader = OpenFiles()
    values = [int(reader.read(file, Window(0, 0, 1, 1), (1,))[0][0, 0, 0]) for file in files + files[:2]]
    assert values == [*range(MAX_OPEN + 4), 0, 1]
    assert len(reader._datasets) == MAX_OPEN


@pytest.mark.parametrize("vertical", ["4979", "5773", "3855"])
def test_the_vertical_part_of_a_reference_system_is_dropped(write_tif, vertical):
    grid = RasterFile.inspect(write_tif("high.tif", texture(8, 8), crs=f"EPSG:32615+{vertical}")).grid
    assert grid.crs == rasterio.CRS.from_epsg(32615)
    degrees = Affine(1e-5, 0, 10, 0, -1e-5, 40)
    flat = RasterFile.inspect(write_tif("solid.tif", texture(8, 8), crs="EPSG:4979", transform=degrees)).grid
    assert flat.crs == rasterio.CRS.from_epsg(4326) and flat.transform == degrees


@pytest.mark.parametrize("crs", ['LOCAL_CS["site",UNIT["metre",1]]', "EPSG:5773"])
def test_an_image_in_a_local_system_is_a_plain_image(write_tif, crs):
    assert RasterFile.inspect(write_tif("site.tif", texture(20, 30), crs=crs)).grid == Grid.pixels(30, 20)


ROTATED = """GEOGCRS["rotated",BASEGEOGCRS["WGS 84",DATUM["World Geodetic System 1984",
ELLIPSOID["WGS 84",6378137,298.257223563]]],DERIVINGCONVERSION["Pole rotation (GRIB convention)",
METHOD["Pole rotation (GRIB convention)"],
PARAMETER["Latitude of the southern pole (GRIB convention)",-39.25,ANGLEUNIT["degree",0.0174532925199433]],
PARAMETER["Longitude of the southern pole (GRIB convention)",18,ANGLEUNIT["degree",0.0174532925199433]],
PARAMETER["Axis rotation (GRIB convention)",0,ANGLEUNIT["degree",0.0174532925199433]]],
CS[ellipsoidal,2],AXIS["latitude",north],AXIS["longitude",east],ANGLEUNIT["degree",0.0174532925199433]]"""


@pytest.mark.parametrize(
    ("crs", "reason"),
    [
        (ROTATED, "rotated, a Derived Geographic 2D CRS, which GIS layers cannot be in"),
        ("EPSG:4978", "a Geocentric CRS, which GIS layers cannot be in"),
        ("IAU_2015:30100", "has no place on the globe"),
    ],
)
def test_systems_without_a_place_in_a_gis_are_refused_in_one_line(write_tif, crs, reason):
    path = write_tif("odd.tif", texture(8, 8), crs=crs, transform=Affine(1e-5, 0, 10, 0, -1e-5, 40))
    with pytest.raises(GeoreferenceError, match=reason) as refused:
        RasterFile.inspect(path)
    assert "\n" not in str(refused.value)


def test_an_image_beyond_its_reference_system_is_refused(write_tif):
    far = Affine(1, 0, 9e9, 0, -1, 9e9)
    with pytest.raises(GeoreferenceError, match=r"lies at .* in EPSG:32615, which has no place on the globe"):
        RasterFile.inspect(write_tif("far.tif", texture(8, 8), transform=far))


def test_what_the_library_notices_late_is_one_line(write_tif):
    path = write_tif("a.tif", texture(32, 32), compress="deflate")
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    entries = range(first + 2, first + 2 + 12 * count, 12)
    entry = next(e for e in entries if data[e : e + 2] == b"\x11\x01")  # offsets of strips
    struct.pack_into("<H", data, entry + 2, 11)  # numbers of another type: floats
    path.write_bytes(data)
    with pytest.raises(RasterError, match="truncated or damaged") as error:
        RasterSource.open(path)
    assert "\n" not in str(error.value)
