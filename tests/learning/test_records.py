"""Runs in the experiment database: SQLite, PostgreSQL, databases that are absent or die."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import warnings
from pathlib import Path

import pytest
from pydantic import SecretStr

from aftermap.config import load_config
from aftermap.data.scene import Scene
from aftermap.errors import RecordsError, RecordsWarning, TrainingError
from aftermap.learning.experiments import records as module
from aftermap.learning.experiments import tracking
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import (
    RecordsConfig,
    connect,
    file_store,
    find_store,
    metric_key,
    metrics_of,
    open_store,
    parameters_of,
    parse_store,
    safe_command,
)
from aftermap.learning.run import Run, data_checksum
from aftermap.redaction import hide_secrets
from forked_python import forked_python

RECIPE = {
    "name": "damage",
    "task": "damage",
    "model": {"kind": "unet", "widths": [8, 16]},
    "init_from": None,
    "notify": {"urls": ["json://secret"]},
}


@pytest.fixture(autouse=True)
def _no_address(monkeypatch):
    monkeypatch.delenv("AFTERMAP_TRACKING", raising=False)


@pytest.fixture
def runs(tmp_path, empty_database):
    """A folder `runs` with an empty database in it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


def start(folder, **facts):
    return Run.start(folder, "name: damage\n", {"seed": 3, "data_checksum": "abc", **facts})


def entry(connection, run_id):
    return connection.client.get_run(run_id)


def history(connection, run_id, key):
    return [(point.step, point.value) for point in connection.client.get_metric_history(run_id, key)]


def test_a_run_is_stored_with_recipe_metrics_facts_and_end(runs):
    run = start(runs / "a", parent_sha256="beef")
    connection = connect(RecordsConfig(), run.folder)
    with Records(connection, run, RECIPE) as records:
        records.log(10, {"step": 10, "loss": 0.9, "score": 0.5, "f1_no-damage": 0.7, "absent": float("nan")})
        records.log(20, {"loss": 0.5, "score": 0.6, "f1_no-damage": 0.4})
        records.log(30, {"loss": 0.4, "score": 0.55, "f1_no-damage": 0.8})
        run.model.mkdir()
        (run.model / "card.json").write_text("{}")
    found = entry(connection, records.run_id)
    assert found.data.params == {
        "name": "damage",
        "task": "damage",
        "model.kind": "unet",
        "model.widths": "[8, 16]",
        "init_from": "null",
    }
    tags = found.data.tags
    assert (tags["seed"], tags["data_checksum"], tags["parent_sha256"]) == ("3", "abc", "beef")
    assert tags["environment.torch"].startswith("2.")
    assert tags["machine"] and tags["version"]
    assert tags["model"] == str(run.model)
    assert history(connection, records.run_id, "f1_no-damage") == [(10, 0.7), (20, 0.4), (30, 0.8)]
    assert history(connection, records.run_id, "best_score") == [(10, 0.5), (20, 0.6)]
    assert found.data.metrics["best_f1_no-damage"] == 0.4
    assert "absent" not in found.data.metrics
    assert (found.info.status, found.info.run_name) == ("FINISHED", "damage")
    assert run.facts()["tracking"] == {
        "store": f"sqlite:///{runs / 'mlflow.db'}",
        "run_id": records.run_id,
    }
    assert run.facts()["status"] == "complete"


@pytest.mark.parametrize(
    ("error", "status", "state", "reason"),
    [
        (KeyboardInterrupt(), "KILLED", "interrupted", None),
        (TrainingError("step 3: term dice is nan"), "FAILED", "failed", "step 3: term dice is nan"),
        (RuntimeError("out of memory\nsecond line"), "FAILED", "failed", "RuntimeError: out of memory"),
    ],
)
def test_how_a_run_ends_is_recorded_in_both_places(runs, error, status, state, reason):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with pytest.raises(type(error)), Records(connection, run, RECIPE) as records:
        raise error
    found = entry(connection, records.run_id)
    assert (found.info.status, found.data.tags.get("reason")) == (status, reason)
    assert (run.facts()["status"], run.facts().get("reason")) == (state, reason)


def test_a_resumed_run_goes_on_in_its_entry_without_repeating_steps(runs):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with pytest.raises(KeyboardInterrupt), Records(connection, run, RECIPE) as first:
        first.log(10, {"score": 0.5})
        first.log(20, {"score": 0.7})
        raise KeyboardInterrupt
    with Records(connect(RecordsConfig(), run.folder), run, RECIPE | {"lr": 0.1, "task": "x"}) as second:
        second.log(20, {"score": 0.7})
        second.log(30, {"score": 0.6})
    assert second.run_id == first.run_id
    assert history(connection, first.run_id, "score") == [(10, 0.5), (20, 0.7), (30, 0.6)]
    found = entry(connection, first.run_id)
    assert found.data.metrics["best_score"] == 0.7
    assert (found.data.params["lr"], found.data.params["task"]) == ("0.1", "damage")
    assert found.data.tags["resumed_with"] == "task=x"
    assert found.info.status == "FINISHED"


def test_what_the_database_missed_is_filled_in_from_the_run_folder(runs):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with Records(connection, run, RECIPE) as records:
        records.log(10, {"score": 0.5})
    for step, score in ((10, 0.5), (20, 0.8), (30, 0.7)):
        run.append_metrics({"step": step, "score": score})
    with Records(connection, run, RECIPE):
        pass
    assert history(connection, records.run_id, "score") == [(10, 0.5), (20, 0.8), (30, 0.7)]
    assert history(connection, records.run_id, "best_score") == [(10, 0.5), (20, 0.8)]


def test_the_caller_may_say_which_step_is_kept(runs):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with Records(connection, run, RECIPE) as records:
        records.log(1, {"score": float("nan"), "f1_destroyed": 0.1}, kept=True)
        records.log(2, {"score": 0.9, "f1_destroyed": 0.2}, kept=False)
        records.log(3, {"score": 0.4, "f1_destroyed": 0.3}, kept=True)
    assert history(connection, records.run_id, "best_score") == [(3, 0.4)]
    assert history(connection, records.run_id, "best_f1_destroyed") == [(1, 0.1), (3, 0.3)]


def test_recipe_card_and_metrics_are_kept_beside_the_database(tmp_path):
    run = start(tmp_path / "runs" / "group" / "a")
    run.model.mkdir()
    (run.model / "card.json").write_text("{}")
    run.append_metrics({"step": 1, "score": 0.5})
    with Records(connect(RecordsConfig(), run.folder), run, RECIPE):
        pass
    kept = sorted(file.name for file in (tmp_path / "runs" / "mlflow-artifacts").rglob("*.*"))
    assert kept == ["card.json", "metrics.jsonl", "recipe.yaml"]


def test_a_database_that_moved_leaves_its_old_place_alone(runs, empty_database):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with Records(connection, run, RECIPE):
        pass
    assert connection.artefacts is None
    assert list(empty_database.parent.iterdir()) == [empty_database]


def test_the_same_run_is_found_in_a_database_that_run_json_does_not_name(runs, tmp_path):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with Records(connection, run, RECIPE) as records:
        pass
    run.record(tracking={"store": "elsewhere", "run_id": "0" * 32})
    with Records(connection, run, RECIPE) as again:
        pass
    assert again.run_id == records.run_id


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("runs/2026-loc", "runs/mlflow.db"),
        ("runs/xview2/loc-0", "runs/mlflow.db"),
        ("out/loc", "out/mlflow.db"),
    ],
)
def test_the_database_lies_in_runs_or_beside_the_run(folder, expected, tmp_path):
    store = find_store(None, tmp_path / folder)
    assert store.uri == f"sqlite:///{tmp_path / expected}"
    assert store.artefacts == ((tmp_path / expected).parent / "mlflow-artifacts").as_uri()


def test_the_steps_of_an_incremental_run_share_the_database_beside_it(tmp_path):
    (tmp_path / "out" / "mib").mkdir(parents=True)
    (tmp_path / "out" / "mib" / "protocol.json").write_text("{}")
    store = find_store(None, tmp_path / "out" / "mib" / "steps" / "1")
    assert store.uri == f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}"


def test_the_recipe_wins_over_the_environment_and_both_over_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_TRACKING", "postgresql://bob:pw@db/runs")
    assert find_store(None, tmp_path / "r").uri == "postgresql+pg8000://bob:pw@db/runs"
    assert find_store("http://host:5000", tmp_path / "r").uri == "http://host:5000"
    assert find_store("off", tmp_path / "r") is None
    monkeypatch.setenv("AFTERMAP_TRACKING", "off")
    assert connect(RecordsConfig(), tmp_path / "r") is None


def test_a_database_file_or_its_folder_is_an_address(tmp_path):
    (tmp_path / "runs").mkdir()
    expected = f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert parse_store(str(tmp_path / "runs"), artefacts=tmp_path).uri == expected
    assert parse_store(f"{tmp_path}/runs/mlflow.db", artefacts=tmp_path).uri == expected


def test_records_that_are_off_still_keep_the_status(tmp_path):
    run = start(tmp_path / "a")
    with Records(None, run, RECIPE) as records:
        records.log(1, {"score": 0.1})
    assert records.run_id == ""
    assert run.facts()["status"] == "complete"
    assert not (tmp_path / "mlflow.db").exists()


def test_an_odd_folder_name_holds_its_database(tmp_path):
    folder = tmp_path / "a b%20c ü"
    open_store(file_store(folder / "mlflow.db"))
    assert (folder / "mlflow.db").is_file()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("score", "score"),
        ("f1_no-damage", "f1_no-damage"),
        ("per event/joplin", "per event/joplin"),
        ("f1 [minor]", "f1 _minor_"),
        ("/etc", "_etc"),
        ("a/../b", "a____b"),
        ("..", "__"),
        ("", "_"),
    ],
)
def test_metric_names_become_keys_that_mlflow_takes(name, key):
    from mlflow.utils.validation import _validate_metric_name

    assert metric_key(name) == key
    _validate_metric_name(metric_key(name))


def test_long_and_colliding_names_stay_apart():
    assert len(metric_key("x" * 300)) <= 250
    assert metric_key("x" * 300) != metric_key("x" * 301)
    found = metrics_of({"a[": 1.0, "a]": 2.0, "group": {"b": 3, "on": True, "name": "no number"}})
    assert sorted(found.values()) == [1.0, 2.0, 3.0]
    assert found["a_"] == 1.0
    assert found["group.b"] == 3.0


def test_many_and_long_parameters_fit(runs):
    recipe = {"group": {f"key{i}": i for i in range(230)}, "long": "x" * 9000}
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with Records(connection, run, recipe) as records:
        pass
    params = entry(connection, records.run_id).data.params
    assert len(params) == 231
    assert params["group.key229"] == "229"
    assert params["long"] == "x" * 6000
    assert parameters_of({"records": {"uri": "u"}, "notify": {"urls": []}, "a": 1}) == {"a": "1"}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_a_database_file_that_cannot_be_made_says_where(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RecordsError, match=r"cannot make its folder .*/file .*choose a folder that can be written"
    ):
        connect(RecordsConfig(), tmp_path / "file" / "run")


def test_an_unreachable_database_is_one_line_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_TRACKING", f"postgresql://bob:opensesame@127.0.0.1:{free_port()}/runs")
    with pytest.raises(RecordsError, match=r"cannot be used: .*AFTERMAP_TRACKING") as refused:
        connect(RecordsConfig(), tmp_path / "run")
    assert "opensesame" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_answers_is_given_up(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        config = RecordsConfig(uri=SecretStr(f"postgresql://bob:pw@127.0.0.1:{server.getsockname()[1]}/runs"))
        with pytest.raises(RecordsError, match="cannot be used"):
            connect(config, tmp_path / "run", seconds=0.5)


def test_a_slow_machine_may_take_long_over_a_database_file(tmp_path, empty_database, monkeypatch):
    knock = tracking._knock
    monkeypatch.setattr(tracking, "_knock", lambda *a: (time.sleep(0.3), knock(*a)))
    file = shutil.copy(empty_database, tmp_path / "mlflow.db")
    assert open_store(file_store(Path(file)), seconds=0.05).experiment_id


def test_the_time_that_was_waited_is_told(tmp_path, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(tracking, "CREATE_SECONDS", 0.6)
    monkeypatch.setattr(tracking, "_knock", lambda *_: over.wait())
    with pytest.raises(RecordsError, match="no answer within 1 s"):
        open_store(file_store(tmp_path / "mlflow.db"), seconds=0.2)
    over.set()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to be read as one" * 20)
    with pytest.raises(RecordsError, match="file is not a database"):
        connect(RecordsConfig(), tmp_path / "run")


def test_a_database_that_dies_is_warned_of_once_and_catches_up(runs):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with Records(connection, run, RECIPE) as records:
        records.log(1, {"score": 0.1})
        assert connection.worker.wait(10)
        alive = connection.client.log_batch
        connection.client.log_batch = broken
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            for step in (2, 3, 4):
                records.log(step, {"score": step / 10})
                assert connection.worker.wait(10)
            records.log(5, {"score": 0.5})
        assert [w.category for w in heard] == [RecordsWarning]
        assert "the run goes on" in str(heard[0].message)
        assert f"aftermap runs import {run.folder}" in str(heard[0].message)
        connection.client.log_batch = alive
    assert [step for step, _ in history(connection, records.run_id, "score")] == [1, 2, 3, 4, 5]
    assert entry(connection, records.run_id).info.status == "FINISHED"


def test_a_database_that_stays_dead_costs_no_run(runs, monkeypatch):
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    records = Records(connection, run, RECIPE)
    connection.client.log_batch = broken
    records.log(1, {"score": 0.1})
    with pytest.warns(RecordsWarning, match="server closed the connection"):
        records.finish()
    assert run.facts()["status"] == "complete"


def test_a_database_that_hangs_is_not_waited_for(runs, monkeypatch):
    monkeypatch.setattr(module, "FINISH_SECONDS", 0.3)
    run = start(runs / "a")
    connection = connect(RecordsConfig(), run.folder)
    with pytest.warns(RecordsWarning, match="no answer within"), Records(connection, run, RECIPE) as records:
        connection.worker.submit(lambda: time.sleep(3))
        records.log(1, {"score": 0.1})
    assert run.facts()["status"] == "complete"


def broken(*_, **__):
    raise ConnectionError("server closed the connection")


class Recipe(RecordsConfig):
    """A recipe that consists of its records part."""


def test_a_recipe_is_written_without_the_password(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_RECIPE_VARIABLES", "MY_HOOK,PART,DATABASE_URL,PGPASS")
    monkeypatch.setenv("DATABASE_URL", "postgresql://bob:opensesame@db/runs")
    monkeypatch.setenv("PGPASS", "opensesame")
    (tmp_path / "whole.yaml").write_text("uri: ${DATABASE_URL}\n")
    (tmp_path / "part.yaml").write_text("uri: postgresql://bob:${PGPASS}@db:5432/runs\n")
    whole, part = (load_config(Recipe, tmp_path / f"{name}.yaml") for name in ("whole", "part"))
    assert whole.uri.get_secret_value() == "postgresql://bob:opensesame@db/runs"
    assert whole.model_dump(mode="json")["uri"] == "${DATABASE_URL}"
    assert part.model_dump(mode="json")["uri"] == "postgresql://bob:***@db:5432/runs"
    assert "opensesame" not in repr(whole) + repr(part) + repr(
        find_store(part.uri.get_secret_value(), tmp_path)
    )


def test_a_recipe_without_its_password_asks_for_the_address(tmp_path, monkeypatch):
    with pytest.raises(RecordsError, match="keeps no password of postgresql://bob"):
        find_store("postgresql://bob:***@db/runs", tmp_path / "run")
    monkeypatch.setenv("AFTERMAP_TRACKING", "postgresql://bob:pw@db/runs")
    assert find_store("postgresql://bob:***@db/runs", tmp_path / "run").uri.endswith("bob:pw@db/runs")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://bob:a@b/c@host:5/db", "postgresql://bob:***@host:5/db"),
        ("https://token@host/x", "https://***@host/x"),
        (
            "postgresql://host/db?user=bob&password=x&sslmode=on",
            "postgresql://host/db?user=bob&password=***&sslmode=on",
        ),
        ("sqlite:////data/runs/mlflow.db", "sqlite:////data/runs/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_passwords(address, shown):
    assert hide_secrets(address) == shown


def test_the_checksum_follows_the_files_and_not_their_place_or_order(tmp_path):
    a, b = (
        Scene(name=n, event="e", pre=tmp_path / f"{n}.png", width=8, height=8, checksums={"pre": "1"})
        for n in "ab"
    )
    moved = a.model_copy(update={"pre": Path("/elsewhere/a.png")})
    changed = a.model_copy(update={"checksums": {"pre": "2"}})
    assert data_checksum([a, b]) == data_checksum([b, moved])
    assert data_checksum([a, b]) != data_checksum([changed, b])


def test_recording_calls_nobody_and_prints_nothing(tmp_path):
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from pathlib import Path\n"
        "from aftermap.learning.experiments.records import Records\n"
        "from aftermap.learning.run import Run\n"
        "from aftermap.learning.experiments.tracking import RecordsConfig, connect\n"
        "folder = Path(sys.argv[1])\n"
        "connection = connect(RecordsConfig(), folder)\n"
        "with Records(connection, Run.start(folder, '', {}), {'name': 'x'}) as records: records.log(1, {'score': 1})\n"
        "import mlflow.telemetry as t; assert t.get_telemetry_client() is None\n"
    )
    environment = {
        k: v for k, v in os.environ.items() if k not in ("CI", "PYTEST_CURRENT_TEST", "AFTERMAP_TRACKING")
    }
    done = subprocess.run(
        [forked_python(), "-c", code, str(tmp_path / "runs" / "a")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    assert json.loads((tmp_path / "runs" / "a" / "run.json").read_text())["status"] == "complete"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["train", "a.yaml", "optimizer.lr=0.1", "-o", "runs/a"], "train a.yaml optimizer.lr=0.1 -o runs/a"),
        (["train", "notify.urls=[slack://A/B/C]"], "train 'notify.urls=***'"),
        (["run", "each.records.uri=postgresql://bob:pw@db/x"], "run 'each.records.uri=***'"),
        (["runs", "--store", "postgresql://bob:pw@db/x"], "runs --store 'postgresql://bob:***@db/x'"),
    ],
)
def test_command_lines_are_kept_without_secrets(words, shown):
    assert safe_command(words) == shown


def test_off_comes_back_from_yaml_as_a_word(monkeypatch):
    from aftermap.learning.experiments.tracking import RecordsConfig

    assert RecordsConfig.model_validate({"uri": False}).uri.get_secret_value() == "off"
