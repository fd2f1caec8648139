"""Trains classifiers of sequences of numbers on the archives' own splits by a time alone, over several seeds, beside what the archives'
tables give for one nearest neighbour.

    python bench/sequences.py [--lstm target/release/lstm] [--data FOLDER] [--budget 3m] [--seeds 3] [NAME ...]

The sets are those that the wheel of aeon ships (ArrowHead, BasicMotions, ItalyPowerDemand, JapaneseVowels and more); without --data it is
fetched by pip, without its dependencies, into a folder that is gone afterwards. Nothing of it is kept here.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import zipfile

AEON = "aeon==1.6.0"

# Accuracy of one nearest neighbour: by Euclidean distance, and by dynamic time warping. Of one value a step from the UCR archive
# (Dau et al. 2019, its summary table): warping with any window, and with the window that cross-validation on the training set finds best.
# Of several from Bagnall et al. 2018 (arXiv:1811.00075), table 2, not normalised: warping of all values together, and of each by itself.
PUBLISHED = {
    "ArrowHead": {"euclidean": 80.00, "dtw, any window": 70.29, "dtw, best window": 80.00},
    "ItalyPowerDemand": {"euclidean": 95.53, "dtw, any window": 95.04, "dtw, best window": 95.53},
    "BasicMotions": {"dtw, all together": 97.5, "dtw, each by itself": 100.0},
    "JapaneseVowels": {"dtw, all together": 94.9, "dtw, each by itself": 95.9},
}


def unpack(folder):
    """The folder of the data sets, from the wheel."""
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, AEON]
    subprocess.run(fetch, check=True)
    wheel = next(pathlib.Path(folder).glob("aeon*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("aeon/datasets/data/"):
                archive.extract(name, folder)
    return pathlib.Path(folder) / "aeon/datasets/data"


def train(arguments, data, name, seed, folder):
    """What a run reports."""
    parts = [data / name / f"{name}_{part}.ts" for part in ["TRAIN", "TEST"]]
    task = "regress" if "@targetlabel true" in parts[0].read_text().lower() else "classify"
    out = pathlib.Path(folder) / f"{name}-{seed}"
    command = [arguments.lstm, "train", parts[0], "--task", task, "--test", parts[1], "--budget", arguments.budget]
    command += ["--seed", str(seed), "--out", out, "--json"]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(ran.stderr)
    if arguments.plan:
        print("\n".join(line for line in ran.stderr.splitlines() if line.startswith("plan")))
    return task, json.loads(ran.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PUBLISHED))
    parser.add_argument("--lstm", default="target/release/lstm")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plan", action="store_true", help="say what was chosen, and why")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or unpack(folder)
        for name in arguments.names:
            figures, seconds, beside = [], [], {}
            for seed in range(1, arguments.seeds + 1):
                task, result = train(arguments, data, name, seed, folder)
                test = result["test"]
                seconds.append(result["seconds"])
                if task == "classify":
                    figures.append(100 * test["accuracy"])
                    beside = {key: round(100 * of["accuracy"], 2) for key, of in test["baselines"].items()}
                else:
                    figures.append(next(iter(test["numbers"].values()))["rmse"])
                    beside = {key: round(next(iter(of.values()))["rmse"], 4) for key, of in test["baselines"].items()}
            spread = statistics.stdev(figures) if len(figures) > 1 else 0.0
            each = ", ".join(f"{figure:.2f}" if task == "classify" else f"{figure:.4f}" for figure in figures)
            what = "accuracy" if task == "classify" else "RMSE"
            print(f"{name}: {what} {statistics.mean(figures):.4g} ± {spread:.2g} ({each}), {max(seconds):.0f} s at most")
            print(f"  beside it, measured here: {beside}")
            if name in PUBLISHED:
                print(f"  published: {PUBLISHED[name]}", flush=True)


if __name__ == "__main__":
    main()
