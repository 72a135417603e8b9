"""Changing what a card says: in place, or in a copy of the model."""

import os
import shutil
from pathlib import Path

from aftermap.artefacts.card import Card, describe
from aftermap.artefacts.ensemble import is_ensemble
from aftermap.artefacts.ensemble_card import EnsembleCard, describe_ensemble
from aftermap.artefacts.folder import CARD_NAME, ENSEMBLE_NAME
from aftermap.artefacts.store import BOX, model_folder
from aftermap.errors import ModelError, OutputError


def rewrite_card(name: str | Path, card: Card | EnsembleCard, *, out: Path | None = None) -> Path:
    """Give a model or ensemble folder another card; weights stay what they are.

    Args:
        name: the folder, or a name that leads to one.
        card: takes the place of its card, and its README is written anew.
        out: a copy of the folder is made there, replacing an older model, and the original left alone. Weights are
            linked where the file system can.

    Returns:
        The folder with the new card.

    Raises:
        ModelError: the model in the box, or one of the hub, was to be changed in place.
        OutputError: it cannot be written.
    """
    source = model_folder(name)
    if out is None:
        if str(name) == BOX or "://" in str(name):
            raise ModelError(f"{name} cannot be changed in place: name a new folder with -o")
        _write(source, card)
        return source
    if out.exists() and not (is_ensemble(out) or (out / CARD_NAME).is_file()):
        raise OutputError(f"{out} exists and is not a model folder: choose another output folder")
    temporary, old = (out.with_name(out.name + suffix) for suffix in (".part", ".old"))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, temporary, copy_function=_link_or_copy)
        _write(temporary, card)
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        temporary.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from None
    return out


def _write(folder: Path, card: Card | EnsembleCard) -> None:
    ensemble = isinstance(card, EnsembleCard)
    text = describe_ensemble(card) if isinstance(card, EnsembleCard) else describe(card)
    files = {
        ENSEMBLE_NAME if ensemble else CARD_NAME: card.model_dump_json(indent=1) + "\n",
        "README.md": text,
    }
    for name, content in files.items():
        temporary = folder / (name + ".part")
        try:
            temporary.write_text(content)
            temporary.replace(folder / name)
        except OSError as error:
            raise OutputError(f"cannot write {folder / name}: {error.strerror or error}") from None


def _link_or_copy(source: str, target: str) -> None:
    """Weights never change and are linked; what may be edited is copied."""
    if source.endswith(".safetensors"):
        try:
            os.link(Path(source).resolve(), target)  # the hub's cache holds links, which must not be linked
            return
        except OSError:
            pass
    shutil.copyfile(source, target)
