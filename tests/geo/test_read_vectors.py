"""Vector files of every kind: whose building it is, which layer, which reference system, and what is refused."""

import json
import sqlite3
import warnings
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely import LineString, MultiPolygon, Point, Polygon, box

from aftermap.errors import DataWarning, FootprintError, GeoreferenceError
from aftermap.geo.grid import Grid
from aftermap.geo.vectors import read_area_of_interest, read_buildings

GRID = Grid(CRS.from_epsg(32615), from_origin(367000, 4104000, 0.5, 0.5), 400, 400)
SQUARES = [box(367020 + 20 * n, 4103920, 367030 + 20 * n, 4103930 + n) for n in range(4)]
DEGREES = geopandas.GeoSeries(SQUARES, crs=32615).to_crs(4326)
LONG = 1234567890123456789


def frame(columns: dict, shapes=None, crs=32615) -> geopandas.GeoDataFrame:
    count = len(next(iter(columns.values())))
    return geopandas.GeoDataFrame(columns, geometry=shapes or SQUARES[:count], crs=crs)


def quietly(write, *words, **more) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(*words, **more)


def write_geojson(path: Path, features: list, **more) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **more}))
    return path


def feature(shape, *, properties=None, **more) -> dict:
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": shape and json.loads(shapely.to_geojson(shape)),
        **more,
    }


def write_kml(
    path: Path, rows: list[tuple[str | None, dict]], *, shapes=DEGREES, folder: str = "town"
) -> Path:
    marks = []
    for (own, values), shape in zip(rows, shapes, strict=False):
        ring = " ".join(f"{x},{y},0" for x, y in shape.exterior.coords)
        named = "" if own is None else f" id={own!r}"
        data = "".join(
            f'<Data name="{k}"><value>{v}</value></Data>' for k, v in values.items() if v is not None
        )
        marks.append(
            f"<Placemark{named}><ExtendedData>{data}</ExtendedData><Polygon><outerBoundaryIs>"
            f"<LinearRing><coordinates>{ring}</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>"
        )
    path.write_text(
        '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Folder>'
        f"<name>{folder}</name>{''.join(marks)}</Folder></Document></kml>"
    )
    return path


def store(path: Path, columns: dict) -> Path:
    """The first squares with these columns, in the format of the path's ending."""
    count = len(next(iter(columns.values())))
    suffix = path.suffix
    if suffix in (".geojson", ".geojsonl"):
        features = [
            feature(DEGREES[n], properties={name: values[n] for name, values in columns.items()})
            for n in range(count)
        ]
        if suffix == ".geojson":
            return write_geojson(path, features)
        path.write_text("".join(json.dumps(each) + "\n" for each in features))
        return path
    if suffix == ".kml":
        rows = [(None, {name: values[n] for name, values in columns.items()}) for n in range(count)]
        return write_kml(path, rows)
    if suffix == ".csv":
        table = pd.DataFrame({**{k: ["" if v is None else str(v) for v in x] for k, x in columns.items()}})
        table["wkt"] = [shape.wkt for shape in DEGREES[:count]]
        table.to_csv(path, index=False)
        return path
    typed = {
        k: pd.array(v, dtype="Int64") if all(isinstance(x, int | None) for x in v) else v
        for k, v in columns.items()
    }
    if suffix == ".parquet":
        quietly(frame(typed).to_parquet, path)
    elif suffix == ".zip":
        shape = path.with_suffix(".shp")
        quietly(frame(typed).to_file, shape)
        with zipfile.ZipFile(path, "w") as archive:
            for part in path.parent.glob(f"{path.stem}.*"):
                if part != path:
                    archive.write(part, f"inner/{part.name}")
                    part.unlink()
    else:
        quietly(frame(typed).to_file, path)
    return path


FORMATS = [".gpkg", ".geojson", ".geojsonl", ".shp", ".zip", ".fgb", ".parquet", ".kml", ".csv"]
IDS = {
    "text": ["a", "B-7", "007"],
    "numbers": [7, 3, 12],
    "19 digits": [LONG, LONG + 1, LONG + 2],
    "19 digits, one of them missing elsewhere": [LONG, LONG + 2, 5],
    "negative": [-4, -5, 6],
    "signs": ["way/123", "=1+1", "é ü, ;"],
}


def by_place(found) -> list[str]:
    """FlatGeobuf has an order of its own, so ids are compared from west to east."""
    order = np.argsort([shape.centroid.x for shape in found.frame.geometry])
    return found.frame.building_id.iloc[order].tolist()


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_ids_of_every_kind_survive_every_format(tmp_path, suffix, kind):
    found = read_buildings(store(tmp_path / f"f{suffix}", {"osm_id": IDS[kind]}), grid=GRID)
    assert by_place(found) == [str(name) for name in IDS[kind]]
    assert found.origin == "column osm_id"
    for shape, expected in zip(
        sorted(found.frame.geometry, key=lambda s: s.centroid.x), SQUARES, strict=False
    ):
        assert shape.symmetric_difference(expected).area < 0.01


@pytest.mark.parametrize("suffix", FORMATS)
def test_long_numbers_with_gaps_keep_every_digit(tmp_path, suffix):
    path = store(tmp_path / f"f{suffix}", {"osm_id": [LONG, None, LONG + 2], "floors": [None, 2, 3]})
    with pytest.warns(DataWarning, match="1 ids are missing and became row-1 and so on"):
        found = read_buildings(path, grid=GRID)
    assert sorted(by_place(found))[:2] == [str(LONG), str(LONG + 2)]
    floors = found.columns["floors"]
    assert sorted(floors.dropna().tolist()) == [2, 3] and floors.isna().sum() == 1
    assert sorted(found.columns["osm_id"].dropna().tolist()) == [LONG, LONG + 2]


@settings(max_examples=40)
@given(
    names=st.lists(
        st.one_of(
            st.integers(-(2**70), 2**70),
            st.text(min_size=1, max_size=8).filter(lambda text: text.strip() and "\0" not in text),
        ),
        min_size=1,
        max_size=4,
        unique_by=str,
    ),
    place=st.sampled_from(["property", "feature"]),
)
def test_numbers_and_texts_mixed_in_one_geojson_stay_as_they_are(tmp_path_factory, names, place):
    path = tmp_path_factory.mktemp("ids") / "f.geojson"
    features = [
        feature(
            shape,
            properties={"id": name} if place == "property" else {},
            **({"id": name} if place == "feature" else {}),
        )
        for name, shape in zip(names, DEGREES, strict=False)
    ]
    found = read_buildings(write_geojson(path, features), grid=GRID)
    wanted = [str(name).encode("utf-8", "replace").decode().replace("?", "?") for name in names]
    assert found.frame.building_id.tolist() == wanted


def test_a_long_number_that_json_writes_as_a_decimal_keeps_its_digits(tmp_path):
    text = json.dumps(
        {"type": "FeatureCollection", "features": [feature(DEGREES[0], properties={"osm_id": 0})]}
    )
    (tmp_path / "f.geojson").write_text(text.replace('"osm_id": 0', f'"osm_id": {LONG}.0'))
    assert read_buildings(tmp_path / "f.geojson", grid=GRID).frame.building_id.tolist() == [str(LONG)]


def test_numbers_that_were_floats_in_the_file_are_told_of(tmp_path):
    frame({"osm_id": [float(LONG), float(LONG) + 4096]}).to_file(tmp_path / "f.gpkg")
    with pytest.warns(DataWarning, match="osm_id holds numbers of more than 15 digits as decimals"):
        found = read_buildings(tmp_path / "f.gpkg", grid=GRID)
    assert found.frame.building_id.tolist() == [str(int(float(LONG))), str(int(float(LONG)) + 4096)]


@pytest.mark.parametrize(
    ("columns", "expected", "origin"),
    [
        ({"building_i": ["a", "b"], "id": [1, 2]}, ["a", "b"], "column building_i"),
        ({"Building_ID": ["a", "b"], "id": [1, 2]}, ["a", "b"], "column Building_ID"),
        ({"full_plus_": ["a", "b"]}, ["a", "b"], "column full_plus_"),
        ({"@id": ["way/1", "way/2"], "osm_id": [1, 2]}, ["way/1", "way/2"], "column @id"),
        ({"full_id": ["w1", "w2"], "osm_id": [1, 2]}, ["w1", "w2"], "column full_id"),
        ({"osm_id": [None, "9"], "osm_way_id": ["8", None]}, ["8", "9"], "column osm_id and osm_way_id"),
        ({"osm_id": [None, None], "osm_way_id": ["8", "7"]}, ["8", "7"], "column osm_id and osm_way_id"),
        ({"osm_way_id": ["8", "7"]}, ["8", "7"], "column osm_way_id"),
        ({"id": [None, None], "fid": [5, 6]}, ["5", "6"], "column fid"),
        ({"id": ["x", "x"], "uid": [5, 6]}, ["5", "6"], "column uid"),
        ({"height": [3, 4]}, ["1", "2"], "numbered in the order of the file"),
    ],
)
def test_ids_follow_the_order_of_precedence(tmp_path, columns, expected, origin):
    features = [
        feature(shape, properties={name: values[n] for name, values in columns.items()})
        for n, shape in enumerate(DEGREES[:2])
    ]
    found = read_buildings(write_geojson(tmp_path / "f.geojson", features), grid=GRID)
    assert (found.frame.building_id.tolist(), found.origin) == (expected, origin)


def test_a_geopackages_fid_and_a_features_id_name_buildings_without_a_column(tmp_path):
    frame({"height": [1, 2, 3]}).to_file(tmp_path / "f.gpkg")
    with sqlite3.connect(tmp_path / "f.gpkg") as database:
        database.execute("DROP TRIGGER IF EXISTS rtree_f_geom_update6")
        for name in [n for (n,) in database.execute("SELECT name FROM sqlite_master WHERE type='trigger'")]:
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute("UPDATE f SET fid = fid * 100 + 7")
    found = read_buildings(tmp_path / "f.gpkg", grid=GRID)
    assert (found.frame.building_id.tolist(), found.origin) == (
        ["107", "207", "307"],
        "the features' own ids",
    )
    rows = [("p1", {"height": 1}), ("p2", {"height": 2})]
    assert by_place(read_buildings(write_kml(tmp_path / "f.kml", rows), grid=GRID)) == ["p1", "p2"]
    features = [feature(shape, id=name) for shape, name in zip(DEGREES, (12, "x"), strict=False)]
    found = read_buildings(write_geojson(tmp_path / "f.geojson", features), grid=GRID)
    assert found.frame.building_id.tolist() == ["12", "x"]


def test_repeated_ids_are_numbered_and_told_of(tmp_path):
    names = ["7", "7", "7-2", "7"]
    features = [feature(s, properties={"id": n}) for s, n in zip(DEGREES, names, strict=True)]
    path = write_geojson(tmp_path / "f.geojson", features)
    with pytest.warns(DataWarning, match=r"column id: 2 ids occur again \(7 became 7-3\)"):
        found = read_buildings(path, grid=GRID)
    assert found.frame.building_id.tolist() == ["7", "7-3", "7-2", "7-4"]
    assert found.columns["id"].tolist() == names


def test_ids_and_columns_stay_with_their_building_where_others_are_left_out(tmp_path):
    features = [
        feature(DEGREES[0], properties={"id": "a", "use": "shop"}),
        feature(None, properties={"id": "b", "use": "none"}),
        None,
        {
            "type": "Feature",
            "id": 3,
            "properties": ["no"],
            "geometry": {"type": "Polygon", "coordinates": [[[1, 2], ["x"]]]},
        },
        feature(DEGREES[1], properties={"id": "c", "use": None}),
    ]
    path = write_geojson(tmp_path / "f.geojson", features)
    with pytest.warns(DataWarning) as told:
        found = read_buildings(path, grid=GRID)
    assert found.frame.building_id.tolist() == ["a", "c"]
    assert [None if v is None or v != v else v for v in found.columns["use"]] == ["shop", None]
    messages = " | ".join(str(each.message) for each in told)
    assert "3 of 5 left out (3 without geometry)" in messages
    assert (
        "1 entries are no features" in messages and "1 geometries are not as GeoJSON wants them" in messages
    )


def test_columns_of_every_type_are_kept_by_value(tmp_path):
    columns = {
        "name": ["Ana's", None, "é"],
        "floors": [1, None, 3],
        "height": [1.5, None, 2],
        "listed": [True, None, False],
        "built": ["1999-05-22", None, "2001-01-01"],
        "tags": [{"a": [1, None]}, None, []],
        "mixed": [1, "x", None],
    }
    path = store(tmp_path / "f.geojson", columns)
    found = read_buildings(path, grid=GRID).columns
    values = {
        name: [None if v is None or v is pd.NA or v != v else v for v in found[name]] for name in columns
    }
    assert values == columns | {"tags": ['{"a": [1, null]}', None, "[]"], "mixed": ["1", "x", None]}
    assert [str(found[name].dtype) for name in ("floors", "height", "listed")] == [
        "Int64",
        "float64",
        "boolean",
    ]


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet"])
def test_dates_and_booleans_of_typed_formats_are_kept(tmp_path, suffix):
    columns = {
        "seen": pd.to_datetime(["2011-05-22T17:41:00", None, "2020-01-01T00:00:00"]),
        "listed": pd.array([True, None, False], dtype="boolean"),
        "floors": pd.array([1, None, LONG], dtype="Int64"),
    }
    data = frame(columns)
    (data.to_parquet if suffix == ".parquet" else data.to_file)(tmp_path / f"f{suffix}")
    found = read_buildings(tmp_path / f"f{suffix}", grid=GRID)
    order = np.argsort([shape.centroid.x for shape in found.frame.geometry])
    table = found.columns.iloc[order].reset_index(drop=True)
    assert [v if isinstance(v, str) else None for v in table["seen"]] == [
        "2011-05-22T17:41:00",
        None,
        "2020-01-01T00:00:00",
    ]
    assert table["listed"].tolist() == [True, pd.NA, False]
    assert table["floors"].tolist() == [1, pd.NA, LONG]


# Layers


def write_layers(path: Path, layers: dict[str, list]) -> Path:
    for name, shapes in layers.items():
        frame({"n": list(range(len(shapes)))}, shapes).to_file(path, layer=name)
    return path


AREA = [box(367000, 4103900, 367100, 4104000)]
ROADS = [LineString([(367000, 4103900), (367100, 4104000)])]
POINTS = [Point(367010, 4103950)]


@pytest.mark.parametrize(
    ("layers", "footprints", "area"),
    [
        ({"roads": ROADS, "things": SQUARES}, "things", "things"),
        ({"AOI": AREA, "Buildings": SQUARES}, "Buildings", "AOI"),
        ({"Buildings": SQUARES, "study_area": AREA, "wells": POINTS}, "Buildings", "study_area"),
        ({"aoi_2024": AREA, "town": SQUARES}, "town", "aoi_2024"),
        ({"extent": AREA, "FOOTPRINTS": SQUARES, "roads": ROADS}, "FOOTPRINTS", "extent"),
    ],
)
def test_the_layer_with_the_polygons_is_found_whatever_its_place_and_case(tmp_path, layers, footprints, area):
    for number, order in enumerate((list(layers), list(reversed(layers)))):
        path = write_layers(tmp_path / f"f{number}.gpkg", {name: layers[name] for name in order})
        assert len(read_buildings(path, grid=GRID).frame) == len(layers[footprints])
        expected = shapely.union_all(layers[area]).intersection(box(*GRID.bounds)).area / 0.25
        assert read_area_of_interest(path, grid=GRID).area == pytest.approx(expected)


def test_layers_are_listed_where_it_is_not_clear_and_can_be_named(tmp_path):
    path = write_layers(tmp_path / "f.gpkg", {"north": SQUARES[:1], "south": SQUARES[1:]})
    for read in (read_buildings, read_area_of_interest):
        with pytest.raises(
            FootprintError, match=r"north \(Polygon, 1\), south \(Polygon, 3\): name one, such as .*:north"
        ):
            read(path, grid=GRID)
    assert len(read_buildings(Path(f"{path}:SOUTH"), grid=GRID).frame) == 3
    assert read_area_of_interest(Path(f"{path}:north"), grid=GRID).area == pytest.approx(400)
    with pytest.raises(FootprintError, match=r"has no layer west: its layers are north"):
        read_buildings(Path(f"{path}:west"), grid=GRID)


def test_the_layer_named_like_buildings_is_taken_of_several_and_said(tmp_path):
    path = write_layers(tmp_path / "f.gpkg", {"parcels": AREA, "osm_buildings": SQUARES})
    with pytest.warns(DataWarning, match="layer osm_buildings is read, of .*: name another with FILE:LAYER"):
        assert len(read_buildings(path, grid=GRID).frame) == 4


def test_a_layer_called_an_area_of_interest_is_no_buildings_unless_it_is_named(tmp_path):
    path = write_layers(tmp_path / "f.gpkg", {"AOI": SQUARES})
    with pytest.raises(FootprintError, match="AOI, which looks like an area of interest: pass it as --aoi"):
        read_buildings(path, grid=GRID)
    assert len(read_buildings(Path(f"{path}:AOI"), grid=GRID).frame) == 4


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("Town hall", "School"), ["Town hall", "School"]),
        (("House", "House"), ["1", "2"]),
        (("School", None), ["1", "2"]),
    ],
)
def test_placemarks_without_ids_are_called_by_their_names_where_these_tell_them_apart(tmp_path, names, ids):
    rows = [(None, {"name": name, "height": 1}) for name in names]
    found = read_buildings(write_kml(tmp_path / "f.kml", rows), grid=GRID).frame
    assert found.building_id.tolist() == ids


def test_folders_of_kml_and_files_of_an_archive_are_layers(tmp_path):
    write_kml(tmp_path / "a.kml", [("1", {})], folder="town")
    text = (tmp_path / "a.kml").read_text()
    (tmp_path / "a.kml").write_text(
        text.replace("</Document>", "<Folder><name>aoi</name><Placemark/></Folder></Document>")
    )
    assert len(read_buildings(Path(f"{tmp_path}/a.kml:town"), grid=GRID).frame) == 1
    store(tmp_path / "b.geojson", {"id": [1, 2]})
    store(tmp_path / "c.geojson", {"id": [3]})
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("b.geojson", "c.geojson", "a.kml"):
            archive.write(tmp_path / name, name)
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FootprintError, match=r"all\.zip has several layers of polygons"):
        read_buildings(tmp_path / "all.zip", grid=GRID)
    assert read_buildings(Path(f"{tmp_path}/all.zip:c"), grid=GRID).frame.building_id.tolist() == ["3"]


# Reference systems and places


def test_latitude_before_longitude_is_named(tmp_path):
    swapped = [shapely.transform(shape, lambda xy: xy[:, ::-1]) for shape in DEGREES]
    path = write_geojson(tmp_path / "f.geojson", [feature(shape) for shape in swapped])
    with pytest.raises(FootprintError, match="latitude comes before longitude, expected longitude first"):
        read_buildings(path, grid=GRID)
    with pytest.raises(GeoreferenceError, match="latitude comes before longitude") as error:
        read_area_of_interest(path, grid=GRID)
    assert "lon 37.0" in str(error.value) and "the image lon -94.4" in str(error.value)
    northing = [shapely.transform(shape, lambda xy: xy[:, ::-1]) for shape in SQUARES]
    frame({"n": [1, 2, 3, 4]}, northing).to_file(tmp_path / "n.gpkg")
    with pytest.raises(FootprintError, match="northing comes before easting"):
        read_buildings(tmp_path / "n.gpkg", grid=GRID)


WORLD = box(-180, -90, 180, 90)


@pytest.mark.parametrize(
    ("area", "crs", "share"),
    [
        (WORLD, 4326, 1.0),
        (box(-180, -90, 0, 90), 4326, 1.0),  # the western half
        (box(-180, 0, 180, 90), 4326, 1.0),  # the northern half
        (box(-2.0037508e7, -2.0037508e7, 2.0037508e7, 2.0037508e7), 3857, 1.0),
        (box(367100, 0, 900000, 9e6), 32615, 0.5),  # east of the middle
    ],
)
def test_an_area_larger_than_the_projection_is_cut_to_the_image(tmp_path, area, crs, share):
    geopandas.GeoSeries([area], crs=crs).to_file(tmp_path / "a.gpkg")
    found = read_area_of_interest(tmp_path / "a.gpkg", grid=GRID)
    assert found.area == pytest.approx(400 * 400 * share, rel=1e-6)


@pytest.mark.parametrize(
    ("left", "width", "message"),
    [
        (367010.2, 0.25, "covers 0.25 pixels of the images, expected at least one"),
        (367200, 50, r"does not touch the images: .* it is for another place, or its reference system"),
        (999000, 50, r"does not touch the images: .* it is for another place, or its reference system"),
    ],
    ids=["less than a pixel", "along the edge", "elsewhere"],
)
def test_an_area_of_no_pixel_says_whether_it_is_small_or_elsewhere(tmp_path, left, width, message):
    top = GRID.bounds[3] - 10.2
    geopandas.GeoSeries([box(left, top - width, left + width, top)], crs=32615).to_file(tmp_path / "a.gpkg")
    with pytest.raises(GeoreferenceError, match=message):
        read_area_of_interest(tmp_path / "a.gpkg", grid=GRID)


def test_half_a_world_ends_where_its_edge_does(tmp_path):
    """Everything west of a meridian through the image: the share is measured with points of the image."""
    lon, _ = GRID.lonlat(np.array([100.0]), np.array([200.0]))
    geopandas.GeoSeries([box(-180, -90, lon[0], 90)], crs=4326).to_file(tmp_path / "a.geojson")
    found = read_area_of_interest(tmp_path / "a.geojson", grid=GRID)
    cols, rows = (each.ravel() + 0.5 for each in np.meshgrid(np.arange(400), np.arange(400)))
    west = GRID.lonlat(cols, rows)[0] < lon[0]
    assert found.area == pytest.approx(west.sum(), rel=0.01)
    assert (shapely.contains_xy(found, cols, rows) == west).mean() > 0.9999


@pytest.mark.parametrize(
    ("epsg", "x", "y"), [(32660, 829000, 0), (3413, -50, 50), (3031, -50, 50), (3832, 3339484, 100)]
)
def test_a_world_box_covers_images_on_the_antimeridian_and_at_the_poles(tmp_path, epsg, x, y):
    grid = Grid(CRS.from_epsg(epsg), from_origin(x, y, 1, 1), 100, 100)
    geopandas.GeoSeries([WORLD], crs=4326).to_file(tmp_path / "a.geojson")
    assert read_area_of_interest(tmp_path / "a.geojson", grid=grid).area == pytest.approx(10_000, rel=1e-4)


def test_areas_on_both_sides_of_the_antimeridian_meet(tmp_path):
    grid = Grid(
        CRS.from_epsg(32660), from_origin(833928.5, 10_000, 10, 10), 200, 200
    )  # 180 degrees east in its middle
    parts = MultiPolygon([box(179.5, -1, 180, 1), box(-180, -1, -179.5, 1)])
    geopandas.GeoSeries([parts], crs=4326).to_file(tmp_path / "a.geojson")
    assert read_area_of_interest(tmp_path / "a.geojson", grid=grid).area == pytest.approx(40_000, rel=1e-3)


def test_an_area_of_overlapping_parts_loses_nothing(tmp_path):
    def at(a, b, c, d):
        return box(367000 + a, 4104000 - d, 367000 + c, 4104000 - b)

    geopandas.GeoSeries([MultiPolygon([at(0, 0, 50, 50), at(25, 25, 75, 75)])], crs=32615).to_file(
        tmp_path / "a.gpkg"
    )
    with pytest.warns(DataWarning, match="1 self-intersecting"):
        found = read_area_of_interest(tmp_path / "a.gpkg", grid=GRID)
    assert found.area == pytest.approx((2 * 50 * 50 - 25 * 25) * 4)  # in pixels of half a metre


def test_an_area_elsewhere_tells_both_places(tmp_path):
    geopandas.GeoSeries([box(10, 50, 11, 51)], crs=4326).to_file(tmp_path / "a.geojson")
    with pytest.raises(
        GeoreferenceError, match=r"lon 10\.0000 to 11\.0000, lat 50\.0000 to 51\.0000, the image lon -94\.49"
    ):
        read_area_of_interest(tmp_path / "a.geojson", grid=GRID)


@pytest.mark.parametrize("srs_id", [-1, 0])
def test_an_undefined_system_of_a_geopackage_is_refused(tmp_path, srs_id):
    frame({"n": [1, 2]}).to_file(tmp_path / "f.gpkg")
    with sqlite3.connect(tmp_path / "f.gpkg") as database:
        for table in ("gpkg_geometry_columns", "gpkg_contents"):
            database.execute(f"UPDATE {table} SET srs_id = {srs_id}")
    with pytest.raises(FootprintError, match="names no reference system"):
        read_buildings(tmp_path / "f.gpkg", grid=GRID)
    with pytest.raises(GeoreferenceError, match="names no reference system"):
        read_area_of_interest(tmp_path / "f.gpkg", grid=GRID)
    assert (
        len(read_buildings(tmp_path / "f.gpkg", grid=Grid(None, Affine.identity(), 400000, 5000000)).frame)
        == 2
    )


def test_heights_in_coordinates_and_systems_are_dropped(tmp_path):
    raised = [shapely.force_3d(shape, 12.0) for shape in SQUARES]
    frame({"n": [1, 2, 3, 4]}, raised, crs="EPSG:32615+5773").to_file(tmp_path / "f.gpkg")
    found = read_buildings(tmp_path / "f.gpkg", grid=GRID).frame
    assert not found.geometry.has_z.any()
    assert found.geometry.area.tolist() == pytest.approx([100, 110, 120, 130])


@pytest.mark.parametrize(
    ("crs", "fits"),
    [
        ({"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32615"}}, True),
        ({"type": "name", "properties": {"name": "EPSG:32615"}}, True),
        (None, False),
        ({"type": "link", "properties": {"href": "http://example.org/crs"}}, False),
        ({"type": "name", "properties": {"name": "+init=/etc/passwd:1"}}, False),
        ({"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::999999"}}, False),
        ({"type": "name", "properties": {"name": "EPSG:4978"}}, False),  # geocentric
        ([], False),
        ({"type": "name", "properties": None}, False),
    ],
)
def test_the_older_crs_of_geojson_is_read_where_it_is_a_code(tmp_path, crs, fits):
    path = write_geojson(tmp_path / "f.geojson", [feature(shape) for shape in SQUARES], crs=crs)
    if fits:
        assert len(read_buildings(path, grid=GRID).frame) == 4
    else:
        with pytest.raises(FootprintError) as error:
            read_buildings(path, grid=GRID)
        assert "\n" not in str(error.value)


def test_tables_of_text_name_their_system_or_are_degrees(tmp_path):
    (tmp_path / "f.csv").write_text("id;geom\n7;SRID=32615;x\n")
    rows = "".join(f'{n};"SRID=32615;{shape.wkt}"\n' for n, shape in enumerate(SQUARES))
    (tmp_path / "f.csv").write_text(f"id;geom\n{rows}")
    assert read_buildings(tmp_path / "f.csv", grid=GRID).frame.building_id.tolist() == ["0", "1", "2", "3"]
    (tmp_path / "g.csv").write_text(f'id,geom\n7,"{SQUARES[0].wkt}"\n')
    with pytest.raises(FootprintError, match="names no reference system"):
        read_buildings(tmp_path / "g.csv", grid=GRID)
    (tmp_path / "h.csv").write_text("name,lon,lat\na,-94.49,37.07\n")
    with pytest.raises(FootprintError, match="lon and lat are points, expected outlines"):
        read_buildings(tmp_path / "h.csv", grid=GRID)


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("f.geojson", b"", "it is an empty file by content, expected GeoJSON"),
        ("f.geojson", b"<OGRVRTDataSource></OGRVRTDataSource>", "it is XML by content, expected GeoJSON"),
        ("f.csv", b"<OGRVRTDataSource></OGRVRTDataSource>", "it is XML by content, expected table of text"),
        ("f.gpkg", b"<OGRVRTDataSource></OGRVRTDataSource>", "it is XML by content, expected GeoPackage"),
        ("f.kml", b"<kml><Document/></kml><!-- <OGRVRTDataSource> -->", "it holds no layer of polygons"),
        (
            "f.kml",
            b'<!DOCTYPE k [<!ENTITY a SYSTEM "file:///etc/passwd">]><kml>&a;</kml>',
            "declares XML entities",
        ),
        ("f.kml", b"<kml><Placemark></kml>", "mismatched tag"),
        ("f.geojson", b'{"type": "gdal_streamed_alg", "command_line": "x"}', "of type 'gdal_streamed_alg'"),
        ("f.geojson", b'{"type": "Topology"}', "of type 'Topology'"),
        ("f.geojson", b"[" * 100_000, "nested too deeply"),
        ("f.geojson", b'{"type":' + b"[" * 200_000, "nested too deeply"),
        ("f.geojson", b'{"type": "FeatureCollection", "features": null}', "has no list of features"),
        ("f.geojson", b"[1, 2]", "the JSON is a list"),
        ("f.geojson", b'{"a": ' + b"9" * 5000 + b"}", "expected GeoJSON"),
        ("f.geojson", b'{"name": "\xff"}', "it is no text in UTF-8"),
        ("f.csv", b"id,wkt\n1,\x00\x01\n", "by content|outlines|NUL"),
        ("f.gpkg", b"SQLite format 3\0" + b"\0" * 500, "cannot read footprints"),
        ("f.fgb", b"fgb\x03fgb\x00" + b"\xff" * 500, "cannot read footprints"),
        ("f.shp", b"\x00\x00\x27\x0a" + b"\xff" * 500, "cannot read footprints"),
        ("f.parquet", b"PAR1" + b"\xff" * 500, "cannot read footprints"),
        ("f.zip", b"PK\x03\x04" + b"\xff" * 500, "cannot read footprints"),
        ("f.txt", b"hello", r"ends in \.txt"),
    ],
)
def test_files_that_are_something_else_are_refused_in_one_line(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FootprintError, match=reason) as error:
        read_buildings(tmp_path / name, grid=GRID)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_geopackage_that_reads_other_files_is_refused(tmp_path):
    frame({"n": [1]}).to_file(tmp_path / "f.gpkg")
    with sqlite3.connect(tmp_path / "f.gpkg") as database:
        database.execute("CREATE VIEW v AS SELECT ogr_geocode('x') AS a")
    with pytest.raises(FootprintError, match="its v is computed by functions that read other files"):
        read_buildings(tmp_path / "f.gpkg", grid=GRID)
    with sqlite3.connect(tmp_path / "g.gpkg") as database:
        database.execute("CREATE TABLE a (b)")
    with pytest.raises(FootprintError, match="it is an SQLite database, expected a GeoPackage"):
        read_buildings(tmp_path / "g.gpkg", grid=GRID)


@pytest.mark.parametrize(
    "name", ["/vsicurl/http://example.org/f.geojson", "http://example.org/f.geojson", "WFS:x", "PG:dbname=x"]
)
def test_only_files_are_opened(name):
    with pytest.raises(FootprintError, match=r"no such file|ends in"):
        read_buildings(Path(name), grid=GRID)


@pytest.mark.parametrize("name", ["a!b.gpkg", "what?.gpkg", "x;y.shp", "50%.fgb", "a:b.geojson", "ü ñ.gpkg"])
def test_odd_names_are_only_names(tmp_path, name):
    plain = store(tmp_path / f"plain{Path(name).suffix}", {"id": [1, 2]})
    for part in tmp_path.glob("plain.*"):
        part.rename(tmp_path / f"{Path(name).stem}{part.suffix}")
    assert not plain.exists()
    assert sorted(by_place(read_buildings(tmp_path / name, grid=GRID))) == ["1", "2"]


def test_far_coordinates_are_left_out_and_counted(tmp_path):
    far = [Polygon([(0, 0), (1e300, 0), (1, 1)]), box(-94.5, 80, -94.4, 8e7)]
    path = write_geojson(tmp_path / "f.geojson", [feature(shape) for shape in (*far, DEGREES[0])])
    text = path.read_text().replace("1e+300", "1e999")
    path.write_text(text)
    with pytest.warns(DataWarning, match=r"2 of 3 left out"):
        assert len(read_buildings(path, grid=GRID).frame) == 1
