"""Accuracy of classifiers by cross-validation: the lines of one file in ten parts, each of which is measured once by a model that was
trained on the other nine, by the time alone.

    python bench/folds.py FILE [--lstm target/release/lstm] [--budget 60s] [--folds 10] [--seed 1]

FILE has a label and a text a line, as ../shared/data/subj/all.txt and mr/all.txt have. The parts are drawn once from the seed. Printed are
the accuracy of each part, their mean and their spread, and the same of the baseline that the program measures beside it.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--lstm", default="target/release/lstm")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lines = [line for line in options.file.read_bytes().splitlines(keepends=True) if line.strip()]
    random.Random(options.seed).shuffle(lines)
    found, beside = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for fold in range(options.folds):
            train, test = folder / "train.txt", folder / "test.txt"
            train.write_bytes(b"".join(line for at, line in enumerate(lines) if at % options.folds != fold))
            test.write_bytes(b"".join(lines[fold :: options.folds]))
            command = [options.lstm, "train", train, "--task", "classify", "--test", test, "--budget", options.budget]
            command += ["--lossy", "--seed", options.seed, "--out", folder / f"run-{fold}", "--json"]
            ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if ran.returncode != 0:
                sys.exit(ran.stderr)
            result = json.loads(ran.stdout)
            found.append(100 * result["test"]["accuracy"])
            beside.append(100 * result["test"]["baselines"]["bag of words"]["accuracy"])
            print(f"part {fold + 1:2}: {found[-1]:.2f} %, a bag of words {beside[-1]:.2f} %", flush=True)
    for name, values in [("accuracy", found), ("bag of words", beside)]:
        print(f"{name}: {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %")


main()
