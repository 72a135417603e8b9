"""The plugin for QGIS: how it calls aftermap, and QGIS itself running it where Debian's is installed."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from forked_python import forked_python

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "qgis" / "aftermap_toolbox"
QGIS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
"""Debian's wrapper passes on an option of the window's program, which this one refuses: the program itself."""

spec = importlib.util.spec_from_file_location("toolbox_command", PLUGIN / "command.py")
command = importlib.util.module_from_spec(spec)
spec.loader.exec_module(command)


def script(path: Path, text: str, *, python: str = sys.executable) -> Path:
    path.write_text(f"#!{python}\n{text}")
    path.chmod(0o755)
    return path


def called(program: Path, *, cancel_after: float = 1e9):
    told, percents, begun = [], [], time.monotonic()
    printed = command.run(
        [program, "map"],
        tell=told.append,
        progress=percents.append,
        is_cancelled=lambda: time.monotonic() - begun > cancel_after,
    )
    return printed, told, percents


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("predicting: 4.2 of 16.8 Mpx, 25 %, 0:12 left", 25),
        ("training: 30 of 1000, 3 %, 16:10 left  loss 0.30", 3),
        ("predicting: 4.2 of 4.2 Mpx, done in 0:05", None),
        ("warning: 12 % of the image shows no ground", None),
        ("", None),
    ],
)
def test_lines_of_progress_are_told_from_others(line, percent):
    assert command.percent_of(line) == percent


def test_what_it_prints_and_says_and_how_far_it_is_is_passed_on(tmp_path):
    program = script(
        tmp_path / "aftermap",
        "import sys\nprint('a: 1 of 2, 50 %, 0:01 left', file=sys.stderr)\nprint('warning: é', file=sys.stderr)\n"
        "print('{\"n\": 1}')",
    )
    assert called(program) == ('{"n": 1}\n', ["warning: é"], [50.0])


def test_a_refusal_is_what_it_said_last(tmp_path):
    program = script(
        tmp_path / "aftermap", "import sys\nprint('aftermap: no such file', file=sys.stderr)\nsys.exit(2)"
    )
    with pytest.raises(command.CommandError, match=r"^aftermap: no such file$"):
        called(program)


def test_cancelling_interrupts_it_as_by_the_keyboard(tmp_path):
    program = script(
        tmp_path / "aftermap",
        "import pathlib, signal, sys, time\n"
        f"def end(*_): pathlib.Path({str(tmp_path / 'ended')!r}).touch(); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, end)\nprint('on it', file=sys.stderr, flush=True)\ntime.sleep(60)",
    )
    with pytest.raises(command.CommandError, match="cancelled"):
        called(program, cancel_after=1.5)
    assert (tmp_path / "ended").exists()


def test_the_python_of_qgis_does_not_leak_into_ours():
    cleaned = command.own_environment({"PYTHONPATH": "/qgis", "PROJ_LIB": "/qgis", "HOME": "/home/ana"})
    assert cleaned["HOME"] == "/home/ana" and not {"PYTHONPATH", "PROJ_LIB"} & cleaned.keys()


def test_a_command_that_is_not_there_is_told_with_what_to_do(monkeypatch):
    monkeypatch.setenv("AFTERMAP_COMMAND", "/nowhere/aftermap")
    with pytest.raises(command.CommandError, match="/nowhere/aftermap is no command: install it"):
        command.find_command()


def test_the_plugin_has_the_version_of_the_package():
    from aftermap import __version__

    assert f"version={__version__}\n" in (PLUGIN / "metadata.txt").read_text()


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """Variables under which QGIS knows the plugin and no profile of the user's."""
    if QGIS is None:
        pytest.skip("qgis_process is not installed")
    home = tmp_path_factory.mktemp("qgis")
    program = script(home / "aftermap", "from aftermap.cli.app import main\nmain()", python=forked_python())
    variables = os.environ | {
        "QGIS_PLUGINPATH": str(PLUGIN.parent),
        "QGIS_CUSTOM_CONFIG_PATH": str(home / "config"),
        "XDG_RUNTIME_DIR": str(home),
        "QT_QPA_PLATFORM": "offscreen",
        "AFTERMAP_COMMAND": str(program),
    }
    # the one of QGIS would look for its libraries in ours
    variables = {k: v for k, v in variables.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    subprocess.run(
        [QGIS, "plugins", "enable", "aftermap_toolbox"], env=variables, check=True, capture_output=True
    )
    return variables


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two small dates with a grid, and two footprints on them."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    transform = from_origin(500_000, 4_000_000, 0.5, 0.5)
    for name in ("pre", "post"):
        image = rng.integers(60, 200, (3, 128, 128), dtype=np.uint8)
        options = {"driver": "GTiff", "width": 128, "height": 128, "count": 3, "dtype": "uint8"}
        with rasterio.open(
            folder / f"{name}.tif", "w", crs="EPSG:32633", transform=transform, **options
        ) as file:
            file.write(image)
    boxes = [
        [(x, y), (x + 15, y), (x + 15, y - 15), (x, y - 15), (x, y)]
        for x, y in ((500_005, 3_999_990), (500_035, 3_999_960))
    ]
    features = [
        {
            "type": "Feature",
            "properties": {"id": f"house {n}"},
            "geometry": {"type": "Polygon", "coordinates": [box]},
        }
        for n, box in enumerate(boxes)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    tree = {"type": "FeatureCollection", "crs": crs, "features": features}
    (folder / "houses.geojson").write_text(json.dumps(tree))
    return folder


def toolbox(profile, *words):
    return subprocess.run([QGIS, "run", *words], env=profile, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def mapped(profile, images, tmp_path_factory):
    """A map that `qgis_process` has made, and what it said."""
    out = tmp_path_factory.mktemp("qgis") / "map"
    ended = toolbox(
        profile,
        "aftermap:map",
        f"--PRE={images / 'pre.tif'}",
        f"--POST={images / 'post.tif'}",
        f"--FOOTPRINTS={images / 'houses.geojson'}",
        f"--OUT={out}",
    )
    return out, ended


@pytest.fixture(scope="module")
def later(profile, images, mapped):
    """What QGIS does with that map in one process: its areas, a package, a map without aftermap, and its picture."""
    out, _ = mapped
    pair = {
        "PRE": str(images / "pre.tif"),
        "POST": str(images / "post.tif"),
        "OUT": str(out.parent / "other"),
    }
    request = {
        "run": [
            ["aftermap:areas", {"MAP": str(out), "GRID": 500}, {}],
            ["aftermap:package", {"MAP": str(out), "AGENCY": 2, "CODE": "TC2026"}, {}],
            ["aftermap:map", pair, {"AFTERMAP_COMMAND": "/nowhere/aftermap"}],
        ],
        "picture": str(out.parent / "drawn.png"),
        "layers": [f"{out}/buildings.gpkg|layername=buildings"],
    }
    places = ("/usr/share/qgis/python", "/usr/share/qgis/python/plugins", str(PLUGIN.parent))
    done = subprocess.run(
        ["/usr/bin/python3", str(Path(__file__).with_name("in_qgis.py")), json.dumps(request)],
        env=profile | {"PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.qgis
def test_qgis_maps(mapped):
    out, ended = mapped
    assert ended.returncode == 0, ended.stderr
    assert "COUNT:\t2" in ended.stdout and f"PAGE:\t{out / 'map.html'}" in ended.stdout


@pytest.mark.qgis
def test_qgis_counts_areas_and_packages(mapped, later):
    out, _ = mapped
    counted, handed, _ = later["run"]
    assert counted["AREAS"] == str(out / "areas" / "grid-500m.gpkg"), counted
    folder = Path(handed["PACKAGE"])
    assert folder.parent == out / "package" / "unosat" and folder.is_dir(), handed


@pytest.mark.qgis
def test_qgis_draws_the_classes_in_their_colours(mapped, later):
    out, _ = mapped
    assert later["drawn"] == {
        "labels": ["no damage", "minor damage", "major damage", "destroyed", "not assessed"],
        "features": 2,
    }
    colours = {
        colour
        for count, colour in Image.open(out.parent / "drawn.png").convert("RGB").getcolors(1 << 20)
        if count > 500
    }
    assert (255, 255, 255) in colours and len(colours) > 1


@pytest.mark.qgis
def test_what_aftermap_refuses_is_told_in_its_own_words(profile, images, later, tmp_path):
    words = [f"--PRE={images / 'pre.tif'}", f"--POST={images / 'post.tif'}", f"--OUT={tmp_path / 'map'}"]
    ended = toolbox(profile, "aftermap:map", *words, "--BANDS=7")
    assert ended.returncode != 0
    assert "aftermap: " in ended.stdout + ended.stderr and "Traceback" not in ended.stdout + ended.stderr
    *_, absent = later["run"]
    assert "install it" in " ".join(absent["errors"]) and "Traceback" not in " ".join(absent["errors"])
