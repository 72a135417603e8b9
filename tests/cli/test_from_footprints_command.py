"""`aftermap data from-footprints`."""

import json

import pytest

from aftermap.cli.app import main
from aftermap.data.scene import Manifest
from towns_in_rasters import HOUSES, write_footprints, write_raster


@pytest.fixture
def town(tmp_path):
    return write_raster(tmp_path / "town.tif"), write_footprints(tmp_path / "houses.geojson")


def run(capsys, *arguments):
    """Exit code, standard output and standard error of the command."""
    with pytest.raises(SystemExit) as stopped:
        main(["data", "from-footprints", *map(str, arguments)])
    shown = capsys.readouterr()
    return stopped.value.code, shown.out, shown.err


def test_tiles_and_picture_come_out(town, tmp_path, capsys):
    code, shown, error = run(capsys, *town, "-o", tmp_path / "out", "--size", 64)
    assert (code, error) == (0, "")
    assert "4 (0 without buildings)" in shown
    assert "the outlines fit best where they are" in shown
    assert len(Manifest.load(tmp_path / "out").scenes) == 4
    assert (tmp_path / "out" / "alignment.png").read_bytes()[:4] == b"\x89PNG"


def test_json_goes_to_standard_output_alone(town, tmp_path, capsys):
    options = ("--size", 64, "--resolutions", "0.5,1", "--json")
    code, shown, error = run(capsys, *town, "-o", tmp_path / "out", *options)
    tree = json.loads(shown)
    assert (code, error) == (0, "")
    assert (tree["tiles"], tree["buildings"], tree["windows"]) == (5, 5, 5)
    assert [entry["clear"] for entry in tree["alignment"]] == [False, False]


def test_shifted_footprints_are_warned_of(tmp_path, capsys):
    houses = [(x, y, x + 12, y + 10) for x in range(16, 240, 30) for y in range(16, 240, 26)]
    image = write_raster(tmp_path / "town.tif", houses, size=256, shift=(6, 3))
    labels = write_footprints(tmp_path / "houses.gpkg", houses)
    code, _, error = run(capsys, image, labels, "-o", tmp_path / "out", "--size", 128, "--json")
    assert code == 0
    assert error.startswith("warning: at 0.5 m per pixel: the buildings lie +6 px across, +3 px down")


def test_empty_areas_alone_have_no_picture(town, tmp_path, capsys):
    code, shown, _ = run(
        capsys, *town, "-o", tmp_path / "out", "--by", "empty", "--margin", 2, "--size", 32, "--json"
    )
    assert (code, json.loads(shown)["picture"]) == (0, None)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--resolutions", "0.000003"], "these are degrees"),
        (["--resolutions", "fine"], "--resolutions fine is not a list of numbers"),
        (["--stretch", "98,2"], "not a pair of percentiles"),
        (["--jpeg-quality", "0"], "--jpeg-quality 0 is out of range"),
        (["--size", "64", "--overlap", "64"], "cannot overlap by 64 px"),
        (["--bands", "1,2"], "picks 2 of the 3 bands of town.tif, the model expects 3"),
        (["--min-valid", "2"], "min_valid"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(town, tmp_path, capsys, options, part):
    code, shown, error = run(capsys, *town, "-o", tmp_path / "out", *options)
    assert (code, shown) == (2, "")
    assert part in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def wrong_inputs(folder):
    """(image, footprints, part of the message) of inputs that do not go together."""
    town, houses = write_raster(folder / "town.tif"), write_footprints(folder / "houses.geojson")
    (folder / "mixed").mkdir()
    write_raster(folder / "mixed" / "a.tif")
    write_raster(folder / "mixed" / "b.tif", bands=4)
    (folder / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    deep = write_raster(folder / "deep.tif", dtype="uint16")
    far = write_footprints(
        folder / "far.geojson", [(x + 40_000, y, right + 40_000, bottom) for x, y, right, bottom in HOUSES]
    )
    return {
        "outside": (town, far, "no footprint lies on the image"),
        "mixed bands": (folder / "mixed", houses, "must be alike"),
        "empty file": (town, folder / "empty.geojson", "no usable polygon"),
        "16 bits": (deep, houses, "--stretch 2,98"),
        "no image": (folder / "nowhere.tif", houses, "cannot read"),
    }


@pytest.mark.parametrize("case", ["outside", "mixed bands", "empty file", "16 bits", "no image"])
def test_inputs_that_do_not_go_together_are_one_line_and_exit_2(tmp_path, capsys, case):
    image, labels, part = wrong_inputs(tmp_path)[case]
    code, shown, error = run(capsys, image, labels, "-o", tmp_path / "out")
    assert (code, shown) == (2, "")
    assert part in error
    assert len(error.splitlines()) == 1
