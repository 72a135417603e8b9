from pathlib import Path

import pytest

import colour_town as colours
from aftermap.errors import OutputError
from aftermap.workflows.mapping.demo import run_demo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.save_colour_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.mark.filterwarnings("ignore::aftermap.errors.AftermapWarning")
def test_a_demo_maps_a_struck_town_and_scores_every_building(tmp_path: Path, model: Path) -> None:
    result = run_demo(tmp_path / "demo", seed=3, model=model, size_px=384)
    assert set(result.scene.polygons) - {"no-damage"}
    told = result.as_dict()
    assert 0 <= told["scores"]["score"] <= 1
    assert told["scores"]["buildings"]["buildings"] > 0
    assert (tmp_path / "demo" / "map" / "map.html").is_file()


@pytest.mark.filterwarnings("ignore::aftermap.errors.AftermapWarning")
def test_a_second_demo_replaces_the_first_and_is_the_same(tmp_path: Path, model: Path) -> None:
    first = run_demo(tmp_path / "demo", seed=5, model=model, size_px=256)
    (tmp_path / "demo" / "map" / "project.qgz").write_text("hours of work")
    second = run_demo(tmp_path / "demo", seed=5, model=model, size_px=256)
    assert (tmp_path / "demo" / "map" / "project.qgz").read_text() == "hours of work"
    assert first.scores.as_dict() == second.scores.as_dict()
    assert first.scene.checksums == second.scene.checksums


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path, model: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="exists and is not a demo"):
        run_demo(tmp_path, seed=1, model=model, size_px=64)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
