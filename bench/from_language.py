"""SST-2 from a language model (Howard & Ruder 2018), by the time alone: what a model brings that read other text first.

    python3 bench/from_language.py DATA [--lstm target/release/lstm] [--language 12m] [--budget 3m] [--seeds 1,2,3] [--only-from] [TRAIN OPTIONS…]

DATA is a folder with sst2/{train,dev,test}.txt, mr/all.txt, subj/all.txt, ptb/ptb.train.txt and tinyshakespeare/input.txt; what is not
there is left out and said. The language model learns their sentences without labels; those of mr and subj that share a fifth or more of
their stretches of 20 letters with a sentence that is measured or watched are left out. Printed are its perplexity and the accuracy of a
classifier that starts from it and of one that starts from nothing, of each seed.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STRETCH = 20
SHARED = 0.2


def lines(path):
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def without_label(line):
    return line.split(" ", 1)[1].strip() if " " in line else ""


def stretches(sentence):
    letters = "".join(sentence.lower().split())
    return {letters[at : at + STRETCH] for at in range(max(1, len(letters) - STRETCH + 1))}


def sentences(data):
    """Sentences to learn the language from, without those that are measured or watched."""
    kept_apart = set()
    for part in ("dev", "test"):
        kept_apart.update(*(stretches(without_label(line)) for line in lines(data / "sst2" / f"{part}.txt")))
    found = [without_label(line) for line in lines(data / "sst2/train.txt")]
    for name in ("mr/all.txt", "subj/all.txt"):
        if not (data / name).exists():
            print(f"{name} is not there, and left out")
            continue
        for sentence in map(without_label, lines(data / name)):
            own = stretches(sentence)
            if len(own & kept_apart) < SHARED * len(own):
                found.append(sentence)
    for name in ("ptb/ptb.train.txt", "tinyshakespeare/input.txt"):
        if (data / name).exists():
            found += lines(data / name)
        else:
            print(f"{name} is not there, and left out")
    # Two of these sets have sentences in common.
    found = list(dict.fromkeys(sentence.lower() for sentence in found))
    random.Random(1).shuffle(found)
    return found


def run(command):
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(ran.stderr)
    return json.loads(ran.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--lstm", default="target/release/lstm")
    parser.add_argument("--language", default="12m", help="the time of the language model")
    parser.add_argument("--budget", default="3m", help="the time of each classifier")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only-from", action="store_true", help="leave out those that start from nothing")
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        text, language = folder / "sentences.txt", folder / "language"
        text.write_text("\n".join(sentences(given.data)) + "\n")
        command = [given.lstm, "train", text, "--tokenizer", "words", "--batches", "stream", "--budget", given.language]
        said = run([*command, "--out", language, "--json"])
        print(f"language: {len(text.read_text().split())} words, perplexity {said['test']['perplexity']:.1f}", flush=True)
        kinds = {"from it": ["--from", language]} | ({} if given.only_from else {"from nothing": []})
        for kind, start in kinds.items():
            found = []
            for seed in given.seeds.split(","):
                command = [given.lstm, "train", given.data / "sst2/train.txt", "--task", "classify", *start]
                command += ["--valid", given.data / "sst2/dev.txt", "--test", given.data / "sst2/test.txt"]
                command += ["--budget", given.budget, "--seed", seed, "--out", folder / "run", "--force", "--json"]
                said = run([*command, *options])
                found.append(100 * said["test"]["accuracy"])
                print(f"{kind}, seed {seed}: {found[-1]:.2f}", flush=True)
            if len(found) > 1:
                print(f"{kind}: {statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}", flush=True)


main()
