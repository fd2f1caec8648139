#!/usr/bin/env bash
# Under torch.autocast("cpu", torch.bfloat16) nn.LSTM computes in bfloat16, and nn.LSTMCell with the same weights in float32: a
# model stepped by hand is silently not the one that was trained. And nn.LSTM gives its *cell state* back as bfloat16 too, the
# one value that is summed over all steps: a text read in segments is rounded to 8 bits between them, also where all weights
# are float32. It needs a processor with AVX-512: on another nn.LSTM raises (autocast-lstm-raises-without-avx512.sh).
#
# Seen with torch 2.15.0:
#   nn.LSTM: output bfloat16, h bfloat16, c bfloat16
#   nn.LSTMCell: h float32, c float32
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.15.0 numpy==2.4.6
cat >autocast.py <<'PYTHON'
import sys

import torch


def kind(value):
    return str(value.dtype).removeprefix("torch.")


torch.manual_seed(0)
x = torch.randn(5, 2, 8)
with torch.autocast("cpu", torch.bfloat16):
    output, (h, c) = torch.nn.LSTM(8, 16)(x)
    cell_h, cell_c = torch.nn.LSTMCell(8, 16)(x[0])
print(f"nn.LSTM: output {kind(output)}, h {kind(h)}, c {kind(c)}")
print(f"nn.LSTMCell: h {kind(cell_h)}, c {kind(cell_c)}")
seen = [value.dtype for value in (output, h, c)] == [torch.bfloat16] * 3
sys.exit(0 if seen and cell_h.dtype == cell_c.dtype == torch.float32 else "the behaviour has changed")
PYTHON
venv/bin/python autocast.py
