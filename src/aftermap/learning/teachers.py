"""Teachers: frozen models, or ensembles of them, that answer to a student's batches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aftermap.artefacts.activation import to_channels, to_probabilities
from aftermap.artefacts.card import Card
from aftermap.artefacts.ensemble import is_ensemble, load_ensemble
from aftermap.artefacts.ensemble_card import Averaging, Role
from aftermap.artefacts.store import LoadedModel, load_model, model_folder
from aftermap.errors import ModelError, RecipeError
from aftermap.learning.configs.distillation import TeacherConfig
from aftermap.learning.losses.pixel import widened
from aftermap.learning.objectives.distillation_terms import TeacherOutput
from aftermap.models.networks.dense import DenseModel
from aftermap.models.taps import encode, feature_channels, tapped

_LEAST = 1e-7  # probabilities below it have no logarithm worth learning


@dataclass(frozen=True, slots=True)
class StudentImages:
    """What a student's batches look like, so that a teacher can be shown the same in its own way.

    Attributes:
        bands: in the student's order.
        mean: per band, in units of the stored values.
        std: likewise.
        dates: 1, or 2 (pre, post).
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dates: int


class FrozenNetwork(nn.Module):
    """A model that never changes, behind a translation of the student's images into its own."""

    scale: Tensor
    shift: Tensor

    def __init__(self, loaded: LoadedModel, images: StudentImages) -> None:
        """Freeze the model.

        Raises:
            RecipeError: it looks at bands that the student's images do not have.
        """
        super().__init__()
        card = loaded.card
        missing = [band for band in card.bands if band not in images.bands]
        if missing:
            raise RecipeError(
                f"{card.name} looks at the bands {', '.join(card.bands)}, the student's images have "
                f"{', '.join(images.bands)}"
            )
        self.card: Card = card
        self.model: DenseModel = loaded.model.requires_grad_(False).to(memory_format=torch.channels_last)
        self._order = [images.bands.index(band) for band in card.bands]
        own = card.normalisation
        given = [(images.mean[i], images.std[i]) for i in self._order]
        scale = [std / s for (_, std), s in zip(given, own.std, strict=True)]
        shift = [(mean - m) / s for (mean, _), m, s in zip(given, own.mean, own.std, strict=True)]
        self._same = self._order == list(range(len(images.bands))) and scale == [1.0] * len(scale)
        self._same = self._same and shift == [0.0] * len(shift)
        self.register_buffer("scale", torch.tensor(scale).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).reshape(-1, 1, 1), persistent=False)

    def see(self, image: Tensor) -> Tensor:
        """The student's images (B, T, C, H, W) in the model's bands and normalisation, as many dates as it looks at."""
        image = image[:, : self.card.dates]
        if self._same:
            return image
        seen: Tensor = image[:, :, self._order] * self.scale + self.shift
        return seen

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, K, H, W) of the student's images, at the temperature of the card, in 32 bits."""
        logits: Tensor = self.model(self.see(image))
        return widened(logits) / self.card.temperature


class Teacher(nn.Module):
    """One model, or the mean of an ensemble's members; frozen, always in evaluation mode, without gradients.

    Decision weights of a card and cuts to 8 bits belong to maps: a student is told what the networks believe.

    Attributes:
        name: in the recipe.
        weight: factor of all terms that look at it.
        sha256: identifies its weights.
        classes: of its logits; None where it looks at more dates than the student has, and tells features only.
        dates: how many of the student's dates it looks at.
        multiple: heights and widths of crops must be multiples of this.
        identity: everything that its answers depend on, images aside.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[tuple[LoadedModel, Role, float]],
        images: StudentImages,
        *,
        sha256: str,
        config: TeacherConfig,
        averaging: Averaging | None,
    ) -> None:
        """Freeze the members.

        Args:
            name: in the recipe.
            members: models, what each tells, and its weight in the mean.
            images: what the student's batches look like.
            sha256: identifies the weights of all.
            config: of this teacher.
            averaging: of an ensemble; None for a single model.

        Raises:
            RecipeError: bands or dates do not fit.
        """
        super().__init__()
        self.name, self.sha256, self.weight = name, sha256, config.weight
        self.is_ensemble = averaging is not None
        self.networks = nn.ModuleList(FrozenNetwork(loaded, images) for loaded, _, _ in members)
        self._roles: list[Role] = [role for _, role, _ in members]
        self._weights = [weight for _, _, weight in members]
        self._averaging, self._tta = averaging, config.tta
        cards = [loaded.card for loaded, _, _ in members]
        wanted = max(card.dates for card in cards)
        if wanted > images.dates and self.is_ensemble:
            raise RecipeError(
                f"teacher {name} looks at {wanted} dates, the student at {images.dates}: only a single model can "
                "lend the features of one date"
            )
        self.dates = min(wanted, images.dates)
        self.classes: int | None = None
        if wanted <= images.dates:
            kinds = [c.model.classes for c, role in zip(cards, self._roles, strict=True) if role == "damage"]
            plain = not self.is_ensemble and self._plain(cards[0])
            self.classes = cards[0].model.classes if plain else max([2, *kinds])
        self.multiple = math.lcm(*(loaded.model.stride for loaded, _, _ in members))
        self.identity = repr((sha256, config.tta, averaging, images))
        self.train(False)

    @classmethod
    def open(cls, name: str, config: TeacherConfig, images: StudentImages) -> "Teacher":
        """Load a teacher.

        Args:
            name: in the recipe.
            config: where it is, and how it answers.
            images: what the student's batches look like.

        Raises:
            RecipeError: nothing usable is there, or it does not fit the student's images.
        """
        try:
            if not is_ensemble(config.model):
                loaded = load_model(config.model)
                role: Role = "localization" if len(loaded.card.classes) == 2 else "damage"
                parts = [(loaded, role, 1.0)]
                return cls(name, parts, images, sha256=loaded.sha256, config=config, averaging=None)
            card, folder = load_ensemble(config.model), model_folder(config.model)
            parts = [(load_model(folder / m.folder), m.role, m.weight) for m in card.members]
        except ModelError as error:
            raise RecipeError(f"objective.teachers.{name}: {error}") from None
        for member, (loaded, _, _) in zip(card.members, parts, strict=True):
            if loaded.sha256 != member.sha256:
                raise RecipeError(
                    f"objective.teachers.{name}: member {member.folder} holds other weights than the ensemble was "
                    "made of: make it again with 'aftermap ensemble'"
                )
        return cls(name, parts, images, sha256=card.sha256, config=config, averaging=card.averaging)

    def train(self, mode: bool = True) -> "Teacher":
        """Nothing: a teacher stays in evaluation mode, so that its batch statistics never move."""
        return super().train(False)

    @property
    def feature_channels(self) -> int:
        """Channels of its deepest features.

        Raises:
            RecipeError: it is an ensemble, or has no encoder.
        """
        if self.is_ensemble:
            raise RecipeError(
                f"teacher {self.name} is an ensemble, which has no features in common: take one of its members"
            )
        network = self._network(0)
        return feature_channels(network.model, bands=len(network.card.bands))

    @torch.no_grad()
    def forward(self, image: Tensor, *, features: bool = False) -> TeacherOutput:
        """What it says about a batch; each of its networks runs once.

        Args:
            image: the student's normalised images (B, T, C, H, W).
            features: whether the deepest features are wanted, of every date that it looks at.

        Returns:
            Logits in 32 bits: a single model's own at the temperature of its card, where their softmax (or the
            sigmoid of one) is what it believes; else the logarithm of its mean probabilities. Without any channel
            where `classes` is None.
        """
        if self.classes is None:
            bare = image.new_zeros(len(image), 0, *image.shape[-2:])
            network = self._network(0)
            return TeacherOutput(bare, encode(network.model, network.see(image)))
        shown = _views(image) if self._tta == "flips" else image
        if not features:
            return TeacherOutput(self._logits(shown, len(image)))
        with tapped(self._network(0).model) as tap:
            logits = self._logits(shown, len(image))
        return TeacherOutput(logits, tuple(f[: len(image)] for f in tap.features(len(shown))))

    def _logits(self, shown: Tensor, samples: int) -> Tensor:
        first = self._network(0)
        if not self.is_ensemble and self._plain(first.card):
            logits: Tensor = first(shown)
            return logits
        means = {role: self._mean(role, shown, samples) for role in dict.fromkeys(self._roles)}
        channels = means.get("localization", means.get("damage"))
        assert channels is not None
        if "damage" in means:
            channels = torch.cat([channels[:, :1], means["damage"][:, 1:]], dim=1)
        return to_probabilities(channels).clamp(min=_LEAST).log()

    def _mean(self, role: Role, shown: Tensor, samples: int) -> Tensor:
        """Mean channels (B, C, H, W) of the networks of a role, as `artefacts.activation` has them."""
        total: Tensor | None = None
        kind: Card | None = None
        by_logits = self._averaging == "logits"
        for number, weight in enumerate(self._weights):
            if self._roles[number] != role:
                continue
            network = self._network(number)
            kind = kind or network.card
            outputs: Tensor = network(shown)
            if not by_logits:
                outputs = _channels(outputs, network.card)
            output = _over_views(outputs, samples) * weight
            if role == "localization" and not by_logits:
                output = output[:, :1]
            total = output if total is None else total + output
        assert total is not None and kind is not None
        mean = total / sum(w for w, r in zip(self._weights, self._roles, strict=True) if r == role)
        channels = _channels(mean, kind) if by_logits else mean
        return channels[:, :1] if role == "localization" else channels

    def _plain(self, card: Card) -> bool:
        """Whether the logits of a single model say by themselves what it believes."""
        softmax = card.activation == "softmax" and card.channel_0 == "background"
        return self._tta == "none" and (softmax or card.model.classes == 1)

    def _network(self, number: int) -> FrozenNetwork:
        network = self.networks[number]
        assert isinstance(network, FrozenNetwork)
        return network


def _channels(logits: Tensor, card: Card) -> Tensor:
    return to_channels(logits, activation=card.activation, channel_0=card.channel_0)


_FLIPS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda image: image,
    lambda image: image.flip(-2),
    lambda image: image.flip(-1),
    lambda image: image.flip(-2, -1),
)
"""The four mirrorings of the published systems; each undoes itself."""


def _views(image: Tensor) -> Tensor:
    """(B, ...) -> (4 B, ...), the batch as it is first."""
    return torch.cat([flip(image) for flip in _FLIPS])


def _over_views(outputs: Tensor, samples: int) -> Tensor:
    """Mean (B, ...) of the outputs (V B, ...) of so many views, each mirrored back."""
    parts = torch.split(outputs, samples)
    if len(parts) == 1:
        return outputs
    return torch.stack([flip(part) for flip, part in zip(_FLIPS, parts, strict=True)]).mean(dim=0)
