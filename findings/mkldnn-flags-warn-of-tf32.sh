#!/usr/bin/env bash
# `with torch.backends.mkldnn.flags(enabled=False)` on a CPU sets, besides what it was asked to set, whether TF32 is allowed on
# Intel's GPUs, to what it was, and warns that this torch does not support them: a program that turns oneDNN off to compare two
# implementations of nn.LSTM tells its users of hardware that nobody mentioned.
#
# Seen with torch 2.15.0:
#   warned: TF32 acceleration on top of oneDNN is available for Intel GPUs. The current Torch version does not have Intel GPU Support.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.15.0 numpy==2.4.6
cat >flags.py <<'PYTHON'
import sys
import warnings

import torch

print(f"torch {torch.__version__}")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    with torch.backends.mkldnn.flags(enabled=False):
        torch.nn.LSTM(3, 4)(torch.randn(5, 2, 3))
said = [str(warning.message) for warning in said]
for sentence in said:
    print(f"warned: {sentence.split(' (Triggered')[0]}")
sys.exit(0 if any("TF32" in sentence for sentence in said) else "the behaviour has changed")
PYTHON
venv/bin/python flags.py
