#!/usr/bin/env bash
# Keras 3 loads no model of Keras 2 that has an LSTM, neither .h5 nor .keras: the older version wrote the argument time_major into the
# configuration of every recurrent layer, with its default, and the newer one has no such argument and refuses all that it does not know.
# A model of Dense layers alone is read from .h5, so the format is not what is in the way. The weights are there: a reader of its own
# takes them as they are (gates i, f, c, o; kernel, recurrent kernel, bias).
#
# Seen with Keras 2.15.0 (TensorFlow 2.15.1) and Keras 3.15.1 on jax 0.10.2 (and on torch 2.15.0), Python 3.11:
#   lstm.h5: ValueError: Unrecognized keyword arguments passed to LSTM: {'time_major': False}
#   lstm.keras: ValueError: Unrecognized keyword arguments passed to LSTM
#   dense.h5: loaded
# TensorFlow 2.15 has packages for Python 3.9 to 3.11.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv old
old/bin/pip install -q tensorflow-cpu==2.15.1 keras==2.15.0 numpy==1.26.4
python3 -m venv new
new/bin/pip install -q keras==3.15.1 h5py==3.16.0 jax==0.10.2 numpy==2.4.6
cat >write.py <<'PYTHON'
import keras

print(f"written by Keras {keras.__version__}")
lstm = keras.Sequential([keras.layers.LSTM(5, input_shape=(7, 3))])
lstm.save("lstm.h5")
lstm.save("lstm.keras")
keras.Sequential([keras.layers.Dense(5, input_shape=(3,))]).save("dense.h5")
PYTHON
cat >read.py <<'PYTHON'
import sys

import keras

print(f"read by Keras {keras.__version__}")
refused = {}
for name in ("lstm.h5", "lstm.keras", "dense.h5"):
    try:
        keras.saving.load_model(name, compile=False)
        refused[name] = False
        print(f"{name}: loaded")
    except ValueError as error:
        refused[name] = "time_major" in str(error)
        print(f"{name}: ValueError: {str(error).partition(':')[0]}")
sys.exit(0 if refused == {"lstm.h5": True, "lstm.keras": True, "dense.h5": False} else "the behaviour has changed")
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 old/bin/python write.py 2>errors || { cat errors >&2; exit 1; }
KERAS_BACKEND=jax new/bin/python read.py 2>errors || { cat errors >&2; exit 1; }
