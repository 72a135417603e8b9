"""`aftermap serve`, its tokens and its worker, as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("fastapi")

from aftermap.cli.app import main
from aftermap.workflows.service.database import Database
from aftermap.workflows.service.place import Place
from aftermap.workflows.service.tokens import find_caller

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


@pytest.fixture
def area(tmp_path):
    path = tmp_path / "bezirk Süd.geojson"
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": SQUARE}))
    return path


def test_a_token_is_made_listed_and_revoked(tmp_path, capsys, area):
    data = ("--data", tmp_path / "daten")
    words = (
        "serve",
        "token",
        "create",
        "Zoë",
        "--scope",
        "read",
        "--scope",
        "review",
        "--aoi",
        area,
        "--days",
        3,
    )
    code, secret, told = run(capsys, *words, *data)
    assert code == 0 and secret.startswith("aftermap_") and secret.count("\n") == 1 and "Zoë" in told
    tables = Database(tmp_path / "daten" / "service.db")
    caller = find_caller(tables, secret.strip())
    assert caller.scopes == {"read", "review"} and caller.area.shape.area == pytest.approx(1)
    tables.close()
    code, listed, _ = run(capsys, "serve", "token", "list", *data)
    assert "Zoë: read, review, an area; valid" in listed and secret.strip() not in listed
    assert run(capsys, "serve", "token", "revoke", "Zoë", *data)[0] == 0
    _, listed, _ = run(capsys, "serve", "token", "list", "--json", *data)
    assert json.loads(listed)[0]["state"] == "revoked"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serve", "token", "revoke", "nobody", "--data", "b"), "there is no valid token nobody"),
        (("serve", "token", "revoke", "nobody", "--data", "nowhere"), "nowhere is no folder of a service"),
        (("serve", "token", "list", "--data", "nowhere"), "nowhere is no folder of a service"),
        (("serve", "token", "create", " "), "needs a name"),
        (("serve", "token", "create", "a", "--scope", "write"), "write"),
        (("serve", "token", "create", "a", "--aoi", "absent.geojson"), "absent.geojson"),
        (("serve", "--host", "0.0.0.0"), "aftermap serve token create"),
        (("serve", "--tokens"), "aftermap serve token create"),
        (("serve", "--host", "example.org"), "is no address"),
        (("serve", "--database", "mysql://a/b"), "no address of PostgreSQL"),
        (("serve", "a.txt"), "is a file"),
        (
            ("serve", "full"),
            "full is no folder of a service and holds other things (notes.txt, thesis): choose another",
        ),
        (("serve", "token", "create", "a", "--data", "full"), "full is no folder of a service and holds"),
        (("worker", "nowhere"), "start 'aftermap serve nowhere' first"),
        (("worker", "--database", "sqlite.db"), "no address of PostgreSQL"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "full" / "thesis").mkdir(parents=True)
    (tmp_path / "full" / "notes.txt").write_text("")
    if "b" in words:
        Database(Place(tmp_path / "b").made().database).close()
    if "--host" in words or "--tokens" in words:
        words = (*words, "--port", "0")
    code, _, told = run(capsys, *words)
    assert code == 2 and said in told and told.strip().count("\n") == 0 and "Traceback" not in told
    assert not (tmp_path / "nowhere").exists()
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["notes.txt", "thesis"]


def test_a_folder_with_models_or_of_a_team_is_taken(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "lost+found").mkdir()
    Place(tmp_path).made()
    (tmp_path / "backup.sh").write_text("")  # its tables are in PostgreSQL
    assert Place(tmp_path).made().upload("0" * 32).parent.is_dir()


def test_help_of_serve_has_its_examples(capsys):
    code, told, _ = run(capsys, "serve", "--help")
    assert code == 0 and "needs no tokens" in told and "Example: aftermap serve token create ana" in told


def test_a_server_of_a_folder_is_the_only_one_and_ends_cleanly(tmp_path, capsys):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [
        sys.executable,
        "-m",
        "aftermap.cli.app",
        "serve",
        str(tmp_path / "data"),
        "--port",
        "0",
        "--json",
    ]
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    server = subprocess.Popen([*words, "--workers", "0"], **options)
    try:
        text = ""
        while "}" not in text:
            text += server.stdout.readline()
        address = json.loads(text)["address"]
        with urllib.request.urlopen(f"{address.rstrip('/')}/health") as answer:
            assert json.loads(answer.read())["status"] == "ok"
        code, _, told = run(capsys, "serve", tmp_path / "data", "--port", "0")
        assert code == 2 and "a server runs over" in told and f"process {server.pid}" in told
    finally:
        server.send_signal(signal.SIGINT)
        _, told = server.communicate(timeout=30)
    assert server.returncode == 0 and "Traceback" not in told, told
