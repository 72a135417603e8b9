"""Jobs over HTTP: asked for, followed, cancelled and tried again."""

import json
import threading
import time

import pytest


def sent(client, made):
    return [
        client.post("/api/uploads", params={"name": name}, content=(made / name).read_bytes()).json()["id"]
        for name in ("before.tif", "after.tif")
    ]


@pytest.fixture
def pair(client, made):
    """Two uploads."""
    return sent(client, made)


@pytest.fixture(scope="module")
def shared_pair(shared, made):
    """Two uploads of the service that tests share."""
    return sent(shared[1], made)


def asked(client, pair, **more):
    return client.post("/api/jobs", json={"pre": pair[0], "post": pair[1], **more})


def test_a_job_waits_and_is_told_to_the_queue(client, service, pair):
    told = asked(client, pair, title="Joplin", bands=[1, 2, 3])
    assert told.status_code == 202 and told.headers["location"] == f"/api/jobs/{told.json()['id']}"
    assert told.json()["state"] == "queued" and told.json()["wanted"]["title"] == "Joplin"
    heard, stop = [], threading.Event()

    def handle(number):
        heard.append(number)
        stop.set()

    service.queue.work(handle, idle=lambda: None, stop=stop)
    assert heard == [told.json()["id"]]


def test_asking_twice_with_a_key_is_one_job(client, pair):
    key = {"idempotency-key": "7c2b"}
    body = {"pre": pair[0], "post": pair[1]}
    first, second = (client.post("/api/jobs", json=body, headers=key).json()["id"] for _ in range(2))
    assert first == second and len(client.get("/api/jobs").json()) == 1
    assert client.post("/api/jobs", json={**body, "title": "x"}, headers=key).status_code == 422


@pytest.mark.parametrize(
    "odd",
    [
        {"model": "hf-secret"},
        {"model": "../../etc"},
        {"pre": "f" * 32},
        {"pre": "/etc/passwd"},
        {"footprints": "before"},
        {"stretch": [98, 2]},
        {"window": 64},
        {"bands": []},
        {"pre": "https://example.org/a.tif"},
        {"pre": "file:///etc/passwd"},
        {"crs": "EPSG:4326;rm"},
    ],
)
def test_what_makes_no_sense_is_no_job(shared, shared_pair, odd):
    client = shared[1]
    told = asked(client, shared_pair, **odd)
    assert told.status_code in (404, 422) and "\n" not in told.json()["error"]
    assert client.get("/api/jobs").json() == []


def test_footprints_are_no_image_and_an_image_no_footprints(client, pair):
    data = b'{"type":"FeatureCollection","features":[]}'
    outlines = client.post("/api/uploads?name=a.geojson&kind=vectors", content=data).json()["id"]
    assert asked(client, [outlines, pair[1]]).status_code == 422
    assert asked(client, pair, footprints=pair[0]).status_code == 422
    assert asked(client, pair, footprints=outlines).status_code == 202


def test_a_job_is_followed_until_it_ends(client, service, pair):
    number = asked(client, pair).json()["id"]

    def worker():
        time.sleep(0.1)
        service.jobs.claim(number, "one")
        service.jobs.tell(number, "one", {"stage": "predicting", "done": 1, "total": 2})
        time.sleep(0.4)
        service.jobs.end(number, "one", "done")

    thread = threading.Thread(target=worker)
    thread.start()
    states = []
    with client.stream("GET", f"/api/jobs/{number}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data:"):
                told = json.loads(line[5:])
                states.append(told["state"])
    thread.join()
    assert states[0] == "queued" and states[-1] == "done" and told["map"] == number


def test_nobody_follows_more_than_is_allowed(service):
    import asyncio
    from types import SimpleNamespace

    from fastapi import HTTPException

    from aftermap.web.service import streams
    from aftermap.web.service.app import service_api
    from aftermap.workflows.service.tokens import LOCAL

    asked_of = SimpleNamespace(app=service_api(service), client=SimpleNamespace(host="10.0.0.1"))

    async def nothing():
        yield {"event": "job", "data": "{}"}

    async def follow():
        open_ones = [streams.followed(asked_of, LOCAL, nothing()) for _ in range(streams.MOST)]
        iterators = [each.body_iterator for each in open_ones]
        for iterator in iterators:
            await anext(iterator)
        with pytest.raises(HTTPException):
            streams.followed(asked_of, LOCAL, nothing())
        for iterator in iterators:
            await iterator.aclose()
        streams.followed(asked_of, LOCAL, nothing())

    asyncio.run(follow())


def test_a_job_is_cancelled_and_tried_again(client, pair):
    number = asked(client, pair).json()["id"]
    assert client.post(f"/api/jobs/{number}/retry").status_code == 409
    assert client.post(f"/api/jobs/{number}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/api/jobs/{number}/cancel").status_code == 409
    assert client.post(f"/api/jobs/{number}/retry").json()["state"] == "queued"


def test_a_job_that_has_ended_is_forgotten_with_what_it_left(client, service, pair):
    number = asked(client, pair).json()["id"]
    assert client.delete(f"/api/jobs/{number}").status_code == 409
    client.post(f"/api/jobs/{number}/cancel")
    left = service.place.map(number).with_name(f"{number}.work")
    left.mkdir()
    assert client.delete(f"/api/jobs/{number}").status_code == 204 and not left.exists()
    assert client.get(f"/api/jobs/{number}").status_code == 404


def test_a_map_is_called_as_its_image_where_it_was_given_no_title(client, pair):
    assert asked(client, pair).json()["wanted"]["title"] == "before"


def test_nobody_lets_more_jobs_wait_than_allowed(tmp_path, made):
    from aftermap.workflows.service.place import Limits
    from served import client_of, open_service

    client = client_of(open_service(tmp_path / "data", limits=Limits(jobs_waiting=2, free_bytes=0)))
    data = (made / "before.tif").read_bytes()
    one = client.post("/api/uploads?name=a.tif", content=data).json()["id"]
    assert [asked(client, [one, one]).status_code for _ in range(3)] == [202, 202, 429]


def test_a_learnt_map_is_asked_for_by_its_owner(client, service, number):
    told = client.post("/api/jobs/learn", json={"map": number})
    assert told.status_code == 202 and told.json()["map"] == number and told.json()["kind"] == "learn"
