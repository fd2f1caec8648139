"""Runs the graphs that this program writes in other programs, and shows which of them compute what it does.

    python bench/onnx_peers.py [--without tract,rten,openvino]

Needs onnx, onnxruntime and safetensors; openvino, and cargo for tract and rten, which are built in a temporary folder from the package
registry. One model of each kind is trained for two steps, written by `lstm convert`, and run with states from outside, two rows and
four steps. Prints a table, for docs/formats.md: `yes`, how far apart (`wrong`), or that it is refused (`no`), with the first line why.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
STEPS, ROWS, TOLERANCE = 4, 2, 1e-4

KINDS = {
    "plain, two layers": [],
    "tied": ["--tied"],
    "residual": ["--residual"],
    "peepholes": ["--peepholes"],
    "coupled gates": ["--coupled"],
    "wiring skip": ["--wiring", "skip"],
    "wiring scores": ["--wiring", "scores"],
    "projection": ["--projection", "3"],
    "readout output-gate": ["--readout", "output-gate"],
    "layer normalisation": ["--layer-norm"],
    "a mogrifier": ["--mogrify", "5"],
    "zoneout": ["--zoneout", "0.2"],
    "mixture of softmaxes": ["--softmaxes", "3"],
}
# Networks of the tests that are no language models.
OTHERS = {
    "both directions": "tagger_old.onnx",
    "from the end": "test_lstm_reverse.onnx",
    "clip": "cell_clip.onnx",
    "other activations": "cell_defaults.onnx",
}

RTEN = """
use rten::{Model, Value};
use rten_tensor::prelude::*;
use rten_tensor::Tensor;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&arguments[2]).unwrap();
    let model = Model::load_file(&arguments[1]).unwrap();
    let mut inputs = vec![];
    for (line, id) in text.lines().zip(model.input_ids().to_vec()) {
        let mut words = line.split_whitespace();
        let (kind, rank) = (words.next().unwrap(), words.next().unwrap().parse::<usize>().unwrap());
        let shape: Vec<usize> = (0..rank).map(|_| words.next().unwrap().parse().unwrap()).collect();
        let value: Value = match kind {
            "f" => Tensor::<f32>::from_data(&shape[..], words.map(|x| x.parse().unwrap()).collect::<Vec<f32>>()).into(),
            _ => Tensor::<i32>::from_data(&shape[..], words.map(|x| x.parse().unwrap()).collect::<Vec<i32>>()).into(),
        };
        inputs.push((id, value.into()));
    }
    for output in model.run(inputs, model.output_ids(), None).unwrap() {
        let output: Tensor<f32> = output.try_into().unwrap();
        println!("{}", output.iter().map(|x| format!("{x:e}")).collect::<Vec<_>>().join(" "));
    }
}
"""

TRACT = """
use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let mut inputs: TVec<TValue> = tvec!();
    for line in std::fs::read_to_string(&arguments[2])?.lines() {
        let mut words = line.split_whitespace();
        let (kind, rank) = (words.next().unwrap(), words.next().unwrap().parse::<usize>()?);
        let shape: Vec<usize> = (0..rank).map(|_| words.next().unwrap().parse().unwrap()).collect();
        inputs.push(match kind {
            "f" => Tensor::from_shape(&shape, &words.map(|x| x.parse().unwrap()).collect::<Vec<f32>>())?.into(),
            _ => Tensor::from_shape(&shape, &words.map(|x| x.parse().unwrap()).collect::<Vec<i64>>())?.into(),
        });
    }
    let model = tract_onnx::onnx().model_for_path(&arguments[1])?.into_optimized()?.into_runnable()?;
    for output in model.run(inputs)?.iter() {
        let output = output.clone().into_tensor();
        let values = output.to_plain_array_view::<f32>()?;
        println!("{}", values.iter().map(|x| format!("{x:e}")).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}
"""

PROGRAMS = {
    "rten": ('rten = "=0.27.0"\nrten-tensor = "=0.27.0"', RTEN),
    "tract": ('tract-onnx = "=0.23.8"', TRACT),
}


def program_of(name, folder):
    """The program that runs a graph in a Rust library."""
    dependencies, source = PROGRAMS[name]
    (folder / name / "src").mkdir(parents=True)
    manifest = f'[package]\nname = "peer"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n{dependencies}\n[workspace]\n'
    (folder / name / "Cargo.toml").write_text(manifest)
    (folder / name / "src/main.rs").write_text(source)
    subprocess.run(["cargo", "build", "--quiet"], cwd=folder / name, check=True)
    return folder / name / "target/debug/peer"


def in_rust(program, path, given, folder):
    lines = []
    for value in given.values():
        kind = "f" if value.dtype == np.float32 else "i"
        lines.append(" ".join(map(str, [kind, value.ndim, *value.shape, *value.ravel()])))
    (folder / "given.txt").write_text("\n".join(lines))
    said = subprocess.run([program, path, folder / "given.txt"], capture_output=True, text=True)
    if said.returncode:
        raise RuntimeError(said.stderr.strip())
    return [np.array(line.split(), np.float64) for line in said.stdout.splitlines()]


def in_onnxruntime(path, given, _):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]).run(None, given)


def in_openvino(path, given, _):
    import openvino

    core = openvino.Core()
    # It computes in bf16 where the processor can, unless told otherwise.
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = model(given)
    return [results[index] for index in range(len(model.outputs))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", default="")
    parser.add_argument("--lstm", help="a folder with the command and examples/network, in place of a build")
    parser.add_argument("--built", default="", help="NAME=PROGRAM,…: peers that are built already")
    options = parser.parse_args()
    built = Path(options.lstm or ROOT / "target/release").resolve()
    if not options.lstm:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
    lstm, example = built / "lstm", built / "examples/network"
    without = options.without.split(",")
    there = dict(pair.split("=") for pair in options.built.split(",") if pair)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        peers = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}
        for name in PROGRAMS:
            if name not in without:
                program = there.get(name) or program_of(name, folder)
                peers[name] = lambda path, given, folder, program=program: in_rust(program, path, given, folder)
        peers = {name: run for name, run in peers.items() if name not in without}
        text = folder / "text.txt"
        text.write_text("the cat sees a dog and the dog sees the cat\n" * 40)
        print("| |", " | ".join(peers), "|")
        reasons = []
        for kind, choices in [*KINDS.items(), *OTHERS.items()]:
            path = folder / "model.onnx"
            source = folder / "run"
            if kind in OTHERS:
                source = ROOT / "crates/lstm/tests/golden/onnx" / choices
            else:
                tiny = "--tokenizer chars --steps 2 --batch 4 --segment 8 --init uniform(0.5) --layers 2 --hidden 6 --embedding 5"
                choices = choices if "--residual" in choices else [*choices, "--residual=false"]
                command = [lstm, "train", text, "--out", source, "--force", *tiny.split(), *choices]
                subprocess.run(command, check=True, capture_output=True)
            subprocess.run([lstm, "convert", source, path, "--force"], check=True, capture_output=True)
            generator = np.random.default_rng(1)
            given = {}
            for value in onnx.load(path).graph.input:
                sizes = {"time": STEPS, "batch": ROWS}
                shape = [sizes.get(dim.dim_param, dim.dim_value) for dim in value.type.tensor_type.shape.dim]
                is_tokens = value.type.tensor_type.elem_type == onnx.TensorProto.INT64
                draw = generator.integers(0, 7, shape) if is_tokens else generator.standard_normal(shape).astype(np.float32)
                given[value.name] = draw
            first = next(iter(given.values()))
            states = {f"{k}_0": np.concatenate([v.ravel() for n, v in given.items() if n[0] == k and n[1].isdigit()]) for k in "hc"}
            own = {"tokens" if first.dtype == np.int64 else "vectors": first.astype(np.float32), **states}
            save_file(own, folder / "input.safetensors")
            subprocess.run([example, source, folder / "input.safetensors", folder / "output.safetensors"], check=True)
            expected = load_file(folder / "output.safetensors")["values"]
            cells = []
            for name, run in peers.items():
                try:
                    got = np.asarray(run(path, given, folder)[0], np.float64).ravel()
                    apart = np.abs(got - expected).max() / np.abs(expected).max() if got.size == expected.size else np.inf
                    cells.append("yes" if apart <= TOLERANCE else f"wrong ({apart:.1g})")
                except Exception as error:
                    cells.append("no")
                    reasons.append(f"{kind}, {name}: {' '.join(str(error).split())[:300]}")
            print("|", kind, "|", " | ".join(cells), "|", flush=True)
        print("\n".join(["", *reasons]))


main()
