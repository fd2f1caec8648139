"""Holds the entity F1 of `lstm eval` to that of seqeval, on what a tagger that has hardly learned says of random labels.

    pip install seqeval==1.2.2
    python bench/entities.py target/release/lstm

Prints both figures for IOB2, IOB1-like and mixed labels, and exits 1 if they differ by more than rounding.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from seqeval.metrics import f1_score, precision_score, recall_score

LSTM = str(Path(sys.argv[1]).resolve())
LABELS = {
    "begin, inside": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "inside alone": ["O", "I-PER", "I-LOC"],
    "mixed": ["O", "B-PER", "I-PER", "I-LOC", "B-ORG"],
}


def sentences(rng, labels, count):
    # A word mostly has its own label, so there is something to learn and much to be wrong about.
    words = [f"w{number}" for number in range(40)]
    usual = {word: rng.choice(labels) for word in words}
    for _ in range(count):
        chosen = [rng.choice(words) for _ in range(rng.randint(1, 12))]
        yield [(word, usual[word] if rng.random() < 0.7 else rng.choice(labels)) for word in chosen]


def write(path, data):
    path.write_text("".join("".join(f"{word} {label}\n" for word, label in sentence) + "\n" for sentence in data))


def main():
    different = False
    for name, labels in LABELS.items():
        rng = random.Random(name)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            data = list(sentences(rng, labels, 400))
            write(folder / "train.conll", data[:200])
            write(folder / "test.conll", data[200:])
            run = lambda *words: subprocess.run([LSTM, *words], cwd=folder, check=True, capture_output=True, text=True).stdout
            run("train", "train.conll", "--task", "tag", "--epochs", "3", "--hidden", "8", "--out", "run")
            measured = json.loads(run("eval", "run", "test.conll", "--json"))["entities"]
            said = [json.loads(line)["tags"] for line in run("predict", "run", "test.conll", "--json").splitlines()]
            right = [[label for _, label in sentence] for sentence in data[200:]]
            theirs = [score(right, said) for score in (precision_score, recall_score, f1_score)]
            ours = [measured["precision"], measured["recall"], measured["f1"]]
            print(f"{name:<15} lstm {ours}  seqeval {[float(value) for value in theirs]}")
            different |= any(abs(a - b) > 1e-9 for a, b in zip(ours, theirs))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
