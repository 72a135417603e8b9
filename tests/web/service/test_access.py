"""Who may do what: tokens, scopes, areas of interest. Every route of the API is walked."""

import io
import json
import re
import time

import numpy as np
import pytest
import shapely
from PIL import Image
from test_maps_over_http import tile_at

from aftermap.errors import InputError
from aftermap.web.service.app import service_api
from aftermap.web.service.service import Rules
from aftermap.workflows.service import tokens
from aftermap.workflows.service.areas import area_from
from aftermap.workflows.service.tokens import create_token, find_caller, list_tokens, revoke_token
from served import add_map, client_of, open_service

OPEN = {("get", "/health"), ("post", "/api/session"), ("delete", "/api/session"), ("get", "/api/me")}
"""Routes that show nothing of anybody's."""

ELSEWHERE = area_from(shapely.box(10, 10, 11, 11))


@pytest.fixture
def guarded(tmp_path):
    found = open_service(tmp_path / "data", rules=Rules(tokens=True))
    yield found
    found.database.close()


def as_one(service, *scopes, area=None, name="ana"):
    return client_of(service, create_token(service.database, name, scopes, area=area))


def bounds_of(service, number):
    return service.maps.find(number).described["bounds"]


def western_half(service, number):
    west, south, east, north = bounds_of(service, number)
    return area_from(shapely.box(west - 1e-4, south - 1e-4, (west + east) / 2, north + 1e-4))


def test_only_a_checksum_of_a_token_is_kept(guarded):
    secret = create_token(guarded.database, "ana", ["read", "review"], days=1)
    assert secret not in json.dumps(guarded.database.rows("SELECT * FROM tokens"))
    caller = find_caller(guarded.database, secret)
    assert caller.name == "ana" and caller.scopes == {"read", "review"} and caller.may("read")
    assert not caller.may("map") and find_caller(guarded.database, secret + "x") is None


def test_a_token_that_is_over_or_revoked_counts_no_more(guarded, monkeypatch):
    short = create_token(guarded.database, "short", ["read"], days=1)
    long = create_token(guarded.database, "long", ["read"])
    session, _ = tokens.open_session(guarded.database, find_caller(guarded.database, long))
    assert find_caller(guarded.database, session).name == "long"
    revoke_token(guarded.database, "long")
    assert find_caller(guarded.database, long) is None and find_caller(guarded.database, session) is None
    now = time.time()
    session, _ = tokens.open_session(guarded.database, find_caller(guarded.database, short))
    monkeypatch.setattr(tokens.time, "time", lambda: now + 12 * 3600 + 1)
    assert find_caller(guarded.database, session) is None and find_caller(guarded.database, short) is not None
    monkeypatch.setattr(tokens.time, "time", lambda: now + 86_401)
    assert find_caller(guarded.database, short) is None
    assert [each["state"] for each in list_tokens(guarded.database)] == ["expired", "revoked"]
    with pytest.raises(InputError, match="there is no valid token long"):
        revoke_token(guarded.database, "long")


def test_names_are_taken_once_and_scopes_known(guarded):
    create_token(guarded.database, "ana", ["read"])
    for name, scopes in (
        ("ana", ["read"]),
        ("bo", ["write"]),
        ("bo", []),
        (" ", ["read"]),
        ("a\nb", ["read"]),
    ):
        with pytest.raises(InputError):
            create_token(guarded.database, name, scopes)


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """Every method and path of the API."""
    service = open_service(tmp_path_factory.mktemp("routes") / "data")
    description = service_api(service).openapi()
    service.database.close()
    return [(method, path) for path, methods in description["paths"].items() for method in methods]


def filled(path, number, job, upload):
    ids = {"/api/uploads": upload, "/api/jobs": job}
    own = next((value for start, value in ids.items() if path.startswith(start)), number)
    values = {
        **{"number": own, "layer": "pre", "z": "14", "x": "1", "y": "1", "name": "buildings.csv"},
        **{"building_id": "b1", "row": "1", "frame": "near", "date": "pre"},
    }
    return re.sub(r"\{(\w+)\}", lambda match: values[match.group(1)], path)


def body_of(path, number, upload):
    said = {"reviewer": "eve", "key": "e" * 16, "browser": "e", "building_id": "b1", "verdict": "destroyed"}
    if path.endswith("/answers/{building_id}"):
        return {"verdict": "destroyed"}
    if "/review/" not in path:
        return {"map": number} if path.endswith("learn") else {"pre": upload, "post": upload}
    wanted = {
        "next": ("reviewer", "browser"),
        "skip": ("reviewer", "browser", "building_id"),
        "release": ("reviewer", "browser"),
        "answer": ("reviewer", "key", "building_id", "verdict"),
        "undo": ("reviewer", "key"),
        "mark": ("reviewer", "key"),
    }.get(path.rpartition("/")[2], ("reviewer",))
    more = {"count": 5} if path.endswith("/more") else {}
    return {name: said[name] for name in wanted} | more


@pytest.mark.parametrize("kind", ["elsewhere", "part"])
def test_no_route_answers_for_somebody_elses_map_job_or_upload(guarded, made, routes, kind):
    """With all scopes, and an area that the map does not touch, or holds in part: what shows all of it is not there."""
    number = add_map(guarded, made, owner="somebody")
    job = guarded.jobs.add("somebody", "map", {"pre": "a" * 32, "post": "b" * 32}).id
    owner = client_of(guarded, create_token(guarded.database, "owner", ["map"]))
    data = (made / "before.tif").read_bytes()
    upload = owner.post("/api/uploads", params={"name": "a.tif"}, content=data).json()["id"]
    area = ELSEWHERE if kind == "elsewhere" else western_half(guarded, number)
    eve = as_one(guarded, *tokens.SCOPES, area=area, name="eve")
    walked = 0
    for method, path in routes:
        if (method, path) in OPEN or path == "/metrics":
            continue
        json_body = body_of(path, number, upload) if method in ("post", "put") else None
        headers = {"if-match": '"none"'}
        if path == "/api/uploads" and method == "post":
            continue  # what is one's own
        place = filled(path, number, job, upload)
        if path.endswith("/areas"):
            place += "?grid=50"
        answer = eve.request(method, place, json=json_body, headers=headers)
        parted = kind == "part" and path in {
            "/api/maps/{number}",
            "/api/maps/{number}/buildings",
            "/api/maps/{number}/count",
            "/api/maps/{number}/buildings/{building_id}",
            "/api/maps/{number}/tiles/{layer}/{z}/{x}/{y}",
            "/api/maps/{number}/tiles/buildings/{z}/{x}/{y}",
            "/ogc/collections/{number}",
            "/ogc/collections/{number}/items",
            "/ogc/collections/{number}/items/{building_id}",
        }
        if parted and method == "get":
            assert answer.status_code in (200, 204), (method, path)
        elif "{" in path or (path.startswith("/api/jobs") and method == "post"):
            assert answer.status_code == 404, (method, path, answer.status_code, answer.text)
        elif kind == "elsewhere":
            assert number not in answer.text and upload not in answer.text and job not in answer.text, path
        walked += 1
    assert walked > 40 and guarded.jobs.find(job).state == "queued"
    assert not (guarded.place.map(number) / "review" / "answers.jsonl").exists()
    assert guarded.maps.find(number) is not None


def test_every_route_asks_for_a_token(guarded, made, routes):
    number = add_map(guarded, made)
    client = client_of(guarded)
    for method, path in routes:
        if (method, path) in OPEN - {("get", "/api/me")}:
            continue
        place = filled(path, number, "a" * 32, "b" * 32)
        json_body = body_of(path, number, "b" * 32) if method in ("post", "put") else None
        answer = client.request(method, place, json=json_body)
        assert answer.status_code == 401 and number not in answer.text, (method, path)


def test_scopes_are_kept_apart(guarded, made):
    number = add_map(guarded, made)
    reader = as_one(guarded, "read", name="reader")
    assert reader.get(f"/api/maps/{number}").status_code == 200
    assert reader.post("/api/uploads?name=a.tif", content=b"x").status_code == 403
    assert (
        reader.post(f"/api/maps/{number}/review/more", json={"reviewer": "a", "count": 1}).status_code == 403
    )
    put = {"json": {"verdict": "destroyed"}, "headers": {"if-match": '"none"'}}
    assert reader.put(f"/api/maps/{number}/answers/b1", **put).status_code == 403
    assert reader.delete(f"/api/maps/{number}/answers/b1").status_code == 403
    assert reader.get("/metrics").status_code == 403
    assert reader.delete(f"/api/maps/{number}").status_code == 403
    mapper = as_one(guarded, "map", "read", name="mapper")
    assert mapper.delete(f"/api/maps/{number}").status_code == 404  # seen, and not theirs
    assert as_one(guarded, "admin", name="root").get("/metrics").status_code == 200


def test_answers_carry_the_name_of_the_token(guarded, made):
    number = add_map(guarded, made)
    bo = as_one(guarded, "read", "review", name="bo")
    said = {"reviewer": "ana", "key": "a" * 16, "building_id": "b3", "verdict": "destroyed"}
    assert bo.post(f"/api/maps/{number}/review/answer", json=said).status_code == 200
    put = {"json": {"verdict": "destroyed", "reviewer": "ana"}, "headers": {"if-match": '"none"'}}
    bo.put(f"/api/maps/{number}/answers/b4", **put)
    told = bo.get(f"/api/maps/{number}/answers").json()["answers"]
    assert {answer["reviewer"] for answer in told} == {"bo"} and len(told) == 2


def test_of_a_map_that_is_seen_in_part_the_rest_is_absent(guarded, made):
    number = add_map(guarded, made)
    half = as_one(guarded, "read", area=western_half(guarded, number))
    told = half.get(f"/api/maps/{number}").json()
    assert not told["whole"] and "files" not in told["links"]
    west = {f"b{n}" for n in range(25) if n % 5 < 3}  # columns at 12, 48 and 84 px of 192
    west -= {f"b{n}" for n in range(25) if 12 + 36 * (n % 5) + 8 > 96}
    assert told["total"] == len(west) == sum(told["counts"].values())
    counted = half.get(f"/api/maps/{number}/count").json()
    assert counted["total"] == counted["left"] == len(west) == sum(counted["counts"].values())
    listed = half.get(f"/ogc/collections/{number}/items").json()
    assert {each["id"] for each in listed["features"]} == west and listed["numberMatched"] == len(west)
    assert half.get(f"/ogc/collections/{number}/items/b4").status_code == 404
    assert half.get(f"/api/maps/{number}/buildings/b4").status_code == 404
    assert {each["id"] for each in half.get(f"/api/maps/{number}/buildings?q=b").json()} == west
    bounds = bounds_of(guarded, number)
    x, y = tile_at(bounds, 17)
    from pyogrio import read_dataframe

    frame = read_dataframe(half.get(f"/api/maps/{number}/tiles/buildings/17/{x}/{y}").content)
    assert set(frame["id"]) == west
    everything = as_one(guarded, "read", name="all")
    zoom = 15  # the whole map is a few pixels of one tile there
    x, y = tile_at(bounds, zoom)
    place = f"/api/maps/{number}/tiles/pre/{zoom}/{x}/{y}"
    seen, of_all = (
        np.array(Image.open(io.BytesIO(one.get(place).content)).convert("RGBA"))[..., 3] > 0
        for one in (half, everything)
    )
    columns = np.flatnonzero(of_all.any(axis=0))
    assert not (seen & ~of_all).any() and 0.35 < seen.sum() / of_all.sum() < 0.65
    assert not seen[:, columns[-len(columns) // 3] :].any()


def test_a_browser_trades_its_token_for_a_cookie(guarded):
    secret = create_token(guarded.database, "ana", ["read"])
    client = client_of(guarded)
    assert client.post("/api/session", json={"token": "wrong-token"}).status_code == 401
    answer = client.post("/api/session", json={"token": secret})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204 and secret not in cookie
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert client.get("/api/me").json()["name"] == "ana"
    assert client.delete("/api/session").status_code == 204
    assert client.get("/api/me").status_code == 401


def test_a_server_notices_within_seconds_that_a_token_was_revoked(guarded, monkeypatch):
    ana = as_one(guarded, "read")
    assert ana.get("/api/me").status_code == 200
    revoke_token(guarded.database, "ana")
    later = time.monotonic() + 5.1
    monkeypatch.setattr("aftermap.web.service.access.time.monotonic", lambda: later)
    assert ana.get("/api/me").status_code == 401


def test_guessing_has_to_wait(guarded):
    client = client_of(guarded)
    status = [
        client.get("/api/me", headers={"authorization": f"Bearer wrong-{n}"}).status_code for n in range(14)
    ]
    assert status[:10] == [401] * 10 and status[-1] == 429
    # who is known is let in all the same, once the service has looked
    assert as_one(guarded, "read").get("/api/me").status_code in (200, 429)


def test_uploads_and_jobs_are_each_ones_own(guarded, made):
    ana = as_one(guarded, "read", "map")
    bo = as_one(guarded, "read", "map", name="bo")
    data = (made / "before.tif").read_bytes()
    upload = ana.post("/api/uploads", params={"name": "a.tif"}, content=data).json()["id"]
    assert bo.get("/api/uploads").json() == [] and bo.get(f"/api/uploads/{upload}").status_code == 404
    assert bo.post("/api/jobs", json={"pre": upload, "post": upload}).status_code == 404
    job = ana.post("/api/jobs", json={"pre": upload, "post": upload}).json()["id"]
    assert bo.get("/api/jobs").json() == [] and bo.post(f"/api/jobs/{job}/cancel").status_code == 404
    assert [each["id"] for each in as_one(guarded, "admin", name="root").get("/api/jobs").json()] == [job]
    assert ana.delete(f"/api/uploads/{upload}").status_code == 409  # the job waits for it


def test_images_outside_of_ones_area_are_not_mapped(guarded, made):
    far = as_one(guarded, "read", "map", area=ELSEWHERE)
    data = (made / "before.tif").read_bytes()
    upload = far.post("/api/uploads", params={"name": "a.tif"}, content=data).json()["id"]
    told = far.post("/api/jobs", json={"pre": upload, "post": upload})
    assert told.status_code == 422 and "outside of your area" in told.json()["error"]
