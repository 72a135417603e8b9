"""Wrong input: one line that says what was found and what to do, exit code 2; and what the command prints."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

import colour_town as colours
from aftermap.cli.app import main
from aftermap.cli.map import _about_model
from aftermap.geo.grid import Grid
from forked_python import forked_python

Fails = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.save_colour_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return colours.write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture
def fails(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run `aftermap map`: it must exit 2 with one line, which is returned, and leave nothing behind."""

    def run(pre: Path, post: Path, *more: str | Path, out: Path = tmp_path / "map", use: Path = model) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["map", str(pre), str(post), "-o", str(out), "--model", str(use), *map(str, more)])
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and printed.out == ""
        lines = [line for line in printed.err.splitlines() if line.startswith("aftermap: ")]
        assert len(lines) == 1 and printed.err.rstrip().endswith(lines[0])
        assert not (tmp_path / "map").exists() and not (tmp_path / "map.work").exists()
        return lines[0]

    return run


def write(path: Path, array: np.ndarray, grid: Grid | None = None) -> Path:
    return colours.write_image(path, array, grid)


def test_dates_that_do_not_overlap(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    post = write(tmp_path / "post.tif", colours.town()[1], colours.town_grid().shift(10_000, 0))
    message = fails(pair[0], post)
    assert (
        "the dates do not overlap: pre.tif covers lon -95.2" in message and "post.tif covers lon" in message
    )


def test_a_reference_system_on_one_date_only(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    post = write(tmp_path / "post.png", colours.town()[1])
    assert "post.png has no georeference but pre.tif has: give both dates one" in fails(pair[0], post)


def test_one_band_for_a_model_of_three(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    pre = write(tmp_path / "grey.tif", colours.town()[0][:1], colours.town_grid())
    message = fails(pre, pair[1])
    assert (
        "grey.tif has 1 band, the model expects 3 (red, green, blue)" in message
        and "--bands 1,1,1" in message
    )


def test_four_bands_for_a_model_of_three(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    image = np.concatenate([colours.town()[1], colours.town()[1][:1]])
    message = fails(pair[0], write(tmp_path / "nir.tif", image, colours.town_grid()))
    assert "nir.tif has 4 bands, the model expects 3 (red, green, blue): pass --bands 1,2,3" in message


def test_bands_that_are_not_there(fails: Fails, pair: tuple[Path, Path]) -> None:
    assert "--bands asks for 1,2,7: pass numbers from 1 to 3" in fails(*pair, "--bands", "1,2,7")


def test_bands_that_are_no_numbers(fails: Fails, pair: tuple[Path, Path]) -> None:
    assert "--bands red,green is not a list of numbers: pass one such as 3,2,1" in fails(
        *pair, "--bands", "red,green"
    )


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pixels_that_are_not_eight_bit(
    tmp_path: Path, fails: Fails, pair: tuple[Path, Path], dtype: str
) -> None:
    pre = write(tmp_path / "deep.tif", colours.town()[0].astype(dtype), colours.town_grid())
    message = fails(pre, pair[1])
    assert (
        f"deep.tif holds {dtype} values, the model expects uint8 (0 to 255): pass --stretch 2,98" in message
    )


def test_a_stretch_that_is_no_pair_of_percentiles(fails: Fails, pair: tuple[Path, Path]) -> None:
    assert "pass two rising ones such as 2,98" in fails(*pair, "--stretch", "98,2")


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_truncated_image(tmp_path: Path, fails: Fails, pair: tuple[Path, Path], suffix: str) -> None:
    whole = write(
        tmp_path / f"whole{suffix}", colours.town()[0], colours.town_grid() if suffix == ".tif" else None
    )
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    post = pair[1] if suffix == ".tif" else write(tmp_path / "post.png", colours.town()[1])
    message = fails(cut, post)
    assert f"cut{suffix}" in message and "truncated" in message


def test_a_text_file_named_tif(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    text = tmp_path / "notes.tif"
    text.write_text("these are my notes\n" * 50)
    message = fails(text, pair[1])
    assert "notes.tif is not an image: its content is none of TIFF, PNG, JPEG, WebP" in message


def test_a_file_that_is_not_there(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    assert "absent.tif" in fails(tmp_path / "absent.tif", pair[1])


def test_a_header_that_claims_a_million_pixels_each_way(
    tmp_path: Path, fails: Fails, pair: tuple[Path, Path]
) -> None:
    bomb = tmp_path / "bomb.tif"
    import rasterio

    options = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "crs": colours.UTM,
        "sparse_ok": True,
        "tiled": True,
    }
    with rasterio.open(
        bomb,
        "w",
        width=10**6,
        height=10**6,
        transform=colours.town_grid().transform,
        blockxsize=8192,
        blockysize=8192,
        bigtiff="yes",
        **options,
    ):
        pass
    message = fails(bomb, pair[1])
    assert "bomb.tif" in message and "1000000 x 1000000" in message.replace(",", "")


def test_footprints_that_are_no_vector_file(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    broken = tmp_path / "broken.geojson"
    broken.write_text('{"type": "FeatureCollection", "features": [{')
    assert "cannot read footprints" in fails(*pair, "--footprints", broken)


def test_footprints_without_any_polygon(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    empty = tmp_path / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    message = fails(*pair, "--footprints", empty)
    assert "empty.geojson" in message and "building outlines" in message


def test_self_intersecting_footprints_are_mended_with_a_warning(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bow = shapely.Polygon([(14, 14), (34, 34), (34, 14), (14, 34)])
    path = colours.write_footprints(tmp_path / "bow.gpkg", {"bow": bow})
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "map",
                *map(str, pair),
                "-o",
                str(tmp_path / "map"),
                "--model",
                str(model),
                "--footprints",
                str(path),
            ]
        )
    assert stopped.value.code == 0
    assert "1 self-intersecting or otherwise invalid ones mended" in " ".join(capsys.readouterr().err.split())
    frame = geopandas.read_file(tmp_path / "map" / "buildings.gpkg")
    assert frame["damage"].to_list() == ["no-damage"] and frame.geometry.is_valid.all()


def test_footprints_in_the_wrong_reference_system(
    tmp_path: Path, fails: Fails, pair: tuple[Path, Path]
) -> None:
    path = tmp_path / "wrong.gpkg"
    metres = geopandas.GeoDataFrame(
        geometry=[shapely.box(300_010, 3_999_950, 300_020, 3_999_960)], crs="EPSG:32633"
    )
    metres.to_file(path)
    message = fails(*pair, "--footprints", path)
    assert "no footprint lies on the image" in message and "is for another place" in message


def test_an_area_of_interest_elsewhere(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    path = colours.write_footprints(tmp_path / "aoi.geojson", {"a": shapely.box(5000, 5000, 5100, 5100)})
    assert "does not touch the images" in fails(*pair, "--aoi", path)


def test_an_output_below_a_file(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    (tmp_path / "file").write_text("")
    message = fails(*pair, out=tmp_path / "file" / "map")
    assert "cannot write" in message and "choose another output folder" in message


def test_a_window_that_is_too_small(fails: Fails, pair: tuple[Path, Path]) -> None:
    assert "windows of 32 px are too small: at least 64 px" in fails(*pair, "--window", "32")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "--resolution",
            "0",
            "aftermap: --resolution 0.0 is not a size: pass the pixel size in metres, such as 0.5",
        ),
        ("--resolution", "-2", "aftermap: --resolution -2.0 is not a size: pass"),
        ("--resolution", "nan", "aftermap: --resolution nan is not a size: pass"),
        ("--nodata", "zero", "aftermap: --nodata zero is no value: pass"),
        (
            "--nodata",
            "300",
            "pre.tif holds uint8 values, expected a whole number from 0 to 255, declared or none",
        ),
        (
            "--nodata",
            "0.5",
            "pre.tif holds uint8 values, expected a whole number from 0 to 255, declared or none",
        ),
    ],
)
def test_a_pixel_size_or_nodata_value_that_cannot_be_is_refused_before_the_model_is_opened(
    fails: Fails, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, option: str, value: str, said: str
) -> None:
    monkeypatch.setattr("aftermap.workflows.mapping.run.open_predictor", lambda *_: pytest.fail("opened"))
    assert said in fails(*pair, option, value)


def test_a_device_that_is_no_device(fails: Fails, pair: tuple[Path, Path]) -> None:
    assert "no device 'quantum': use cpu, cuda or cuda:n" in fails(*pair, "--device", "quantum")


def test_an_output_that_exists(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    (tmp_path / "old").mkdir()
    assert "old exists: pass --overwrite to replace it" in fails(*pair, out=tmp_path / "old")


def test_a_model_folder_with_a_missing_file(
    tmp_path: Path, fails: Fails, model: Path, pair: tuple[Path, Path]
) -> None:
    shutil.copytree(model, tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    assert "half is incomplete: model.safetensors is missing" in fails(*pair, use=tmp_path / "half")


def test_a_model_folder_with_an_altered_file(
    tmp_path: Path, fails: Fails, model: Path, pair: tuple[Path, Path]
) -> None:
    shutil.copytree(model, tmp_path / "altered")
    weights = tmp_path / "altered" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert "was altered: its SHA-256 is" in fails(*pair, use=tmp_path / "altered")


def test_a_model_that_knows_no_damage(tmp_path: Path, fails: Fails, pair: tuple[Path, Path]) -> None:
    config = colours.CustomConfig(target="colour_town:ColourModel", classes=2)
    building = colours.save_colour_model(tmp_path / "building", dates=1, scheme="building", model=config)
    assert "mapping damage needs a model of two dates" in fails(*pair, use=building)


def test_a_full_disk(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        with pytest.raises(SystemExit) as stopped:
            main(["map", *map(str, pair), "-o", str(small / "map"), "--model", str(model)])
        message = " ".join(capsys.readouterr().err.split())
        assert stopped.value.code == 2
        assert "aftermap: cannot write" in message and "the disk is full: free some space" in message
        assert not (small / "map").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_json_prints_the_summary_and_nothing_else(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["map", *map(str, pair), "-o", str(tmp_path / "map"), "--model", str(model), "--json"])
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["buildings"] == 16 and Path(told["map"]).is_file()


def test_the_table_shows_each_class_and_where_the_map_is(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["map", *map(str, pair), "-o", str(tmp_path / "map"), "--model", str(model)])
    printed = capsys.readouterr().out
    assert "16 buildings" in printed and "destroyed" in printed and "25.0%" in printed
    assert f"open {tmp_path / 'map' / 'map.html'}" in printed
    assert "licence" not in printed  # the model of this test is free


@pytest.mark.parametrize(
    ("is_here", "how"), [(True, "take it by -m field"), (False, "packages/aftermap-field")]
)
def test_a_map_by_the_box_says_that_there_is_a_model_trained_on_real_disasters(
    is_here: bool, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_here:
        (tmp_path / "aftermap_field").mkdir()
        (tmp_path / "aftermap_field" / "__init__.py").write_text(
            "raise AssertionError('nothing is imported')"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
    said = list(_about_model("box", tmp_path))
    assert len(said) == 1 and how in said[0] and "non-commercial" in said[0]


def test_a_licence_that_is_not_free_is_said_with_the_map(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    nc = tmp_path / "nc"
    shutil.copytree(model, nc)
    card = json.loads((nc / "card.json").read_text())
    (nc / "card.json").write_text(json.dumps(card | {"licence": "CC BY-NC-SA 4.0"}))
    with pytest.raises(SystemExit):
        main(["map", *map(str, pair), "-o", str(tmp_path / "map"), "--model", str(nc)])
    assert f"model {nc}: licence CC BY-NC-SA 4.0" in capsys.readouterr().out


def test_ctrl_c_leaves_a_run_that_resumes(
    tmp_path: Path,
    model: Path,
    pair: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aftermap.workflows.mapping.objects import ObjectTask

    whole, calls = ObjectTask.observed, []

    def observed(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    command = ["map", *map(str, pair), "-o", str(tmp_path / "map"), "--model", str(model), "--window", "128"]
    monkeypatch.setattr(ObjectTask, "observed", observed)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 130
    assert "--resume" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--resume", "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["resumed_rows"] > 0


def test_a_killed_process_leaves_a_run_that_resumes(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os, signal, sys\n"
        "from aftermap.workflows.mapping import work\n"
        "whole = work.WorkFolder.add\n"
        "def add(self, rows):\n"
        "    whole(self, rows)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "work.WorkFolder.add = add\n"
        "from aftermap.cli.app import main\n"
        "main(sys.argv[1:])\n"
    )
    command = ["map", *map(str, pair), "-o", str(tmp_path / "map"), "--model", str(model), "--window", "128"]
    tests = Path(__file__).resolve().parents[1]
    found = os.pathsep.join(map(str, (tests, tests.parent / "src")))
    done = subprocess.run(
        [forked_python(), "-c", code, *command], env={**os.environ, "PYTHONPATH": found}, check=False
    )
    assert done.returncode == -9 and not (tmp_path / "map").exists()
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--resume", "--json"])
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["resumed_rows"] > 0 and told["summary"]["buildings"] == 16


def test_title_and_dates_are_shown_and_swapped_dates_are_warned_of(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["map", *map(str, pair), "-o", str(tmp_path / "map"), "--model", str(model), "--json"]
    days = ["--title", "Joplin & <b>others", "--pre-date", "2011-05-24", "--post-date", "2011-05-22"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, *days])
    assert stopped.value.code == 0
    said = json.loads(capsys.readouterr().out)["warnings"]
    assert any(
        "after was taken on 2011-05-22, the one from before on 2011-05-24: swap" in text for text in said
    )
    page = (tmp_path / "map" / "map.html").read_text()
    assert "<title>Joplin &amp; &lt;b&gt;others</title>" in page and "Before · 2011-05-24" in page
    told = json.loads((tmp_path / "map" / "provenance.json").read_text())
    assert told["inputs"]["post"]["acquired"] == "2011-05-22"
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--overwrite", "--pre-date", "May 24"])
    assert stopped.value.code == 2 and "--pre-date May 24 is no day" in capsys.readouterr().err
