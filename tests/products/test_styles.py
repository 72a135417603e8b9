"""Styles by value: what QGIS and GDAL look for, with the colours of the classes."""

import sqlite3
from contextlib import closing
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
from building_frames import GRID, town

from aftermap.classes import DAMAGE, IGNORE, NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.errors import OutputError
from aftermap.geo.grid import Window
from aftermap.products.cog import RasterWriter, damage_colormap
from aftermap.products.styles import (
    ALIASES,
    BUILDING_STYLE,
    DAMAGE_STYLE,
    sld,
    style_layer,
    style_package,
    vector_qml,
    write_class_names,
    write_raster_style,
)
from aftermap.products.summary import GRADES
from aftermap.products.vectors import COLUMNS, write_buildings

COLOURS = dict(zip(DAMAGE.names[1:], DAMAGE.colours[1:], strict=True)) | {NOT_ASSESSED: NOT_ASSESSED_COLOUR}
OGC = "{http://www.opengis.net/ogc}"
SLD = "{http://www.opengis.net/sld}"


def rgb(colour: str) -> str:
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))


def test_every_class_has_its_colour_in_qml_and_sld():
    tree = ElementTree.fromstring(vector_qml(DAMAGE_STYLE, COLUMNS))
    renderer = tree.find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "damage")
    symbols = {
        s.get("name"): s.find("layer/Option/Option[@name='color']").get("value") for s in tree.iter("symbol")
    }
    found = {c.get("value"): symbols[c.get("symbol")].rsplit(",", 1)[0] for c in tree.iter("category")}
    assert found == {name: rgb(colour) for name, colour in COLOURS.items()}
    rules = ElementTree.fromstring(sld(DAMAGE_STYLE, "buildings").encode()).iter(f"{SLD}Rule")
    filled = {r.find(f".//{OGC}Literal").text: r.find(f".//{SLD}Fill/{SLD}CssParameter").text for r in rules}
    assert filled == COLOURS


def test_grades_of_confidence_cover_zero_to_one_without_gap():
    ranges = ElementTree.fromstring(vector_qml(BUILDING_STYLE, ["confidence"])).findall(".//range")
    bounds = [(float(r.get("lower")), float(r.get("upper"))) for r in ranges]
    assert bounds == [(0.9, 1.0), (0.7, 0.9), (0.0, 0.7)]
    assert [r.get("label") for r in ranges] == [name for name, _, _ in GRADES]


def test_a_geopackage_carries_its_style_and_names_and_stays_as_it_was(tmp_path):
    write_buildings(town(), tmp_path)
    before = pyogrio.read_dataframe(tmp_path / "buildings.gpkg", layer="buildings")
    style_layer(tmp_path, "buildings", DAMAGE_STYLE, COLUMNS)
    assert pyogrio.read_dataframe(tmp_path / "buildings.gpkg", layer="buildings").equals(before)
    assert pyogrio.list_layers(tmp_path / "buildings.gpkg").tolist() == [
        ["buildings", "MultiPolygon"],
        ["layer_styles", None],
    ]
    with closing(sqlite3.connect(tmp_path / "buildings.gpkg")) as database:
        (row,) = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML, styleSLD FROM layer_styles"
        ).fetchall()
        aliases = dict(
            database.execute("SELECT column_name, name FROM gpkg_data_columns WHERE table_name = 'buildings'")
        )
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert row[:3] == ("buildings", "geom", 1)
    assert "categorizedSymbol" in row[3] and "StyledLayerDescriptor" in row[4]
    assert aliases == {name: ALIASES[name] for name in COLUMNS}
    qml = ElementTree.parse(tmp_path / "buildings.qml")
    assert {a.get("field"): a.get("name") for a in qml.iter("alias")} == aliases


def test_same_frame_gives_the_same_styled_bytes(tmp_path):
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_buildings(town(), tmp_path / name)
        style_layer(tmp_path / name, "buildings", DAMAGE_STYLE, COLUMNS)
        contents.append((tmp_path / name / "buildings.gpkg").read_bytes())
    assert contents[0] == contents[1]


def test_a_package_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "buildings.gpkg").write_bytes(b"no database, but long enough to be one" * 50)
    with pytest.raises(OutputError, match=r"cannot write .*buildings\.gpkg: file is not a database"):
        style_package(tmp_path / "buildings.gpkg", "buildings", DAMAGE_STYLE)


def test_a_raster_of_classes_has_names_colours_and_a_transparent_background(tmp_path):
    path = tmp_path / "damage.tif"
    grid = GRID.crop(Window(0, 0, 32, 32))
    with RasterWriter(
        path, grid, count=1, dtype="uint8", nodata=IGNORE, colormap=damage_colormap()
    ) as raster:
        raster.write(Window(0, 0, 32, 32), np.ones((32, 32), np.uint8))
    write_class_names(path, DAMAGE)
    write_raster_style(path, DAMAGE)
    band = ElementTree.parse(tmp_path / "damage.tif.aux.xml").find("PAMRasterBand")
    assert [c.text for c in band.iter("Category")] == list(DAMAGE.names)
    table = band.find("GDALRasterAttributeTable")
    assert [f.find("Usage").text for f in table.findall("FieldDefn")] == ["5", "2", "6", "7", "8", "9"]
    rows = [[cell.text for cell in row] for row in table.findall("Row")]
    assert rows[0] == ["0", "background", "0", "0", "0", "0"]
    assert rows[4] == ["4", "destroyed", *rgb(DAMAGE.colours[4]).split(","), "255"]
    entries = ElementTree.parse(tmp_path / "damage.qml").findall(".//paletteEntry")
    assert [(e.get("value"), e.get("label"), e.get("color"), e.get("alpha")) for e in entries] == [
        (str(i), name, colour, "0" if i == 0 else "255")
        for i, (name, colour) in enumerate(zip(DAMAGE.names, DAMAGE.colours, strict=True))
    ]
