"""Whether learning is unharmed by training in fewer bits, and reading by weights of fewer bits: the same runs in every precision,
several seeds each, and their models with every kind of weights.

    cargo build --release
    python3 bench/precision.py                                         # everything: some hours on two cores
    python3 bench/precision.py --jobs 2                                # the same numbers sooner: runs side by side share nothing and wait for nothing
    python3 bench/precision.py --only textlstm --epochs 3 --seeds 2    # a first look, in minutes

The corpora are those of `--data` (ptb, tinyshakespeare, penn_small). Every run is `lstm train` with a preset; results are kept in
`--work`, from where a second call goes on. Two Markdown tables go to stdout: the test perplexities of each precision with their mean
beside f32's, and what weights of fewer bits cost the f32 models on their own test texts. The exit code is 1 where the mean in bf16 is
more than 0.5 % above that of f32, where that in bf16x3 is farther from it than f32's seeds are from each other, or where weights cost
more than 0.1 % (bf16) or 0.5 % (int8).
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Name: the corpus and the options of the run.
RUNS = {
    "textlstm": ("penn_small", ["--preset", "textlstm"]),
    "small": ("ptb", ["--preset", "small"]),
    "char": ("tinyshakespeare", ["--preset", "char"]),
}
PRECISIONS = ["f32", "bf16x3", "bf16"]
BOUND = 0.005
WEIGHTS = {"bf16": 0.001, "int8": 0.005}


def trained(args, name, precision, seed):
    """The test perplexity of one run, trained now or before, and its tokens a second."""
    corpus, options = RUNS[name]
    folder = args.work / f"{name}-{precision}-{seed}"
    kept = folder.with_suffix(".json")
    if not kept.exists():
        length = ["--epochs", str(args.epochs)] if args.epochs else []
        command = [args.lstm, "train", args.data / corpus, *options, *length, "--precision", precision, "--seed", seed,
                   "--threads", max(1, os.cpu_count() // args.jobs), "--out", folder, "--force", "--json"]
        print(" ".join(map(str, command)), file=sys.stderr)
        said = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        kept.write_text(said.stdout.decode())
    result = json.loads(kept.read_text())
    return result["test"]["perplexity"], result["tokens_per_second"]


def train_all(args):
    """Every run, `--jobs` at a time, all precisions of a seed before the next seed, so that a call that is stopped has whole comparisons."""
    wanted = [(name, precision, seed) for seed in range(1, args.seeds + 1) for name in args.only.split(",") for precision in PRECISIONS]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda run: trained(args, *run), wanted))


def learning(args):
    print("| run | precision | test perplexity, a seed each | mean | of f32 | spread of f32's seeds | tokens/s |")
    print("|---|---|---|---:|---:|---:|---:|")
    unharmed = True
    for name in args.only.split(","):
        means = {}
        for precision in PRECISIONS:
            found = [trained(args, name, precision, seed) for seed in range(1, args.seeds + 1)]
            perplexities = [perplexity for perplexity, _ in found]
            means[precision] = statistics.mean(perplexities)
            off = means[precision] / means["f32"] - 1
            if precision == "f32":
                spread = (max(perplexities) - min(perplexities)) / means["f32"]
            unharmed = unharmed and (off <= BOUND if precision == "bf16" else abs(off) <= spread)
            each, speed = ", ".join(f"{p:.2f}" for p in perplexities), statistics.median(speed for _, speed in found)
            print(f"| {name} | {precision} | {each} | {means[precision]:.2f} | {100 * off:+.2f} % | {100 * spread:.2f} % | {speed:,.0f} |",
                  flush=True)
    return unharmed


def weights(args):
    """The perplexity of every f32 model on its own test text, read one token at a time; whether weights of fewer bits cost little."""
    print("\n| model | f32 | bf16 | int8 |\n|---|---:|---:|---:|")
    cheap = True
    for name in args.only.split(","):
        for seed in range(1, args.seeds + 1):
            folder = args.work / f"{name}-f32-{seed}"
            exact, cells = None, []
            for kind in ("f32", *WEIGHTS):
                command = [str(args.lstm), "eval", str(folder), "--weights", kind, "--json"]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                perplexity = json.loads(said.stdout)["perplexity"]
                exact = exact or perplexity
                cheap = cheap and perplexity / exact - 1 <= WEIGHTS.get(kind, 0.0)
                cells.append(f"{perplexity:.3f} ({100 * (perplexity / exact - 1):+.3f} %)")
            print(f"| {folder.name} | " + " | ".join(cells) + " |", flush=True)
    return cheap


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(RUNS), help="runs, with commas between: " + ", ".join(RUNS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, each with its share of the processors; 1 by default")
    parser.add_argument("--epochs", type=int, help="default: the preset's")
    parser.add_argument("--lstm", type=pathlib.Path, default=ROOT / "target" / "release" / "lstm")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "precision")
    args = parser.parse_args()
    unknown = [name for name in args.only.split(",") if name not in RUNS]
    if unknown:
        parser.error(f"there is no run {', '.join(unknown)}; there are {', '.join(RUNS)}")
    if args.seeds < 2:
        parser.error("--seeds is at least 2: the measure is how far seeds are from each other")
    if args.jobs < 1:
        parser.error("--jobs is at least 1")
    args.work.mkdir(parents=True, exist_ok=True)
    train_all(args)
    unharmed = learning(args)
    return 0 if weights(args) and unharmed else 1


if __name__ == "__main__":
    sys.exit(main())
