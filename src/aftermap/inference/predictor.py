"""A model folder at work: sensor values in, class probabilities out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from aftermap.artefacts.activation import to_channels, to_probabilities, truncated
from aftermap.artefacts.arrays import A, alike, as_numpy, copied, softmax, total_of
from aftermap.artefacts.card import BaseCard, Card
from aftermap.artefacts.ensemble_card import Averaging, FusedViews
from aftermap.artefacts.exported import ExportedCard
from aftermap.artefacts.store import LoadedModel
from aftermap.inference.backends.base import Execution, Network
from aftermap.inference.tta import Tta, views
from aftermap.scoring.decision_weights import reweight

__all__ = ["AnyPredictor", "Predictor", "Tta"]

_PIXELS_AT_ONCE = 1 << 15
_TINY = float(np.finfo(np.float32).tiny)


class AnyPredictor(ABC):
    """What maps and evaluations need of a model or an ensemble.

    Attributes:
        card: what it takes, tells and decides.
        sha256: identifies its weights.
        multiple: heights and widths must be multiples of this.
    """

    card: BaseCard
    sha256: str
    multiple: int

    @abstractmethod
    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities of a batch of windows.

        Args:
            images: raw values (B, T, C, H, W) in the card's dtype, bands in the order of `card.given_bands`; H and
                W multiples of `multiple`.
            valid: bool (B, T, H, W), False where a date has no data.

        Returns:
            float32 (B, K, H, W), the caller's to write over; sums to 1 over K.
        """

    def predict_lent(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """The same, in memory that the next call may write over: for whoever is done with it by then."""
        return self.predict(images, valid)

    def release(self) -> None:  # noqa: B027 - most have none
        """Give memory back that only the next `predict` needs, which takes it anew."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.card.version

    @property
    def dates(self) -> int:
        """Images per place: 1 or 2."""
        return self.card.dates

    @property
    def damage_weights(self) -> tuple[float, ...] | None:
        """Decision weights that are in what `predict` gives; see `postprocess.unweighted`."""
        return self.card.damage_weights

    @property
    def execution(self) -> dict[str, Any]:
        """How it is run: backend, device, threads and precision; empty where that is not known."""
        return {}


class Predictor(AnyPredictor):
    """Applies a model with the bands, normalisation, temperature, activation and classes of its card.

    Attributes:
        network: the model on a runtime.
    """

    card: Card | ExportedCard

    def __init__(
        self,
        model: LoadedModel | Network[Any],
        *,
        device: str = "cpu",
        tta: Tta = "none",
        scales: tuple[float, ...] = (1.0,),
        averaging: Averaging | FusedViews = "probabilities",
        compat_uint8: bool = False,
    ) -> None:
        """Take a network as it runs, or move a model to `device` for PyTorch to run it in float32.

        Args:
            model: from `load_model`, or a network on any runtime.
            device: `cpu`, `cuda` or `cuda:n`, for a model; a network has its own.
            tta: which mirrored and turned views are averaged.
            scales: sizes at which each view is shown.
            averaging: whether the views' probabilities are averaged, or their logits before one activation; or what
                `predict` takes of them instead of a mean.
            compat_uint8: cut the mean channels to whole 255ths.

        Raises:
            ModelError: the device is not there, or the views make no sense.
        """
        if isinstance(model, LoadedModel):
            from aftermap.inference.backends.pytorch import TorchNetwork

            model = TorchNetwork(model, Execution(device=device, precision="f32"))
        self.network: Network[Any] = model
        self.card, self.sha256, self.multiple = model.card, model.sha256, model.multiple
        self._views = views(tta, scales)
        self._averaging, self._compat_uint8 = averaging, compat_uint8

    @property
    def execution(self) -> dict[str, Any]:
        """How the network is run, for reports."""
        return self.network.execution

    def release(self) -> None:
        """Give the memory of the network's activations back."""
        self.network.release()

    def prepare(self, images: np.ndarray, valid: np.ndarray | None = None) -> Any:
        """Raw values (B, T, C, H, W) to what the network takes; see `Network.prepare`."""
        return self.network.prepare(images, valid)

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities of a batch of windows; see `AnyPredictor.predict`."""
        if self._is_plain:
            return as_numpy(self._mean_over_views(images, valid, self._softmax))
        if self._averaging in ("votes", "largest"):
            return weighted(self._fused_views(images, valid), self.card)
        channels = self.channels(images, valid)
        probabilities = to_probabilities(truncated(channels) if self._compat_uint8 else channels)
        return weighted(as_numpy(probabilities), self.card)

    def predict_lent(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """The same where the network left its logits, if it can be; see `AnyPredictor.predict_lent`."""
        if not self._is_plain:
            return self.predict(images, valid)
        return as_numpy(self._mean_over_views(images, valid, lambda logits: self._softmax(logits, lent=True)))

    def channels(self, images: np.ndarray, valid: np.ndarray | None = None) -> Any:
        """Channels (B, C, H, W) as the network's arrays, averaged over the views: p(building), then a value per class."""
        if self._averaging == "logits":
            return self.activate(self.logits(images, valid))
        return self._mean_over_views(images, valid, self.activate)

    def channel_sums(
        self, images: np.ndarray, valid: np.ndarray | None = None, *, onto: Any = None
    ) -> tuple[Any, int]:
        """Channels added up over the views, one after the other, and how many views these are.

        Args:
            images: as of `channels`.
            valid: as of `channels`.
            onto: sums that they are added to, which may be written over.
        """
        return self._sum_over_views(images, valid, self.activate, onto), len(self._views)

    def logits(self, images: np.ndarray, valid: np.ndarray | None = None) -> Any:
        """Logits (B, K, H, W) as the network's arrays, averaged over the views."""
        return self._mean_over_views(images, valid, copied)  # as it may write its next ones over them

    def activate(self, logits: A) -> A:
        """Channels of logits, by the card."""
        return to_channels(
            logits,
            activation=self.card.activation,
            channel_0=self.card.channel_0,
            temperature=self.card.temperature,
        )

    @property
    def _is_plain(self) -> bool:
        """Whether channels, their mean and their shares come to a softmax, which takes a third of the time."""
        card = self.card
        alone = self._views == views("none") and not self._compat_uint8
        return alone and card.activation == "softmax" and card.channel_0 == "background"

    def _softmax(self, logits: A, *, lent: bool = False) -> A:
        """Probabilities with the temperature and damage weights of the card, in memory of their own or the logits'."""
        if not isinstance(logits, np.ndarray):
            return self._shares(logits)
        # some rows after the other, so that what is computed on the way stays in the cache
        found = logits if lent and logits.flags.writeable else np.empty_like(logits)
        rows = max(1, _PIXELS_AT_ONCE // logits.shape[-1])
        for top in range(0, logits.shape[-2], rows):
            part = (..., slice(top, top + rows), slice(None))
            found[part] = self._shares(logits[part])
        return found

    def _shares(self, logits: A) -> A:
        card = self.card
        probabilities = softmax(logits if card.temperature == 1 else logits / card.temperature)
        if card.damage_weights is not None:
            damage = probabilities[:, 1:]
            total = total_of(damage)
            damage *= self.network.take(np.array(card.damage_weights, np.float32).reshape(1, -1, 1, 1))
            damage *= total / total_of(damage).clip(_TINY)
        return probabilities

    def _mean_over_views(
        self, images: np.ndarray, valid: np.ndarray | None, of_logits: Callable[[Any], Any]
    ) -> Any:
        total = self._sum_over_views(images, valid, of_logits, None)
        if len(self._views) > 1:
            with self.network.working():
                total /= len(self._views)
        return total

    def _fused_views(self, images: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Class probabilities (B, K, H, W) by votes of the views, or the largest of each class."""
        fused: np.ndarray | None = None
        with self.network.working():
            x = self.prepare(images, valid)
            size = (x.shape[-2], x.shape[-1])
            for view in self._views:
                channels = self.activate(self.network(view.show(x, multiple=self.multiple)))
                shares = as_numpy(to_probabilities(view.undo(channels, size)))
                if self._averaging == "votes":
                    classes = np.arange(shares.shape[1]).reshape(1, -1, 1, 1)
                    voted = (shares.argmax(1)[:, None] == classes).astype(np.float32)
                    fused = voted if fused is None else fused + voted
                else:
                    fused = shares if fused is None else np.maximum(fused, shares)
        assert fused is not None
        result: np.ndarray = fused / fused.sum(1, keepdims=True)
        return result

    def _sum_over_views(
        self, images: np.ndarray, valid: np.ndarray | None, of_logits: Callable[[Any], Any], onto: Any
    ) -> Any:
        with self.network.working():
            x = self.prepare(images, valid)
            size = (x.shape[-2], x.shape[-1])
            total = onto
            for view in self._views:
                output = view.undo(of_logits(self.network(view.show(x, multiple=self.multiple))), size)
                if total is None:
                    total = output
                else:
                    total, output = alike(total, output)
                    total += output
            return total


def weighted(probabilities: np.ndarray, card: BaseCard) -> np.ndarray:
    """Probabilities (or channels) with the damage weights of a card."""
    if card.damage_weights is None:
        return probabilities
    return reweight(probabilities, np.array(card.damage_weights))
