import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

import colour_town as colours
from aftermap.cli.app import main
from aftermap.geo.grid import Grid

Fails = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.save_roof_model(tmp_path_factory.mktemp("models") / "roofs")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.write_town(tmp_path_factory.mktemp("town"))[0]


@pytest.fixture
def fails(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run `aftermap map`: it must exit 2 with one line, which is returned, and leave nothing behind."""

    def run(*words: str | Path) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["map", *map(str, words), "-o", str(tmp_path / "map"), "--model", str(model)])
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and printed.out == ""
        lines = [line for line in printed.err.splitlines() if line.startswith("aftermap: ")]
        assert len(lines) == 1 and printed.err.rstrip().endswith(lines[0])
        assert not (tmp_path / "map").exists() and not (tmp_path / "map.work").exists()
        return lines[0]

    return run


def test_damage_of_one_date(fails: Fails, image: Path) -> None:
    assert "needs two dates: pass the image from after too, or --task buildings" in fails(image)


def test_buildings_of_two_dates(fails: Fails, image: Path) -> None:
    assert "--task buildings maps one date, found a second image" in fails(
        image, image, "--task", "buildings"
    )


def test_an_alignment_of_one_date(fails: Fails, image: Path) -> None:
    assert "--align off is about two dates" in fails(image, "--task", "buildings", "--align", "off")


def test_degrees_for_metres(fails: Fails, image: Path) -> None:
    line = fails(image, "--task", "buildings", "--resolution", "0.0000027")
    assert "--resolution 2.7e-06 would be metres in EPSG:32615: pass metres such as 0.3" in line


def test_metres_for_degrees(tmp_path: Path, fails: Fails) -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(4.5e-6, 0, 32.6, 0, -4.5e-6, 0.26), 64, 64)
    path = colours.write_image(tmp_path / "degrees.tif", np.zeros((3, 64, 64), np.uint8), grid)
    line = fails(path, "--task", "buildings", "--resolution", "0.3")
    assert "--resolution 0.3 would be degrees in EPSG:4326: pass degrees such as 2.7e-06" in line


def test_sixteen_bits_without_a_stretch(tmp_path: Path, fails: Fails) -> None:
    pixels = np.zeros((3, 64, 64), np.uint16)
    path = colours.write_image(tmp_path / "deep.tif", pixels, colours.town_grid(64))
    assert "holds uint16 values, the model expects uint8" in fails(path, "--task", "buildings")


def test_one_band(tmp_path: Path, fails: Fails) -> None:
    path = colours.write_image(tmp_path / "grey.tif", np.zeros((1, 64, 64), np.uint8), colours.town_grid(64))
    assert "grey.tif has 1 band, the model expects 3" in fails(path, "--task", "buildings")


def test_a_smallest_area_that_is_none(fails: Fails, image: Path) -> None:
    assert "--min-area -1 is no area" in fails(image, "--task", "buildings", "--min-area", "-1")


def test_json_prints_the_summary_and_nothing_else(
    tmp_path: Path, model: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["map", str(image), "--task", "buildings", "-o", str(tmp_path / "map"), "--model", str(model)]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--no-part-touching", "--min-area", "5", "--json"])
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["buildings"] == 16 and told["summary"]["grades"]["sure"]["buildings"] == 16
    options = json.loads((tmp_path / "map" / "provenance.json").read_text())["options"]
    assert options["part_touching"] is False and options["min_area_m2"] == 5


def test_the_table_shows_buildings_by_confidence(
    tmp_path: Path, model: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["map", str(image), "--task", "buildings", "-o", str(tmp_path / "map"), "--model", str(model)])
    printed = capsys.readouterr().out
    assert "16 buildings on 1,600 m2" in printed and "doubtful" in printed
    assert f"open {tmp_path / 'map' / 'map.html'}" in printed
