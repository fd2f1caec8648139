"""Compares our training step with PyTorch's on this machine, in turns, and prints a Markdown table.

    python3 bench/compare.py                        # small: 2 layers of 200, T 20, B 20, V 10,000
    python3 bench/compare.py --hidden 650 --embedding 650 --segment 35

The first run makes a virtual environment under `target/` and installs torch into it; the Rust side is built in
release mode. The two take turns, so that a machine that grows slower or faster does so for both.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE = {"vocabulary": 10_000, "embedding": 200, "hidden": 200, "layers": 2, "segment": 20, "batch": 20, "steps": 100}


def python_with_torch(folder):
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy"], check=True)
    return python


def result(command, threads):
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in SHAPE.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--target-dir", type=pathlib.Path, default=ROOT / "target")
    parser.add_argument("--venv", type=pathlib.Path, help="default: bench-venv in the target directory")
    args = parser.parse_args()

    target = args.target_dir.resolve()
    python = python_with_torch(args.venv or target / "bench-venv")
    build = ["cargo", "build", "--release", "--package", "lstm", "--example", "training_step", "--target-dir", str(target)]
    subprocess.run(build, cwd=ROOT, check=True)
    shape = [part for name in SHAPE for part in (f"--{name}", str(getattr(args, name)))]
    ours = [str(target / "release" / "examples" / "training_step"), *shape]
    theirs = [str(python), str(ROOT / "bench" / "pytorch_step.py"), *shape, "--threads", str(args.threads)]

    rows = []
    for number in range(args.rounds):
        pair = result(ours, args.threads), result(theirs, args.threads)
        rows.append(pair)
        rates = [one["tokens_per_second"] for one in pair]
        print(f"round {number + 1}: lstm {rates[0]:,.0f}, PyTorch {rates[1]:,.0f} tokens/s", file=sys.stderr)

    speeds = [[pair[side]["tokens_per_second"] for pair in rows] for side in (0, 1)]
    ratios = [our / their for our, their in zip(*speeds)]
    names = f"lstm ({rows[0][0]['isa']})", f"PyTorch {rows[0][1]['torch']}"
    print(", ".join(f"{name} {getattr(args, name)}" for name in SHAPE) + f"; {args.threads} threads, {args.rounds} rounds\n")
    print("| | median tokens/s | lowest | highest | last loss |")
    print("|---|---:|---:|---:|---:|")
    for side, name in enumerate(names):
        speed = speeds[side]
        loss = rows[-1][side]["loss"]
        print(f"| {name} | {statistics.median(speed):,.0f} | {min(speed):,.0f} | {max(speed):,.0f} | {loss:.3f} |")
    print(f"| ratio | {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} | |")


main()
