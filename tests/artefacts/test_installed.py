"""Models of installed packages are found by name without running the package; a missing `field` says how to get it."""

import shutil
import sys
from pathlib import Path

import pytest

import aftermap
from aftermap.artefacts.installed import installed_model, installed_models
from aftermap.artefacts.store import load_card, model_folder
from aftermap.cli.app import main
from aftermap.errors import ModelError

ROOT = Path(__file__).resolve().parents[2]
BOX = ROOT / "src" / "aftermap" / "box"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package that offers a model, as pip leaves it."""

    def put(name, module, *, model=True):
        site = tmp_path / "site"
        (site / module).mkdir(parents=True)
        (site / module / "__init__.py").write_text("raise AssertionError('nothing is imported')\n")
        if model:
            (site / module / "model").mkdir()
            for file in ("card.json", "model.safetensors"):
                shutil.copy(BOX / file, site / module / "model" / file)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[aftermap.models]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(str(site))
        return site / module / "model"

    return put


def test_a_package_offers_a_model_by_name(install):
    folder = install("dunes", "made_dunes")
    assert installed_models()["dunes"] == folder
    assert model_folder("dunes") == folder and load_card("dunes").name == "aftermap-box"
    assert aftermap.open_model("dunes").sha256 == aftermap.open_model("box").sha256
    assert "made_dunes" not in sys.modules


def test_a_folder_of_that_name_comes_first(install, tmp_path, monkeypatch):
    install("dunes", "made_dunes")
    monkeypatch.chdir(tmp_path)
    Path("dunes").mkdir()
    assert model_folder("dunes") == Path("dunes")


def test_a_package_without_a_model_offers_none(install):
    install("dunes", "made_dunes", model=False)
    assert installed_model("dunes") is None


def test_a_module_within_a_package_is_not_looked_for(install):
    install("dunes", "made_dunes")
    install("deep", "made_deep")
    entry = Path(sys.path[0]) / "made_deep-1.0.dist-info" / "entry_points.txt"
    entry.write_text("[aftermap.models]\ndeep = made_deep.inside\n")
    assert installed_model("deep") is None and "made_deep" not in sys.modules


def test_a_missing_field_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("aftermap.artefacts.installed.entry_points", lambda **_: ())
    with pytest.raises(ModelError, match=r"pip install \./packages/aftermap-field"):
        model_folder("field")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "map",
                str(tmp_path / "a.png"),
                str(tmp_path / "b.png"),
                "-m",
                "field",
                "-o",
                str(tmp_path / "o"),
            ]
        )
    assert stop.value.code == 2
    assert "CC BY-NC-SA 4.0" in " ".join(capsys.readouterr().err.split())
