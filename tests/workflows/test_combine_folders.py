"""Folders of probability maps to one folder."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from aftermap.cli.app import main
from aftermap.errors import DataError, GeoreferenceError, OutputError
from aftermap.workflows.mapping.combine import combine_folders

PLACE = {"crs": CRS.from_epsg(32636), "transform": Affine(0.5, 0, 400000, 0, -0.5, 5000000)}


def write(path, values, **profile):
    """A map (H, W) or (C, H, W), GeoTIFF or PNG by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = values if values.ndim == 3 else values[None]
    colours, scale = profile.pop("colours", None), profile.pop("scale", None)
    driver = {".png": "PNG", ".jpg": "JPEG"}.get(path.suffix, "GTiff")
    options = {
        "count": bands.shape[0],
        "height": bands.shape[1],
        "width": bands.shape[2],
        "dtype": bands.dtype.name,
    }
    with rasterio.open(path, "w", driver=driver, **options | profile) as file:
        file.write(bands)
        if colours:
            file.write_colormap(1, colours)
        if scale:
            file.scales = (scale,) * file.count
    return path


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.crs, file.transform, file.nodata


@pytest.fixture
def runs(tmp_path):
    """Two runs of two georeferenced maps: 0.2 and 0.6 everywhere, a third of each unknown to the first."""
    for run, value in (("first", 0.2), ("second", 0.6)):
        for name in ("a.tif", "b.tif"):
            values = np.full((6, 8), value, np.float32)
            if run == "first":
                values[:2] = np.nan
            write(tmp_path / run / name, values, nodata=float("nan"), **PLACE)
    return [tmp_path / "first", tmp_path / "second"]


def test_maps_are_averaged_where_they_lie(runs, tmp_path):
    result = combine_folders(runs, tmp_path / "out")
    assert (result.files, result.written) == (2, 2)
    values, crs, transform, _ = read(tmp_path / "out" / "a.tif")
    assert values.dtype == np.float32 and (crs, transform) == (PLACE["crs"], PLACE["transform"])
    assert np.allclose(values[:2], 0.6) and np.allclose(values[2:], 0.4)
    assert json.loads((tmp_path / "out" / "combine.json").read_text())["runs"] == [str(r) for r in runs]


def test_a_threshold_writes_buildings(runs, tmp_path):
    values = read(combine_folders(runs, tmp_path / "out", threshold=0.5).folder / "b.tif")[0]
    assert values.dtype == np.uint8 and (values[:2] == 1).all() and (values[2:] == 0).all()


def test_what_no_run_knows_stays_unknown(runs, tmp_path):
    folder = combine_folders([runs[0], runs[0]], tmp_path / "out").folder
    mask = combine_folders([runs[0]], tmp_path / "mask", threshold=0.1).folder
    assert np.isnan(read(folder / "a.tif")[0][:2]).all()
    values, *_, nodata = read(mask / "a.tif")
    assert nodata == 255 and (values[:2] == 255).all() and (values[2:] == 1).all()


@pytest.mark.parametrize(
    ("stored", "profile", "expected"),
    [
        (np.uint8([[0, 51, 255]]), {}, [0, 0.2, 1]),
        (np.uint8([[0, 127, 255]]), {"nodata": 255}, [0, 0.5, np.nan]),
        (np.uint8([[0, 127, 254]]), {"nodata": 255, "scale": 1 / 254}, [0, 0.5, 1]),
        (np.uint16([[0, 13107, 65535]]), {}, [0, 0.2, 1]),
        (np.float32([[0, 0.25, -1]]), {"nodata": -1}, [0, 0.25, np.nan]),
    ],
)
def test_stored_numbers_become_probabilities(tmp_path, stored, profile, expected):
    write(tmp_path / "run" / "a.tif", stored, **profile)
    values = read(combine_folders([tmp_path / "run"], tmp_path / "out").folder / "a.tif")[0][0]
    assert values == pytest.approx(np.array(expected, np.float32), abs=1e-6, nan_ok=True)


def test_a_large_map_is_combined_in_windows(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    maps = [rng.random((50, 40), np.float32) for _ in range(3)]
    for number, values in enumerate(maps):
        write(tmp_path / str(number) / "a.tif", values)
    monkeypatch.setattr("aftermap.workflows.mapping.combine._VALUES_AT_ONCE", 7 * 40 * 3)
    folder = combine_folders([tmp_path / str(n) for n in range(3)], tmp_path / "out").folder
    assert np.allclose(read(folder / "a.tif")[0], np.mean(maps, axis=0), atol=1e-6)


def test_the_published_rule_on_files(tmp_path):
    rows, cols = np.mgrid[0:256, 0:256].astype(np.uint8)
    for number, values in enumerate((cols // 2, rows // 2, np.full((256, 256), 180, np.uint8))):
        write(tmp_path / str(number) / "a.png", values)
    runs = [tmp_path / str(n) for n in range(3)]
    soft = read(combine_folders(runs, tmp_path / "soft", compat=True).folder / "a.tif")[0]
    # the constant run is dropped: what is left is the mean of two ramps, cut to 8 bits
    assert soft.max() == 127 and soft[0, 0] == 0 and soft[100, 200] == 74  # 99.75 and 49.75
    hard = read(combine_folders(runs, tmp_path / "hard", compat=True, threshold=0.4).folder / "a.tif")[0]
    assert set(np.unique(hard)) == {0, 255} and (hard[soft > 103] == 255).all()


def test_an_interrupted_combination_goes_on(runs, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        combine_folders(runs, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.part" / "a.tif").exists()
    assert combine_folders(runs, tmp_path / "out").written == 1
    assert not (tmp_path / "out.part").exists()


def test_files_of_other_options_are_not_taken_over(runs, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        combine_folders(runs, tmp_path / "out", progress=stop, threshold=0.9)
    assert combine_folders(runs, tmp_path / "out", threshold=0.5).written == 2


def test_a_result_is_replaced_only_when_asked_and_other_folders_never(runs, tmp_path):
    combine_folders(runs, tmp_path / "out")
    with pytest.raises(OutputError, match="--overwrite"):
        combine_folders(runs, tmp_path / "out")
    assert combine_folders(runs, tmp_path / "out", threshold=0.5, overwrite=True).written == 2
    assert read(tmp_path / "out" / "a.tif")[0].dtype == np.uint8
    with pytest.raises(OutputError, match=r"holds no combine\.json"):
        combine_folders(runs, runs[0], overwrite=True)


def test_runs_need_the_same_names(runs, tmp_path):
    (runs[1] / "b.tif").unlink()
    with pytest.raises(DataError, match=r"second lacks 1 of the maps of .*first, the first is b\.tif"):
        combine_folders(runs, tmp_path / "out")


def test_maps_need_the_same_size(runs, tmp_path):
    write(runs[1] / "b.tif", np.zeros((6, 9), np.float32), **PLACE)
    with pytest.raises(DataError, match=r"9 x 6 pixels in 1 band, but .* has 8 x 6"):
        combine_folders(runs, tmp_path / "out")


def test_maps_need_the_same_place(runs, tmp_path):
    elsewhere = PLACE | {"transform": Affine(0.5, 0, 400010, 0, -0.5, 5000000)}
    write(runs[1] / "b.tif", np.zeros((6, 8), np.float32), **elsewhere)
    with pytest.raises(GeoreferenceError, match="lies elsewhere"):
        combine_folders(runs, tmp_path / "out")


def test_a_map_with_a_scale_and_a_ramp_of_colours_holds_probabilities(tmp_path):
    ramp, place = {254: (255, 0, 0, 255)}, PLACE | {"scale": 1 / 254, "nodata": 255}
    write(tmp_path / "one" / "a.tif", np.array([[0, 254], [127, 255]], np.uint8), colours=ramp, **place)
    write(tmp_path / "two" / "a.tif", np.array([[254, 254], [0, 255]], np.uint8), colours=ramp, **place)
    combine_folders([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    np.testing.assert_allclose(read(tmp_path / "out" / "a.tif")[0], [[0.5, 1], [0.25, np.nan]], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "values", "profile", "said"),
    [
        ("a.tif", np.ones((2, 2), np.uint8), {"colours": {1: (255, 0, 0, 255)}}, "has a colour table"),
        ("a.tif", np.full((2, 2), 3.5, np.float32), {}, "are they logits"),
        ("a.tif", np.ones((2, 2), np.int32), {}, "holds int32"),
        ("a.jpg", np.ones((2, 2), np.uint8), {}, "JPEG loses"),
    ],
)
def test_what_is_no_probability_is_refused(tmp_path, name, values, profile, said):
    write(tmp_path / "run" / name, values, **profile)
    with pytest.raises(DataError, match=said):
        combine_folders([tmp_path / "run"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_all_bands_are_averaged_but_only_one_is_cut(tmp_path):
    write(tmp_path / "run" / "a.tif", np.stack([np.full((2, 2), v, np.float32) for v in (0.1, 0.7, 0.2)]))
    with pytest.raises(DataError, match="has 3 bands"):
        combine_folders([tmp_path / "run"], tmp_path / "out", threshold=0.5)
    with rasterio.open(combine_folders([tmp_path / "run"], tmp_path / "soft").folder / "a.tif") as file:
        assert file.read()[:, 0, 0] == pytest.approx([0.1, 0.7, 0.2])


def test_two_names_that_would_become_one_are_refused(tmp_path):
    for name in ("a.tif", "a.png"):
        write(tmp_path / "run" / name, np.zeros((2, 2), np.uint8))
    with pytest.raises(DataError, match=r"would both become a\.tif"):
        combine_folders([tmp_path / "run"], tmp_path / "out")
    assert combine_folders([tmp_path / "run"], tmp_path / "out", pattern="*.png").files == 1


def test_half_of_an_odd_size_is_refused(tmp_path):
    write(tmp_path / "run" / "a.tif", np.zeros((3, 4), np.uint8))
    with pytest.raises(DataError, match="expected even sides"):
        combine_folders([tmp_path / "run"], tmp_path / "out", compat=True)


def test_the_command_prints_json(runs, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["combine", *map(str, runs), "-o", str(tmp_path / "out"), "--threshold", "0.54", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert stop.value.code == 0
    assert (report["files"], report["threshold"], report["compat"]) == (2, 0.54, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "out"], "no folder of maps was given"),
        (["nowhere", "-o", "out"], "nowhere is no folder"),
        (["nowhere", "-o", "out", "--threshold", "54"], "a threshold of 54 is no probability"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["combine", *words])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_what_the_user_put_beside_the_maps_stays(runs, tmp_path):
    combine_folders(runs, tmp_path / "out")
    (tmp_path / "out" / "project.qgz").write_text("mine")
    combine_folders(runs, tmp_path / "out", threshold=0.5, overwrite=True)
    assert (tmp_path / "out" / "project.qgz").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))} == {"out"}
