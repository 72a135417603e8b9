"""Every format, opened again with another library than wrote it."""

import hashlib
import json
import shutil
import subprocess
import zipfile
from xml.etree import ElementTree

import numpy as np
import openpyxl
import pandas as pd
import pyarrow.parquet
import pytest
import rasterio
import shapely
import tile_archive
from affine import Affine
from pyogrio import raw
from rasterio.crs import CRS

import finished_maps
from aftermap import api
from aftermap.errors import DataWarning, InputError
from aftermap.geo.grid import Grid
from aftermap.products.exchange.shapefile import cut_text, short_names
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.package.formats import FORMATS

BIG = 1_234_567_890_123_456_789
KML = "{http://www.opengis.net/kml/2.2}"
COLUMNS = {
    "ref": pd.array([BIG, None, 5], dtype="Int64"),
    "inhabited": pd.array([True, None, False], dtype="boolean"),
    "quartier_résidentiel": pd.Series(["Saint-Étienne 北", None, "=1+1"], dtype=object),
    "built": pd.Series(["1999-12-31", "2001-02-03", None], dtype=object),
    "bbox": pd.Series([0.5, 1e300, 1e-20]),
    "note": pd.Series(["é" * 200, "", "\x07bell"], dtype=object),
}
DAMAGE = ["destroyed", "no-damage", "not-assessed"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map of three buildings with columns of every type."""
    frame = finished_maps.table([(10, 10), (30.5, 20), (50, 60)], DAMAGE, columns=COLUMNS)
    return finished_maps.finish(tmp_path_factory.mktemp("package") / "ville", frame)


@pytest.fixture(scope="module")
def files(made):
    """Everything of it, by format."""
    return dict(zip(FORMATS, api.package(made, name="ville"), strict=True))


@pytest.fixture(scope="module")
def buildings(made):
    return open_map(made).buildings


def test_a_map_opened_again_keeps_numbers_with_gaps_and_yes_and_no(buildings):
    assert buildings["ref"].tolist() == [BIG, pd.NA, 5]
    assert buildings["inhabited"].tolist() == [True, pd.NA, False]
    assert buildings["quartier_résidentiel"].tolist() == ["Saint-Étienne 北", None, "=1+1"]


def test_all_formats_are_written_and_nothing_else(made, files):
    assert sorted(path.name for path in (made / "package").iterdir()) == sorted(
        p.name for p in files.values()
    )


def test_geoparquet_keeps_every_value_and_the_box_of_each_building(files, buildings):
    table = pyarrow.parquet.read_table(files["geoparquet"])
    rows = table.to_pylist()
    assert [row["building_id"] for row in rows] == ["b1", "b2", "b3"]
    assert [row["ref"] for row in rows] == [BIG, None, 5]
    assert [row["inhabited"] for row in rows] == [True, None, False]
    assert [row["built"] for row in rows] == ["1999-12-31", "2001-02-03", None]
    assert [row["quartier_résidentiel"] for row in rows] == ["Saint-Étienne 北", None, "=1+1"]
    assert rows[2]["p_minor"] is None and {row["damage_scale"] for row in rows} == {"joint-damage-scale"}
    assert [row["bbox_2"] for row in rows] == [0.5, 1e300, 1e-20]
    assert rows[0]["bbox"] == {"xmin": 400_095, "ymin": 4_099_895, "xmax": 400_105, "ymax": 4_099_905}
    assert [shapely.from_wkb(row["geometry"]) for row in rows] == buildings.geometry.tolist()
    geo = json.loads(table.schema.metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert geo["version"] == "1.1.0" and column["encoding"] == "WKB" and column["crs"]["id"]["code"] == 32615
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]


def test_flatgeobuf_keeps_every_value(files, buildings):
    meta, _, geometry, values = raw.read(files["flatgeobuf"], where='"ref" = 1234567890123456789')
    row = dict(zip(meta["fields"], (column[0] for column in values), strict=True))
    assert row["building_id"] == "b1" and row["quartier_résidentiel"] == "Saint-Étienne 北"
    assert shapely.from_wkb(geometry)[0].equals(buildings.geometry.iloc[0]) and "32615" in meta["crs"]
    assert raw.read(files["flatgeobuf"], where="inhabited IS NULL")[1:][2][0].tolist() == ["b2"]


@pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="ogr2ogr is not installed")
def test_an_older_gdal_reads_the_same_of_flatgeobuf_and_kmz(files, tmp_path):
    """Debian's, another release than the one that wrote them, which calls columns of KML otherwise."""
    for name in ("flatgeobuf", "kmz"):
        target = tmp_path / f"{name}.geojson"
        layer = ["ville"] if name == "flatgeobuf" else ["destroyed (1)"]
        subprocess.run(
            ["ogr2ogr", "-t_srs", "EPSG:4326", target, files[name], *layer], check=True, capture_output=True
        )
        row = next(
            f["properties"]
            for f in json.loads(target.read_text())["features"]
            if f["properties"]["building_id"] == "b1"
        )
        assert int(row["ref"]) == BIG and "Saint-Étienne 北" in row.values()
        assert row["damage"] == "destroyed" and row["built"] == "1999-12-31"


def test_shapefile_names_and_texts_are_cut_by_a_table_that_lies_beside_them(files, buildings, tmp_path):
    with zipfile.ZipFile(files["shapefile"]) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    assert names == [f"ville.{e}" for e in ("shp", "shx", "dbf", "prj", "cpg")] + [
        "ville_columns.csv",
        "ville_long_texts.csv",
    ]
    assert (tmp_path / "ville.cpg").read_text() == "UTF-8"
    fields, rows = read_dbase(tmp_path / "ville.dbf")
    assert fields["bldg_id"][0] == "C" and rows[0]["ref"] == str(BIG) and rows[1]["ref"] == ""
    assert [row["inhabited"] for row in rows] == ["T", "?", "F"]
    assert [row["quartier_r"] for row in rows] == ["Saint-Étienne 北", "", "=1+1"]
    assert rows[0]["note"] == "é" * 127 and rows[1]["built"] == "2001-02-03"
    assert [row["bbox"] for row in rows] == ["0.5", "1e+300", "1e-20"]
    said = pd.read_csv(tmp_path / "ville_columns.csv", keep_default_na=False)
    notes = said.set_index("column")["what became of it"]
    assert sorted(notes[notes != ""].index) == ["bbox", "note", "ref"]
    assert said.set_index("column").loc["quartier_résidentiel", "name"] == "quartier_r"
    assert "1 cut to 254 bytes" in said.set_index("column").loc["note", "what became of it"]
    long = pd.read_csv(tmp_path / "ville_long_texts.csv")
    assert long.values.tolist() == [[1, "b1", "note", "é" * 200]]


def read_dbase(path):
    """The fields {name: (type, width)} and rows of a .dbf, by its description of 1985."""
    data = path.read_bytes()
    count, start, width = (int.from_bytes(data[a:b], "little") for a, b in ((4, 8), (8, 10), (10, 12)))
    fields = {}
    for at in range(32, start - 1, 32):
        name = data[at : at + 11].split(b"\0")[0].decode()
        fields[name] = (chr(data[at + 11]), data[at + 16])
    rows = []
    for number in range(count):
        at, row = start + number * width + 1, {}
        for name, (_, size) in fields.items():
            row[name], at = data[at : at + size].decode().strip(), at + size
        rows.append(row)
    return fields, rows


def test_names_for_shapefiles_differ_and_have_ten_letters():
    named = short_names(["building_id", "p_no_damage", "straße", "Wohnfläche_alt", "Wohnfläche_neu", "北"])
    assert list(named.values()) == ["bldg_id", "p_nodamage", "strae", "Wohnflache", "Wohnflac_2", "column"]


def test_text_is_cut_between_letters():
    assert (
        cut_text("x" + "é" * 127) == "x" + "é" * 126
        and cut_text(None) is None
        and cut_text("é" * 127) == "é" * 127
    )


def test_kmz_has_a_folder_a_class_and_every_value(files):
    with zipfile.ZipFile(files["kmz"]) as archive:
        assert archive.namelist() == ["doc.kml"]
        root = ElementTree.fromstring(archive.read("doc.kml"))
    folders = {f.find(f"{KML}name").text: f for f in root.iter(f"{KML}Folder")}
    assert list(folders) == [
        "no damage (1)",
        "minor damage (0)",
        "major damage (0)",
        "destroyed (1)",
        "not assessed (1)",
    ]
    mark = folders["destroyed (1)"].find(f"{KML}Placemark")
    assert mark.find(f"{KML}name").text == "b1" and mark.find(f"{KML}styleUrl").text == "#destroyed"
    style = next(s for s in root.iter(f"{KML}Style") if s.get("id") == "destroyed")
    assert style.find(f"{KML}PolyStyle/{KML}color").text == "b23c20c8"  # #c8203c backwards, 70 % opaque
    data = {d.get("name"): d.find(f"{KML}value").text for d in mark.iter(f"{KML}Data")}
    assert (
        data["ref"] == str(BIG)
        and data["inhabited"] == "true"
        and data["damage_scale"] == "joint-damage-scale"
    )
    points = mark.find(f".//{KML}coordinates").text.split()
    assert points[0] == points[-1] and len(points) == 5
    expected = finished_maps.UTM.lonlat(np.array([9.5, 10.5]), np.array([9.5, 10.5]))
    found = np.array([[float(v) for v in p.split(",")] for p in points])
    assert found[:, 0].min() == pytest.approx(expected[0][0], abs=1e-6)
    missing = next(m for m in root.iter(f"{KML}Placemark") if m.find(f"{KML}name").text == "b2")
    assert "ref" not in {d.get("name") for d in missing.iter(f"{KML}Data")}


def test_pmtiles_hold_every_building_at_every_zoom(files):
    """Read by their specifications, not by the library that wrote them."""
    head = files["pmtiles"].read_bytes()[:127]
    assert (head[100], head[101]) == (10, 16)  # least and largest zoom, PMTiles 3 section 3
    found = {}
    for zoom, tile in tile_archive.tiles_of(files["pmtiles"]):
        for row in tile_archive.attributes(tile):
            found.setdefault(zoom, {})[row["building_id"].decode()] = row
    assert sorted(found) == list(range(10, 17))
    for rows in found.values():
        assert sorted(rows) == ["b1", "b2", "b3"]
        assert rows["b1"]["ref"] == str(BIG).encode() and "ref" not in rows["b2"]
        assert [rows[name]["damage"].decode() for name in ("b1", "b2", "b3")] == DAMAGE
        assert rows["b1"]["quartier_résidentiel"] == "Saint-Étienne 北".encode()
        assert (rows["b1"]["inhabited"], rows["b3"]["inhabited"]) == (1, 0) and "inhabited" not in rows["b2"]


def test_a_workbook_never_runs_a_cell_and_rounds_no_number(files):
    book = openpyxl.load_workbook(files["xlsx"])
    assert book.sheetnames == ["Buildings", "Summary", "Legend"]
    sheet = book["Buildings"]
    heading, *rows = ([cell for cell in row] for row in sheet.iter_rows())
    column = {cell.value: number for number, cell in enumerate(heading)}
    assert sheet.freeze_panes == "A2"
    assert [row[column["ref"]].value for row in rows] == [str(BIG), None, 5]
    assert [row[column["inhabited"]].value for row in rows] == [True, None, False]
    formula = rows[2][column["quartier_résidentiel"]]
    assert (formula.value, formula.data_type, formula.quotePrefix) == ("=1+1", "s", True)
    assert rows[2][column["note"]].value == "\ufffdbell" and rows[0][column["built"]].value == "1999-12-31"
    with zipfile.ZipFile(files["xlsx"]) as archive:
        sheets = [archive.read(name) for name in archive.namelist() if name.startswith("xl/worksheets/")]
    assert len(sheets) == 3 and not any(b"<f>" in sheet or b"<f " in sheet for sheet in sheets)
    summary = {row[0].value: row[1].value for row in book["Summary"].iter_rows() if row[0].value}
    assert summary["destroyed"] == 1 and summary["not assessed: cloud"] == 1
    assert summary["scale"] == "joint-damage-scale" and summary["image from after"] == "2011-05-24"
    fills = {row[0].value: row[2].fill.fgColor.rgb for row in book["Legend"].iter_rows(min_row=2, max_row=5)}
    assert fills["destroyed"] == "00c8203c"


def test_a_stac_item_has_what_the_specification_requires(made, files):
    item = json.loads(files["stac"].read_text())
    assert (item["type"], item["stac_version"], item["id"]) == ("Feature", "1.1.0", "ville")
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] == "2011-05-24T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2011-05-24T23:59:59Z"
    assert item["links"] == [] and item["properties"]["proj:code"] == "EPSG:32615"
    assert item["properties"]["proj:shape"] == [80, 120]
    assert item["properties"]["proj:transform"] == [10, 0, 400_000, 0, -10, 4_100_000]
    shape = shapely.geometry.shape(item["geometry"])
    assert shape.is_valid and shape.exterior.is_ccw and item["bbox"] == pytest.approx(shape.bounds, abs=1e-6)
    damage = item["assets"]["damage.tif"]
    assert damage["bands"][0]["nodata"] == 255 and damage["classification:classes"][4]["name"] == "destroyed"
    for asset in item["assets"].values():
        path = (files["stac"].parent / asset["href"]).resolve()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert asset["file:checksum"] == "1220" + digest and asset["file:size"] == path.stat().st_size
        assert asset["type"] != "application/octet-stream", asset
    assert {"buildings.gpkg", "damage.tif", "ville.kmz", "ville.parquet"} <= set(item["assets"])


def test_the_same_map_gives_the_same_bytes(made, files, tmp_path):
    again = api.package(made, ("all",), to=tmp_path, name="ville")
    same = {one.name for one in again if one.read_bytes() == (made / "package" / one.name).read_bytes()}
    assert same == {path.name for path in again} - {"ville.stac.json"}  # whose links are relative to it


def test_a_map_without_buildings(tmp_path):
    empty = finished_maps.table([(10, 10)], ["destroyed"], columns={"ref": ["x"]}).iloc[:0]
    out = finished_maps.finish(tmp_path / "empty", empty)
    with pytest.warns(DataWarning, match="pmtiles is left out"):
        files = {path.suffix: path for path in api.package(out)}
    assert len(pyarrow.parquet.read_table(files[".parquet"])) == 0
    assert "bbox" in pyarrow.parquet.read_schema(files[".parquet"]).names
    assert openpyxl.load_workbook(files[".xlsx"])["Buildings"].max_row == 1
    with zipfile.ZipFile(files[".kmz"]) as archive:
        assert b"destroyed (0)" in archive.read("doc.kml")
    with zipfile.ZipFile(files[".zip"]) as archive:
        assert "buildings.shp" in archive.namelist()


def test_a_map_in_pixels_has_tables_and_no_earth(tmp_path):
    grid = Grid.pixels(120, 80)
    out = finished_maps.finish(tmp_path / "plain", finished_maps.table([(10, 10)], ["destroyed"], grid), grid)
    with pytest.raises(InputError, match="kmz, pmtiles, stac needs longitude and latitude"):
        api.package(out)
    parquet, archive = api.package(out, ["geoparquet", "shapefile"])
    geo = json.loads(pyarrow.parquet.read_schema(parquet).metadata[b"geo"])
    assert geo["columns"]["geometry"]["crs"] is None
    with zipfile.ZipFile(archive) as members:
        assert "buildings.prj" not in members.namelist()


def test_across_the_antimeridian_outlines_are_cut(tmp_path):
    grid = Grid(CRS.from_epsg(32660), Affine(10, 0, 833_500, 0, -10, 1_000), 120, 80)
    west, east = grid.lonlat(np.array([0, 120]), np.array([40, 40]))[0].tolist()
    assert west > 0 > east
    middle = 120 * (180 - west) / (east + 360 - west)
    out = finished_maps.finish(
        tmp_path / "fiji", finished_maps.table([(middle, 40)], ["destroyed"], grid, side_px=4), grid
    )
    kmz, stac = api.package(out, ["kmz", "stac"])
    with zipfile.ZipFile(kmz) as archive:
        root = ElementTree.fromstring(archive.read("doc.kml"))
    assert len(list(root.iter(f"{KML}Polygon"))) == 2
    item = json.loads(stac.read_text())
    assert item["geometry"]["type"] == "MultiPolygon" and item["bbox"][0] > item["bbox"][2]


def test_what_cannot_be_packaged_is_told(made, tmp_path):
    with pytest.raises(InputError, match=r"no format 'kml': --format takes geoparquet.*or all|formats"):
        api.package(made, ["kml"])
    with pytest.raises(InputError, match="is not a finished map"):
        api.package(tmp_path, ["kmz"])
    with pytest.raises(InputError, match="no name for a file"):
        api.package(made, ["csv"], name="../x")


def test_a_map_whose_report_lacks_something_is_handed_on_without_it(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "old", ignore=shutil.ignore_patterns("package"))
    (out / "provenance.json").write_text(json.dumps({"scale": "joint-damage-scale", "model": None}))
    with pytest.raises(InputError, match="neither that of the image from after nor that of the map is known"):
        api.package(out)
    assert not list((out / "package").iterdir())
    (workbook,) = api.package(out, ["xlsx"])
    rows = {
        row[0].value: row[1].value
        for row in openpyxl.load_workbook(workbook)["Summary"].iter_rows()
        if row[0].value
    }
    assert rows["destroyed"] == 1 and "model" not in rows


def test_envi_has_every_pixel_with_names_and_colours(made, files, tmp_path):
    with zipfile.ZipFile(files["envi"]) as archive:
        archive.extractall(tmp_path)
    with rasterio.open(tmp_path / "ville.dat") as file, rasterio.open(made / "damage.tif") as source:
        found, stored = file.read(1), source.read(1)
        assert np.array_equal(found, np.where(stored == 255, 5, stored))
        assert (
            file.driver == "ENVI"
            and file.transform.almost_equals(source.transform)
            and file.crs == source.crs
        )
        assert file.colormap(1)[4][:3] == (200, 32, 60)
    header = (tmp_path / "ville.hdr").read_text()
    assert "file type = ENVI Classification" in header and "classes = 6" in header
    assert "{background, no-damage, minor-damage, major-damage, destroyed, not-assessed}" in header
