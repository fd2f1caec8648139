"""A character model of Keras through this program: trained there, measured and generated with here, and back.

    KERAS_BACKEND=torch python bench/keras_character_model.py [--text ../shared/data/tinyshakespeare/input.txt]

Needs keras (3.15), torch (2.15), h5py and numpy, and a text; says so and stops where they are not there. Embedding, two LSTMs and a Dense
over the characters of the text's first 100,000, trained for some steps. Saved as .keras and as .h5, it becomes a run with
`lstm convert --vocab`: `lstm eval` of the next 2,000 characters is Keras's perplexity to four digits, and `lstm generate --temperature 0`
writes what Keras finds likeliest character by character. Then a model that `lstm train` made of the same text goes to Keras, as .keras and
as .weights.h5, and has the same perplexity there.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
try:
    import keras
    import numpy as np
    from keras import layers
except ImportError as missing:
    print(f"skipped: {missing}")
    raise SystemExit(0)

ROOT = Path(__file__).resolve().parent.parent
SIZE, HIDDEN, STEPS, ROWS = 16, 32, 25, 16


def model_of(tokens, activation):
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(tokens, SIZE),
            layers.LSTM(HIDDEN, return_sequences=True),
            layers.Dropout(0.1),
            layers.LSTM(HIDDEN, return_sequences=True),
            layers.Dense(tokens, activation=activation),
        ]
    )


def perplexity(model, tokens, start):
    """Of one stream that begins after `start`, as this program reads it. The model gives probabilities."""
    x = np.concatenate([[start], tokens[:-1]])[None]
    shares = keras.ops.convert_to_numpy(model(x, training=False))[0].astype(np.float64)
    return float(np.exp(-np.log(shares[np.arange(len(tokens)), tokens]).mean()))


def likeliest(model, start, length):
    tokens = [start]
    for _ in range(length):
        tokens.append(int(np.argmax(keras.ops.convert_to_numpy(model(np.array([tokens]), training=False))[0, -1])))
    return tokens[1:]


def same(what, ours, theirs):
    apart = abs(ours - theirs) / theirs
    print(f"{what}: perplexity {ours:.4f} here, {theirs:.4f} there ({apart:.0e})", flush=True)
    assert f"{ours:.4g}" == f"{theirs:.4g}" or apart < 1e-5, (what, ours, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=ROOT.parent / "shared/data/tinyshakespeare/input.txt")
    parser.add_argument("--built", type=Path, help="a folder with the command, in place of a build")
    options = parser.parse_args()
    if not options.text.is_file():
        print(f"skipped: {options.text} is not there")
        return
    built = options.built
    if built is None:
        subprocess.run(["cargo", "build", "--release", "-p", "lstm-cli"], cwd=ROOT, check=True)
        built = ROOT / "target/release"
    lstm = (built / "lstm").resolve()
    text = options.text.read_text()[:102_000]
    train, test = text[:100_000], text[100_000:]
    characters = sorted(set(text))
    order = {character: number for number, character in enumerate(characters)}
    tokens = np.array([order[character] for character in train])

    def command(*arguments):
        done = subprocess.run([lstm, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    keras.utils.set_random_seed(1)
    model = model_of(len(characters), "softmax")
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    starts = np.random.randint(0, len(tokens) - STEPS - 1, 200 * ROWS)
    x = np.stack([tokens[start : start + STEPS] for start in starts])
    y = np.stack([tokens[start + 1 : start + STEPS + 1] for start in starts])
    model.fit(x, y, batch_size=ROWS, epochs=1, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "test.txt").write_text(test)
        (folder / "train.txt").write_text(train)
        vocabulary = {"version": 1, "kind": "chars", "line_markers": False, "tokens": characters}
        (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
        known = np.array([order[character] for character in test])
        expected = perplexity(model, known, order["\n"])
        for kind in ("keras", "h5"):
            model.save(folder / f"theirs.{kind}")
            run = folder / f"run_{kind}"
            command("convert", folder / f"theirs.{kind}", run, "--vocab", folder / "tokenizer.json")
            ours = json.loads(command("eval", run, folder / "test.txt", "--json"))
            assert ours["tokens"] == len(known), ours
            same(f"trained there, .{kind}", ours["perplexity"], expected)
            written = json.loads(command("generate", run, "--temperature", 0, "--length", 60, "--json"))["text"]
            theirs = "".join(characters[token] for token in likeliest(model, order["\n"], 60))
            print(f"likeliest: {written!r}")
            assert written == theirs, (written, theirs)

        run = folder / "ours"
        sizes = ["--tokenizer", "chars", "--layers", 2, "--hidden", HIDDEN, "--embedding", SIZE, "--residual=false"]
        command("train", folder / "train.txt", "--steps", 100, *sizes, "--tied=false", "--out", run)
        ours = json.loads(command("eval", run, folder / "test.txt", "--json"))["perplexity"]
        order = {token: number for number, token in enumerate(json.loads((run / "tokenizer.json").read_text())["tokens"])}
        known = np.array([order.get(character, order.get("<unk>")) for character in test])
        command("convert", run, folder / "ours.keras")
        command("convert", run, folder / "ours.weights.h5")
        loaded = keras.saving.load_model(folder / "ours.keras")
        filled = model_of(len(order), None)
        filled.load_weights(folder / "ours.weights.h5")
        for kind, model in ((".keras", loaded), (".weights.h5", filled)):
            # The readout of a language model gives logits.
            shares = keras.Sequential([model, layers.Softmax()])
            same(f"trained here, {kind}", ours, perplexity(shares, known, order["\n"]))


main()
