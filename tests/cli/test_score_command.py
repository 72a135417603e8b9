"""The score command: what it prints and writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aftermap.cli.app import main
from aftermap.cli.score import score
from aftermap.errors import DataError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two scenes: all right but for one of four destroyed pixels; major-damage is absent."""
    for number in range(2):
        target = np.array([[1, 1, 2, 2], [4, 4, 0, 0]], np.uint8)
        prediction = target.copy()
        prediction[1, 1] = 4 if number else 2
        for role, damage in (("prediction", prediction), ("target", target)):
            (tmp_path / role).mkdir(exist_ok=True)
            for kind, mask in (("damage", damage), ("localization", (damage > 0).astype(np.uint8))):
                Image.fromarray(mask).save(tmp_path / role / f"town-{number}_00_{kind}_{role}.png")
    return tmp_path / "prediction", tmp_path / "target"


def test_json_holds_the_official_figures_and_nothing_else_is_printed(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    score(*folders, json=True)
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    destroyed, minor = 6 / 7, 8 / 9
    damage = 4 / sum(1 / (f1 + 1e-6) for f1 in (1, minor, 0, destroyed))
    assert figures["damage_f1_per_class"] == pytest.approx(
        {"no-damage": 1, "minor-damage": minor, "major-damage": 0, "destroyed": destroyed}
    )
    assert figures["localization_f1"] == 1
    assert figures["damage_f1"] == pytest.approx(damage)
    assert figures["score"] == pytest.approx(0.3 + 0.7 * damage)
    assert figures["absent_class_rule"]["absent_classes"] == ["major-damage"]
    assert printed.err == ""


def test_the_table_shows_official_and_rule_side_by_side(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    score(*folders)
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("│ score"))
    assert "0.3000" in line
    present = 3 / (1 + 9 / 8 + 7 / 6)
    assert f"{0.3 + 0.7 * present:.4f}" in line
    assert "absent" in next(line for line in printed.splitlines() if "major-damage" in line)
    assert "takes no part" in " ".join(printed.split())
    assert "town-1" in printed


def test_out_gets_the_json_that_is_printed(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(*folders, json=True, out=tmp_path / "out")
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "score.json").read_text())
    assert (tmp_path / "out" / "score.png").stat().st_size > 10_000


def test_bootstrap_0_leaves_intervals_out(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    score(*folders, json=True, bootstrap=0)
    assert json.loads(capsys.readouterr().out)["intervals"] == {}


def test_a_mistake_is_an_input_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        score(folders[0], tmp_path / "absent")


@pytest.mark.parametrize(
    "options", [["--iou", "1.5"], ["--bootstrap", "-1"], ["--seed", "-1"], ["--events", "absent.csv"]]
)
def test_a_wrong_option_is_one_line_and_exit_code_2(
    folders: tuple[Path, Path], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["score", *map(str, folders), *options])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
