#!/usr/bin/env bash
# Equal tensors with equal metadata are not an equal file: safetensors writes the metadata of a file in the order of a hash map,
# drawn anew at every call, also within one process. Three keys come out in up to six orders, so a checksum of the file says
# nothing about the model. With one key the bytes are always the same, which is why it is worth keeping all metadata in one.
#
# Seen with safetensors 0.8.0, forty calls in one process:
#   1 key: 1 file, 3 keys: 6 files
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q safetensors==0.8.0 numpy==2.4.6
cat >order.py <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import save

tensors = {"weight": np.arange(3, dtype=np.float32)}
one = {save(tensors, metadata={"a": "1"}) for _ in range(40)}
three = {save(tensors, metadata={"a": "1", "b": "2", "c": "3"}) for _ in range(40)}
print(f"1 key: {len(one)} file, 3 keys: {len(three)} files")
sys.exit(0 if len(one) == 1 and len(three) > 1 else "the behaviour has changed")
PYTHON
venv/bin/python order.py
