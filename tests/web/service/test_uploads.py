"""What a stranger may send: every refusal leaves nothing behind."""

import io
import zipfile

import pytest

from aftermap.errors import InputError
from aftermap.workflows.service.place import Limits
from aftermap.workflows.service.uploads import ARCHIVE_MEMBERS, file_name
from served import client_of, open_service


def send(client, name, data, kind="image"):
    return client.post("/api/uploads", params={"name": name, "kind": kind}, content=data)


def zipped(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def kept(service):
    return [path for path in (service.place.folder / "uploads").rglob("*") if path.is_file()]


def test_an_image_is_described_and_kept(client, service, made):
    data = (made / "before.tif").read_bytes()
    told = send(client, "C:\\my files\\../avant l'été.TIF", data)
    assert told.status_code == 201
    shown = told.json()
    assert (shown["described"]["width"], shown["described"]["bands"]) == (192, 3)
    assert [path.read_bytes() for path in kept(service)] == [data]
    assert client.get(told.headers["location"]).json() == shown
    assert client.delete(told.headers["location"]).status_code == 204 and not kept(service)
    assert client.get(told.headers["location"]).status_code == 404


@pytest.mark.parametrize(
    ("name", "data", "kind", "status"),
    [
        ("a.tif", b"hello", "image", 422),
        ("a.tif", b"", "image", 422),
        ("a.exe", b"MZ", "image", 422),
        ("a", b"II*\0", "image", 422),
        ("a.vrt", b"<VRTDataset/>", "image", 422),
        ("a.tif", b"<VRTDataset/>", "image", 422),
        ("a.tif", b"II*\0" + b"\xff" * 60, "image", 422),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "image", 422),
        ("a.zip", b"PK\x03\x04 not really", "image", 422),
        ("a.geojson", b"\x89PNG\r\n\x1a\n", "vectors", 422),
        ("a.gpkg", b"SQLite format 3", "vectors", 422),
    ],
)
def test_what_is_no_image_is_refused_in_one_line_and_not_kept(shared, name, data, kind, status):
    service, client = shared
    told = send(client, name, data, kind)
    assert told.status_code == status and "\n" not in told.json()["error"]
    assert str(service.place.folder) not in told.text and not kept(service)
    assert not list((service.place.folder / "uploads").iterdir())


def test_budgets_of_bytes_hold_whatever_is_said_of_the_length(tmp_path, made):
    service = open_service(tmp_path / "data", limits=Limits(upload_bytes=1000, free_bytes=0))
    client, data = client_of(service), (made / "before.tif").read_bytes()
    assert send(client, "a.tif", data).status_code == 413
    parts = (data[i : i + 100] for i in range(0, len(data), 100))  # sent without a length
    assert send(client, "a.tif", parts).status_code == 413 and not kept(service)


def test_a_user_keeps_no_more_than_allowed(tmp_path, made):
    data = (made / "before.tif").read_bytes()
    limits = Limits(kept_bytes=len(data) + 10, free_bytes=0)
    client = client_of(open_service(tmp_path / "data", limits=limits))
    assert send(client, "a.tif", data).status_code == 201 and send(client, "b.tif", data).status_code == 413


def test_what_arrives_at_once_is_counted_together(tmp_path, made):
    """Two halves at a time of what one may keep: the second that would be over is refused."""
    import anyio

    data = (made / "before.tif").read_bytes()
    service = open_service(tmp_path / "data", limits=Limits(kept_bytes=int(len(data) * 1.5), free_bytes=0))
    ended = []

    async def parts():
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]
            await anyio.sleep(0.001)

    async def send_one():
        try:
            await service.uploads.receive("ana", "a.tif", "image", parts(), told_bytes=None)
            ended.append("kept")
        except InputError as error:
            ended.append(type(error).__name__)

    async def both():
        async with anyio.create_task_group() as group:
            group.start_soon(send_one)
            group.start_soon(send_one)

    anyio.run(both)
    assert sorted(ended) in (["TooLargeError", "TooLargeError"], ["TooLargeError", "kept"])
    assert service.uploads.kept_bytes("ana") <= len(data) and not service.uploads._arriving["ana"]


def test_what_a_killed_server_left_is_deleted_at_the_next_start(tmp_path):
    import os

    rooms = [tmp_path / "data" / "uploads" / name for name in (".part-x", "a" * 32, "b" * 32)]
    for room in rooms:
        room.mkdir(parents=True)
    os.utime(rooms[1], (0, 0))
    open_service(tmp_path / "data").database.close()
    assert [room.exists() for room in rooms] == [False, False, True]  # the last may be on its way


def test_a_disk_that_is_nearly_full_takes_nothing(tmp_path, made):
    service = open_service(tmp_path / "data", limits=Limits(free_bytes=1 << 60))
    assert send(client_of(service), "a.tif", (made / "before.tif").read_bytes()).status_code == 413


def test_pixels_are_counted_before_any_is_read(tmp_path, made):
    service = open_service(tmp_path / "data", limits=Limits(pixels=36_863, free_bytes=0))
    told = send(client_of(service), "a.tif", (made / "before.tif").read_bytes())
    assert told.status_code == 413 and "36,864 pixels" in told.json()["error"]


def test_a_header_that_claims_too_much_is_refused_without_advice_for_whoever_runs_the_service(
    shared, tmp_path
):
    import rasterio

    path = tmp_path / "huge.tif"
    options = {"width": 200_000, "height": 200_000, "count": 1, "dtype": "uint8", "sparse_ok": True}
    blocks = {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "compress": "deflate"}
    options |= {"crs": "EPSG:32615", "transform": rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 4e6)}
    rasterio.open(path, "w", driver="GTiff", **options, **blocks).close()
    told = send(shared[1], "huge.tif", path.read_bytes())
    assert told.status_code == 422 and "200000 x 200000 pixels" in told.json()["error"]
    assert "AFTERMAP" not in told.text and not kept(shared[0])


def test_an_archive_that_claims_too_much_is_not_unpacked(client, service):
    bomb = zipped([("a.tif", b"\0" * 20_000_000)], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 30_000
    assert send(client, "a.zip", bomb).status_code == 413
    many = zipped([(f"{n}.tif", b"") for n in range(ARCHIVE_MEMBERS + 1)])
    assert send(client, "a.zip", many).status_code == 413 and not kept(service)


@pytest.mark.parametrize("name", ["../a.tif", "/etc/a.tif", "a/../../b.tif"])
def test_an_archive_that_names_places_outside_is_refused(shared, name):
    assert send(shared[1], "a.zip", zipped([(name, b"II*\0")])).status_code == 422


def test_an_archive_of_tiles_is_taken(client, made):
    data = (made / "before.tif").read_bytes()
    told = send(client, "tiles.zip", zipped([("one/a.tif", data)]))
    assert told.status_code == 201 and told.json()["described"]["pixels"] == 192 * 192


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.TIF", "a.tif"),
        ("../../etc/passwd.tif", "passwd.tif"),
        ("a;rm -rf $(x)`y`|z.png", "a_rm -rf __x__y__z.png"),
        ("Überschwemmung 二.tif", "Überschwemmung 二.tif"),
        ("....tif", "file.tif"),
        ("x" * 500 + ".jp2", "x" * 76 + ".jp2"),
    ],
)
def test_names_are_letters_and_nothing_more(name, expected):
    assert file_name(name, "image") == expected


def test_a_name_that_ends_like_no_image_is_told():
    with pytest.raises(InputError, match="expected a name ending in"):
        file_name("a.svg", "image")
