"""What is read back from the experiment database: lists, comparisons, pictures, tables, imports."""

import contextlib
import csv
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from aftermap.errors import MissingExtraError, OutputError, RecordsError
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import RecordsConfig, Store, connect, file_store, open_store
from aftermap.learning.run import Run
from aftermap.workflows.training.runs import (
    chosen_store,
    compare_runs,
    export_csv,
    find_runs,
    import_run,
    list_runs,
    open_records,
    plot_runs,
    ui_command,
    ui_environment,
)


def make_run(folder, name, *, lr, scores, task="damage", fails=False, epochs=False):
    recipe = {"name": name, "task": task, "optimizer": {"lr": lr, "clip": 1.0}}
    run = Run.start(folder, yaml.safe_dump(recipe), {"seed": 3})
    connection = connect(RecordsConfig(), folder)
    with contextlib.suppress(RuntimeError), Records(connection, run, recipe) as records:
        for number, score in enumerate(scores, 1):
            values = {"loss": 1 / number, "lr": lr, "score": score, "localization_f1": score + 0.1}
            values |= {"f1_no-damage": score / 2} | ({"epoch": number} if epochs else {})
            run.append_metrics({"step": 100 * number, **values})
            records.log(100 * number, values)
        if fails:
            raise RuntimeError("no memory")
    return records.run_id


@pytest.fixture
def other(tmp_path, empty_database):
    """An empty database."""
    return open_store(file_store(Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))))


@pytest.fixture(scope="module")
def made(tmp_path_factory, empty_database):
    """A folder `runs` with three runs, and their ids."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.delenv("AFTERMAP_TRACKING", raising=False)
    folder = tmp_path_factory.mktemp("project") / "runs"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    ids = {
        "first": make_run(folder / "a", "damage", lr=0.1, scores=[0.2, 0.6, 0.5]),
        "second": make_run(folder / "b", "damage", lr=0.2, scores=[0.3], fails=True),
        "loc": make_run(
            folder / "c", "localization", lr=0.1, scores=[0.8, 0.7], task="building", epochs=True
        ),
    }
    monkeypatch.undo()
    return folder, ids


@pytest.fixture
def connection(made):
    return open_store(file_store(made[0] / "mlflow.db"))


def ids_of(runs):
    return [run.id for run in runs]


def test_runs_are_listed_the_newest_first_with_the_metrics_of_the_kept_step(made, connection):
    runs = list_runs(connection)
    assert set(ids_of(runs)) == set(made[1].values())
    assert [run.started for run in runs] == sorted((run.started for run in runs), reverse=True)
    first = next(run for run in runs if run.id == made[1]["first"])
    assert (first.name, first.status, first.score) == ("damage", "complete", 0.6)
    assert first.metrics == {
        "loss": 0.5,
        "lr": 0.1,
        "score": 0.6,
        "localization_f1": pytest.approx(0.7),
        "f1_no-damage": 0.3,
    }
    assert first.parameters == {
        "name": "damage",
        "task": "damage",
        "optimizer.lr": "0.1",
        "optimizer.clip": "1.0",
    }
    assert first.minutes > 0
    assert first.tags["run_folder"] == str(made[0] / "a")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"where": "metrics.best_score > 0.5"}, {"first", "loc"}),
        ({"where": "metrics.score > 0.55"}, {"loc"}),
        ({"where": "metrics.`best_f1_no-damage` < 0.2"}, {"second"}),
        ({"where": "params.`optimizer.lr` = '0.1' and tags.task = 'damage'"}, {"first"}),
        ({"status": "failed"}, {"second"}),
        ({"name": "local"}, {"loc"}),
        ({"name": "d*e"}, {"first", "second"}),
        ({"name": "damage", "where": "metrics.best_score > 0.5"}, {"first"}),
    ],
)
def test_filters_choose_runs(made, connection, filters, expected):
    names = {run_id: name for name, run_id in made[1].items()}
    assert {names[run_id] for run_id in ids_of(list_runs(connection, **filters))} == expected


def test_a_limit_keeps_the_newest(connection):
    assert ids_of(list_runs(connection, limit=2)) == ids_of(list_runs(connection))[:2]


def test_a_filter_that_makes_no_sense_is_refused(connection):
    with pytest.raises(
        RecordsError, match=r"the filter 'metrics.score >> 1' cannot be answered: .*comparator"
    ):
        list_runs(connection, where="metrics.score >> 1")


def test_runs_are_found_by_id_name_and_folder(made, connection):
    folder, ids = made
    keys = [ids["first"][:8], "localization", str(folder / "b")]
    assert ids_of(find_runs(connection, keys)) == [ids["first"], ids["loc"], ids["second"]]
    with pytest.raises(RecordsError, match="2 runs are called damage: name one by its id"):
        find_runs(connection, ["damage"])
    with pytest.raises(RecordsError, match="no run is called nothing"):
        find_runs(connection, ["nothing"])


def test_a_comparison_holds_what_differs(made, connection):
    _, ids = made
    comparison = compare_runs(find_runs(connection, [ids["first"], ids["second"], ids["loc"]]))
    assert comparison.parameters == {
        "name": ("damage", "damage", "localization"),
        "task": ("damage", "damage", "building"),
        "optimizer.lr": ("0.1", "0.2", "0.1"),
    }
    assert comparison.metrics["score"] == (0.6, 0.3, 0.8)
    assert comparison.metrics["epoch"] == (None, None, 1.0)


def test_a_picture_shows_curves_and_bars_in_the_runs_colours(made, connection, tmp_path):
    _, ids = made
    path = plot_runs(connection, find_runs(connection, [ids["first"], ids["loc"]]), tmp_path / "runs.png")
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
        rows, cols = np.nonzero(np.abs(image - colour).max(axis=2) < 12)
        assert len(rows) > 500
        assert rows.max() - rows.min() > image.shape[0] / 2
        assert cols.max() - cols.min() > image.shape[1] / 2


def test_curves_go_by_epoch_where_all_runs_count_epochs(made, connection, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "aftermap.workflows.training.runs.draw_runs", lambda *words, **named: drawn.append((words, named))
    )
    _, ids = made
    plot_runs(connection, find_runs(connection, [ids["loc"]]), tmp_path / "a.png")
    plot_runs(connection, find_runs(connection, [ids["loc"], ids["first"]]), tmp_path / "b.png")
    (_, (alone,)), named = drawn[0]
    assert alone.series["score"] == [(1, 0.8), (2, 0.7)]
    assert named == {"title": "localization", "axis": "epoch"}
    (_, both), named = drawn[1]
    assert both[0].series["score"] == [(100, 0.8), (200, 0.7)]
    assert named == {"title": "2 runs", "axis": "step"}


def test_the_table_has_a_line_per_run(made, connection, tmp_path):
    path = export_csv(list_runs(connection), tmp_path / "runs.csv")
    with path.open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    failed = rows[made[1]["second"]]
    assert (failed["status"], failed["reason"]) == ("failed", "RuntimeError: no memory")
    assert (failed["params.optimizer.lr"], failed["metrics.f1_no-damage"]) == ("0.2", "0.15")
    assert failed["metrics.epoch"] == ""
    assert len(rows) == 3


def test_a_table_that_cannot_be_written_is_said(connection, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        export_csv(list_runs(connection), tmp_path / "absent" / "runs.csv")


def test_a_run_folder_is_imported_once_however_often(made, connection, other, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made[0] / "b", folder)
    first = import_run(other, folder)
    assert import_run(other, folder) == first
    (there,) = list_runs(other)
    (here,) = find_runs(connection, [made[1]["second"]])
    assert (there.name, there.status, there.started) == (here.name, here.status, here.started)
    assert (there.parameters, there.metrics) == (here.parameters, here.metrics)
    assert there.tags["reason"] == "RuntimeError: no memory"
    history = other.client.get_metric_history(first, "score")
    assert [(point.step, point.value) for point in history] == [(100, 0.3)]


def test_an_imported_run_ends_when_it_ended(other, tmp_path):
    facts = {"started": "2026-05-01T10:00:00+00:00", "status": "complete", "minutes": 30.0}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text(json.dumps(facts))
    (tmp_path / "old" / "recipe.yaml").write_text("name: old\n")
    info = other.client.get_run(import_run(other, tmp_path / "old")).info
    assert (info.start_time, info.end_time - info.start_time) == (1777629600000, 30 * 60_000)


@pytest.mark.parametrize(
    "files", [{}, {"run.json": "{"}, {"run.json": "[]"}, {"run.json": "{}", "recipe.yaml": "a: b"}]
)
def test_a_folder_that_is_no_run_is_not_imported(files, connection, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RecordsError, match="is no run folder"):
        import_run(connection, tmp_path)


def test_the_database_is_looked_for_in_runs_then_here(tmp_path, monkeypatch):
    monkeypatch.delenv("AFTERMAP_TRACKING", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordsError, match=r"no experiment database runs/mlflow.db or mlflow.db here"):
        open_records(None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").touch()
    assert chosen_store(None).uri == f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").touch()
    assert chosen_store(None).uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("AFTERMAP_TRACKING", "http://host:5000")
    assert chosen_store(None).uri == "http://host:5000"
    assert chosen_store("mlflow.db").uri == f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(RecordsError, match=r"there is no experiment database .*nothing.db"):
        chosen_store("nothing.db")


def test_the_pages_are_served_from_the_same_database(made, unused_port):
    pytest.importorskip("flask")
    command = ui_command("127.0.0.1", unused_port)
    environment = ui_environment(file_store(made[0] / "mlflow.db"))
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = f"http://127.0.0.1:{unused_port}/api/2.0/mlflow/runs/get?run_id={made[1]['loc']}"
        for _ in range(300):
            assert server.poll() is None
            try:
                with urllib.request.urlopen(page, timeout=5) as answer:
                    found = json.load(answer)
                break
            except OSError:
                time.sleep(0.2)
        assert found["run"]["info"]["run_name"] == "localization"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_password_goes_to_the_pages_by_environment_only(unused_port):
    pytest.importorskip("flask")
    store = Store("postgresql+pg8000://bob:opensesame@db/runs", None)
    assert "opensesame" not in " ".join(ui_command("127.0.0.1", unused_port))
    environment = ui_environment(store)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == store.uri
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["PATH"] == os.environ["PATH"]


def test_pages_that_are_not_installed_or_a_taken_port_are_said(monkeypatch, unused_port):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RecordsError, match="pass another --port"):
            ui_command("127.0.0.1", taken.getsockname()[1])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'aftermap\[track\]'"):
        ui_command("127.0.0.1", unused_port)
