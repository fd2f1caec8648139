"""Runs ONNX Runtime against this program over files of drawn networks, both ways.

    python bench/onnx_files.py [--draws 40] [--seed 1] [--part all|runs|exports|operators]

Needs onnx (1.23), onnxruntime (1.32), torch (2.15) with onnxscript, and safetensors; builds the command and the example `network`
itself. Tolerance: 1e-5 of a tensor's largest value.

- runs: `lstm train` makes models of drawn settings (every wiring, cell, readout, projection, mixture, tied or not; two steps of
  training), `lstm convert` writes them, `onnx.checker` accepts them, and ONNX Runtime's logits and final states are this
  program's; in one pass, and one token at a time with the states carried.
- exports: modules of embedding, LSTM and linear layers, written by both of PyTorch's exporters, are read here; outputs are PyTorch's.
- operators: single LSTM operators (directions, layout, initial states, peepholes, lengths with zeros, input_forget; half of them with
  activations drawn for every place of a direction's cell, a third with a clip) are read here; outputs and final states are those of the
  standard's equations in float64, and those of ONNX Runtime where it computes what the standard says.
"""

import argparse
import logging
import random
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-5
# The single operators that ONNX Runtime ran as well.
RUNTIME = []


def compare(what, got, expected, draw):
    """How far apart they are, in shares of the largest value."""
    got, expected = np.asarray(got, np.float64).ravel(), np.asarray(expected, np.float64).ravel()
    assert got.size == expected.size, (what, got.size, expected.size, draw)
    apart = np.abs(got - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-3)
    assert apart <= TOLERANCE, f"{what}: {apart:.1e} of its largest value; {draw}"
    return apart


def ours(example, model, folder, **given):
    """What this program computes: values, hidden, h_n, c_n."""
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in given.items()}, folder / "input.safetensors")
    subprocess.run([example, model, folder / "input.safetensors", folder / "output.safetensors"], check=True)
    return load_file(folder / "output.safetensors")


def session(path):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def draw_settings(rng):
    layers = rng.randint(1, 3)
    hidden = [rng.choice([2, 5, 8, 17]) for _ in range(layers)] if rng.random() < 0.3 else [rng.choice([3, 6, 16])]
    settings = ["--layers", layers, "--hidden", ",".join(map(str, hidden)), "--embedding", rng.choice([4, 6, 9])]
    wiring = rng.choice(["stacked", "stacked", "skip", "scores"]) if layers > 1 else "stacked"
    readout = "output-gate" if rng.random() < 0.2 else "hidden"
    settings += ["--wiring", wiring, "--readout", readout]
    same = len(hidden) == 1 or len(set(hidden)) < len(hidden) and hidden[0] == hidden[-1]
    residual = layers > 1 and len(hidden) == 1 and same and wiring == "stacked" and readout == "hidden" and rng.random() < 0.4
    settings += [f"--residual={'true' if residual else 'false'}"]
    if min(hidden) > 2 and rng.random() < 0.3:
        settings += ["--projection", 2]
    for flag in ("--peepholes", "--coupled", "--layer-norm"):
        if rng.random() < 0.3:
            settings += [flag]
    if rng.random() < 0.3:
        settings += ["--zoneout-cell", 0.3, "--zoneout-hidden", 0.2]
    if wiring != "scores" and rng.random() < 0.3:
        settings += ["--mogrify", rng.choice([1, 2, 5])]
    if rng.random() < 0.3:
        settings += ["--softmaxes", 3]
    if rng.random() < 0.3:
        settings += ["--tied"]
    return [str(setting) for setting in settings]


def check_run(rng, folder, lstm, example, index):
    settings = draw_settings(rng)
    text = folder / "text.txt"
    text.write_text("the cat sees a dog and the dog sees the cat\n" * 40)
    run, path = folder / "run", folder / "model.onnx"
    tiny = ["--tokenizer", "chars", "--steps", "2", "--batch", "4", "--segment", "8", "--init", "uniform(0.5)"]
    command = [lstm, "train", text, "--out", run, "--force", "--seed", str(index), *tiny, *settings]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, (said.stderr, settings)
    said = subprocess.run([lstm, "convert", run, path, "--force"], capture_output=True, text=True)
    assert said.returncode == 0, (said.stderr, settings)
    runtime = session(path)
    steps, rows = rng.randint(1, 6), rng.randint(1, 3)
    vocabulary = runtime.get_outputs()[0].shape[-1]
    tokens = np.random.default_rng(index).integers(0, vocabulary, (steps, rows))
    generator = np.random.default_rng(index)
    states = {}
    for given in runtime.get_inputs()[1:]:
        states[given.name] = generator.standard_normal((1, rows, given.shape[2])).astype(np.float32)
    join = lambda values, kind: np.concatenate([values[name].ravel() for name in sorted(values) if name.startswith(kind)])
    expected = ours(example, run, folder, tokens=tokens, h_0=join(states, "h"), c_0=join(states, "c"))
    names = [output.name for output in runtime.get_outputs()]
    got = dict(zip(names, runtime.run(None, {"tokens": tokens, **states})))
    apart = [compare("logits", got["logits"], expected["values"], settings)]
    final = {name.removesuffix("_out"): value for name, value in got.items() if name.endswith("_out")}
    apart += [compare(kind, join(final, kind), expected[f"{kind}_n"], settings) for kind in "hc"]
    for step in range(steps):
        got = dict(zip(names, runtime.run(None, {"tokens": tokens[step : step + 1], **states})))
        states = {name.removesuffix("_out"): value for name, value in got.items() if name.endswith("_out")}
        values = expected["values"].reshape(steps, rows, vocabulary)[step]
        apart.append(compare("logits, step by step", got["logits"], values, settings))
    return max(apart)


class Module(nn.Module):
    """Embedding or none, LSTM, readout or none."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        if draw["vocabulary"]:
            self.encoder = nn.Embedding(draw["vocabulary"], draw["input"])
        directions = 2 if draw["bidirectional"] else 1
        self.rnn = nn.LSTM(
            draw["input"],
            draw["hidden"],
            draw["layers"],
            bias=draw["bias"],
            bidirectional=draw["bidirectional"],
            batch_first=draw["batch_first"],
            dropout=0.3 if draw["layers"] > 1 else 0,
        )
        if draw["readout"]:
            self.decoder = nn.Linear(directions * draw["hidden"], draw["readout"], bias=draw["bias"])

    def forward(self, x, h=None, c=None):
        draw = self.draw
        x = self.encoder(x) if draw["vocabulary"] else x
        y, (h, c) = self.rnn(x, (h, c) if draw["states"] else None)
        if draw["reads"] == "last":
            y = torch.cat([h[-2], h[-1]], 1) if draw["bidirectional"] else h[-1]
        y = self.decoder(y) if draw["readout"] else y
        y = {"": lambda y: y, "softmax": lambda y: y.softmax(-1), "log": lambda y: y.log_softmax(-1)}[draw["activation"]](y)
        return (y, h, c) if draw["states"] else y


def draw_module(rng):
    readout = rng.choice([0, 4, 4])
    return {
        "layers": rng.randint(1, 3),
        "hidden": rng.choice([1, 2, 5, 33, 64]),
        "input": rng.choice([1, 3, 7, 16]),
        "bidirectional": rng.random() < 0.4,
        "bias": rng.random() < 0.8,
        "batch_first": rng.random() < 0.4,
        "vocabulary": rng.choice([0, 11]),
        "readout": readout,
        "reads": "last" if readout and rng.random() < 0.3 else "steps",
        "activation": rng.choice(["", "softmax", "log"]) if readout else "",
        "states": rng.random() < 0.4,
        "steps": rng.randint(2, 9),
        "rows": rng.randint(2, 4),
        "dynamo": rng.random() < 0.5,
        "fixed": rng.random() < 0.3,
    }


def check_export(rng, folder, lstm, example, index):
    draw = draw_module(rng)
    torch.manual_seed(index)
    module = Module(draw).eval()
    shape = (draw["rows"], draw["steps"]) if draw["batch_first"] else (draw["steps"], draw["rows"])
    x = torch.randint(0, 11, shape) if draw["vocabulary"] else torch.randn(*shape, draw["input"])
    directions = 2 if draw["bidirectional"] else 1
    of_states = (draw["layers"] * directions, draw["rows"], draw["hidden"])
    states = (torch.randn(of_states), torch.randn(of_states)) if draw["states"] else ()
    path = folder / "module.onnx"
    time, rows = (1, 0) if draw["batch_first"] else (0, 1)
    if draw["dynamo"]:
        steps, batch = torch.export.Dim("steps", min=2, max=4096), torch.export.Dim("rows", min=2, max=4096)
        shapes = ({time: steps, rows: batch}, *({1: batch} for _ in states))
        shapes = None if draw["fixed"] else shapes
        torch.onnx.export(module, (x, *states), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    else:
        axes = {"x": {time: "steps", rows: "rows"}, "h": {1: "rows"}, "c": {1: "rows"}}
        names = ["x", "h", "c"][: 1 + len(states)]
        axes = None if draw["fixed"] else {name: axes[name] for name in names}
        torch.onnx.export(module, (x, *states), path, dynamo=False, input_names=names, dynamic_axes=axes)
    with torch.no_grad():
        expected = module(x, *states)
    expected = expected if draw["states"] else (expected,)
    given = {"tokens" if draw["vocabulary"] else "vectors": x.swapaxes(0, 1) if draw["batch_first"] else x}
    given |= {"h_0": states[0], "c_0": states[1]} if states else {}
    got = ours(example, path, folder, **{name: value.numpy() for name, value in given.items()})
    values = expected[0].swapaxes(0, 1) if draw["batch_first"] and draw["reads"] == "steps" else expected[0]
    apart = [compare("values", got["values"], values, draw)]
    if states:
        apart += [compare("h_n", got["h_n"], expected[1], draw), compare("c_n", got["c_n"], expected[2], draw)]
    # And to PyTorch and ONNX again.
    said = subprocess.run([lstm, "convert", path, folder / "back.onnx", "--force"], capture_output=True, text=True)
    assert said.returncode == 0, (said.stderr, draw)
    session(folder / "back.onnx")
    again = ours(example, folder / "back.onnx", folder, **{name: value.numpy() for name, value in given.items()})
    assert np.array_equal(again["values"], got["values"]), draw
    return max(apart)


# The standard's functions, with how many of alpha and beta each takes.
FUNCTIONS = {
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 0),
    "Tanh": (np.tanh, 0),
    "Relu": (lambda x: np.maximum(x, 0), 0),
    "Softsign": (lambda x: x / (1 + np.abs(x)), 0),
    "Softplus": (lambda x: np.log1p(np.exp(x)), 0),
    "LeakyRelu": (lambda x, alpha: np.where(x >= 0, x, alpha * x), 1),
    "ThresholdedRelu": (lambda x, alpha: np.where(x >= alpha, x, 0), 1),
    "Elu": (lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(x)), 1),
    "Affine": (lambda x, alpha, beta: alpha * x + beta, 2),
    "ScaledTanh": (lambda x, alpha, beta: alpha * np.tanh(beta * x), 2),
    "HardSigmoid": (lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), 2),
}
# Alpha and beta of the standard; ScaledTanh has none.
DEFAULTS = {"LeakyRelu": [0.01], "ThresholdedRelu": [1], "Elu": [1], "Affine": [1, 0], "HardSigmoid": [0.2, 0.5]}
# Those for which ONNX Runtime takes 0 where the file has none.
ZERO = {"ThresholdedRelu", "Affine"}


def draw_functions(rng, directions):
    """Three names for each direction, the functions, and the attributes that say them."""
    names = [rng.choice(list(FUNCTIONS)) for _ in range(3 * directions)]
    takes = [FUNCTIONS[name][1] for name in names]
    is_default = rng.random() < 0.3 and "ScaledTanh" not in names
    numbers = [[round(rng.uniform(0.1, 0.9), 3) for _ in range(count)] for count in takes]
    if is_default:
        numbers = [DEFAULTS.get(name, []) for name in names]
    attributes = {"activations": names}
    for place, key in enumerate(("activation_alpha", "activation_beta")):
        values = [float(np.float32(own[place])) for own in numbers if len(own) > place]
        attributes |= {key: values} if values and not is_default else {}
    bound = lambda name, own: lambda x: FUNCTIONS[name][0](x, *(float(np.float32(value)) for value in own))
    functions = [bound(name, own) for name, own in zip(names, numbers)]
    is_other = is_default and not ZERO.isdisjoint(names)
    return [functions[place : place + 3] for place in range(0, len(names), 3)], attributes, is_other


def run_operator(x, lengths, w, r, b, p, h, c, direction, input_forget, functions, clip):
    """The standard's equations: x [T, B, I]; gives [T, D, B, H] and the final states, for lengths those of the last real step."""
    steps, rows, _ = x.shape
    directions, hidden = w.shape[0], r.shape[2]
    y = np.zeros((steps, directions, rows, hidden))
    h, c = h.copy(), c.copy()
    cut = (lambda sums: np.clip(sums, -clip, clip)) if clip else (lambda sums: sums)
    for number in range(directions):
        backward = direction == "reverse" or number == 1
        gate, candidate, shown = functions[number]
        for row in range(rows):
            order = range(lengths[row])
            for step in reversed(order) if backward else order:
                sums = w[number] @ x[step, row] + r[number] @ h[number, row] + b[number].reshape(2, -1).sum(0)
                i, o, f, g = np.split(sums, 4)
                p_i, p_o, p_f = np.split(p[number], 3)
                i = gate(cut(i + p_i * c[number, row]))
                f = 1 - i if input_forget else gate(cut(f + p_f * c[number, row]))
                c[number, row] = f * c[number, row] + i * candidate(cut(g))
                h[number, row] = gate(cut(o + p_o * c[number, row])) * shown(c[number, row])
                y[step, number, row] = h[number, row]
    return y, h, c


def check_operator(rng, folder, lstm, example, index):
    draw = {
        "direction": rng.choice(["forward", "reverse", "bidirectional"]),
        "layout": rng.choice([0, 1]),
        "peepholes": rng.random() < 0.4,
        "bias": rng.random() < 0.7,
        "states": rng.choice(["none", "input", "constant"]),
        "lengths": rng.random() < 0.4,
        "input_forget": rng.random() < 0.3,
        "form": rng.choice([np.float32, np.float32, np.float16, np.float64]),
        "steps": rng.randint(1, 6),
        "rows": rng.randint(1, 4),
        "hidden": rng.choice([1, 2, 5, 17]),
        "input": rng.choice([1, 3, 8]),
        "clip": round(rng.uniform(0.1, 1.5), 3) if rng.random() < 0.35 else None,
        "functions": rng.random() < 0.5,
    }
    steps, rows, hidden, size = (draw[name] for name in ("steps", "rows", "hidden", "input"))
    directions = 2 if draw["direction"] == "bidirectional" else 1
    functions, attributes, is_other = [[FUNCTIONS[name][0] for name in ("Sigmoid", "Tanh", "Tanh")]] * directions, {}, False
    if draw["functions"]:
        functions, attributes, is_other = draw_functions(rng, directions)
    draw |= attributes
    # What has no bound would grow without one.
    scale = 0.5 / np.sqrt(hidden + size) if draw["functions"] else 1
    generator = np.random.default_rng(index)
    normal = lambda *shape: (scale * generator.standard_normal(shape)).astype(draw["form"])
    w, r = normal(directions, 4 * hidden, size), normal(directions, 4 * hidden, hidden)
    b, p = normal(directions, 8 * hidden), normal(directions, 3 * hidden)
    h, c = normal(directions, 1, hidden).repeat(rows, 1), normal(directions, 1, hidden).repeat(rows, 1)
    if draw["states"] == "input":
        h, c = normal(directions, rows, hidden), normal(directions, rows, hidden)
    x = generator.standard_normal((steps, rows, size)).astype(np.float32)
    lengths = generator.integers(0, steps + 1, rows) if draw["lengths"] else np.full(rows, steps)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(draw["form"]))
    constants = {"W": w, "R": r} | ({"B": b} if draw["bias"] else {}) | ({"P": p} if draw["peepholes"] else {})
    swap = (lambda values: values.swapaxes(0, 1)) if draw["layout"] else lambda values: values
    if draw["states"] == "constant":
        constants |= {"h": swap(h), "c": swap(c)}
    shape = ["rows", "steps", size] if draw["layout"] else ["steps", "rows", size]
    inputs = [helper.make_tensor_value_info("X", kind, shape)]
    if draw["lengths"]:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["rows"]))
    if draw["states"] == "input":
        of_state = ["rows", directions, hidden] if draw["layout"] else [directions, "rows", hidden]
        inputs += [helper.make_tensor_value_info(name, kind, of_state) for name in "hc"]
    there = {value.name for value in inputs} | set(constants)
    names = [name if name in there else "" for name in ("X", "W", "R", "B", "lengths", "h", "c", "P")]
    outputs = [
        helper.make_tensor_value_info(name, kind, [None] * rank) for name, rank in (("Y", 4), ("Y_h", 3), ("Y_c", 3))
    ]
    attributes |= {"input_forget": 1} if draw["input_forget"] else {}
    clip = float(np.float32(draw["clip"])) if draw["clip"] else None
    attributes |= {"clip": clip} if clip else {}
    node = helper.make_node(
        "LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=hidden, direction=draw["direction"], layout=draw["layout"], **attributes
    )
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph([node], "operator", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "operator.onnx")
    given = {"vectors": x} | ({"lengths": lengths} if draw["lengths"] else {})
    given |= {"h_0": h, "c_0": c} if draw["states"] == "input" else {}
    got = ours(example, folder / "operator.onnx", folder, **given)
    wide = lambda values: values.astype(np.float64)
    none = lambda values, use: wide(values) if use else np.zeros(values.shape)
    y, h_n, c_n = run_operator(
        wide(x), lengths, wide(w), wide(r), none(b, draw["bias"]), none(p, draw["peepholes"]),
        none(h, draw["states"] != "none"), none(c, draw["states"] != "none"), draw["direction"], draw["input_forget"],
        functions, clip,
    )  # fmt: skip
    apart = [
        compare("Y", got["values"], y.transpose(0, 2, 1, 3), draw),
        compare("Y_h", got["h_n"], h_n, draw),
        compare("Y_c", got["c_n"], c_n, draw),
    ]
    # It refuses layout 1, has no LSTM of float16, and final states of zeros for rows without steps.
    if draw["layout"] == 0 and draw["form"] == np.float32 and lengths.min() > 0 and not is_other:
        inputs = {"X": x} | ({"lengths": lengths.astype(np.int32)} if draw["lengths"] else {})
        inputs |= {"h": h, "c": c} if draw["states"] == "input" else {}
        theirs = session(folder / "operator.onnx").run(None, inputs)
        names = ("Y", "Y_h", "Y_c")
        ours_in_theirs = (got["values"].reshape(steps, rows, directions, hidden).swapaxes(1, 2), got["h_n"], got["c_n"])
        apart += [compare(f"ONNX Runtime's {name}", *both, draw) for name, *both in zip(names, theirs, ours_in_theirs)]
        RUNTIME.append(index)
    return max(apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", default="all", choices=["all", "runs", "exports", "operators"])
    parser.add_argument("--built", help="a folder with the command and examples/network, in place of a build")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    built = Path(options.built or ROOT / "target/release").resolve()
    if not options.built:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
    lstm, example = built / "lstm", built / "examples/network"
    checks = {
        "runs": (check_run, "runs of this program in ONNX Runtime"),
        "exports": (check_export, "modules that PyTorch exported, here"),
        "operators": (check_operator, "single operators, here"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for part, (check, what) in checks.items():
            if options.part in ("all", part):
                rng = random.Random(options.seed)
                worst = max(check(rng, Path(folder), lstm, example, index) for index in range(options.draws))
                runtime = f" ({len(RUNTIME)} of them in ONNX Runtime, too)" if part == "operators" else ""
                print(f"{options.draws} {what}{runtime}: at most {worst:.1e} of a tensor's largest value apart", flush=True)


main()
