"""A model folder at work: sensor values in, class probabilities out."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aftermap.artefacts.card import Card
from aftermap.artefacts.store import LoadedModel
from aftermap.errors import ModelError
from aftermap.inference.calibrate import reweight

Tta = Literal["none", "flips"]

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))


class Predictor:
    """Applies a model with the normalisation, temperature and classes of its card.

    Attributes:
        card: the model's card.
        multiple: heights and widths must be multiples of this.
    """

    def __init__(self, loaded: LoadedModel, *, device: str = "cpu", tta: Tta = "none") -> None:
        """Move the model to `device`.

        Args:
            loaded: from `load_model`.
            device: `cpu`, `cuda` or `cuda:n`.
            tta: `flips` averages the probabilities over four mirrorings.

        Raises:
            ModelError: the device is not there.
        """
        if device.partition(":")[0] not in ("cpu", "cuda", "mps"):
            raise ModelError(f"no device {device!r}: use cpu, cuda or cuda:n")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError("device cuda was asked for, but torch sees no GPU here: use --device cpu")
        self.card: Card = loaded.card
        self.sha256 = loaded.sha256
        self.multiple = loaded.model.stride
        self._device = torch.device(device)
        self._model = loaded.model.eval().to(self._device).to(memory_format=torch.channels_last)
        self._flips = _FLIPS if tta == "flips" else _FLIPS[:1]
        shape = (1, 1, -1, 1, 1)
        self._mean = torch.tensor(self.card.normalisation.mean).reshape(shape).to(self._device)
        self._std = torch.tensor(self.card.normalisation.std).reshape(shape).to(self._device)

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

    def normalise(self, images: np.ndarray, valid: np.ndarray | None = None) -> Tensor:
        """Raw values (B, T, C, H, W) to model input; invalid pixels become 0, the middle of the range."""
        x = (torch.from_numpy(np.ascontiguousarray(images)).to(self._device).float() - self._mean) / self._std
        if valid is not None:
            x = x * torch.from_numpy(np.ascontiguousarray(valid)).to(self._device)[:, :, None]
        return x

    @torch.inference_mode()
    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities of a batch of windows.

        Args:
            images: raw values (B, T, C, H, W) in the card's dtype; H and W multiples of `multiple`.
            valid: bool (B, T, H, W), False where a date has no data.

        Returns:
            float32 (B, K, H, W); sums to 1 over K.
        """
        x = self.normalise(images, valid)
        total: Tensor | None = None
        for axes in self._flips:
            logits = self._model(x.flip(axes) if axes else x).float()
            probabilities = torch.softmax(logits / self.card.temperature, dim=1)
            probabilities = probabilities.flip(axes) if axes else probabilities
            total = probabilities if total is None else total + probabilities
        assert total is not None
        mean: np.ndarray = (total / len(self._flips)).cpu().numpy()
        if self.card.damage_weights is None:
            return mean
        return reweight(mean, np.array(self.card.damage_weights))
