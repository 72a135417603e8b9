"""The card of a model: everything that is needed to use it rightly, and to know what it is."""

from typing import Literal

from pydantic import Field

from aftermap.classes import SCHEMES, ClassScheme
from aftermap.config import Config
from aftermap.models.build import CustomConfig, ModelConfig, SiameseUnetConfig, UnetConfig


class Normalisation(Config):
    """Per band: `(value - mean) / std`, in the units of `dtype`."""

    mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    std: tuple[float, ...] = (127.5, 127.5, 127.5)


class TrainingRecord(Config):
    """Where the weights come from."""

    data: str
    data_licence: str
    command: str = ""
    steps: int = 0
    minutes: float = 0.0
    hardware: str = ""
    parent_sha256: str | None = None


class Weights(Config):
    """The weight file beside the card."""

    file: str = "model.safetensors"
    sha256: str
    dtype: Literal["float32", "float16", "bfloat16"]
    parameters: int


class Card(Config):
    """`card.json` of a model folder.

    Attributes:
        dates: images that the model looks at, 1 or 2.
        scheme: class scheme of its logits.
        bands: what the image bands are, in order.
        resolution_m: ground resolution (finest, coarsest) in metres that it was trained for.
        building_threshold: building where 1 - p(background) is above this.
        temperature: logits are divided by this before the softmax.
        damage_weights: factors of the classes after the background, which shift mass between them; tuned on
            validation scenes. None leaves them as the model gives them.
        metrics: scores by test set, then by name.
        limits: in plain words, what it must not be used for.
    """

    format: Literal[1] = 1
    name: str
    version: str = "1"
    model: ModelConfig
    dates: Literal[1, 2]
    scheme: str
    bands: tuple[str, ...] = ("red", "green", "blue")
    dtype: Literal["uint8"] = "uint8"
    normalisation: Normalisation = Normalisation()
    resolution_m: tuple[float, float] = (0.3, 1.2)
    building_threshold: float = 0.5
    temperature: float = 1.0
    damage_weights: tuple[float, ...] | None = None
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict)
    training: TrainingRecord
    licence: str
    limits: str = ""
    weights: Weights | None = None

    @property
    def classes(self) -> ClassScheme:
        """The class scheme of the logits."""
        return SCHEMES[self.scheme]


AnyModelConfig = UnetConfig | SiameseUnetConfig | CustomConfig


def describe(card: Card) -> str:
    """The card as Markdown, for the model folder's README."""
    lines = [
        f"# {card.name} (version {card.version})",
        "",
        f"{'Two dates (pre, post)' if card.dates == 2 else 'One date'} in, classes out: {', '.join(card.classes.names)}.",
        "",
        f"- Model: `{card.model.kind}`"
        + (f", encoder {card.model.encoder_name}" if not isinstance(card.model, CustomConfig) else ""),
        f"- Bands: {', '.join(card.bands)} ({card.dtype}); ground resolution {card.resolution_m[0]:g} to "
        f"{card.resolution_m[1]:g} m",
        f"- Building threshold: {card.building_threshold:g}",
        f"- Trained on: {card.training.data} ({card.training.data_licence})",
        f"- Licence of the weights: {card.licence}",
    ]
    if card.weights:
        lines.append(f"- Parameters: {card.weights.parameters:,} ({card.weights.dtype})")
    if card.training.command:
        lines += ["", "Made by:", "", "```", card.training.command, "```"]
    if card.metrics:
        names = sorted({n for scores in card.metrics.values() for n in scores})
        lines += ["", "| test set | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for test_set, scores in card.metrics.items():
            values = (f"{scores[n]:.3f}" if n in scores else "" for n in names)
            lines.append(f"| {test_set} | " + " | ".join(values) + " |")
    if card.limits:
        lines += ["", card.limits]
    return "\n".join(lines) + "\n"
