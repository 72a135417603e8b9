import json
import warnings
from pathlib import Path

import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

import colour_town as colours
from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
from aftermap.errors import DataWarning, ModelError, PixelCoordinatesWarning
from aftermap.geo.grid import Grid
from aftermap.workflows.mapping.buildings import map_buildings
from aftermap.workflows.mapping.damage import map_damage
from aftermap.workflows.mapping.result import MapResult

FILES = {
    "classes.tif",
    "building.tif",
    "buildings.gpkg",
    "buildings.geojson",
    "buildings.csv",
    "summary.json",
    "provenance.json",
    "map.html",
    "overview.png",
    *("buildings.qml", "classes.qml", "classes.tif.aux.xml"),
}
COLUMNS = (
    *("building_id", "p_building", "confidence", "area_m2", "lon", "lat", "seen"),
    *("image", "model", "model_version", "model_sha256"),
)
WINDOWS = {"window_px": 96, "halo_px": 16}


@pytest.fixture(scope="module")
def roofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.save_roof_model(tmp_path_factory.mktemp("models") / "roofs")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.write_town(tmp_path_factory.mktemp("town"))[0]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, roofs: Path, image: Path) -> MapResult:
    return map_buildings(image, tmp_path_factory.mktemp("result") / "map", model=roofs, **WINDOWS)


def test_every_house_is_found_once_where_it_stands(mapped: MapResult) -> None:
    frame, to_pixels = mapped.buildings, ~colours.town_grid().transform
    places = {
        tuple(int(v // colours.PITCH_PX) for v in to_pixels * (p.x, p.y)) for p in frame.geometry.centroid
    }
    assert len(frame) == 16 and places == {(col, row) for row, col in colours.houses()}
    assert frame["area_m2"].to_numpy() == pytest.approx(np.full(16, 100), rel=0.01)
    assert (frame["seen"] == 1).all() and (frame["p_building"] > 0.99).all()


def test_the_folder_holds_exactly_the_promised_files_and_columns(mapped: MapResult) -> None:
    assert {path.name for path in mapped.folder.iterdir()} == FILES
    assert [path.name for path in mapped.folder.parent.iterdir()] == ["map"]
    table = pandas.read_csv(mapped.folder / "buildings.csv")
    assert tuple(table.columns) == COLUMNS
    package = pyogrio.read_dataframe(mapped.folder / "buildings.gpkg", layer="buildings")
    assert package.crs.to_epsg() == 32615 and tuple(package.columns) == (*COLUMNS, "geometry")
    assert set(table["image"]) == {"pre.tif"} and set(table["model"]) == {"roofs"}


def test_the_rasters_hold_classes_and_probabilities(mapped: MapResult) -> None:
    truth = (colours.town()[2] > 0).astype(np.uint8)
    with rasterio.open(mapped.folder / "classes.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), truth)
        assert raster.nodata == 255 and raster.transform == colours.town_grid().transform
    with rasterio.open(mapped.folder / "building.tif") as raster:
        np.testing.assert_array_equal(raster.read(1) > 127, truth == 1)
        assert raster.scales == pytest.approx((1 / 254,)) and raster.colormap(1)[254][3] == 255


def test_a_model_of_one_date_is_reported_as_such(mapped: MapResult) -> None:
    told = json.loads((mapped.folder / "provenance.json").read_text())
    assert (told["mode"], told["scale"], told["shift"], told["notes"]) == ("one image", "building", None, [])
    assert told["inputs"]["image"]["files"][0]["name"] == "pre.tif"
    assert told["options"]["part_touching"] is True and told["options"]["task"] == "buildings"


def test_a_model_of_two_dates_is_shown_the_image_twice_and_the_report_says_so(
    tmp_path: Path, image: Path, mapped: MapResult
) -> None:
    model = colours.save_colour_model(tmp_path / "damage")
    result = map_buildings(image, tmp_path / "map", model=model, **WINDOWS)
    with rasterio.open(result.folder / "classes.tif") as a, rasterio.open(mapped.folder / "classes.tif") as b:
        np.testing.assert_array_equal(a.read(1), b.read(1))
    told = json.loads((result.folder / "provenance.json").read_text())
    assert told["mode"] == "one image as both of its two dates"
    assert "colours compares two dates and was shown the same image as both" in told["notes"][0]
    assert result.summary["mode"] == told["mode"]


def test_an_ensemble_tells_buildings_by_its_localization_member(
    tmp_path: Path, roofs: Path, image: Path, mapped: MapResult
) -> None:
    damage = colours.save_colour_model(tmp_path / "damage")
    card, members = compose("both", [Ingredient(roofs), Ingredient(damage)])
    save_ensemble(tmp_path / "both", card, members)
    result = map_buildings(image, tmp_path / "map", model=tmp_path / "both", **WINDOWS)
    assert (result.folder / "classes.tif").read_bytes() == (mapped.folder / "classes.tif").read_bytes()
    assert set(result.buildings["model"]) == {"both"}


def test_the_map_does_not_depend_on_the_window(
    tmp_path: Path, roofs: Path, image: Path, mapped: MapResult
) -> None:
    other = map_buildings(image, tmp_path / "map", model=roofs, window_px=512, halo_px=16)
    for name in ("classes.tif", "buildings.csv"):
        assert (other.folder / name).read_bytes() == (mapped.folder / name).read_bytes()


class Killed(BaseException):
    """Stands for a process that dies."""


def test_an_interrupted_run_resumes_to_the_same_result(
    tmp_path: Path, roofs: Path, image: Path, mapped: MapResult
) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "predicting" and done >= 60 * colours.SIZE_PX:
            raise Killed

    with pytest.raises(Killed):
        map_buildings(image, tmp_path / "map", model=roofs, progress=progress, **WINDOWS)
    assert not (tmp_path / "map").exists()
    result = map_buildings(image, tmp_path / "map", model=roofs, resume=True, **WINDOWS)
    assert result.resumed_rows >= 60
    for name in ("classes.tif", "building.tif", "buildings.gpkg"):
        assert (result.folder / name).read_bytes() == (mapped.folder / name).read_bytes()


def row_of_houses(folder: Path) -> Path:
    """Two houses of 12 m that a passage of 2 m joins, half a metre per pixel."""
    pixels = np.full((3, 96, 96), 60, np.uint8)
    pixels[0, 30:54, 10:34] = pixels[0, 30:54, 38:62] = pixels[0, 40:44, 34:38] = colours.ROOF_RED
    return colours.write_image(folder / "row.tif", pixels, colours.town_grid(96))


@pytest.mark.parametrize(("part", "count"), [(True, 2), (False, 1)])
def test_touching_houses_are_parted_unless_told_otherwise(
    tmp_path: Path, roofs: Path, part: bool, count: int
) -> None:
    settings = {} if part else {"part_touching": False}
    result = map_buildings(row_of_houses(tmp_path), tmp_path / "map", model=roofs, **settings)
    assert len(result.buildings) == count


def test_buildings_below_the_smallest_area_are_left_out(tmp_path: Path, roofs: Path, image: Path) -> None:
    result = map_buildings(image, tmp_path / "map", model=roofs, min_area_m2=101)
    assert len(result.buildings) == 0 and result.summary["buildings"] == 0


def test_known_footprints_get_the_probability_of_their_pixels(
    tmp_path: Path, roofs: Path, image: Path
) -> None:
    shapes = {f"house {row}{col}": shape for (row, col), shape in colours.houses().items()}
    shapes |= {"empty lot": shapely.box(2, 2, 10, 10), "far away": shapely.box(1000, 1000, 1020, 1020)}
    path = colours.write_footprints(tmp_path / "f.gpkg", shapes)
    frame = map_buildings(
        image, tmp_path / "map", model=roofs, footprints=path, keep_outside=True, **WINDOWS
    ).buildings
    told = dict(zip(frame["building_id"], frame["p_building"], strict=True))
    assert told["house 00"] > 0.99 and told["empty lot"] < 0.01 and np.isnan(told["far away"])


def test_an_area_of_interest_bounds_the_map(tmp_path: Path, roofs: Path, image: Path) -> None:
    path = colours.write_footprints(tmp_path / "aoi.geojson", {"a": shapely.box(0, 0, 96, 96)})
    result = map_buildings(image, tmp_path / "map", model=roofs, aoi=path)
    assert len(result.buildings) == 4 and result.megapixels == pytest.approx(0.0092, abs=0.0003)


def test_tiles_of_web_mercator_are_mapped_as_one_image(tmp_path: Path, roofs: Path) -> None:
    pixels, pitch = colours.town()[0], 0.5
    grid = Grid(CRS.from_epsg(3857), Affine(pitch, 0, 3_627_854, 0, -pitch, 29_000), 192, 192)
    for row in range(2):
        for col in range(2):
            place = Grid(grid.crs, grid.transform * Affine.translation(96 * col, 96 * row), 96, 96)
            part = pixels[:, 96 * row : 96 * row + 96, 96 * col : 96 * col + 96]
            colours.write_image(tmp_path / "tiles" / f"{col}-{row}.tif", part, place)
    result = map_buildings(tmp_path / "tiles", tmp_path / "map", model=roofs, window_px=64, halo_px=8)
    assert len(result.buildings) == 16
    assert result.buildings["area_m2"].to_numpy() == pytest.approx(np.full(16, 100), rel=0.01)


def test_pixels_that_are_too_fine_are_warned_about_with_the_resolution_to_pass(
    tmp_path: Path, image: Path
) -> None:
    model = colours.save_roof_model(tmp_path / "model", resolution_m=(1.0, 2.0))
    with pytest.warns(DataWarning, match=r"the model knows 1 to 2 m: expect errors, or pass --resolution 1$"):
        map_buildings(image, tmp_path / "map", model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        result = map_buildings(image, tmp_path / "right", model=model, resolution=1.0)
    assert result.summary["size_px"] == {"width": 96, "height": 96}
    assert len(result.buildings) == 16


def test_the_resolution_to_pass_counts_in_the_units_of_the_reference_system(tmp_path: Path) -> None:
    # at 60 degrees north a metre of web mercator is half a metre on the ground
    grid = Grid(CRS.from_epsg(3857), Affine(0.5, 0, 0, 0, -0.5, 8_399_738), 96, 96)
    path = colours.write_image(tmp_path / "north.tif", colours.town()[0][:, :96, :96], grid)
    model = colours.save_roof_model(tmp_path / "model", resolution_m=(1.0, 2.0))
    with pytest.warns(DataWarning, match=r"pixels are 0\.25 m wide, .* or pass --resolution (1\.99|2)$"):
        map_buildings(path, tmp_path / "map", model=model)


def test_degrees_are_warned_about_with_a_reference_system_in_metres(tmp_path: Path) -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(4.5e-6, 0, 32.6, 0, -4.5e-6, -0.26), 96, 96)
    path = colours.write_image(tmp_path / "south.tif", colours.town()[0][:, :96, :96], grid)
    model = colours.save_roof_model(tmp_path / "model", resolution_m=(1.0, 2.0))
    with pytest.warns(DataWarning, match=r"or pass --crs EPSG:32736 --resolution 1$"):
        map_buildings(path, tmp_path / "map", model=model)


def test_a_plain_image_is_mapped_in_pixels(tmp_path: Path, roofs: Path) -> None:
    path = colours.write_image(tmp_path / "plain.png", colours.town()[0])
    with pytest.warns(PixelCoordinatesWarning, match="the image has no georeference"):
        result = map_buildings(path, tmp_path / "map", model=roofs)
    assert len(result.buildings) == 16 and result.summary["area_m2"] is None


def test_a_model_of_one_date_does_not_map_damage(tmp_path: Path, roofs: Path, image: Path) -> None:
    with pytest.raises(ModelError, match="pass --task buildings"):
        map_damage(image, image, tmp_path / "map", model=roofs)


@pytest.mark.real
def test_the_model_in_the_box_finds_most_houses_of_joplin(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "joplin-geotiff"
    known = pyogrio.read_dataframe(folder / "footprints" / "joplin.geojson").to_crs(26915)
    area = shapely.box(366_702.6, 4_104_211.2, 366_942.6, 4_104_451.2)  # 400 x 400 px, EPSG:26915
    path = tmp_path / "aoi.gpkg"
    known.iloc[:1].set_geometry([area]).to_file(path)
    result = map_buildings(folder / "pre", tmp_path / "map", aoi=path, backend="torch")
    inside = known[known.within(area)].geometry.to_numpy()
    found = result.buildings.to_crs(26915).geometry.to_numpy()
    hit = shapely.STRtree(found).query(inside, predicate="intersects")[0]
    # footprints were drawn after the town was rebuilt, so not every one has a house beneath
    assert len(inside) > 20 and len(set(hit.tolist())) / len(inside) > 0.8
    assert 0.5 < len(found) / len(inside) < 2.5
