"""Networks run by PyTorch: on any processor, and on GPUs in half precision."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aftermap.artefacts.store import LoadedModel
from aftermap.errors import BackendWarning, ModelError
from aftermap.inference.backends.base import Execution, Network, known_device, thread_count

_HALVES = {"bf16": torch.bfloat16, "f16": torch.float16}


class TorchNetwork(Network[Tensor]):
    """A model as PyTorch runs it, in evaluation mode and with the channels of a pixel side by side in memory.

    On a processor it calculates in float32 unless bf16 is asked for. On a GPU `precision="auto"` is float16 by
    autocast; should a window overflow there, a warning is issued and float32 is used from then on.
    """

    backend = "torch"

    def __init__(self, loaded: LoadedModel, execution: Execution | None = None) -> None:
        """Move the model to its device.

        Raises:
            ModelError: the device is not there, or does not calculate in the precision asked for.
        """
        execution = execution or Execution(precision="f32")
        self._device = torch_device(execution.device)
        self.device = str(self._device)
        self.card, self.sha256, self.multiple = loaded.card, loaded.sha256, loaded.model.stride
        on_gpu = self._device.type == "cuda"
        self.precision = execution.precision
        if self.precision == "auto":
            self.precision = "f16" if on_gpu else "f32"
        if self.precision == "f16" and not on_gpu:
            raise ModelError(f"torch does not run in f16 on {execution.device}: use --precision f32 or bf16")
        thread_count(execution.threads)
        self.threads = execution.threads or (0 if on_gpu else torch.get_num_threads())
        self._asked = execution.threads  # without which torch is left as it is set
        self._model = loaded.model.eval().to(self._device).to(memory_format=torch.channels_last)
        self._forward: Any = self._model
        if execution.compiled:
            if not on_gpu:
                raise ModelError("torch.compile is for GPUs here: leave --compile out on a processor")
            self._forward = torch.compile(self._model, dynamic=False)

    def take(self, array: np.ndarray) -> Tensor:
        """The array as a tensor on the network's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def working(self) -> AbstractContextManager[Any]:
        """Nothing is kept for learning."""
        return torch.inference_mode()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits of normalised images; see `Network`."""
        with _threads(self._asked):
            half = _HALVES.get(self.precision)
            with nullcontext() if half is None else torch.autocast(self._device.type, dtype=half):
                logits = self._run(images)
            logits = logits.float()
            if self.precision == "f16" and not bool(torch.isfinite(logits).all()):
                warnings.warn(
                    f"{self.card.name} overflows in half precision: float32 is used from here on",
                    BackendWarning,
                    stacklevel=2,
                )
                self.precision = "f32"
                logits = self._run(images).float()
            return logits

    @property
    def execution(self) -> dict[str, Any]:
        """How it is run, for reports."""
        return super().execution | ({} if self._forward is self._model else {"compiled": True})

    def _run(self, images: Tensor) -> Tensor:
        """Logits, by the compiled network while that works."""
        if self._forward is self._model:
            return self._plain(images)
        try:
            logits: Tensor = self._forward(images)
        except Exception as error:  # whatever a compiler may raise; the plain network gives the same
            warnings.warn(
                f"{self.card.name} cannot be compiled ({type(error).__name__}): it runs uncompiled",
                BackendWarning,
                stacklevel=2,
            )
            self._forward = self._model
            return self._plain(images)
        return logits

    def _plain(self, images: Tensor) -> Tensor:
        logits: Tensor = self._model(images)
        return logits


def torch_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ModelError: no such device, or no GPU here.
    """
    if known_device(name).startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("device cuda was asked for, but torch sees no GPU here: use --device cpu")
    return torch.device(name)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads within, as many as before after it."""
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
