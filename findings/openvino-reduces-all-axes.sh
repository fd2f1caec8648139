#!/usr/bin/env bash
# ReduceLogSumExp of operators' version 17, whose axes are an attribute, reduces all axes in OpenVINO: a [2, 3, 4] becomes one number. The
# same node of version 18, where the axes are an input, reduces the axis that is named. Neither is refused, and the onnx checker
# accepts both, so a graph that is right by the standard gives an output of another rank.
#
# Seen with openvino 2026.4.1, onnx 1.23.2:
#   version 17: [], version 18: [2,4]
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cat >axes.py <<'PYTHON'
import sys

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper


def shape(version):
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    given = {"axes": [1]} if version < 18 else {}
    node = helper.make_node("ReduceLogSumExp", ["x"] if version < 18 else ["x", "axes"], ["y"], keepdims=0, **given)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])]
    graph = helper.make_graph([node], "axes", inputs, outputs, [] if version < 18 else [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return openvino.Core().read_model(model.SerializeToString()).output(0).partial_shape.to_string()


before, after = shape(17), shape(18)
print(f"version 17: {before}, version 18: {after}")
sys.exit(0 if before == "[]" and after == "[2,4]" else "the behaviour has changed")
PYTHON
venv/bin/python axes.py
