"""Files beside an image that GDAL would open unasked: masks and overviews, which have to be TIFFs."""

from pathlib import Path

from aftermap.errors import RasterError

_OPENED = (".msk", ".ovr", ".MSK", ".OVR")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ERDAS = b"EHFA_HEADER_TAG"


def check_sidecars(path: Path) -> None:
    """Refuse an image beside which lies a file that could make GDAL open others.

    Raises:
        RasterError: with the name of that file.
    """
    for suffix in _OPENED:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            if _start(beside)[:4] not in _TIFF:
                raise RasterError(
                    f"{beside} lies beside {path.name} and is no TIFF, as masks and overviews have to be: move it away"
                )
            if len(beside.suffixes) < 4:
                check_sidecars(beside)
    for beside in {path.with_name(path.name + ".aux"), path.with_suffix(".aux")}:
        if beside.exists() and _start(beside).startswith(_ERDAS):
            raise RasterError(
                f"{beside} lies beside {path.name} and is an Erdas file, which may name others: move it away"
            )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise RasterError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
