import json
import warnings
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import shapely

import colour_town as colours
from aftermap.artefacts.card import Calibration
from aftermap.artefacts.ensemble import GateIngredient, Ingredient, compose, save_ensemble
from aftermap.classes import DAMAGE
from aftermap.errors import AlignmentWarning, DataWarning, OutputError, PixelCoordinatesWarning
from aftermap.geo.grid import Grid
from aftermap.workflows.mapping import work
from aftermap.workflows.mapping.damage import map_damage
from aftermap.workflows.mapping.result import MapResult

FILES = {
    "damage.tif",
    "probabilities.tif",
    "buildings.gpkg",
    "buildings.geojson",
    "buildings.csv",
    "summary.json",
    "provenance.json",
    "map.html",
    "overview.png",
    *("buildings.qml", "damage.qml", "damage.tif.aux.xml", "scenes.gpkg"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.save_colour_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return colours.write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, model: Path, pair: tuple[Path, Path]) -> MapResult:
    return map_damage(*pair, tmp_path_factory.mktemp("result") / "map", model=model, window_px=96, halo_px=16)


def levels_of(frame: geopandas.GeoDataFrame) -> dict[tuple[int, int], str]:
    """Damage by row and column of houses, from where the buildings lie."""
    transform = ~colours.town_grid().transform
    found = {}
    for point, damage in zip(frame.geometry.centroid, frame["damage"], strict=True):
        col, row = transform * (point.x, point.y)
        found[int(row // colours.PITCH_PX), int(col // colours.PITCH_PX)] = damage
    return found


EXPECTED = {place: DAMAGE.names[level] for place, level in colours.LEVELS.items()}


def test_every_building_is_found_once_with_its_damage(mapped: MapResult) -> None:
    assert len(mapped.buildings) == len(EXPECTED)
    assert levels_of(mapped.buildings) == EXPECTED


def test_the_damage_raster_holds_the_level_of_every_pixel(mapped: MapResult) -> None:
    with rasterio.open(mapped.folder / "damage.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), colours.town()[2])
        assert (raster.nodata, raster.crs, raster.transform) == (
            255,
            colours.UTM,
            colours.town_grid().transform,
        )
        assert raster.colormap(1)[4][:3] == (0xC8, 0x20, 0x3C)


def test_the_probabilities_raster_holds_five_bands_that_sum_to_one(mapped: MapResult) -> None:
    with rasterio.open(mapped.folder / "probabilities.tif") as raster:
        stored = raster.read().astype(float)
        assert raster.descriptions == DAMAGE.names and raster.nodata == 255
        assert raster.scales == pytest.approx((1 / 254,) * 5)
    assert np.abs(stored.sum(axis=0) - 254).max() <= 2
    level = colours.town()[2]
    np.testing.assert_array_equal(stored.argmax(axis=0), level)


def test_the_folder_holds_exactly_the_promised_files(mapped: MapResult) -> None:
    assert {path.name for path in mapped.folder.iterdir()} == FILES
    assert [path.name for path in mapped.folder.parent.iterdir()] == ["map"]


def test_the_layers_open_with_their_reference_systems(mapped: MapResult) -> None:
    package = pyogrio.read_dataframe(mapped.folder / "buildings.gpkg", layer="buildings")
    web = pyogrio.read_dataframe(mapped.folder / "buildings.geojson")
    assert (package.crs.to_epsg(), web.crs.to_epsg()) == (32615, 4326)
    assert levels_of(package) == EXPECTED
    moved = web.to_crs(32615).geometry.centroid.distance(package.geometry.centroid)
    assert moved.max() < 0.05


def test_the_table_names_images_and_model(mapped: MapResult) -> None:
    table = pandas.read_csv(mapped.folder / "buildings.csv")
    first = table.iloc[0]
    assert (first["pre_image"], first["post_image"], first["mode"]) == ("pre.tif", "post.tif", "pre+post")
    assert (first["model"], len(first["model_sha256"])) == ("colours", 64)
    assert table["area_m2"].to_numpy() == pytest.approx(np.full(16, 100), rel=0.01)


def test_the_provenance_tells_inputs_grid_shift_and_options(mapped: MapResult) -> None:
    told = json.loads((mapped.folder / "provenance.json").read_text())
    assert told["inputs"]["pre"]["files"][0]["name"] == "pre.tif"
    assert told["grid"]["crs"] == "EPSG:32615" and told["grid"]["width"] == colours.SIZE_PX
    assert told["shift"]["applied"] is False and told["options"]["window_px"] == 96
    assert told["model"]["name"] == "colours" and told["versions"]["aftermap"]


def test_the_summary_counts_the_classes(mapped: MapResult) -> None:
    told = json.loads((mapped.folder / "summary.json").read_text())
    assert told["buildings"] == 16
    assert {name: told["classes"][name]["buildings"] for name in DAMAGE.names[1:]} == dict.fromkeys(
        DAMAGE.names[1:], 4
    )


@pytest.mark.parametrize("window", [128, 512])
def test_the_map_does_not_depend_on_the_window(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], mapped: MapResult, window: int
) -> None:
    other = map_damage(*pair, tmp_path / "map", model=model, window_px=window, halo_px=16)
    for name in ("damage.tif", "buildings.csv"):
        assert (other.folder / name).read_bytes() == (mapped.folder / name).read_bytes()


def test_the_map_does_not_depend_on_the_pieces_that_finished_rows_are_read_in(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], mapped: MapResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_TILE_PX", 16)
    monkeypatch.setattr(work, "_PIECE_PX", 1)
    again = map_damage(*pair, tmp_path / "map", model=model, window_px=96, halo_px=16)
    for name in ("damage.tif", "probabilities.tif"):
        assert (again.folder / name).read_bytes() == (mapped.folder / name).read_bytes()
    for one, other in zip(again.buildings.geometry, mapped.buildings.geometry, strict=True):
        assert one.equals_exact(other, 1e-6)
    # pixels whose middle lies on an outline fall to either side by the last bit of a coordinate
    columns = ["p_no_damage", "p_minor", "p_major", "p_destroyed", "p_building", "confidence", "seen"]
    np.testing.assert_allclose(again.buildings[columns], mapped.buildings[columns], atol=1e-3)


def test_footprints_keep_their_names_and_get_the_damage_of_their_pixels(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    shapes = {f"house {row}{col}": shape for (row, col), shape in colours.houses().items()}
    shapes["empty lot"] = shapely.box(2, 2, 10, 10)
    shapes["far away"] = shapely.box(1000, 1000, 1020, 1020)
    path = colours.write_footprints(tmp_path / "f.gpkg", shapes)
    result = map_damage(
        *pair, tmp_path / "map", model=model, footprints=path, window_px=96, halo_px=16, keep_outside=True
    )
    frame = result.buildings
    assert result.summary["footprints_outside"] == {"footprints": 1, "left_out": 0}
    told = dict(zip(frame["building_id"], frame["damage"], strict=True))
    assert {name: told[name] for name in told if name.startswith("house")} == {
        f"house {row}{col}": name for (row, col), name in EXPECTED.items()
    }
    assert told["far away"] == "not-assessed"
    assert dict(zip(frame["building_id"], frame["reason"], strict=True))["far away"] == "outside"
    assert told["empty lot"] != "not-assessed"  # the user says that there is a building


def test_footprints_that_are_to_be_moved_and_fit_stay_and_the_report_says_so(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    shapes = {f"house {row}{col}": shape for (row, col), shape in colours.houses().items()}
    path = colours.write_footprints(tmp_path / "f.gpkg", shapes)
    options = {"model": model, "footprints": path, "window_px": 96, "halo_px": 16}
    result = map_damage(*pair, tmp_path / "map", align_footprints=True, **options)
    report = json.loads((result.folder / "provenance.json").read_text())
    assert report["footprint_shift"]["moved"] == 0 and report["options"]["align_footprints"] is True
    assert any(note.startswith("footprints stay as they were given: ") for note in report["notes"])
    assert not (result.folder / "footprints-given.gpkg").exists() and "moved_m" not in result.buildings
    assert levels_of(result.buildings) == EXPECTED


def test_footprints_off_the_map_are_counted_and_left_out(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    shapes = {f"house {row}{col}": shape for (row, col), shape in colours.houses().items()}
    near = colours.write_footprints(tmp_path / "near.gpkg", shapes)
    far = {f"far {number}": shapely.box(1000 + number, 1000, 1020 + number, 1020) for number in range(50)}
    path = colours.write_footprints(
        tmp_path / "f.gpkg", {"edge": shapely.box(-10, 5, 2, 15), **far, **shapes}
    )
    result, alone = (
        map_damage(*pair, tmp_path / name, model=model, footprints=file)
        for name, file in (("map", path), ("alone", near))
    )
    assert result.summary["footprints_outside"] == {"footprints": 50, "left_out": 50}
    assert alone.summary["footprints_outside"] == {"footprints": 0, "left_out": 0}
    assert sorted(result.buildings["building_id"]) == sorted(["edge", *shapes])
    assert result.summary["buildings"] == len(shapes) + 1
    assert "far 1" not in (result.folder / "buildings.csv").read_text()
    kept = result.buildings[result.buildings["building_id"] != "edge"].reset_index(drop=True)
    columns = ["building_id", "damage", "confidence", "seen", "area_m2"]
    assert kept[columns].equals(alone.buildings[columns])


def test_an_area_of_interest_bounds_rasters_and_buildings(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], mapped: MapResult
) -> None:
    # a triangle over the upper left half of the town, in another reference system
    area = shapely.Polygon([(0, 0), (96, 0), (0, 96)])
    path = colours.write_footprints(tmp_path / "aoi.geojson", {"a": area})
    result = map_damage(*pair, tmp_path / "map", model=model, aoi=path)
    with (
        rasterio.open(result.folder / "damage.tif") as raster,
        rasterio.open(mapped.folder / "damage.tif") as all_,
    ):
        found, whole = raster.read(1), all_.read(1)
        assert abs(raster.width - 96) <= 1 and raster.transform.c == pytest.approx(300_000, abs=0.51)
    assert found[0, 1] == whole[0, 1] and found[90, 90] == 255
    assert found[20, 20] == whole[20, 20] == 1


def test_clouded_buildings_are_not_assessed(tmp_path: Path, model: Path, pair: tuple[Path, Path]) -> None:
    cloud = np.zeros((1, colours.SIZE_PX, colours.SIZE_PX), np.uint8)
    cloud[:, :48] = 1  # the first row of houses
    mask = colours.write_image(tmp_path / "cloud.tif", cloud, colours.town_grid())
    shapes = {f"{row}{col}": shape for (row, col), shape in colours.houses().items()}
    path = colours.write_footprints(tmp_path / "f.gpkg", shapes)
    frame = map_damage(
        *pair, tmp_path / "map", model=model, footprints=path, cloud_mask=mask
    ).buildings.set_index("building_id")
    assert (frame.loc[["00", "01", "02", "03"], "reason"] == "cloud").all()
    assert (frame.loc[frame.index.str[0] != "0", "damage"] != "not-assessed").all()


def test_places_that_only_one_date_shows_are_not_assessed(tmp_path: Path, model: Path) -> None:
    pre, post, _ = colours.town()
    grid = colours.town_grid()
    half = Grid(grid.crs, grid.transform, 96, grid.height)
    first = colours.write_image(tmp_path / "pre.tif", pre, grid)
    second = colours.write_image(tmp_path / "post.tif", post[:, :, :96], half)
    shapes = {f"{row}{col}": shape for (row, col), shape in colours.houses().items()}
    path = colours.write_footprints(tmp_path / "f.gpkg", shapes)
    frame = map_damage(first, second, tmp_path / "map", model=model, footprints=path).buildings
    reasons = frame.set_index("building_id")["reason"]
    assert (reasons[reasons.index.str[1].isin(["2", "3"])] == "no data after").all()
    assert (reasons[reasons.index.str[1].isin(["0", "1"])] == "").all()


def test_sixteen_bit_pixels_are_stretched_alike_in_every_window(tmp_path: Path, model: Path) -> None:
    pre, post, truth = colours.town()
    grid = colours.town_grid()
    images = []
    for name, image in (("pre", pre), ("post", post)):
        image = image.copy()
        image[:, 0, 0], image[:, 0, 1] = 0, 255  # so that the extremes are those of 8 bits
        images.append(colours.write_image(tmp_path / f"{name}.tif", image.astype(np.uint16) * 40 + 7, grid))
    result = map_damage(*images, tmp_path / "map", model=model, stretch=(0, 100), window_px=96, halo_px=16)
    with rasterio.open(result.folder / "damage.tif") as raster:
        np.testing.assert_array_equal(raster.read(1)[1:], truth[1:])
    told = json.loads((result.folder / "provenance.json").read_text())
    assert told["stretch"][0] == {"low": [7, 7, 7], "high": [10207, 10207, 10207]}


def test_plain_images_are_mapped_in_pixels_with_a_warning_in_the_report(tmp_path: Path, model: Path) -> None:
    pre, post, _ = colours.town()
    images = [colours.write_image(tmp_path / f"{n}.png", a) for n, a in (("pre", pre), ("post", post))]
    with pytest.warns(PixelCoordinatesWarning):
        result = map_damage(*images, tmp_path / "map", model=model)
    told = json.loads((result.folder / "provenance.json").read_text())
    assert any("pixel coordinates" in message for message in told["warnings"])
    boxes = sorted(tuple(round(v) for v in g.bounds) for g in result.buildings.geometry)
    assert boxes == sorted(tuple(map(int, h.bounds)) for h in colours.houses().values())
    assert result.buildings["area_m2"].isna().all()


def test_pixels_of_another_size_than_the_model_knows_are_warned_about(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    model = colours.save_colour_model(tmp_path / "model", resolution_m=(1.0, 2.0))
    with pytest.warns(DataWarning, match=r"pixels are 0\.50 m wide, the model knows 1 to 2 m"):
        map_damage(*pair, tmp_path / "map", model=model)


def test_dates_further_apart_than_half_a_building_are_not_compared(tmp_path: Path, model: Path) -> None:
    pre, post, _ = colours.town()
    grid = colours.town_grid()
    first = colours.write_image(tmp_path / "pre.tif", pre, grid)
    second = colours.write_image(tmp_path / "post.tif", np.roll(post, 12, axis=2), grid)
    with pytest.warns(AlignmentWarning, match="more than half a typical building"):
        result = map_damage(first, second, tmp_path / "map", model=model, align="off")
    assert set(result.buildings["reason"]) == {"misaligned"}
    assert set(result.buildings["damage"]) == {"not-assessed"}


@pytest.mark.real
def test_an_xbd_pair_comes_out_georeferenced_straight_from_its_images(
    tmp_path: Path, shared_data: Path, model: Path
) -> None:
    images = shared_data / "xbd-json" / "images"
    stem = "guatemala-volcano_00000000"
    dates = [images / f"{stem}_{date}_disaster.png" for date in ("pre", "post")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlignmentWarning)
        result = map_damage(*dates, tmp_path / "map", model=model)
    label = json.loads((images.parent / "labels" / f"{stem}_post_disaster.json").read_text())
    corners = [shapely.from_wkt(entry["wkt"]) for entry in label["features"]["lng_lat"]]
    with rasterio.open(result.folder / "damage.tif") as raster:
        assert raster.crs.to_epsg() == 4326
        assert all(shapely.box(*raster.bounds).contains(corner.centroid) for corner in corners)
    told = json.loads((result.folder / "provenance.json").read_text())
    assert told["notes"] == [f"georeference recovered from the xBD labels of {stem}_pre_disaster.png"]


class Killed(BaseException):
    """Stands for a process that dies."""


def die_at(row: int):  # type: ignore[no-untyped-def]
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "predicting" and done >= row * colours.SIZE_PX:
            raise Killed

    return progress


def test_an_interrupted_run_leaves_no_result_and_resumes_to_the_same_one(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], mapped: MapResult
) -> None:
    options = {"model": model, "window_px": 96, "halo_px": 16}
    with pytest.raises(Killed):
        map_damage(*pair, tmp_path / "map", progress=die_at(60), **options)
    assert not (tmp_path / "map").exists() and (tmp_path / "map.work" / "journal.json").exists()
    result = map_damage(*pair, tmp_path / "map", resume=True, **options)
    assert 60 <= result.resumed_rows < colours.SIZE_PX
    for name in ("damage.tif", "probabilities.tif", "buildings.gpkg", "buildings.csv"):
        assert (result.folder / name).read_bytes() == (mapped.folder / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["map"]


def test_a_resumed_run_gives_footprints_the_same_probabilities(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    path = colours.write_footprints(tmp_path / "f.gpkg", {"a": shapely.box(10, 5, 60, 180)})
    options = {"model": model, "window_px": 96, "halo_px": 16, "footprints": path}
    whole = map_damage(*pair, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        map_damage(*pair, tmp_path / "map", progress=die_at(60), **options)
    resumed = map_damage(*pair, tmp_path / "map", resume=True, **options)
    assert (resumed.folder / "buildings.csv").read_bytes() == (whole.folder / "buildings.csv").read_bytes()


def test_a_run_killed_while_it_writes_the_result_resumes(
    tmp_path: Path, model: Path, pair: tuple[Path, Path], mapped: MapResult
) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "writing" and done:
            raise Killed

    options = {"model": model, "window_px": 96, "halo_px": 16}
    with pytest.raises(Killed):
        map_damage(*pair, tmp_path / "map", progress=progress, **options)
    result = map_damage(*pair, tmp_path / "map", resume=True, **options)
    assert result.resumed_rows == colours.SIZE_PX
    assert (result.folder / "damage.tif").read_bytes() == (mapped.folder / "damage.tif").read_bytes()


def test_an_interrupted_run_that_overwrites_leaves_the_old_result(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    map_damage(*pair, tmp_path / "map", model=model)
    before = {path.name: path.read_bytes() for path in (tmp_path / "map").iterdir()}
    with pytest.raises(Killed):
        map_damage(
            *pair, tmp_path / "map", model=model, overwrite=True, progress=die_at(1), window_px=96, halo_px=16
        )
    assert {path.name: path.read_bytes() for path in (tmp_path / "map").iterdir()} == before


def test_overwriting_a_map_leaves_the_users_files_in_it(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    out = tmp_path / "map"
    map_damage(*pair, out, model=model, window_px=96, halo_px=16)
    (out / "project.qgz").write_text("mine")
    (out / "buildings.gpkg-wal").write_text("of the old file")
    map_damage(*pair, out, model=model, window_px=96, halo_px=16, overwrite=True)
    assert (out / "project.qgz").read_text() == "mine" and not (out / "buildings.gpkg-wal").exists()
    listed = json.loads((out / "provenance.json").read_text())["files"]
    assert sorted([*listed, "project.qgz"]) == sorted(path.name for path in out.iterdir())
    assert {"damage.tif", "buildings.gpkg", "provenance.json"} <= set(listed)


def test_an_interrupted_run_is_not_thrown_away_unasked(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    with pytest.raises(Killed):
        map_damage(*pair, tmp_path / "map", model=model, progress=die_at(1))
    with pytest.raises(OutputError, match="holds an interrupted run: pass --resume to continue it"):
        map_damage(*pair, tmp_path / "map", model=model)
    map_damage(*pair, tmp_path / "map", model=model, overwrite=True)
    assert (tmp_path / "map" / "map.html").is_file()


def test_a_run_with_other_options_is_not_resumed(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    with pytest.raises(Killed):
        map_damage(*pair, tmp_path / "map", model=model, progress=die_at(1))
    with pytest.raises(OutputError, match="a run with other tta: repeat"):
        map_damage(*pair, tmp_path / "map", model=model, tta="flips", resume=True)


def test_a_result_is_replaced_only_when_asked(tmp_path: Path, model: Path, pair: tuple[Path, Path]) -> None:
    map_damage(*pair, tmp_path / "map", model=model)
    with pytest.raises(OutputError, match="exists: pass --overwrite"):
        map_damage(*pair, tmp_path / "map", model=model)
    (tmp_path / "map" / "damage.tif").write_bytes(b"old")
    map_damage(*pair, tmp_path / "map", model=model, overwrite=True)
    assert (tmp_path / "map" / "damage.tif").stat().st_size > 3
    assert [path.name for path in tmp_path.iterdir()] == ["map"]


def test_a_folder_that_is_not_a_result_is_never_replaced(
    tmp_path: Path, model: Path, pair: tuple[Path, Path]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "wedding.jpg").write_bytes(b"once")
    with pytest.raises(OutputError, match="is not a result of aftermap"):
        map_damage(*pair, tmp_path / "photos", model=model, overwrite=True)
    assert (tmp_path / "photos" / "wedding.jpg").read_bytes() == b"once"


def test_the_report_holds_seconds_by_stage(mapped: MapResult) -> None:
    stages = json.loads((mapped.folder / "provenance.json").read_text())["stages"]

    assert list(stages) == [
        *("model", "inputs", "reading", "predicting", "storing", "rasters", "buildings", "layers", "views")
    ]
    assert stages == {stage: round(seconds, 2) for stage, seconds in mapped.stages.items()}


def test_a_gate_is_reported_and_changes_nothing_where_buildings_are(
    tmp_path: Path, pair: tuple[Path, Path], model: Path, mapped: MapResult
) -> None:
    gate = colours.save_roof_model(tmp_path / "roofs")
    card, parts = compose("gated", [Ingredient(model)], gate=GateIngredient(gate, 0.5, 4))
    save_ensemble(tmp_path / "gated", card, parts)

    found = map_damage(*pair, tmp_path / "map", model=tmp_path / "gated", window_px=96, halo_px=16)

    told = json.loads((found.folder / "provenance.json").read_text())["gate"]
    assert (
        told
        == found.gate
        == {"model": "roofs", "threshold": 0.5, "min_pixels": 4, "windows": 9, "skipped": 0}
    )
    assert levels_of(found.buildings) == levels_of(mapped.buildings)


def test_a_map_without_a_gate_reports_none(mapped: MapResult) -> None:
    assert mapped.gate is None
    assert json.loads((mapped.folder / "provenance.json").read_text())["gate"] is None


def test_decision_weights_choose_classes_and_leave_the_probabilities_to_the_model(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    own = colours.save_colour_model(tmp_path / "own", temperature=8.0)
    bent = colours.save_colour_model(tmp_path / "bent", temperature=8.0, damage_weights=(1.0, 6.0, 1.0, 1.0))
    first, second = (
        map_damage(*pair, tmp_path / f"map-{path.name}", model=path, window_px=96, halo_px=16)
        for path in (own, bent)
    )
    decided = second.buildings["damage"].value_counts()
    assert decided["minor-damage"] > (first.buildings["damage"] == "minor-damage").sum()
    columns = ["p_no_damage", "p_minor", "p_major", "p_destroyed", "p_building"]
    np.testing.assert_allclose(first.buildings[columns], second.buildings[columns], atol=0.03)
    chosen = second.buildings["damage"].map(dict(zip(DAMAGE.names[1:], columns, strict=False)))
    told = [row[name] for name, (_, row) in zip(chosen, second.buildings.iterrows(), strict=True)]
    np.testing.assert_allclose(second.buildings["confidence"], told * second.buildings["seen"], atol=1e-9)
    # stored once, so that they differ by the rounding of floats at most
    np.testing.assert_allclose(
        first.probabilities.array.astype(int), second.probabilities.array.astype(int), atol=1
    )
    np.testing.assert_allclose(first.buildings[columns], second.buildings[columns], atol=1e-3)


def test_shapes_below_the_cards_object_threshold_are_no_buildings_unless_the_user_says_so(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    every = map_damage(
        *pair,
        tmp_path / "all",
        model=colours.save_colour_model(tmp_path / "m", temperature=8.0),
        window_px=96,
    ).buildings
    found = float(every["p_building"].min())
    assert 0.8 < found == every["p_building"].max() < 0.9
    below, above = (
        colours.save_colour_model(tmp_path / name, temperature=8.0, object_threshold=found + step)
        for name, step in (("below", -0.01), ("above", 0.01))
    )
    kept = map_damage(*pair, tmp_path / "kept", model=below, window_px=96).buildings
    assert sorted(kept.geometry.to_wkb()) == sorted(every.geometry.to_wkb())
    assert len(map_damage(*pair, tmp_path / "none", model=above, window_px=96).buildings) == 0
    every[["building_id", "geometry"]].to_file(tmp_path / "known.gpkg")
    given = map_damage(
        *pair, tmp_path / "given", model=above, window_px=96, footprints=tmp_path / "known.gpkg"
    )
    assert len(given.buildings) == len(every) == 16


def test_a_calibration_corrects_what_is_reported_and_not_what_is_decided(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    calibration = Calibration(temperature=2.0, factors=(4.0, 1.0, 1.0, 0.5))
    plain, corrected = (
        map_damage(
            *pair,
            tmp_path / f"map-{name}",
            model=colours.save_colour_model(tmp_path / name, temperature=8.0, calibration=given),
            window_px=96,
        ).buildings
        for name, given in (("plain", None), ("corrected", calibration))
    )
    assert list(plain["damage"]) == list(corrected["damage"])
    columns = ["p_no_damage", "p_minor", "p_major", "p_destroyed"]
    expected = np.sqrt(plain[columns].to_numpy()) * [4, 1, 1, 0.5]
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(corrected[columns], expected, atol=1e-9)
    assert not np.allclose(corrected[columns], plain[columns], atol=0.05)
