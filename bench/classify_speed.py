"""The speed of a classifier's training: what unequal lengths cost, and the time to a validation loss beside the same network in PyTorch.

    python3 bench/classify_speed.py DATA [--lstm target/release/lstm] [--rounds 3] [--loss 0.44] [--threads 2]

DATA is a folder with train.txt and dev.txt, a label and a text a line, as sst2 has; PyTorch is needed for the second part alone. First
epochs over the texts as they are and over the same words cut into texts of one length, in turns: tokens a second. Then the usual network
(an embedding of 128, 128 units in both directions, max pooling, its dropout, Adam at 0.001, 32 texts of about one length a step, an average
of the weights) until the validation loss, of every epoch, is first below --loss: seconds of training and validation, ours and PyTorch's
(over packed sequences, and over padded ones, whose backward direction reads padding first).
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

MOST_EPOCHS = 8
AVERAGE = 0.998


def examples(path):
    rows = [line.split(" ", 1) for line in path.read_text().splitlines() if line.strip()]
    return [(int(label), text.split()) for label, text in rows]


def ours(lstm, train, valid, folder, threads, seed, *options):
    """The records of the epochs of a run."""
    command = [lstm, "train", train, "--task", "classify", "--valid", valid, "--threads", threads, "--seed", seed]
    command += ["--out", folder / "run", "--force", "--json", *options]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(ran.stderr)
    records = map(json.loads, (folder / "run/metrics.jsonl").read_text().splitlines())
    return [record for record in records if "valid" in record]


def lengths(options, folder):
    """Tokens a second of texts as they are, and of as many words in texts of one length."""
    train = examples(options.data / "train.txt")
    tokens = sum(len(words) for _, words in train)
    length = round(tokens / len(train))
    words = [word for _, text in train for word in text]
    equal = [words[at : at + length] for at in range(0, len(words) - length + 1, length)]
    (folder / "equal.txt").write_text("".join(f"{at % 2} {' '.join(text)}\n" for at, text in enumerate(equal)))
    few = folder / "few.txt"
    few.write_text("".join(f"{at % 2} {' '.join(text)}\n" for at, text in enumerate(equal[:8])))
    speeds = {"as they are": [], "of one length": []}
    for seed in range(1, options.rounds + 1):
        for name, path, count in (
            ("as they are", options.data / "train.txt", tokens),
            ("of one length", folder / "equal.txt", length * len(equal)),
        ):
            epochs = ours(options.lstm, path, few, folder, options.threads, seed, "--epochs", "2")
            # The first packs weights and touches memory.
            speeds[name].append(count / (epochs[1]["seconds"] - epochs[0]["seconds"]))
    middle = {name: statistics.median(found) for name, found in speeds.items()}
    for name, found in speeds.items():
        print(f"texts {name}: {middle[name]:,.0f} tokens/s ({min(found):,.0f} to {max(found):,.0f})")
    print(f"share: {middle['as they are'] / middle['of one length']:.3f}", flush=True)


def pytorch(options, seed, packed):
    """Seconds until the validation loss is first below the wanted one, and the losses of the epochs."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.set_num_threads(options.threads)
    torch.manual_seed(seed)
    random.seed(seed)
    train, valid = (examples(options.data / f"{part}.txt") for part in ("train", "dev"))
    counts = Counter(word for _, text in train for word in text)
    known = {word: at + 2 for at, word in enumerate(word for word, count in counts.items() if count > 1)}
    encoded = lambda part: [(label, torch.tensor([known.get(word, 1) for word in text])) for label, text in part]
    train, valid = encoded(train), encoded(valid)
    embedding, lstm = nn.Embedding(len(known) + 2, 128), nn.LSTM(128, 128, bidirectional=True, batch_first=True)
    nn.init.uniform_(embedding.weight, -0.25, 0.25)
    head = nn.Linear(256, 2)
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3)
    average = [parameter.detach().clone() for parameter in parameters]

    def scores(batch, training):
        sizes = torch.tensor([len(text) for _, text in batch])
        tokens = nn.utils.rnn.pad_sequence([text for _, text in batch], batch_first=True)
        if training:
            tokens = torch.where(torch.rand(tokens.shape) < 0.1, torch.ones_like(tokens), tokens)
        vectors = nn.functional.dropout(embedding(tokens), 0.3, training)
        if packed:
            states = lstm(pack_padded_sequence(vectors, sizes, batch_first=True, enforce_sorted=False))[0]
            states = pad_packed_sequence(states, batch_first=True, padding_value=-1e9)[0]
        else:
            states = lstm(vectors)[0].masked_fill(torch.arange(tokens.shape[1])[None, :, None] >= sizes[:, None, None], -1e9)
        return head(nn.functional.dropout(states.max(1)[0], 0.5, training))

    def loss(batch, training):
        labels = torch.tensor([label for label, _ in batch])
        return nn.functional.cross_entropy(scores(batch, training), labels, reduction="sum")

    valid.sort(key=lambda example: len(example[1]))
    started, found = time.monotonic(), []
    for _ in range(MOST_EPOCHS):
        random.shuffle(train)
        batches = []
        for pool in range(0, len(train), 1024):
            rows = sorted(train[pool : pool + 1024], key=lambda example: len(example[1]))
            batches += [rows[at : at + 32] for at in range(0, len(rows), 32)]
        random.shuffle(batches)
        for batch in batches:
            optimizer.zero_grad()
            (loss(batch, True) / len(batch)).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - AVERAGE)
        with torch.no_grad():
            current = [parameter.detach().clone() for parameter in parameters]
            for parameter, mean in zip(parameters, average):
                parameter.copy_(mean)
            total = sum(float(loss(valid[at : at + 32], False)) for at in range(0, len(valid), 32))
            for parameter, now in zip(parameters, current):
                parameter.copy_(now)
        found.append(total / len(valid))
        if found[-1] < options.loss:
            return time.monotonic() - started, found
    return float("inf"), found


def to_a_loss(options, folder):
    times = {"lstm": [], "PyTorch, packed": [], "PyTorch, padded": []}
    for seed in range(1, options.rounds + 1):
        average = ("--average", f"ema({AVERAGE})", "--epochs", MOST_EPOCHS)
        train, valid = options.data / "train.txt", options.data / "dev.txt"
        epochs = ours(options.lstm, train, valid, folder, options.threads, seed, *average)
        reached = [record for record in epochs if record["valid"] < options.loss]
        times["lstm"].append(reached[0]["seconds"] if reached else float("inf"))
        said = [f"lstm {times['lstm'][-1]:.1f} s, {reached[0]['epoch'] if reached else len(epochs)} epochs"]
        for name, packed in (("PyTorch, packed", True), ("PyTorch, padded", False)):
            seconds, found = pytorch(options, seed, packed)
            times[name].append(seconds)
            said.append(f"{name} {seconds:.1f} s, {len(found)} epochs")
        print(f"seed {seed}: {'; '.join(said)}", flush=True)
    middle = {name: statistics.median(found) for name, found in times.items()}
    for name in ("PyTorch, packed", "PyTorch, padded"):
        print(f"to a validation loss of {options.loss}: {middle['lstm'] / middle[name]:.2f} of the time of {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--lstm", default="target/release/lstm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loss", type=float, default=0.44)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lengths(options, Path(folder))
        to_a_loss(options, Path(folder))


main()
