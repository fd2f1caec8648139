"""The first epochs of AWD-LSTM (Merity, Keskar & Socher 2017), in PyTorch and by `lstm train --preset awd`, for several seeds.

    python3 bench/awd.py ../shared/data/ptb --epochs 2 --seeds 1,2,3
    python3 bench/awd.py ../shared/data/ptb --sizes 50,144,144,50      # an eighth as wide: an hour

The recipe is written here from the paper: three layers of 1150, 1150 and 400, tied embeddings of 400, locked dropout, words and
recurrent weights dropped, activation and temporal penalties, SGD at 30 over segments of varying length whose rate goes
with their length. Both print the validation perplexity after every epoch; the two agree if they differ by no more than their seeds
do. Needs torch. An epoch of the Penn Treebank takes some ten minutes of two cores, in PyTorch several times that.
"""

import argparse
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


def read(folder, steps):
    """Ids of train and valid: the words of the training text in the order of their first appearance, what it does not have
    is `<unk>`. `steps` cuts the training text for a trial."""
    texts = []
    for name in ("train", "valid"):
        path = next(path for path in sorted(Path(folder).iterdir()) if name in path.name)
        texts.append([word for line in path.read_text().splitlines() for word in [*line.split(), "<eos>"]])
    ids = {word: number for number, word in enumerate(dict.fromkeys([*texts[0], "<unk>"]))}
    splits = [torch.tensor([ids.get(word, ids["<unk>"]) for word in text]) for text in texts]
    if steps:
        splits = [split[: BATCH * SEGMENT * steps] for split in splits]
    return len(ids), *splits


def columns(ids, batch):
    length = len(ids) // batch
    return ids[: length * batch].view(batch, length).t().contiguous()


def keep(shape, rate):
    return torch.empty(shape).bernoulli_(1 - rate) / (1 - rate)


class Model(nn.Module):
    """sizes: of the embedding, then of each layer."""

    def __init__(self, vocabulary, sizes):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocabulary, sizes[0]))
        self.bias = nn.Parameter(torch.empty(vocabulary))
        for values in (self.embedding, self.bias):
            nn.init.uniform_(values, -1 / math.sqrt(sizes[0]), 1 / math.sqrt(sizes[0]))
        self.layers = nn.ModuleList(nn.LSTM(before, after) for before, after in zip(sizes, sizes[1:]))

    def forward(self, tokens, states):
        """scores `[T, B, V]`, the last layer's outputs before and after dropout, states."""
        table = self.embedding
        if self.training:
            table = table * keep((len(table), 1), WORDS)
        x = table[tokens]
        if self.training:
            x = x * keep((1, *x.shape[1:]), INPUT)
        after = []
        for number, (layer, state) in enumerate(zip(self.layers, states)):
            weights = list(layer._flat_weights)
            if self.training:
                weights[1] = weights[1] * keep(weights[1].shape, WEIGHTS)
            x, h, c = torch.lstm(x, state, weights, True, 1, 0.0, False, False, False)
            after.append((h.detach(), c.detach()))
            raw = x
            if self.training:
                x = x * keep((1, *x.shape[1:]), OUTPUT if number == len(self.layers) - 1 else HIDDEN)
        return x @ self.embedding.t() + self.bias, raw, x, after

    def states(self, batch):
        return [tuple(torch.zeros(2, 1, batch, layer.hidden_size)) for layer in self.layers]


def evaluate(model, ids):
    model.eval()
    text, states, total = columns(ids, 1), model.states(1), 0.0
    with torch.no_grad():
        for start in range(0, len(text) - 1, 256):
            end = min(len(text) - 1, start + 256)
            scores, _, _, states = model(text[start:end], states)
            targets = text[start + 1 : end + 1].flatten()
            total += nn.functional.cross_entropy(scores.flatten(0, 1), targets, reduction="sum").item()
    return math.exp(total / (len(text) - 1))


def pytorch(vocabulary, train, valid, sizes, seed, epochs):
    torch.manual_seed(seed)
    lengths = random.Random(seed)
    model, text = Model(vocabulary, sizes), columns(train, BATCH)
    for _ in range(epochs):
        model.train()
        states, start = model.states(BATCH), 0
        while start < len(text) - 2:
            base = SEGMENT if lengths.random() < 0.95 else SEGMENT / 2
            steps = max(5, int(lengths.gauss(base, 5)))
            end = min(len(text) - 1, start + steps)
            scores, raw, dropped, states = model(text[start:end], states)
            loss = nn.functional.cross_entropy(scores.flatten(0, 1), text[start + 1 : end + 1].flatten())
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
        yield evaluate(model, valid)


def ours(args, sizes, seed):
    bound = ["--steps", str(args.steps)] if args.steps else ["--epochs", str(args.epochs)]
    shape = ["--embedding", str(sizes[0]), "--hidden", ",".join(map(str, sizes[1:]))]
    with tempfile.TemporaryDirectory() as out:
        command = [args.lstm, "train", args.folder, "--preset", "awd", *shape, *bound, "--seed", str(seed),
                   "--threads", str(args.threads), "--out", f"{out}/run", "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = (Path(out) / "run" / "metrics.jsonl").read_text().splitlines()
        return [record["valid"] for record in map(json.loads, lines) if record.get("valid")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a folder with a train and a valid file of words")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="of the embedding, then of each layer")
    parser.add_argument("--only", choices=["lstm", "pytorch"], help="one of the two")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="for a trial: about so many steps instead of epochs")
    parser.add_argument("--lstm", default="target/release/lstm")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes = [int(size) for size in args.sizes.split(",")]
    vocabulary, train, valid = read(args.folder, args.steps)
    programs = {
        "lstm": lambda seed: ours(args, sizes, seed),
        "pytorch": lambda seed: pytorch(vocabulary, train, valid, sizes, seed, 1 if args.steps else args.epochs),
    }
    for seed in map(int, args.seeds.split(",")):
        for name in [args.only] if args.only else programs:
            print(f"seed {seed}  {name:7}  " + "  ".join(f"{value:8.2f}" for value in programs[name](seed)), flush=True)


if __name__ == "__main__":
    main()
