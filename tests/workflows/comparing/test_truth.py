"""Other people's files, recognised by what they hold."""

import json

import geopandas
import pytest
from pyproj import Transformer
from shapely.geometry import Point, mapping

from aftermap.errors import InputError
from aftermap.scoring.agreement import Share, area_under_roc, kappa
from aftermap.workflows.comparing.grades import MAJOR, MINOR, NO, common_classes, name_of, parse_mapping
from aftermap.workflows.comparing.truth import open_truth
from finished_maps import GRID, NORTH, WEST, house

PLACES = [(8, 8), (28, 8), (48, 8), (68, 8)]


def written(path, columns, places=PLACES):
    shapes = [Point(WEST + x, NORTH - y) for x, y in places]
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32636").to_crs("EPSG:4326")
    if path.suffix == ".csv":
        flat = frame.drop(columns="geometry").assign(Latitude=frame.geometry.y, Longitude=frame.geometry.x)
        flat.to_csv(path, index=False)
    else:
        frame.to_file(path)
    return path


def grades(truth):
    return truth.scale, truth.grades.tolist()


def test_inspections_of_cal_fire_come_as_a_table(tmp_path):
    path = written(
        tmp_path / "dins.csv",
        {
            "OBJECTID": [1, 2, 3, 4],
            "* Damage": ["No Damage", "Affected (1-9%)", "Destroyed (>50%)", "Inaccessible"],
        },
    )
    truth = open_truth(path, GRID)
    assert grades(truth) == (
        "CAL FIRE damage inspection (DINS)",
        ["No Damage", "Affected (1-9%)", "Destroyed (>50%)", "Inaccessible"],
    )
    assert truth.severity == [(0, 0), (1, 0), (3, 3), (-1, -1)]


def test_unosat_s_latest_pass_counts_and_codes_are_read(tmp_path):
    path = written(
        tmp_path / "unosat.gpkg",
        {
            "Main_Damage_Site_Class": [6, 4, 3, 1],
            "Main_Damage_Site_Class_2": [3, None, None, 1],
            "Main_Damage_Site_Class_10": [1, None, 2, None],
            "Damage_Status_2": [1, 1, 1, 1],
        },
    )
    truth = open_truth(path, GRID)
    assert grades(truth) == (
        "UNOSAT damage classes",
        ["Destroyed", "Possible Damage", "Severe Damage", "Destroyed"],
    )
    assert truth.column == "Main_Damage_Site_Class to Main_Damage_Site_Class_10"


def test_the_older_words_of_copernicus_are_known(tmp_path):
    words = ["Not Affected", "Negligible to slight damage", "Highly Damaged", "Completely Destroyed"]
    truth = open_truth(written(tmp_path / "old.shp", {"grading": words}), GRID)
    assert truth.scale == "Copernicus EMS grading"
    assert [set(truth.meanings[grade]) for grade in truth.grades] == [
        {NO},
        {NO, MINOR},
        {MINOR, MAJOR},
        {"destroyed"},
    ]


def test_labels_of_xbd_are_placed_by_their_degrees(tmp_path):
    outline = geopandas.GeoSeries([house(4, 4)], crs="EPSG:32636").to_crs(4326).iloc[0]
    label = {
        "features": {
            "lng_lat": [{"properties": {"uid": "u", "subtype": "major-damage"}, "wkt": outline.wkt}],
            "xy": [
                {
                    "properties": {"uid": "u", "subtype": "major-damage"},
                    "wkt": "POLYGON ((8 8, 24 8, 24 24, 8 24, 8 8))",
                }
            ],
        },
        "metadata": {},
    }
    path = tmp_path / "town_00000000_post_disaster.json"
    path.write_text(json.dumps(label))
    truth = open_truth(path, GRID)
    assert grades(truth) == ("Joint Damage Scale", ["major-damage"])
    assert truth.shapes[0].symmetric_difference(house(4, 4)).area < 0.1
    assert grades(open_truth(tmp_path, GRID)) == ("Joint Damage Scale", ["major-damage"])


def test_a_mapping_says_what_any_words_mean(tmp_path):
    path = written(tmp_path / "own.geojson", {"state": ["D", "d", "ok", "?"]})
    told = parse_mapping("D=destroyed, ok=undamaged,?=unknown")
    truth = open_truth(path, GRID, column="STATE", mapping=told)
    assert grades(truth) == ("own mapping", ["D", "D", "ok", "?"])
    assert parse_mapping("a,b=damaged;c=unknown") == {"a,b": "damaged", "c": "unknown"}
    with pytest.raises(InputError, match="is no list of pairs"):
        parse_mapping("D")


def test_codes_that_two_scales_read_otherwise_are_not_guessed(tmp_path):
    path = written(tmp_path / "codes.gpkg", {"dmg": [1, 2, 3, 4]})
    with pytest.raises(
        InputError, match="may be UNOSAT damage classes or Joint Damage Scale: say which with --as"
    ):
        open_truth(path, GRID, column="dmg")
    assert open_truth(path, GRID, column="dmg", source="xbd").grades.tolist()[3] == "destroyed"
    assert open_truth(path, GRID, column="dmg", source="unosat").grades.tolist()[0] == "Destroyed"


def test_points_come_in_any_format(tmp_path):
    to_degrees = Transformer.from_crs("EPSG:32636", "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(WEST + 8, NORTH - 8)
    multi = {"type": "MultiPoint", "coordinates": [[lon, lat], [lon + 1e-4, lat]]}
    feature = {"type": "Feature", "properties": {"damage_gra": "Destroyed"}, "geometry": multi}
    several = tmp_path / "several.geojson"
    several.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert len(open_truth(several, GRID).shapes) == 2  # each point for itself
    kml = tmp_path / "points.kml"
    data = '<ExtendedData><Data name="damage_gra"><value>Damaged</value></Data></ExtendedData>'
    place = f"<Point><coordinates>{lon},{lat},0</coordinates></Point>"
    kml.write_text(f"<kml><Document><Placemark>{data}{place}</Placemark></Document></kml>")
    assert open_truth(kml, GRID).grades.tolist() == ["Damaged"]
    wkt = tmp_path / "points.csv"
    wkt.write_text(f'wkt,grading\n"POINT ({lon} {lat})",Destroyed\n"LINESTRING (0 0, 1 1)",Destroyed\n')
    with pytest.warns(match="1 of 2 left out"):
        assert open_truth(wkt, GRID).grades.tolist() == ["Destroyed"]
    zipped = tmp_path / "release.zip"
    import zipfile

    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("EMSR1_AOI01_areaOfInterestA.geojson", json.dumps(mapping(house(0, 0))))
        archive.write(several, "EMSR1_AOI01_builtUpP.geojson")
    assert len(open_truth(zipped, GRID).shapes) == 2


def test_longitude_and_latitude_in_each_other_s_column_are_told(tmp_path):
    path = tmp_path / "swapped.csv"
    path.write_text("Longitude,Latitude,DAMAGE\n0.9045,33.0005,No Damage\n")
    with pytest.raises(InputError, match="latitude comes before longitude"):
        open_truth(path, GRID)


def test_the_common_scale_is_the_finest_that_every_grade_fits():
    assert [name_of(each) for each in common_classes([frozenset({MINOR, MAJOR}), frozenset({NO})])] == [
        "no-damage",
        "damaged",
        "destroyed",
    ]
    doubt = common_classes([frozenset({NO, MINOR}), frozenset({MINOR, MAJOR, "destroyed"})])
    assert [sorted(each) for each in doubt] == [[NO], ["destroyed", MAJOR, MINOR]]  # doubt draws no line


def test_figures_of_nothing_are_none():
    import numpy as np

    assert Share(0, 0).value is None and Share(0, 0).interval is None
    assert Share(0, 10).interval == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert kappa(np.zeros((2, 2), int)) is None and kappa(np.array([[4, 0], [0, 0]])) is None
    assert area_under_roc(np.array([True, True]), np.array([0.1, 0.2])) is None
    assert area_under_roc(np.array([True, False]), np.array([0.5, 0.5])) == 0.5
