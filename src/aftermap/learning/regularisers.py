"""What it costs to move weights that mattered for the classes learned before.

A regulariser lives through one step of incremental learning. It measures how much each weight matters, from gradients and
movements, and its penalty holds the weights near those of the step before, by what was measured then. `state` is what the
next step's is made from. A tensor that has grown since is held in its first rows, those of the old classes.

Source: Kirkpatrick et al. 2017 (EWC), Zenke et al. 2017 (path integral), Chaudhry et al. 2018 (Riemannian walk), in the
forms of MiB's released code.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

Parameters: TypeAlias = nn.Module | Iterable[tuple[str, Tensor]]
"""A model, or its parameters by name; the name a distributed wrapper puts before them is passed over."""

FLAT = 1e-8


class Regulariser(ABC):
    """Penalty on weights that left their place, Σ importance (θ - θ_old)², 0 at the first step."""

    _unseen = 0.0
    """The squared gradient of what was never measured."""

    def __init__(
        self, state: Mapping[str, Tensor] | None = None, old: Mapping[str, Tensor] | None = None
    ) -> None:
        """Take over from the step before.

        Args:
            state: what its regulariser's `state` gave; None at the first step.
            old: its model's weights by name; None at the first step. Names without a measured importance are free.
        """
        self._before = dict(state or {})
        self._old: dict[str, Tensor] = {}
        self._importance: dict[str, Tensor] = {}
        for name, value in (old or {}).items():
            importance = self._importance_of(name)
            if importance is not None and importance.shape == value.shape:
                self._old[name] = value.detach().clone()
                self._importance[name] = importance

    def penalty(self, model: Parameters) -> Tensor:
        """The penalty, a scalar with a gradient, without any factor."""
        total: Tensor | None = None
        for name, parameter in trained(model):
            held = self._held(name, parameter)
            if held is not None:
                importance, gap = held
                part = (importance * gap.square()).sum()
                total = part if total is None else total + part
        return torch.zeros(()) if total is None else total

    def after_backward(self, parameters: Parameters, *, penalty_weight: float = 0.0) -> None:
        """Look at the gradients, before the optimizer's step.

        Args:
            parameters: with gradients.
            penalty_weight: factor with which the penalty was part of the loss; its share of the gradient says nothing
                about the labels and is taken out. 0 where the gradient is that of the other terms alone.
        """
        with torch.no_grad():
            for name, parameter in trained(parameters):
                if parameter.grad is not None:
                    self._see(name, parameter.detach(), self._of_labels(name, parameter, penalty_weight))

    def after_step(self, parameters: Parameters) -> None:
        """Look at how far the optimizer's step went."""
        self._follow(parameters)

    def state(self) -> dict[str, Tensor]:
        """What the next step's regulariser needs, by names of its own."""
        return self._measured()

    def kept(self) -> dict[str, Tensor]:
        """What an interrupted step needs to go on, besides what the regulariser was made of; after `after_step`."""
        return self._running()

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Take back what `kept` gave."""
        self._resume(kept)

    @abstractmethod
    def _measured(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def _running(self) -> dict[str, Tensor]: ...

    @abstractmethod
    def _resume(self, kept: Mapping[str, Tensor]) -> None: ...

    @abstractmethod
    def _follow(self, parameters: Parameters) -> None: ...

    @abstractmethod
    def _importance_of(self, name: str) -> Tensor | None:
        """Importance of a tensor at the end of the step before."""

    @abstractmethod
    def _see(self, name: str, value: Tensor, gradient: Tensor) -> None: ...

    def _earlier(self, kind: str, name: str, like: Tensor) -> Tensor:
        """A measure of the step before in the tensor's present shape; what is new has none."""
        measure = torch.full_like(like, self._unseen if kind == "fisher" else 0.0)
        value = self._before.get(f"{kind}:{name}")
        if value is not None and _grown(value.shape, like.shape):
            measure[: len(value)] = value.to(like) if value.ndim else value
        return measure

    def _held(self, name: str, parameter: Tensor) -> tuple[Tensor, Tensor] | None:
        """Importance of the rows that are held, and how far they are from their place."""
        old = self._old.get(name)
        if old is None or not _grown(old.shape, parameter.shape):
            return None
        if old.device != parameter.device:
            old = self._old[name] = old.to(parameter)
            self._importance[name] = self._importance[name].to(parameter)
        rows = parameter[: len(old)] if old.ndim else parameter
        return self._importance[name], rows - old

    def _of_labels(self, name: str, parameter: Tensor, penalty_weight: float) -> Tensor:
        """The gradient without the penalty's share."""
        assert parameter.grad is not None
        gradient = parameter.grad.detach().to(parameter.dtype)
        held = self._held(name, parameter) if penalty_weight else None
        if held is None:
            return gradient
        gradient = gradient.clone()
        importance, gap = held
        gradient[: len(gap)] -= 2 * penalty_weight * importance * gap
        return gradient


class EWC(Regulariser):
    """Elastic weight consolidation: importance is a running mean of the squared gradients."""

    def __init__(
        self,
        state: Mapping[str, Tensor] | None = None,
        old: Mapping[str, Tensor] | None = None,
        *,
        alpha: float = 0.9,
    ) -> None:
        """See `Regulariser`; `alpha` is the share of the newest square in the mean."""
        super().__init__(state, old)
        self._alpha = alpha
        self._fisher: dict[str, Tensor] = {}

    def _measured(self) -> dict[str, Tensor]:
        return _prefixed("fisher", self._fisher)

    def _running(self) -> dict[str, Tensor]:
        return self._measured()

    def _resume(self, kept: Mapping[str, Tensor]) -> None:
        self._fisher = _named(kept, "fisher")

    def _follow(self, parameters: Parameters) -> None:
        """Movements say nothing here."""

    def _importance_of(self, name: str) -> Tensor | None:
        return _normalised(self._before.get(f"fisher:{name}"))

    def _see(self, name: str, value: Tensor, gradient: Tensor) -> None:
        self._fisher[name] = _averaged(
            self._fisher.get(name), self._earlier("fisher", name, value), gradient, self._alpha
        )


class PI(Regulariser):
    """Path integral: importance is by how much a weight's movements lowered the loss, over its way squared."""

    def __init__(
        self,
        state: Mapping[str, Tensor] | None = None,
        old: Mapping[str, Tensor] | None = None,
        *,
        damping: float = 1e-20,
    ) -> None:
        """See `Regulariser`; `damping` is added to the squared way."""
        super().__init__(state, old)
        self._damping = damping
        self._path = _Path()

    def _follow(self, parameters: Parameters) -> None:
        self._path.move(parameters)

    def _measured(self) -> dict[str, Tensor]:
        scores = {}
        for name, gain in self._path.gain.items():
            way = self._path.way(name)
            score = (gain / (way.square() + self._damping)).clamp(min=0)
            scores[name] = score + self._earlier("score", name, score)
        return _prefixed("score", scores)

    def _running(self) -> dict[str, Tensor]:
        return self._path.kept()

    def _resume(self, kept: Mapping[str, Tensor]) -> None:
        self._path.restore(kept)

    def _importance_of(self, name: str) -> Tensor | None:
        return _normalised(self._before.get(f"score:{name}"))

    def _see(self, name: str, value: Tensor, gradient: Tensor) -> None:
        self._path.start(name, value, gradient)


class RW(Regulariser):
    """Riemannian walk: the Fisher information of EWC, and how much was gained per distance that it measures."""

    def __init__(
        self,
        state: Mapping[str, Tensor] | None = None,
        old: Mapping[str, Tensor] | None = None,
        *,
        alpha: float = 0.9,
        interval: int = 10,
    ) -> None:
        """See `Regulariser`; `alpha` as in `EWC`, `interval` is how many optimizer steps a stretch of the way has."""
        super().__init__(state, old)
        self._alpha = alpha
        self._interval = interval
        self._steps = 0
        self._fisher: dict[str, Tensor] = {}
        self._score: dict[str, Tensor] = {}
        self._path = _Path()

    def _follow(self, parameters: Parameters) -> None:
        self._path.move(parameters)
        self._steps += 1
        if self._steps % self._interval:
            return
        for name, gain in self._path.gain.items():
            distance = 0.5 * self._fisher[name].to(gain) * self._path.way(name).square()
            score = (gain / (distance + FLAT)).clamp(min=0)
            self._score[name] = self._score[name].to(score) + score if name in self._score else score
        self._path = _Path()

    def _measured(self) -> dict[str, Tensor]:
        return _prefixed("fisher", self._fisher) | self._joined(self._score)

    def _joined(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scores of this step, averaged with those of the step before where it has some."""
        joined = {}
        for name, score in scores.items():
            known = f"score:{name}" in self._before
            joined[name] = (score + self._earlier("score", name, score)) / 2 if known else score
        return _prefixed("score", joined)

    def _running(self) -> dict[str, Tensor]:
        fisher, score = _prefixed("fisher", self._fisher), _prefixed("score", self._score)
        return fisher | score | self._path.kept() | {"steps": torch.tensor(self._steps)}

    def _resume(self, kept: Mapping[str, Tensor]) -> None:
        self._fisher, self._score = _named(kept, "fisher"), _named(kept, "score")
        self._steps = int(kept["steps"])
        self._path.restore(kept)

    def _importance_of(self, name: str) -> Tensor | None:
        fisher = _normalised(self._before.get(f"fisher:{name}"))
        score = _normalised(self._before.get(f"score:{name}"))
        return fisher if score is None or fisher is None else fisher + score

    def _see(self, name: str, value: Tensor, gradient: Tensor) -> None:
        self._average(name, value, gradient)
        self._path.start(name, value, gradient)

    def _average(self, name: str, value: Tensor, gradient: Tensor) -> None:
        earlier = self._earlier("fisher", name, value)
        self._fisher[name] = _averaged(self._fisher.get(name), earlier, gradient, self._alpha)


class _Path:
    """The way of weights since it was begun, and what it gained: Σ gradient (θ before - θ after)."""

    def __init__(self) -> None:
        self.gain: dict[str, Tensor] = {}
        self._first: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}

    def start(self, name: str, value: Tensor, gradient: Tensor) -> None:
        """Remember where a step begins."""
        if name not in self._first:
            self._first[name] = value.clone()
        self._last[name] = value.clone()
        self._gradients[name] = gradient.clone()

    def move(self, parameters: Parameters) -> None:
        """Account for the step since `start`."""
        for name, parameter in trained(parameters):
            if name not in self._gradients:  # nothing flowed into it
                continue
            now = parameter.detach()
            gain = self._gradients.pop(name) * (self._last[name] - now)
            self.gain[name] = self.gain[name].to(gain) + gain if name in self.gain else gain
            self._last[name] = now.clone()

    def way(self, name: str) -> Tensor:
        """How far a tensor is from where it was first seen."""
        last = self._last[name]
        return last - self._first[name].to(last)

    def kept(self) -> dict[str, Tensor]:
        gain, first, last = (
            _prefixed(k, v) for k, v in (("gain", self.gain), ("first", self._first), ("last", self._last))
        )
        return gain | first | last

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        self.gain, self._first, self._last = (_named(kept, k) for k in ("gain", "first", "last"))
        self._gradients = {}


def trained(source: Parameters) -> Iterable[tuple[str, Tensor]]:
    """Parameters that are trained, by name."""
    named = source.named_parameters() if isinstance(source, nn.Module) else source
    return ((name.removeprefix("module."), p) for name, p in named if p.requires_grad)


def _grown(before: torch.Size, now: torch.Size) -> bool:
    """Whether a tensor has kept its shape or got more rows."""
    if before == now:
        return True
    return len(before) == len(now) > 0 and before[1:] == now[1:] and before[0] < now[0]


def _normalised(measure: Tensor | None) -> Tensor | None:
    """A tensor's measure, from 0 at its least value to 1 at its largest."""
    if measure is None:
        return None
    least = measure.min()
    return (measure - least) / (measure.max() - least + FLAT)


def _averaged(fisher: Tensor | None, earlier: Tensor, gradient: Tensor, alpha: float) -> Tensor:
    return alpha * gradient.square() + (1 - alpha) * (earlier if fisher is None else fisher.to(gradient))


def _prefixed(kind: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{kind}:{name}": value.clone() for name, value in values.items()}


def _named(values: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{kind}:"): v.clone() for k, v in values.items() if k.startswith(f"{kind}:")}
