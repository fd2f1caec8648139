#!/usr/bin/env bash
# An ONNX LSTM with peepholes (input P) is read without a word and computed as if P were not there: the outputs are those of the same
# LSTM with P all zeros. A reader would expect an error, as for other inputs that are not supported, or the operator's equations,
# which ONNX Runtime computes.
#
# Seen with openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0:
#   OpenVINO with P against without: 0; ONNX Runtime: 0.1; OpenVINO against ONNX Runtime without P: 6e-08
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat >peepholes.py <<'PYTHON'
import sys

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

generator = np.random.default_rng(1)
size, hidden, steps, rows = 3, 4, 5, 2
normal = lambda *shape: generator.standard_normal(shape).astype(np.float32)
w, r, b, p = normal(1, 4 * hidden, size), normal(1, 4 * hidden, hidden), normal(1, 8 * hidden), normal(1, 3 * hidden)
x = normal(steps, rows, size)


def model(peepholes):
    tensors = [numpy_helper.from_array(v, n) for n, v in (("W", w), ("R", r), ("B", b), ("P", peepholes))]
    node = helper.make_node("LSTM", ["X", "W", "R", "B", "", "", "", "P"], ["Y"], hidden_size=hidden)
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [steps, rows, size])]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [steps, 1, rows, hidden])]
    graph = helper.make_graph([node], "peepholes", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def in_openvino(bytes):
    core = openvino.Core()
    return core.compile_model(core.read_model(bytes), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"X": x})[0]


def in_onnxruntime(bytes):
    return onnxruntime.InferenceSession(bytes, providers=["CPUExecutionProvider"]).run(None, {"X": x})[0]


apart = lambda a, b: float(np.abs(a - b).max())
own, other = (apart(run(model(p)), run(model(0 * p))) for run in (in_openvino, in_onnxruntime))
both = apart(in_openvino(model(0 * p)), in_onnxruntime(model(0 * p)))
print(f"OpenVINO with P against without: {own:.0g}; ONNX Runtime: {other:.1g}; OpenVINO against ONNX Runtime without P: {both:.0g}")
sys.exit(0 if own == 0 and other > 0.01 and both < 1e-5 else "the behaviour has changed")
PYTHON
venv/bin/python peepholes.py
