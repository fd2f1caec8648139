"""ONNX Runtime's LSTM on whole segments and on one token at a time, timed as `lstm bench` times ours.

The graphs are made node by node. Inputs, outputs and states lie in buffers that are bound once, so that no pass copies
or allocates for them.
"""

import tempfile

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

import measuring


def onnx_gates(values):
    """Blocks of gates along the first axis, from our order i f g o to ONNX's i o f c."""
    i, f, g, o = np.split(values, 4)
    return np.concatenate([i, o, f, g])


class Graph:
    def __init__(self):
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def input(self, name, shape, kind=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name, shape):
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def node(self, kind, inputs, outputs, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def lstm(self, args, weights, x, carried):
        """The layers over `x` [T, B, I]; with `carried`, states go in as h0, c0, … and come out as h0_out, …"""
        axes = self.constant("direction_axis", np.array([1], dtype=np.int64))
        for layer, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(weights.layers(args)):
            bias = np.concatenate([onnx_gates(bias_ih), onnx_gates(bias_hh)])
            inputs = [
                x,
                self.constant(f"w{layer}", onnx_gates(weight_ih)[None]),
                self.constant(f"r{layer}", onnx_gates(weight_hh)[None]),
                self.constant(f"b{layer}", bias[None]),
            ]
            outputs = [f"y{layer}"]
            if carried:
                shape = [1, args.batch, args.hidden]
                inputs += ["", self.input(f"h{layer}", shape), self.input(f"c{layer}", shape)]
                outputs += [self.output(f"h{layer}_out", shape), self.output(f"c{layer}_out", shape)]
            self.node("LSTM", inputs, outputs, hidden_size=args.hidden)
            x = self.node("Squeeze", [f"y{layer}", axes], [f"x{layer + 1}"])
        return x

    def session(self, threads, weights="f32"):
        graph = helper.make_graph(self.nodes, "lstm", self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        if weights == "int8":
            # Its dynamic quantization, as its documentation has it; scales of each row where it can.
            with tempfile.TemporaryDirectory() as folder:
                path = f"{folder}/model.onnx"
                quantize_dynamic(model, path, weight_type=QuantType.QInt8, per_channel=True)
                return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def norm(values):
    return float(np.sqrt(np.square(values.astype(np.float64)).sum()))


def segments(args):
    """The layers over a segment, forward: the part `forward` of `lstm bench layer`."""
    graph = Graph()
    x = graph.input("x0", [args.segment, args.batch, args.embedding])
    last = graph.lstm(args, measuring.Weights(args.hidden), x, carried=False)
    graph.output(last, [args.segment, args.batch, args.hidden])
    session = graph.session(args.threads)
    binding = session.io_binding()
    values = measuring.numbered(measuring.INPUT, (args.segment, args.batch, args.embedding))
    output = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((args.segment, args.batch, args.hidden), np.float32))
    binding.bind_ortvalue_input(x, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    binding.bind_ortvalue_output(last, output)
    for _ in range(measuring.WARM_UP):
        session.run_with_iobinding(binding)
    forward = measuring.timed(args, args.segment * args.batch, lambda: session.run_with_iobinding(binding))
    return {"forward": forward, "output_norm": norm(output.numpy())}


def one_token(args, graph, source, turns, last, width):
    """Times a graph of one step whose states go in and out; `turns` holds the input of each of the steps."""
    graph.output(last, [1, args.batch, width])
    session = graph.session(args.threads, args.weights)
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    inputs = [value(turn) for turn in turns]
    output = value(np.zeros((1, args.batch, width), np.float32))
    names = [f"{part}{layer}" for layer in range(args.layers) for part in "hc"]
    # Two sets of states take turns as what goes in and what comes out. A value shares its array's memory, so each has
    # its own, and `arrays` keeps them.
    arrays = [{name: np.zeros((1, args.batch, args.hidden), np.float32) for name in names} for _ in range(2)]
    states = [{name: value(array) for name, array in one.items()} for one in arrays]
    bindings = []
    for index, token in enumerate(inputs):
        binding = session.io_binding()
        binding.bind_ortvalue_input(source, token)
        binding.bind_ortvalue_output(last, output)
        for name in names:
            binding.bind_ortvalue_input(name, states[index % 2][name])
            binding.bind_ortvalue_output(f"{name}_out", states[(index + 1) % 2][name])
        bindings.append(binding)
    turn = 0

    def step():
        nonlocal turn
        session.run_with_iobinding(bindings[turn])
        turn = (turn + 1) % len(bindings)

    for _ in range(measuring.WARM_UP):
        step()
    found = norm(output.numpy())
    return measuring.timed(args, args.batch, step), found


def decode(args):
    graph, weights = Graph(), measuring.Weights(args.hidden)
    table = graph.constant("embedding", weights.take(args.vocab, args.embedding))
    token = graph.input("token", [1, args.batch], TensorProto.INT64)
    hidden = graph.lstm(args, weights, graph.node("Gather", [table, token], ["x0"]), carried=True)
    readout = graph.constant("readout", weights.take(args.vocab, args.hidden).T)
    bias = graph.constant("readout_bias", weights.take(args.vocab))
    product = graph.node("MatMul", [hidden, readout], ["product"])
    scores = graph.node("Add", [product, bias], ["scores"])
    turns = measuring.tokens(args.vocab, (measuring.DECODED_TOKENS, 1, args.batch))
    timing, found = one_token(args, graph, token, turns, scores, args.vocab)

    graph = Graph()
    x = graph.input("x0", [1, args.batch, args.embedding])
    last = graph.lstm(args, measuring.Weights(args.hidden), x, carried=True)
    turns = measuring.numbered(measuring.INPUT, (measuring.DECODED_TOKENS, 1, args.batch, args.embedding))
    stack, _ = one_token(args, graph, x, turns, last, args.hidden)
    return {**timing, "score_norm": found, "stack": stack}


def main():
    args = measuring.arguments(["layer", "decode"])
    if args.precision != "f32" or args.weights == "bf16":
        raise SystemExit("ONNX Runtime's peer has f32, and int8 for one token at a time")
    result = {"layer": segments, "decode": decode}[args.kind](args)
    weights = "" if args.weights == "f32" else f" {args.weights}"
    measuring.report(f"ONNX Runtime {onnxruntime.__version__}{weights}", result)


main()
