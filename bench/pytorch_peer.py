"""PyTorch's training step, LSTM layers and decoding, timed as `lstm bench` times ours."""

import measuring

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

IMPORTED = measuring.resident("VmRSS")


def fill(parameters, arrays):
    with torch.no_grad():
        for parameter, values in zip(parameters, arrays, strict=True):
            parameter.copy_(torch.from_numpy(values))


def stack(args, weights):
    lstm = nn.LSTM(args.embedding, args.hidden, args.layers)
    fill(lstm.parameters(), [values for layer in weights.layers(args) for values in layer])
    return lstm


def model(args):
    """Embedding, layers and readout, filled in the order of our layout."""
    weights = measuring.Weights(args.hidden)
    embedding = nn.Embedding(args.vocab, args.embedding)
    fill(embedding.parameters(), [weights.take(args.vocab, args.embedding)])
    lstm = stack(args, weights)
    readout = nn.Linear(args.hidden, args.vocab)
    fill(readout.parameters(), [weights.take(args.vocab, args.hidden), weights.take(args.vocab)])
    return embedding, lstm, readout


def zeros(args):
    return tuple(torch.zeros(args.layers, args.batch, args.hidden) for _ in "hc")


def norm(tensors):
    return sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5


def train(args):
    embedding, lstm, readout = model(args)
    parameters = [*embedding.parameters(), *lstm.parameters(), *readout.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    tokens = torch.from_numpy(measuring.tokens(args.vocab, (args.segment + 1, args.batch)))
    inputs, targets = tokens[:-1], tokens[1:].flatten()
    state = zeros(args)

    def step(how=None):
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        # The state is f32 as without autocast, which takes its own when the layers run.
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            output, state = lstm(embedding(inputs), state)
            state = tuple(part.detach().float() for part in state)
            scores = readout(output).flatten(0, 1)
        loss = cross_entropy(scores.float(), targets)
        loss.backward()
        clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        return loss.item()

    if args.precision == "f32":
        losses = [step() for _ in range(measuring.WARM_UP)]
        return {**measuring.timed(args, args.segment * args.batch, step), "losses": losses}
    # Whichever way to bf16 is the faster here: autocast, or oneDNN's own rounding of f32 factors.
    start, found = [parameter.detach().clone() for parameter in parameters], []
    for how in ("autocast", "onednn"):
        precision = "bf16" if how == "onednn" else "none"
        torch.backends.mkldnn.matmul.fp32_precision = torch.backends.mkldnn.rnn.fp32_precision = precision
        with torch.no_grad():
            for parameter, values in zip(parameters, start, strict=True):
                parameter.copy_(values)
        state = zeros(args)
        losses = [step(how) for _ in range(measuring.WARM_UP)]
        timing = measuring.timed(args, args.segment * args.batch, lambda: step(how))
        found.append({**timing, "losses": losses, "how": how})
    return min(found, key=lambda one: one["milliseconds"])


def layer(args):
    lstm = stack(args, measuring.Weights(args.hidden))
    shape = (args.segment, args.batch)
    x = torch.from_numpy(measuring.numbered(measuring.INPUT, (*shape, args.embedding))).requires_grad_()
    d_output = torch.from_numpy(measuring.numbered(measuring.OUTPUT_GRADIENT, (*shape, args.hidden)))
    leaves = [x, *lstm.parameters()]

    def both():
        for leaf in leaves:
            leaf.grad = None
        output, _ = lstm(x)
        output.backward(d_output)
        return output

    for _ in range(measuring.WARM_UP):
        output = both()
    norms = {"output_norm": norm([output.detach()]), "gradient_norm": norm([leaf.grad for leaf in leaves[1:]])}
    del output
    result = {**measuring.timed(args, args.segment * args.batch, both), **norms}
    with torch.inference_mode():
        for _ in range(measuring.WARM_UP):
            lstm(x)
        result["forward"] = measuring.timed(args, args.segment * args.batch, lambda: lstm(x))
    return result


def decode(args):
    with torch.inference_mode():
        embedding, lstm, readout = model(args)
        state = zeros(args)
        tokens = torch.from_numpy(measuring.tokens(args.vocab, (measuring.DECODED_TOKENS, 1, args.batch)))
        turn = 0

        def whole():
            nonlocal state, turn
            output, state = lstm(embedding(tokens[turn]), state)
            turn = (turn + 1) % measuring.DECODED_TOKENS
            return readout(output)

        for _ in range(measuring.WARM_UP):
            scores = whole()
        result = {**measuring.timed(args, args.batch, whole), "score_norm": norm([scores])}

        shape = (measuring.DECODED_TOKENS, 1, args.batch, args.embedding)
        inputs = torch.from_numpy(measuring.numbered(measuring.INPUT, shape))
        state = zeros(args)

        def alone():
            nonlocal state, turn
            _, state = lstm(inputs[turn], state)
            turn = (turn + 1) % measuring.DECODED_TOKENS

        for _ in range(measuring.WARM_UP):
            alone()
        result["stack"] = measuring.timed(args, args.batch, alone)
    return result


def main():
    args = measuring.arguments(["train", "layer", "decode"])
    if args.precision != "f32" and args.kind != "train" or args.weights != "f32":
        raise SystemExit("PyTorch's peer trains in bf16, and reads one token at a time in f32 alone")
    torch.set_num_threads(args.threads)
    result = {"train": train, "layer": layer, "decode": decode}[args.kind](args)
    # What the interpreter and the library take before there is a model.
    result["imported_rss_bytes"] = IMPORTED
    how = f" bf16 by {result.pop('how')}" if "how" in result else ""
    measuring.report(f"PyTorch {torch.__version__.split('+')[0]}{how}", result)


main()
