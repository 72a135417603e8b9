"""Models as one module each, ready to be written as a graph: images in, logits out, and nothing else to know.

With `inside` a module takes raw uint8 values in the order of the card's given bands, and orders and normalises them by
itself; without, it takes what the card's normalisation makes of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aftermap.artefacts.activation import to_channels, to_probabilities, to_uint8
from aftermap.artefacts.card import BaseCard, Card, Normalisation
from aftermap.artefacts.ensemble import is_ensemble, load_ensemble
from aftermap.artefacts.ensemble_card import EnsembleCard, EnsembleMember, Role
from aftermap.artefacts.exported import GRAPH_NAMES, ExportedCard, Graph, GraphFormat, Precision, Source
from aftermap.artefacts.store import LoadedModel, load_model, model_folder
from aftermap.errors import ModelError
from aftermap.models.configs import TorchangeConfig
from aftermap.models.networks.dense import DenseModel, count_parameters

LEAST_PROBABILITY = 1e-7
"""Probabilities are cut to this before their logarithm; 16-bit constants can still hold it."""

_EXAMPLE_PX = 64
_SHIFTED_WINDOWS_PX = 256
"""torchvision's Swin shifts its windows only on maps larger than one, here 7 at stride 32; a trace knows one way."""


@dataclass(frozen=True, slots=True)
class Exportable:
    """A module and the card of what it will be; `seal` fills in what depends on the written file."""

    module: "GraphModule"
    card: ExportedCard


class GraphModule(nn.Module):
    """Images (B, T, C, H, W) to float32 logits (B, K, H, W).

    Attributes:
        dates: T.
        bands: C.
        multiple: heights and widths must be multiples of this.
        least_px: the smallest height and width.
        inside: whether it takes raw uint8 values.
    """

    dates: int
    bands: int
    multiple: int
    least_px: int
    inside: bool

    def example(self) -> Tensor:
        """Images to trace with: two, and higher than wide, so that nothing of that size fits by chance."""
        side = math.ceil(max(_EXAMPLE_PX, self.least_px) / self.multiple) * self.multiple
        images = torch.zeros(2, self.dates, self.bands, side + self.multiple, side)
        return images.to(torch.uint8) if self.inside else images


class SingleGraph(GraphModule):
    """One model."""

    def __init__(self, loaded: LoadedModel, *, inside: bool) -> None:
        """Wrap a loaded model; its modules are shared, not copied.

        Raises:
            ModelError: the model takes images of one size only.
        """
        super().__init__()
        card = loaded.card
        self.dates, self.bands, self.inside = card.dates, len(card.bands), inside
        self.multiple, self.least_px = sizes_of(loaded)
        self.prepare = _Affine(card.band_order, None, card.normalisation) if inside else nn.Identity()
        self.model = loaded.model
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits as the model gives them: activation, channel 0 and temperature are the card's."""
        logits: Tensor = self.model.direct(self.prepare(images))
        return logits.float()


class EnsembleGraph(GraphModule):
    """All members of an ensemble: the logits are logarithms of their mean probabilities."""

    def __init__(self, card: EnsembleCard, members: Sequence[LoadedModel], *, inside: bool) -> None:
        """Wrap loaded members, in the order of the card.

        Raises:
            ModelError: a member takes images of one size only, or logits are to be averaged of members that differ.
        """
        super().__init__()
        self.dates, self.bands, self.inside = card.dates, len(card.bands), inside
        sizes = [sizes_of(member) for member in members]
        self.multiple, self.least_px = math.lcm(*(m for m, _ in sizes)), max(least for _, least in sizes)
        self.normalisation = given_normalisation(members[0].card)
        given = None if inside else self.normalisation
        self.members: Sequence[DenseModel] = nn.ModuleList(m.model for m in members)  # type: ignore[assignment]
        self.prepare = nn.ModuleList(_Affine(m.card.band_order, given, m.card.normalisation) for m in members)
        self._card, self._cards = card, [member.card for member in members]
        if card.averaging == "logits":
            self._check_kinds()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits whose softmax is the ensemble's mean, before its own damage weights."""
        roles = dict.fromkeys(member.role for member in self._card.members)
        means = {role: self._mean(role, images) for role in roles}
        channels = means.get("localization", means.get("damage"))[:, :1]  # type: ignore[index]
        if "damage" in means:
            channels = torch.cat([channels, means["damage"][:, 1:]], dim=1)
        return to_probabilities(channels).clamp(min=LEAST_PROBABILITY).log()

    def _mean(self, role: Role, images: Tensor) -> Tensor:
        """Mean channels of the members of a role; those of a group are averaged before they are cut to 8 bits."""
        groups: dict[object, list[int]] = {}
        for index, member in enumerate(self._card.members):
            if member.role == role:
                groups.setdefault(member.group or index, []).append(index)
        total, weight = torch.zeros(()), 0.0
        for indices in groups.values():
            weights = [self._card.members[index].weight for index in indices]
            outputs = [self._output(index, images) * w for index, w in zip(indices, weights, strict=True)]
            group = torch.stack(outputs).sum(dim=0) if len(outputs) > 1 else outputs[0]
            if self._card.compat_uint8:
                group = to_uint8(group / sum(weights)).float() * sum(
                    weights
                )  # whole numbers, whose sums are exact
            total, weight = total + group, weight + sum(weights)
        if self._card.averaging == "probabilities":
            return total / weight / 255 if self._card.compat_uint8 else total / weight
        first = self._cards[next(iter(groups.values()))[0]]
        channels = to_channels(total / weight, activation=first.activation, channel_0=first.channel_0)
        return reweighted(channels, first)

    def _output(self, index: int, images: Tensor) -> Tensor:
        """What is averaged of a member: logits at temperature 1, or channels with its own damage weights."""
        card = self._cards[index]
        logits: Tensor = self.members[index].direct(self.prepare[index](images[:, : card.dates])).float()
        if self._card.averaging == "logits":
            scaled: Tensor = logits / card.temperature
            return scaled
        channels = to_channels(
            logits, activation=card.activation, channel_0=card.channel_0, temperature=card.temperature
        )
        if self._card.members[index].role == "localization":
            return channels[:, :1]
        return reweighted(channels, card)

    def _check_kinds(self) -> None:
        for role in ("localization", "damage"):
            cards = [c for m, c in zip(self._card.members, self._cards, strict=True) if m.role == role]
            kinds = {(c.activation, c.channel_0, c.model.classes, c.damage_weights) for c in cards}
            if len(kinds) > 1:
                raise ModelError(
                    f"logits of the {role} members cannot be averaged, as their activation, channel 0, classes or "
                    "damage weights differ: average probabilities"
                )


class _Affine(nn.Module):
    """Values of the given bands to what a model takes: its order of bands, its normalisation."""

    middle: Tensor
    width: Tensor

    def __init__(self, order: Sequence[int], given: Normalisation | None, wanted: Normalisation) -> None:
        """Plan one factor and one term per band.

        Args:
            order: index among the given bands of each band that is wanted.
            given: how the values are normalised already, in the given order; None where they are raw.
            wanted: in the wanted order.
        """
        super().__init__()
        self.order = None if list(order) == sorted(order) else list(order)
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (wanted.mean, wanted.std))
        zero, one = torch.zeros_like(mean), torch.ones_like(std)
        if given is not None:
            zero, one = (torch.tensor(v, dtype=torch.float64)[list(order)] for v in (given.mean, given.std))
        self.same = bool((zero == mean).all() and (one == std).all())
        shape = (1, 1, -1, 1, 1)
        # centred first, as a predictor does: the digits of large values are not lost
        self.register_buffer("middle", ((mean - zero) / one).float().reshape(shape), persistent=False)
        self.register_buffer("width", (std / one).float().reshape(shape), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Float32 images (B, T, C, H, W)."""
        values = values.float()
        if self.order is not None:
            values = torch.cat([values[:, :, band : band + 1] for band in self.order], dim=2)
        return values if self.same else (values - self.middle) / self.width


def graph_module(
    name: str | Path, *, inside: bool, graph_format: GraphFormat, precision: Precision = "fp32"
) -> Exportable:
    """A model folder, an ensemble folder or the model in the box (`"box"`) as one module.

    Raises:
        ModelError: nothing usable is there, or it takes images of one size only.
    """
    if is_ensemble(name):
        folder, card = model_folder(name), load_ensemble(name)
        members = [_load_member(folder, card, member) for member in card.members]
        ensemble = EnsembleGraph(card, members, inside=inside)
        source = Source(name=card.name, version=card.version, sha256=card.sha256)
        values: dict[str, object] = {"normalisation": ensemble.normalisation}
        return Exportable(ensemble, _draft(card, ensemble, graph_format, precision, source, values))
    loaded = load_model(name, to_run=True)
    single = SingleGraph(loaded, inside=inside)
    own = loaded.card
    source = Source(name=own.name, version=own.version, sha256=loaded.sha256)
    kept = ("normalisation", "temperature", "activation", "channel_0")
    facts = {field: getattr(own, field) for field in kept}
    return Exportable(single, _draft(own, single, graph_format, precision, source, facts))


def sizes_of(loaded: LoadedModel) -> tuple[int, int]:
    """The multiple that heights and widths must be of, and the smallest of them.

    Raises:
        ModelError: the model takes images of one size only.
    """
    fixed = getattr(loaded.model, "fixed_px", None)
    if fixed is not None:
        raise ModelError(
            f"{loaded.card.name} takes images of {fixed[0]} x {fixed[1]} pixels only, and exported models take any "
            "size: use another encoder"
        )
    least_px = max(loaded.model.stride, getattr(loaded.model, "least_px", 1))
    config = loaded.card.model
    if isinstance(config, TorchangeConfig) and config.encoder_name == "swin_t":
        least_px = max(least_px, _SHIFTED_WINDOWS_PX)
    return loaded.model.stride, least_px


def given_normalisation(card: Card) -> Normalisation:
    """A card's normalisation in the order of the given bands."""
    bands = [card.bands.index(band) for band in card.given_bands]
    mean, std = (
        tuple(values[i] for i in bands) for values in (card.normalisation.mean, card.normalisation.std)
    )
    return Normalisation(mean=mean, std=std)


def reweighted(channels: Tensor, card: BaseCard) -> Tensor:
    """Channels (B, C, H, W) with the damage weights of a card; what the damage classes hold together stays."""
    if card.damage_weights is None or channels.shape[1] == 1:
        return channels
    classes = channels[:, 1:]
    weights = torch.tensor(card.damage_weights, dtype=classes.dtype).reshape(1, -1, 1, 1)
    changed = classes * weights
    total, after = (c.sum(dim=1, keepdim=True) for c in (classes, changed))
    return torch.cat([channels[:, :1], changed * (total / after.clamp(min=LEAST_PROBABILITY))], dim=1)


def _draft(
    card: BaseCard,
    module: GraphModule,
    graph_format: GraphFormat,
    precision: Precision,
    source: Source,
    values: dict[str, object],
) -> ExportedCard:
    graph = Graph(
        format=graph_format,
        precision=precision,
        file=GRAPH_NAMES[graph_format],
        inside=module.inside,
        multiple=module.multiple,
        least_px=module.least_px,
        parameters=count_parameters(module),
        source=source,
    )
    common = {field: getattr(card, field) for field in BaseCard.model_fields}
    return ExportedCard.model_validate({**common, **values, "graph": graph})


def _load_member(folder: Path, card: EnsembleCard, member: EnsembleMember) -> LoadedModel:
    loaded = load_model(folder / member.folder, to_run=True)
    if loaded.sha256 != member.sha256:
        raise ModelError(
            f"{folder / member.folder} holds other weights ({loaded.sha256[:12]}...) than the ensemble was made of "
            f"({member.sha256[:12]}...): make it again with 'aftermap ensemble'"
        )
    if member.role == "damage" and loaded.card.scheme != card.scheme:
        raise ModelError(
            f"member {member.folder} has scheme {loaded.card.scheme}, the ensemble {card.scheme}"
        )
    return loaded
