"""Images and vector files by address: what is copied, and that it is what lies there."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine

from aftermap.errors import (
    DataWarning,
    FootprintError,
    GeoreferenceError,
    InputError,
    RasterError,
    RemoteError,
)
from aftermap.files.origins import origin_of
from aftermap.geo.online import fetch_image, fetch_vectors
from aftermap.geo.opening.files import RasterFile
from aftermap.remote import Address, Budget, Online
from web_server import Site, serving

SIDE = 1024
PLACE = Affine(0.5, 0, 400_000, 0, -0.5, 4_100_000)


@pytest.fixture(scope="module")
def _server() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(_server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for held in (_server.files, _server.faults, _server.passing, _server.asked):
        held.clear()
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aftermap.remote.web._wait", lambda attempt, told=None: 0.0)
    return _server


def net(site: Site, **options: object) -> Online:
    return Online(named=[site.base], timeout_s=1, **options)  # type: ignore[arg-type]


def image(folder: Path, *, cog: bool = True, masked: bool = False, **profile: object) -> Path:
    """Noise of 1024 x 1024 pixels in blocks of 256."""
    options: dict[str, object] = {
        "driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "crs": "EPSG:32615",
        "transform": PLACE, "photometric": "rgb", "tiled": cog, "blockxsize": 256, "blockysize": 256,
    } | profile  # fmt: skip
    count, dtype = int(str(options["count"])), np.dtype(str(options["dtype"]))
    plain, path = folder / "plain.tif", folder / "image.tif"
    values = np.random.default_rng(0).integers(1, 250, (count, SIDE, SIDE)).astype(dtype)
    with rasterio.open(plain, "w", **options) as raster:
        raster.write(values)
        raster.update_tags(TIFFTAG_DATETIME="2024:05:06 10:11:12")
        if masked:
            raster.write_mask(np.tri(SIDE, dtype=np.uint8) * 255)
    if not (cog and masked):
        return plain
    rasterio.shutil.copy(plain, path, driver="COG", blocksize=256, compress="lzw")
    return path


def area(folder: Path, *, left: float, top: float, side: float) -> Path:
    box = shapely.box(left, top - side, left + side, top)
    path = folder / "aoi.geojson"
    geopandas.GeoDataFrame(geometry=[box], crs=32615).to_crs(4326).to_file(path)
    return path


@pytest.mark.parametrize(
    "profile",
    [
        {"masked": True},
        {"count": 4, "dtype": "uint16", "nodata": 0, "photometric": None},
        {"count": 1, "dtype": "float32", "photometric": None},
        {"count": 4, "alpha": "unspecified"},
    ],
    ids=["rgb and mask", "16 bits and nodata", "float", "alpha"],
)
def test_the_blocks_of_an_area_are_copied_with_all_that_the_file_says(
    site: Site, tmp_path: Path, profile: dict[str, object]
) -> None:
    path = image(tmp_path, **profile)  # type: ignore[arg-type]
    site.files["/image.tif"] = path.read_bytes()
    online = net(site)
    # pixels 20 to 60 and a margin of 256: the first two blocks each way
    aoi = area(tmp_path, left=400_010, top=4_099_990, side=20)
    found = fetch_image(Address.parse(f"{site.base}/image.tif"), online, aoi=aoi)
    here, there = RasterFile.inspect(found), RasterFile.inspect(path)
    for name in (
        "count",
        "dtype",
        "alpha",
        "opaque",
        "nodata",
        "has_mask",
        "is_sparse",
        "acquired",
        "colours",
        "bits",
    ):
        assert getattr(here, name) == getattr(there, name), name
    assert (here.grid.crs, here.grid.transform, here.grid.shape) == (there.grid.crs, PLACE, (512, 512))
    with rasterio.open(found) as copy, rasterio.open(path) as whole:
        window = ((0, 512), (0, 512))
        assert np.array_equal(copy.read(), whole.read(window=window))
        assert np.array_equal(copy.read_masks(), whole.read_masks(window=window))
    assert online.budget.spent < 0.5 * path.stat().st_size
    told = origin_of(found)
    assert (told["address"], told["window"]) == (f"{site.base}/image.tif", [0, 0, 512, 512])


def test_an_area_in_the_middle_is_cut_to_blocks(site: Site, tmp_path: Path) -> None:
    path = image(tmp_path)
    site.files["/image.tif"] = path.read_bytes()
    aoi = area(tmp_path, left=400_260, top=4_099_740, side=20)  # pixels 520 to 560
    found = fetch_image(Address.parse(f"{site.base}/image.tif"), net(site), aoi=aoi)
    with rasterio.open(found) as copy, rasterio.open(path) as whole:
        assert copy.transform == PLACE * Affine.translation(256, 256)
        assert np.array_equal(copy.read(), whole.read(window=((256, 1024), (256, 1024))))


def test_a_copy_is_read_once_and_again_when_the_file_has_changed(site: Site, tmp_path: Path) -> None:
    address = Address.parse(f"{site.base}/image.tif")
    path = image(tmp_path, masked=True)
    site.files["/image.tif"] = path.read_bytes()
    first = fetch_image(address, net(site))
    assert first.read_bytes() == path.read_bytes()
    asked, online = site.sent, net(site)
    assert fetch_image(address, online) == first
    assert site.sent - asked == 2 and online.budget.spent <= 65_537  # the header
    site.files["/image.tif"] += b"\0"
    assert fetch_image(address, net(site)) != first


def test_several_that_want_one_image_read_it_once(site: Site, tmp_path: Path) -> None:
    site.files["/image.tif"] = image(tmp_path).read_bytes()
    address, online = Address.parse(f"{site.base}/image.tif"), net(site)
    with ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(lambda _: fetch_image(address, online), range(4)))
    assert len({copy.read_bytes() for copy in copies}) == 1
    assert online.budget.spent < len(site.files["/image.tif"]) + 4 * 150_000
    assert not list((tmp_path / "cache").rglob("*.turn"))


def test_what_is_no_tiled_tiff_is_copied_whole(site: Site, tmp_path: Path) -> None:
    aoi = area(tmp_path, left=400_010, top=4_099_990, side=20)
    striped = image(tmp_path, cog=False)
    site.files["/striped.tif"] = striped.read_bytes()
    with pytest.warns(DataWarning, match="no cloud-optimised GeoTIFF"):
        found = fetch_image(Address.parse(f"{site.base}/striped.tif"), net(site), aoi=aoi)
    assert found.read_bytes() == striped.read_bytes()
    png = tmp_path / "a.png"
    rasterio.shutil.copy(striped, png, driver="PNG")
    site.files["/a.png"] = png.read_bytes()
    assert (
        fetch_image(Address.parse(f"{site.base}/a.png"), net(site), aoi=aoi).read_bytes() == png.read_bytes()
    )


def test_what_cannot_be_used_is_told_in_one_line(site: Site, tmp_path: Path) -> None:
    path = image(tmp_path, masked=True)
    data = path.read_bytes()
    site.files |= {
        "/page.tif": b"<html>sign in</html>" * 10,
        "/mosaic.vrt": b"<VRTDataset></VRTDataset>",
        "/short.tif": data[: len(data) // 2],
        "/image.tif": data,
        "/odd.tif": data[:8] + b"\xff" * 2000 + data[2008:],
        "/empty.tif": b"",
    }
    for name, kind, said in (
        ("page.tif", RasterError, "is not an image"),
        ("mosaic.vrt", RasterError, "a VRT, which names other files"),
        ("short.tif", RasterError, "is truncated"),
        ("odd.tif", RasterError, "is damaged"),
        ("empty.tif", InputError, r"is empty \(0 bytes\)"),
        ("none.tif", RemoteError, "no such file"),
    ):
        with pytest.raises(kind, match=said):
            fetch_image(Address.parse(f"{site.base}/{name}"), net(site))
    aoi = area(tmp_path, left=500_000, top=4_099_990, side=20)
    with pytest.raises(GeoreferenceError, match="does not touch"):
        fetch_image(Address.parse(f"{site.base}/image.tif"), net(site), aoi=aoi)
    assert not list((tmp_path / "cache").rglob("*.tif"))


def test_a_server_that_fails_later_is_told_as_such(site: Site, tmp_path: Path) -> None:
    """GDAL would speak of a damaged image."""
    path = image(tmp_path)
    site.files["/image.tif"] = path.read_bytes()
    aoi = area(tmp_path, left=400_010, top=4_099_990, side=20)
    with pytest.raises(RemoteError, match="used up"):
        fetch_image(Address.parse(f"{site.base}/image.tif"), net(site, budget=Budget(70_000)), aoi=aoi)
    assert not list((tmp_path / "cache").rglob("*.tif"))


def test_nothing_beside_the_file_is_asked_for(site: Site, tmp_path: Path) -> None:
    site.files["/image.tif"] = image(tmp_path).read_bytes()
    aoi = area(tmp_path, left=400_010, top=4_099_990, side=20)
    fetch_image(Address.parse(f"{site.base}/image.tif"), net(site), aoi=aoi)
    assert {path for path, _ in site.asked} == {"/image.tif"}


def test_vector_files_are_copied_under_their_names(site: Site, tmp_path: Path) -> None:
    site.files["/a/bu ildings.geojson"] = b"{}"
    site.files["/a/bu%20ildings.geojson"] = b"{}"
    found = fetch_vectors(Address.parse(f"{site.base}/a/bu ildings.geojson"), net(site))
    assert (found.name, found.read_bytes()) == ("bu_ildings.geojson", b"{}")
    with pytest.raises(FootprintError, match=r"ends in \.exe"):
        fetch_vectors(Address.parse(f"{site.base}/a.exe"), net(site))


def test_old_copies_go_where_there_are_too_many(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERMAP_ONLINE_KEPT", "150")
    monkeypatch.setattr("aftermap.geo.online.kept._IN_USE_S", -1)
    for number in range(4):
        site.files[f"/{number}.geojson"] = b"x" * 100
        found = fetch_vectors(Address.parse(f"{site.base}/{number}.geojson"), net(site))
        assert found.read_bytes() == b"x" * 100
    kept = sorted(path.name for path in (tmp_path / "cache" / "online").rglob("*.geojson"))
    assert kept in (["2.geojson", "3.geojson"], ["3.geojson"])
