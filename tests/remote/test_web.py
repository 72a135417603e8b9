"""Reading from web servers: what every promise of the room comes to."""

import gzip
import socket
import time
from pathlib import Path

import pytest

from aftermap.errors import AbsentError, BudgetError, RemoteError
from aftermap.remote import Budget, Online, Reach
from web_server import Site

DATA = bytes(range(256)) * 400


def online(site: Site, **options: object) -> Online:
    return Online(named=[site.base], **({"timeout_s": 0.5, "tries": 3} | options))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftermap.remote.web._wait", lambda attempt, told=None: 0.0)


def test_parts_are_read_and_only_they(site: Site) -> None:
    site.files["/a.tif"] = DATA
    net = online(site)
    assert net.read_range(f"{site.base}/a.tif", 1000, 50) == DATA[1000:1050]
    assert net.read_range(f"{site.base}/a.tif", len(DATA) - 5, 50) == DATA[-5:]
    assert net.budget.spent == 55
    assert site.asked[0] == ("/a.tif", "bytes=1000-1049")


def test_parts_that_lie_close_are_asked_for_at_once(site: Site) -> None:
    site.files["/a.tif"] = DATA * 5
    found = online(site).read_ranges(f"{site.base}/a.tif", [(400_000, 10), (0, 100), (200, 100)])
    assert found == [(DATA * 5)[400_000:400_010], DATA[:100], DATA[200:300]]
    assert [asked for _, asked in site.asked] == ["bytes=0-299", "bytes=400000-400009"]


def test_a_file_is_described_by_a_request_of_one_byte(site: Site) -> None:
    site.files["/a.tif"] = DATA
    stat = online(site).stat(f"{site.base}/a.tif")
    assert stat.size == len(DATA)
    assert stat.etag is not None and stat.modified is not None and stat.modified.year == 2026


def test_a_download_is_whole_or_not_there(site: Site, tmp_path: Path) -> None:
    site.files["/a.tif"] = DATA
    net = online(site)
    net.download(f"{site.base}/a.tif", tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes() == DATA
    site.faults["/a.tif"] = "short"
    with pytest.raises(RemoteError):
        net.download(f"{site.base}/a.tif", tmp_path / "b.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (404, r"/a.tif: there is no such file \(404\)"),
        (403, r"the server refuses it \(403\)"),
        (418, "the server answers 418"),
        ("whole", "does not send parts of files"),
        ("hang", "did not answer within 0.1 seconds"),
        ("short", "cannot read"),
    ],
)
def test_failures_are_told_in_one_line(site: Site, fault: int | str, said: str) -> None:
    site.files["/a.tif"], site.faults["/a.tif"] = DATA, fault
    with pytest.raises(RemoteError, match=said) as caught:
        online(site, timeout_s=0.1, tries=2).read_range(f"{site.base}/a.tif?sig=secret", 0, 100)
    assert "secret" not in str(caught.value)


def test_no_such_file_is_an_error_of_its_own(site: Site) -> None:
    with pytest.raises(AbsentError):
        online(site).stat(f"{site.base}/none.tif")


def test_what_may_pass_is_tried_again(site: Site) -> None:
    site.files["/a.tif"], site.passing["/a.tif"] = DATA, 2
    assert online(site).read_range(f"{site.base}/a.tif", 0, 4) == DATA[:4]
    assert site.sent == 3
    site.passing["/a.tif"] = 3
    with pytest.raises(RemoteError, match="answers 503"):
        online(site).read_range(f"{site.base}/a.tif", 0, 4)


def test_a_server_that_drips_is_given_up(site: Site) -> None:
    site.files["/a.tif"], site.faults["/a.tif"] = DATA, "drip"
    begun = time.monotonic()
    with pytest.raises(RemoteError, match="less than 10 kB a second"):
        online(site, timeout_s=0.1, tries=1).read_range(f"{site.base}/a.tif", 0, 1000)
    assert time.monotonic() - begun < 2


def test_more_than_the_budget_is_not_read(site: Site, tmp_path: Path) -> None:
    site.files["/a.tif"] = DATA
    net = online(site, budget=Budget(5000))
    with pytest.raises(BudgetError, match=r"a\.tif has 102 kB"):
        net.download(f"{site.base}/a.tif", tmp_path / "a.tif")
    net.read_range(f"{site.base}/a.tif", 0, 4900)
    with pytest.raises(BudgetError, match="used up"):
        net.read_range(f"{site.base}/a.tif", 0, 200)
    assert net.budget.spent < 5000 + 1000


def test_what_lies_packed_is_unpacked_within_the_limit(site: Site) -> None:
    site.files["/a.json"], site.faults["/a.json"] = gzip.compress(DATA), "packed"
    assert online(site).read(f"{site.base}/a.json") == DATA
    with pytest.raises(RemoteError, match="larger than the 50 kB"):
        online(site).read(f"{site.base}/a.json", most_bytes=50_000)
    site.files["/a.json"] = gzip.compress(DATA)[:-20]
    with pytest.raises(RemoteError, match="cut short"):
        online(site).read(f"{site.base}/a.json")
    with pytest.raises(RemoteError, match="packs what it sends"):
        online(site).read_range(f"{site.base}/a.json", 0, 10)


def test_a_file_larger_than_what_is_read_whole_is_refused(site: Site) -> None:
    site.files["/a.json"] = DATA
    with pytest.raises(RemoteError, match="larger than the 1 kB"):
        online(site).read(f"{site.base}/a.json", most_bytes=1000)


def test_redirects_are_followed_where_they_may_lead(site: Site) -> None:
    site.files["/b.tif"] = DATA
    site.faults["/a.tif"] = f"{site.base}/b.tif"
    assert online(site).read_range(f"{site.base}/a.tif", 0, 3) == DATA[:3]
    site.faults["/loop"] = f"{site.base}/loop"
    with pytest.raises(RemoteError, match="redirects more than 5 times"):
        online(site).stat(f"{site.base}/loop")


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:1/x", "http://[::1]:1/x", "http://2130706433/x", "http://0x7f.1/x", "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data/", "http://[::ffff:10.0.0.1]/x",
    ],
)  # fmt: skip
def test_a_redirect_into_a_private_network_is_refused(site: Site, target: str) -> None:
    """The host of the address was named and may be private; where it sends us was not."""
    site.faults["/a.tif"] = target
    begun = time.monotonic()
    with pytest.raises(RemoteError, match="lies in a private network or on this machine"):
        online(site).read_range(f"{site.base}/a.tif", 0, 3)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x", "s3://bucket/x", "//"])
def test_a_redirect_to_another_kind_of_place_is_refused(site: Site, target: str) -> None:
    site.faults["/a.tif"] = target if "://" in target else f"://{target}"
    with pytest.raises(RemoteError, match=r"redirects to|is no address|no such file"):
        online(site).read_range(f"{site.base}/a.tif", 0, 3)


def test_the_number_that_was_looked_at_is_the_one_that_is_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when looked at and private when connected to (DNS rebinding) is looked at once."""
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        number = "203.0.113.7" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 80))]

    connected: list[str] = []

    def connect(self: object, host: str, *_: object) -> None:
        connected.append(host)
        raise RemoteError("no network in this test")

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    monkeypatch.setattr("httpcore.SyncBackend.connect_tcp", connect)
    monkeypatch.setattr("aftermap.remote.web.is_public", lambda number: number == "203.0.113.7")
    with pytest.raises(RemoteError, match="no network in this test"):
        Online(Reach(private="never")).read("http://rebound.example/x")
    assert (asked, connected) == (["rebound.example"], ["203.0.113.7"])


def test_what_nobody_named_is_not_private(site: Site) -> None:
    site.files["/a.tif"] = DATA
    for net in (Online(), Online(Reach(private="never"), named=[site.base])):
        with pytest.raises(RemoteError, match="private network or on this machine"):
            net.read(f"{site.base}/a.tif")
    assert not site.asked


def test_a_password_goes_to_its_own_host_only(site: Site) -> None:
    site.files["/b.tif"], site.files["/c.tif"] = DATA, DATA
    place = site.base.removeprefix("http://")
    net = online(site)
    net.read_range(f"http://ana:p%40w@{place}/b.tif", 0, 1)
    assert site.headers[-1]["Authorization"] == "Basic YW5hOnBAdw=="
    site.faults["/a.tif"] = f"http://localhost:{place.rpartition(':')[2]}/c.tif"
    net = Online(named=[site.base, "http://localhost"], timeout_s=1)
    net.read_range(f"http://ana:pw@{place}/a.tif", 0, 1)
    assert "Authorization" not in site.headers[-1]


def test_hosts_that_are_not_there_are_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}"
    with pytest.raises(RemoteError, match=f"nothing answers on port {port}"):
        Online(named=[place], tries=1).read(f"{place}/x")
    with pytest.raises(RemoteError, match=r"cannot find the host no-such-host\.invalid"):
        Online(timeout_s=5).read("https://no-such-host.invalid/x")


def test_headers_are_told_whatever_the_answer_is(site: Site) -> None:
    from aftermap.remote import Address
    from aftermap.remote.web import Web

    site.faults["/bucket"] = f"{site.base}/elsewhere"
    site.faults["/refused"] = 403
    web = Web(Reach(), ["127.0.0.1"], timeout_s=1, slowest=1000, tries=1)
    assert web.headers_of(Address.parse(f"{site.base}/bucket"))["location"] == f"{site.base}/elsewhere"
    assert "content-length" in web.headers_of(Address.parse(f"{site.base}/refused"))
    assert [path for path, _ in site.asked] == ["/bucket", "/refused"]
