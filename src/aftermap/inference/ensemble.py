"""Several models as one: their outputs averaged in memory, window by window."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from aftermap.artefacts.activation import to_channels, to_probabilities, to_uint8
from aftermap.artefacts.arrays import A, alike, as_kind_of, as_numpy, float64, joined
from aftermap.artefacts.card import BaseCard, Card
from aftermap.artefacts.ensemble import is_ensemble, load_ensemble
from aftermap.artefacts.ensemble_card import Averaging, EnsembleCard, EnsembleMember, FusedViews, Gate, Role
from aftermap.artefacts.store import model_folder
from aftermap.errors import ModelError
from aftermap.inference.backends.base import Backend, Execution, Precision
from aftermap.inference.backends.opening import open_network
from aftermap.inference.gate import WindowGate
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor, Predictor, weighted
from aftermap.inference.tta import Tta


class RunningKeywords(TypedDict, total=False):
    """The fields of `Options`, as keywords of a call."""

    device: str
    tta: Tta
    scales: Sequence[float]
    averaging: Averaging | FusedViews | None
    compat_uint8: bool | None
    low_memory: bool
    backend: Backend | None
    threads: int
    precision: Precision
    compiled: bool


@dataclass(frozen=True, slots=True)
class Options:
    """How a model or an ensemble is run.

    Attributes:
        device: `cpu`, `cuda` or `cuda:n`.
        tta: which mirrored and turned views are averaged.
        scales: sizes at which each view is shown.
        averaging: probabilities or logits; None takes what the ensemble's card says (probabilities for one model).
            One model's views may also vote, or give each class its largest probability.
        compat_uint8: cut channels to whole 255ths before they are averaged; None takes what the card says.
        low_memory: hold one member at a time, loading it again for every batch of windows.
        backend: the runtime: `torch`, `onnxruntime`, `openvino`, or `auto` for the form exported beside the model, else
            the fastest; None is torch for model folders and an exported file's own runtime.
        threads: of the processor; 0 takes OMP_NUM_THREADS where it is set, else leaves the runtime its choice.
        precision: of the network's arithmetic; see `aftermap.inference.backends.base`, also for the next one.
        compiled: let torch.compile build kernels for a GPU.
    """

    device: str = "cpu"
    tta: Tta = "none"
    scales: tuple[float, ...] = (1.0,)
    averaging: Averaging | FusedViews | None = None
    compat_uint8: bool | None = None
    low_memory: bool = False
    backend: Backend | None = None
    threads: int = 0
    precision: Precision = "auto"
    compiled: bool = False

    @property
    def execution(self) -> Execution:
        """The part that says how networks are run."""
        return Execution(self.device, self.backend, self.threads, self.precision, self.compiled)


def open_predictor(name: str | Path, options: Options | None = None) -> AnyPredictor:
    """A model folder, an ensemble folder, an exported model or the model in the box (`"box"`), ready to predict.

    Raises:
        ModelError: nothing usable is there, or it does not go with the options.
    """
    options = options or Options()
    if is_ensemble(name):
        return EnsemblePredictor(model_folder(name), load_ensemble(name), options)
    if options.averaging not in (None, "probabilities") and options.compat_uint8:
        raise ModelError(
            f"8-bit rounding cuts probabilities, so it cannot go with averaging {options.averaging}"
        )
    return Predictor(
        open_network(name, options.execution),
        tta=options.tta,
        scales=options.scales,
        averaging=options.averaging or "probabilities",
        compat_uint8=bool(options.compat_uint8),
    )


def opened(model: str | Path | AnyPredictor, **running: Unpack[RunningKeywords]) -> AnyPredictor:
    """The same with the fields of `Options` as keywords, and the backend `auto` by default; an open model as it is.

    Raises:
        ModelError: nothing usable is there, or it does not go with the options.
    """
    if isinstance(model, AnyPredictor):
        return model
    if "scales" in running:
        running["scales"] = tuple(running["scales"])
    options = Options(**{"backend": "auto", **running})  # type: ignore[arg-type]  # scales are a tuple now
    return open_predictor(model, options)


class EnsemblePredictor(AnyPredictor):
    """Applies the members of an ensemble folder, each as its own card says, and averages what they give.

    The mean is taken over channels (see `activation`): p(building) from the localization members, or from the
    damage members where there are none, and the shares of the damage classes from the damage members. Every
    member runs once per window and view, and only the sums of one role and one group are held. Windows that the gate
    finds empty are not shown to them.

    Attributes:
        gate: what finds them; None where the card has none.
    """

    card: EnsembleCard
    gate: WindowGate | None = None

    def __init__(self, folder: Path, card: EnsembleCard, options: Options) -> None:
        """Load every member once, to check it.

        Raises:
            ModelError: a member is missing, altered or does not fit the others.
        """
        if options.averaging in ("votes", "largest"):
            raise ModelError(
                f"averaging {options.averaging} is for the views of one model: an ensemble averages probabilities or "
                "logits"
            )
        changes = {"averaging": options.averaging, "compat_uint8": options.compat_uint8}
        self.card = card.model_copy(update={k: v for k, v in changes.items() if v is not None})
        if self.card.averaging == "logits" and self.card.compat_uint8:
            raise ModelError("8-bit rounding cuts probabilities, so it cannot go with averaging logits")
        self.sha256 = self.card.sha256
        self._folder, self._options = folder, options
        self._held: dict[str, Predictor] = {}
        self._executions: dict[str, dict[str, Any]] = {}
        self._cards: dict[Role, Card] = {}
        self._weights: dict[str, tuple[float, ...] | None] = {}
        self.multiple = math.lcm(*(self._check(member) for member in card.members))
        if card.gate is not None:
            guard = self._open_gate(card.gate)
            self.multiple = math.lcm(self.multiple, guard.multiple)
            self.gate = WindowGate(guard, card.gate, limit=min(Decision.of(self.card).thresholds))

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities of a batch of windows; see `AnyPredictor.predict`."""
        if self.gate is None:
            return self._shown(images, valid)
        kept, building = self.gate.look(images, valid)
        if kept.all():
            return self._shown(images, valid)
        probabilities = self.gate.empty(building, len(self.card.classes))
        if kept.any():
            probabilities[kept] = self._shown(images[kept], None if valid is None else valid[kept])
        return probabilities

    def release(self) -> None:
        """Give the memory of the members' activations back."""
        for member in self._held.values():
            member.release()

    def _shown(self, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Class probabilities of windows that the members look at."""
        means = {role: self._mean(role, images, valid) for role in self._roles()}
        located = means.get("localization", means.get("damage"))
        assert located is not None
        channels = located[:, :1]
        if "damage" in means:
            channels = joined(alike(channels, means["damage"][:, 1:]))
        probabilities = as_numpy(to_probabilities(channels)).astype(np.float32, copy=False)
        return weighted(probabilities, self.card)

    @property
    def damage_weights(self) -> tuple[float, ...] | None:
        """The ensemble's own, times the mean (geometric, by weight) of its damage members'.

        Exact where these have the same, or agree on a pixel; else what is divided out is near to what they moved.
        """
        kinds = len(self.card.classes) - 1
        own, total = np.array(self.card.damage_weights or (1.0,) * kinds), 0.0
        logs = np.zeros(kinds)
        for member in self.card.members:
            if member.role == "damage":
                weights = self._weights[member.folder] or (1.0,) * kinds
                logs += member.weight * np.log(np.maximum(weights, 1e-6))
                total += member.weight
        combined = own * np.exp(logs / total) if total else own
        return None if (combined == 1).all() else tuple(combined.tolist())

    @property
    def execution(self) -> dict[str, Any]:
        """How the members are run: what they have in common, and by member where they differ."""
        of_members = self._executions
        first = next(iter(of_members.values()))
        common = {k: v for k, v in first.items() if all(e.get(k) == v for e in of_members.values())}
        differing = {
            folder: {key: value for key, value in each.items() if key not in common}
            for folder, each in of_members.items()
        }
        return common | ({"members": differing} if any(differing.values()) else {})

    def _roles(self) -> list[Role]:
        return list(dict.fromkeys(member.role for member in self.card.members))

    def _mean(self, role: Role, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Mean channels of the members of a role."""
        total: Any = None
        weight = 0.0
        for members in self._groups(role):
            group_weight = sum(member.weight for member in members)
            if self.card.compat_uint8:
                group = self._bytes(members, images, valid) * group_weight
            else:
                group = self._weighted_sum(members, images, valid)
            total = group if total is None else _sum(total, group)
            weight += group_weight
        if self.card.averaging == "probabilities":
            return total / weight / 255 if self.card.compat_uint8 else total / weight
        card = self._cards[role]
        channels = to_channels(total / weight, activation=card.activation, channel_0=card.channel_0)
        return _reweighted(channels, card)

    def _weighted_sum(
        self, members: Sequence[EnsembleMember], images: np.ndarray, valid: np.ndarray | None
    ) -> Any:
        total: Any = None
        for member in members:
            output = self._output(member, images, valid) * member.weight
            total = output if total is None else _sum(total, output)
        return total

    def _bytes(self, members: Sequence[EnsembleMember], images: np.ndarray, valid: np.ndarray | None) -> Any:
        """Mean channels of a group, cut to whole numbers of 0 to 255, in 64 bits.

        Their sums are exact: classes that are as likely stay so, and the lower one is taken. Members that weigh alike are
        averaged over all their views at once, as the winner did, since another order may round to another byte.
        """
        localizes = members[0].role == "localization"
        alone = localizes or not any(self._weights[member.folder] for member in members)
        if not alone or len({member.weight for member in members}) > 1:
            mean = self._weighted_sum(members, images, valid) / sum(member.weight for member in members)
            return float64(to_uint8(mean))
        total: Any = None
        count = 0
        for member in members:
            predictor = self._held.get(member.folder) or self._open(member)
            total, views = predictor.channel_sums(*_seen(predictor, images, valid), onto=total)
            count += views
            self._executions[member.folder] = predictor.execution  # known for sure only once it has run
        return float64(to_uint8((total[:, :1] if localizes else total) / count))

    def _output(self, member: EnsembleMember, images: np.ndarray, valid: np.ndarray | None) -> Any:
        """What is averaged of one member: logits at temperature 1, or channels with its own damage weights."""
        predictor = self._held.get(member.folder) or self._open(member)
        seen = _seen(predictor, images, valid)
        if self.card.averaging == "logits":
            output = predictor.logits(*seen) / predictor.card.temperature
        else:
            channels = predictor.channels(*seen)
            localizes = member.role == "localization"
            output = channels[:, :1] if localizes else _reweighted(channels, predictor.card)
        self._executions[member.folder] = predictor.execution  # known for sure only once it has run
        return output

    def _groups(self, role: Role) -> list[list[EnsembleMember]]:
        groups: dict[tuple[str, bool], list[EnsembleMember]] = {}
        for member in self.card.members:
            if member.role == role:
                groups.setdefault((member.group or member.folder, member.group is None), []).append(member)
        return list(groups.values())

    def _check(self, member: EnsembleMember) -> int:
        """Load a member and hold it where memory may be used; returns its multiple."""
        predictor = self._open(member)
        card = predictor.card
        if not isinstance(card, Card):
            raise ModelError(f"member {member.folder} is an exported model: members must be model folders")
        if predictor.sha256 != member.sha256:
            raise ModelError(
                f"{self._folder / member.folder} holds other weights ({predictor.sha256[:12]}...) than "
                f"the ensemble was made of ({member.sha256[:12]}...): make it again with 'aftermap ensemble'"
            )
        if member.role == "damage" and card.scheme != self.card.scheme:
            raise ModelError(
                f"member {member.folder} has scheme {card.scheme}, the ensemble {self.card.scheme}"
            )
        self._weights[member.folder] = card.damage_weights
        first = self._cards.setdefault(member.role, card)
        if self.card.averaging == "logits" and _kind(first) != _kind(card):
            raise ModelError(
                f"logits of {first.name} and {card.name} cannot be averaged, as their activation, channel 0, "
                "classes or damage weights differ: average probabilities"
            )
        self._executions[member.folder] = predictor.execution
        if not self._options.low_memory:
            self._held[member.folder] = predictor
        return predictor.multiple

    def _open_gate(self, gate: Gate) -> Predictor:
        """The gate's model, shown one view of each window and held whatever the members are."""
        network = open_network(self._folder / gate.folder, self._options.execution)
        if network.sha256 != gate.sha256:
            raise ModelError(
                f"{self._folder / gate.folder} holds other weights ({network.sha256[:12]}...) than the ensemble was made "
                f"with ({gate.sha256[:12]}...): make it again with 'aftermap ensemble'"
            )
        return Predictor(network)

    def _open(self, member: EnsembleMember) -> Predictor:
        return Predictor(
            open_network(self._folder / member.folder, self._options.execution),
            tta=self._options.tta,
            scales=self._options.scales,
            averaging=self.card.averaging,
        )


def _seen(
    predictor: Predictor, images: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The dates that a member looks at."""
    dates = slice(0, predictor.dates)
    return images[:, dates], None if valid is None else valid[:, dates]


def _kind(card: Card) -> tuple[object, ...]:
    """What models must have in common for the mean of their logits to make sense."""
    return card.activation, card.channel_0, card.model.classes, card.damage_weights


def _sum(one: Any, other: Any) -> Any:
    """The sum of what two members gave, who may be run by different runtimes."""
    one, other = alike(one, other)
    return one + other


def _reweighted(channels: A, card: BaseCard) -> A:
    """Channels with the damage weights of a card."""
    if card.damage_weights is None or channels.shape[1] == 1:
        return channels
    return as_kind_of(weighted(as_numpy(channels), card), channels)
