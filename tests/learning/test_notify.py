"""Notifications against a local mail server and a local web server, and what happens when they fail."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from aftermap.config import Config, load_config
from aftermap.errors import NotificationWarning, TrainingError
from aftermap.learning.experiments import notify as module
from aftermap.learning.experiments.notify import Notifier, NotifyConfig
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import RecordsConfig, connect
from aftermap.learning.run import Run

SECRET = "hunter2-open-sesame"


class Recipe(Config):
    name: str = "damage"
    records: RecordsConfig = RecordsConfig()
    notify: NotifyConfig = NotifyConfig()


@pytest.fixture(autouse=True)
def _no_addresses(monkeypatch):
    monkeypatch.delenv("AFTERMAP_NOTIFY", raising=False)
    monkeypatch.delenv("AFTERMAP_TRACKING", raising=False)


@pytest.fixture
def web():
    """A web server that keeps the JSON it is sent; `delay` and `answer` can be changed."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(server.delay)
            server.heard.append((self.path, body["title"], body["message"]))
            self.send_response(server.answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.heard, server.delay, server.answer = [], 0.0, 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"json://bob:{SECRET}@127.0.0.1:{server.server_port}/hook-{SECRET}"
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def run_with(url, folder, warning, **settings):
    """A run that is told about at one address and warns; gives the warnings and the notifier."""
    config = NotifyConfig(urls=url, **settings)
    with (
        pytest.warns(NotificationWarning, match=warning) as heard,
        Notifier(config, "damage", folder) as notifier,
    ):
        yield heard, notifier


def told(server):
    return [title for _, title, _ in server.heard]


def test_a_run_tells_of_start_best_and_end(web, monkeypatch, tmp_path):
    monkeypatch.setenv("AFTERMAP_NOTIFY", web.url)
    with Notifier(NotifyConfig(), "damage", tmp_path) as notifier:
        notifier.best(500, 0.61234)
    assert told(web) == [
        "aftermap: damage started",
        "aftermap: damage best score 0.6123 at step 500",
        "aftermap: damage complete",
    ]
    path, _, message = web.heard[-1]
    assert path == f"/hook-{SECRET}"
    assert message == f"damage: complete\nbest score 0.6123 at step 500\nrun folder: {tmp_path}"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TrainingError("step 3: term dice is nan"), "damage: failed: step 3: term dice is nan"),
        (MemoryError("no room"), "damage: failed: MemoryError: no room"),
        (KeyboardInterrupt(), "damage: interrupted"),
    ],
)
def test_a_failure_is_told_with_its_reason(web, monkeypatch, tmp_path, error, message):
    monkeypatch.setenv("AFTERMAP_NOTIFY", web.url)
    with pytest.raises(type(error)), Notifier(NotifyConfig(events=("failure",)), "damage", tmp_path):
        raise error
    assert [body.splitlines()[0] for _, _, body in web.heard] == [message]


def test_only_the_events_asked_for_are_told(web, tmp_path):
    config = NotifyConfig(urls=web.url, events=("end",))
    with Notifier(config, "damage", tmp_path) as notifier:
        notifier.best(1, 0.5)
    assert told(web) == ["aftermap: damage complete"]


def test_several_addresses_are_all_told_and_each_once(web, monkeypatch, tmp_path):
    monkeypatch.setenv("AFTERMAP_NOTIFY", f"{web.url}-a  {web.url}-b")
    config = NotifyConfig(urls=(f"{web.url}-b", f"{web.url}-c"), events=("end",))
    with Notifier(config, "damage", tmp_path):
        pass
    assert sorted(path[-1] for path, _, _ in web.heard) == ["a", "b", "c"]


def test_mail_arrives_at_a_mail_server(tmp_path):
    pytest.importorskip("aiosmtpd")
    from aiosmtpd.controller import Controller

    heard = []

    class Keeper:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            heard.append((envelope.rcpt_tos, envelope.content.decode()))
            return "250 OK"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(Keeper(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        url = f"mailto://127.0.0.1:{port}?from=runs@example.org&to=bob@example.org&mode=insecure"
        with Notifier(NotifyConfig(urls=url, events=("end",)), "damage", tmp_path) as notifier:
            notifier.best(7, 0.5)
    finally:
        controller.stop()
    ((recipients, text),) = heard
    assert recipients == ["bob@example.org"]
    assert "Subject: aftermap: damage complete" in text
    assert "best score 0.5000 at step 7" in text


def test_a_server_that_refuses_costs_a_warning_without_the_address(web, tmp_path):
    web.answer = 500
    with run_with(web.url, tmp_path, "2 of 2 messages to a json address did not arrive") as (heard, _):
        pass
    assert SECRET not in str(heard[0].message)
    assert "127.0.0.1" not in str(heard[0].message)


def test_a_slow_server_holds_up_neither_steps_nor_the_end(web, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.2)
    web.delay = 3.0
    with run_with(web.url, tmp_path, "4 of 4 messages") as (_, notifier):
        notifier.best(1, 0.5)
        notifier.best(2, 0.6)
        assert web.heard == []
    assert web.heard == []


def test_an_absent_server_costs_a_warning(tmp_path):
    url = "mailto://127.0.0.1:1?from=a@b.org&to=c@d.org&mode=insecure"
    with run_with(url, tmp_path, "1 of 1 messages to a mailto address", events=("end",)):
        pass


def test_a_variable_that_is_not_set_is_called_empty(tmp_path, monkeypatch):
    monkeypatch.delenv("MY_CHAT", raising=False)
    with run_with("${MY_CHAT}", tmp_path, "is empty: set its environment variable"):
        pass


@pytest.mark.parametrize("url", [f"nosuchservice://{SECRET}", SECRET, f"slack://{SECRET}"])
def test_an_address_that_makes_no_sense_costs_a_warning(url, tmp_path):
    with run_with(url, tmp_path, "is not understood") as (heard, _):
        pass
    assert SECRET not in str(heard[0].message)


def test_without_addresses_nothing_is_loaded_or_started(tmp_path):
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from aftermap.learning.experiments.notify import Notifier, NotifyConfig\n"
        "with Notifier(NotifyConfig(), 'a', Path('.')) as n: n.best(1, 0.5)\n"
        "print('apprise' in sys.modules, threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "False 1", done.stderr


def test_other_processes_of_a_run_are_silent(web, tmp_path):
    with Notifier(NotifyConfig(urls=web.url), "damage", tmp_path, enabled=False) as notifier:
        notifier.best(1, 0.5)
    assert web.heard == []


def test_secrets_reach_neither_run_folder_nor_database_nor_log(web, tmp_path, monkeypatch, caplog, capfd):
    web.answer = 500
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AFTERMAP_RECIPE_VARIABLES", "MY_HOOK,PART,DATABASE_URL,PGPASS")
    monkeypatch.setenv("MY_HOOK", web.url)
    monkeypatch.setenv("PART", SECRET)
    (tmp_path / "recipe.yaml").write_text(
        f"notify: {{urls: ['${{MY_HOOK}}', 'json://bob:{SECRET}@127.0.0.1:1/x', 'jsons://x:${{PART}}@127.0.0.1:1']}}\n"
    )
    recipe = load_config(Recipe, tmp_path / "recipe.yaml", [f"records.uri={tmp_path}/runs/mlflow.db"])
    folder = tmp_path / "runs" / "a"
    plain = recipe.model_dump(mode="json")
    connection = connect(recipe.records, folder)
    run = Run.start(folder, yaml.safe_dump(plain), {})
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with (
            pytest.raises(TrainingError),
            Records(connection, run, plain) as records,
            Notifier(recipe.notify, recipe.name, folder) as notifier,
        ):
            records.log(1, {"score": 0.5})
            notifier.best(1, 0.5)
            raise TrainingError("a term is not finite")
    assert len(web.heard) == 3
    assert plain["notify"]["urls"] == ["${MY_HOOK:-}", "json://***", "jsons://***"]
    written = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert {"recipe.yaml", "run.json", "mlflow.db"} <= {file.name for file in written}
    for file in written:
        assert SECRET.encode() not in file.read_bytes(), file
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(w.message) for w in heard) + repr(recipe)
    assert SECRET not in said


def test_a_recipes_copy_finds_its_address_again(web, tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_RECIPE_VARIABLES", "MY_HOOK,PART,DATABASE_URL,PGPASS")
    monkeypatch.setenv("MY_HOOK", web.url)
    (tmp_path / "first.yaml").write_text("notify: {urls: '${MY_HOOK}', events: [end]}\n")
    first = load_config(Recipe, tmp_path / "first.yaml")
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump(first.model_dump(mode="json")))
    copy = load_config(Recipe, tmp_path / "copy.yaml")
    with Notifier(copy.notify, "damage", tmp_path):
        pass
    assert told(web) == ["aftermap: damage complete"]


def test_an_address_from_the_command_line_may_name_a_variable(web, tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_RECIPE_VARIABLES", "MY_HOOK,PART,DATABASE_URL,PGPASS")
    monkeypatch.setenv("MY_HOOK", web.url)
    config = NotifyConfig(urls="${MY_HOOK}", events=("end",))
    with Notifier(config, "damage", tmp_path):
        pass
    assert told(web) == ["aftermap: damage complete"]
    assert config.model_dump(mode="json")["urls"] == ["${MY_HOOK:-}"]


def test_a_recipes_copy_runs_where_its_variable_is_not_set(tmp_path, monkeypatch):
    monkeypatch.delenv("MY_HOOK", raising=False)
    monkeypatch.setenv("AFTERMAP_RECIPE_VARIABLES", "MY_HOOK")
    (tmp_path / "copy.yaml").write_text("notify: {urls: ['${MY_HOOK:-}']}\n")
    with pytest.warns(NotificationWarning, match="address of the recipe is empty"):
        notifier = Notifier(load_config(Recipe, tmp_path / "copy.yaml").notify, "damage", tmp_path)
    with notifier:
        pass


def test_a_copy_without_its_address_says_so(tmp_path):
    said = "keeps no secrets of 1 notification addresses: set AFTERMAP_NOTIFY"
    with run_with("slack://***", tmp_path, said):
        pass


def test_a_process_does_not_wait_for_a_server_that_hangs(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        code = (
            "import warnings; warnings.simplefilter('ignore')\n"
            "from pathlib import Path\n"
            "from aftermap.learning.experiments import notify\n"
            "notify.CLOSE_SECONDS = 0.1\n"
            "with notify.Notifier(notify.NotifyConfig(), 'a', Path('.')): pass\n"
        )
        port = server.getsockname()[1]
        environment = os.environ | {"AFTERMAP_NOTIFY": f"json://127.0.0.1:{port}?rto=300"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, timeout=60)
    assert done.returncode == 0
