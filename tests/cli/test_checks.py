"""A mistake in the arguments is told before anything heavy is imported."""

from pathlib import Path

import pytest

from aftermap.cli.checks import (
    check_crs,
    check_dataset,
    check_images,
    check_model,
    check_outlines,
    check_place,
)
from aftermap.errors import DataError, FootprintError, GeoreferenceError, ModelError, OutputError, RasterError
from light_process import light_process

HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "kornia",
    "matplotlib",
    "openvino",
    "cv2",
    "rasterio",
    "geopandas",
    "scipy",
}

NO_IMAGE = "cannot read no.tif: no such file or directory"
NO_OUTLINES = "cannot read no.gpkg: no such file or directory"
MISTAKES = {
    ("map", "no.tif", "there.tif", "-o", "out"): NO_IMAGE,
    ("map", "there.tif", "no.tif", "-o", "out"): NO_IMAGE,
    ("map", "there.tif", "there.tif", "--footprints", "no.gpkg", "-o", "out"): NO_OUTLINES,
    ("map", "there.tif", "there.tif", "--aoi", "no.gpkg", "-o", "out"): NO_OUTLINES,
    ("map", "there.tif", "there.tif", "--cloud-mask", "no.tif", "-o", "out"): NO_IMAGE,
    ("map", "there.tif", "there.tif", "-m", "no", "-o", "out"): "no model at no: give a model folder",
    ("map", "there.tif", "there.tif", "--bands", "red", "-o", "out"): "--bands red is not a list of numbers",
    ("map", "there.tif", "there.tif", "-o", "there.tif/out"): "cannot write there.tif/out: ",
    ("predict", "no", "data", "-o", "out"): "no model at no: give a model folder",
    ("predict", "box", "no", "-o", "out"): "no holds no manifest.json",
    ("evaluate", "box", "no"): "no holds no manifest.json",
    ("tune-thresholds", "box", "no", "-o", "out"): "no holds no manifest.json",
    ("score", "no", "targets"): "no is not a folder: give the folder that holds the predicted masks",
    ("data", "check", "no"): "no holds no manifest.json",
    ("data", "split", "no"): "no holds no manifest.json",
    ("data", "steps", "no"): "no holds no manifest.json",
    ("data", "from-footprints", "no.tif", "there.gpkg", "-o", "out"): NO_IMAGE,
    ("data", "from-footprints", "there.tif", "no.gpkg", "-o", "out"): NO_OUTLINES,
    ("data", "synth", "-o", "there.tif/out"): "cannot write there.tif/out: ",
    ("train", "no.yaml", "-o", "out"): "there is no recipe no.yaml",
    ("train", "--resume", "no"): "no holds no interrupted run to resume",
    ("export", "no", "--to", "openvino", "-o", "out"): "no model at no: give a model folder",
    ("bench", "no"): "no model at no: give a model folder",
    ("adapt", "no", "data", "--event", "x"): "no model at no: give a model folder",
    ("adapt", "box", "no", "--event", "x"): "no holds no manifest.json",
    ("incremental-report", "data", "-o", "out"): "data is no folder of an incremental run: it has no run.json and",
    ("map", "x" * 300, "there.tif", "-o", "out"): "'xxxxxx",
    ("map", "there.tif", "there.tif", "-m", "data", "-o", "out"): "data is not a model folder: it has no card.json",
    ("data", "synth", "-o", "there.tif"): "cannot write there.tif: it is a file, not a folder; choose another",
}  # fmt: skip


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_mistake_is_told_before_anything_heavy_is_imported(words, tmp_path):
    (tmp_path / "there.tif").write_bytes(b"II*\0")
    (tmp_path / "there.gpkg").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text("{}")
    (tmp_path / "targets").mkdir()
    ended = light_process("door").command(*words, cwd=tmp_path)
    assert ended.err.startswith(f"aftermap: {MISTAKES[words]}")
    assert (ended.code, ended.err.count("\n"), ended.out) == (2, 1, "")
    assert not ended.modules & HEAVY
    assert {path.name for path in tmp_path.iterdir()} == {"there.tif", "there.gpkg", "data", "targets"}


def test_what_is_there_passes(tmp_path):
    file = tmp_path / "image.tif"
    file.touch()
    check_images(file, tmp_path, None)
    check_outlines(file, tmp_path / "image.tif:layer", None)
    check_model("box")
    (tmp_path / "exported.json").touch()
    check_model(tmp_path)
    check_model("hf://owner/name")
    check_place(tmp_path / "a" / "b")
    check_place(None)
    check_crs("EPSG:32633")
    check_crs(None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported.json", "image.tif"]


def test_what_is_not_there_is_named(tmp_path):
    nothing = tmp_path / "nothing"
    with pytest.raises(RasterError, match=r"cannot read .*nothing: no such file"):
        check_images(nothing)
    with pytest.raises(FootprintError, match=r"cannot read .*nothing:layer: no such file"):
        check_outlines(tmp_path / "nothing:layer")
    with pytest.raises(ModelError, match=r"no model at .*nothing"):
        check_model(nothing)
    with pytest.raises(DataError, match=r"nothing holds no manifest\.json"):
        check_dataset(nothing)
    with pytest.raises(DataError, match=r"holds no manifest\.json"):
        check_dataset(tmp_path)


def test_an_address_of_a_kind_that_nothing_reads_is_named_as_such(tmp_path, monkeypatch):
    for check, error in ((check_images, RasterError), (check_outlines, FootprintError)):
        with pytest.raises(error, match=r"^ftp:// is not read: expected a path, or https, http, s3, gs, az$"):
            check(Path("ftp://host/image.tif"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab:").mkdir()
    (tmp_path / "ab:" / "image.tif").touch()
    check_images(Path("ab:/image.tif"))


def test_a_place_that_takes_no_files_is_named_as_such(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(
        OutputError, match=r"cannot write .*/file/out: .*/file is a file, not a folder; choose another"
    ):
        check_place(file / "out")
    monkeypatch.setattr("os.mkdir", read_only)
    with pytest.raises(
        OutputError,
        match=r"cannot write .*/out: .* takes no new files \(read-only file system\); choose another",
    ):
        check_place(tmp_path / "out")


def test_a_file_may_take_the_place_of_an_earlier_one_but_not_of_a_folder(tmp_path):
    (tmp_path / "page.html").touch()
    check_place(tmp_path / "page.html", is_file=True)
    with pytest.raises(OutputError, match="it is a file, not a folder"):
        check_place(tmp_path / "page.html")
    with pytest.raises(OutputError, match="it is a folder, not a file"):
        check_place(tmp_path, is_file=True)


def read_only(path, mode=0o777, *, dir_fd=None):
    import errno
    import os

    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def test_an_unknown_reference_system_is_one_line(capfd):
    with pytest.raises(
        GeoreferenceError, match=r"^--crs EPSG:999999 is not a known reference system: pass one such"
    ):
        check_crs("EPSG:999999")
    assert capfd.readouterr().err == ""
