"""Changing what a card says: in place, or in a copy of the model."""

from pathlib import Path

from aftermap.artefacts.card import Card, describe
from aftermap.artefacts.ensemble_card import EnsembleCard, describe_ensemble
from aftermap.artefacts.folder import CARD_NAME, ENSEMBLE_NAME, check_replaceable, copy_model, replacing_model
from aftermap.artefacts.store import BOX, model_folder
from aftermap.errors import ModelError
from aftermap.files import write_text


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
    check_replaceable(out)
    with replacing_model(out) as part:
        copy_model(source, part)
        _write(part, card)
    return out


def _write(folder: Path, card: Card | EnsembleCard) -> None:
    ensemble = isinstance(card, EnsembleCard)
    text = describe_ensemble(card) if isinstance(card, EnsembleCard) else describe(card)
    write_text(folder / (ENSEMBLE_NAME if ensemble else CARD_NAME), card.model_dump_json(indent=1) + "\n")
    write_text(folder / "README.md", text)
