"""Images by address: within the reach of strangers, fetched once, checked as uploads are."""

import pytest

pytest.importorskip("httpcore")

from aftermap.errors import InputError, RemoteError
from aftermap.remote import Reach
from aftermap.workflows.service import fetched as module
from aftermap.workflows.service.database import Database
from aftermap.workflows.service.fetched import check_address, fetched
from aftermap.workflows.service.jobs import Jobs
from aftermap.workflows.service.place import Limits, Place
from aftermap.workflows.service.uploads import Uploads
from reviewed_map import make_map
from web_server import serving


@pytest.fixture
def site():
    with serving() as found:
        yield found


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data", Limits(free_bytes=0, address_hosts=("127.0.0.1",))).made()


@pytest.fixture
def job(place):
    tables = Database(place.database)
    yield Uploads(place, tables), Jobs(tables).add("ana", "map", {})
    tables.close()


@pytest.mark.parametrize(
    ("hosts", "named", "said"),
    [
        ((), "https://example.org/a.tif", "takes uploads only"),
        (("example.org",), "https://evil.org/a.tif", "not on the list"),
        (("example.org",), "https://example.org.evil.org/a.tif", "not on the list"),
        (("example.org",), "https://ana:pw@example.org/a.tif", "user or password"),
        (("s3://maps",), "s3://other/a.tif", "not on the list"),
    ],
)
def test_an_address_that_is_not_listed_is_refused_before_anything_is_asked(tmp_path, hosts, named, said):
    with pytest.raises(InputError, match=said):
        check_address(Place(tmp_path, Limits(address_hosts=hosts)), named)


def test_a_listed_name_that_leads_into_a_private_network_is_not_followed(place, job, site, monkeypatch):
    site.files["/a.tif"] = b"II*\0"
    monkeypatch.setattr(module, "_reach", lambda _: Reach(("127.0.0.1",), private="never", personal=False))
    with pytest.raises(RemoteError):
        fetched(place, *job, "pre", f"{site.base}/a.tif", lambda *_: None)
    assert not site.asked and not list((place.folder / "uploads").rglob("*.tif"))


def test_an_image_is_fetched_once_and_kept_as_an_upload(place, job, site, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_reach", lambda _: Reach(("127.0.0.1",), personal=False))
    monkeypatch.setattr("aftermap.remote.web.is_public", lambda _: True)
    make_map(tmp_path)
    data = (tmp_path / "before.tif").read_bytes()
    site.files["/maps/before.tif"] = data
    told = []
    uploads, asked = job
    path = fetched(
        place, uploads, asked, "pre", f"{site.base}/maps/before.tif", lambda *step: told.append(step)
    )
    assert path.read_bytes() == data and told[-1] == ("fetching pre", len(data), len(data))
    sent = site.sent
    again = fetched(place, uploads, asked, "pre", f"{site.base}/maps/before.tif", lambda *_: None)
    assert again == path and site.sent == sent
    (kept,) = uploads.all("ana")
    assert (kept.name, kept.bytes, kept.described["width"]) == ("before.tif", len(data), 192)


def test_what_an_address_holds_is_checked_as_an_upload(place, job, site, monkeypatch):
    monkeypatch.setattr(module, "_reach", lambda _: Reach(("127.0.0.1",), personal=False))
    monkeypatch.setattr("aftermap.remote.web.is_public", lambda _: True)
    site.files["/a.tif"] = b"hello"
    with pytest.raises(InputError, match="is not an image"):
        fetched(place, *job, "pre", f"{site.base}/a.tif", lambda *_: None)
    assert not list((place.folder / "uploads").iterdir()) and not job[0].all("ana")
