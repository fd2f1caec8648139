#!/usr/bin/env bash
# A module with a parametrization can be copied: torch.nn.utils.parametrize brings a deepcopy of its own. A parametrized nn.Linear
# can; a parametrized nn.LSTM cannot, since it keeps the weight that was computed in a list beside (`_flat_weights`). So
# nothing that copies a model takes it, torch.optim.swa_utils.AveragedModel among them. Under torch.no_grad(), that is when
# the list was last filled without a gradient, it can.
#
# Seen with torch 2.15.0:
#   nn.Linear: copied
#   nn.LSTM: RuntimeError: Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol
#   nn.LSTM after a pass under no_grad: copied
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.15.0 numpy==2.4.6
cat >copied.py <<'PYTHON'
import copy
import sys

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def copied(module):
    try:
        copy.deepcopy(module)
        return "copied"
    except RuntimeError as error:
        return f"RuntimeError: {str(error).split(' at the moment')[0]}"


linear = copied(weight_norm(nn.Linear(3, 4)))
lstm = weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
x = torch.randn(5, 2, 3)
lstm(x)
with_gradient = copied(lstm)
with torch.no_grad():
    lstm(x)
without = copied(lstm)
print(f"nn.Linear: {linear}")
print(f"nn.LSTM: {with_gradient}")
print(f"nn.LSTM after a pass under no_grad: {without}")
seen = linear == without == "copied" and with_gradient.startswith("RuntimeError: Only Tensors created explicitly")
sys.exit(0 if seen else "the behaviour has changed")
PYTHON
venv/bin/python copied.py
