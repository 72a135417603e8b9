"""Folders of a pretrained encoder: `encoder.safetensors` under timm's names, `encoder.json`, `README.md`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from aftermap.artefacts.card import Normalisation, TrainingRecord
from aftermap.config import Config
from aftermap.files import markdown_table, replacing_folder, sha256_of
from aftermap.models.configs.encoder import EncoderRecord

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, CARD, README = "encoder.safetensors", "encoder.json", "README.md"


class EncoderCard(Config):
    """What is to be known of a pretrained encoder.

    Attributes:
        name: of the run. encoder_name, encoder_depth, encoder_options: the network.
        method: how it learned.
        began_with: `imagenet`, a file, or None for random weights.
        licence: of the weights.
        metrics: of the held-out images.
        sha256: of the weight file.
    """

    format: Literal[1] = 1
    name: str
    encoder_name: str
    encoder_depth: int
    encoder_options: dict[str, Any] = Field(default_factory=dict)
    normalisation: Normalisation
    method: str
    began_with: Literal["imagenet"] | EncoderRecord | None = None
    training: TrainingRecord
    metrics: dict[str, float] = Field(default_factory=dict)
    licence: str
    sha256: str = ""


def save_encoder(folder: Path, state: "dict[str, Tensor]", card: EncoderCard) -> EncoderCard:
    """Write an encoder's weights with their card, whole or not at all; an older one is replaced.

    The licence is in the weight file too, where trainings look for it.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    said = {"encoder_name": card.encoder_name, "method": card.method, "data": card.training.data}
    said |= {"licence": card.licence} if card.licence not in ("", "not stated") else {}
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing_folder(folder, ours=(WEIGHTS, CARD, README), also=(SafetensorError,)) as part:
        save_file(weights, part / WEIGHTS, metadata=said)
        (part / WEIGHTS).chmod(0o644)  # safetensors writes files for the owner alone
        card = card.model_copy(update={"sha256": sha256_of(part / WEIGHTS)})
        (part / CARD).write_text(card.model_dump_json(indent=1) + "\n")
        (part / README).write_text(describe_encoder(card))
    return card


def describe_encoder(card: EncoderCard) -> str:
    """The card as Markdown."""
    began = card.began_with
    start = (
        f"`{began.file}` ({began.licence})" if isinstance(began, EncoderRecord) else began or "random weights"
    )
    lines = [
        f"# {card.name}",
        "",
        f"The encoder `{card.encoder_name}`, {card.encoder_depth} stages, pretrained without labels by {card.method}.",
        "",
        f"- Images: {card.training.data} ({card.training.data_licence})",
        f"- Began with: {start}",
        f"- Steps: {card.training.steps}",
        f"- Licence of the weights: {card.licence}",
        f"- SHA-256 of `{WEIGHTS}`: `{card.sha256}`",
        "",
        f"Use it in a recipe with `model.encoder_name: {card.encoder_name}` and `model.encoder_weights: {WEIGHTS}`.",
    ]
    if card.metrics:
        rows = [(name, f"{value:.4f}") for name, value in card.metrics.items()]
        lines += ["", *markdown_table(("held-out images", "value"), rows)]
    return "\n".join(lines) + "\n"
