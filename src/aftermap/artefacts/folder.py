"""Model folders on this computer: what they say of themselves, and how one replaces another. No PyTorch."""

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ValidationError

from aftermap.artefacts.card import Card
from aftermap.artefacts.ensemble_card import EnsembleCard
from aftermap.config import explain
from aftermap.errors import InputError, ModelError, OutputError
from aftermap.files import read_json, replacing_folder

CARD_NAME = "card.json"
WEIGHTS_NAME = "model.safetensors"
ENSEMBLE_NAME = "ensemble.json"


def holds_ensemble(folder: Path) -> bool:
    """Whether it is an ensemble folder."""
    return (folder / ENSEMBLE_NAME).is_file()


def card_in(folder: Path, name: str | Path | None = None) -> Card:
    """The card of a model folder.

    Args:
        folder: where it lies.
        name: what the user calls it.

    Raises:
        ModelError: no such folder, no card, or a card of another format.
    """
    file = folder / CARD_NAME
    if not folder.is_dir():
        raise ModelError(
            f"no model at {name or folder}: give a model folder, hf://owner/name, or 'box' for the model in the box"
        )
    if not file.is_file():
        raise no_card(folder, CARD_NAME)
    try:
        return Card.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ModelError(explain(error, Card, f"{file} cannot be understood")) from None


def no_card(folder: Path, name: str) -> ModelError:
    """What to say of a folder that holds no card."""
    inside = folder / "model"
    hint = f": did you mean {inside}?" if (inside / name).is_file() else ""
    return ModelError(f"{folder} is not a model folder: it has no {name}{hint}")


def ensemble_in(folder: Path, name: str | Path | None = None) -> EnsembleCard:
    """The card of an ensemble folder; arguments as those of `card_in`.

    Raises:
        ModelError: no ensemble there, or a card of another format.
    """
    file = folder / ENSEMBLE_NAME
    try:
        return EnsembleCard.model_validate_json(file.read_bytes())
    except OSError:
        raise ModelError(f"{name or folder} is not an ensemble folder: it has no {ENSEMBLE_NAME}") from None
    except ValidationError as error:
        raise ModelError(explain(error, EnsembleCard, f"{file} cannot be understood")) from None


CARDS = (CARD_NAME, ENSEMBLE_NAME, "exported.json")
_OURS = (*CARDS, "README.md", WEIGHTS_NAME, "model.onnx", "model.xml", "model.bin", "exported")


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
    if not folder.exists() or any((folder / name).is_file() for name in CARDS):
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
