"""Plain VRTs: mosaics of image files below the VRT's own folder, and nothing else that a VRT could be."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from aftermap.errors import RasterError

_MOST_BYTES = 64 << 20
_PROLOGUE_BYTES = 4096

_ALLOWED: dict[str, frozenset[str]] = {
    name: frozenset(attributes.split())
    for name, attributes in {
        "VRTDataset": "rasterXSize rasterYSize",
        "SRS": "dataAxisToSRSAxisMapping coordinateEpoch",
        "GeoTransform": "",
        "Metadata": "domain",
        "MDI": "key",
        "BlockXSize": "",
        "BlockYSize": "",
        "VRTRasterBand": "dataType band blockXSize blockYSize",
        "MaskBand": "",
        "NoDataValue": "",
        "HideNoDataValue": "",
        "ColorInterp": "",
        "ColorTable": "",
        "Entry": "c1 c2 c3 c4",
        "Description": "",
        "UnitType": "",
        "Offset": "",
        "Scale": "",
        "SimpleSource": "resampling",
        "ComplexSource": "resampling",
        "SourceFilename": "relativeToVRT shared",
        "SourceBand": "",
        "SourceProperties": "RasterXSize RasterYSize DataType BlockXSize BlockYSize",
        "SrcRect": "xOff yOff xSize ySize",
        "DstRect": "xOff yOff xSize ySize",
        "NODATA": "",
        "UseMaskBand": "",
    }.items()
}


def check_vrt(path: Path, check_source: Callable[[Path], str]) -> None:
    """Refuse a VRT that is more than a mosaic of files below its folder.

    Args:
        path: the VRT.
        check_source: checks an image file and names its format.

    Raises:
        RasterError: with what was found in it.
    """
    data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    try:
        text = data.decode()
        root = None if re.search("<!(DOCTYPE|ENTITY)", text, re.IGNORECASE) else ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError):
        root = None
    if root is None or root.tag != "VRTDataset":
        raise _refused(path, "it is no plain XML of a VRT")
    for element in root.iter():
        allowed = _ALLOWED.get(element.tag)
        if allowed is None:
            raise _refused(path, f"it holds {element.tag[:40]}")
        if odd := set(element.attrib) - allowed:
            raise _refused(path, f"its {element.tag} has {min(odd)[:40]}")
        if element.tag == "Metadata" and element.get("domain", "").upper() == "OVERVIEWS":
            raise _refused(path, "it names a file of overviews")
    folder = path.parent.resolve()
    for name in {_name(element, path) for element in root.iter("SourceFilename")}:
        source = (path.parent / name).resolve()
        if not source.is_relative_to(folder):
            raise _refused(path, f"its source {name[:80]} lies outside of its folder")
        if check_source(source) == "VRT":
            raise _refused(path, f"its source {name[:80]} is a VRT too")
        with source.open("rb") as file:
            if b"<VRTDataset" in file.read(_PROLOGUE_BYTES):
                raise _refused(path, f"its source {name[:80]} is an image and a VRT in one")


def _name(element: ElementTree.Element, path: Path) -> str:
    name = (element.text or "").strip()
    if element.get("relativeToVRT") != "1" or not name or name.startswith("/") or ":" in name or "\\" in name:
        raise _refused(path, f"its source {name[:80] or 'without a name'} is not relative to it")
    return name


def _refused(path: Path, found: str) -> RasterError:
    return RasterError(
        f"{path} is a VRT that is not read: {found}, expected a plain mosaic of images below its folder: pass its "
        "images, or a folder that holds them"
    )
