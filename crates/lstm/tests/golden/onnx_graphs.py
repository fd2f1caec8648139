"""Makes onnx/*: graphs as PyTorch's exporters write them, and the LSTM node tests of the onnx package, with what they compute.

    python crates/lstm/tests/golden/onnx_graphs.py [pytorch] [keras] [conformance] [cells]

Needs onnx (1.23), torch (2.15) with onnxscript, onnxruntime (1.32), keras (3.15), numpy and safetensors. `cells` are single operators with
other activations and clips, with what ONNX Runtime computes. NAME.onnx is the file; NAME.expected.safetensors has an input
(`tokens` [T, B] or `vectors` [T, B, I]; `lengths` [B], `h_0` and `c_0` where there are some) and of `output`, `h_n` and `c_n` what the
file gives. Graphs are without the stack traces that PyTorch's newer exporter puts into every node.
"""

import logging
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from safetensors.numpy import save_file
from torch import nn

HERE = Path(__file__).parent / "onnx"
STEPS, ROWS = 4, 2


class LanguageModel(nn.Module):
    """Names and parts of PyTorch's word_language_model example."""

    def __init__(self, vocabulary=7, size=4, hidden=5, layers=2):
        super().__init__()
        self.encoder = nn.Embedding(vocabulary, size)
        self.rnn = nn.LSTM(size, hidden, layers)
        self.decoder = nn.Linear(hidden, vocabulary)

    def forward(self, tokens, h, c):
        output, (h, c) = self.rnn(self.encoder(tokens), (h, c))
        return self.decoder(output), h, c


class Tagger(nn.Module):
    """Both directions, rows first, reads vectors; the final states of both are read where it classifies."""

    def __init__(self, classifies=False, layers=1):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, layers, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 6)
        self.classifies = classifies

    def forward(self, vectors):
        output, (h, _) = self.lstm(vectors)
        output = torch.cat([h[-2], h[-1]], 1) if self.classifies else output
        return self.head(output).log_softmax(-1)


class Packed(nn.Module):
    """Rows of different lengths."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, vectors, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(vectors, lengths)
        output, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])
        return self.head(output)


class Residual(nn.Module):
    """The second layer's and the third's input is added to what they give."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(7, 3)
        self.layers = nn.ModuleList([nn.LSTM(3, 4), nn.LSTM(4, 4), nn.LSTM(4, 4)])
        self.dropout = nn.Dropout(0.2)
        self.decoder = nn.Linear(4, 7)

    def forward(self, tokens):
        x = self.layers[0](self.encoder(tokens))[0]
        for layer in self.layers[1:]:
            x = x + self.dropout(layer(x)[0])
        return self.decoder(x)


class Lengths(nn.Module):
    """Rows of lengths that are no input."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, vectors):
        packed = nn.utils.rnn.pack_padded_sequence(vectors, torch.tensor([STEPS, 2]))
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0]


def expected(name, **arrays):
    arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    floats = {"lengths": np.uint32, "tokens": np.uint32}
    save_file({key: value.astype(floats.get(key, np.float32)) for key, value in arrays.items()}, HERE / f"{name}.expected.safetensors")


def without_traces(path):
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    path.write_bytes(model.SerializeToString(deterministic=True))


def export(name, module, inputs, axes, dynamo, external=False, **options):
    path = HERE / f"{name}.onnx"
    if dynamo:
        dims = {axis: torch.export.Dim(axis) for axis in ("steps", "rows")}
        shapes = tuple({place: dims[axis] for place, axis in own.items()} for own in axes.values())
        torch.onnx.export(
            module, inputs, path, dynamo=True, dynamic_shapes=shapes, external_data=external, verbose=False, **options
        )
    else:
        torch.onnx.export(module, inputs, path, dynamo=False, input_names=list(axes), dynamic_axes=axes)
    without_traces(path)


def pytorch():
    torch.manual_seed(1)
    tokens = torch.randint(0, 7, (STEPS, ROWS))
    h, c = torch.randn(2, ROWS, 5), torch.randn(2, ROWS, 5)
    axes = {"tokens": {0: "steps", 1: "rows"}, "h": {1: "rows"}, "c": {1: "rows"}}
    module = LanguageModel().eval()
    with torch.no_grad():
        output, h_n, c_n = module(tokens, h, c)
    for name, dynamo, options in [
        ("old", False, {}),
        ("dynamo", True, {"external": True}),
        # Weights whose gates are put in order by nodes, as those of more than 8,192 values are.
        ("unfolded", True, {"optimize": False}),
    ]:
        export(name, module, (tokens, h, c), axes, dynamo, **options)
        expected(name, tokens=tokens, h_0=h, c_0=c, output=output, h_n=h_n, c_n=c_n)
    vectors = torch.randn(ROWS, STEPS, 3)
    axes = {"vectors": {0: "rows", 1: "steps"}}
    for name, dynamo, classifies, layers in [
        ("tagger_old", False, False, 2),
        ("tagger_dynamo", True, False, 1),
        ("classifier_old", False, True, 1),
        ("classifier_dynamo", True, True, 1),
    ]:
        module = Tagger(classifies, layers).eval()
        export(name, module, (vectors,), axes, dynamo)
        with torch.no_grad():
            output = module(vectors)
        output = output if classifies else output.swapaxes(0, 1)
        expected(name, vectors=vectors.swapaxes(0, 1), output=output)
    vectors, lengths = torch.randn(STEPS, ROWS, 3), torch.tensor([STEPS, 2])
    module = Packed().eval()
    export("packed_old", module, (vectors, lengths), {"vectors": {0: "steps", 1: "rows"}, "lengths": {0: "rows"}}, False)
    with torch.no_grad():
        expected("packed_old", vectors=vectors, lengths=lengths, output=module(vectors, lengths))
    # What its exporters write and should not: an LSTM with a projection as one without, Dropout that goes on dropping.
    torch.onnx.export(nn.LSTM(3, 4, proj_size=2).eval(), (torch.randn(STEPS, ROWS, 3),), HERE / "broken_projection.onnx", dynamo=True, external_data=False, verbose=False)  # fmt: skip
    without_traces(HERE / "broken_projection.onnx")
    dropping = nn.Sequential(nn.Dropout(0.5), nn.LSTM(3, 4))
    torch.onnx.export(dropping.train(), (torch.randn(STEPS, ROWS, 3),), HERE / "broken_training.onnx", dynamo=True, external_data=False, verbose=False)  # fmt: skip
    without_traces(HERE / "broken_training.onnx")
    # Lengths that the older exporter takes from its example.
    vectors, axes = torch.randn(STEPS, ROWS, 3), {"vectors": {0: "steps"}}
    torch.onnx.export(Lengths().eval(), (vectors,), HERE / "broken_lengths.onnx", dynamo=False, input_names=["vectors"], dynamic_axes=axes)  # fmt: skip
    without_traces(HERE / "broken_lengths.onnx")
    module = Residual().eval()
    for name, dynamo in [("residual_old", False), ("residual_dynamo", True)]:
        export(name, module, (tokens,), {"tokens": {0: "steps", 1: "rows"}}, dynamo)
        with torch.no_grad():
            expected(name, tokens=tokens, output=module(tokens))


def keras():
    """What Keras writes on PyTorch of an LSTM over an open length: one time step."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.utils.set_random_seed(1)
    layers = [keras.layers.Input((None, 3)), keras.layers.LSTM(2, return_sequences=True), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model(np.zeros((ROWS, STEPS, 3), np.float32))
    model.export(HERE / "broken_keras.onnx", format="onnx", verbose=False)
    without_traces(HERE / "broken_keras.onnx")


def conformance():
    """Weights, which are inputs in the node tests, become constants; what else they read stays an input."""
    names = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    for case in collect_testcases("LSTM"):
        node = case.model.graph.node[0]
        if node.op_type != "LSTM" or "expanded" in case.name:
            continue
        (inputs, outputs), *_ = case.data_sets
        values = dict(zip([names[place] for place, name in enumerate(node.input) if name], inputs))
        layout = next((attribute.i for attribute in node.attribute if attribute.name == "layout"), 0)
        constants = [numpy_helper.from_array(value, name) for name, value in values.items() if name in ("W", "R", "B", "P")]
        graph = case.model.graph
        for given in list(graph.input):
            if given.name in ("W", "R", "B", "P"):
                graph.input.remove(given)
        graph.initializer.extend(constants)
        model = helper.make_model(graph, opset_imports=case.model.opset_import, ir_version=8)
        onnx.checker.check_model(model)
        (HERE / f"{case.name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        swap = (lambda value: value.swapaxes(0, 1)) if layout else (lambda value: value)
        arrays = {"vectors": swap(values["X"])}
        for name, ours in (("initial_h", "h_0"), ("initial_c", "c_0"), ("sequence_lens", "lengths")):
            if name in values:
                arrays[ours] = values[name] if ours == "lengths" else swap(values[name])
        given = iter(outputs)
        results = {name: next(given) for name, there in zip(("output", "h_n", "c_n"), node.output) if there}
        for name, value in results.items():
            # Y is [T, D, B, H], or [B, T, D, H].
            if name == "output":
                value = value.transpose(1, 0, 2, 3) if layout else value.transpose(0, 2, 1, 3)
            else:
                value = swap(value)
            arrays[name] = value
        expected(case.name, **arrays)


# Direction, activations, alphas, betas, and what else there is: every function of the standard, in every place of a cell.
CELLS = {
    "cell_clip": ("forward", ["Sigmoid", "Tanh", "Tanh"], [], [], {"clip": 0.4}, []),
    "cell_scaled": ("forward", ["HardSigmoid", "ScaledTanh", "Elu"], [0.3, 1.2, 0.6], [0.4, 0.7], {"clip": 0.9}, ["h", "c"]),
    "cell_both": (
        "bidirectional",
        ["Softsign", "LeakyRelu", "Softplus", "sigmoid", "Affine", "HardSigmoid"],
        [0.2, 0.8, 0.25],
        [0.1],
        {},
        ["B", "P", "lengths"],
    ),
    "cell_coupled": ("reverse", ["Sigmoid", "ThresholdedRelu", "Relu"], [0.15], [], {"input_forget": 1, "clip": 0.8}, ["B", "P"]),
    # The standard's own alphas and betas.
    "cell_defaults": ("forward", ["HardSigmoid", "Elu", "LeakyRelu"], [], [], {}, ["B", "h", "c"]),
    # An alpha for each function, where one takes some.
    "broken_alphas": ("forward", ["Sigmoid", "Tanh", "LeakyRelu"], [0.1, 0.2, 0.3], [], {}, []),
}


def cells():
    """Single operators that only a cell of the neutral form runs, by ONNX Runtime."""
    import onnxruntime

    generator = np.random.default_rng(1)
    size, hidden = 3, 2
    normal = lambda *shape: generator.standard_normal(shape).astype(np.float32)
    for name, (direction, activations, alphas, betas, attributes, more) in CELLS.items():
        directions = 2 if direction == "bidirectional" else 1
        constants = {"W": normal(directions, 4 * hidden, size), "R": normal(directions, 4 * hidden, hidden)}
        constants |= {"B": normal(directions, 8 * hidden)} if "B" in more else {}
        constants |= {"P": normal(directions, 3 * hidden)} if "P" in more else {}
        values = {"X": normal(STEPS, ROWS, size)}
        values |= {"lengths": np.array([STEPS, 2], np.int32)} if "lengths" in more else {}
        values |= {state: normal(directions, ROWS, hidden) for state in "hc" if state in more}
        names = [part if part in constants | values else "" for part in ("X", "W", "R", "B", "lengths", "h", "c", "P")]
        attributes = attributes | ({"activation_alpha": alphas} if alphas else {}) | ({"activation_beta": betas} if betas else {})
        node = helper.make_node(
            "LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=hidden, direction=direction, activations=activations, **attributes
        )
        shapes = {"X": ["steps", "rows", size], "lengths": ["rows"]}
        inputs = [
            helper.make_tensor_value_info(part, helper.np_dtype_to_tensor_dtype(value.dtype), shapes.get(part, [directions, "rows", hidden]))
            for part, value in values.items()
        ]
        outputs = [helper.make_tensor_value_info(part, 1, [None] * rank) for part, rank in (("Y", 4), ("Y_h", 3), ("Y_c", 3))]
        tensors = [numpy_helper.from_array(value, part) for part, value in constants.items()]
        graph = helper.make_graph([node], name, inputs, outputs, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        onnx.checker.check_model(model)
        (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        if name.startswith("broken"):
            continue
        runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        y, h_n, c_n = runtime.run(None, values)
        arrays = {"vectors": values["X"], "output": y.transpose(0, 2, 1, 3), "h_n": h_n, "c_n": c_n}
        arrays |= {ours: values[part] for part, ours in (("lengths", "lengths"), ("h", "h_0"), ("c", "c_0")) if part in values}
        expected(name, **arrays)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    HERE.mkdir(exist_ok=True)
    parts = {"pytorch": pytorch, "keras": keras, "conformance": conformance, "cells": cells}
    for part in sys.argv[1:] or parts:
        parts[part]()
