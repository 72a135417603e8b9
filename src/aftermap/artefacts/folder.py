"""What a model folder on this computer says of itself: its card, or that of an ensemble. Neither needs PyTorch."""

from pathlib import Path

from pydantic import ValidationError

from aftermap.artefacts.card import Card
from aftermap.artefacts.ensemble_card import EnsembleCard
from aftermap.config import explain
from aftermap.errors import ModelError

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
        inside = folder / "model"
        hint = f": did you mean {inside}?" if (inside / CARD_NAME).is_file() else ""
        raise ModelError(f"{folder} is not a model folder: it has no {CARD_NAME}{hint}")
    try:
        return Card.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ModelError(explain(error, Card, f"{file} cannot be understood")) from None


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
