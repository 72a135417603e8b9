"""PI and RW as MiB's released code measures them, where that is not what their papers say.

The gradient meets the move that led to it, not the one that it causes, and the last move of a step gains nothing. The
Riemannian walk takes the gradient of every tenth step for the way of ten, and cuts gains off at 0 only at the end. What
has no squared gradient yet starts at 1.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from aftermap.learning.regularisers import EWC, FLAT, PI, RW, Parameters, trained


class PublishedEWC(EWC):
    """EWC whose running mean starts at 1 where nothing was measured before."""

    _unseen = 1.0


class PublishedPI(PI):
    """Path integral over gradients at the points that the moves led to, from the weights of the step before."""

    def __init__(
        self, state: Mapping[str, Tensor] | None = None, old: Mapping[str, Tensor] | None = None
    ) -> None:
        """See `PI`."""
        super().__init__(state, old)
        self._start = {name: value.detach().clone() for name, value in (old or {}).items()}
        self._gain: dict[str, Tensor] = {}
        self._looked: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}

    def _see(self, name: str, value: Tensor, gradient: Tensor) -> None:
        start = self._start.get(name)
        if (
            start is None or start.shape != value.shape
        ):  # new, or grown: new rows start where they are first seen
            first = value.clone()
            if start is not None:
                first[: len(start)] = start.to(value)
            self._start[name] = first
        gain = self._gain.setdefault(name, torch.zeros_like(value))
        if name in self._looked:
            gain += gradient * (self._looked[name].to(value) - value)
        self._looked[name] = self._last[name] = value.clone()

    def _follow(self, parameters: Parameters) -> None:
        for name, parameter in trained(parameters):
            if name in self._looked:
                self._last[name] = parameter.detach().clone()

    def _measured(self) -> dict[str, Tensor]:
        scores = {}
        for name, gain in self._gain.items():
            way = self._last[name] - self._start[name].to(gain)
            score = (gain / (way.square() + self._damping)).clamp(min=0)
            scores[f"score:{name}"] = score + self._earlier("score", name, score)
        return scores

    def _running(self) -> dict[str, Tensor]:
        parts = {"start": self._start, "gain": self._gain, "looked": self._looked, "last": self._last}
        return {f"{kind}:{name}": v.clone() for kind, of in parts.items() for name, v in of.items()}

    def _resume(self, kept: Mapping[str, Tensor]) -> None:
        self._start, self._gain, self._looked, self._last = (
            {k.partition(":")[2]: v.clone() for k, v in kept.items() if k.startswith(f"{kind}:")}
            for kind in ("start", "gain", "looked", "last")
        )


class PublishedRW(RW):
    """Riemannian walk that looks at one gradient in `interval`, for the way since the last look."""

    _unseen = 1.0

    def __init__(
        self,
        state: Mapping[str, Tensor] | None = None,
        old: Mapping[str, Tensor] | None = None,
        *,
        alpha: float = 0.9,
        interval: int = 10,
    ) -> None:
        """See `RW`."""
        super().__init__(state, old, alpha=alpha, interval=interval)
        self._looked: dict[str, Tensor] = {}

    def _see(self, name: str, value: Tensor, gradient: Tensor) -> None:
        if self._steps % self._interval == 0:
            if name in self._looked:
                way = self._looked[name].to(value) - value
                distance = 0.5 * self._fisher[name].to(value) * way.square() + FLAT
                score = self._score.setdefault(name, torch.zeros_like(value))
                score += gradient * way / distance
            self._looked[name] = value.clone()
        self._average(name, value, gradient)

    def _follow(self, parameters: Parameters) -> None:
        self._steps += 1

    def _measured(self) -> dict[str, Tensor]:
        whole = {name: torch.zeros_like(fisher) for name, fisher in self._fisher.items()} | self._score
        cut = {name: score.clamp(min=0) for name, score in whole.items()}
        return {f"fisher:{name}": value.clone() for name, value in self._fisher.items()} | self._joined(cut)

    def _running(self) -> dict[str, Tensor]:
        looked = {f"looked:{name}": value.clone() for name, value in self._looked.items()}
        return super()._running() | looked

    def _resume(self, kept: Mapping[str, Tensor]) -> None:
        super()._resume(kept)
        self._looked = {
            k.removeprefix("looked:"): v.clone() for k, v in kept.items() if k.startswith("looked:")
        }
