"""A model folder at work: sensor values in, class probabilities out."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aftermap.artefacts.activation import to_channels, to_probabilities, truncated
from aftermap.artefacts.card import BaseCard, Card
from aftermap.artefacts.ensemble import Averaging
from aftermap.artefacts.store import LoadedModel
from aftermap.errors import ModelError
from aftermap.inference.calibrate import reweight
from aftermap.inference.tta import Tta, views

__all__ = ["AnyPredictor", "Predictor", "Tta", "torch_device"]


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
            float32 (B, K, H, W); sums to 1 over K.
        """

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


class Predictor(AnyPredictor):
    """Applies a model with the bands, normalisation, temperature, activation and classes of its card."""

    card: Card

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        device: str = "cpu",
        tta: Tta = "none",
        scales: tuple[float, ...] = (1.0,),
        averaging: Averaging = "probabilities",
        compat_uint8: bool = False,
    ) -> None:
        """Move the model to `device`.

        Args:
            loaded: from `load_model`.
            device: `cpu`, `cuda` or `cuda:n`.
            tta: which mirrored and turned views are averaged.
            scales: sizes at which each view is shown.
            averaging: whether the views' probabilities are averaged, or their logits before one activation.
            compat_uint8: cut the mean channels to whole 255ths.

        Raises:
            ModelError: the device is not there, or the views make no sense.
        """
        self._device = torch_device(device)
        self.card = loaded.card
        self.sha256 = loaded.sha256
        self.multiple = loaded.model.stride
        self._views = views(tta, scales)
        self._averaging, self._compat_uint8 = averaging, compat_uint8
        self._model = loaded.model.eval().to(self._device).to(memory_format=torch.channels_last)
        shape = (1, 1, -1, 1, 1)
        self._mean = torch.tensor(self.card.normalisation.mean).reshape(shape).to(self._device)
        self._std = torch.tensor(self.card.normalisation.std).reshape(shape).to(self._device)
        self._order = list(self.card.band_order)

    def normalise(self, images: np.ndarray, valid: np.ndarray | None = None) -> Tensor:
        """Raw values (B, T, C, H, W) to model input; invalid pixels become 0, the middle of the range."""
        if images.shape[2] == len(self._order) and self._order != sorted(self._order):
            images = images[:, :, self._order]
        x = (torch.from_numpy(np.ascontiguousarray(images)).to(self._device).float() - self._mean) / self._std
        if valid is not None:
            x = x * torch.from_numpy(np.ascontiguousarray(valid)).to(self._device)[:, :, None]
        return x

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities of a batch of windows; see `AnyPredictor.predict`."""
        channels = self.channels(images, valid)
        probabilities = to_probabilities(truncated(channels) if self._compat_uint8 else channels)
        return weighted(probabilities.cpu().numpy(), self.card)

    def channels(self, images: np.ndarray, valid: np.ndarray | None = None) -> Tensor:
        """Channels (B, C, H, W) on the device, averaged over the views: p(building), then a value per class."""
        if self._averaging == "logits":
            return self.activate(self.logits(images, valid))
        return self._mean_over_views(images, valid, self.activate)

    def logits(self, images: np.ndarray, valid: np.ndarray | None = None) -> Tensor:
        """Logits (B, K, H, W) on the device, averaged over the views."""
        return self._mean_over_views(images, valid, Tensor.float)

    def activate(self, logits: Tensor) -> Tensor:
        """Channels of logits, by the card."""
        return to_channels(
            logits,
            activation=self.card.activation,
            channel_0=self.card.channel_0,
            temperature=self.card.temperature,
        )

    @torch.inference_mode()
    def _mean_over_views(
        self, images: np.ndarray, valid: np.ndarray | None, of_logits: Callable[[Tensor], Tensor]
    ) -> Tensor:
        x = self.normalise(images, valid)
        size = (x.shape[-2], x.shape[-1])
        total: Tensor | None = None
        for view in self._views:
            output = view.undo(of_logits(self._model(view.show(x, multiple=self.multiple))), size)
            total = output if total is None else total + output
        assert total is not None
        return total / len(self._views)


def weighted(probabilities: np.ndarray, card: BaseCard) -> np.ndarray:
    """Probabilities (or channels) with the damage weights of a card."""
    if card.damage_weights is None:
        return probabilities
    return reweight(probabilities, np.array(card.damage_weights))


def torch_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ModelError: no such device, or no GPU here.
    """
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ModelError(f"no device {name!r}: use cpu, cuda or cuda:n")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("device cuda was asked for, but torch sees no GPU here: use --device cpu")
    return torch.device(name)
