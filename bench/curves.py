"""Draws how a run learned: the training perplexity of its log, its validations, and a line for what it is compared with.

    python3 bench/curves.py docs/images/ptb-3m.svg runs/ptb --title "Penn Treebank, 3 minutes" --line "Zaremba small 115.9"

Needs matplotlib. With several runs each is drawn in its own colour and named by its folder.
"""

import argparse
import json
import math
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

# The same file for the same run: no date, no random names.
matplotlib.rcParams["svg.hashsalt"] = "lstm"
matplotlib.rcParams["svg.fonttype"] = "none"


def read(run):
    """(minutes, perplexity) of the training log and of the validations of a run folder."""
    train, valid = [], []
    for line in (Path(run) / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        minutes = record.get("seconds", 0) / 60
        if "loss" in record:
            train.append((minutes, math.exp(record["loss"])))
        elif record.get("valid"):
            valid.append((minutes, record["valid"]))
    return train, valid


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", help="the SVG file to write")
    parser.add_argument("runs", nargs="+", help="run folders")
    parser.add_argument("--title", default="")
    parser.add_argument("--line", action="append", default=[], help="a horizontal line: a name and its perplexity")
    parser.add_argument("--nats", action="store_true", help="nats instead of perplexity")
    args = parser.parse_args()
    scale = (lambda value: math.log(value)) if args.nats else (lambda value: value)
    figure, axes = plt.subplots(figsize=(7, 3.6))
    lowest = []
    for number, run in enumerate(args.runs):
        train, valid = read(run)
        name = Path(run).name + " " if len(args.runs) > 1 else ""
        colour = f"C{number}"
        axes.plot(*zip(*[(x, scale(y)) for x, y in train]), color=colour, linewidth=1, alpha=0.5,
                  label=f"{name}training, mean of the epoch so far")
        if valid:
            axes.plot(*zip(*[(x, scale(y)) for x, y in valid]), "o-", color=colour, markersize=4,
                      label=f"{name}validation")
            lowest.append(min(scale(y) for _, y in valid))
        lowest.append(min(scale(y) for _, y in train))
    for line in args.line:
        name, _, value = line.rpartition(" ")
        axes.axhline(float(value), color="0.4", linewidth=1, linestyle="--", label=f"{name}: {value}")
        lowest.append(float(value))
    bottom = min(lowest)
    axes.set_ylim(bottom * (0.95 if args.nats else 0.85), bottom * (1.8 if args.nats else 3.2))
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("nats" if args.nats else "perplexity")
    axes.set_title(args.title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    Path(args.picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.picture, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
