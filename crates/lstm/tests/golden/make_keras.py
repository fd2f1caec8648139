"""Makes keras/*: files as Keras writes them, each with what Keras computes from it.

    KERAS_BACKEND=torch python crates/lstm/tests/golden/make_keras.py

Needs keras, numpy, h5py and safetensors: once with Keras 3 (3.15 on torch 2.15), which writes the files named so, and once with
Keras 2 (tensorflow-cpu 2.15), which writes those of the older layout. NAME.EXTENSION is the file; NAME.expected.safetensors has an
input (`tokens` [T, B] or `vectors` [T, B, I]) and the `output`. Models are packed with gzip: HDF5 of few numbers is mostly zeros.
"""

import gzip
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import h5py
import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file

HERE = Path(__file__).parent / "keras"
STEPS, ROWS, VOCABULARY = 5, 2, 7
NEW = keras.__version__.startswith("3.")


def save(model, name, kinds, tokens=True):
    """Writes a model under a name, and what it computes; kinds: the endings of its files."""
    if tokens:
        x = np.random.randint(1, VOCABULARY, (ROWS, STEPS))
        given = {"tokens": np.ascontiguousarray(x.T).astype(np.int32)}
    else:
        x = np.random.randn(ROWS, STEPS, 3).astype(np.float32)
        given = {"vectors": np.ascontiguousarray(x.transpose(1, 0, 2))}
    for kind in kinds:
        weights_alone = kind.startswith("weights")
        (model.save_weights if weights_alone else model.save)(HERE / f"{name}.{kind}")
        pack(HERE / f"{name}.{kind}")
    output = np.asarray(model(x, training=False).numpy() if not NEW else keras.ops.convert_to_numpy(model(x, training=False)))
    output = output.transpose(1, 0, 2) if output.ndim == 3 else output
    save_file(given | {"output": np.ascontiguousarray(output.astype(np.float32))}, HERE / f"{name}.expected.safetensors")


def pack(path):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


def random(model):
    model.set_weights([np.random.uniform(-0.6, 0.6, value.shape) for value in model.get_weights()])
    return model


def chain():
    """Both directions, one, a linear map of every step, and one more."""
    return [
        layers.Embedding(VOCABULARY, 4, name="table"),
        layers.Dropout(0.1),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.LSTM(5, return_sequences=True, name="upper"),
        layers.TimeDistributed(layers.Dense(6, activation="relu")),
        layers.Dense(7, activation="softmax"),
    ]


def functional():
    """Two LSTMs, of which the final state is read; an activation of its own; trained, so with an optimizer's state."""
    x = entrance = keras.Input((None, 3))
    x = layers.LSTM(4, return_sequences=True)(x)
    x = layers.LSTM(4, use_bias=False)(x)
    x = layers.Dense(2)(x)
    model = keras.Model(entrance, layers.Activation("sigmoid")(x))
    model.compile("adam", "mse")
    model.fit(np.random.randn(ROWS, STEPS, 3), np.random.rand(ROWS, 2), verbose=0)
    return model


def forms():
    """A bfloat16 table, whose type HDF5 does not know, a float16 LSTM, a float32 readout."""
    uniform = keras.initializers.RandomUniform(-0.6, 0.6)
    return keras.Sequential(
        [
            keras.Input((None,)),
            layers.Embedding(VOCABULARY, 4, dtype="bfloat16", embeddings_initializer=uniform),
            layers.LSTM(3, return_sequences=True, dtype="float16", recurrent_initializer=uniform),
            layers.Dense(VOCABULARY, use_bias=False),
        ]
    )


def named_often():
    """An attribute of 3,000 texts, of which the first is long: the test makes every one that first."""
    with h5py.File(HERE / "named_often.h5", "w") as file:
        file.attrs["layer_names"] = np.array(["x" * 100_000, *["y"] * 2999], dtype=h5py.string_dtype())
    pack(HERE / "named_often.h5")


def main():
    keras.utils.set_random_seed(1)
    HERE.mkdir(exist_ok=True)
    if NEW:
        named_often()
        save(random(keras.Sequential([keras.Input((None,)), *chain()])), "chain3", ["keras", "h5"])
        save(random(functional()), "functional3", ["keras"], tokens=False)
        model = forms()
        values = [keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")) for value in model.weights]
        model.save(HERE / "forms3.keras")
        pack(HERE / "forms3.keras")
        # Computed in float32 from the values that the file holds.
        wide = keras.Sequential([keras.Input((None,)), layers.Embedding(VOCABULARY, 4), layers.LSTM(3, return_sequences=True),
                                 layers.Dense(VOCABULARY, use_bias=False)])
        wide.set_weights(values)
        save(wide, "forms3", [])
        backwards = [keras.Input((None, 3)), layers.LSTM(3, go_backwards=True)]
        save(random(keras.Sequential(backwards)), "backwards3", ["keras"], tokens=False)
        plain = [layers.Embedding(VOCABULARY, 4), layers.LSTM(3, return_sequences=True),
                 layers.Bidirectional(layers.LSTM(2, return_sequences=True)), layers.Dense(VOCABULARY)]
        save(random(keras.Sequential([keras.Input((None,)), *plain])), "weights3", ["weights.h5"])
    else:
        model = keras.Sequential(chain())
        model.build((None, None))
        save(random(model), "chain2", ["h5", "keras"])
        save(random(functional()), "functional2", ["h5"], tokens=False)
        plain = keras.Sequential([layers.Embedding(VOCABULARY, 4), layers.LSTM(3, return_sequences=True), layers.Dense(VOCABULARY)])
        plain.build((None, None))
        save(random(plain), "weights2", [])
        # Its name decides: without ".weights" Keras 2 writes its older layout.
        plain.save_weights(HERE / "weights2.h5")
        pack(HERE / "weights2.h5")


main()
