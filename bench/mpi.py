"""What a training step takes on several ranks of one machine, with what travels apart from what is computed, beside one process without
shards; and MPI_Allreduce of as many floats, which adds in an order of its own.

    python bench/mpi.py [--lstm target/release/lstm] [--text ../shared/data/ptb/ptb.train.txt] [--presets small,medium] [--ranks 1,2,4,8]
                        [--steps 12] [--batch 24] [--candidates 500]

Every rank has one thread. More ranks than processors take turns on them, so beyond those the time of a step says nothing of a cluster;
the bytes and the time of one rank's parts do. `lstm` has to be built with --features mpi; mpicc builds bench/allreduce.c. The rows of a
step are a multiple of the 8 shards, so that all are equal.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
}


def run(words, ranks):
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    done = subprocess.run([*launcher, *words], env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lstm", type=Path, default=ROOT / "target/release/lstm")
    parser.add_argument("--text", type=Path, default=ROOT.parent / "shared/data/ptb/ptb.train.txt")
    parser.add_argument("--presets", default="small,medium")
    parser.add_argument("--ranks", default="1,2,4,8")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--candidates", default="all,500")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        allreduce = folder / "allreduce"
        subprocess.run(["mpicc", "-O2", "-o", allreduce, ROOT / "bench/allreduce.c"], check=True)
        lines = options.text.read_text().splitlines(keepends=True)
        # What is validated on is no part of a step.
        few = folder / "few.txt"
        few.write_text("".join(lines[:20]))

        def step(name, preset, candidates, ranks, *more):
            words = [options.lstm, "train", options.text, "--valid", few, "--preset", preset, "--batch", options.batch, "--steps", options.steps]
            words += ["--threads", 1, "--json", "--out", folder / name, *more]
            words += [] if candidates == "all" else ["--candidates", candidates, "--candidates-until", 1]
            return json.loads(run(list(map(str, words)), ranks))

        print("preset  candidates ranks  gradients  (travel beneath)  waiting    travel      step     MiB sent of whole   MPI_Allreduce")
        for preset in options.presets.split(","):
            for candidates in options.candidates.split(","):
                for ranks in map(int, options.ranks.split(",")):
                    result = step(f"{preset}-{candidates}-{ranks}", preset, candidates, ranks, "--shards", 8)
                    exchange = result["exchange"]
                    steps = exchange["steps"]
                    parts = [1e3 * exchange[part] / steps for part in ("computing", "waiting", "travelling")]
                    beneath = 1e3 * exchange["beneath"] / steps
                    sent, whole = (exchange[part] / steps / 2**20 for part in ("sent", "whole"))
                    beside = "-"
                    if ranks > 1:
                        # As many floats as each rank has to know in the end: it sends its slices, and its slice of the sum.
                        shards = 8 / ranks if 8 % ranks == 0 else None
                        if shards:
                            floats = int(sent * 2**18 * ranks / (2 * (ranks - 1)))
                            beside = f"{float(run([str(allreduce), str(floats), '7'], ranks)):.1f} ms"
                    print(
                        f"{preset:7} {candidates:>10} {ranks:5} {parts[0]:7.1f} ms ({beneath:11.1f} ms) {parts[1]:6.1f} ms {parts[2]:6.1f} ms {sum(parts):6.1f} ms "
                        f"{sent:8.2f} of {whole:8.2f}   {beside:>10}",
                        flush=True,
                    )


main()
