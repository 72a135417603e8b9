"""The runs command: what it prints and writes."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from aftermap.cli.app import main
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import RecordsConfig, connect
from aftermap.learning.run import Run


@pytest.fixture(scope="module")
def project(tmp_path_factory, empty_database):
    """A folder with `runs/mlflow.db` and two runs in it."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.delenv("AFTERMAP_TRACKING", raising=False)
    root = tmp_path_factory.mktemp("project")
    (root / "runs").mkdir()
    for name in ("mlflow.db", "empty.db"):
        shutil.copy(empty_database, root / "runs" / name)
    for name, lr, score in (("damage-resnet34", 0.1, 0.625), ("damage-dpn92", 0.2, 0.5)):
        recipe = {"name": name, "task": "damage", "optimizer": {"lr": lr}}
        run = Run.start(root / "runs" / name, yaml.safe_dump(recipe), {})
        with Records(connect(RecordsConfig(), run.folder), run, recipe) as records:
            values = {"loss": 0.5, "lr": lr, "score": score, "localization_f1": 0.75, "f1_destroyed": score}
            run.append_metrics({"step": 10, **values})
            records.log(10, values)
    monkeypatch.undo()
    return root


@pytest.fixture
def command(project, monkeypatch, capsys):
    """Runs `aftermap runs ...` in the project; gives exit code, output and errors."""
    monkeypatch.delenv("AFTERMAP_TRACKING", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(project)

    def call(*words):
        with pytest.raises(SystemExit) as stopped:
            main(["runs", *map(str, words)])
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    return call


def ids(command):
    return {run["name"]: run["id"] for run in json.loads(command("--json")[1])}


def test_alone_it_lists_the_runs(command):
    code, out, err = command()
    lines = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert lines[0] == ["id", "name", "status", "started", "(UTC)", "task", "score", "loc", "F1", "time"]
    row = next(line for line in lines if "damage-resnet34" in line)
    assert row[0] == ids(command)["damage-resnet34"][:8]
    assert (row[2], row[5], row[6], row[7]) == ("complete", "damage", "0.6250", "0.7500")


def test_a_narrow_terminal_keeps_id_name_status_and_score(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = command()
    assert out.splitlines()[0].split() == ["id", "name", "status", "score", "time"]
    assert "damage-resnet34" in out and "0.6250" in out


def test_json_holds_every_fact_and_nothing_else_is_printed(command):
    code, out, err = command("--where", "metrics.best_score > 0.6", "--json")
    (run,) = json.loads(out)
    assert (code, err) == (0, "")
    assert (run["name"], run["status"], run["score"]) == ("damage-resnet34", "complete", 0.625)
    assert run["parameters"]["optimizer.lr"] == "0.1"
    assert run["metrics"]["f1_destroyed"] == 0.625


def test_filters_that_nothing_fits_say_so(command):
    assert command("--status", "failed")[1].strip().endswith("mlflow.db fit")


def test_compare_shows_what_differs(command):
    code, out, _ = command("compare", "damage-resnet34", "damage-dpn92")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["optimizer.lr", "0.1", "0.2"] in lines
    assert ["score", "0.6250", "0.5000"] in lines
    assert not any(line[:1] == ["task"] for line in lines)
    document = json.loads(command("compare", "damage-resnet34", "damage-dpn92", "--json")[1])
    assert document["metrics"]["score"] == [0.625, 0.5]
    assert document["parameters"]["optimizer.lr"] == ["0.1", "0.2"]


def test_plot_and_export_write_files(command, tmp_path):
    assert command("plot", "damage-resnet34", "damage-dpn92", "-o", tmp_path / "runs.png")[0] == 0
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("export", "--name", "dpn", "-o", tmp_path / "runs.csv")
    assert (code, out.startswith("wrote 1 run to")) == (0, True)
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 2


def test_import_records_a_folder_in_another_database(command, project, tmp_path):
    shutil.copy(project / "runs" / "empty.db", tmp_path / "other.db")
    folder = project / "runs" / "damage-dpn92"
    code, out, _ = command("import", folder, "--store", tmp_path / "other.db")
    assert code == 0
    (run,) = json.loads(command("--store", tmp_path / "other.db", "--json")[1])
    assert run["id"].startswith(out.split(" is run ")[1][:8])
    assert (run["name"], run["score"]) == ("damage-dpn92", 0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--where", "score is good"), "cannot be answered"),
        (("--store", "absent.db"), "there is no experiment database"),
        (("--store", "postgresql://bob:opensesame@127.0.0.1:1/runs"), "cannot be used"),
        (("compare", "damage-resnet34"), "at least two runs"),
        (("compare", "damage-resnet34", "nothing"), "no run is called nothing"),
        (("plot", "-o", "a.png"), "at least one run"),
        (("import", "absent"), "absent is no run folder"),
        (("import",), "at least one run folder"),
        (("ui", "--store", "absent.db"), "there is no experiment database"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command, words, said):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert "opensesame" not in err


def test_help_loads_neither_mlflow_nor_apprise():
    code = (
        "import sys, contextlib, io\n"
        "from aftermap.cli.app import main\n"
        "for words in (['--help'], ['runs', '--help']):\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(words)\n"
        "print([m for m in ('mlflow', 'apprise', 'sqlalchemy', 'torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
