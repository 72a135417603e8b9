"""Model folders: `model.safetensors`, `card.json`, `README.md`; written whole or not at all, checked on loading."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aftermap.artefacts.card import Card, Weights, describe
from aftermap.artefacts.folder import CARD_NAME, WEIGHTS_NAME, card_in, replacing_model
from aftermap.artefacts.installed import installed_model, missing
from aftermap.errors import ModelError
from aftermap.extras import needs
from aftermap.files import sha256_of
from aftermap.models.build import build_model, without_weights
from aftermap.models.configs import CustomConfig
from aftermap.trust import check_trusted

if TYPE_CHECKING:
    from aftermap.models.networks.dense import DenseModel

BOX = "box"
"""Name of the model that is shipped inside the package."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, with its card."""

    model: "DenseModel"
    card: Card
    path: Path
    sha256: str


def save_model(
    folder: Path, model: "DenseModel", card: Card, *, dtype: Literal["float32", "float16"] = "float32"
) -> Card:
    """Write a model folder, whole or not at all; it replaces an older one.

    Args:
        folder: the model folder.
        model: its weights are stored.
        card: its `weights` entry is filled in.
        dtype: how floating-point weights are stored; float16 halves the file.

    Returns:
        The card as written.

    Raises:
        OutputError: the folder cannot be written.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from aftermap.models.networks.dense import count_parameters

    stored = getattr(torch, dtype)
    state = {
        name: (value.to(stored) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    with replacing_model(folder, also=(SafetensorError,)) as part:
        save_file(state, part / WEIGHTS_NAME)
        (part / WEIGHTS_NAME).chmod(0o644)  # safetensors writes files for the owner alone
        digest = sha256_of(part / WEIGHTS_NAME)
        weights = Weights(file=WEIGHTS_NAME, sha256=digest, dtype=dtype, parameters=count_parameters(model))
        card = card.model_copy(update={"weights": weights})
        (part / CARD_NAME).write_text(card.model_dump_json(indent=1) + "\n")
        (part / "README.md").write_text(describe(card))
    return card


def load_card(name: str | Path) -> Card:
    """Read the card of a model folder, or of the model in the box (`"box"`).

    Raises:
        ModelError: no such folder, no card, or a card of another format.
    """
    return card_in(model_folder(name), name)


def load_model(name: str | Path, *, to_run: bool = False) -> LoadedModel:
    """Load a model folder, or the model in the box (`"box"`), in evaluation mode on the CPU in float32.

    Args:
        name: see `model_folder`.
        to_run: it is only to be run: random weights are not drawn before those of the file are read. What draws
            afterwards draws other numbers than otherwise, so whatever trains leaves it out. Networks that a
            card names by their own code are built as ever.

    Raises:
        ModelError: a file is missing, altered or does not fit the card.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder, card = model_folder(name), load_card(name)
    if card.weights is None:
        raise ModelError(f"{folder / CARD_NAME} does not name its weights")
    file = folder / Path(card.weights.file).name
    if not file.is_file():
        raise ModelError(f"{folder} is incomplete: {file.name} is missing")
    digest = sha256_of(file)
    if digest != card.weights.sha256:
        raise ModelError(
            f"{file} was altered: its SHA-256 is {digest[:12]}..., the card expects {card.weights.sha256[:12]}..."
        )
    if isinstance(card.model, CustomConfig):
        check_trusted(card.model.target, folder / CARD_NAME)
    if to_run and not isinstance(card.model, CustomConfig):
        from aftermap.models.undrawn import Undrawn

        with Undrawn():
            model = build_model(without_weights(card.model))
    else:
        model = build_model(without_weights(card.model))
    try:
        state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()}
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{file} does not fit its card: {str(error).splitlines()[0][:160]}") from None
    return LoadedModel(model.eval(), card, folder, digest)


def is_plain_name(name: str | Path) -> bool:
    """Whether a model is named, such as `field`, rather than a folder."""
    return str(name).isidentifier()


def model_folder(name: str | Path) -> Path:
    """Path of a model folder; `"box"` is inside the package, `hf://owner/name` in the hub's local cache.

    A plain name that is no folder here, such as `"field"`, is looked for among the installed packages.

    Raises:
        ModelError: a model of the hub is not in the cache and cannot be fetched, or `"field"` is not installed.
    """
    if str(name) == BOX:
        return Path(str(files("aftermap") / "box"))
    if is_plain_name(name) and not Path(name).exists():
        if (installed := installed_model(str(name))) is not None:
            return installed
        if (said := missing(str(name))) is not None:
            raise ModelError(said)
    if str(name).startswith(("hf://", "hf:/")):  # pathlib turns the first into the second
        needs(f"{name} of the Hugging Face hub", "hub")
        from aftermap.artefacts.hub import fetch_model

        return fetch_model(name)
    return Path(name)
