#!/usr/bin/env bash
# OpenVINO 2026.4.1 with NNCF 3.4.0: behind a padding that is computed from the image's size, a convolution of a quantised graph runs in
# 32 bits, and the padding itself beside it. timm's `tf_...` encoders, and other ports from TensorFlow ("same"), pad all their
# convolutions of stride 2 so. With the same numbers as constants the padding vanishes in an 8-bit convolution, and the answers are
# equal. Nothing tells; the graph of an EfficientNet-Lite0 took 1.4 times as long. Where heights and widths are multiples of
# the stride the padding is the same for all of them, and can be constant.
#
# Seen: computed: two convolutions in u8, one in f32, a Pad in f32; constant: three in u8, no Pad; largest difference 0.0.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino==2026.4.1 nncf==3.4.0 numpy==2.4.1
"$work/venv/bin/python" - <<'PY' 2>/dev/null
import sys

import nncf
import numpy as np
import openvino as ov
from openvino import opset13 as op

rng = np.random.default_rng(0)


def graph(computed):
    image = op.parameter([-1, 8, -1, -1], np.float32, name="image")
    first = op.convolution(image, rng.normal(size=(16, 8, 1, 1)).astype(np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    x = op.relu(first)
    if computed:  # 3 - 2 + size % 2, the half of it before the image, rounded down
        size = op.gather(op.shape_of(x, output_type="i64"), np.int64([2, 3]), np.int64(0))
        total = op.add(np.int64([1, 1]), op.mod(size, np.int64([2, 2])))
        before = op.concat([np.int64([0, 0]), op.divide(total, np.int64([2, 2]))], 0)
        after = op.concat([np.int64([0, 0]), op.subtract(total, op.divide(total, np.int64([2, 2])))], 0)
    else:
        before, after = op.constant(np.int64([0, 0, 0, 0])), op.constant(np.int64([0, 0, 1, 1]))
    padded = op.pad(x, before, after, "constant", np.float32(0))
    depthwise = rng.normal(size=(16, 1, 1, 3, 3)).astype(np.float32)
    y = op.relu(op.group_convolution(padded, depthwise, [2, 2], [0, 0], [0, 0], [1, 1]))
    last = rng.normal(size=(4, 16, 1, 1)).astype(np.float32)
    return ov.Model([op.convolution(y, last, [1, 1], [0, 0], [0, 0], [1, 1])], [image], "padded")


images = [rng.normal(size=(1, 8, 64, 64)).astype(np.float32) for _ in range(8)]
seen, answers = {}, {}
for name, computed in (("computed", True), ("constant", False)):
    rng = np.random.default_rng(1)
    quantised = nncf.quantize(graph(computed), nncf.Dataset(images), subset_size=8)
    compiled = ov.Core().compile_model(quantised, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers[name] = compiled(images[:1])[0]
    told = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [(i["layerType"].value, i["runtimePrecision"].value) for i in told if "layerType" in i]
    seen[name] = sorted(kind for kind in kinds if kind[0] in {"Pad", "Convolution"})
print(seen, "largest difference", float(np.abs(answers["computed"] - answers["constant"]).max()))
expected = {
    "computed": [("Convolution", "f32"), ("Convolution", "u8"), ("Convolution", "u8"), ("Pad", "f32")],
    "constant": [("Convolution", "u8")] * 3,
}
sys.exit(0 if seen == expected else 1)
PY
