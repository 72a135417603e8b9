"""How the layers of a map look in a GIS: styles for QGIS (QML) and others (SLD), names of columns and of classes.

QGIS takes `damage.qml` beside `damage.tif` and the table `layer_styles` inside a GeoPackage by itself.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED, NOT_ASSESSED_COLOUR, ClassScheme
from aftermap.errors import OutputError
from aftermap.files import one_line, write_text
from aftermap.products.summary import GRADES

ALIASES = {
    "building_id": "Building",
    "damage": "Damage",
    "p_building": "Probability of a building",
    "p_no_damage": "Probability of no damage",
    "p_minor": "Probability of minor damage",
    "p_major": "Probability of major damage",
    "p_destroyed": "Probability of destroyed",
    "confidence": "Confidence",
    "seen": "Share seen",
    "area_m2": "Area (m²)",
    "area_px": "Area (pixels)",
    "lon": "Longitude",
    "lat": "Latitude",
    "reason": "Reason if not assessed",
    "mode": "Dates compared",
    "image": "Image",
    "pre_image": "Image before",
    "post_image": "Image after",
    "model": "Model",
    "model_version": "Model version",
    "model_sha256": "Model checksum",
    "region_id": "Region",
    "class": "Class",
    "agreement": "Map and source",
    "grade": "Grade of the source",
    "truth": "The same in classes of the map",
    "marks": "Marks on it",
    "distance_m": "Distance of the mark (m)",
    "class_index": "Class number",
}
"""What our columns are called for a reader."""

_NO_DATE = "2000-01-01T00:00:00.000Z"  # equal results shall be equal files
_FILL_ALPHA = 178
_QML = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


@dataclass(frozen=True)
class Entry:
    """One entry of a legend.

    Attributes:
        label: to be read.
        colour: `#rrggbb`.
        value: of the column; None where a range of numbers counts.
        above: first number of the range.
        below: end of the range.
    """

    label: str
    colour: str
    value: str | None = None
    above: float = 0.0
    below: float = 1.0


@dataclass(frozen=True)
class Style:
    """The colours of a layer by one of its columns.

    Attributes:
        name: of the style.
        column: that decides.
        entries: of the legend.
    """

    name: str
    column: str
    entries: tuple[Entry, ...]


DAMAGE_STYLE = Style(
    "damage",
    "damage",
    (
        *(
            Entry(n.replace("-", " "), c, n)
            for n, c in zip(DAMAGE.names[1:], DAMAGE.colours[1:], strict=True)
        ),
        Entry(NOT_ASSESSED.replace("-", " "), NOT_ASSESSED_COLOUR, NOT_ASSESSED),
    ),
)

ONE_DATE_STYLE = Style(
    "damage",
    "damage",
    (
        *(
            Entry(n.replace("-", " "), c, n)
            for n, c in zip(DESTROYED_OR_NOT.names[1:], DESTROYED_OR_NOT.colours[1:], strict=True)
        ),
        DAMAGE_STYLE.entries[-1],
    ),
)

BUILDING_STYLE = Style(
    "confidence",
    "confidence",
    tuple(
        Entry(name, colour, above=least, below=end)
        for (name, least, colour), end in zip(
            GRADES, (1.0, *(least for _, least, _ in GRADES[:-1])), strict=True
        )
    ),
)


def class_style(scheme: ClassScheme) -> Style:
    """The classes of a legend."""
    pairs = zip(scheme.names, scheme.colours, strict=True)
    return Style("classes", "class", tuple(Entry(name, colour, name) for name, colour in pairs))


def style_package(path: Path, layer: str, style: Style) -> None:
    """Put a style and the names of columns into a GeoPackage, as QGIS and GDAL look for them.

    Args:
        path: of the GeoPackage.
        layer: in it.
        style: becomes the layer's default.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with closing(sqlite3.connect(path)) as database, database:
            columns = [str(row[1]) for row in database.execute(f"PRAGMA table_info({_quoted(layer)})")]
            (geometry,) = database.execute(
                "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
            ).fetchone()
            for statement in _TABLES:
                database.execute(statement)
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
                "styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
                "VALUES ('', '', ?, ?, ?, ?, ?, 1, ?, '', NULL, ?)",
                (
                    layer,
                    geometry,
                    style.name,
                    vector_qml(style, columns),
                    sld(style, layer),
                    style.name,
                    _NO_DATE,
                ),
            )
            named = [(layer, name, ALIASES[name], ALIASES[name]) for name in columns if name in ALIASES]
            database.executemany(
                "INSERT INTO gpkg_data_columns (table_name, column_name, name, title) VALUES (?, ?, ?, ?)",
                named,
            )
    except sqlite3.Error as error:
        raise OutputError(f"cannot write {path}: {one_line(error)}") from None


def style_layer(
    folder: Path, layer: str, style: Style, columns: Sequence[str], *, raster: ClassScheme | None = None
) -> None:
    """Give the layers `<layer>.gpkg` and `.geojson` of a folder their colours, the latter by `<layer>.qml` beside it.

    Args:
        folder: of the layers.
        layer: their name.
        style: their colours.
        columns: that they have.
        raster: classes of a raster of the same name, whose style the QML file is too.

    Raises:
        OutputError: they cannot be written.
    """
    style_package(folder / f"{layer}.gpkg", layer, style)
    also = "" if raster is None else _pipe(raster)
    write_text(folder / f"{layer}.qml", vector_qml(style, columns, also=also), sync=False)


def write_raster_style(raster: Path, scheme: ClassScheme) -> Path:
    """Write a QML file beside a raster of classes: their colours and names, background and nodata transparent."""
    text = f'{_QML}<qgis version="3.22.0" styleCategories="Symbology">{_pipe(scheme)}</qgis>\n'
    return write_text(raster.with_suffix(".qml"), text, sync=False)


def write_class_names(raster: Path, scheme: ClassScheme) -> Path:
    """Write `<raster>.aux.xml`, from which GDAL and QGIS take the names and colours of the classes (a RAT).

    Raises:
        OutputError: it cannot be written.
    """
    names = "".join(f"<Category>{escape(name)}</Category>" for name in scheme.names)
    fields = (
        ("Value", 0, 5),
        ("Class", 2, 2),
        ("Red", 0, 6),
        ("Green", 0, 7),
        ("Blue", 0, 8),
        ("Alpha", 0, 9),
    )
    head = "".join(
        f'<FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>'
        for index, (name, kind, usage) in enumerate(fields)
    )
    rows = ""
    for index, (name, colour) in enumerate(zip(scheme.names, scheme.colours, strict=True)):
        alpha = 0 if index == scheme.background else 255
        cells = (index, escape(name), *_rgb(colour), alpha)
        rows += f'<Row index="{index}">{"".join(f"<F>{cell}</F>" for cell in cells)}</Row>'
    table = f'<GDALRasterAttributeTable tableType="thematic">{head}{rows}</GDALRasterAttributeTable>'
    body = f"<CategoryNames>{names}</CategoryNames>{table}"
    text = f'<PAMDataset><PAMRasterBand band="1">{body}</PAMRasterBand></PAMDataset>'
    return write_text(raster.with_name(raster.name + ".aux.xml"), text + "\n", sync=False)


def vector_qml(style: Style, columns: Sequence[str], *, also: str = "") -> str:
    """The style of a layer of polygons for QGIS, with the names of its columns, and more elements if need be."""
    symbols = "".join(_symbol(str(index), entry) for index, entry in enumerate(style.entries))
    if style.entries[0].value is not None:
        kind, items = (
            "categorizedSymbol",
            "".join(
                f'<category render="true" type="string" symbol="{index}" value={quoteattr(entry.value or "")} '
                f"label={quoteattr(entry.label)}/>"
                for index, entry in enumerate(style.entries)
            ),
        )
        legend = f"<categories>{items}</categories>"
    else:
        kind, items = (
            "graduatedSymbol",
            "".join(
                f'<range render="true" symbol="{index}" lower="{entry.above:.6f}" upper="{entry.below:.6f}" '
                f"label={quoteattr(entry.label)}/>"
                for index, entry in enumerate(style.entries)
            ),
        )
        legend = f"<ranges>{items}</ranges>"
    aliases = "".join(
        f'<alias index="{index}" field={quoteattr(name)} name={quoteattr(ALIASES.get(name, ""))}/>'
        for index, name in enumerate(columns)
    )
    return (
        f'{_QML}<qgis version="3.22.0" styleCategories="Symbology|Fields">'
        f'<renderer-v2 type="{kind}" attr={quoteattr(style.column)} forceraster="0" symbollevels="0" enableorderby="0">'
        f"{legend}<symbols>{symbols}</symbols></renderer-v2><aliases>{aliases}</aliases>{also}</qgis>\n"
    )


def sld(style: Style, layer: str) -> str:
    """The same colours as a Styled Layer Descriptor 1.0, for servers and other programs."""
    rules = "".join(
        f"<Rule><Title>{escape(entry.label)}</Title><ogc:Filter>{_filter(style.column, entry)}</ogc:Filter>"
        f'<PolygonSymbolizer><Fill><CssParameter name="fill">{entry.colour}</CssParameter>'
        f'<CssParameter name="fill-opacity">{_FILL_ALPHA / 255:.2f}</CssParameter></Fill>'
        f'<Stroke><CssParameter name="stroke">{entry.colour}</CssParameter>'
        '<CssParameter name="stroke-width">1</CssParameter></Stroke></PolygonSymbolizer></Rule>'
        for entry in style.entries
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><StyledLayerDescriptor version="1.0.0" '
        'xmlns="http://www.opengis.net/sld" xmlns:ogc="http://www.opengis.net/ogc">'
        f"<NamedLayer><Name>{escape(layer)}</Name><UserStyle><Title>{escape(style.name)}</Title>"
        f"<FeatureTypeStyle>{rules}</FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>\n"
    )


def _pipe(scheme: ClassScheme) -> str:
    entries = "".join(
        f'<paletteEntry value="{index}" label={quoteattr(name)} color="{colour}" '
        f'alpha="{0 if index == scheme.background else 255}"/>'
        for index, (name, colour) in enumerate(zip(scheme.names, scheme.colours, strict=True))
    )
    return (
        '<pipe><rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">'
        f"<rasterTransparency/><colorPalette>{entries}</colorPalette></rasterrenderer></pipe>"
    )


def _filter(column: str, entry: Entry) -> str:
    name = f"<ogc:PropertyName>{escape(column)}</ogc:PropertyName>"
    if entry.value is not None:
        value = f"<ogc:Literal>{escape(entry.value)}</ogc:Literal>"
        return f"<ogc:PropertyIsEqualTo>{name}{value}</ogc:PropertyIsEqualTo>"
    end = "PropertyIsLessThanOrEqualTo" if entry.below >= 1 else "PropertyIsLessThan"
    return (
        f"<ogc:And><ogc:PropertyIsGreaterThanOrEqualTo>{name}<ogc:Literal>{entry.above:g}</ogc:Literal>"
        f"</ogc:PropertyIsGreaterThanOrEqualTo><ogc:{end}>{name}<ogc:Literal>{entry.below:g}</ogc:Literal></ogc:{end}>"
        "</ogc:And>"
    )


def _symbol(name: str, entry: Entry) -> str:
    rgb = ",".join(map(str, _rgb(entry.colour)))
    properties = {
        "color": f"{rgb},{_FILL_ALPHA}",
        "outline_color": f"{rgb},255",
        "outline_width": "0.4",
        "outline_style": "solid",
        "style": "solid",
    }
    # QGIS reads `Option` since 3.18 and `prop` before
    options = "".join(f'<Option type="QString" name="{k}" value="{v}"/>' for k, v in properties.items())
    older = "".join(f'<prop k="{k}" v="{v}"/>' for k, v in properties.items())
    return (
        f'<symbol type="fill" name="{name}" alpha="1" clip_to_extent="1" force_rhr="0"><layer class="SimpleFill" '
        f'enabled="1" locked="0" pass="0"><Option type="Map">{options}</Option>{older}</layer></symbol>'
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_TABLES = (
    "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), "
    "f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, "
    "styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)",
    "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) VALUES "
    f"('layer_styles', 'attributes', 'layer_styles', '', '{_NO_DATE}', 0)",
    "CREATE TABLE IF NOT EXISTS gpkg_data_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, "
    "title TEXT, description TEXT, mime_type TEXT, constraint_name TEXT, "
    "CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name), CONSTRAINT gdc_tn UNIQUE (table_name, name))",
    "CREATE TABLE IF NOT EXISTS gpkg_data_column_constraints (constraint_name TEXT NOT NULL, constraint_type TEXT "
    "NOT NULL, value TEXT, min NUMERIC, min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, "
    "description TEXT, CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value))",
    "CREATE TABLE IF NOT EXISTS gpkg_extensions (table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, "
    "definition TEXT NOT NULL, scope TEXT NOT NULL, CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name))",
    *(
        "INSERT INTO gpkg_extensions VALUES "
        f"('{table}', NULL, 'gpkg_schema', 'http://www.geopackage.org/spec121/#extension_schema', 'read-write')"
        for table in ("gpkg_data_columns", "gpkg_data_column_constraints")
    ),
)
