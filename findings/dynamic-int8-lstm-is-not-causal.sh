#!/usr/bin/env bash
# An LSTM quantised dynamically to int8 is no longer causal: what it puts out at step 0 changes with the input of step 10,
# and a row of the batch changes with the other rows. The weights are int8 once and for all, but the input's scale is taken
# of the whole array [T, B, I] that one call hands over, so one loud value coarsens every step and every row before it.
# In f32 both networks are causal and their rows independent.
# A perplexity measured so has seen the text's future, and differs from what the same model gives one token at a time.
#
# Seen with torch 2.15.0 (torch.ao.quantization.quantize_dynamic) and onnxruntime 1.32.0 (DynamicQuantizeLSTM):
#   torch 2.15.0: earlier outputs changed by 0.14, the other rows' loudness by 0.18; f32: 0.0, 0.0
#   onnxruntime 1.32.0: earlier outputs changed by 0.07, the other rows' loudness by 0.07; f32: 0.0, 0.0
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.15.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat >causal.py <<'PYTHON'
import logging
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
STEPS, BATCH, INPUT, HIDDEN = 20, 4, 32, 64
rng = np.random.default_rng(0)
calm = rng.standard_normal((STEPS, BATCH, INPUT)).astype(np.float32)
loud_later = calm.copy()
loud_later[10:] *= 20
loud_beside = calm.copy()
loud_beside[:, 1:] *= 20


def changes(run):
    """What loud input of later steps changes in earlier ones, and that of other rows in row 0."""
    at_rest = run(calm)
    return (float(np.abs(at_rest[:10] - run(loud_later)[:10]).max()),
            float(np.abs(at_rest[:, 0] - run(loud_beside)[:, 0]).max()))


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(INPUT, HIDDEN)

    def forward(self, x):
        return self.lstm(x)[0]


torch.manual_seed(0)
network = Network().eval()
quantised = torch.ao.quantization.quantize_dynamic(network, {torch.nn.LSTM}, dtype=torch.qint8)


def in_torch(module):
    return lambda x: module(torch.from_numpy(x)).detach().numpy()


gates = [rng.uniform(-0.125, 0.125, (1, 4 * HIDDEN, size)).astype(np.float32) for size in (INPUT, HIDDEN)]
graph = helper.make_graph(
    [helper.make_node("LSTM", ["X", "W", "R"], ["Y"], hidden_size=HIDDEN)], "lstm",
    [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", INPUT])],
    [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 1, "B", HIDDEN])],
    [numpy_helper.from_array(values, name) for values, name in zip(gates, "WR")])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "f32.onnx")
quantize_dynamic("f32.onnx", "int8.onnx", weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM"])


def in_onnxruntime(path):
    session = onnxruntime.InferenceSession(path)
    return lambda x: session.run(None, {"X": x})[0][:, 0]


same = True
for name, f32, int8 in [(f"torch {torch.__version__.split('+')[0]}", in_torch(network), in_torch(quantised)),
                        (f"onnxruntime {onnxruntime.__version__}", in_onnxruntime("f32.onnx"), in_onnxruntime("int8.onnx"))]:
    (later, beside), exact = changes(int8), changes(f32)
    print(f"{name}: earlier outputs changed by {later:.2f}, the other rows' loudness by {beside:.2f}; f32: {exact[0]}, {exact[1]}")
    same &= later > 0.01 and beside > 0.01 and exact == (0.0, 0.0)
sys.exit(0 if same else "the behaviour has changed")
PYTHON
venv/bin/python causal.py
