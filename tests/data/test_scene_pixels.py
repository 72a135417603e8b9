"""Pixels of data sets: the same decoder, order and rule of ground as those of maps."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps

from aftermap.classes import IGNORE
from aftermap.data.band_files import read_file
from aftermap.data.checking.doctor import check
from aftermap.data.checking.turned import to_shown
from aftermap.data.scene import Manifest, read_bands, read_image, read_mask, read_pixels
from aftermap.errors import DataError
from aftermap.geo.raster import RasterSource
from made_xbd import manifest, scene

SIZE = 32


def noise(bands: int = 3, size: int = SIZE) -> np.ndarray:
    """Random uint8 (H, W, bands), neither black nor white."""
    return np.random.default_rng(bands).integers(1, 255, (size, size, bands), dtype=np.uint8)


def labelled(folder: Path, image: Path, **more: object):
    """A scene of an image whose whole mask is building."""
    Image.fromarray(np.ones((SIZE, SIZE), np.uint8)).save(folder / "mask.png")
    return scene("a", pre=image, building_mask=folder / "mask.png", size=SIZE, **more)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_png_files_are_read_exactly(tmp_path, bands):
    stored = noise(bands)
    if bands == 4:
        stored[..., 3] = 255
    Image.fromarray(stored.squeeze()).save(tmp_path / "a.png")
    expected = np.repeat(stored, 3, axis=2) if bands == 1 else stored[..., :3]
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected.transpose(2, 0, 1))
    decoded = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), decoded)


def test_a_table_of_colours_is_looked_up(tmp_path):
    indices = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE) % 3
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([10, 20, 30, 200, 100, 50, 7, 8, 9])
    picture.save(tmp_path / "a.png")
    table = np.array([[10, 20, 30], [200, 100, 50], [7, 8, 9]], np.uint8)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), table[indices])
    pixels = read_file(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels.indices, indices)
    np.testing.assert_array_equal(pixels.array.transpose(1, 2, 0), table[indices])


def test_black_and_white_pictures_of_one_bit_are_0_and_255(tmp_path):
    marked = np.random.default_rng(0).random((SIZE, SIZE)) > 0.5
    Image.fromarray(marked).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_file(tmp_path / "a.png").array[0], marked * np.uint8(255))


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_a_map_and_a_data_set_decode_the_same_halved_colours(tmp_path, kind):
    stored = cv2.GaussianBlur(noise(size=64), (0, 0), 1.5)
    path = tmp_path / f"a.{kind}"
    if kind == "jpg":
        Image.fromarray(stored).save(path, quality=70, subsampling="4:2:0")
    else:
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=64, width=64, dtype="uint8", compress="JPEG",
            photometric="YCBCR", interleave="pixel", JPEG_QUALITY=70, tiled=True, blockxsize=32, blockysize=32,
        ) as file:  # fmt: skip
            file.write(stored.transpose(2, 0, 1))
    source = RasterSource.open(path)
    np.testing.assert_array_equal(source.read(source.grid).array, read_image(path))
    assert np.abs(read_pixels(path).astype(int) - stored).mean() < 8


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_photo_that_is_stored_turned_lies_beneath_its_mask_and_the_doctor_says_so(tmp_path, orientation):
    stored = np.full((SIZE, SIZE, 3), 40, np.uint8)
    stored[4:12, 16:28] = 220
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert np.abs(read_pixels(tmp_path / "a.jpg").astype(int) - stored).max() < 30
    source = RasterSource.open(tmp_path / "a.jpg")
    np.testing.assert_array_equal(source.read(source.grid).array, read_image(tmp_path / "a.jpg"))
    assert source.turned == (tmp_path / "a.jpg",)
    report = check(manifest([labelled(tmp_path, tmp_path / "a.jpg")]))
    told = next(finding for finding in report.warnings if finding.code == "turned")
    assert f"EXIF orientation {orientation}" in told.message


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("drawn_on", ["stored", "shown"])
def test_the_doctor_tells_a_mask_on_the_turned_view_from_one_on_the_stored_pixels(
    tmp_path, orientation, drawn_on
):
    """PIL's own turning is the reference; houses lie where no turn brings them onto each other."""
    rng = np.random.default_rng(orientation)
    stored = rng.integers(60, 90, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for row, col, high, wide in ((3, 2, 5, 9), (18, 6, 9, 4), (10, 22, 4, 8)):
        stored[row : row + high, col : col + wide] = 200
        mask[row : row + high, col : col + wide] = 1
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", quality=95, exif=exif)
    if drawn_on == "shown":
        shown = Image.fromarray(mask)
        shown.getexif()[0x112] = orientation
        mask = np.array(ImageOps.exif_transpose(shown))
    scene = labelled(tmp_path, tmp_path / "a.jpg")
    assert scene.building_mask is not None
    Image.fromarray(mask).save(scene.building_mask)
    told = {finding.code: finding for finding in check(manifest([scene])).findings}
    if drawn_on == "stored":
        assert "turned" in told and "turned-mask" not in told
    else:
        assert told["turned-mask"].severity == "error"
        assert f"EXIF orientation {orientation}" in told["turned-mask"].message


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(orientation):
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(stored)
    image.getexif()[0x112] = orientation
    np.testing.assert_array_equal(to_shown(stored, orientation), np.array(ImageOps.exif_transpose(image)))


def transparent(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """An image whose upper rows are transparent, its pixels and where it shows ground."""
    stored = noise(4)
    stored[..., 3] = 255
    stored[:10, :, 3] = 0
    Image.fromarray(stored).save(folder / "a.png")
    seen = np.ones((SIZE, SIZE), bool)
    seen[:10] = False
    return folder / "a.png", stored, seen


def test_what_an_image_does_not_show_is_0_and_unknown_to_its_labels(tmp_path):
    path, stored, seen = transparent(tmp_path)
    np.testing.assert_array_equal(read_pixels(path), stored[..., :3] * seen[..., None])
    single = labelled(tmp_path, path)
    np.testing.assert_array_equal(read_mask(single, target="building"), np.where(seen, 1, IGNORE))
    bands = single.model_copy(update={"bands": ("red", "green", "blue", "opacity")})
    np.testing.assert_array_equal(read_bands(bands, ["green"])[0], stored[..., 1] * seen)


def test_damage_is_unknown_where_either_date_shows_nothing(tmp_path):
    path, _, seen = transparent(tmp_path)
    Image.fromarray(noise()).save(tmp_path / "pre.png")
    pair = labelled(tmp_path, tmp_path / "pre.png", post=path)
    pair = pair.model_copy(update={"damage_mask": pair.building_mask})
    np.testing.assert_array_equal(read_mask(pair, target="damage"), np.where(seen, 1, IGNORE))
    assert (read_mask(pair, target="building") == 1).all()


def test_nodata_of_an_image_is_unknown_to_its_labels(tmp_path):
    stored = noise().transpose(2, 0, 1).copy()
    stored[:, 5:9] = 255
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=3, height=SIZE, width=SIZE, dtype="uint8", nodata=255
    ) as file:
        file.write(stored)
    mask = read_mask(labelled(tmp_path, tmp_path / "a.tif"), target="building")
    assert (mask[5:9] == IGNORE).all() and (mask == IGNORE).sum() == 4 * SIZE
    assert (read_image(tmp_path / "a.tif")[:, 5:9] == 0).all()


def test_pixels_of_16_bits_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png has 1 band of uint16, expected 8 bits"):
        read_pixels(tmp_path / "a.png")
    assert read_file(tmp_path / "a.png").array.tolist() == np.full((1, 8, 8), 4000).tolist()


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


def test_the_doctor_tells_black_rests_declared_holes_and_images_without_ground(tmp_path):
    path, _, _ = transparent(tmp_path)
    holes = check(manifest([labelled(tmp_path, path)]))
    assert [f.message for f in holes.findings if f.code == "no-ground"] == [
        f"31.2% of {path} is no ground by its own word, and unknown to its labels"
    ]
    big = np.random.default_rng(0).integers(1, 255, (128, 128, 3), dtype=np.uint8)
    big[:32] = 0
    Image.fromarray(big).save(tmp_path / "rest.png")
    rest = scene("a", pre=tmp_path / "rest.png", size=128)
    told = next(f for f in check(manifest([rest])).warnings if f.code == "undeclared-rest")
    assert told.message.startswith(f"25.0% of {tmp_path / 'rest.png'} is black up to its edge")
    Image.fromarray(big * 0).save(tmp_path / "void.png")
    void = scene("a", pre=tmp_path / "void.png", size=128)
    assert ("no-ground", "a") in [(f.code, f.scene) for f in check(manifest([void])).errors]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"Input should be an object \(found \[\]\)"),
        ("", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        ('{"kind": "folder", "scenes": [{"name": "a", "banana": 1}]}', "key 'scheme' is required"),
    ],
)
def test_what_is_no_manifest_is_refused_in_plain_words(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(
        DataError, match=f"manifest.json is not a manifest of this version: {message}"
    ) as error:
        Manifest.load(tmp_path)
    assert "pydantic" not in str(error.value)
