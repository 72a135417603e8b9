"""What is ground: the rule walked over bands, types, opacity, nodata, masks and rests, against a reference."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from textures import texture

from aftermap.errors import RasterError
from aftermap.geo.grid import Window
from aftermap.geo.ground import band_nodata, opaque_value, parse_nodata
from aftermap.geo.opening.files import OpenFiles, RasterFile
from aftermap.geo.opening.whole import WholeImage
from aftermap.geo.raster import RasterSource, require_bands
from aftermap.geo.rests import find_rests

HEIGHT, WIDTH = 48, 40
COLOURS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
FULL = {"uint8": (1, 128, 255), "uint16": (1, 255, 4095, 65535), "float32": (1, 255, 4095)}
walk = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def read_all(
    path: Path, bands: tuple[int, ...] | None = None, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    file = RasterFile.inspect(path, **options)  # type: ignore[arg-type]
    return OpenFiles().read(file, file.grid.window, bands or file.bands[:3])


def holes(seed: int) -> np.ndarray:
    """A disc and some single pixels, (HEIGHT, WIDTH), away from the edge."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    disc = np.hypot(rows - rng.integers(16, 32), cols - rng.integers(14, 26)) < rng.integers(3, 9)
    return disc | (rng.random((HEIGHT, WIDTH)) < 0.02)


@walk
@given(data=st.data())
def test_the_rule_holds_for_every_mix_of_bands_types_opacity_nodata_and_masks(write_tif, data):
    dtype = data.draw(st.sampled_from(sorted(FULL)))
    count = data.draw(st.integers(3, 5))
    full = data.draw(st.none() | st.sampled_from(FULL[dtype]))
    nodata = data.draw(st.none() | st.sampled_from([0, 7, 255]))
    with_mask = data.draw(st.booleans())
    image = np.stack([texture(HEIGHT, WIDTH, bands=1, seed=band)[0] for band in range(count)]).clip(10, 250)
    image = image.astype(dtype)
    expected = np.ones((HEIGHT, WIDTH), bool)
    names = COLOURS + [ColorInterp.undefined] * (count - 3)
    options: dict[str, object] = {}
    if nodata is not None:
        gone = holes(1)
        image[:, gone] = nodata
        image[0, 0, 0] = nodata  # one band alone is a dark pixel
        expected &= ~gone
        options["nodata"] = nodata
    if with_mask:
        options["mask"] = ~holes(2)
        expected &= ~holes(2)
    shown = image[:3]
    if full is not None:
        alpha = np.full((1, HEIGHT, WIDTH), full, dtype)
        if full > 10:  # feathered: a row below half, a row above
            alpha[:, 4], alpha[:, 5] = full // 2 - 1, full // 2 + 1
            expected[4] = False
        alpha[:, holes(3)] = 0
        expected &= ~holes(3)
        at = data.draw(st.sampled_from([0, 3, count]))
        image, names = np.insert(image, at, alpha[0], axis=0), [*names[:at], ColorInterp.alpha, *names[at:]]
    path = write_tif("walk.tif", image, photometric="MINISBLACK", colorinterp=names, **options)
    array, valid = read_all(path)
    assert RasterFile.inspect(path).count == count
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(array, shown)
    assert read_all(path, nodata="none")[1].all()


@pytest.mark.parametrize("edge", ["top", "left", "bottom", "right", "corner"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 0), ("uint8", 255), ("uint16", 65535), ("float32", 0), ("float32", -9999), ("int16", -32768)],
)
def test_a_rest_of_one_colour_up_to_the_edge_is_no_ground_to_the_pixel(write_tif, edge, dtype, value):
    image = texture(200, 300).clip(1, 254).astype(dtype)
    rest = np.zeros((200, 300), bool)
    place = {
        "top": np.s_[:37], "bottom": np.s_[-41:], "left": np.s_[:, :29], "right": np.s_[:, -33:],
        "corner": np.s_[:61, :53],
    }[edge]  # fmt: skip
    rest[place] = True
    image[:, rest] = value
    image[:, 100, 100] = value  # a dark pixel in the middle is ground
    path = write_tif("rest.tif", image)
    np.testing.assert_array_equal(read_all(path)[1], ~rest)
    assert read_all(path, nodata="declared")[1].all()
    share, (found,) = RasterSource.open(path).guessed()
    assert share == rest.sum() / rest.size
    assert (found.value, found.tolerance, found.at_edge) == (value, 0, True)
    assert found.colour == ("black" if value == 0 else "white" if value > 0 else f"{value}")


def test_a_slanted_rest_is_found_and_read_alike_in_every_window(write_tif):
    rows, cols = np.mgrid[:300, :260]
    rest = cols + 0.3 * rows < 140
    image = texture(300, 260).clip(1, 254)
    image[:, rest] = 0
    path = write_tif("slanted.tif", image, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    file, files = RasterFile.inspect(path), OpenFiles()
    for window in (Window(0, 0, 300, 260), Window(33, 7, 51, 90), Window(200, 60, 100, 31)):
        np.testing.assert_array_equal(files.read(file, window, (1, 2, 3))[1], ~rest[window.slices])


def test_a_rest_is_found_beyond_what_a_file_declares(write_tif):
    image = texture(128, 128).clip(1, 254)
    image[:, :40] = 255
    image[:, :, :40] = 0
    valid = read_all(write_tif("both.tif", image, nodata=255))[1]
    assert not valid[:40].any() and not valid[:, :40].any() and valid[40:, 40:].all()


def test_blocks_that_a_sparse_tiff_leaves_out_are_no_ground(write_tif, tmp_path):
    image = texture(128, 128).clip(1, 254)
    for interleave in ("pixel", "band"):
        path = tmp_path / f"{interleave}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=128, width=128, dtype="uint8", crs="EPSG:32615", tiled=True,
            transform=rasterio.Affine(1, 0, 5, 0, -1, 6), blockxsize=32, blockysize=32, sparse_ok=True,
            compress="deflate", interleave=interleave,
        ) as file:  # fmt: skip
            file.write(image[:, :32], window=((0, 32), (0, 128)))
            file.write(image[:, 32:, 32:], window=((32, 128), (32, 128)))
        inspected = RasterFile.inspect(path)
        array, valid = OpenFiles().read(inspected, Window(16, 16, 100, 60), (3, 1))
        expected = np.ones((100, 60), bool)
        expected[16:, :16] = False
        np.testing.assert_array_equal(valid, expected)
        np.testing.assert_array_equal(array[:, valid], image[[2, 0], 16:116, 16:76][:, expected])


def test_nodata_of_one_band_holds_for_all_and_values_that_differ_hold_for_their_own():
    assert band_nodata((0.0, None, None), "uint8") == (0.0, 0.0, 0.0)
    assert band_nodata((0.0, 255.0, None), "uint8") == (0.0, 255.0, None)
    assert band_nodata((None, None), "uint8") is None
    assert band_nodata((-9999.0, 300.0), "uint8") is None  # no pixel of 8 bits can hold them
    assert band_nodata((float("nan"), 0.5), "uint8") is None
    assert band_nodata((-3.4028234663852886e38,), "float32") == (float(np.finfo("float32").min),)


@pytest.mark.parametrize(
    ("values", "pixel"),
    [((0, None, None), (0, 0, 0)), ((0, 255, None), (0, 255, 90)), ((3, 4, 5), (3, 4, 5))],
)
def test_nodata_that_differs_by_band_is_read_from_beside_the_file(write_tif, values, pixel):
    image = texture(32, 32).clip(10, 250)
    image[:, 8:12, 8:12] = np.array(pixel, np.uint8)[:, None, None]
    path = write_tif("bands.tif", image)
    bands = "".join(
        f'<PAMRasterBand band="{i}"><NoDataValue>{v}</NoDataValue></PAMRasterBand>'
        for i, v in enumerate(values, 1)
        if v is not None
    )
    path.with_name("bands.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    expected = np.ones((32, 32), bool)
    expected[8:12, 8:12] = False
    np.testing.assert_array_equal(read_all(path)[1], expected)


@pytest.mark.parametrize("full", [1, 128, 255])
def test_opacity_is_told_from_near_infrared_by_its_full_value(full):
    rng = np.random.default_rng(0)
    opacity = np.where(rng.random(4000) < 0.4, 0, full)
    opacity[:500] = full // 2
    assert opaque_value(opacity.astype(np.uint8)) == full
    infrared = rng.normal(120, 40, 4000).clip(0, 255).astype(np.uint8)
    infrared[:2500] = 0
    assert opaque_value(infrared) is None
    assert opaque_value(np.zeros(9, np.uint8)) == 0


def test_opacity_has_one_full_value_in_all_tiles_of_a_date(write_tif, tmp_path):
    for number, opacity in enumerate((255, 100, 0)):  # feathered below half all over, or transparent
        image = np.concatenate([texture(32, 32), np.full((1, 32, 32), opacity, np.uint8)])
        write_tif(
            f"tiles/{number}.tif", image, colorinterp=[*COLOURS, ColorInterp.alpha],
            transform=rasterio.Affine(1, 0, 32 * number, 0, -1, 9),
        )  # fmt: skip
    source = RasterSource.open(tmp_path / "tiles")
    valid = source.read(source.grid).valid
    assert valid[:, :32].all() and not valid[:, 32:].any()


@pytest.mark.parametrize("kind", ["black", "transparent", "nodata", "mask"])
def test_a_date_without_ground_is_refused_in_one_line(write_tif, kind):
    image, options = texture(64, 64).clip(1, 254), {}
    if kind == "black":
        image[:] = 0
    elif kind == "transparent":
        image = np.concatenate([image, np.zeros((1, 64, 64), np.uint8)])
        options["colorinterp"] = [*COLOURS, ColorInterp.alpha]
    elif kind == "nodata":
        image[:], options["nodata"] = 9, 9
    else:
        options["mask"] = np.zeros((64, 64), bool)
    path = write_tif("void.tif", image, **options)
    with pytest.raises(
        RasterError, match=r"void\.tif shows no ground: it is .* everywhere; pass --nodata none"
    ):
        RasterSource.open(path).guessed()
    assert RasterSource.open(path, (1, 2, 3), nodata="none").guessed() == (0.0, ())


def test_a_value_that_is_given_takes_the_place_of_declarations_and_guesses(write_tif):
    image = texture(64, 64).clip(10, 250)
    image[:, :20], image[:, 30:40] = 0, 7
    path = write_tif("given.tif", image, nodata=7)
    declared, given = read_all(path)[1], read_all(path, nodata=0.0)[1]
    assert not declared[:20].any() and not declared[30:40].any()
    assert not given[:20].any() and given[20:].all()


@pytest.mark.parametrize(
    ("dtype", "value", "fits"),
    [
        *[("uint8", 256, False), ("uint8", -9999, False), ("uint8", 0.5, False), ("uint8", np.nan, False)],
        *[("uint8", 255, True), ("uint16", 256, True), ("int16", -9999, True), ("float32", np.nan, True)],
    ],
)
def test_a_value_that_no_pixel_can_have_is_refused(write_tif, dtype, value, fits):
    path = write_tif("image.tif", texture(16, 16).astype(dtype))
    if fits:
        assert RasterSource.open(path, nodata=float(value)).count == 3
        return
    with pytest.raises(
        RasterError, match=r"image\.tif holds uint8 values, expected a whole number from 0 to 255"
    ):
        RasterSource.open(path, nodata=float(value))


def test_opacity_before_the_data_is_no_band_of_its_own(write_tif):
    image = np.insert(texture(32, 32), 0, np.uint8(255), axis=0)
    image[0, :9] = 0
    names = [ColorInterp.alpha, *COLOURS]
    source = RasterSource.open(write_tif("argb.tif", image, photometric="MINISBLACK", colorinterp=names))
    assert (source.bands, source.band_count) == ((2, 3, 4), 3)
    patch = source.read(source.grid)
    assert not patch.valid[:9].any() and patch.valid[9:].all()
    np.testing.assert_array_equal(patch.array[:, 9:], image[1:, 9:])
    require_bands(source)
    whole = WholeImage.read(source.files[0])
    np.testing.assert_array_equal(whole.array, image)
    np.testing.assert_array_equal(whole.rgb(), np.where(image[0] > 0, image[1:], 0))


def test_tiles_whose_opacity_lies_in_different_bands_have_data_in_all(write_tif, tmp_path):
    for number, at in enumerate((0, 3)):
        image = np.insert(texture(32, 32), at, np.uint8(255), axis=0)
        names = [*COLOURS[:at], ColorInterp.alpha, *COLOURS[at:]]
        write_tif(
            f"tiles/{number}.tif", image, photometric="MINISBLACK", colorinterp=names, nodata=7,
            transform=rasterio.Affine(1, 0, 32 * number, 0, -1, 9),
        )  # fmt: skip
    source = RasterSource.open(tmp_path / "tiles")
    assert source.bands == (1, 2, 3, 4) and source.read(source.grid).valid.all()


def test_what_the_user_says_of_nodata_is_a_value_or_a_word():
    assert parse_nodata("0") == 0.0 and parse_nodata("-9999.5") == -9999.5
    assert parse_nodata("None") == "none" and parse_nodata("declared") == "declared"
    with pytest.raises(RasterError, match="--nodata black is no value"):
        parse_nodata("black")


def test_images_smaller_than_a_cell_have_no_rest():
    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("nothing needs to be read")

    assert find_rests(read, 5, 300, "uint8") == ()
