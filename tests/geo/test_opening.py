"""What is opened: image formats by their content, plain VRTs, archives, folders; nothing that reaches further."""

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from textures import texture

from aftermap.errors import RasterError
from aftermap.geo.opening.files import RasterFile
from aftermap.geo.opening.limits import held_bytes
from aftermap.geo.raster import RasterSource

SOURCE = """<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>{band}</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="32" ySize="32"/><DstRect xOff="{col}" yOff="0" xSize="32" ySize="32"/></SimpleSource>"""


def write_vrt(
    path: Path, names: list[str], *, inside: str = "", band: str = "", source: str = SOURCE
) -> Path:
    """A mosaic of images of 32 x 32 pixels side by side."""
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"{band}>'
        + "".join(source.format(name=n, band=number, col=32 * i) for i, n in enumerate(names))
        + "</VRTRasterBand>"
        for number in (1, 2, 3)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{32 * len(names)}" rasterYSize="32"><SRS>EPSG:32615</SRS>'
        f"<GeoTransform>367000, 1, 0, 4104000, 0, -1</GeoTransform>{inside}{bands}</VRTDataset>"
    )
    return path


@pytest.fixture
def tiles(write_tif) -> tuple[Path, np.ndarray]:
    """Folder of two tiles side by side, and their pixels."""
    image = texture(32, 64).clip(1, 254)
    for number in (0, 1):
        path = write_tif(
            f"town/tiles/{number}.tif",
            image[:, :, 32 * number : 32 * number + 32],
            transform=rasterio.Affine(1, 0, 367000 + 32 * number, 0, -1, 4104000),
        )
    return path.parent.parent, image


def test_a_plain_vrt_is_the_mosaic_of_its_images(tiles):
    folder, image = tiles
    source = RasterSource.open(write_vrt(folder / "town.vrt", ["tiles/0.tif", "tiles/1.tif"]))
    patch = source.read(source.grid)
    np.testing.assert_array_equal(patch.array, image)
    assert patch.valid.all()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"names": ["../other.tif", "tiles/1.tif"]}, "lies outside of its folder"),
        ({"names": ["/etc/passwd"]}, "is not relative to it"),
        ({"names": ["/vsicurl/http://localhost/a.tif"]}, "is not relative to it"),
        ({"names": ["http://localhost/a.tif"]}, "is not relative to it"),
        ({"names": ["GTIFF_DIR:1:tiles/0.tif"]}, "is not relative to it"),
        ({"names": ["link.tif"]}, "lies outside of its folder"),
        ({"names": ["inner.vrt"]}, "is a VRT too"),
        (
            {"names": ["tiles/0.tif"], "band": ' subClass="VRTDerivedRasterBand"'},
            "VRTRasterBand has subClass",
        ),
        (
            {"names": ["tiles/0.tif"], "inside": "<PixelFunctionType>x</PixelFunctionType>"},
            "PixelFunctionType",
        ),
        ({"names": ["tiles/0.tif"], "inside": '<Metadata domain="Overviews"></Metadata>'}, "overviews"),
        ({"names": ["tiles/0.tif"], "inside": "<OverviewList>2</OverviewList>"}, "holds OverviewList"),
        (
            {"names": ["tiles/0.tif"], "source": SOURCE.replace('relativeToVRT="1"', 'relativeToVRT="0"')},
            "is not relative to it",
        ),
        (
            {
                "names": ["tiles/0.tif"],
                "source": SOURCE.replace("<SourceBand>", "<OpenOptions/><SourceBand>"),
            },
            "holds OpenOptions",
        ),
    ],
)
def test_a_vrt_that_is_more_than_a_mosaic_is_refused(tiles, options, found):
    folder, _ = tiles
    (folder.parent / "other.tif").write_bytes((folder / "tiles" / "0.tif").read_bytes())
    (folder / "link.tif").symlink_to(folder.parent / "other.tif")
    write_vrt(folder / "inner.vrt", ["tiles/0.tif"])
    with pytest.raises(RasterError, match=found) as refused:
        RasterFile.inspect(write_vrt(folder / "town.vrt", **options))
    assert "\n" not in str(refused.value) and "pass its images" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "<VRTDataset",
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><VRTDataset>&b;</VRTDataset>',
        "<VRTDataset>" * 5000,
        "<vrtdataset/>",
    ],
)
def test_a_vrt_of_odd_xml_is_refused(tmp_path, text):
    (tmp_path / "a.vrt").write_text(text)
    with pytest.raises(RasterError, match=r"a\.vrt"):
        RasterFile.inspect(tmp_path / "a.vrt")


def test_an_image_that_is_a_vrt_as_well_is_no_source(tiles):
    folder, _ = tiles
    hidden = b"\xff\xd8\xff\xfe" + b'<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>' + b"\xff\xd9"
    (folder / "both.jpg").write_bytes(hidden)
    with pytest.raises(RasterError, match="is an image and a VRT in one"):
        RasterFile.inspect(write_vrt(folder / "town.vrt", ["both.jpg"]))


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jp2"])
@pytest.mark.parametrize(
    "text",
    ["<VRTDataset/>", "<GDAL_WMS><Service/></GDAL_WMS>", "http://localhost/", "%PDF-1.4", '{"type":"STAC"}'],
)
def test_what_is_no_image_is_not_opened_under_the_name_of_one(tmp_path, suffix, text):
    (tmp_path / f"a{suffix}").write_text(text)
    with pytest.raises(RasterError, match="is not an image"):
        RasterFile.inspect(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".msk", ".ovr", ".msk.ovr", ".msk.msk"])
def test_masks_and_overviews_beside_an_image_have_to_be_tiffs(write_tif, suffix):
    path = write_tif("a.tif", texture(16, 16))
    if suffix.count(".") == 2:
        write_tif("a.tif.msk", np.full((1, 16, 16), 255, np.uint8))
    path.with_name(f"a.tif{suffix}").write_text("<GDAL_WMS/>")
    with pytest.raises(RasterError, match=rf"a\.tif{suffix} lies beside .* is no TIFF"):
        RasterFile.inspect(path)


def test_an_image_that_names_a_file_of_overviews_is_refused(write_tif):
    path = write_tif("a.tif", texture(16, 16))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/vsicurl/http://localhost/b.tif")
    with pytest.raises(RasterError, match=r"a\.tif names another file as its overviews"):
        RasterFile.inspect(path)
    beside = write_tif("b.tif", texture(16, 16)).with_name("b.tif.aux.xml")
    beside.write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">c.tif</MDI></Metadata></PAMDataset>'
    )
    with pytest.raises(RasterError, match=r"b\.tif names another file as its overviews"):
        RasterFile.inspect(beside.with_name("b.tif"))


def test_an_erdas_file_beside_an_image_is_not_read(write_tif):
    path = write_tif("a.tif", texture(16, 16))
    path.with_suffix(".aux").write_bytes(b"EHFA_HEADER_TAG\0 and so on")
    with pytest.raises(RasterError, match=r"a\.aux lies beside a\.tif and is an Erdas file"):
        RasterFile.inspect(path)


def test_jpeg_2000_is_read(write_tif):
    image = texture(64, 64).clip(1, 254)
    path = write_tif("a.jp2", image, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    source = RasterSource.open(path)
    np.testing.assert_array_equal(source.read(source.grid).array, image)
    assert source.grid.crs == rasterio.CRS.from_epsg(32615)


def test_tiles_in_folders_of_folders_are_one_mosaic(tiles):
    folder, image = tiles
    (folder / "more").mkdir()
    (folder / "tiles" / "1.tif").rename(folder / "more" / "1.tif")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "2.tif").write_text("no image")
    source = RasterSource.open(folder)
    assert [path.name for path in source.files] == ["1.tif", "0.tif"]
    np.testing.assert_array_equal(source.read(source.grid).array, image)


def test_a_zip_archive_is_the_folder_it_holds(tiles, tmp_path):
    folder, image = tiles
    with zipfile.ZipFile(tmp_path / "town.zip", "w") as archive:
        for path in folder.rglob("*.tif"):
            archive.write(path, f"delivery/{path.name}")
        archive.writestr("delivery/readme.pdf", "hello")
        archive.writestr("__MACOSX/delivery/._0.tif", "hello")
    source = RasterSource.open(tmp_path / "town.zip")
    assert source.name == "town.zip" and [path.name for path in source.files] == ["0.tif", "1.tif"]
    np.testing.assert_array_equal(source.read(source.grid).array, image)
    assert RasterSource.open(tmp_path / "town.zip").files == source.files  # unpacked once
    assert not any("readme" in str(path) for path in source.files[0].parent.iterdir())


def test_a_zip_archive_that_cannot_be_used_says_why(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(RasterError, match=r"a\.zip cannot be unpacked"):
        RasterSource.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("roads.shp", "hello")
    with pytest.raises(RasterError, match=r"a\.zip holds no images: expected files ending in \.tif"):
        RasterSource.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../out.tif", "hello")
    with pytest.raises(RasterError, match="holds no images"):
        RasterSource.open(path)
    assert not (tmp_path.parent / "out.tif").exists()


def test_a_png_whose_header_claims_more_than_its_bytes_can_hold_is_truncated(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(RasterError, match=r"a\.png is truncated"):
        RasterFile.inspect(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["../../b.tif", "/b.tif", "inner/../../../b.tif", "..\\b.tif"])
def test_no_member_of_an_archive_lands_outside_of_its_folder(write_tif, tmp_path, name):
    tile = write_tif("a.tif", texture(16, 16))
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.write(tile, "a.tif")
        archive.write(tile, name)
    source = RasterSource.open(tmp_path / "t.zip")
    folder = next(file.parent for file in source.files if file.name == "a.tif")
    assert folder != tmp_path and all(file.is_relative_to(folder) for file in source.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "t.zip"]
    assert not (folder.parent / "b.tif").exists() and not Path("/b.tif").exists()


@pytest.mark.parametrize(
    ("height", "width", "expected_mib"),
    [
        (4096, 4096, 96),  # both dates at once are 96 MiB
        (25_000, 4096, 2 * 4096 * 2048 * 3 / 2**20),  # the rows of blocks under a row of windows, 48 MiB
        (
            10_000,
            10_000,
            2 * 2048 * 2048 * 3 / 2**20,
        ),  # these would be 117: the blocks under two windows, 24 MiB
    ],
)
def test_blocks_are_held_where_they_are_wanted_again(height, width, expected_mib):
    assert held_bytes(height, width, 3) == expected_mib * 2**20
