"""Encoder weights that a user brings as a file: what is known of them, and under which licence they may be used."""

from pathlib import Path
from typing import Any

from aftermap.errors import RecipeError
from aftermap.files import sha256_of
from aftermap.models.configs.encoder import EncoderRecord

LICENCE_KEYS = ("licence", "license")
"""Names under which the metadata of a safetensors file says its licence."""


def brought_encoder(model: Any, licence: str) -> EncoderRecord | None:
    """What is known of the file that a network's encoder begins with; None where it is no file.

    Args:
        model: the configuration of a network.
        licence: of the file, as the recipe says it; where it says none, the file's own metadata are asked.

    Raises:
        RecipeError: nobody says a licence.
        ModelError: there is no such file, or several.
    """
    weights = getattr(model, "encoder_weights", None)
    if not isinstance(weights, Path):
        return None
    from aftermap.models.weights.pretrained import local_file

    file, name = local_file(weights), str(model.encoder_name)
    said = licence.strip() or licence_in(file)
    if not said:
        raise RecipeError(
            f"the licence of {file} is not known, and it holds for what is trained from it too: say "
            f"encoder_licence='...' in the recipe{_listed(name.removeprefix('tu-'))}"
        )
    return EncoderRecord(name=name, file=file.name, sha256=sha256_of(file), licence=said)


def licence_in(file: Path) -> str:
    """The licence that the metadata of a safetensors file say; empty where they say none, or it is another file."""
    if file.suffix != ".safetensors":
        return ""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError):
        return ""
    return next((metadata[key].strip() for key in LICENCE_KEYS if metadata.get(key, "").strip()), "")


def listed_licence(name: str) -> str:
    """What timm says of the licence of the weights that it lists for one of its networks; empty where it says nothing."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name, allow_unregistered=True)
    return str(getattr(config, "license", None) or "")


def _listed(name: str) -> str:
    """A hint at what timm lists; the file may be another one."""
    licence = listed_licence(name)
    return f" (timm lists weights of {name} under {licence}; yours may be others)" if licence else ""
