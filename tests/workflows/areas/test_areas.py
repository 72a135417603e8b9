"""A map counted by areas: by hand, by what must sum to the map's own totals, and with odd areas."""

import json
import shutil
import sqlite3

import geopandas
import h3
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

import finished_maps
from aftermap import api
from aftermap.errors import DataWarning, FootprintError, InputError, OutputError
from aftermap.geo.grid import Grid
from aftermap.geo.ground_area import row_areas_m2
from aftermap.products.page.page import rewrite_page
from aftermap.products.page.stored import read_page
from aftermap.products.vectors import write_buildings
from aftermap.products.view import Picture, damage_view
from aftermap.workflows.areas.basis import DEGREES, ground_areas_m2
from aftermap.workflows.areas.counts import OUTSIDE, count_by, representative_points, totals_of
from aftermap.workflows.areas.ground import sample_ground
from aftermap.workflows.areas.h3_cells import H3Cells, cell_polygon
from aftermap.workflows.areas.polygons import PolygonAreas
from aftermap.workflows.areas.run import count_areas
from aftermap.workflows.areas.squares import Squares, system_of
from aftermap.workflows.mapping.finished import made_for_another, open_map, tell_stale
from aftermap.workflows.report.gather import read_areas
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.review.areas import Mark, add_marks
from aftermap.workflows.totals.sampling import sample_of

PLACES = [(10, 10), (20, 30), (60, 10), (110, 70), (30, 60)]
DAMAGE = ["destroyed", "no-damage", "minor-damage", "not-assessed", "major-damage"]
SIZE = (finished_maps.UTM.resolution_m) ** 2
"""Of a building of one pixel; 10 m in the zone are a little more on the ground."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five buildings on 1200 m by 800 m whose last 20 columns nobody saw."""
    missing = np.zeros(finished_maps.UTM.shape, bool)
    missing[:, 100:] = True
    frame = finished_maps.table(PLACES, DAMAGE)
    return finished_maps.finish(tmp_path_factory.mktemp("areas") / "ville", frame, missing=missing)


def write_admin(path, shapes, columns, crs=32615):
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs).to_file(path)
    return path


def in_metres(*pixels):
    """Boxes in pixels as boxes in metres of the zone."""
    return [
        shapely.box(400_000 + 10 * a, 4_100_000 - 10 * d, 400_000 + 10 * c, 4_100_000 - 10 * b)
        for a, b, c, d in pixels
    ]


def test_squares_count_what_lies_in_them(made):
    (result,) = count_areas(made, grid=500)
    rows = result.areas.set_index("area_id")
    assert list(rows.index) == [
        f"32615_E{e}_N{n}_500m" for e in (400000, 400500, 401000) for n in (4099000, 4099500)
    ]
    first = rows.loc["32615_E400000_N4099500_500m"]  # b1 and b2
    assert first[["buildings", "assessed", "destroyed", "no_damage", "damaged", "not_assessed"]].tolist() == [
        *(2, 2, 1, 1, 1, 0)
    ]
    assert first["damaged_share"] == 0.5 and first["damaged_m2_share"] == 0.5
    assert first["built_m2"] == pytest.approx(2 * SIZE, abs=0.01)
    assert first["damaged_m2"] == pytest.approx(SIZE, abs=0.01)
    last = rows.loc["32615_E401000_N4099000_500m"]  # b4, where nobody saw anything
    assert last[["buildings", "assessed", "not_assessed"]].tolist() == [1, 0, 1]
    assert np.isnan(last["damaged_share"]) and last["surveyed_km2"] == 0
    assert last["not_surveyed_km2"] == pytest.approx(0.06, rel=2e-3)  # 200 m by 300 m of the zone
    assert rows["geometry"].iloc[0].equals(shapely.box(400_000, 4_099_000, 400_500, 4_099_500))
    assert first["surveyed_share"] == 1 and first["area_km2"] == pytest.approx(0.25, rel=2e-3)


def test_squares_of_neighbouring_maps_are_the_same_squares(made, tmp_path):
    east = Grid(CRS.from_epsg(32615), Affine(10, 0, 401_100, 0, -10, 4_100_000), 120, 80)
    beside = finished_maps.finish(tmp_path / "east", finished_maps.table(PLACES, DAMAGE, east), east)
    one, other = (count_areas(each, grid=500)[0].areas for each in (made, beside))
    common = one.merge(other, on="area_id")
    assert sorted(common["area_id"]) == ["32615_E401000_N4099000_500m", "32615_E401000_N4099500_500m"]
    assert all(a.equals(b) for a, b in zip(common["geometry_x"], common["geometry_y"], strict=True))


def test_squares_of_equal_area_where_asked_for(made):
    (result,) = count_areas(made, grid=500, grid_crs="EPSG:6933")
    assert result.areas["area_km2"].to_numpy() == pytest.approx(0.25, rel=1e-4)
    assert result.areas["area_id"].str.startswith("6933_E").all()


def test_cells_of_h3_hold_the_buildings_that_h3_puts_there(made):
    (result,) = count_areas(made, h3=9)
    lons, lats = finished_maps.UTM.lonlat(*np.array(PLACES, float).T)
    expected = pd.Series([h3.latlng_to_cell(a, o, 9) for a, o in zip(lats, lons, strict=True)]).value_counts()
    found = result.areas.set_index("area_id")["buildings"]
    assert found[found > 0].to_dict() == expected.to_dict()
    assert result.areas["area_km2"].to_numpy() == pytest.approx(
        [h3.cell_area(name, "km^2") for name in result.areas["area_id"]], rel=6e-3
    )


@pytest.mark.parametrize("basis", [H3Cells(8), H3Cells(11), Squares(100.0, system_of(finished_maps.UTM))])
def test_areas_sum_to_the_map(made, basis):
    random = np.random.default_rng(0)
    names = [*finished_maps.SHARES, "not-assessed"]
    places = random.uniform((1, 1), (119, 79), (200, 2))
    frame = finished_maps.table(places.tolist(), random.choice(names, 200).tolist())
    ground = sample_ground(made / "damage.tif", finished_maps.UTM, None)
    found = count_by(basis, frame, representative_points(frame, finished_maps.UTM), ground).frame
    totals = totals_of(found)
    assert totals["buildings"] == 200
    assert totals["surveyed_km2"] == pytest.approx(ground.surveyed_m2.sum() / 1e6, abs=len(found) * 5e-7)
    for name in names:
        assert totals[name.replace("-", "_")] == (frame["damage"] == name).sum()
    assert totals["built_m2"] == pytest.approx(frame["area_m2"].sum(), abs=len(found) * 0.005)


def test_the_ground_sums_to_the_map_however_coarse_it_is_sampled(made):
    seen = row_areas_m2(finished_maps.UTM).sum() * 100
    for edge in (None, 10.0, 10_000.0):
        ground = sample_ground(made / "damage.tif", finished_maps.UTM, edge)
        assert ground.surveyed_m2.sum() == pytest.approx(seen, rel=1e-9)
        assert ground.mapped_m2.sum() == pytest.approx(seen * 1.2, rel=1e-9)


def test_areas_too_small_for_the_map_are_refused(made):
    large = Grid(CRS.from_epsg(32615), Affine(1, 0, 4e5, 0, -1, 4.1e6), 30_000, 30_000)
    with pytest.raises(InputError, match=r"areas of 10 m are too small for a map of 900 megapixels at 1 m"):
        sample_ground(made / "damage.tif", large, 10.0)


@pytest.mark.parametrize(
    ("lat", "lon"), [(0.0, 180.0), (-16.8, 179.9999), (65.0, -180.0), (90.0, 0.0), (-90.0, 0.0)]
)
@pytest.mark.parametrize("resolution", [3, 6, 9])
def test_cells_at_the_edges_of_longitude_have_their_own_area(lat, lon, resolution):
    cell = h3.latlng_to_cell(lat, lon, resolution)
    shape = cell_polygon(h3.str_to_int(cell))
    assert shape.is_valid and shape.bounds[0] >= -180 and shape.bounds[2] <= 180
    area = ground_areas_m2(np.array([shape], dtype=object), DEGREES)[0]
    assert area == pytest.approx(h3.cell_area(cell, "m^2"), rel=0.01)
    if abs(lat) == 90:
        assert shape.intersects(shapely.Point(10, lat))


def test_a_map_across_the_antimeridian(tmp_path):
    grid = Grid(CRS.from_epsg(32660), Affine(10, 0, 833_500, 0, -10, 1_000), 120, 80)
    places = [(10, 40), (110, 40)]
    out = finished_maps.finish(tmp_path / "fiji", finished_maps.table(places, ["destroyed"] * 2, grid), grid)
    cells, squares = api.areas(out, h3=7, grid=500)
    assert cells.totals["buildings"] == squares.totals["buildings"] == 2
    assert cells.totals["surveyed_km2"] == pytest.approx(squares.totals["surveyed_km2"], abs=5e-6)
    for result in (cells, squares):
        features = json.loads((out / "areas" / f"{result.name}.geojson").read_text())["features"]
        shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
        assert all(part.bounds[2] - part.bounds[0] < 1 for s in shapes for part in shapely.get_parts(s))
    sides = [shapely.box(179, -1, 180, 1), shapely.box(-180, -1, -179, 1)]
    halves = write_admin(tmp_path / "admin.gpkg", sides, {"name": ["w", "e"]}, 4326)
    (result,) = api.areas(out, by=halves)
    assert result.areas.set_index("name")["buildings"].to_dict() == {"w": 1, "e": 1}


def test_districts_by_their_codes(made, tmp_path):
    columns = {
        "ADM2_PCODE": ["XX01", "XX01"],
        "ADM3_PCODE": ["007", "010"],
        "ADM3_EN": ["Ouest", "Zürich-Süd"],
    }
    path = write_admin(tmp_path / "admin.gpkg", in_metres((0, 0, 50, 80), (50, 0, 120, 80)), columns)
    (result,) = count_areas(made, by=path)
    assert result.areas["pcode"].tolist() == result.areas["area_id"].tolist() == ["007", "010"]
    assert result.areas["name"].tolist() == ["Ouest", "Zürich-Süd"]
    assert result.areas["buildings"].tolist() == [3, 2] and result.areas["damaged"].tolist() == [2, 1]
    assert result.title == "2 areas of admin.gpkg (P-codes from ADM3_PCODE, names from ADM3_EN)"


def test_whole_numbers_and_csv_give_codes_as_they_are_written(made, tmp_path):
    shapes = in_metres((0, 0, 50, 80), (50, 0, 120, 80))
    numbers = write_admin(
        tmp_path / "n.gpkg", shapes, {"PCODE": pd.array([4_100_000_000_000_000_001, None], "Int64")}
    )
    with pytest.warns(DataWarning, match=r"1 of 2 areas on the map without a P-code in PCODE: called by row"):
        (result,) = count_areas(made, by=numbers)
    assert result.areas["pcode"].tolist() == ["4100000000000000001", None]
    assert result.areas["area_id"].tolist() == ["4100000000000000001", "row 2"]
    lonlat = geopandas.GeoSeries(shapes, crs=32615).to_crs(4326)
    table = tmp_path / "t.csv"
    table.write_text("code;WKT\n" + "".join(f"00{n};{shape.wkt}\n" for n, shape in enumerate(lonlat)))
    (result,) = count_areas(made, by=table, pcode="CODE")
    assert result.areas["pcode"].tolist() == ["000", "001"]


def test_a_point_on_a_border_lies_in_the_first_of_the_file():
    shapes = [shapely.box(1, 0, 2, 1), shapely.box(0, 0, 1, 1)]
    frame = geopandas.GeoDataFrame({"area_id": ["e", "w"]}, geometry=shapes, crs=4326)
    areas = PolygonAreas("a", "a", frame)
    lons, lats = np.array([1.0, 0.5, 0.0, 3.0, 361.5]), np.array([0.5, 0.5, 0.0, 0.0, 0.5])
    assert areas.locate(lons, lats).tolist() == [0, 1, 1, -1, 0]


def test_areas_that_overlap_are_told_and_count_once(made, tmp_path):
    path = write_admin(tmp_path / "a.gpkg", in_metres((0, 0, 70, 80), (50, 0, 120, 80)), {"name": ["a", "b"]})
    with pytest.warns(DataWarning) as told:
        (result,) = count_areas(made, by=path)
    texts = [str(each.message) for each in told]
    assert any("1 pair of areas on the map overlap, by 0.16 km² (row 1 and row 2)" in text for text in texts)
    assert any("1 building in more than one area: each counts in the first" in text for text in texts)
    assert result.areas["buildings"].tolist() == [4, 1]


def test_codes_that_occur_twice_are_told_and_counted_apart(made, tmp_path):
    shapes = in_metres((0, 0, 50, 80), (50, 0, 120, 80))
    path = write_admin(tmp_path / "a.gpkg", shapes, {"PCODE": ["X1", "X1"]})
    with pytest.warns(DataWarning, match=r"1 P-code of several areas on the map \(X1\)"):
        (result,) = count_areas(made, by=path)
    assert result.areas["area_id"].tolist() == ["X1", "X1 #2"] and result.areas["pcode"].tolist() == [
        "X1",
        "X1",
    ]


def test_what_lies_in_no_area_is_counted_outside_of_all(made, tmp_path):
    path = write_admin(tmp_path / "a.gpkg", in_metres((0, 0, 50, 80)), {"name": ["a"]})
    with pytest.warns(DataWarning, match="2 buildings of 5 in none of the areas"):
        (result,) = api.areas(made, by=path)
    assert result.areas["area_id"].tolist() == ["row 1", OUTSIDE]
    assert result.areas["buildings"].tolist() == [3, 2] and result.areas.geometry.iloc[1] is None
    assert result.areas["surveyed_km2"].sum() == pytest.approx(0.8, rel=2e-3)
    feature = json.loads((made / "areas" / "a.geojson").read_text())["features"][1]
    assert feature["geometry"] is None and feature["properties"]["buildings"] == 2
    assert result.totals["buildings"] == 5


def test_areas_in_another_system_and_broken_ones(made, tmp_path):
    bow = shapely.Polygon(
        [(400_000, 4_099_200), (401_200, 4_100_000), (401_200, 4_099_200), (400_000, 4_100_000)]
    )
    shapes = geopandas.GeoSeries([*in_metres((-10, -10, 130, 90)), bow], crs=32615).to_crs(3857)
    path = write_admin(tmp_path / "a.gpkg", shapes.to_numpy(), {"name": ["all", "bow"]}, 3857)
    with pytest.warns(DataWarning) as told:
        (result,) = count_areas(made, by=path)
    assert any("1 self-intersecting or otherwise invalid ones mended" in str(each.message) for each in told)
    assert result.areas["buildings"].tolist() == [5, 0]


def test_areas_elsewhere_are_refused_with_both_places(made, tmp_path):
    path = write_admin(tmp_path / "a.gpkg", [shapely.box(0, 0, 1, 1)], {"name": ["a"]}, 4326)
    with pytest.raises(
        FootprintError, match=r"no area lies on the map: .*lon 0\.0000 to 1\.0000.*another place"
    ):
        count_areas(made, by=path)


def test_one_building_of_many_districts_elsewhere_are_left_out(made, tmp_path):
    shapes = in_metres((0, 0, 120, 80), *((500 + 10 * n, 0, 510 + 10 * n, 80) for n in range(20)))
    path = write_admin(tmp_path / "a.gpkg", shapes, {"name": [f"n{n}" for n in range(21)]})
    (result,) = count_areas(made, by=path)
    assert result.areas["name"].tolist() == ["n0"]


def test_columns_and_files_that_are_not_there(made, tmp_path):
    path = write_admin(tmp_path / "a.gpkg", in_metres((0, 0, 50, 80)), {"district": ["a"]})
    with pytest.raises(InputError, match=r"has no column ADM3: --pcode|pcode takes one of district"):
        count_areas(made, by=path, pcode="ADM3")
    points = write_admin(tmp_path / "p.gpkg", [shapely.Point(400_100, 4_099_900)], {"name": ["a"]})
    with pytest.raises(FootprintError, match="polygon"):
        count_areas(made, by=points)
    with pytest.raises(InputError, match="nothing to count by"):
        count_areas(made)
    with pytest.raises(InputError, match="no resolution of H3"):
        count_areas(made, h3=16)
    with pytest.raises(InputError, match="is not in metres"):
        count_areas(made, grid=500, grid_crs="EPSG:4326")
    with pytest.raises(InputError, match="is not a finished map"):
        count_areas(tmp_path, h3=9)


def test_a_map_in_pixels_has_no_areas(tmp_path):
    grid = Grid.pixels(120, 80)
    out = finished_maps.finish(tmp_path / "plain", finished_maps.table(PLACES, DAMAGE, grid), grid)
    with pytest.raises(InputError, match="is a map in pixels"):
        count_areas(out, h3=9)


def test_a_map_without_buildings_still_tells_its_ground(tmp_path):
    out = finished_maps.finish(tmp_path / "empty", finished_maps.table(PLACES, DAMAGE).iloc[:0])
    (result,) = count_areas(out, grid=500)
    assert result.areas["buildings"].sum() == 0 and result.totals["surveyed_km2"] == pytest.approx(
        0.96, rel=2e-3
    )


def test_tiles_count_as_the_map_takes_them(made, tmp_path):
    for name, left in (("a", 400_000), ("b", 400_500)):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", width=70, height=80, count=3, dtype="uint8", crs="EPSG:32615",
            transform=Affine(10, 0, left, 0, -10, 4_100_000),
        ) as file:  # fmt: skip
            file.write(np.full((3, 80, 70), 90, np.uint8))
    (result,) = count_areas(made, tiles=tmp_path)
    assert result.areas.set_index("name")["buildings"].to_dict() == {"a.tif": 4, "b.tif": 1}


def write_raster(path, values, transform, crs, nodata=None):
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[1], height=values.shape[0], count=1, dtype=values.dtype, crs=crs,
        transform=transform, nodata=nodata,
    ) as file:  # fmt: skip
        file.write(values, 1)
    return path


def test_people_are_summed_by_the_share_of_each_pixel(made, tmp_path):
    """Pixels of 400 m: 1 to 6 people; the border at 500 m cuts the second column at a quarter."""
    people = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    path = write_raster(
        tmp_path / "population.tif", people, Affine(400, 0, 400_000, 0, -400, 4_100_000), "EPSG:32615"
    )
    admin = write_admin(
        tmp_path / "a.gpkg", in_metres((0, 0, 50, 80), (50, 0, 120, 80)), {"name": ["w", "e"]}
    )
    (result,) = count_areas(made, by=admin, rasters=[path])
    west = 1 + 4 + (2 + 5) / 4
    assert result.areas["population"].tolist() == [pytest.approx(west), pytest.approx(21 - west)]
    assert result.raster_sums["population"] == {"sum": 21.0, "in_areas_with_damage": 21.0}


def test_pixels_without_data_count_nothing_and_are_told(made, tmp_path):
    people = np.array([[-9999, 2, 3], [4, 5, 6]], np.float32)
    path = write_raster(
        tmp_path / "p.tif", people, Affine(400, 0, 400_000, 0, -400, 4_100_000), "EPSG:32615", -9999
    )
    admin = write_admin(
        tmp_path / "a.gpkg", in_metres((0, 0, 50, 80), (50, 0, 120, 80)), {"name": ["w", "e"]}
    )
    with pytest.warns(DataWarning, match=r"p\.tif has no data in a part of 1 of 2 areas"):
        (result,) = count_areas(made, by=admin, rasters=[path])
    assert result.areas["p"].tolist() == [pytest.approx(5.75), pytest.approx(14.25)]


def test_a_raster_in_degrees_is_met_by_areas_in_metres(made, tmp_path):
    """Squares in the zone and a raster in degrees: exactextract would compare numbers of both."""
    one = np.full((60, 80), 1, np.float32)  # about 22 m by 28 m
    lon, lat = (float(v[0]) for v in finished_maps.UTM.lonlat(np.array([-10.0]), np.array([-10.0])))
    step = 0.00025
    path = write_raster(tmp_path / "p.tif", one, Affine(step, 0, lon, 0, -step, lat), "EPSG:4326")
    area = write_admin(tmp_path / "a.gpkg", in_metres((0, 0, 120, 80)), {"name": ["all"]})
    (result,) = count_areas(made, by=area, rasters=[path])
    pixel = 6378137.0 * np.radians(step) ** 2 * 6378137.0 * np.cos(np.radians(lat))
    assert result.areas["p"].iloc[0] == pytest.approx(0.96e6 / pixel, rel=0.01)


def test_rasters_that_cannot_be_summed_are_refused(made, tmp_path):
    people = np.ones((2, 3), np.float32)
    turned = write_raster(
        tmp_path / "t.tif", people, Affine(400, 9, 400_000, 9, -400, 4_100_000), "EPSG:32615"
    )
    far = write_raster(tmp_path / "f.tif", people, Affine(400, 0, 700_000, 0, -400, 4_100_000), "EPSG:32615")
    with pytest.raises(InputError, match="turned against its reference system"):
        count_areas(made, grid=500, rasters=[turned])
    with pytest.raises(InputError, match="does not touch any area"):
        count_areas(made, grid=500, rasters=[far])


def test_layers_come_with_their_colours(made):
    api.areas(made, grid=500)
    folder = made / "areas"
    assert {f"grid-500m.{e}" for e in ("gpkg", "geojson", "qml", "csv", "html", "png")} <= {
        p.name for p in folder.iterdir()
    }
    with sqlite3.connect(folder / "grid-500m.gpkg") as database:
        ((style, default),) = database.execute("SELECT styleQML, useAsDefault FROM layer_styles").fetchall()
    assert default == 1 and 'attr="damaged_share"' in style
    text = (folder / "grid-500m.csv").read_text().splitlines()
    assert text[0].startswith(
        "area_id,name,pcode,damage_scale,buildings,assessed,no_damage,minor_damage,major_damage"
    )
    assert text[2].startswith("32615_E400000_N4099500_500m,,,joint-damage-scale,2,2,1,0,0,1,0,0,1,0.5,")
    page = (folder / "grid-500m.html").read_text()
    assert "default-src 'none'" in page and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    first = {path.name: path.read_bytes() for path in folder.glob("grid-500m.*")}
    api.areas(made, grid=500)
    assert first == {path.name: path.read_bytes() for path in folder.glob("grid-500m.*")}


def test_an_answered_sample_gives_intervals_by_area(tmp_path):
    """West all destroyed and east all whole, a full count of the sample in each: what was found is what is told."""
    random = np.random.default_rng(1)
    west, east = (random.uniform((low, 1), (low + 48, 79), (30, 2)) for low in (1, 61))
    frame = finished_maps.table([*west.tolist(), *east.tolist()], ["destroyed"] * 30 + ["no-damage"] * 30)
    out = finished_maps.finish(tmp_path / "ville", frame)
    admin = write_admin(
        tmp_path / "a.gpkg", in_metres((0, 0, 50, 80), (50, 0, 120, 80)), {"name": ["w", "e"]}
    )
    (before,) = count_areas(out, by=admin)
    assert not [name for name in before.areas.columns if "estimate" in name]
    sample = sample_of(open_map(out), 60)
    verdicts = frame.set_index("building_id")["damage"]
    Journal(out).add(
        Answer(building_id=each, verdict=verdicts[each], reviewer="r", origin="sample")
        for each in sample.drawn
    )
    (result,) = count_areas(out, by=admin)
    rows = result.areas.set_index("name")
    columns = ["damaged_estimate", "damaged_low", "damaged_high", "answers"]
    assert rows.loc["w", columns].tolist() == [30, 30, 30, 30] and rows.loc["e", columns].tolist() == [
        0,
        0,
        0,
        30,
    ]
    assert set(rows["estimate_kind"]) == {"counted"}


def test_buildings_outside_of_marked_ground_are_not_surveyed(tmp_path):
    """West of 300 m was marked: b1, b2 lie there; b5 lies on the border's far side and was answered."""
    out = finished_maps.finish(tmp_path / "ville", finished_maps.table(PLACES, DAMAGE))
    (west,) = geopandas.GeoSeries(in_metres((0, 0, 25, 80)), crs=32615).to_crs(4326)
    add_marks(open_map(out), [Mark(surveyed=True, geometry=shapely.geometry.mapping(west), reviewer="r")])
    Journal(out).add([Answer(building_id="b5", verdict="destroyed", reviewer="r")])
    with pytest.warns(
        DataWarning, match=r"2 buildings outside of the ground .* the model takes 1 of them for damaged"
    ):
        (result,) = count_areas(out, grid=5000)
    row = result.areas.iloc[0]
    columns = [
        "buildings",
        "assessed",
        "destroyed",
        "minor_damage",
        "major_damage",
        "not_assessed",
        "not_surveyed",
    ]
    assert row[columns].tolist() == [5, 3, 1, 0, 1, 0, 2]
    assert row["surveyed_km2"] == pytest.approx(0.2, rel=2e-3)
    assert row["not_surveyed_km2"] == pytest.approx(0.76, rel=2e-3)


def test_what_cannot_be_finished_leaves_the_older_files(tmp_path, monkeypatch):
    out = finished_maps.finish(tmp_path / "ville", finished_maps.table(PLACES, DAMAGE))
    api.areas(out, grid=500)
    before = {path.name: path.read_bytes() for path in (out / "areas").iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aftermap.products.figures.areas_figure.write_figure", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        api.areas(out, grid=500, grid_crs="EPSG:6933")
    assert before == {path.name: path.read_bytes() for path in (out / "areas").iterdir()}


def test_areas_become_a_layer_of_the_maps_page_and_the_rest_of_it_stays(tmp_path):
    folder = finished_maps.finish(tmp_path / "ville", finished_maps.table(PLACES, DAMAGE), page=True)
    before = read_page(folder / "map.html").data
    api.areas(folder, grid=400)
    api.areas(folder, grid=200)
    after = read_page(folder / "map.html").data
    assert [each["name"] for each in after["areas"]] == ["grid-400m", "grid-200m"]
    assert {key: value for key, value in after.items() if key != "areas"} == before
    layer = after["areas"][0]
    # squares begin at whole 400 m of the zone: the map's corner is one, so three by two of 40 pixels, cut 2 % beyond
    first = layer["paths"][layer["names"].index("32615_E400000_N4099600_400m")]
    assert sorted(zip(first[0][::2], first[0][1::2], strict=True)) == [(0, 0), (0, 40), (40, 0), (40, 40)]
    shares = layer["metrics"][0]
    assert shares["label"] == "Damaged, share of assessed buildings"
    assert dict(zip(layer["names"], shares["values"], strict=True))["32615_E400000_N4099600_400m"] == 0.5
    page = (folder / "map.html").read_text()
    assert "default-src 'none'" in page and "areaSets" in page


def test_a_page_without_areas_has_no_script_for_them(tmp_path):
    folder = finished_maps.finish(tmp_path / "ville", finished_maps.table(PLACES, DAMAGE), page=True)
    assert "areaSets" not in (folder / "map.html").read_text()
    page = read_page(folder / "map.html")
    api.areas(folder, grid=400)
    again = rewrite_page(tmp_path / "learnt.html", read_page(folder / "map.html"), view_of(folder))
    assert "areas" not in read_page(again).data  # they were counted of other classes
    assert read_page(again).tiles == page.tiles


def view_of(folder):
    found = open_map(folder)
    none = Picture("Before", np.zeros((0, 0, 3), np.uint8))
    return damage_view(found.buildings, none, none, found.grid, found.summary)


def test_what_was_counted_of_another_map_is_told_and_never_shown(tmp_path):
    folder = finished_maps.finish(tmp_path / "ville", finished_maps.table(PLACES, DAMAGE), page=True)
    api.areas(folder, grid=400)
    now = open_map(folder)
    assert made_for_another(folder, now.identity) == []
    # the same counts and outlines, but two buildings have changed places in their classes
    swapped = [DAMAGE[1], DAMAGE[0], *DAMAGE[2:]]
    write_buildings(finished_maps.table(PLACES, swapped), folder)
    other = open_map(folder)
    assert other.outlines_sha256 == now.outlines_sha256 and other.summary == now.summary
    assert made_for_another(folder, other.identity) == ["areas/grid-400m.json"]
    with pytest.raises(InputError, match=r"grid-400m\.csv is of an earlier map of these buildings"):
        read_areas(folder, other.summary, other.identity)


def test_scenes_are_counted_without_the_images(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "ville")
    west, east = in_metres((0, 0, 40, 80), (30, 0, 120, 80))
    frame = geopandas.GeoDataFrame(
        {"date": ["pre", "post", "post"], "file": ["b.tif", "w.tif", "e.tif"]},
        geometry=[west, west, east],
        crs=32615,
    )
    frame.to_file(folder / "scenes.gpkg", layer="scenes")
    (result,) = count_areas(folder, scenes="post")
    counts = dict(zip(result.areas["area_id"], result.areas["buildings"], strict=True))
    assert counts == {"w.tif": 3, "e.tif": 2}  # (30, 60) lies in both, and counts in the first
    with pytest.raises(InputError, match="keeps no outlines of its images: map again, or pass the images"):
        count_areas(made, scenes="post")


def test_who_gives_a_map_another_table_says_what_was_counted_of_the_one_before(tmp_path):
    folder = finished_maps.finish(tmp_path / "ville", finished_maps.table(PLACES, DAMAGE), page=True)
    api.areas(folder, grid=400)
    tell_stale(folder, open_map(folder).buildings)  # the same table: nothing to say
    with pytest.warns(
        DataWarning, match=r"areas/grid-400m\.json in .*ville is of the map before: repeat the comm"
    ):
        tell_stale(folder, finished_maps.table(PLACES, ["destroyed"] * 5))
