"""8-bit graphs: ranges measured on windows of real scenes, with NNCF for OpenVINO or by ONNX Runtime for ONNX.

Convolutions and what lies between them compute in 8 bits. What follows the last convolution (upsampling of logits,
the mean of an ensemble) stays in float, as do layers that are named, the ends of the network on demand, and those that
cost most: each is tried in float on some windows, and the ones that bring the probabilities nearest to those of the
float graph are kept.
"""

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from aftermap.artefacts.card import Activation
from aftermap.artefacts.graphs.layers import LAYERS, Inputs, Judge, Node, Nodes, Run
from aftermap.config import Config
from aftermap.errors import InputError, ModelError
from aftermap.files import replacing

if TYPE_CHECKING:
    import onnx
    import openvino as ov

Sample = np.ndarray | Mapping[str, np.ndarray]
"""Input of a graph: an array for a graph of one input, or arrays by name."""

_ONNX_KINDS = ["Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Mul", "Concat", "MaxPool", "AveragePool"]
_ONNX_KINDS += ["GlobalAveragePool", "Resize", "Relu", "Clip", "Reshape", "Transpose", "Slice", "Split"]


class Quantisation(Config):
    """How a graph is brought to 8 bits.

    Attributes:
        ranges: how the range of an activation follows from what windows show: the least and largest value in
            any of them; all but the outermost values (`percentile`); or, with ONNX Runtime only, the range that loses
            the least information (`entropy`).
        percentile: share of the values inside, in percent.
        bias_correction: shift biases by what 8 bits change the means of layers: not at all (which kept our networks
            nearer to the float graph), from one pass (`fast`) or layer after layer (`full`, slow); OpenVINO only.
        symmetric: ranges of activations are symmetric about 0.
        reduced_range: weights in 7 bits, for processors without VNNI, whose sums of 8-bit products overflow; ONNX
            Runtime only (OpenVINO does it where needed).
        keep: regular expressions; layers whose name in the graph one of them is found in stay in float.
        keep_first: the first convolutions stay in float.
        keep_last: the last convolutions (the heads) stay in float; with ONNX Runtime they always do.
        keep_costliest: how many further layers stay in float, those that cost most.
        judged_on: windows by which their cost is measured.
    """

    ranges: Literal["minmax", "percentile", "entropy"] = "minmax"
    percentile: float = Field(default=99.99, gt=50, le=100)
    bias_correction: Literal["none", "fast", "full"] = "none"
    symmetric: bool = False
    reduced_range: bool = False
    keep: tuple[str, ...] = ()
    keep_first: bool = False
    keep_last: bool = False
    keep_costliest: int = Field(default=0, ge=0)
    judged_on: int = Field(default=8, ge=1)


def quantise_openvino(
    model: "ov.Model",
    samples: Iterable[Sample],
    *,
    options: Quantisation | None = None,
    activation: Activation = "softmax",
) -> "ov.Model":
    """An 8-bit copy of a model, by post-training quantisation with NNCF.

    Args:
        model: float, of one output of logits (B, K, H, W); it is left as it is.
        samples: inputs as the model takes them, of any sizes.
        options: what stays in float, and how ranges are measured.
        activation: what turns the logits into probabilities.

    Raises:
        InputError: NNCF is not installed, there are no samples, or ranges are asked for that NNCF has not.
        ModelError: the model has no layers, or none that `keep` speaks of.
    """
    options = options or Quantisation()
    if options.ranges == "entropy":
        raise InputError("ranges by entropy are measured by ONNX Runtime only: use minmax or percentile")
    nncf = _import_nncf()
    inputs = _inputs(samples, [each.get_any_name() for each in model.inputs])
    model = _fused(model)
    nodes = _nodes_of_openvino(model)
    left = _left_in_float(nodes, options)

    def quantised(ignored: Sequence[str]) -> "ov.Model":
        with _quietly():
            result: ov.Model = nncf.quantize(
                model.clone(),
                nncf.Dataset(inputs),
                subset_size=len(inputs),
                preset=nncf.QuantizationPreset("performance" if options.symmetric else "mixed"),
                fast_bias_correction=options.bias_correction != "full",
                model_type=nncf.ModelType.TRANSFORMER if nodes.attends else None,
                ignored_scope=nncf.IgnoredScope(names=list(ignored), validate=False),
                advanced_parameters=_advanced(nncf, options),
            )
        return result

    whole = quantised(left)
    if not options.keep_costliest:
        return whole
    judge = Judge(_run_openvino(model), inputs[: options.judged_on], activation=activation)
    trials = (
        (name, _run_openvino(trial))
        for name in nodes.layers
        if name not in left and (trial := _openvino_with_float(whole, name)) is not None
    )
    costly = judge.costliest(_run_openvino(whole), trials, options.keep_costliest)
    return quantised([*left, *costly]) if costly else whole


def quantise_onnx(
    source: Path,
    target: Path,
    samples: Iterable[Sample],
    *,
    options: Quantisation | None = None,
    activation: Activation = "softmax",
) -> Path:
    """Write an 8-bit copy of an ONNX file, quantised statically by ONNX Runtime.

    Activations become uint8 by tensor and weights int8 by channel, as pairs of QuantizeLinear and DequantizeLinear. All
    weights are inside the file; metadata are not carried over.

    Args:
        source: a float graph of one output of logits (B, K, H, W).
        target: the file to write, whole or not at all.
        samples: inputs as the graph takes them, of any sizes.
        options: what stays in float, and how ranges are measured.
        activation: what turns the logits into probabilities.

    Returns:
        `target`.

    Raises:
        InputError: the package onnx is not installed, or there are no samples.
        ModelError: the graph has no layers, or none that `keep` speaks of.
    """
    package = _import_onnx()
    options = options or Quantisation()
    with tempfile.TemporaryDirectory(prefix="aftermap-int8-") as name, _quietly():
        folder = Path(name)
        prepared = _prepared(source, folder)
        model = package.load(prepared)
        inputs = _inputs(samples, [each.name for each in model.graph.input])
        nodes = _nodes_of_onnx(model)
        # a layer's output is rounded with it here, and logits must not be
        left = list(dict.fromkeys([*_left_in_float(nodes, options), *nodes.last]))
        ranges = _ranges(prepared, inputs, folder, options)

        def quantised(excluded: Sequence[str]) -> "onnx.ModelProto":
            from onnxruntime.quantization import QDQQuantizer, QuantType

            quantizer = QDQQuantizer(
                package.load(prepared),
                True,  # weights by channel
                options.reduced_range,
                QuantType.QInt8,
                QuantType.QUInt8,
                ranges,
                [],
                list(excluded),
                _ONNX_KINDS,
                {"ActivationSymmetric": options.symmetric},
            )
            quantizer.quantize_model()
            return quantizer.model.model

        whole = quantised(left)
        if options.keep_costliest:
            judge = Judge(_run_onnx(model), inputs[: options.judged_on], activation=activation)
            others = [name for name in nodes.layers if name not in left]
            trials = ((name, _run_onnx(quantised([*left, name]))) for name in others)
            costly = judge.costliest(_run_onnx(whole), trials, options.keep_costliest)
            whole = quantised([*left, *costly]) if costly else whole
        with replacing(target, sync=False) as part:
            package.save_model(whole, str(part), save_as_external_data=False)
    return target


def _left_in_float(nodes: Nodes, options: Quantisation) -> list[str]:
    """Names of what is not quantised whatever it costs."""
    if not nodes.layers:
        raise ModelError(
            "the graph has no convolution and no matrix product: there is nothing to bring to 8 bits"
        )
    left = [*nodes.tail, *nodes.matching(options.keep)]
    if options.keep_first:
        left += nodes.first
    if options.keep_last:
        left += nodes.last
    return list(dict.fromkeys(left))


def _inputs(samples: Iterable[Sample], names: Sequence[str]) -> list[Inputs]:
    inputs = [s if isinstance(s, Mapping) else dict(zip(names, [s], strict=True)) for s in samples]
    if not inputs:
        raise InputError("no windows to measure 8-bit ranges on: give at least one")
    return inputs


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep progress bars off standard output, which may be a pipe, and notes of the tools off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _import_nncf() -> Any:
    """NNCF, without its messages about each use to a server."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    except ImportError:
        raise InputError("int8 for OpenVINO needs nncf: pip install 'aftermap[export]'") from None
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    return nncf


def _advanced(nncf: Any, options: Quantisation) -> Any:
    from nncf.quantization import range_estimator as ranges

    kind, outside = ranges.StatisticsType, 1 - options.percentile / 100
    whole = options.ranges == "minmax"

    def outermost(least: bool) -> Any:
        over_windows = ranges.AggregatorType.MIN if least else ranges.AggregatorType.MAX
        if whole:
            return ranges.StatisticsCollectorParameters(kind.MIN if least else kind.MAX, over_windows)
        return ranges.StatisticsCollectorParameters(
            kind.QUANTILE, over_windows, quantile_outlier_prob=outside
        )

    # NNCF's own choice, the mean of what windows reach, cuts off what few windows show: rare damage
    return nncf.AdvancedQuantizationParameters(
        disable_bias_correction=options.bias_correction == "none",
        activations_range_estimator_params=ranges.RangeEstimatorParameters(
            min=outermost(True), max=outermost(False)
        ),
    )


def _fused(model: "ov.Model") -> "ov.Model":
    """A copy with constants computed and batch normalisation inside the convolutions.

    Without it NNCF would round between a convolution and its normalisation, and would not see the biases.
    """
    from openvino._offline_transformations import apply_moc_transformations

    fused = model.clone()
    apply_moc_transformations(fused, cf=True)
    for op in fused.get_ordered_ops():
        name, readers = op.get_friendly_name(), [r.get_node() for r in op.output(0).get_target_inputs()]
        if op.get_type_name() in LAYERS and name.isidentifier() and len(readers) == 1:
            # a fused layer is called by a number that changes from run to run: name it after its bias
            op.set_friendly_name(f"{readers[0].get_friendly_name()}/{op.get_type_name()}")
    return fused


def _nodes_of_openvino(model: "ov.Model") -> Nodes:
    return Nodes(
        [
            Node(
                op.get_friendly_name(),
                op.get_type_name(),
                tuple(value.get_node().get_friendly_name() for value in op.input_values()),
            )
            for op in model.get_ordered_ops()
        ]
    )


def _run_openvino(model: "ov.Model") -> Run:
    import openvino as ov

    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: np.asarray(compiled(dict(inputs))[0])


def _openvino_with_float(model: "ov.Model", layer: str) -> "ov.Model | None":
    """A copy in which nothing rounds what a layer takes; None where nothing does so already.

    What is rounded before a concatenation, a pooling or an upsampling that leads here goes in float too.
    """
    copy = model.clone()
    waiting = [op.input(0) for op in copy.get_ordered_ops() if op.get_friendly_name() == layer]
    found = False
    while waiting:
        taken = waiting.pop()
        giver = taken.get_source_output().get_node()
        if giver.get_type_name() == "FakeQuantize":
            giver.output(0).replace(giver.input_value(0))
            found = True
        elif giver.get_type_name() not in LAYERS:
            waiting += giver.inputs()
    return copy if found else None


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise InputError("int8 for ONNX needs onnx: pip install 'aftermap[export]'") from None
    return onnx


def _prepared(source: Path, folder: Path) -> Path:
    """The graph with batch normalisation folded and shapes known, every node with a name of its own."""
    import onnx
    from onnxruntime.quantization import quant_pre_process

    prepared = folder / "prepared.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(prepared)
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)
    onnx.save_model(model, str(prepared))
    return prepared


def _ranges(prepared: Path, inputs: Sequence[Inputs], folder: Path, options: Quantisation) -> Any:
    """Ranges of all activations; one window is held at a time."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self, sample: Inputs) -> None:
            self._left = [dict(sample)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self._left.pop() if self._left else None

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    extra = {"percentile": options.percentile, "num_bins": 2048} if options.ranges == "percentile" else {}
    calibrator = create_calibrator(
        prepared,
        _ONNX_KINDS,
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=methods[options.ranges],
        extra_options={"symmetric": options.symmetric, **extra},
    )
    for sample in inputs:
        calibrator.collect_data(Reader(sample))
    return calibrator.compute_data()


def _nodes_of_onnx(model: "onnx.ModelProto") -> Nodes:
    source = {name: node.name for node in model.graph.node for name in node.output}
    return Nodes(
        [
            Node(node.name, node.op_type, tuple(source[name] for name in node.input if name in source))
            for node in model.graph.node
        ]
    )


def _run_onnx(model: "onnx.ModelProto") -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run(None, dict(inputs))[0])
