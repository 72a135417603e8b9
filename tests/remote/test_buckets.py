"""Buckets, by a local S3 server, and files."""

from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from aftermap.errors import AbsentError, BudgetError, RemoteError
from aftermap.geo.online import fetch_image
from aftermap.remote import Address, Budget, Online, Reach
from aftermap.remote.buckets import _reason, az_config, gs_config, s3_config

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    from s3_server import serving_s3

    with serving_s3("maps") as address:
        yield address


def test_objects_are_written_read_listed_and_deleted(bucket: str, tmp_path: Path) -> None:
    net = Online()
    assert net.write(f"{bucket}/a/one.bin", DATA)
    (tmp_path / "two").write_bytes(DATA[:99])
    assert net.write(f"{bucket}/a/b/two.bin", tmp_path / "two")
    assert net.write(f"{bucket}/ab.bin", b"x")
    assert net.read(f"{bucket}/a/one.bin") == DATA
    assert net.read_range(f"{bucket}/a/one.bin", 100, 7) == DATA[100:107]
    assert net.read_ranges(f"{bucket}/a/one.bin", [(500, 2), (0, 3)]) == [DATA[500:502], DATA[:3]]
    assert {(str(s.address), s.size) for s in net.list(f"{bucket}/a/")} == {
        (f"{bucket}/a/one.bin", len(DATA)),
        (f"{bucket}/a/b/two.bin", 99),
    }
    stat = net.stat(f"{bucket}/a/one.bin")
    assert (stat.size, stat.etag is not None, stat.modified is not None) == (len(DATA), True, True)
    net.download(f"{bucket}/a/one.bin", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == DATA
    net.delete(f"{bucket}/a/one.bin")
    net.delete(f"{bucket}/a/one.bin")
    with pytest.raises(AbsentError, match="no such file or bucket"):
        net.read(f"{bucket}/a/one.bin")


def test_what_is_there_stays_where_only_new_is_written(bucket: str, tmp_path: Path) -> None:
    for place in (f"{bucket}/once", f"file://{tmp_path}/once"):
        net = Online()
        assert net.write(place, b"first", create=True)
        assert not net.write(place, b"second", create=True)
        assert net.read(place) == b"first"
        assert net.write(place, b"third")
        assert net.read(place) == b"third"


def test_a_budget_holds_for_buckets(bucket: str) -> None:
    Online().write(f"{bucket}/large", DATA)
    with pytest.raises(BudgetError):
        Online(budget=Budget(1000)).read(f"{bucket}/large")
    with pytest.raises(BudgetError):
        Online(budget=Budget(1000)).read_range(f"{bucket}/large", 0, 1001)


def test_files_are_read_and_written(tmp_path: Path) -> None:
    net, place = Online(), f"file://{tmp_path}/é x/a.bin"
    assert net.write(place, DATA)
    assert net.read_range(place, 5, 5) == DATA[5:10]
    assert [stat.size for stat in net.list(f"file://{tmp_path}")] == [len(DATA)]
    with pytest.raises(AbsentError):
        net.read(f"file://{tmp_path}/none")
    assert [path.name for path in (tmp_path / "é x").iterdir()] == ["a.bin"]


def test_web_servers_are_neither_listed_nor_written() -> None:
    with pytest.raises(RemoteError, match="web servers do not tell"):
        list(Online().list("https://host/folder/"))
    with pytest.raises(RemoteError, match="written to buckets"):
        Online().write("https://host/x", b"")


def test_a_bucket_that_is_not_listed_is_not_asked() -> None:
    with pytest.raises(RemoteError, match="not on the list"):
        Online(Reach.of_strangers(["s3://maps"])).read("s3://other/x")


def test_the_region_of_a_bucket_is_asked_for_where_nobody_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def headers_of(self: object, address: Address) -> dict[str, str]:
        asked.append(str(address))
        return {"x-amz-bucket-region": "us-west-2"}

    monkeypatch.setattr("aftermap.remote.web.Web.headers_of", headers_of)
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    store = Online()._store(Address.parse("s3://overturemaps-us-west-2/x"))
    assert store.config["region"] == "us-west-2" and asked == [
        "https://s3.amazonaws.com/overturemaps-us-west-2"
    ]
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Online()._store(Address.parse("s3://bucket/x")).config["region"] == "eu-west-1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_REGION")
    Online()._store(Address.parse("s3://bucket/x"))
    assert len(asked) == 1


def test_an_image_in_a_bucket_is_read_by_blocks(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))
    place, path = Affine(0.5, 0, 400_000, 0, -0.5, 4_100_000), tmp_path / "image.tif"
    pixels = np.random.default_rng(0).integers(1, 250, (3, 1024, 1024), np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", width=1024, height=1024, count=3, dtype="uint8", crs="EPSG:32615", transform=place,
        photometric="rgb", tiled=True, blockxsize=256, blockysize=256,
    ) as raster:  # fmt: skip
        raster.write(pixels)
    aoi = tmp_path / "aoi.geojson"
    box = shapely.box(400_010, 4_099_970, 400_030, 4_099_990)
    geopandas.GeoDataFrame(geometry=[box], crs=32615).to_file(aoi)
    net = Online()
    net.write(f"{bucket}/image.tif", path)
    copy = fetch_image(Address.parse(f"{bucket}/image.tif"), net, aoi=aoi)
    with rasterio.open(copy) as raster:
        assert np.array_equal(raster.read(), pixels[:, :512, :512])
    assert net.budget.spent < path.stat().st_size / 2
    with pytest.raises(RemoteError, match="no such file or bucket"):
        fetch_image(Address.parse(f"{bucket}/none.tif"), net)


def test_credentials_come_from_the_usual_places(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert s3_config(home) == {"skip_signature": True}
    assert s3_config(home | {"AWS_ACCESS_KEY_ID": "a", "AWS_REGION": "eu-west-1"}) == {"region": "eu-west-1"}
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[ops]\naws_access_key_id = K\naws_secret_access_key = S%\n")
    (tmp_path / ".aws/config").write_text("[profile ops]\nregion = us-west-2\n")
    found = s3_config(home | {"AWS_PROFILE": "ops"})
    assert found == {"region": "us-west-2", "access_key_id": "K", "secret_access_key": "S%"}
    assert s3_config(home | {"AWS_PROFILE": "ops", "AWS_NO_SIGN_REQUEST": "YES"})["skip_signature"]
    assert s3_config(home | {"AWS_S3_ENDPOINT": "h:9000", "AWS_HTTPS": "NO"})["endpoint"] == "http://h:9000"
    assert gs_config(home) == {"skip_signature": True}
    assert gs_config(home | {"GOOGLE_SERVICE_ACCOUNT": "x.json"}) == {}
    assert az_config({"AZURE_STORAGE_ACCOUNT": "a"}) == {"account_name": "a", "skip_signature": True}
    assert az_config({"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_ACCESS_KEY": "k"})["account_key"] == "k"
    with pytest.raises(RemoteError, match="set AZURE_STORAGE_ACCOUNT"):
        az_config({})


def test_a_bucket_that_is_not_there_is_told_as_that(bucket: str) -> None:
    with pytest.raises(RemoteError, match=r"cannot list .*there is no such bucket$"):
        list(Online().list("s3://kein-eimer/x/"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("status: 503, retry_timeout: 180s", "status: 503"),
        ("elapsed: 57.403ms, <RequestId>a401b</RequestId> operation timed out", "did not answer in time"),
        ("Client error with status 403 Forbidden", "the store refuses it"),
        ("Server returned non-2xx status code: 301 Moved", "in another region"),
    ],
)
def test_the_reason_is_not_read_from_times_and_ids(said: str, told: str) -> None:
    assert told in _reason(ValueError(said), Address.parse("s3://eimer/x"))
