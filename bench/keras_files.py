"""Runs Keras against this program over files of drawn chains of layers, both ways.

    KERAS_BACKEND=torch python bench/keras_files.py [--draws 40] [--seed 1]

Needs keras (3.15), torch (2.15), h5py and safetensors; builds the command and the example `network` itself. Of each drawn model
(Sequential or Functional; layers, directions, sizes, biases, stored form, dropout, residual sums, what is read out, Dense alone or in a
TimeDistributed, its activation):

- Keras saves it as .keras and .h5, and its weights as .weights.h5; this program reads all three: outputs are compared, each to 1e-5 of
  its largest value. Weights alone do not say activations and what is read out, so there only models without are compared;
- `lstm convert` writes it again: `load_model` takes the .keras file, `load_weights` of a new model of the same layers the
  .weights.h5 file; both compute the same.
"""

import argparse
import os
import random
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
try:
    import keras
    import numpy as np
    from keras import layers
    from safetensors.numpy import load_file, save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    raise SystemExit(0)

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-5
# Of a cell: of what is read and of the gates. Those that grow without bound stay small over a few steps of small weights.
FUNCTIONS = ["tanh", "sigmoid", "hard_sigmoid", "relu", "leaky_relu", "elu", "softplus", "softsign", "linear"]


def draw_model(rng):
    draw = draw_chain(rng)
    # Layers of one kind, so that their sizes agree, and of plain cells, which alone have sums here.
    residual = draw["functional"] and len(draw["layers"]) > 1 and rng.random() < 0.6
    if residual:
        first = draw["layers"][0]
        plain = {"units": first["units"], "both": first["both"], "functions": ("tanh", "sigmoid")}
        draw |= {"layers": [lstm | plain for lstm in draw["layers"]], "backwards": False}
    return draw | {"residual": residual}


def draw_chain(rng):
    return {
        "vocabulary": rng.choice([0, 11]),
        "input": rng.choice([1, 3, 7, 16]),
        "functional": rng.random() < 0.4,
        "mask": rng.random() < 0.2,
        "layers": [
            {
                "units": rng.choice([1, 2, 5, 8, 17, 33]),
                "both": rng.random() < 0.35,
                "bias": rng.random() < 0.85,
                "dropout": rng.choice([0.0, 0.2]),
                "functions": rng.choice([("tanh", "sigmoid")] * 5 + [(rng.choice(FUNCTIONS), rng.choice(FUNCTIONS))]),
            }
            for _ in range(rng.randint(1, 3))
        ],
        "final": rng.random() < 0.25,
        "backwards": rng.random() < 0.2,
        "dense": [
            {
                "units": rng.choice([1, 4, 11]),
                "bias": rng.random() < 0.8,
                "wrapped": rng.random() < 0.3,
                "activation": rng.choice([None, None, "relu", "tanh", "sigmoid", "softmax", "log_softmax"]),
                "apart": rng.random() < 0.2,
            }
            for _ in range(rng.choice([0, 1, 1, 2]))
        ],
        "form": rng.choice(["float32", "float32", "float32", "float16", "bfloat16", "float64", "mixed_bfloat16"]),
        "steps": rng.randint(1, 9),
        "rows": rng.randint(1, 4),
    }


def build(draw, form):
    # bfloat16 has no QR decomposition, which the default initializer takes.
    uniform = keras.initializers.RandomUniform(-0.4, 0.4)
    chain = []
    if draw["vocabulary"]:
        chain.append(
            layers.Embedding(draw["vocabulary"], draw["input"], embeddings_initializer=uniform, mask_zero=draw["mask"], dtype=form)
        )
    for index, lstm in enumerate(draw["layers"]):
        last = index + 1 == len(draw["layers"])
        final = draw["final"] and last
        one = layers.LSTM(
            lstm["units"],
            activation=lstm["functions"][0],
            recurrent_activation=lstm["functions"][1],
            use_bias=lstm["bias"],
            return_sequences=not final,
            go_backwards=final and draw["backwards"] and not lstm["both"],
            dropout=lstm["dropout"],
            kernel_initializer=uniform,
            recurrent_initializer=uniform,
            bias_initializer=uniform,
            dtype=form,
        )
        chain.append(layers.Bidirectional(one, dtype=form) if lstm["both"] else one)
        if lstm["dropout"]:
            chain.append(layers.Dropout(lstm["dropout"], dtype=form))
    for dense in draw["dense"]:
        wrapped = dense["wrapped"] and not draw["final"]
        # A TimeDistributed over one unit is the same as over more, but softmax of one value is 1.
        apart = dense["apart"] and dense["activation"] is not None
        one = layers.Dense(
            dense["units"],
            use_bias=dense["bias"],
            activation=None if apart else dense["activation"],
            kernel_initializer=uniform,
            bias_initializer=uniform,
            dtype=form,
        )
        chain.append(layers.TimeDistributed(one, dtype=form) if wrapped else one)
        if apart:
            chain.append(layers.Activation(dense["activation"], dtype=form))
    shape = (None,) if draw["vocabulary"] else (None, draw["input"])
    entrance = keras.Input(shape, dtype="int32" if draw["vocabulary"] else form.removeprefix("mixed_"))
    if not draw["functional"]:
        return keras.Sequential([entrance, *chain])
    x, number = entrance, 0
    for layer in chain:
        below, x = x, layer(x)
        if isinstance(layer, (layers.LSTM, layers.Bidirectional)):
            number += 1
            is_final = draw["final"] and number == len(draw["layers"])
            if draw["residual"] and number > 1 and not is_final:
                x = layers.Add(dtype=form)([x, below] if number % 2 else [below, x])
    return keras.Model(entrance, x)


def compare(what, got, expected, draw):
    expected = np.asarray(expected, dtype=np.float64).reshape(-1)
    got = np.asarray(got, dtype=np.float64).reshape(-1)
    assert got.shape == expected.shape, (what, got.shape, expected.shape, draw)
    apart = np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-3)
    assert apart <= TOLERANCE, f"{what}: {apart:.1e} of its largest value; {draw}"
    return apart


def values_of(model):
    return [keras.ops.convert_to_numpy(keras.ops.cast(value, "float64")) for value in model.weights]


def check(draw, folder, lstm, example):
    keras.utils.set_random_seed(draw["seed"])
    stored = build(draw, draw["form"])
    # The values that the file holds, computed with in float64.
    exact = build(draw | {"mask": False}, "float64")
    exact.set_weights(values_of(stored))
    if draw["vocabulary"]:
        x = np.random.randint(1, draw["vocabulary"], (draw["rows"], draw["steps"]))
        given = {"tokens": np.ascontiguousarray(x.T).astype(np.float32)}
    else:
        x = np.random.randn(draw["rows"], draw["steps"], draw["input"]).astype(np.float32)
        given = {"vectors": np.ascontiguousarray(x.transpose(1, 0, 2))}
    expected = keras.ops.convert_to_numpy(exact(x, training=False))
    if not draw["final"]:
        expected = expected.transpose(1, 0, 2)
    save_file(given, folder / "input.safetensors")

    def ours(path):
        subprocess.run([example, path, folder / "input.safetensors", folder / "output.safetensors"], check=True)
        return load_file(folder / "output.safetensors")["values"]

    stored.save(folder / "theirs.keras")
    apart = [compare(".keras", ours(folder / "theirs.keras"), expected, draw)]
    stored.save(folder / "theirs.h5")
    apart.append(compare(".h5", ours(folder / "theirs.h5"), expected, draw))
    functions = any(lstm["functions"] != ("tanh", "sigmoid") for lstm in draw["layers"])
    told = draw["residual"] or draw["final"] or functions or any(dense["activation"] for dense in draw["dense"])
    stored.save_weights(folder / "theirs.weights.h5")
    compared = 2
    if not told:
        run = subprocess.run([lstm, "show", folder / "theirs.weights.h5"], capture_output=True, text=True)
        # Layers whose order the sizes alone leave open are refused by name.
        if run.returncode == 0:
            apart.append(compare(".weights.h5", ours(folder / "theirs.weights.h5"), expected, draw))
            compared += 1
        else:
            assert "several orders" in run.stderr, run.stderr

    # And back.
    for name in ("ours.keras", "ours.weights.h5"):
        run = [lstm, "convert", folder / "theirs.keras", folder / name, "--force"]
        done = subprocess.run(run, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    back = keras.saving.load_model(folder / "ours.keras")
    plain = {
        "functional": draw["residual"],
        "layers": [lstm | {"bias": True, "dropout": 0.0} for lstm in draw["layers"]],
        "dense": [dense | {"wrapped": False} for dense in draw["dense"]],
    }
    again = build(draw | plain, "float32")
    again.load_weights(folder / "ours.weights.h5")
    for what, model in ((".keras", back), (".weights.h5", again)):
        got = keras.ops.convert_to_numpy(model(x, training=False))
        apart.append(compare(f"ours as {what}", got if draw["final"] else got.transpose(1, 0, 2), expected, draw))
    return max(apart), compared


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--built", help="a folder with the command and examples/network, in place of a build")
    options = parser.parse_args()
    if options.built:
        built = Path(options.built).resolve()
    else:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
        built = ROOT / "target/release"
    rng = random.Random(options.seed)
    worst, files = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for index in range(options.draws):
            draw = draw_model(rng) | {"seed": index}
            apart, compared = check(draw, Path(folder), built / "lstm", built / "examples/network")
            worst, files = max(worst, apart), files + compared
    print(
        f"{options.draws} models in {files} files of Keras {keras.__version__}, and back: at most {worst:.1e} of an output's largest "
        "value apart"
    )


main()
