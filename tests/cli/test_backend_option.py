"""The same map from every backend, and what the commands say about the one they took."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest

import colour_town as colours
from aftermap.cli.app import main
from aftermap.cli.running import PrecisionName, Running
from aftermap.inference.backends import auto
from aftermap.workflows.mapping import demo

Maps = Callable[..., Path]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return colours.write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory, pair: tuple[Path, Path]) -> Maps:
    """Run `aftermap map` with the given options; returns its folder."""
    root = tmp_path_factory.mktemp("maps")
    model = colours.save_colour_model(root / "colours")

    def run(name: str, *options: str) -> Path:
        common = ["--model", str(model), "--window", "96", *options]
        with pytest.raises(SystemExit) as stopped:
            main(["map", *map(str, pair), "-o", str(root / name), *common])
        assert stopped.value.code == 0
        return root / name

    return run


@pytest.fixture(scope="module")
def by_torch(maps: Maps) -> Path:
    return maps("torch", "--backend", "torch", "--threads", "1")


def execution(folder: Path) -> dict[str, object]:
    told: dict[str, object] = json.loads((folder / "provenance.json").read_text())["execution"]
    return told


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_table_of_buildings_is_that_of_torch(maps: Maps, by_torch: Path, backend: str) -> None:
    folder = maps(backend, "--backend", backend, "--threads", "1")
    expected, found = (pandas.read_csv(path / "buildings.csv") for path in (by_torch, folder))
    names = ["building_id", "damage", "model_sha256", "reason", "mode"]
    pandas.testing.assert_frame_equal(found[names], expected[names])
    numbers = [
        "p_no_damage",
        "p_minor",
        "p_major",
        "p_destroyed",
        "confidence",
        "seen",
        "area_m2",
        "lon",
        "lat",
    ]
    np.testing.assert_allclose(found[numbers], expected[numbers], atol=1e-4)
    assert execution(folder)["backend"] == backend


def test_the_provenance_tells_backend_threads_and_precision(by_torch: Path) -> None:
    assert execution(by_torch) == {"backend": "torch", "device": "cpu", "threads": 1, "precision": "f32"}
    options = json.loads((by_torch / "provenance.json").read_text())["options"]
    assert (options["backend"], options["precision"]) == ("torch", "auto")


def test_auto_says_in_one_line_what_it_took_and_why(
    maps: Maps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AFTERMAP_BACKEND")
    monkeypatch.setattr(auto, "_settled", {})
    told = execution(maps("auto", "--json"))
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("backend ")]
    assert len(lines) == 1 and lines[0].startswith(f"backend {told['backend']}: ")
    assert set(told["auto"]["seconds"]) == {"torch", "onnxruntime", "openvino"}  # type: ignore[index]
    assert json.loads(printed.out)["summary"]["buildings"] == 16


def test_another_backend_does_not_continue_a_map(
    tmp_path: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from aftermap.workflows.mapping.damage import map_damage

    model = colours.save_colour_model(tmp_path / "colours")

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "predicting" and 0 < done < total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_damage(*pair, tmp_path / "map", model=model, window_px=96, progress=stop)
    with pytest.raises(SystemExit) as stopped:
        options = ["--model", str(model), "--window", "96", "--resume", "--backend", "openvino"]
        main(["map", *map(str, pair), "-o", str(tmp_path / "map"), *options])
    assert stopped.value.code == 2 and "a run with other backend" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "meant"), [("fp32", "f32"), ("fp16", "f16"), ("bf16", "bf16"), ("auto", "auto")]
)
def test_precision_may_be_called_as_in_trainings(said: PrecisionName, meant: str) -> None:
    assert Running(precision=said).options().precision == meant


def test_a_backend_that_does_not_fit_is_one_line(
    tmp_path: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = colours.save_colour_model(tmp_path / "colours")
    with pytest.raises(SystemExit) as stopped:
        options = ["--model", str(model), "--backend", "onnxruntime", "--precision", "bf16"]
        main(["map", *map(str, pair), "-o", str(tmp_path / "map"), *options])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and not (tmp_path / "map").exists()
    assert told == "aftermap: onnxruntime does not run in bf16 on a processor: use --precision f32\n"


def test_the_demo_hands_its_backend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopHereError(Exception):
        pass

    def stop(*_: object, **options: object) -> None:
        assert options["backend"] == "openvino"
        raise StopHereError

    monkeypatch.setattr(demo, "map_damage", stop)
    with pytest.raises(StopHereError):
        demo.run_demo(tmp_path / "demo", size_px=256, backend="openvino")
