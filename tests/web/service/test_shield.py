"""What stands before every route: names, origins, sizes, rates, headers, what is written down."""

import json
import socket

import pytest

from aftermap.web.service.rates import Rates
from aftermap.web.service.service import Rules
from aftermap.web.service.shield import MOST_JSON_BYTES
from aftermap.web.serving import bind
from aftermap.workflows.service.place import Limits
from aftermap.workflows.service.tokens import create_token
from served import BASE, client_of, open_service


def audited(service):
    return [json.loads(line) for line in service.place.audit.read_text().splitlines()]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:1", 200),
        ("[::1]:8765", 200),
        ("maps.example.org", 200),
        ("MAPS.example.org:443", 200),
        ("evil.example.org", 421),
        ("maps.example.org.evil.com", 421),
        ("", 421),
    ],
)
def test_it_answers_under_its_own_names_alone(named, host, status):
    assert named.get("/health", headers={"host": host}).status_code == status


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A client of a service that has a name."""
    rules = Rules(hosts=("maps.example.org",))
    return client_of(open_service(tmp_path_factory.mktemp("named") / "data", rules=rules))


def test_small_parts_of_an_answer_do_not_wait_for_one_another():
    """asyncio sets TCP_NODELAY on what is called TCP alone; without it a tile takes 40 ms."""
    with bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_pages_of_other_sites_may_not_use_it(client, service):
    other = {"origin": "https://evil.example.org"}
    assert client.get("/api/maps", headers=other).status_code == 403
    for headers in (other, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert client.post("/api/jobs", json={}, headers=headers).status_code == 403
    own = {"origin": BASE, "sec-fetch-site": "same-origin"}
    assert client.post("/api/jobs", json={}, headers=own).status_code == 422
    answer = client.options("/api/jobs", headers={**own, "access-control-request-method": "POST"})
    assert "access-control-allow-origin" not in answer.headers


def test_a_site_that_is_listed_may(tmp_path):
    portal = "https://portal.example.org"
    client = client_of(open_service(tmp_path / "data", rules=Rules(origins=(portal,))))
    asked = {"origin": portal, "access-control-request-method": "PUT", "sec-fetch-site": "cross-site"}
    answer = client.options("/api/maps", headers=asked)
    assert answer.status_code == 204 and answer.headers["access-control-allow-origin"] == portal
    assert client.post("/api/jobs", json={}, headers=asked).status_code == 422
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=1", 415),
        ({"content-type": "application/json"}, b"[" * 100_000, 422),
        ({"content-type": "application/json"}, b" " * (MOST_JSON_BYTES + 1), 413),
        ({"content-type": "application/json", "content-length": "-5"}, b"", 400),
        ({"content-type": "application/json"}, b"\xff\xfe", 422),
    ],
)
def test_what_changes_something_is_json_of_a_known_and_small_size(named, headers, body, status):
    answer = named.post("/api/jobs", content=body, headers=headers)
    assert answer.status_code in (status, 400) and "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"pre": "x", "post": "y"}, "body.pre: expected the id of an upload, or an address"),
        ({"post": "a" * 32}, "body.pre: it is missing"),
        ({"pre": "a" * 32, "post": "b" * 32, "colour": 1}, "body.colour: it is not known here"),
        ({"pre": "a" * 32, "post": "b" * 32, "crs": "4326"}, "body.crs: expected a reference system such as"),
        ([], "body: expected a JSON object"),
    ],
)
def test_what_makes_no_sense_is_told_in_plain_words(named, wanted, told):
    answer = named.post("/api/jobs", json=wanted)
    assert answer.status_code == 422 and answer.json()["error"].startswith(told)
    assert named.get("/api/jobs/7").json()["error"].endswith("expected an id of 32 hexadecimal digits")


def test_a_body_without_a_length_is_refused(client):
    parts = iter([b"{}"])
    headers = {"content-type": "application/json"}
    assert client.post("/api/jobs", content=parts, headers=headers).status_code == 411


def test_every_answer_has_strict_headers(client, number):
    for path in (
        "/health",
        f"/api/maps/{number}",
        f"/api/maps/{number}/review/",
        "/nothing",
        "/openapi.json",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"
    page = client.get(f"/api/maps/{number}/files/buildings.csv").headers
    assert "sandbox" in page["content-security-policy"]


def test_too_many_requests_have_to_wait(tmp_path):
    service = open_service(tmp_path / "data", limits=Limits(requests_per_second=0.001, burst=5, free_bytes=0))
    client = client_of(service)
    status = [client.get("/health").status_code for _ in range(7)]
    assert status == [200] * 5 + [429] * 2 and client.get("/health").headers["retry-after"]


def test_a_bucket_fills_steadily():
    now = [0.0]
    rates = Rates(2.0, 3.0, clock=lambda: now[0])
    assert [rates.take("a") for _ in range(3)] == [0.0] * 3 and rates.take("a") == pytest.approx(0.5)
    assert rates.take("b") == 0.0
    now[0] = 1.0
    assert [rates.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_who_did_what_is_written_down_without_secrets(tmp_path, made):
    service = open_service(tmp_path / "data", rules=Rules(tokens=True))
    secret = create_token(service.database, "ana", ["read", "map"])
    ana = client_of(service, secret)
    ana.get("/api/maps")  # looking is not written down
    ana.post("/api/uploads?name=a.tif", content=(made / "before.tif").read_bytes())
    ana.get("/metrics")
    client_of(service, "aftermap_wrong").get("/api/maps")
    lines = audited(service)
    assert [(line["method"], line["status"], line["caller"]) for line in lines] == [
        ("POST", 201, "ana"),
        ("GET", 403, "ana"),
        ("GET", 401, None),
    ]
    assert secret not in service.place.audit.read_text() and all(line["at"] and line["id"] for line in lines)
    assert service.place.audit.stat().st_mode & 0o077 == 0


def test_downloads_are_written_down(client, service, number):
    client.get(f"/api/maps/{number}/files/buildings.csv")
    client.get(f"/api/maps/{number}/files.zip")
    assert [line["path"].rpartition("/")[2] for line in audited(service)] == ["buildings.csv", "files.zip"]


def test_metrics_count_requests_and_jobs(client, service):
    service.jobs.add("local", "map", {})
    client.get("/health")
    text = client.get("/metrics").text
    assert 'aftermap_requests_total{method="GET",route="/health",status="200"} 1.0' in text
    assert 'aftermap_jobs{state="queued"} 1.0' in text


def test_a_mistake_of_ours_is_told_without_words(service, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(type(service.jobs), "all", broken)
    answer = client_of(service).get("/api/jobs")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert '"kind": "RuntimeError"' in capsys.readouterr().err
