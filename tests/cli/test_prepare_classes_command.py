import json

import numpy as np
import pytest

from aftermap.cli.app import main
from aftermap.data.scene import Manifest
from made_classes import noise, stripes, write_png, write_potsdam


def run(capsys, *arguments):
    """Exit code, standard output and error of a command."""
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return done.value.code, shown.out, shown.err


def potsdam(root):
    return write_potsdam(root, {name: stripes(28, 40, range(6)) for name in ("2_10", "2_11", "2_13")})


def land(root):
    for number, name in enumerate(("east_1", "west_1")):
        write_png(root / "images" / f"{name}.png", noise(number, 20, 28).transpose(1, 2, 0))
        write_png(root / "masks" / f"{name}.png", stripes(20, 28, range(1, 6)))
    return root


def test_isprs_prints_the_pixels_of_each_class(tmp_path, capsys):
    options = ("--city", "potsdam", "--tile-px", 16, "--overlap-px", 4, "--dsm", "--json")
    code, out, _ = run(
        capsys, "data", "prepare", "isprs", potsdam(tmp_path / "s"), "-o", tmp_path / "o", *options
    )
    shown = json.loads(out)
    assert code == 0
    assert list(shown["class_pixels"]) == [
        "impervious_surfaces",
        "building",
        "low_vegetation",
        "tree",
        "car",
        "clutter",
    ]
    assert shown["scenes"] == 3 * 6
    assert Manifest.load(tmp_path / "o").scenes[0].bands == ("red", "green", "blue", "nir", "dsm")


def test_a_folder_is_split_by_the_events_in_its_names(tmp_path, capsys):
    out = tmp_path / "o"
    options = ("--legend", "dubai-landcover", "--tile-px", 16, "--event-pattern", "east|west")
    code, shown, _ = run(capsys, "data", "prepare", "folder", land(tmp_path / "s"), "-o", out, *options)
    assert code == 0
    assert "of the known pixels" in shown
    code, shown, _ = run(capsys, "data", "split", out, "--validate-on", "west", "--fractions", "1,0,0")
    assert (code, "train scenes" in shown, "buildings" in shown) == (0, True, False)
    assert {(s.event, s.split) for s in Manifest.load(out).scenes} == {
        ("east", "train"),
        ("west", "validation"),
    }
    code, shown, _ = run(capsys, "data", "check", out)
    assert (code, "0 errors" in shown) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("isprs", "nowhere", "-o", "x", "--city", "potsdam"), "nowhere is not a folder"),
        (("isprs", "nowhere", "-o", "x", "--city", "toronto"), "toronto"),
        (("isprs", "s", "-o", "x", "--city", "potsdam", "--dsm-range", "1,2"), "--dsm beside it"),
        (
            ("isprs", "s", "-o", "x", "--city", "potsdam", "--tile-px", "16", "--overlap-px", "16"),
            "overlap of 16 px",
        ),
        (("isaid", "nowhere", "-o", "x"), "nowhere is not a folder"),
        (("agrivision", "nowhere", "-o", "x"), "nowhere is not a folder"),
        (("folder", "nowhere", "--legend", "isprs"), "nowhere is not a folder"),
        (("folder", "s", "--legend", "mars"), "known legends are isprs"),
        (("folder", "s", "--legend", "isprs", "--workers", "0"), "Must be >= 1"),
        (("folder", "s", "--tile-px", "64"), "name them with --legend"),
        (("folder", "s", "--legend", "isprs", "--labels", "damage"), "leave one out"),
        (("folder", "s", "--legend", "isprs", "--overlap-px", "4"), "pass --tile-px as well"),
        (("folder", "s", "--legend", "isprs", "--missing-mask", "background"), "has no background"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    land(tmp_path / "s")
    code, _, error = run(capsys, "data", "prepare", *arguments)
    assert code == 2
    assert expected in error
    assert not (tmp_path / "x").exists()


def test_finished_tiles_of_an_interrupted_run_are_kept(tmp_path, capsys, monkeypatch):
    from aftermap.data.preparing import cutter

    source, out = land(tmp_path / "s"), tmp_path / "o"
    write, calls = cutter.write_tile, []

    def interrupted(path, *arguments, **options):
        calls.append(path.name)
        if path.name.startswith("west"):
            raise KeyboardInterrupt
        write(path, *arguments, **options)

    command = ("data", "prepare", "folder", source, "-o", out, "--legend", "dubai-landcover", "--tile-px", 16)
    monkeypatch.setattr(cutter, "write_tile", interrupted)
    code, _, _ = run(capsys, *command)
    assert (code, len(calls)) == (130, 5)
    monkeypatch.setattr(cutter, "write_tile", lambda p, *a, **o: calls.append(p.name) or write(p, *a, **o))
    code, _, _ = run(capsys, *command)
    assert (code, sum(name.startswith("east") for name in calls)) == (0, 4)
    assert np.unique([s.tile.source for s in Manifest.load(out).scenes]).tolist() == ["east_1", "west_1"]
