"""`aftermap review`: what it refuses, the page as one file, answers in and out, and a server that ends well."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request

import pytest

from aftermap.cli.app import main
from forked_python import forked_python
from reviewed_map import make_map


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("Prüfung ") / "größe"
    folder.mkdir()
    make_map(folder)
    return folder


@pytest.fixture
def world(made, tmp_path, monkeypatch):
    folder = shutil.copytree(made, tmp_path / "größe")
    monkeypatch.chdir(folder)
    return folder


def call(capsys, *words, code=0):
    with pytest.raises(SystemExit) as ended:
        main(["review", *words])
    told = capsys.readouterr()
    assert ended.value.code == code, told.err
    return " ".join((told.err if code else told.out).split())


IMAGES = ("--pre", "before.tif", "--post", "after.tif")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere",), "nowhere is not a finished map"),
        (("map", "--pre", "after.tif"), "after.tif is not among the files of the map"),
        (("map", "--pre", "no.tif", "--post", "after.tif"), "cannot read no.tif"),
        (("map", *IMAGES, "--active", "2"), "--active"),
        (("map", *IMAGES, "--budget", "0"), "--budget"),
        (("map", *IMAGES, "--host", "evil.example"), "is no address"),
        (("map", "--export", "a.gpkg"), "has no answers yet"),
        (("map", "--import", "a.json"), "cannot read a.json"),
        (("map", "--import", "a.json", "--export", "b.gpkg"), "are two tasks"),
        (("map", *IMAGES, "--offline", "no/such/place.html"), "cannot write"),
    ],
)
def test_a_mistake_is_one_line(world, capsys, words, told):
    assert told in call(capsys, *words, code=2)


def test_a_page_goes_out_and_its_answers_come_in(world, capsys):
    told = call(capsys, "map", "--budget", "8", "--offline", "review.html")
    assert "8 buildings" in told and " MB" in told
    page = (world / "review.html").read_text()
    assert (
        "default-src 'none'; script-src 'sha256-" in page
        and "http://" not in page
        and "<script src" not in page
    )
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["items"]) == 8 and data["items"][0]["pictures"][1].startswith("data:image/webp;base64,")
    assert str(world) not in page
    answers = [
        {"key": f"{n:032d}", "building_id": item["id"], "verdict": "destroyed", "reviewer": "ana"}
        for n, item in enumerate(data["items"])
    ]
    tree = {"format": "aftermap-review-answers", "outlines_sha256": data["state"]["outlines_sha256"]}
    (world / "answers.json").write_text(json.dumps({**tree, "answers": answers}))
    assert "took in 8 answers of 8 rows" in call(capsys, "map", "--import", "answers.json")
    assert json.loads(call(capsys, "map", "--import", "answers.json", "--json"))["known"] == 8
    assert "8 answers" in call(capsys, "map", "--export", "out.gpkg")
    assert "8 answers" in call(capsys, "map", "--export", "out.gpkg")  # in place of the one before
    assert "map: it is a folder, not a file" in call(capsys, "map", "--export", "map", code=2)
    assert "every building of the budget is answered" in call(capsys, "map", "--offline", "more.html", code=2)


def test_ctrl_c_says_what_was_done_and_how_to_go_on(world, capsys):
    command = [
        forked_python(),
        "-m",
        "aftermap.cli.app",
        "review",
        "map",
        *IMAGES,
        "--budget",
        "6",
        "--port",
        "0",
    ]
    server = subprocess.Popen(
        command, cwd=world, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    address = re.search(r"http://\S+", server.stdout.readline())[0]
    with urllib.request.urlopen(address, timeout=30) as page:
        assert page.status == 200
    assert "is being reviewed by another" in call(capsys, "map", code=2)
    server.send_signal(signal.SIGINT)
    out, error = server.communicate(timeout=60)
    assert server.returncode == 0 and error == ""
    assert "0 buildings answered, 0 of 6 of the budget" in out and "go on with: aftermap review map" in out


def test_a_port_that_is_taken_is_told_and_the_next_one_found():
    from aftermap.errors import InputError
    from aftermap.web.serving import bind

    first = bind("127.0.0.1", None)
    taken = first.getsockname()[1]
    with bind("127.0.0.1", None) as second:
        assert second.getsockname()[1] > taken
    with pytest.raises(InputError, match=f"--port {taken} is taken"):
        bind("127.0.0.1", taken)
    first.close()
