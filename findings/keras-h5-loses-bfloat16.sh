#!/usr/bin/env bash
# Keras saves a model with a bfloat16 layer as .h5 without a word and cannot load the file again: HDF5 has no bfloat16, so numpy's
# two opaque bytes (void16) are written, and nothing beside them says what they are. In .keras and .weights.h5 files Keras notes
# the type as an attribute of each array, and reads it back. So a reader of .h5 has to take two opaque bytes for bfloat16.
#
# Seen with Keras 3.15.1 on jax 0.10.2, h5py 3.16.0:
#   .weights.h5: read back, the same values; .h5: TypeError: Error interpreting argument to stage as a JAX value
# and on torch 2.15.0: ValueError: Invalid dtype: void16
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q keras==3.15.1 h5py==3.16.0 jax==0.10.2 numpy==2.4.6
cat >bfloat16.py <<'PYTHON'
import sys

import keras
import numpy as np


def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16")])


first = model()
first.save_weights("model.weights.h5")
again = model()
again.load_weights("model.weights.h5")
pairs = zip(first.get_weights(), again.get_weights())
same = all(np.array_equal(a.astype("float32"), b.astype("float32")) for a, b in pairs)
print(f".weights.h5: read back, {'the same' if same else 'other'} values", end="; ")
first.save("model.h5")
try:
    keras.saving.load_model("model.h5")
    loaded = True
    print(".h5: read back")
except (TypeError, ValueError) as error:
    loaded = False
    print(f".h5: {type(error).__name__}: {str(error).partition('. ')[0]}")
sys.exit(0 if same and not loaded else "the behaviour has changed")
PYTHON
KERAS_BACKEND=jax venv/bin/python bfloat16.py 2>errors || { cat errors >&2; exit 1; }
