"""The card of a model: everything that is needed to use it rightly, and to know what it is."""

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from aftermap.artefacts.licences import restriction
from aftermap.classes import DAMAGE, SCHEMES, ClassScheme, OneDate
from aftermap.config import Config
from aftermap.data.legends import Legend
from aftermap.files import markdown_table
from aftermap.models.configs import ModelConfig
from aftermap.models.configs.encoder import EncoderRecord
from aftermap.wording import counted

if TYPE_CHECKING:
    import numpy as np

GIVEN_BANDS = ("red", "green", "blue")
"""The order in which colour images are read and handed to a predictor, whatever order its model wants."""

Activation = Literal["softmax", "sigmoid"]
Channel0 = Literal["background", "building"]
MinorDilation = Literal["none", "right", "compat"]


class Normalisation(Config):
    """Per band, in the model's order of bands: `(value - mean) / std`, in the units of `dtype`."""

    mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    std: tuple[float, ...] = (127.5, 127.5, 127.5)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        wrong = [value for value in self.std if not 0 < value < math.inf]
        if wrong:
            raise ValueError(f"std holds {wrong[0]:g}, expected positive numbers: pixels are divided by it")
        return self


class Parent(Config):
    """A model that another begins with, or learns from.

    Attributes:
        part: what of it that is: the start, the start of a second network, or a teacher.
        sha256: of its weights; None for an ensemble.
    """

    part: Literal["start", "second", "teacher"]
    name: str
    version: str
    licence: str
    sha256: str | None = None

    def __str__(self) -> str:
        told = {"start": "began with", "second": "its second network with", "teacher": "taught by"}[self.part]
        return f"{told} {self.name} (version {self.version}): {self.licence}"


class TrainingRecord(Config):
    """Where the weights come from.

    Attributes:
        parents: the models that it began with or was taught by, where its recipe named any.
        events: learned from, by the model and by those that it was grown from as far as they tell, so that there may be
            others; empty where nothing is told.
    """

    data: str
    data_licence: str
    command: str = ""
    steps: int = 0
    minutes: float = 0.0
    hardware: str = ""
    parent_sha256: str | None = None
    parents: tuple[Parent, ...] = ()
    events: tuple[str, ...] = ()


class IncrementalRecord(Config):
    """How a model came to its classes, one step after the other.

    Attributes:
        task: name of the table of steps.
        step: the last one, counted from 0.
        protocol_sha256: of everything that decides what each step learns.
        method: way of learning.
        heads: channels that each step added, the background among those of the first.
        steps: names of the classes of each step so far.
        parent_sha256: weights of the model of the step before.
        places: events that each step so far has added, where steps add places and no class.
    """

    task: str
    step: int
    protocol_sha256: str
    method: str
    heads: tuple[int, ...]
    steps: tuple[tuple[str, ...], ...]
    parent_sha256: str | None = None
    places: tuple[tuple[str, ...], ...] = ()


class Weights(Config):
    """The weight file beside the card."""

    file: str = "model.safetensors"
    sha256: str
    dtype: Literal["float32", "float16", "bfloat16"]
    parameters: int


class Calibration(Config):
    """How probabilities of a building's classes are corrected: p ** (1 / temperature) times a factor, to the sum of 1.

    Attributes:
        temperature: above 1 makes them less sure.
        factors: one per class after the background.
        events: expected calibration error by event, each under a correction that was fitted without it.
        fitted_on: which buildings, in words.
    """

    temperature: PositiveFloat
    factors: tuple[PositiveFloat, ...]
    events: dict[str, float] = Field(default_factory=dict)
    fitted_on: str = ""

    def apply(self, shares: "np.ndarray") -> "np.ndarray":
        """Corrected probabilities (n, K) of probabilities (n, K) that sum to 1; rows of nan stay what they are."""
        import numpy as np

        powered = np.asarray(shares, np.float64) ** (1 / self.temperature) * np.asarray(self.factors)
        corrected: np.ndarray = powered / powered.sum(axis=1, keepdims=True)
        return corrected


class BaseCard(Config):
    """What a single model and an ensemble have in common: what they take, what they tell, how it is decided.

    Attributes:
        dates: images that the model looks at, 1 or 2.
        scheme: class scheme of its probabilities; the legend's name where there is one.
        legend: classes that are no scheme of ours.
        bands: the image bands in the order that the model wants.
        resolution_m: ground resolution (finest, coarsest) in metres that it was trained for.
        building_threshold: building where p(building) is above this.
        class_thresholds: one threshold per class after the background, used in place of `building_threshold`: a
            pixel is a building where p(building) is above the threshold of its likeliest class. None takes
            `building_threshold` for all.
        damage_weights: factors of the classes after the background, which shift mass between them; tuned on
            validation scenes. None leaves them as the model gives them.
        object_threshold: a traced shape is a building where the mean of p(building) over its pixels is at least this;
            below are mostly roads, pools and bare ground. Buildings whose outlines are given are all kept.
        calibration: how the reported probabilities of a building's classes follow from the model's; None reports those.
        minor_dilation: what becomes minor damage in the 5 x 5 squares around it: nothing; no-damage (`right`); or
            no-damage and major damage, as the winning xView2 entry did by an operator's precedence (`compat`).
        one_date: ways to map from one date that the model was trained for, besides two: from the image after,
            `destroyed` against not; from that before, buildings alone.
        destroyed_threshold: from which p(destroyed) on a building is destroyed in a map of the image after alone.
        metrics: scores by test set, then by name.
        limits: in plain words, what it must not be used for.
    """

    format: Literal[1] = 1
    name: str
    version: str = "1"
    dates: Literal[1, 2]
    scheme: str
    legend: Legend | None = None
    bands: tuple[str, ...] = GIVEN_BANDS
    dtype: Literal["uint8"] = "uint8"
    resolution_m: tuple[float, float] = (0.3, 1.2)
    building_threshold: float = 0.5
    class_thresholds: tuple[float, ...] | None = None
    damage_weights: tuple[float, ...] | None = None
    object_threshold: float = 0.0
    calibration: Calibration | None = None
    minor_dilation: MinorDilation = "none"
    one_date: tuple[OneDate, ...] = ()
    destroyed_threshold: float = 0.5
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict)
    training: TrainingRecord
    licence: str
    limits: str = ""

    @property
    def classes(self) -> ClassScheme:
        """The class scheme of the probabilities."""
        return SCHEMES[self.scheme] if self.legend is None else self.legend.scheme

    @property
    def given_bands(self) -> tuple[str, ...]:
        """The bands in the order in which images are handed over: red, green, blue where those are the bands."""
        return GIVEN_BANDS if set(self.bands) == set(GIVEN_BANDS) else self.bands

    @property
    def band_order(self) -> tuple[int, ...]:
        """Index, among the given bands, of each band that the model wants: (2, 1, 0) for blue, green, red."""
        return tuple(self.given_bands.index(band) for band in self.bands)

    @model_validator(mode="after")
    def _figures_fit_the_scheme(self) -> Self:
        if self.legend is None and self.scheme not in SCHEMES:
            raise ValueError(f"no class scheme {self.scheme!r}: known are {', '.join(SCHEMES)}")
        if self.legend is not None and self.scheme != self.legend.name:
            raise ValueError(f"scheme is {self.scheme!r}, the legend's name is {self.legend.name!r}")
        kinds = len(self.classes) - 1
        for name in ("class_thresholds", "damage_weights"):
            values = getattr(self, name)
            if values is not None and len(values) != kinds:
                raise ValueError(
                    f"{name} has {len(values)} values, {self.scheme} has {kinds} after the background"
                )
        limits = (self.building_threshold, self.object_threshold, self.destroyed_threshold)
        wrong = [value for value in (*limits, *(self.class_thresholds or ())) if not 0 <= value <= 1]
        if wrong:
            raise ValueError(f"thresholds are probabilities from 0 to 1, {wrong[0]:g} is none")
        if self.calibration is not None and len(self.calibration.factors) != kinds:
            found = len(self.calibration.factors)
            raise ValueError(
                f"calibration has {found} factors, {self.scheme} has {kinds} classes after the background"
            )
        if self.minor_dilation != "none" and "minor-damage" not in self.classes.names:
            raise ValueError(f"minor_dilation needs a scheme with minor-damage, this one is {self.scheme}")
        if self.one_date and (self.dates != 2 or self.scheme != DAMAGE.name):
            raise ValueError("one_date is for models of damage between two dates")
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands name one twice: {', '.join(self.bands)}")
        finest, coarsest = self.resolution_m
        if not 0 < finest <= coarsest < math.inf:
            raise ValueError(
                f"resolution_m is {finest:g} to {coarsest:g}, expected the finest and the coarsest metres"
            )
        return self


class Card(BaseCard):
    """`card.json` of a model folder.

    Attributes:
        activation: what turns logits into channels: a softmax over them, or a sigmoid of each. A model with one
            logit gives p(building) by a sigmoid.
        channel_0: what channel 0 holds; where it is `building`, p(background) is 1 - channel 0 and the other
            channels say how p(building) is shared out.
        temperature: logits are divided by this before the activation.
        encoder: the file of weights that its encoder began with, where that was one.
    """

    model: ModelConfig
    normalisation: Normalisation = Normalisation()
    temperature: float = Field(default=1.0, gt=0)
    activation: Activation = "softmax"
    channel_0: Channel0 = "background"
    incremental: IncrementalRecord | None = None
    encoder: EncoderRecord | None = None
    weights: Weights | None = None

    @model_validator(mode="after")
    def _model_fits_the_scheme(self) -> Self:
        if self.model.classes == 1:
            if self.activation != "sigmoid" or len(self.classes) != 2:
                raise ValueError(
                    "a model with one logit needs activation sigmoid and the scheme building, "
                    f"found {self.activation} and {self.scheme}"
                )
        elif self.model.classes != len(self.classes):
            raise ValueError(
                f"the model has {self.model.classes} classes, the scheme {self.scheme} has {len(self.classes)}"
            )
        return self


def describe(card: Card) -> str:
    """The card as Markdown, for the model folder's README."""
    encoder = getattr(card.model, "encoder_name", None)
    model = f"- Model: `{card.model.kind}`" + (f", encoder {encoder}" if encoder else "")
    figures = [f"- Parameters: {card.weights.parameters:,} ({card.weights.dtype})"] if card.weights else []
    parts = [model]
    if card.incremental is not None:
        grown = card.incremental
        what = "Places" if grown.places else "Classes"
        steps = "; ".join(", ".join(names) for names in grown.places or grown.steps)
        parts.append(
            f"- {what} learned in {counted(len(grown.steps), 'step')} of {grown.task} by {grown.method}: {steps}"
        )
    if card.encoder is not None:
        began = card.encoder
        parts.append(
            f"- Encoder weights: {began.name} from `{began.file}` (SHA-256 `{began.sha256}`), licence {began.licence}"
        )
    return describe_parts(card, parts, figures)


def describe_parts(card: BaseCard, parts: list[str], figures: list[str]) -> str:
    """The README of a card: what it is made of in `parts`, and numbers about it in `figures`, as list items."""
    lines = [
        f"# {card.name} (version {card.version})",
        "",
        f"{'Two dates (pre, post)' if card.dates == 2 else 'One date'} in, classes out: {', '.join(card.classes.names)}.",
        "",
        *parts,
        f"- Bands: {', '.join(card.bands)} ({card.dtype}); ground resolution {card.resolution_m[0]:g} to "
        f"{card.resolution_m[1]:g} m",
        _decision(card),
    ]
    if card.object_threshold:
        lines.append(
            f"- A traced shape is a building from a mean probability of {card.object_threshold:g} on"
        )
    if card.calibration is not None:
        lines += _corrected(card.calibration)
    if card.one_date:
        lines.append(f"- Maps from one date too: {', '.join(card.one_date)}")
        if card.destroyed_threshold != 0.5:
            lines[-1] += f"; destroyed from {card.destroyed_threshold:g} on"
    if card.minor_dilation != "none":
        lines.append(f"- Minor damage spreads over 5 x 5 pixels: {card.minor_dilation}")
    lines += [
        f"- Trained on: {card.training.data} ({card.training.data_licence})",
        *([f"- Use of the data: {limit}"] if (limit := restriction(card.training.data_licence)) else []),
        f"- Licence of the weights: {card.licence}",
        *(f"- {str(parent)[0].upper()}{str(parent)[1:]}" for parent in card.training.parents),
        *figures,
    ]
    if card.legend is not None:
        named = enumerate(zip(card.legend.names, card.legend.colours, strict=True))
        rows = [(value, name, f"`{colour}`") for value, (name, colour) in named]
        lines += ["", *markdown_table(("value", "class", "colour"), rows)]
    if card.training.command:
        lines += ["", "Made by:", "", "```", card.training.command, "```"]
    if card.metrics:
        names = sorted({n for scores in card.metrics.values() for n in scores})
        measured = [
            (test_set, *(f"{scores[n]:.3f}" if n in scores else "" for n in names))
            for test_set, scores in card.metrics.items()
        ]
        lines += ["", *markdown_table(("test set", *names), measured)]
    if card.limits:
        lines += ["", card.limits]
    return "\n".join(lines) + "\n"


def _decision(card: BaseCard) -> str:
    """How a class follows from probabilities."""
    if card.legend is not None:
        return "- Every pixel has its likeliest class"
    if card.class_thresholds is None:
        return f"- Building threshold: {card.building_threshold:g}"
    named = zip(card.classes.names[1:], card.class_thresholds, strict=True)
    return "- Building thresholds: " + ", ".join(f"{name} {value:g}" for name, value in named)


def _corrected(calibration: Calibration) -> list[str]:
    """How probabilities are corrected, and how well that held on events without which it was fitted."""
    factors = ", ".join(f"{value:.3g}" for value in calibration.factors)
    lines = [f"- Probabilities of buildings: temperature {calibration.temperature:.3g}, factors {factors}"]
    if calibration.fitted_on:
        lines[0] += f", fitted on {calibration.fitted_on}"
    if calibration.events:
        errors = ", ".join(f"{event} {value:.3f}" for event, value in calibration.events.items())
        lines.append(f"- Expected calibration error on events without which it was fitted: {errors}")
    return lines
