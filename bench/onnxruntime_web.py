"""A model of this program in a browser's runtime: onnxruntime-web, under Node, one token at a time.

    python bench/onnxruntime_web.py

Needs node and npm; gets the package onnxruntime-web 1.30.0 (WebAssembly) from the npm registry into a temporary folder, and says so and
stops where that is not to be had. Trains on the built-in language for some seconds, writes the model by `lstm convert`, and lets
JavaScript go on from `the`, always with the likeliest word, states carried by hand: the words are those of `lstm generate` at
temperature 0, and the logits of every step those of this program, to 1e-5 of the largest.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "onnxruntime-web@1.30.0"
TOLERANCE, WORDS = 1e-5, 24

SCRIPT = """
import * as ort from "onnxruntime-web/wasm";
import { readFileSync } from "node:fs";

const { prompt, count } = JSON.parse(process.argv[2]);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync("model.onnx"));
const names = session.inputNames.filter((name) => name !== "tokens");
const sizes = Object.fromEntries(session.inputMetadata.map((input) => [input.name, input.shape?.at(-1)]));
let states = Object.fromEntries(
  names.map((name) => [name, new ort.Tensor("float32", new Float32Array(sizes[name]), [1, 1, sizes[name]])]),
);
const [tokens, logits] = [[...prompt], []];
for (let place = 0; tokens.length < prompt.length + count; place += 1) {
  const token = new ort.Tensor("int64", BigInt64Array.from([BigInt(tokens[place])]), [1, 1]);
  const given = await session.run({ tokens: token, ...states });
  states = Object.fromEntries(names.map((name) => [name, given[`${name}_out`]]));
  const scores = Array.from(given.logits.data);
  logits.push(scores);
  if (place + 1 >= prompt.length) tokens.push(scores.indexOf(Math.max(...scores)));
}
console.log(JSON.stringify({ tokens, logits }));
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", help="a folder with the command and examples/network, in place of a build")
    options = parser.parse_args()
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            sys.exit(f"skipped: there is no {program} here")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "package.json").write_text('{"type": "module", "private": true}')
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", PACKAGE]
        if subprocess.run(npm, cwd=folder, capture_output=True).returncode:
            sys.exit(f"skipped: {PACKAGE} is not to be had from the npm registry")
        built = Path(options.built or ROOT / "target/release").resolve()
        if not options.built:
            subprocess.run(["cargo", "build", "--release", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
        lstm, example = built / "lstm", built / "examples/network"
        run, model = folder / "run", folder / "model.onnx"
        subprocess.run([lstm, "train", "--out", run, "--steps", "300"], check=True, capture_output=True)
        subprocess.run([lstm, "convert", run, model, "--for", "onnxruntime"], check=True, capture_output=True)
        # What `lstm generate` writes, by the words' places in the vocabulary.
        generate = [lstm, "generate", run, "--prompt", "the", "--temperature", "0", "--length", str(WORDS), "--json"]
        said = json.loads(subprocess.run(generate, check=True, capture_output=True, text=True).stdout)
        words = json.loads((run / "tokenizer.json").read_text())["tokens"]
        (folder / "run.mjs").write_text(SCRIPT)
        # A line begins after the end of another.
        prompt = [words.index("<eos>"), words.index("the")]
        given = json.dumps({"prompt": prompt, "count": WORDS})
        node = subprocess.run(["node", "run.mjs", given], cwd=folder, check=True, capture_output=True, text=True)
        got = json.loads(node.stdout)
        written = [words[token] for token in got["tokens"][2:]]
        assert said["text"].split() == [word for word in written if word != "<eos>"], (said["text"], written)
        tokens = np.array(got["tokens"][:-1], np.float32)[:, None]
        save_file({"tokens": tokens}, folder / "input.safetensors")
        subprocess.run([example, run, folder / "input.safetensors", folder / "output.safetensors"], check=True)
        expected = load_file(folder / "output.safetensors")["values"]
        apart = np.abs(np.array(got["logits"]).ravel() - expected).max() / np.abs(expected).max()
        assert apart <= TOLERANCE, apart
        print(f"{PACKAGE} under Node: {WORDS} words as `lstm generate` writes them (the {' '.join(written[:7])} …),")
        print(f"their logits at most {apart:.1e} of the largest from this program's")


main()
