"""Rests of mosaics against dark and bright ground: what is guessed to be missing, and what is not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from textures import texture

from aftermap.errors import RasterError
from aftermap.geo.grid import Window
from aftermap.geo.opening.files import OpenFiles, RasterFile
from aftermap.geo.raster import RasterSource
from aftermap.geo.rests import Rest, _Colour, _Tally

HEIGHT, WIDTH = 320, 360


def town(seed: int = 0) -> np.ndarray:
    return texture(HEIGHT, WIDTH, seed=seed).clip(20, 235)


def shape(name: str) -> np.ndarray:
    """Where the rest is, bool (HEIGHT, WIDTH)."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    masks = {
        "corner": (rows < 90) & (cols < 120),
        "side": cols < 70,
        "slanted": cols + 0.4 * rows < 150,
        "frame": ~((np.abs(cols - 180 + 0.2 * (rows - 160)) < 120) & (np.abs(rows - 160 - 0.2 * (cols - 180)) < 100)),
        "hole": (rows > 100) & (rows < 190) & (cols > 110) & (cols < 220),
        "mid-edge": (rows < 80) & (cols > 110) & (cols < 220),
        "turned hole": (np.abs(0.8 * (cols - 180) + 0.6 * (rows - 160)) < 60)
        & (np.abs(0.8 * (rows - 160) - 0.6 * (cols - 180)) < 50),
        "lake": np.hypot((rows - 150) / 60, (cols - 170) / 90 + 0.4 * np.sin(rows / 23.0)) < 1,
        "bay": np.hypot((rows - 300) / 90, (cols - 170) / 110 + 0.3 * np.sin(rows / 17.0)) < 1,
    }  # fmt: skip
    return masks[name]


def write(path: Path, image: np.ndarray, **options: object) -> Path:
    """A GeoTIFF (GDAL's options), or another format by its suffix."""
    if path.suffix == ".tif":
        options = {"driver": "GTiff", "crs": "EPSG:32633", "transform": Affine(1, 0, 5, 0, -1, 6)} | options
    else:
        options = {"driver": {".jpg": "JPEG", ".webp": "WEBP", ".png": "PNG"}[path.suffix]} | options
    count, height, width = image.shape
    with rasterio.open(
        path, "w", count=count, height=height, width=width, dtype=image.dtype, **options
    ) as file:
        file.write(image)
    return path


def looked_at(path: Path) -> tuple[np.ndarray, tuple[Rest, ...]]:
    file, files = RasterFile.inspect(path, placed=False), OpenFiles()
    return files.read(file, file.grid.window, file.bands)[1], files.rests(file)


def error(valid: np.ndarray, rest: np.ndarray, slack: int) -> int:
    """Pixels more than `slack` from the border of the rest that are told wrongly."""
    inner = cv2.erode(rest.astype(np.uint8), np.ones((2 * slack + 1,) * 2, np.uint8), borderValue=1) != 0
    outer = cv2.dilate(rest.astype(np.uint8), np.ones((2 * slack + 1,) * 2, np.uint8)) != 0
    return int((valid & inner).sum() + (~valid & ~outer).sum())


ENCODINGS = {
    "tif": ("a.tif", {}),
    "jpeg tif": ("a.tif", {"compress": "JPEG", "photometric": "YCBCR", "tiled": True, "jpeg_quality": 75}),
    "jpeg": ("a.jpg", {"quality": 75}),
    "poor jpeg": ("a.jpg", {"quality": 40}),
    "webp": ("a.webp", {"quality": 80}),
}


@pytest.mark.parametrize("encoding", ["tif", "jpeg tif", "poor jpeg", "webp"])
@pytest.mark.parametrize("place", ["corner", "slanted", "frame", "hole", "mid-edge", "turned hole"])
@pytest.mark.parametrize("value", [0, 2])
def test_black_and_nearly_black_rests_are_found_however_they_are_compressed(tmp_path, encoding, place, value):
    if place == "turned hole" and encoding != "tif":
        pytest.skip("what compression leaves of so small a rectangle is none")
    image, rest = town(), shape(place)
    image[:, rest] = value
    name, options = ENCODINGS[encoding]
    valid, (found,) = looked_at(write(tmp_path / name, image, **options))
    exact = encoding == "tif" and place != "turned hole"  # whose corners reach into cells beyond
    assert error(valid, rest, slack=0 if exact else 12) <= (0 if exact else 20)
    assert found.pixels == pytest.approx(rest.sum(), rel=0.1)
    assert found.at_edge is (place not in ("hole", "turned hole"))
    if encoding == "tif":
        assert (found.tolerance, found.nodata) == (0, value)
    assert found.colour == ("black" if value == 0 and found.tolerance == 0 else "nearly black")


@pytest.mark.parametrize("most", [1, 2])
def test_a_rest_of_several_nearly_black_values_is_found(tmp_path, most):
    image, rest = town(), shape("slanted")
    image[:, rest] = np.random.default_rng(3).integers(0, most + 1, (3, int(rest.sum())))
    valid, (found,) = looked_at(write(tmp_path / "a.tif", image))
    assert error(valid, rest, slack=0) == 0 and found.nodata is None and found.colour == "nearly black"


@pytest.mark.parametrize(
    ("dtype", "value", "colour"),
    [
        *[("uint16", full, "white") for full in (2047, 4095, 65535)],
        *[("int16", 32767, "white"), ("uint16", 1, "nearly black"), ("uint16", 0, "black")],
        *[("int16", -32768, "-32768"), ("int16", -9999, "-9999"), ("int32", -2147483648, "-2.14748e+09")],
        *[("uint32", 4294967295, "white"), ("float32", 1.0, "white"), ("float64", -99999, "-99999")],
        *[("float32", float(np.finfo("float32").min), "-3.40282e+38"), ("uint8", 254, "nearly white")],
    ],
)
def test_rests_at_the_ends_of_what_sensors_and_types_can_hold(tmp_path, dtype, value, colour):
    scale = {"float32": 1 / 256, "uint16": 4, "int16": 4, "uint32": 40}.get(dtype, 1)
    image, rest = (town() * scale).astype(dtype), shape("corner")
    image[:, rest] = value
    valid, (found,) = looked_at(write(tmp_path / "a.tif", image))
    assert error(valid, rest, slack=0) == 0
    assert (found.colour, found.nodata, found.pixels) == (colour, value, rest.sum())


def noisy(mask: np.ndarray, mean: float, sd: float, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, (3, int(mask.sum()))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["tif", "webp"])
@pytest.mark.parametrize("place", ["corner", "lake", "bay", "hole"])
@pytest.mark.parametrize(("mean", "sd"), [(3, 2), (6, 2), (254, 2)])
def test_dark_water_night_shadow_snow_and_cloud_are_ground(tmp_path, encoding, place, mean, sd):
    if (mean, encoding != "tif", place) in ((3, True, "corner"), (3, True, "hole")):
        pytest.skip("made black by compression, with straight sides: as a rest is")
    image, dark = town(), shape(place)
    image[:, dark] = noisy(dark, mean, sd)
    name, options = ENCODINGS[encoding]
    valid, rests = looked_at(write(tmp_path / name, image, **options))
    assert valid.all() and rests == ()


@pytest.mark.parametrize("encoding", ["tif", "jpeg"])
@pytest.mark.parametrize("place", ["lake", "bay"])
@pytest.mark.parametrize("end", [0, 255])
def test_ground_that_a_stretch_has_cut_off_is_ground(tmp_path, encoding, place, end):
    """Water and snow of one value all over, that pass into the land by degrees, as on an image of Dubai."""
    image, lake = town().astype(np.float64), shape(place)
    depth = cv2.GaussianBlur(lake.astype(np.float64), (0, 0), 14)
    depth = np.clip((depth - 0.2) / 0.55, 0, 1)
    noise = np.random.default_rng(0).normal(0, 1.5, image.shape)
    image = (image * (1 - depth) + depth * (-6 if end == 0 else 262) + noise).clip(0, 255).astype(np.uint8)
    name, options = ENCODINGS[encoding]
    valid, rests = looked_at(write(tmp_path / name, image, **options))
    assert valid.all() and rests == ()


@pytest.mark.parametrize("place", ["hole", "mid-edge", "turned hole"])
@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", 255), ("uint16", 4095), ("uint8", 254), ("float32", 1.0)]
)
def test_flat_roofs_that_are_saturated_are_ground(tmp_path, place, dtype, value):
    image, roof = (town() * {"uint16": 12, "float32": 1 / 256}.get(dtype, 1)).astype(dtype), shape(place)
    image[:, roof] = value
    assert looked_at(write(tmp_path / "a.tif", image)) == (pytest.approx(np.ones(roof.shape)), ())


def test_a_rest_beside_a_dark_sea_is_found_and_the_sea_is_ground(tmp_path):
    image, rest = town(), shape("corner")
    sea = shape("side") | (np.mgrid[:HEIGHT, :WIDTH][0] < 150)
    image[:, sea] = noisy(sea, 8, 2).clip(4, 255)
    image[:, rest] = 0
    np.testing.assert_array_equal(looked_at(write(tmp_path / "a.tif", image))[0], ~rest)


def test_small_dark_or_one_band_ground_and_a_black_lake_are_ground(tmp_path):
    image = town()
    image[:, :16, :30] = 0
    image[0, :, 300:] = 0
    image[:, shape("lake")] = 0
    assert looked_at(write(tmp_path / "a.tif", image)) == (pytest.approx(np.ones((HEIGHT, WIDTH))), ())


def test_a_rest_of_a_large_image_is_found_whatever_rows_are_looked_at(tmp_path):
    """Two thousand pixels square, so that a rest of the smallest size lies between some of the rows that are tried."""
    image = cv2.resize(texture(500, 500).transpose(1, 2, 0), (2000, 2000)).transpose(2, 0, 1).clip(20, 235)
    for row, col in ((0, 0), (3, 1780), (777, 1013), (1780, 5)):
        here = image.copy()
        rest = np.zeros((2000, 2000), bool)
        rest[row : row + 215, col : col + 215] = True
        here[:, rest] = 0
        valid, _ = looked_at(write(tmp_path / f"{row}.tif", here, tiled=True))
        np.testing.assert_array_equal(valid, ~rest)


def test_what_is_told_names_colour_place_and_what_to_pass(tmp_path):
    image = town()
    image[:, shape("hole")] = 0
    image[:, shape("corner")] = 1
    told = RasterSource.open(write(tmp_path / "a.tif", image)).guess_warning()
    share = (shape("hole") | shape("corner")).mean()
    assert told == (
        f"{share:.1%} of a.tif is nearly black up to its edge and taken for missing ground, though the file does not say "
        "so: pass --nodata none if it is ground"
    )
    image = town()
    image[:, shape("hole")] = 0
    assert RasterSource.open(write(tmp_path / "b.tif", image)).guess_warning() == (
        f"{shape('hole').mean():.1%} of b.tif is black within it and taken for missing ground, though the file does not "
        "say so: pass --nodata 0 if that is right, --nodata none if it is ground"
    )


def test_a_date_that_is_nearly_black_everywhere_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.full((3, 64, 64), 1, np.uint8))
    with pytest.raises(RasterError, match=r"a\.tif shows no ground: it is nearly black everywhere"):
        RasterSource.open(path).guess_warning()


REAL = {
    "dubai-landcover/images/tile7_part009.jpg": None,  # a lake that a stretch made black
    "dubai-landcover/images/tile3_part006.jpg": None,  # a white roof at the edge
    "oam-ggaba/images/OAM-1238458-1046529-21.png": None,
    "xbd-json/images/guatemala-volcano_00000002_post_disaster.png": None,  # clouds
    "xbd-mexico/images/mexico-earthquake_00000078_post_disaster.webp": ("black", 0.38),
    "xbd-real/hurricane-harvey/images/hurricane-harvey_00000218_post_disaster.webp": ("nearly black", 0.14),
    "xbd-real/midwest-flooding/images/midwest-flooding_00000030_post_disaster.webp": ("black", 0.25),
    "hotosm-banepa/unlabelled/OAM-386700-220246-19.tif": ("nearly white", 0.60),
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_images_with_and_without_rests(shared_data, name):
    if not (shared_data / name).is_file():
        pytest.skip(f"{name} is not here")
    valid, rests = looked_at(shared_data / name)
    if REAL[name] is None:
        assert rests == ()
        return
    colour, share = REAL[name]
    assert [rest.colour for rest in rests] == [colour]
    assert 1 - valid.mean() == pytest.approx(share, abs=0.015)


def test_cells_hold_what_a_count_of_every_pixel_finds():
    rng = np.random.default_rng(8)
    low = rng.integers(0, 30, (21, 30)).astype(np.uint8)
    low[:8, :8] = 1
    valid = rng.random(low.shape) < 0.8
    for exact in (np.uint8, np.float32):
        tally = _Tally(_Colour(0.0, 3), (3, 4), 8, 255.0)
        tally.add(slice(0, 3), low.astype(exact), low.astype(exact), valid)
        for row, col in np.ndindex(3, 4):
            cell = np.s_[row * 8 : row * 8 + 8, col * 8 : col * 8 + 8]
            seen = low[cell][valid[cell]]
            assert tally.near[:, row, col].tolist() == [np.count_nonzero(seen == step) for step in range(4)]
            assert tally.alike[row, col] == np.count_nonzero(seen <= 16)
            assert tally.valid[row, col] == seen.size
            assert tally.blank[row, col] == (seen <= 3).all()


@pytest.mark.parametrize(
    "window", [Window(0, 0, 50, 61), Window(13, 9, 20, 30), Window(40, 0, 10, 61), Window(7, 55, 3, 6)]
)
def test_a_window_shows_its_part_of_a_rest(window):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 4, (3, 50, 61), np.uint8)
    cells = np.zeros((7, 8), bool)
    cells[1:4, 2:6] = rng.random((3, 4)) < 0.7
    rest = Rest(1, 1.0, "nearly black", 0, at_edge=False, cell_px=8, cells=cells)
    inside = np.kron(cells, np.ones((8, 8), bool))[:50, :61] & (array <= 2).all(axis=0)
    part = rest.covers(array[(slice(None), *window.slices)], window)
    assert np.array_equal(part, inside[window.slices])
