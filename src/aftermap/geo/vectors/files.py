"""Which file, which layer: what a vector file is by its content, the layers it has, and the one that is meant."""

import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from aftermap.errors import DataWarning, FootprintError
from aftermap.geo.vectors import binary, delimited, geojson, kml
from aftermap.geo.vectors.binary import Layer
from aftermap.geo.vectors.table import Table
from aftermap.wording import counted

Purpose = Literal["footprints", "labels", "area", "areas", "marks"]

FORMATS = {
    ".gpkg": "GeoPackage",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
    ".geojsonl": "GeoJSON lines",
    ".geojsons": "GeoJSON lines",
    ".shp": "Shapefile",
    ".fgb": "FlatGeobuf",
    ".parquet": "GeoParquet",
    ".geoparquet": "GeoParquet",
    ".kml": "KML",
    ".kmz": "zip",
    ".csv": "table of text",
    ".tsv": "table of text",
    ".zip": "zip",
}
"""What each ending stands for."""

_WORDS = {
    "footprints": "footprints",
    "labels": "footprints",
    "area": "the area of interest",
    "areas": "areas",
    "marks": "points or polygons",
}
_BUILDINGS = re.compile(
    r"build|footprint|house|roof|b[aâ]timent|edifici|edificaç|geb(ä|ae?)ude", re.IGNORECASE
)
_AREAS = re.compile(
    r"(?<![a-z])(aoi|roi|extents?|bounds?|boundary|boundaries|bbox|perimeter|area[ _-]?of[ _-]?interest|study[ _-]?area)"
    r"(?![a-z])",
    re.IGNORECASE,
)
_GRADED = re.compile(r"built[ _-]?up|damage|grad(e|ing)|dins|assess|survey", re.IGNORECASE)
_UNZIPPING = (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError, IndexError)
_MAX_UNZIPPED = 8 * 2**30
_MAX_MEMBERS = 10_000


def part_layer(path: Path) -> tuple[Path, str | None]:
    """The file and the layer of `FILE:LAYER`; None where no layer is named."""
    if not path.exists():
        file, colon, layer = str(path).rpartition(":")
        if colon and layer and Path(file).suffix.lower() in FORMATS:
            return Path(file), layer
    return path, None


def names_area(name: str) -> bool:
    """Whether a layer is called an area of interest, and not buildings."""
    return _AREAS.search(name) is not None and _BUILDINGS.search(name) is None


def check_vectors(path: Path, purpose: Purpose) -> None:
    """Refuse in no time what is no file, or none of vectors by its ending and its first bytes.

    Raises:
        FootprintError: says what was found.
    """
    file, what = part_layer(path)[0], _WORDS[purpose]
    if not file.is_file():
        found = "no such file" if not file.exists() else "it is a folder, expected a file"
        raise FootprintError(f"cannot read {what} {file}: {found}")
    _format(file, what)


def read_table(path: Path, purpose: Purpose, *, columns: bool) -> Table:
    """Read the layer that is meant of a vector file.

    One that is named (`FILE:LAYER`) is taken. Else it is the only layer that holds polygons; of several, for footprints
    the one called buildings, the only one named like buildings, or the only one that is not named like an area of
    interest; for an area the only one named like one; for areas to count by it has to be the only one; of marks, which
    may be points too, the only one named after damage or built-up areas. Where that leaves a choice the layers are
    listed.

    Args:
        path: a file, or `FILE:LAYER`.
        purpose: what it is read for.
        columns: read the columns too.

    Raises:
        FootprintError: the file cannot be read, is not what its ending says, or it is not clear which layer is meant.
    """
    check_vectors(path, purpose)
    file, wanted = part_layer(path)
    with _unzipped(file, wanted, purpose) as (inner, layer):
        return _read(inner, layer, purpose, columns=columns)


def _read(path: Path, wanted: str | None, purpose: Purpose, *, columns: bool) -> Table:
    what, kind = _WORDS[purpose], _format(path, _WORDS[purpose])
    points = purpose == "marks"
    if kind == "KML":
        placemarks = kml.read_kml(path, what, points=points)
        layers = [Layer(name, p.kind, len(p.parts)) for name, p in placemarks.items()]
        return placemarks[_choose(layers, wanted, path, purpose).name].table()
    if kind in ("GeoPackage", "FlatGeobuf", "Shapefile"):
        layers = binary.layers_of(path, what)
        held = [layer for layer in layers if layer.may_hold_outlines or (points and layer.may_hold_points)]
        if len(held) > 1 and not points:
            held = [layer for layer in held if binary.holds_outlines(path, layer, what)]
        chosen = _choose(layers, wanted, path, purpose, held=held)
        return binary.read_layer(path, chosen, what, columns=columns)
    _choose([Layer(path.stem, "Polygon", 1)], wanted, path, purpose)
    if kind == "GeoParquet":
        return binary.read_parquet(path, what, columns=columns)
    if kind == "table of text":
        return delimited.read_delimited(path, what, columns=columns, points=points)
    return geojson.read_geojson(path, what, columns=columns, lines=kind == "GeoJSON lines", points=points)


def _choose(
    layers: Sequence[Layer],
    wanted: str | None,
    path: Path,
    purpose: Purpose,
    *,
    held: Sequence[Layer] | None = None,
) -> Layer:
    what = _WORDS[purpose]
    listed = ", ".join(f"{layer.name} ({layer.kind}, {layer.count:,})" for layer in layers) or "none"
    if wanted is not None:
        named = [layer for layer in layers if layer.name == wanted] or [
            layer for layer in layers if layer.name.casefold() == wanted.casefold()
        ]
        if len(named) == 1:
            return named[0]
        raise FootprintError(f"{path} has no layer {wanted}: its layers are {listed}")
    if held is None:
        points = purpose == "marks"
        held = [layer for layer in layers if layer.may_hold_outlines or (points and layer.may_hold_points)]
    if not held and len(layers) == 1:
        return layers[0]  # whose rows say what it holds instead
    if not held:
        raise FootprintError(
            f"cannot read {what} {path}: it holds no layer of {_held(purpose)}, its layers are {listed}"
        )
    full = [layer for layer in held if layer.count] or list(held)
    areas = [layer for layer in full if names_area(layer.name)]
    others = [layer for layer in full if layer not in areas]
    if purpose == "area":
        chosen = full if len(full) == 1 else areas
    elif purpose == "areas":
        chosen = full
    elif purpose == "marks":
        graded = [layer for layer in full if _GRADED.search(layer.name)]
        chosen = next((some for some in (full, graded, others) if len(some) == 1), [])
    else:
        exact = [layer for layer in others if layer.name.casefold() == "buildings"]
        alike = [layer for layer in others if _BUILDINGS.search(layer.name)]
        chosen = next((some for some in (exact, alike, others) if len(some) == 1), [])
        if purpose == "labels" and len(full) == 1:  # SpaceNet's are all called after their AOI
            chosen = full
        elif len(full) == 1 and areas:
            raise FootprintError(
                f"{path} holds {full[0].name}, which looks like an area of interest: pass it as --aoi, or as "
                f"{path}:{full[0].name} if it does hold buildings"
            )
    if len(chosen) != 1:
        raise FootprintError(
            f"{path} has several layers of {_held(purpose)}, and it is not clear which holds "
            f"{'the grades' if purpose == 'marks' else what}: {listed}: name one, such as "
            f"{path}:{full[0].name}"
        )
    (layer,) = chosen
    if (
        len(full) > 1
        and purpose not in ("area", "marks")
        and layer.name.casefold() != "buildings"
        and len(others) > 1
    ):
        warnings.warn(
            f"{what} in {path.name}: layer {layer.name} is read, of {listed}: name another with FILE:LAYER",
            DataWarning,
            stacklevel=5,
        )
    return layer


def _held(purpose: Purpose) -> str:
    return "points or polygons" if purpose == "marks" else "polygons"


def _format(path: Path, what: str) -> str:
    """What the file is by its ending, once its content has confirmed that."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise FootprintError(
            f"{path} ends in {suffix or 'no suffix'}, expected {what} as one of {', '.join(FORMATS)}"
        )
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise FootprintError(f"cannot read {what} {path}: {error.strerror or error}") from None
    expected = FORMATS[suffix]
    found = _content(head)
    if found != expected and not (found == "GeoJSON" and expected == "GeoJSON lines"):
        if found == "text" and expected == "table of text":
            return expected
        raise FootprintError(f"cannot read {what} {path}: it is {found} by content, expected {expected}")
    return expected


def _content(head: bytes) -> str:
    if head.startswith(b"SQLite format 3\0"):
        return "GeoPackage"
    if head.startswith(b"fgb"):
        return "FlatGeobuf"
    if head.startswith(b"PAR1"):
        return "GeoParquet"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x00\x00\x27\x0a"):
        return "Shapefile"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\x1e")
    if not text:
        return "an empty file"
    if text.startswith((b"{", b"[")):
        return "GeoJSON"
    if text.startswith(b"<"):
        return "KML" if re.search(rb"<(\w+:)?kml[\s>]", text) else "XML"
    return "text" if b"\0" not in text else "of an unknown kind"


@contextmanager
def _unzipped(file: Path, wanted: str | None, purpose: Purpose) -> Iterator[tuple[Path, str | None]]:
    """The vector file in an archive, unpacked beside the parts that belong to it; any other file as it is."""
    what = _WORDS[purpose]
    if FORMATS.get(file.suffix.lower()) != "zip":
        yield file, wanted
        return
    _format(file, what)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(file) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > _MAX_UNZIPPED:
                    raise FootprintError(f"cannot read {what} {file}: it unpacks to more than files of 8 GB")
                vectors = [m for m in members if FORMATS.get(Path(m.filename).suffix.lower(), "zip") != "zip"]
                vectors = [m for m in vectors if not Path(m.filename).name.startswith(".")]
                if not vectors:
                    raise FootprintError(
                        f"cannot read {what} {file}: none of its {counted(len(members), 'file')} is one of "
                        f"{', '.join(suffix for suffix, kind in FORMATS.items() if kind != 'zip')}"
                    )
                layers = [Layer(Path(member.filename).stem, "Polygon", 1) for member in vectors]
                chosen = vectors[0]
                if len(vectors) > 1:
                    chosen, wanted = vectors[layers.index(_choose(layers, wanted, file, purpose))], None
                stem = chosen.filename.rpartition(".")[0].casefold()
                for member in members:
                    if member.filename.rpartition(".")[0].casefold() == stem:
                        with (
                            archive.open(member) as packed,
                            _beside(folder, member.filename).open("wb") as plain,
                        ):
                            shutil.copyfileobj(packed, plain)
        except _UNZIPPING as error:
            raise FootprintError(f"cannot read {what} {file}: {' '.join(str(error).split())}") from None
        inner = _beside(folder, chosen.filename)
        try:
            yield inner, wanted
        except FootprintError as error:
            raise FootprintError(str(error).replace(str(inner), str(file))) from None


def _beside(folder: str, member: str) -> Path:
    name = Path(member)
    return Path(folder) / f"{name.stem}{name.suffix.lower()}"
