"""The server of a review: who may talk to it, and what it answers."""

import json
import shutil

import pytest

from aftermap.web.guard import MOST_BYTES, is_own_name
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Journal
from aftermap.workflows.review.opened import open_review
from reviewed_map import make_map

pytest.importorskip("fastapi")
client_of = pytest.importorskip("fastapi.testclient").TestClient

TOKEN = "a-secret"
KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    make_map(folder)
    return folder


@pytest.fixture
def review(made, tmp_path):
    out = shutil.copytree(made / "map", tmp_path / "map")
    return open_review(open_map(out), pre=made / "before.tif", post=made / "after.tif", budget=6)


@pytest.fixture
def client(review):
    from aftermap.web.app import review_app

    return client_of(
        review_app(review, TOKEN), base_url="http://127.0.0.1:8765", raise_server_exceptions=False
    )


def post(client, what, **body):
    return client.post(f"/{TOKEN}/{what}", json={"reviewer": "ana", **body})


def test_the_page_and_its_parts_load_nothing_from_elsewhere(client):
    for part in ("", "review.js", "review.css"):
        answer = client.get(f"/{TOKEN}/{part}")
        assert answer.status_code == 200 and "http://" not in answer.text and "https://" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';") and "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
    assert "<script>" not in client.get(f"/{TOKEN}/").text


def test_an_answer_is_in_the_journal_when_it_is_confirmed(client, review):
    (item,) = post(client, "next", browser="one").json()["items"]
    told = post(client, "answer", key=KEY, building_id=item["id"], verdict="destroyed", seconds=1.2).json()
    (line,) = Journal(review.found.folder).lines()
    assert told["saved"] == line.key == KEY and line.reviewer == "ana" and told["state"]["answered"] == 1
    undone = post(client, "undo", key=KEY[::-1]).json()
    assert undone["undone"]["item"]["id"] == item["id"] and undone["state"]["answered"] == 0


def test_crops_are_webp_around_the_building(client):
    answer = client.get(f"/{TOKEN}/crop/3/near/post")
    assert answer.headers["content-type"] == "image/webp" and answer.content[8:12] == b"WEBP"
    assert client.get(f"/{TOKEN}/crop/999/near/post").status_code == 422
    assert client.get(f"/{TOKEN}/crop/3/far/post").status_code == 422
    assert client.get(f"/{TOKEN}/overview/pre").content[8:12] == b"WEBP"


def test_ground_is_marked_and_taken_back(client):
    ring = [[[0, 0], [192, 0], [192, 76], [0, 76]]]
    told = post(client, "mark", key=KEY, surveyed=True, outline=ring).json()
    assert (told["surveyed"], told["not_surveyed"]) == (10, 15)
    corners = {(round(x), round(y)) for x, y in told["marks"][0]["outline"][0]}
    assert corners == {(0, 0), (192, 0), (192, 76), (0, 76)}
    assert post(client, "mark", key="f" * 16, withdraws=KEY).json()["surveyed"] == 0


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/state", f"/{TOKEN}x/state", "/../etc/passwd"])
def test_without_the_token_there_is_nothing(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["etc/passwd", "..%2f..%2fetc/passwd", "crop/../../x", "openapi.json", "docs"]
)
def test_no_file_of_the_machine_is_given_out(client, path):
    assert client.get(f"/{TOKEN}/{path}").status_code in (404, 422)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example:8765"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"origin": "http://127.0.0.1:8765"}, 200),
    ],
)
def test_only_the_page_itself_may_say_something(client, headers, status):
    body = json.dumps({"reviewer": "ana", "key": KEY}).encode()
    sent = {"content-type": "application/json", **headers}
    assert client.post(f"/{TOKEN}/undo", content=body, headers=sent).status_code == status


def test_what_is_too_long_is_not_read(client):
    assert post(client, "answer", note="x" * MOST_BYTES).status_code == 413


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"verdict": "flat"}, "verdict"),
        ({"note": "x" * 2001}, "note"),
        ({"reason": "cloud"}, "only an answer that cannot tell has a reason"),
        ({"building_id": "nobody"}, "no building nobody"),
        ({"surprise": 1}, "surprise"),
        ({"reviewer": ""}, "reviewer"),
    ],
)
def test_what_makes_no_sense_is_one_line(client, review, body, told):
    answer = post(client, "answer", **{"key": KEY, "building_id": "b1", "verdict": "destroyed", **body})
    assert answer.status_code == 422 and told in answer.json()["error"]
    assert not list(Journal(review.found.folder).lines())


def test_an_unwritable_folder_is_told_as_not_saved(client, review, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aftermap.workflows.review.answers.os.open", denied)
    answer = post(client, "answer", key=KEY, building_id="b1", verdict="destroyed")
    assert answer.status_code == 507 and "cannot write" in answer.json()["error"]


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8765", True),
        ("localhost", True),
        ("[::1]:80", True),
        ("192.168.1.20:8765", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:80", False),
        ("", False),
    ],
)
def test_only_numbers_and_localhost_are_names_of_this_machine(host, own):
    assert is_own_name(host) is own
