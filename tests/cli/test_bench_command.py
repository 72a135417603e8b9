"""The bench command: what it prints, writes and exits with. Nothing is timed here."""

import json

import pytest

from aftermap.cli.app import main
from aftermap.cli.models.bench import bench
from aftermap.workflows.bench import run as benchmark

OPTIONS = [
    "--backend",
    "torch,openvino",
    "--batch",
    "1,4",
    "--size",
    "512",
    "--threads",
    "2",
    "--tta",
    "flips",
]
OPTIONS += ["--precision", "bf16", "--seconds", "30"]
KEYS = {"model", "backend", "size", "batch", "seconds_median", "peak_mb", "parameters", "gmacs"}


@pytest.fixture
def asked(monkeypatch):
    """Settings that the command hands on; `report` is what comes back."""
    calls = []
    estimate = {"median": 1.0, "low": 1.0, "high": 1.0}
    entry = {
        **dict.fromkeys(("size", "batch", "parameters", "file_bytes"), 1),
        **dict.fromkeys(
            ("seconds_median", "seconds_per_scene", "seconds_p95", "peak_mb", "gmacs", "gflops"), 1.0
        ),
        **{
            "model": "box",
            "backend": "torch",
            "arithmetic": "f32",
            "dates": 2,
            "tta": "none",
            "stable": True,
        },
        **{"seconds_interval": [0.9, 1.1], "times_as_fast": estimate, "ceiling_share": estimate},
        **{"cold_start_seconds": 3.0, "scores": {"official_score": 0.5}},
    }
    machine = {
        **{"cpu": "Some Processor", "cores": 2, "gpu": None, "versions": {"torch": "2"}, "load_before": 0.0},
        **{"shared_with_other_work": False, "ceilings_gflops": {"f32": estimate}},
    }
    report = {
        "machine": machine,
        "settings": {"size": 1024, "threads": 2, "scored_on": "real (test)"},
        "ended": "stable",
        "entries": [entry],
        "failures": [],
    }

    def pretend(models, settings, *, on_progress):
        on_progress("1/1 starting box")
        calls.append((models, settings))
        return report

    monkeypatch.setattr(benchmark, "bench", pretend)
    return calls, report


def test_json_is_all_that_is_printed_and_progress_goes_to_standard_error(asked, capsys):
    assert bench("box", json_output=True) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert set(report["entries"][0]) >= KEYS
    assert "starting box" in printed.err


def test_options_reach_the_timing(asked, capsys):
    calls, _ = asked
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "box", "reference:xview2-resnet34-damage", *OPTIONS])
    assert stopped.value.code == 0
    ((models, settings),) = calls
    assert models == ("box", "reference:xview2-resnet34-damage")
    assert (settings.backends, settings.batches, settings.size_px) == (("torch", "openvino"), (1, 4), 512)
    assert (settings.threads, settings.tta, settings.precision) == (2, "flips", "bf16")
    assert settings.seconds == 30
    assert "0.500" in capsys.readouterr().out


def test_out_gets_numbers_table_and_picture(asked, tmp_path, capsys):
    bench("box", out=tmp_path / "new" / "out", json_output=True)
    files = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert files == ["bench.json", "bench.md", "score-time.png"]
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "new/out/bench.json").read_text())
    assert "| box | torch | 1 ±10.0 % |" in (tmp_path / "new/out/bench.md").read_text()


def test_nothing_measured_gives_no_picture_and_exit_code_1(asked, tmp_path, capsys):
    _, report = asked
    failure = {
        "model": "box",
        "backend": "torch",
        "batch": 1,
        "tta": "none",
        "reason": "its process was killed",
    }
    report.update(entries=[], failures=[failure], ended="failed")
    assert bench("box", out=tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]
    assert "its process was killed" in capsys.readouterr().out


def test_an_interrupted_run_prints_what_there_is_and_exits_with_130(asked, capsys):
    asked[1]["ended"] = "interrupted"
    assert bench("box") == 130
    assert "Some Processor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("bench", "no model given"),
        ("bench reference:xview2-resnet43-damage", "similar names are xview2-resnet34-damage"),
        ("bench absent", "no model at absent"),
        ("bench box --backend quick", "--backend 'quick'"),
        ("bench box --batch one", "--batch one is not a list"),
        ("bench box --batch 0", "--batch 0: expected 1 or more"),
        ("bench box --size 0", "--size"),
        ("bench box --device toaster", "no device 'toaster'"),
        ("bench box --data absent", "absent holds no manifest.json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert message in printed.err
