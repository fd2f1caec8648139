"""Every technique alone: a base recipe with one thing changed, and what it does to the perplexity.

    python3 bench/ablation.py ../shared/data/penn_small --jobs 2

Every run is `lstm train TEXT` with the options of the base and those of its row, one thread each, so that as many run side
by side as there are processors: the number of epochs bounds them, not the time. The Markdown table goes to stdout, rows as
they end to stderr; results are kept in --work, from where a second call goes on.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BASE = {
    "layers": 2, "hidden": 200, "embedding": 200, "tied": True, "residual": False, "batch": 10, "segment": 35,
    "dropout": 0.4, "dropout-kind": "locked", "optimizer": "sgd", "rate": 30, "clip": 0.25,
    "schedule": "cosine", "warmup": 0.03, "epochs": 10, "patience": 0, "candidates": 2000, "candidates-until": 0.8,
    # What a plan would choose beside it.
    "unigram-bias": False, "spectral-embedding": False, "weight-decay": 0,
}

# (what, source, options that differ from the base's; None takes one away). None parts the table into paragraphs.
ROWS = [
    ("the base", "", {}),
    ("another seed", "", {"seed": 2}),
    None,
    ("no dropout", "", {"dropout": 0, "dropout-kind": None}),
    ("standard instead of locked dropout", "Zaremba 2014", {"dropout-kind": "standard"}),
    ("dropout that rises from 0", "Morerio 2017", {"dropout-start": 0}),
    ("weight dropout 0.3", "Merity 2017", {"dropout-weights": 0.3}),
    ("embedding dropout 0.1", "Gal & Ghahramani 2016", {"dropout-embedding": 0.1}),
    ("zoneout 0.1", "Krueger 2017", {"zoneout": 0.1}),
    ("activation regularisation 2", "Merity 2017", {"ar": 2}),
    ("temporal activation regularisation 1", "Merity 2017", {"tar": 1}),
    ("label smoothing 0.1", "Szegedy 2016", {"label-smoothing": 0.1, "candidates": None, "candidates-until": None}),
    ("weight decay 1e-5", "", {"weight-decay": 1e-5}),
    None,
    ("embeddings not tied", "Press & Wolf 2017", {"tied": False}),
    ("one layer", "", {"layers": 1}),
    ("three layers", "", {"layers": 3}),
    ("a size for each layer, 300 and 200", "Merity 2017", {"hidden": "300,200"}),
    ("a mixture of 5 softmaxes", "Yang 2018", {"softmaxes": 5, "rate": 15}),
    ("residual connections", "He 2016", {"residual": True}),
    ("skip wiring", "Graves 2013", {"wiring": "skip"}),
    ("the report's scores wiring", "", {"wiring": "scores"}),
    ("layer normalisation", "Ba 2016", {"layer-norm": True}),
    ("peepholes", "Gers 2000", {"peepholes": True}),
    ("coupled gates", "Greff 2017", {"coupled": True}),
    ("a mogrifier of 5 rounds", "Melis 2019", {"mogrify": 5}),
    ("the same, of rank 40", "Melis 2019", {"mogrify": 5, "mogrify-rank": 40}),
    None,
    ("Adam 0.004", "Kingma & Ba 2015", {"optimizer": "adam", "rate": 0.004, "clip": 1}),
    ("AdamW 0.004, decay 0.01", "Loshchilov & Hutter 2019",
     {"optimizer": "adamw", "rate": 0.004, "clip": 1, "weight-decay": 0.01}),
    ("Muon 0.01 for the layers, SGD for the rest", "Jordan 2024", {"optimizer": "muon-sgd", "muon-rate": 0.01}),
    ("SGD, the rate quartered at a plateau", "", {"schedule": "plateau", "decay": 4, "warmup": 0}),
    ("NT-ASGD", "Merity 2017", {"optimizer": "nt-asgd", "schedule": "constant", "warmup": 0}),
    ("constant rate", "", {"schedule": "constant"}),
    ("constant rate, averaged weights", "Polyak & Juditsky 1992", {"schedule": "constant", "average": "ema(0.998)"}),
    ("linear to 0", "", {"schedule": "linear"}),
    ("one-cycle", "Smith 2018", {"schedule": "one-cycle", "warmup": 0}),
    ("stable, then down over the last fifth", "Hu 2024", {"schedule": "wsd"}),
    ("constant rate, the last 30 % averaged", "Izmailov 2018", {"schedule": "constant", "average": "tail(0.3)"}),
    ("no warm-up", "", {"warmup": 0}),
    ("no clipping", "", {"clip": 0}),
    ("segments of varied length", "Merity 2017", {"variable-segment": True}),
    ("columns that begin elsewhere in every epoch", "Press 2019", {"partial-shuffle": True}),
    ("two batches a step", "", {"accumulate": 2}),
    ("1,000 candidates", "Jean 2015", {"candidates": 1000}),
    ("every word scored in every step", "", {"candidates-until": 0}),
]


def arguments(name, value):
    """An option as the command takes it."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--{name}=false"]
    return [f"--{name}", str(value)]


def run(args, number, row):
    work = Path(args.work)
    kept = work / f"{number}.json"
    what, _, changes = row
    options = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    command = [args.lstm, "train", args.text, "--threads", "1", "--out", str(work / f"run-{number}"), "--force", "--json"]
    for name, value in options.items():
        command += arguments(name, value)
    if kept.exists() and json.loads(kept.read_text())["command"] == command:
        return json.loads(kept.read_text())
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if said.returncode:
        raise SystemExit(f"{' '.join(command)} says:\n{said.stderr[-600:]}")
    result = json.loads(said.stdout)
    record = {
        "what": what, "command": command, "seconds": result["seconds"], "parameters": result["parameters"],
        "train": result["train"]["perplexity"], "valid": result["valid"]["perplexity"],
        "test": result["test"]["perplexity"],
    }
    kept.write_text(json.dumps(record))
    print(f"{what}: valid {record['valid']:.1f}, test {record['test']:.1f}, {record['seconds']:.0f} s",
          file=args.log, flush=True)
    return record


def table(records):
    base = records[0]
    print("| | source | option | train | valid | test | of the base's |")
    print("|---|---|---|---:|---:|---:|---:|")
    for row in ROWS:
        if row is None:
            print("| | | | | | | |")
            continue
        what, source, changes = row
        record = next(record for record in records if record["what"] == what)
        option = " ".join(
            f"no --{name}" if value is None else " ".join(arguments(name, value))
            for name, value in changes.items()
        )
        share = 100 * (record["test"] / base["test"] - 1)
        print(f"| {what} | {source} | {f'`{option}`' if option else ''} | {record['train']:.0f} | {record['valid']:.1f} | "
              f"{record['test']:.1f} | {'' if record is base else f'{share:+.1f} %'} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="a folder with train, valid and test")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--work", default="target/ablation", help="where runs and results are kept")
    parser.add_argument("--lstm", default="target/release/lstm")
    args = parser.parse_args()
    args.log = sys.stderr
    Path(args.work).mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if row is not None]
    with ThreadPoolExecutor(args.jobs) as pool:
        records = list(pool.map(lambda numbered: run(args, *numbered), enumerate(rows)))
    table(records)


if __name__ == "__main__":
    main()
