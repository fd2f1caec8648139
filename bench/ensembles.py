"""What several models are worth as one, and to a student: members, their mean, students beside models that learned alone.

    python3 bench/ensembles.py ../shared/data/penn_small --members 3 --students 2

Members differ in their seed; a student has a seed that no member has, and is the same model by the same steps as the one without teachers beside it. One
thread each. The Markdown tables go to stdout, runs as they end to stderr; runs are kept in --work, from where a second call goes on.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

BASE = [
    "--tied", "--residual=false", "--batch", "10", "--segment", "35",
    "--dropout", "0.4", "--dropout-kind", "locked", "--optimizer", "sgd", "--rate", "30", "--clip", "0.25", "--schedule", "cosine", "--warmup", "0.03",
    "--patience", "0", "--threads", "1",
]


def said(args, words, kept=None):
    """The JSON object that a command says; kept in a file, if that is named."""
    path = Path(args.work) / f"{kept}.json" if kept else None
    if path and path.exists():
        return json.loads(path.read_text())
    said = subprocess.run([args.lstm, *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if said.returncode:
        raise SystemExit(f"{' '.join(words)} says:\n{said.stderr[-600:]}")
    if path:
        path.write_text(said.stdout)
    return json.loads(said.stdout)


def train(args, name, seed, *options):
    folder = str(Path(args.work) / name)
    # Teachers need the score of every token, so nobody samples.
    size = ["--layers", str(args.layers), "--hidden", str(args.hidden), "--embedding", str(args.hidden)]
    words = ["train", args.text, "--out", folder, "--force", "--seed", str(seed), "--epochs", str(args.epochs), *size, *BASE, *options]
    result = said(args, words, name)
    valid, test, seconds = result["valid"]["perplexity"], result["test"]["perplexity"], result["seconds"]
    print(f"{name}: valid {valid:.2f}, test {test:.2f}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return folder, valid, test, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="a folder with train, valid and test")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--students", type=int, default=2, help="how many seeds of a student are tried")
    parser.add_argument("--weights", default="0.5", help="weights of the teachers, with commas between them")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--work", default="target/ensembles", help="where runs and results are kept")
    parser.add_argument("--lstm", default="target/release/lstm")
    args = parser.parse_args()
    Path(args.work).mkdir(parents=True, exist_ok=True)
    members = [train(args, f"member-{seed}", seed) for seed in range(1, args.members + 1)]
    folders = [folder for folder, *_ in members]
    print("| | valid | test |\n|---|---:|---:|")
    for number, (_, valid, test, _) in enumerate(members, 1):
        print(f"| member {number} | {valid:.1f} | {test:.1f} |")
    for count in range(2, len(folders) + 1):
        valid, test = (
            said(args, ["ensemble", *folders[:count], *options, "--threads", "1"])["perplexity"]
            for options in ([str(next(Path(args.text).glob("*valid*")))], [])
        )
        print(f"| mean of {count} | {valid:.1f} | {test:.1f} |")
    print("\n| weight of the teachers | valid | test | of the one alone | seconds |\n|---|---:|---:|---:|---:|")
    teach = ",".join(folders)
    for seed in range(args.members + 1, args.members + 1 + args.students):
        _, valid, alone, seconds = train(args, f"alone-{seed}", seed)
        print(f"| 0, seed {seed} | {valid:.1f} | {alone:.1f} | | {seconds:.0f} |")
        for weight in args.weights.split(","):
            _, valid, test, seconds = train(args, f"student-{seed}-{weight}", seed, "--teach", teach, "--teach-weight", weight)
            print(f"| {weight}, seed {seed} | {valid:.1f} | {test:.1f} | {100 * (test / alone - 1):+.1f} % | {seconds:.0f} |")


if __name__ == "__main__":
    main()
