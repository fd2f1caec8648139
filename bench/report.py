"""What the report costs: the same training by two builds in turns, one of them from before there was a report (or any other).

    python3 bench/report.py OLD NEW [TRAIN OPTIONS…]

OLD and NEW are `lstm` programs. Times are those of the processor, so that other work on the machine tells less; the ratio is that of the
medians, its spread that of the pairs.
"""

import os
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 5


def seconds(program, options, folder):
    """Processor seconds of a run, its children's none."""
    before = os.times()
    subprocess.run(
        [program, "train", *options, "--threads", "1", "--force", "--out", folder],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main():
    old, new, *options = sys.argv[1:]
    options = options or ["--epochs", "1"]
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            run = os.path.join(folder, "run")
            pair = [seconds(program, options, run) for program in (old, new)]
            pairs.append(pair)
            print(f"round {number + 1}: {pair[0]:.2f} s, with the report {pair[1]:.2f} s", flush=True)
    ratios = [b / a for a, b in pairs]
    medians = [statistics.median(values) for values in zip(*pairs)]
    print(f"ratio {medians[1] / medians[0]:.4f} ({min(ratios):.4f} to {max(ratios):.4f})")


if __name__ == "__main__":
    main()
