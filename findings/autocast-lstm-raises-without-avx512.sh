#!/usr/bin/env bash
# Under torch.autocast("cpu", torch.bfloat16) nn.LSTM raises on a processor with AVX2 and without AVX-512, with and without gradients,
# while all around it goes on: a Linear layer computes in bfloat16, nn.GRU stays in float32, a packed sequence through the same LSTM
# stays in float32, and an LSTM whose weights are bfloat16 runs. oneDNN has no LSTM of bfloat16 for such a processor, and autocast
# asks for it all the same. So a script that was written on a server stops on a desktop, in the forward pass, with a sentence that
# names neither autocast nor bfloat16. torch.backends.mkldnn.flags(enabled=False) around the call leaves it in float32.
#
# ONEDNN_MAX_CPU_ISA=AVX2 makes any x86-64 processor such a one.
#
# Seen with torch 2.15.0:
#   nn.Linear: bfloat16
#   nn.GRU: float32
#   nn.LSTM: RuntimeError: could not create a primitive descriptor for the LSTM forward propagation primitive
#   nn.LSTM, packed: float32
#   nn.LSTM of bfloat16: bfloat16
#   nn.LSTM, oneDNN off: float32
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.15.0 numpy==2.4.6
cat >autocast.py <<'PYTHON'
import sys
import warnings

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

warnings.simplefilter("ignore")
torch.manual_seed(0)
x, lstm = torch.randn(5, 3, 8), nn.LSTM(8, 16)


def without_onednn(x):
    with torch.backends.mkldnn.flags(enabled=False):
        return lstm(x)[0]


calls = {
    "nn.Linear": nn.Linear(8, 16),
    "nn.GRU": lambda x: nn.GRU(8, 16)(x)[0],
    "nn.LSTM": lambda x: lstm(x)[0],
    "nn.LSTM, packed": lambda x: lstm(pack_padded_sequence(x, [5, 4, 2]))[0].data,
    "nn.LSTM of bfloat16": lambda x: nn.LSTM(8, 16).bfloat16()(x.bfloat16())[0],
    "nn.LSTM, oneDNN off": without_onednn,
}
seen = []
for name, call in calls.items():
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=name != "nn.LSTM of bfloat16"):
            said = str(call(x).dtype).removeprefix("torch.")
    except RuntimeError as error:
        said = f"RuntimeError: {str(error).split('.')[0]}"
    seen.append(said)
    print(f"{name}: {said}")
raised = "RuntimeError: could not create a primitive descriptor for the LSTM forward propagation primitive"
expected = ["bfloat16", "float32", raised, "float32", "bfloat16", "float32"]
sys.exit(0 if seen == expected else "the behaviour has changed")
PYTHON
ONEDNN_MAX_CPU_ISA=AVX2 venv/bin/python autocast.py
