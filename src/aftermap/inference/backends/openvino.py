"""Networks run by OpenVINO on the processor."""

import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.artefacts.arrays import blank
from aftermap.errors import ModelError
from aftermap.files import sha256_of
from aftermap.files.choices import digest
from aftermap.inference.backends.base import Execution, GraphFile, GraphNetwork
from aftermap.inference.backends.cache import kept_graph

_CONVERTER = "openvino.tools.ovc"
_LARGEST_KEPT_BYTES = 64 << 20


def _runtime() -> Any:
    """OpenVINO without its converter, which takes two thirds of the import and loads what reports to its makers.

    The package does without it where it cannot be imported; whoever wants it imports it by its own name.
    """
    if "openvino" in sys.modules or _CONVERTER in sys.modules:
        return import_module("openvino")
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]


openvino = _runtime()


class OpenvinoNetwork(GraphNetwork):
    """A graph as OpenVINO runs it, at every size without being compiled again.

    The arithmetic is always named: by itself OpenVINO takes bf16 where the processor has it, which shifts
    probabilities by as much as a few hundredths.
    """

    backend = "openvino"
    _prepared: np.ndarray | None = None

    def __init__(self, graph: GraphFile, execution: Execution | None = None) -> None:
        """Compile the graph.

        Raises:
            ModelError: another device or arithmetic than there is was asked for, or the graph cannot be read.
        """
        execution = execution or Execution()
        super().__init__(graph, execution)
        if self.device != "cpu":
            raise ModelError(
                f"openvino does not run on {execution.device} here: use --backend torch or --device cpu"
            )
        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        wanted = execution.precision
        if wanted == "f16" or (wanted == "bf16" and not has_bf16):
            raise ModelError(f"openvino does not run in {wanted} on this processor: use --precision f32")
        if wanted == "auto":
            wanted = "bf16" if graph.execution == "bf16" and has_bf16 else "f32"
        self.precision = wanted
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self.precision,
            # 2026.4 computes 8-bit graphs wrongly in several streams where a free batch is split in unequal parts; one
            # stream is also what a single caller needs
            "NUM_STREAMS": 1,
            # else two programs with one thread each would both sit on the first core
            "ENABLE_CPU_PINNING": False,
        }
        if self.threads:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        try:
            compiled, self.kept_as = _compiled(core, graph.path, settings)
        except RuntimeError as error:
            raise ModelError(f"openvino cannot use {graph.path}: {_first_line(error)}") from None
        if not self.threads:
            self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._request = compiled.create_infer_request()

    def release(self) -> None:
        """Give inputs, outputs and activations back: 120 MB of the box at 1,024 px, which the next call makes anew."""
        compiled = self._request.get_compiled_model()
        self._request = self._prepared = None  # the request holds the last input and output
        if hasattr(compiled, "release_memory"):  # since 2025.0
            compiled.release_memory()
        self._request = compiled.create_infer_request()

    def prepare(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """As every `Network`, to the same bits, into memory that the next call writes over."""
        order = list(self.card.band_order)
        if self.raw or images.dtype != np.uint8 or order != list(range(images.shape[2])):
            return super().prepare(images, valid)
        if self._prepared is None or self._prepared.shape != images.shape:
            self._prepared = np.empty(images.shape, np.float32)
        np.subtract(images, self._mean, out=self._prepared)
        self._prepared /= self._std
        if valid is not None and not valid.all():
            blank(self._prepared, ~valid[:, :, None])
        return self._prepared

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits of images; see `Network`."""
        array = self.whole(images)
        try:
            # nothing is copied on the way in or out, so the next call writes over this result
            found = self._request.infer([array], share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise ModelError(f"openvino failed on {tuple(images.shape)}: {_first_line(error)}") from None
        logits: np.ndarray = found[0]
        return logits


def _compiled(core: Any, path: Path, settings: dict[str, Any]) -> tuple[Any, str | None]:
    """A graph compiled for this processor; a small one as it was compiled before, which takes a quarter of the time.

    Returns:
        it, and what names it where it is kept.
    """
    parts = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    if sum(part.stat().st_size for part in parts) > _LARGEST_KEPT_BYTES:
        return core.compile_model(core.read_model(path), "CPU", settings), None
    sums = [sha256_of(part) for part in parts]
    processor = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    key = digest("compiled", sums, openvino.__version__, processor, settings)

    def make(folder: Path) -> None:
        blob = core.compile_model(core.read_model(path), "CPU", settings).export_model().getvalue()
        (folder / "compiled.blob").write_bytes(sha256(blob).digest() + blob)

    stored = kept_graph(key, "compiled.blob", make).read_bytes()
    seal, blob = stored[:32], stored[32:]
    if sha256(blob).digest() != seal:
        return core.compile_model(core.read_model(path), "CPU", settings), None
    return core.import_model(blob, "CPU", settings), key


def _first_line(error: Exception) -> str:
    """What went wrong, without OpenVINO's trail of source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (told or lines or ["no reason given"])[0][:160]
