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
    shown,
)
from aftermap.extras import needs
from aftermap.remote.addresses import Address, is_address, unknown_scheme

if TYPE_CHECKING:
    from aftermap.config import Config


def check_path(_: object, value: object) -> None:
    """Refuse a path that the system cannot even look for, such as one with a name of 300 letters.

    Raises:
        InputError: the reason.
    """
    if isinstance(value, (list, tuple)):
        for each in value:
            check_path(Path, each)
    if isinstance(value, Path):
        try:
            value.stat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise InputError(f"{shown(str(value))} cannot be a path: {reason}") from None


def check_images(*paths: Path | None) -> None:
    """Refuse images, or folders of tiles, that are not there.

    Raises:
        RasterError: the first of them.
    """
    for path in paths:
        if path is not None and (why := unknown_scheme(path)):
            raise RasterError(why)
        if path is not None and not _is_there(path):
            raise RasterError(f"cannot read {path}: no such file or directory")
        _need_catalog(path)


def check_outlines(*paths: Path | None) -> None:
    """Refuse vector files, as FILE or FILE:LAYER, that are not there.

    Raises:
        FootprintError: the first of them.
    """
    for path in paths:
        if path is None:
            continue
        if why := unknown_scheme(path):
            raise FootprintError(why)
        _need_catalog(path)
        file, _, layer = str(path).rpartition(":")
        if not _is_there(path) and not (file and layer and _is_there(Path(file))):
            raise FootprintError(f"cannot read {path}: no such file or directory")


def check_pair(pair: str) -> None:
    """Refuse `FILE:RANK` of a file that is not there, or where what reads catalogues is not installed.

    Raises:
        InputError: there is no such file.
    """
    file = Path(pair)
    if not file.is_file() and ":" in pair:
        file = Path(pair.rpartition(":")[0])
    if not file.is_file():
        raise InputError(
            f"cannot read the pairs {file}: no such file; make one with 'aftermap find -o pairs.json'"
        )
    needs("aftermap map --pair", "catalog")


def check_model(name: str | Path, *, whole: bool = False) -> None:
    """Refuse a model that is neither the one in the box, nor of the hub, nor there.

    Args:
        name: as the user wrote it.
        whole: read its card, too: for commands whose imports, or first stage, take longer than that.

    Raises:
        ModelError: there is none, or its card cannot be understood.
    """
    _find_model(name)
    if whole and not _is_address(Path(name)):
        from aftermap.artefacts.ensemble import read_card
        from aftermap.artefacts.exported import is_exported, load_exported_card

        _ = load_exported_card(name) if is_exported(name) else read_card(name)


def _find_model(name: str | Path) -> None:
    path = Path(name)
    check_path(Path, path)
    if (
        str(name) == "box"
        or _is_address(path)
        or (path.suffix.lower() in (".onnx", ".xml") and path.is_file())
    ):
        return
    if path.is_dir():
        from aftermap.artefacts.folder import CARD_NAME, CARDS, no_card

        if not any((path / card).is_file() for card in CARDS):
            raise no_card(path, CARD_NAME)
        return
    if str(name).isidentifier() and not path.exists():
        from aftermap.artefacts.installed import installed_models, missing

        installed = installed_models()
        if str(name) in installed:
            return
        if (said := missing(str(name))) is not None:
            raise ModelError(said)
    raise ModelError(
        f"no model at {name}: give a model folder, hf://owner/name, or 'box' for the model in the box"
    )


def check_checkpoint(path: Path) -> None:
    """Refuse a checkpoint that is not there, or is a folder.

    Raises:
        ModelError: the reason.
    """
    if not path.exists():
        raise ModelError(f"cannot read checkpoint {path}: No such file or directory")
    if path.is_dir():
        raise ModelError(f"cannot read checkpoint {path}: it is a folder; --all takes one")


def check_dataset(path: Path, *, whole: bool = False) -> None:
    """Refuse what is no prepared dataset.

    Args:
        path: its folder, or its manifest.
        whole: read the manifest, too: for commands whose imports take longer than that.

    Raises:
        DataError: there is no manifest, or it cannot be understood.
    """
    if not (path / "manifest.json" if path.is_dir() else path).is_file():
        raise DataError(f"{path} holds no manifest.json: make one with 'aftermap data prepare'")
    if whole:
        from aftermap.data.scene import Manifest

        Manifest.load(path)


def check_event(data: Path, event: str) -> None:
    """Refuse an event that a prepared dataset does not hold.

    Raises:
        DataError: there is no such dataset, or no scene of the event.
    """
    check_dataset(data, whole=True)
    from collections import Counter

    from aftermap.data.scene import Manifest

    counts = Counter(scene.event for scene in Manifest.load(data).scenes)
    if event not in counts:
        known = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "none"
        raise DataError(f"{data} has no scenes of event {event}: its events are {known}")


def check_incremental_runs(folders: Sequence[Path]) -> None:
    """Refuse folders that no incremental run has written.

    Raises:
        InputError: the first of them.
    """
    for folder in folders:
        if not all((folder / name).is_file() for name in ("run.json", "protocol.json")):
            raise InputError(
                f"{folder} is no folder of an incremental run: it has no run.json and protocol.json"
            )


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
                check_dataset(Path(each), whole=True)
            elif each is not None and name in ("model", "init_from", "second_from"):
                try:
                    check_model(each)
                except ModelError as error:
                    raise ModelError(f"{place}: {error}" if place else str(error)) from None


def check_map(folder: Path) -> None:
    """Refuse what is no folder of a map.

    Raises:
        InputError: there is no folder.
    """
    if not folder.is_dir() and not folder.with_name(folder.name + ".work").is_dir():
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


def check_place(out: Path | None, *, is_file: bool = False) -> None:
    """Refuse a place for a folder that takes no new files, by making one there for a moment.

    Args:
        out: what is to be written.
        is_file: it is one file, which may take the place of an earlier one.

    Raises:
        OutputError: what is in the way.
    """
    if out is None:
        return
    if is_file and out.is_dir():
        raise OutputError(f"cannot write {out}: it is a folder, not a file; choose another name")
    if not is_file and out.is_file():
        raise OutputError(f"cannot write {out}: it is a file, not a folder; choose another output folder")
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
    return _is_address(path) or path.exists()


def _need_catalog(path: Path | None) -> None:
    """Refuse an address where what reads it is not installed."""
    if path is not None and is_address(path):
        needs(f"reading {Address.parse(path).shown}", "catalog")


def _is_address(path: Path) -> bool:
    text = os.fspath(path)
    return ":/" in text or text.startswith("/vsi")


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)
