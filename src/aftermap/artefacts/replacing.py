"""How a model folder takes the place of an older one: whole, and with what its user put there."""

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from aftermap.artefacts.folder import CARD_NAME, ENSEMBLE_NAME, WEIGHTS_NAME
from aftermap.errors import InputError, OutputError
from aftermap.files import read_json, replacing_folder

_CARDS = (CARD_NAME, ENSEMBLE_NAME, "exported.json")
_OURS = (*_CARDS, "README.md", WEIGHTS_NAME, "model.onnx", "model.xml", "model.bin", "exported")


def replacing_model(folder: Path, *, also: tuple[type[Exception], ...] = ()) -> AbstractContextManager[Path]:
    """Write a model, an ensemble or an exported model, and let it take the place of an older one at the end.

    Args:
        folder: the model folder; what its user put there stays, everything that belongs to the older model goes.
        also: errors of a library that mean the folder cannot be written.

    Raises:
        OutputError: it cannot be written; the older model stays.
    """
    return replacing_folder(folder, ours=(*_OURS, *_members(folder)), also=also)


def check_replaceable(folder: Path) -> None:
    """Whether a model may be written there: nothing, an empty folder, or an older model.

    Raises:
        OutputError: something else is there.
    """
    if not folder.exists() or any((folder / name).is_file() for name in _CARDS):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise OutputError(f"{folder} exists and is no model folder: give another output folder")


def copy_model(source: Path, target: Path) -> Path:
    """Copy a model or ensemble folder into a folder that need not exist; weights are linked where that is possible."""
    shutil.copytree(source, target, copy_function=link_or_copy, dirs_exist_ok=True)
    return target


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Link a file of weights, which never change, where the file system can; copy what may be edited."""
    if Path(source).suffix == ".safetensors":
        try:
            os.link(Path(source).resolve(), target)  # the hub's cache holds links, which must not be linked
            return
        except FileNotFoundError:
            raise
        except OSError:
            pass
    shutil.copyfile(source, target)


def _members(folder: Path) -> list[str]:
    """Sub-folders that an older ensemble names."""
    try:
        tree = read_json(folder / ENSEMBLE_NAME)
        parts = [*tree["members"], *([tree["gate"]] if tree.get("gate") else [])]
        return [str(part["folder"]) for part in parts]
    except (InputError, LookupError, TypeError, AttributeError):
        return []
