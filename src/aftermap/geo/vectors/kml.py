"""KML, read from its own text: outlines of placemarks, by folder; no link in it is followed."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely
from pyproj import CRS

from aftermap.errors import FootprintError
from aftermap.geo.vectors.geojson import DEGREES, read_text
from aftermap.geo.vectors.repair import Rings, polygon_of
from aftermap.geo.vectors.table import Table, frame_of, text_of

_CONTAINERS = ("Folder", "Document")
_OTHERS = ("Point", "LineString", "LinearRing", "Track", "Model")


@dataclass
class Placemarks:
    """The placemarks of one folder.

    Attributes:
        parts: of each placemark, as rings.
        ids: its `id`.
        values: name, description and extended data of each.
        kinds: geometries that are no polygons.
        broken: placemarks with coordinates that are no numbers.
        points: of each placemark, where they are asked for.
    """

    parts: list[list[Rings]] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    values: list[dict[str, str]] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    broken: int = 0
    points: list[np.ndarray] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What it holds, as a layer's type of geometry."""
        if any(self.parts):
            return "Polygon"
        return "Point" if any(map(len, self.points)) else "/".join(sorted(self.kinds)) or "nothing"

    def table(self) -> Table:
        """As every reader gives it; KML is always in degrees."""
        names = list(dict.fromkeys(name for row in self.values for name in row))
        columns = {name: [row.get(name) for row in self.values] for name in names}
        shapes = np.full(len(self.parts), None, dtype=object)
        shapes[:] = [polygon_of(parts) for parts in self.parts]
        for row, points in enumerate(self.points):
            if shapes[row] is None and len(points):
                shapes[row] = shapely.MultiPoint(points)
        notes = (f"{self.broken} placemarks have coordinates that are no numbers",) if self.broken else ()
        return Table(
            shapes,
            CRS.from_user_input(DEGREES),
            frame_of(columns, len(shapes), of_text=True),
            self._own_ids(),
            frozenset(self.kinds),
            notes,
        )

    def _own_ids(self) -> list[str | None]:
        """Where no placemark has an `id`, their names, if each has one of its own."""
        names = [row.get("name") for row in self.values]
        are_ids = not any(self.ids) and None not in names and len(set(names)) == len(names)
        return names if are_ids else self.ids


def read_kml(path: Path, what: str, *, points: bool = False) -> dict[str, Placemarks]:
    """The placemarks of a KML file by the folder that they lie in, their points too if that is asked for.

    Raises:
        FootprintError: it is no KML.
    """
    text = read_text(path, what)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise FootprintError(f"cannot read {what} {path}: it declares XML entities, expected plain KML")
    layers: dict[str, Placemarks] = {}
    names = [path.stem]
    inside: list[str] = []
    try:
        for event, element in ElementTree.iterparse(io.StringIO(text), events=("start", "end")):
            tag = _tag(element)
            if event == "start":
                inside.append(tag)
                if len(inside) == 1 and tag != "kml":
                    raise FootprintError(f"cannot read {what} {path}: the XML is {tag}, expected kml")
                if tag in _CONTAINERS:
                    names.append(names[-1])
                continue
            inside.pop()
            if tag == "name" and inside and inside[-1] in _CONTAINERS:
                names[-1] = (element.text or "").strip() or names[-1]
            elif tag == "Placemark":
                _add(layers.setdefault(names[-1], Placemarks()), element, points=points)
                element.clear()
            elif tag in _CONTAINERS:
                names.pop()
                element.clear()
    except ElementTree.ParseError as error:
        raise FootprintError(f"cannot read {what} {path}: {error}, expected KML") from None
    return layers


def _add(layer: Placemarks, placemark: ElementTree.Element, *, points: bool) -> None:
    parts: list[Rings] = []
    places: list[np.ndarray] = []
    values: dict[str, str] = {}
    for element in placemark.iter():
        tag = _tag(element)
        if tag == "Polygon":
            try:
                parts.append(_rings(element))
            except ValueError:
                layer.broken += 1
        elif tag == "Point" and points:
            try:
                places.append(_ring(element))
            except ValueError:
                layer.broken += 1
        elif tag in _OTHERS and not (tag == "LinearRing" and parts):
            layer.kinds.add(tag)
        elif tag == "SimpleData":
            values[_clean(element.get("name"))] = _clean(element.text)
        elif tag == "Data":
            value = next((child for child in element if _tag(child) == "value"), None)
            values[_clean(element.get("name"))] = _clean(None if value is None else value.text)
    for child in placemark:
        if _tag(child) in ("name", "description") and child.text:
            values.setdefault(_tag(child), _clean(child.text))
    layer.parts.append(parts)
    layer.points.append(np.concatenate(places) if places else np.zeros((0, 2)))
    layer.ids.append(placemark.get("id") or None)
    layer.values.append({name: value for name, value in values.items() if value})


def _rings(polygon: ElementTree.Element) -> list[np.ndarray]:
    shells = [_ring(each) for each in polygon.iter() if _tag(each) == "outerBoundaryIs"]
    holes = [_ring(each) for each in polygon.iter() if _tag(each) == "innerBoundaryIs"]
    return [*shells[:1], *(hole for hole in holes if len(hole))]


def _ring(boundary: ElementTree.Element) -> np.ndarray:
    text = next((each.text for each in boundary.iter() if _tag(each) == "coordinates"), None) or ""
    places = [place.split(",")[:2] for place in text.split()]
    return np.array(places, np.float64).reshape(-1, 2)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _clean(text: str | None) -> str:
    return text_of((text or "").strip())
