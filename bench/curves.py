"""Draws how runs learned: the training perplexity of a run's log, its validations, and a line for what it is compared with.

    python3 bench/curves.py docs/images/ptb-3m.svg runs/ptb --title "Penn Treebank, 3 minutes" --line "Zaremba small 115.9"
    python3 bench/curves.py rates.svg runs/a runs/b --name "rate 20" --name "rate 35" --steps

Needs matplotlib. Of several runs each is drawn in its own colour, its validations alone.
"""

import argparse
import json
import math
from pathlib import Path

from drawing import axes_of, save


def read(run, by_steps):
    """(minutes or thousands of steps, perplexity) of the training log and of the validations of a run folder."""
    train, valid = [], []
    for line in (Path(run) / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        at = record.get("step", 0) / 1000 if by_steps else record.get("seconds", 0) / 60
        if "loss" in record:
            train.append((at, math.exp(record["loss"])))
        elif record.get("valid"):
            valid.append((at, record["valid"]))
    return train, valid


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", help="the SVG file to write")
    parser.add_argument("runs", nargs="+", help="run folders")
    parser.add_argument("--title", default="")
    parser.add_argument("--name", action="append", default=[], help="what a run is called, one for each [default: its folder]")
    parser.add_argument("--line", action="append", default=[], help="a horizontal line: a name and its perplexity")
    parser.add_argument("--steps", action="store_true", help="over steps instead of minutes")
    parser.add_argument("--nats", action="store_true", help="nats instead of perplexity")
    args = parser.parse_args()
    scale = (lambda value: math.log(value)) if args.nats else (lambda value: value)
    figure, axes = axes_of(7, 3.6)
    lowest = []
    alone = len(args.runs) == 1
    for number, run in enumerate(args.runs):
        train, valid = read(run, args.steps)
        name = args.name[number] if number < len(args.name) else Path(run).name
        if alone:
            axes.plot(*zip(*[(x, scale(y)) for x, y in train]), color="C0", linewidth=1, alpha=0.5,
                      label="training, mean of the epoch so far")
            lowest.append(min(scale(y) for _, y in train))
        if valid:
            axes.plot(*zip(*[(x, scale(y)) for x, y in valid]), "o-", color=f"C{number}", markersize=4,
                      label="validation" if alone else f"{name}: {min(scale(y) for _, y in valid):.1f}")
            lowest.append(min(scale(y) for _, y in valid))
    for line in args.line:
        name, _, value = line.rpartition(" ")
        axes.axhline(float(value), color="0.4", linewidth=1, linestyle="--", label=f"{name}: {value}")
        lowest.append(float(value))
    bottom = min(lowest)
    low, high = (0.95, 1.8) if args.nats else (0.85, 3.2) if alone else (0.95, 1.7)
    axes.set_ylim(bottom * low, bottom * high)
    axes.set_xlim(left=0)
    axes.set_xlabel("thousands of steps" if args.steps else "minutes")
    axes.set_ylabel(("nats" if args.nats else "perplexity") + ("" if alone else " of the validation"))
    axes.set_title(args.title, fontsize=10)
    save(figure, axes, args.picture)


if __name__ == "__main__":
    main()
