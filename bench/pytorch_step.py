"""Times PyTorch's training step of a language model: embedding, nn.LSTM, linear, cross-entropy, backward, clipping, SGD.

The twin of `crates/lstm/examples/training_step.rs`: same shapes, same work, one JSON object on stdout.
"""

import argparse
import json
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("vocabulary", 10_000),
        ("embedding", 200),
        ("hidden", 200),
        ("layers", 2),
        ("segment", 20),
        ("batch", 20),
        ("threads", 2),
        ("steps", 100),
        ("warm-up", 10),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    embedding = nn.Embedding(args.vocabulary, args.embedding)
    lstm = nn.LSTM(args.embedding, args.hidden, args.layers)
    readout = nn.Linear(args.hidden, args.vocabulary)
    parameters = [*embedding.parameters(), *lstm.parameters(), *readout.parameters()]
    for parameter in parameters:
        nn.init.uniform_(parameter, -0.1, 0.1)
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    tokens = torch.randint(args.vocabulary, (args.segment + 1, args.batch))
    inputs, targets = tokens[:-1], tokens[1:].flatten()
    state = tuple(torch.zeros(args.layers, args.batch, args.hidden) for _ in "hc")

    start = 0.0
    for step in range(args.warm_up + args.steps):
        if step == args.warm_up:
            start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        output, state = lstm(embedding(inputs), tuple(part.detach() for part in state))
        loss = cross_entropy(readout(output).flatten(0, 1), targets)
        loss.backward()
        clip_grad_norm_(parameters, 0.25)
        optimizer.step()
        value = loss.item()
    seconds = time.perf_counter() - start
    rate = args.steps * args.segment * args.batch / seconds
    print(json.dumps({"tokens_per_second": rate, "loss": value, "seconds": seconds, "torch": torch.__version__}))


main()
