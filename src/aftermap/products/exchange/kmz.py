"""KMZ for Google Earth and phones: one folder per class of damage, in its colour."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import geopandas
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from aftermap.errors import GeoreferenceError
from aftermap.products.exchange.unwritable import xml_text
from aftermap.products.exchange.zip_files import write_zip
from aftermap.products.styles import ALIASES, DAMAGE_STYLE, Entry, Style
from aftermap.products.vectors import in_degrees, plain_column

_ALPHA = "b2"  # as in the styles for GIS


def write_kmz(
    frame: geopandas.GeoDataFrame, path: Path, *, title: str, description: str, style: Style = DAMAGE_STYLE
) -> None:
    """Write the archive, with a single `doc.kml` in it.

    Every building is a placemark called by its id, with all columns that have a value as extended data. Coordinates are
    longitude and latitude with 7 decimals; what crosses 180 degrees is cut there.

    Args:
        frame: buildings of a map of damage.
        path: of the archive.
        title: of the document.
        description: shown below it.
        style: the classes of the map and their colours.

    Raises:
        GeoreferenceError: the buildings are in pixels.
        OSError: it cannot be written.
    """
    if frame.crs is None:
        raise GeoreferenceError("a KMZ needs longitude and latitude, and this map is in pixels")
    text = "".join(_document(frame, title, description, style))
    write_zip(path, {"doc.kml": text.encode()})


def _document(frame: geopandas.GeoDataFrame, title: str, description: str, style: Style) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2">\n<Document>'
    yield f"<name>{escape(xml_text(title))}</name><description>{escape(xml_text(description))}</description>\n"
    for entry in style.entries:
        yield _style(entry)
    columns = [name for name in frame.columns if name != frame.geometry.name]
    values = [plain_column(frame[name]) for name in columns]
    shapes, damage = in_degrees(frame), frame["damage"].to_numpy()
    for entry in style.entries:
        rows = np.flatnonzero(damage == entry.value).tolist()
        yield f"<Folder><name>{escape(entry.label)} ({len(rows)})</name>\n"
        for row in rows:
            known = ((name, column[row]) for name, column in zip(columns, values, strict=True))
            yield _placemark(str(frame["building_id"].iloc[row]), entry, shapes[row], known)
        yield "</Folder>\n"
    yield "</Document>\n</kml>\n"


def _style(entry: Entry) -> str:
    red, green, blue = (entry.colour[start : start + 2] for start in (1, 3, 5))
    colour = f"{blue}{green}{red}"  # KML counts backwards
    return (
        f'<Style id="{entry.value}"><LineStyle><color>ff{colour}</color><width>1.5</width></LineStyle>'
        f"<PolyStyle><color>{_ALPHA}{colour}</color></PolyStyle></Style>\n"
    )


def _placemark(name: str, entry: Entry, shape: BaseGeometry, values: Iterator[tuple[str, Any]]) -> str:
    data = "".join(
        f"<Data name={quoteattr(xml_text(column))}><displayName>{escape(xml_text(ALIASES.get(column, column)))}"
        f"</displayName><value>{escape(xml_text(_written(value)))}</value></Data>"
        for column, value in values
        if value is not None
    )
    parts = "".join(_polygon(part) for part in shapely.get_parts(shape))
    geometry = parts if shape.geom_type == "Polygon" else f"<MultiGeometry>{parts}</MultiGeometry>"
    return (
        f"<Placemark><name>{escape(xml_text(name))}</name><styleUrl>#{entry.value}</styleUrl>"
        f"<ExtendedData>{data}</ExtendedData>{geometry}</Placemark>\n"
    )


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _polygon(polygon: BaseGeometry) -> str:
    rings = [("outer", polygon.exterior), *(("inner", ring) for ring in polygon.interiors)]
    return f"<Polygon>{''.join(_ring(side, ring) for side, ring in rings)}</Polygon>"


def _ring(side: str, ring: BaseGeometry) -> str:
    points = " ".join(f"{lon:.7f},{lat:.7f}" for lon, lat in shapely.get_coordinates(ring).tolist())
    boundary = f"{side}BoundaryIs"
    return f"<{boundary}><LinearRing><coordinates>{points}</coordinates></LinearRing></{boundary}>"
