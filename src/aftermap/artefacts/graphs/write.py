"""From a module to a graph file: ONNX for ONNX Runtime, TensorRT and others, or OpenVINO; batch, height and width free.

Both come from a trace. It follows the branches that its example took, so modules must not choose by size; the tests
run every kind of model at other sizes and batches than it was traced with.
"""

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from timm.layers import Conv2dSame
from torch import Tensor
from torch.nn import functional

from aftermap.artefacts.exported import MOST_BYTES
from aftermap.artefacts.graphs.graph_modules import GraphModule
from aftermap.errors import ModelError
from aftermap.files import write_bytes

if TYPE_CHECKING:
    import onnx
    import openvino


OPSET = 17
"""Of ONNX: the first with a layer normalisation of its own; read by ONNX Runtime from 1.12 and TensorRT from 8.6."""

INPUT, OUTPUT = "images", "logits"
_FREE = {INPUT: {0: "batch", 3: "height", 4: "width"}, OUTPUT: {0: "batch", 2: "height", 3: "width"}}
_SMALL = 1024
"""Tensors with fewer values than this stay in 32 bits: they weigh nothing, and a mean or a factor may need its digits."""


def to_onnx(module: GraphModule, path: Path, *, half: bool = False) -> Path:
    """Write a module as one ONNX file, checked by the package `onnx`.

    Args:
        module: in evaluation mode.
        path: of the file.
        half: store large weights in 16 bits; arithmetic, input and output stay in 32.

    Raises:
        ModelError: the package onnx is missing, the model cannot be written as ONNX, or it is too large.
    """
    onnx = _onnx()
    _check_weights(module)
    traced = path.with_name(f".part-{path.name}")
    with _quiet(module, "ONNX"), free_sizes(), fixed_padding(), torch.no_grad():
        # the exporter by trace: it takes every kind of model, which torch.export with free sizes does not
        torch.onnx.export(
            module,
            (module.example(),),
            str(traced),
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=_FREE,
            opset_version=OPSET,
            do_constant_folding=True,
        )
        model = onnx.load(str(traced), load_external_data=False)
    traced.unlink()
    if half:
        halve(model)
    _name_shapes(model, module)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the ONNX graph is not valid: {_line(error)}") from None
    return write_bytes(path, model.SerializeToString(), sync=False)


def to_openvino(module: GraphModule) -> "openvino.Model":
    """A module as an OpenVINO model in float32, read by OpenVINO's own frontend for PyTorch.

    Its `convert_model` is not used: that reports to its makers over the network. Neither is the package onnx needed.

    Raises:
        ModelError: OpenVINO cannot take the model.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with _quiet(module, "OpenVINO"), fixed_padding(), torch.no_grad():
        traced = torch.jit.trace(module, (module.example(),), check_trace=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # by name, as the frontend does not keep it alive
        model = frontend.convert(frontend.load(decoder))
        given = model.inputs[0].get_node()
        given.set_partial_shape(openvino.PartialShape([-1, module.dates, module.bands, -1, -1]))
        given.set_element_type(openvino.Type.u8 if module.inside else openvino.Type.f32)
        model.validate_nodes_and_infer_types()
        if module.dates == 2:
            _halve_batches(model)
        model.inputs[0].set_names({INPUT})
        model.outputs[0].set_names({OUTPUT})
    return model


def _halve_batches(model: "openvino.Model") -> None:
    """Where the batch of both dates is cut in two, say so by a split into equal parts instead of computed lengths.

    OpenVINO 2026.4 computes an 8-bit convolution behind the former wrongly in more than one stream while the batch is
    free; behind the latter rightly.
    """
    from openvino import opset13

    for node in model.get_ops():
        if node.get_type_name() != "VariadicSplit" or not _cuts_batch_in_two(node):
            continue
        even = opset13.split(node.input_value(0), node.input_value(1), node.get_output_size())
        for index in range(node.get_output_size()):
            node.output(index).replace(even.output(index))
    model.validate_nodes_and_infer_types()


def _cuts_batch_in_two(node: Any) -> bool:
    """Whether a split is that of `chunk(2)` over the batch: its lengths follow from the batch's size."""
    axis, lengths = (node.input_value(place).get_node() for place in (1, 2))
    computed = axis.get_type_name() == "Constant" and lengths.get_type_name() != "Constant"
    return computed and node.get_output_size() == 2 and int(axis.get_data().item()) == 0


def save_openvino(model: "openvino.Model", path: Path, *, half: bool = False) -> Path:
    """Write `path` (.xml) and the `.bin` beside it.

    Args:
        model: from `to_openvino`, or an 8-bit one.
        path: of the `.xml`.
        half: store weights in 16 bits; OpenVINO computes in 32 all the same unless told otherwise.
    """
    import openvino

    openvino.save_model(model, path, compress_to_fp16=half)
    return path


def halve(model: "onnx.ModelProto") -> None:
    """Store the large weights of an ONNX model in 16 bits, each followed by a cast back to 32.

    A runtime folds the casts away when it loads the model. Tensors with values beyond the range of 16 bits stay.
    """
    onnx = _onnx()
    graph, casts, kept = model.graph, [], []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor) if tensor.data_type == onnx.TensorProto.FLOAT else None
        largest = float(np.finfo(np.float16).max)
        if values is None or values.size < _SMALL or float(np.abs(values).max()) > largest:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}.float16"
        kept.append(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(
            onnx.helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT, name=stored)
        )
    nodes = [*casts, *graph.node]
    for name, items in (("initializer", kept), ("node", nodes)):
        copied = [copy.deepcopy(item) for item in items]
        graph.ClearField(name)
        getattr(graph, name).extend(copied)


def _name_shapes(model: "onnx.ModelProto", module: GraphModule) -> None:
    """Call the free axes by name at both ends; the trace leaves the classes, and odd names, to guess."""
    for value, free in ((model.graph.input[0], _FREE[INPUT]), (model.graph.output[0], _FREE[OUTPUT])):
        for axis, name in free.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    classes = model.graph.output[0].type.tensor_type.shape.dim[1]
    if not classes.HasField("dim_value"):
        with torch.no_grad():
            classes.dim_value = module(module.example()[:1]).shape[1]


def _check_weights(module: GraphModule) -> None:
    size = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    if size > MOST_BYTES:
        raise ModelError(f"the model has {size / 2**30:.1f} GiB of weights, a graph holds at most 2 GiB")


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise ModelError("ONNX files need the package onnx: pip install 'aftermap[export]'") from None
    return onnx


@contextmanager
def _quiet(module: GraphModule, kind: str) -> Iterator[None]:
    """Without the tracer's warnings about sizes, which the tests answer, and with one line where it fails."""
    assert not module.training
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
        ):  # the exporter prints graphs it refuses
            warnings.simplefilter("ignore")
            yield
    except (ModelError, OSError):
        raise
    except Exception as error:  # whatever tracers and converters raise about a user's own model
        raise ModelError(
            f"the model cannot be written as {kind} ({type(error).__name__}: {_line(error)}): take "
            f"{'openvino' if kind == 'ONNX' else 'onnx'} or PyTorch"
        ) from None


def _line(error: Exception) -> str:
    """What went wrong, without OpenVINO's trail of source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Check ", "Exception from", "Converting input"))]
    return (told or lines or ["no reason given"])[0][:160]


def adaptive_pool(x: Tensor, cells: int | tuple[int, int]) -> Tensor:
    """Means (B, C, rows, cols) over a grid of cells of (B, C, H, W), as torch's `adaptive_avg_pool2d`.

    Written as a product with each cell's shares of the rows and of the columns.
    """
    rows, cols = (cells, cells) if isinstance(cells, int) else cells
    down, across = _shares(x.shape[-2], rows), _shares(x.shape[-1], cols)
    return down.to(x) @ x @ across.to(x).T


def _shares(length: int, cells: int) -> Tensor:
    """(cells, length): 1 / (pixels of the cell) inside each cell; cells overlap where the length does not divide."""
    number = torch.arange(cells)[:, None]
    start, stop = number * length // cells, ((number + 1) * length + cells - 1) // cells
    position = torch.arange(length)[None]
    return ((position >= start) & (position < stop)) / (stop - start)


@contextmanager
def free_sizes() -> Iterator[None]:
    """Put such operations in place of torch's own while a model is written, and torch's back afterwards."""
    original = functional.adaptive_avg_pool2d

    def chosen(x: Tensor, output_size: Any) -> Tensor:
        size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if None in size or set(size) == {1}:  # the mean of everything has a form of its own
            return original(x, output_size)
        return adaptive_pool(x, size)

    functional.adaptive_avg_pool2d = chosen  # type: ignore[assignment]  # modules, and resizing by area, look it up there
    try:
        yield
    finally:
        functional.adaptive_avg_pool2d = original


@contextmanager
def fixed_padding() -> Iterator[None]:
    """Pad by constants, while a model is written, where a convolution pads as TensorFlow does (timm's `tf_...`).

    How much that is depends on the size alone, and is the same for all that the stride divides; computed anew from
    each image it keeps OpenVINO from padding within the convolution and from computing that in 8 bits. An example
    (`GraphModule.example`) is one multiple higher than wide: what the stride divides in both, it divides in all.
    """
    original = Conv2dSame.forward

    def chosen(layer: Conv2dSame, x: Tensor) -> Tensor:
        around: list[int] = []
        for size, kernel, step, gap in zip(
            x.shape[-2:], layer.kernel_size, layer.stride, layer.dilation, strict=True
        ):
            if int(size) % step:
                computed: Tensor = original(layer, x)
                return computed
            total = max((kernel - 1) * gap + 1 - step, 0)
            around = [total // 2, total - total // 2, *around]  # the last axis comes first
        return functional.conv2d(
            functional.pad(x, around),
            layer.weight,
            layer.bias,
            layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
        )

    Conv2dSame.forward = chosen
    try:
        yield
    finally:
        Conv2dSame.forward = original
