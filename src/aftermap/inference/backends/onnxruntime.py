"""Networks run by ONNX Runtime: on the processor, and on GPUs through TensorRT or CUDA."""

from typing import Any

import numpy as np
import onnxruntime

from aftermap.errors import ModelError
from aftermap.inference.backends.base import Execution, GraphFile, GraphNetwork

_ON_GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
_ON_CPU = "CPUExecutionProvider"


class OnnxNetwork(GraphNetwork):
    """A graph as ONNX Runtime runs it, in float32 unless f16 is asked for on a GPU with TensorRT."""

    backend = "onnxruntime"

    def __init__(self, graph: GraphFile, execution: Execution | None = None) -> None:
        """Load and optimise the graph.

        Raises:
            ModelError: another device or arithmetic than there is was asked for, or the graph cannot be read.
        """
        execution = execution or Execution()
        super().__init__(graph, execution)
        chosen = providers(self.device, execution.precision)
        self.precision = "f16" if any(options.get("trt_fp16_enable") for _, options in chosen) else "f32"
        session = onnxruntime.SessionOptions()
        session.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session.intra_op_num_threads = self.threads
        session.log_severity_level = 3  # errors; its warnings are about nodes left on the processor
        # its threads wait by spinning, which would slow down what comes after the network
        session.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(graph.path), session, providers=chosen)
        except Exception as error:  # its errors have no common class
            raise ModelError(f"onnxruntime cannot use {graph.path}: {_first_line(error)}") from None
        if self.device != "cpu" and self._session.get_providers()[0] == _ON_CPU:
            raise ModelError(
                f"device {self.device} was asked for, but onnxruntime finds no GPU here: use --device cpu"
            )
        self._input = self._session.get_inputs()[0].name

    @property
    def execution(self) -> dict[str, Any]:
        """How it is run, for reports."""
        return super().execution | {"provider": self._session.get_providers()[0]}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits of images; see `Network`."""
        array = self.whole(images)
        try:
            logits: np.ndarray
            (logits,) = self._session.run(None, {self._input: array})
        except Exception as error:
            raise ModelError(f"onnxruntime failed on {tuple(images.shape)}: {_first_line(error)}") from None
        return logits


def providers(device: str, precision: str = "auto") -> list[tuple[str, dict[str, Any]]]:
    """Execution providers in order of preference: TensorRT, then CUDA, on a GPU; the processor otherwise.

    Args:
        device: where to run.
        precision: `f16` lets TensorRT calculate in half precision, `auto` on a GPU too.

    Raises:
        ModelError: this ONNX Runtime cannot run there, or not in that precision.
    """
    kind, _, number = device.partition(":")
    if kind == "cpu":
        if precision not in ("auto", "f32"):
            raise ModelError(f"onnxruntime does not run in {precision} on a processor: use --precision f32")
        return [(_ON_CPU, {})]
    there = [name for name in _ON_GPU if name in onnxruntime.get_available_providers()]
    if kind != "cuda" or not there:
        raise ModelError(
            f"this onnxruntime has no provider for {device}: install onnxruntime-gpu, or use --backend torch"
        )
    tensorrt = there[0] == _ON_GPU[0]
    if precision == "bf16" or (precision == "f16" and not tensorrt):
        raise ModelError(
            f"onnxruntime does not run in {precision} here: use --precision f32, or --backend torch"
        )
    options: dict[str, dict[str, Any]] = {name: {"device_id": int(number or 0)} for name in there}
    if tensorrt and precision != "f32":
        options[_ON_GPU[0]]["trt_fp16_enable"] = True
    return [*options.items(), (_ON_CPU, {})]


def _first_line(error: Exception) -> str:
    """What went wrong, without the codes and the path in front of it."""
    line = (str(error).strip().splitlines() or ["no reason given"])[0]
    return line.rpartition(" failed:")[2].rpartition("] : ")[2][:200]
