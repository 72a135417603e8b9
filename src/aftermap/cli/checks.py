"""What the user gave, looked at before anything heavy is imported: files that are there, a place that can be written.

Only what costs nothing to see is looked at here, in the words of the functions that look closer.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftermap.errors import (
    DataError,
    FootprintError,
    GeoreferenceError,
    InputError,
    ModelError,
    OutputError,
    RasterError,
)

if TYPE_CHECKING:
    from aftermap.config import Config


def check_images(*paths: Path | None) -> None:
    """Refuse images, or folders of tiles, that are not there.

    Raises:
        RasterError: the first of them.
    """
    for path in paths:
        if path is not None and not _is_there(path):
            raise RasterError(f"cannot read {path}: no such file or directory")


def check_outlines(*paths: Path | None) -> None:
    """Refuse vector files, as FILE or FILE:LAYER, that are not there.

    Raises:
        FootprintError: the first of them.
    """
    for path in paths:
        if path is None:
            continue
        file, _, layer = str(path).rpartition(":")
        if not _is_there(path) and not (file and layer and _is_there(Path(file))):
            raise FootprintError(f"cannot read {path}: no such file or directory")


def check_model(name: str | Path) -> None:
    """Refuse a model that is neither the one in the box, nor of the hub, nor there.

    Raises:
        ModelError: there is none.
    """
    if str(name) == "box" or _is_there(Path(name)):
        return
    if str(name).isidentifier():
        from aftermap.artefacts.installed import FIELD, FIELD_MISSING, installed_models

        installed = installed_models()
        if str(name) in installed:
            return
        if str(name) == FIELD:
            raise ModelError(FIELD_MISSING)
    raise ModelError(
        f"no model at {name}: give a model folder, hf://owner/name, or 'box' for the model in the box"
    )


def check_dataset(path: Path) -> None:
    """Refuse what is no prepared dataset.

    Raises:
        DataError: there is no manifest.
    """
    if not (path / "manifest.json" if path.is_dir() else path).is_file():
        raise DataError(f"{path} holds no manifest.json: make one with 'aftermap data prepare'")


def check_recipe(recipe: "Config", place: str = "") -> None:
    """Refuse a recipe that names datasets or models which are not there.

    Args:
        recipe: the whole, or a part of one.
        place: of the part, as dotted keys.

    Raises:
        DataError, ModelError: the first of them.
    """
    from aftermap.config import Config

    for name, value in recipe:
        named = value.items() if isinstance(value, dict) else [("", each) for each in _listed(value)]
        for key, each in named:
            if isinstance(each, Config):
                check_recipe(each, ".".join(part for part in (place, name, key) if part))
            elif each is not None and name in ("manifests", "data"):
                check_dataset(Path(each))
            elif each is not None and name in ("model", "init_from"):
                try:
                    check_model(each)
                except ModelError as error:
                    raise ModelError(f"{place}: {error}" if place else str(error)) from None


def check_map(folder: Path) -> None:
    """Refuse what is no folder of a map.

    Raises:
        InputError: there is no folder.
    """
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "no such folder"
        raise InputError(
            f"{folder} is not a finished map ({found}): pass the output folder of 'aftermap map'"
        )


def check_masks(folder: Path, role: str) -> None:
    """Refuse what is no folder of masks.

    Raises:
        DataError: it is a file, or nothing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the folder that holds the {role} masks")


def check_place(out: Path | None) -> None:
    """Refuse a place that takes no new files, by making one there for a moment.

    Raises:
        OutputError: what is in the way.
    """
    if out is None:
        return
    parent = next((p for p in out.absolute().parents if p.exists()), Path("/"))
    try:
        with tempfile.TemporaryDirectory(prefix=".aftermap-", dir=parent):
            pass
    except OSError as error:
        if not parent.is_dir():
            raise OutputError(
                f"cannot write {out}: {parent} is a file, not a folder; choose another output folder"
            ) from None
        reason = (error.strerror or str(error)).lower()
        raise OutputError(
            f"cannot write {out}: {parent} takes no new files ({reason}); choose another output folder"
        ) from None


def check_crs(text: str | None, option: str = "--crs") -> None:
    """Refuse a reference system that nobody knows.

    Raises:
        GeoreferenceError: PROJ does not know it.
    """
    if text is None:
        return
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(text)
    except CRSError:
        raise GeoreferenceError(
            f"{option} {text} is not a known reference system: pass one such as EPSG:32615"
        ) from None


def _is_there(path: Path) -> bool:
    """Whether a path exists, or is an address that only the functions that open it can tell of."""
    text = os.fspath(path)
    return ":/" in text or text.startswith("/vsi") or path.exists()


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)
