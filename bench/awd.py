"""The first epochs of AWD-LSTM (Merity, Keskar & Socher 2017), in PyTorch and by `lstm train --preset awd`, for several seeds.

    python3 bench/awd.py ../shared/data/ptb --epochs 2 --seeds 1,2,3
    python3 bench/awd.py ../shared/data/ptb --sizes 50,144,144,50      # an eighth as wide: an hour
    python3 bench/awd.py ../shared/data/ptb --sizes 50,144,144,50 --exact 30      # the same numbers, but for rounding

The recipe is written here from the paper: three layers of 1150, 1150 and 400, tied embeddings of 400, locked dropout, words and
recurrent weights dropped, activation and temporal penalties, SGD at 30 over segments of varying length whose rate goes
with their length. Both print the validation perplexity after every epoch; the two agree if they differ by no more than their seeds
do. With `--exact` nothing is random: both start from the weights that `lstm` drew and read segments of one length with
nothing dropped, PyTorch in single and in double precision, and how far the parameters end from those in double precision is
printed. Needs torch. An epoch of the Penn Treebank takes some ten minutes of two cores, in PyTorch several times that.
"""

import argparse
import functools
import itertools
import json
import math
import random
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import nn

SIZES = (400, 1150, 1150, 400)
INPUT, HIDDEN, OUTPUT, WORDS, WEIGHTS = 0.4, 0.25, 0.4, 0.1, 0.5
ACTIVATION, TEMPORAL = 2.0, 1.0
RATE, CLIP, DECAY = 30.0, 0.25, 1.2e-6
BATCH, SEGMENT = 20, 70


@functools.cache
def read(folder, words=None):
    """Ids of train and valid, each after an `<eos>`. words: what has an id; else those of the training text in the order of their
    first appearance. What has none is `<unk>`."""
    texts = []
    for name in ("train", "valid"):
        path = next(path for path in sorted(Path(folder).iterdir()) if name in path.name)
        text = [word for line in path.read_text().splitlines() for word in [*line.split(), "<eos>"]]
        texts.append(["<eos>", *text])
    ids = {word: number for number, word in enumerate(words or dict.fromkeys([*texts[0], "<unk>"]))}
    return len(ids), *(torch.tensor([ids.get(word, ids["<unk>"]) for word in text]) for text in texts)


def columns(ids, batch):
    """What is read and what is predicted, `[T, batch]`."""
    length = (len(ids) - 1) // batch
    return [part[: length * batch].view(batch, length).t().contiguous() for part in (ids[:-1], ids[1:])]


def keep(shape, rate):
    return torch.empty(shape).bernoulli_(1 - rate) / (1 - rate)


class Model(nn.Module):
    """sizes: of the embedding, then of each layer. With `drop` off, training drops nothing."""

    def __init__(self, vocabulary, sizes, drop=True):
        super().__init__()
        self.drop = drop
        self.embedding = nn.Parameter(torch.empty(vocabulary, sizes[0]))
        self.bias = nn.Parameter(torch.empty(vocabulary))
        for values in (self.embedding, self.bias):
            nn.init.uniform_(values, -1 / math.sqrt(sizes[0]), 1 / math.sqrt(sizes[0]))
        self.layers = nn.ModuleList(nn.LSTM(before, after) for before, after in zip(sizes, sizes[1:]))

    def forward(self, tokens, states):
        """scores `[T, B, V]`, the last layer's outputs before and after dropout, states."""
        dropping, table = self.training and self.drop, self.embedding
        if dropping:
            table = table * keep((len(table), 1), WORDS)
        x = table[tokens]
        if dropping:
            x = x * keep((1, *x.shape[1:]), INPUT)
        after = []
        for number, (layer, state) in enumerate(zip(self.layers, states)):
            weights = list(layer._flat_weights)
            if dropping:
                weights[1] = weights[1] * keep(weights[1].shape, WEIGHTS)
            x, h, c = torch.lstm(x, state, weights, True, 1, 0.0, False, False, False)
            after.append((h.detach(), c.detach()))
            raw = x
            if dropping:
                x = x * keep((1, *x.shape[1:]), OUTPUT if number == len(self.layers) - 1 else HIDDEN)
        return x @ self.embedding.t() + self.bias, raw, x, after

    def states(self, batch):
        return [tuple(torch.zeros(2, 1, batch, layer.hidden_size)) for layer in self.layers]


def evaluate(model, ids):
    model.eval()
    (tokens, targets), states, total = columns(ids, 1), model.states(1), 0.0
    with torch.no_grad():
        for start in range(0, len(tokens), 256):
            scores, _, _, states = model(tokens[start : start + 256], states)
            wanted = targets[start : start + 256].flatten()
            total += nn.functional.cross_entropy(scores.flatten(0, 1), wanted, reduction="sum").item()
    return math.exp(total / len(tokens))


def varied_lengths(seed):
    lengths = random.Random(seed)
    while True:
        yield max(5, round(lengths.gauss(SEGMENT if lengths.random() < 0.95 else SEGMENT / 2, 5)))


def epoch(model, ids, lengths, steps=None):
    """Trains for an epoch, or so many steps of it, on segments of `lengths`."""
    model.train()
    (tokens, targets), states, start = columns(ids, BATCH), model.states(BATCH), 0
    for length in itertools.islice(lengths, steps):
        end = min(len(tokens), start + length)
        scores, raw, dropped, states = model(tokens[start:end], states)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), targets[start:end].flatten())
        loss = loss + ACTIVATION * dropped.pow(2).mean()
        if end - start > 1:
            loss = loss + TEMPORAL * (raw[1:] - raw[:-1]).pow(2).mean()
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        rate = RATE * (end - start) / SEGMENT
        with torch.no_grad():
            for values in model.parameters():
                values -= rate * (values.grad + DECAY * values)
        start = end
        if start == len(tokens):
            break


def pytorch(args, sizes, seed):
    vocabulary, train, valid = read(args.folder)
    torch.manual_seed(seed)
    model, lengths = Model(vocabulary, sizes), varied_lengths(seed)
    for _ in range(1 if args.steps else args.epochs):
        epoch(model, train, lengths, args.steps)
        yield evaluate(model, valid)


def ours(args, sizes, seed):
    bound = ["--steps", str(args.steps)] if args.steps else ["--epochs", str(args.epochs)]
    with tempfile.TemporaryDirectory() as out:
        return run_ours(args, sizes, seed, f"{out}/run", bound)


def run_ours(args, sizes, seed, out, options):
    """The validation perplexities of `lstm train --preset awd`, whose run folder is `out`."""
    shape = ["--embedding", str(sizes[0]), "--hidden", ",".join(map(str, sizes[1:]))]
    command = [args.lstm, "train", args.folder, "--preset", "awd", *shape, *options, "--seed", str(seed),
               "--threads", str(args.threads), "--out", out, "--force", "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = (Path(out) / "metrics.jsonl").read_text().splitlines()
    return [record["valid"] for record in map(json.loads, lines) if record.get("valid")]


def safetensors(path):
    """The arrays of a safetensors file of f32 values, by name."""
    data = Path(path).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    entries = {name: entry for name, entry in json.loads(data[8:end]).items() if name != "__metadata__"}
    return {
        name: torch.frombuffer(bytearray(data[end:][slice(*entry["data_offsets"])]), dtype=torch.float32).view(entry["shape"])
        for name, entry in entries.items()
    }


def named(model):
    """The parameters of a model under the names that `lstm` saves."""
    renamed = {"embedding": "embedding.weight", "bias": "readout.bias"}
    layer = lambda name: "lstm.{2}_{3}_l{1}".format(*name.replace(".", "_").split("_"))
    return {renamed.get(name) or layer(name): values for name, values in model.named_parameters()}


def exact(args, sizes):
    """The same steps by both from the same weights."""
    off = ["--dropout", "0", "--dropout-hidden", "0", "--dropout-embedding", "0", "--dropout-weights", "0",
           "--variable-segment=false"]
    with tempfile.TemporaryDirectory() as out:
        # A rate that changes nothing leaves the weights that are drawn.
        run_ours(args, sizes, 1, f"{out}/first", [*off, "--steps", "1", "--rate", "1e-10"])
        (perplexity,) = run_ours(args, sizes, 1, f"{out}/run", [*off, "--steps", str(args.exact)])
        start, end = safetensors(f"{out}/first/model.safetensors"), safetensors(f"{out}/run/model.safetensors")
        words = tuple(json.loads((Path(out) / "run" / "tokenizer.json").read_text())["tokens"])
    vocabulary, train, valid = read(args.folder, words)
    results = {"lstm, f32": (perplexity, end)}
    for name, precision in ("PyTorch, f32", torch.float32), ("PyTorch, f64", torch.float64):
        torch.set_default_dtype(precision)
        model = Model(vocabulary, sizes, drop=False)
        with torch.no_grad():
            for key, values in named(model).items():
                values.copy_(start[key])
        epoch(model, train, itertools.repeat(SEGMENT), args.exact)
        results[name] = evaluate(model, valid), {key: values.detach() for key, values in named(model).items()}
    _, reference = results["PyTorch, f64"]
    for name, (perplexity, values) in results.items():
        # Of how far the steps moved each parameter, the worst of all.
        moved = lambda key: (reference[key] - start[key].double()).norm()
        apart = max(((values[key].double() - reference[key]).norm() / moved(key)).item() for key in reference)
        print(f"{name}  perplexity {perplexity:.4f}  from f64 {apart:.1e} of the way")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a folder with a train and a valid file of words")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="of the embedding, then of each layer")
    parser.add_argument("--only", choices=["lstm", "pytorch"], help="one of the two")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="for a trial: so many steps instead of epochs")
    parser.add_argument("--exact", type=int, metavar="STEPS", help="so many steps without anything random")
    parser.add_argument("--lstm", default="target/release/lstm")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes = [int(size) for size in args.sizes.split(",")]
    if args.exact:
        exact(args, sizes)
        return
    programs = {"lstm": ours, "pytorch": pytorch}
    for seed in map(int, args.seeds.split(",")):
        for name in [args.only] if args.only else programs:
            results = "  ".join(f"{value:8.2f}" for value in programs[name](args, sizes, seed))
            print(f"seed {seed}  {name:7}  {results}", flush=True)


if __name__ == "__main__":
    main()
