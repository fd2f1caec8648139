"""The sweep and the fit behind the test perplexity that `lstm train TEXT` expects (crates/lstm/src/plan/expected.rs).

    python3 bench/expected.py sweep TEXT... --budget 10s,40s --lstm target/release/lstm
    python3 bench/expected.py fit --draw docs/images/budget-expected.svg

`sweep` trains every text in every time, as the plan chooses, and adds a line to bench/expected.jsonl for each: what the plan knew
of the run (`expected` of `lstm train --json`), the tokens that it then had, and the test perplexity it reached. Texts behind
`--unseen` are not fitted on. `fit` prints the constants of expected.rs, how often the truth lies in the band of a fit that has
seen nothing of its text, and the runs of the unseen texts. The fit is of the tokens that a run had, so other work on the
machine does not spoil it; the band is by those that were planned, so it counts in. Needs numpy, drawing matplotlib.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

OBSERVATIONS = Path(__file__).with_name("expected.jsonl")
LEAST_TOKENS = 100_000  # a run of fewer is hardly trained, and nothing is said of it
RIDGE = 0.02
OF_VECTORS = -0.05  # of a run whose embedding starts from the company of words, beside the fit: no run of it did
# Student's t: the quantile 0.9 by degrees of freedom.
QUANTILES = {10: 1.372, 12: 1.356, 14: 1.345, 15: 1.341, 16: 1.337, 17: 1.333, 18: 1.330, 19: 1.328, 20: 1.325, 25: 1.316, 30: 1.310}
TERMS = ["one", "counted", "tokens", "tokens of words", "width", "adam", "words"]


def seconds(budget):
    """Of `90s`, `3m` or a number alone."""
    return round(float(budget.rstrip("smh")) * {"m": 60, "h": 3600}.get(budget[-1], 1))


def sweep(args):
    for text in args.text:
        for budget in args.budget.split(","):
            with tempfile.TemporaryDirectory() as folder:
                command = [args.lstm, "train", text, "--budget", budget, "--members", "1", "--json", "--out", f"{folder}/run", *args.rest]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                result = json.loads(said.stdout)
            known = result["expected"]
            if not known:
                print(f"{text}, {budget}: nothing was expected")
                continue
            name = Path(text).stem
            record = {
                "text": name, "group": args.group or name, "unseen": args.unseen, "budget": seconds(budget),
                "letters": known["letters"], "counted": known["counted"], "width": known["width"], "layers": known["layers"],
                "adam": known["adam"], "vectors": known["vectors"],
                "planned": round(known["tokens"]), "tokens": known["trained"], "test": result["test"]["perplexity"],
            }
            with open(args.observations, "a") as out:
                print(json.dumps(record), file=out)
            print(json.dumps(record))


def terms(run, tokens):
    """What the logarithm of the nats a token is linear in."""
    words = 0.0 if run["letters"] else 1.0
    few = (tokens / 1e6) ** -0.5
    return [1.0, np.log(run["counted"]), few, few * words, (run["width"] / 100) ** -0.5, float(run["adam"]), words]


def reached(run):
    """The logarithm of the nats a token, of a run that starts from random numbers."""
    return np.log(np.log(run["test"])) - OF_VECTORS * run.get("vectors", False)


def solve(runs):
    x = np.array([terms(run, run["tokens"]) for run in runs])
    y = np.array([reached(run) for run in runs])
    ridge = RIDGE * np.eye(len(TERMS))
    ridge[0, 0] = 1e-9
    return np.linalg.solve(x.T @ x + ridge, x.T @ y)


def missed(constants, run):
    """The logarithm of the nats reached over those expected before the run."""
    return reached(run) - terms(run, run["planned"]) @ constants


def band(constants, run, deviation, quantile):
    middle = terms(run, run["planned"]) @ constants + OF_VECTORS * run.get("vectors", False)
    return [float(np.exp(np.exp(middle + times * quantile * deviation))) for times in (0, -1, 1)]


def fit(args):
    runs = [json.loads(line) for line in Path(args.observations).read_text().splitlines()]
    runs = [run for run in runs if min(run["planned"], run["tokens"]) >= LEAST_TOKENS]
    fitted = [run for run in runs if not run["unseen"]]
    unseen = [run for run in runs if run["unseen"]]
    groups = sorted({run["group"] for run in fitted})
    constants = solve(fitted)
    left_out = []
    for group in groups:
        others = solve([run for run in fitted if run["group"] != group])
        left_out += [(run, missed(others, run)) for run in fitted if run["group"] == group]
    deviation = float(np.sqrt(np.mean([miss**2 for _, miss in left_out])))
    freedom = len(groups) - 1
    quantile = QUANTILES[max(known for known in QUANTILES if known <= freedom)]
    print(f"{len(fitted)} runs of {len(groups)} texts")
    for name, constant in zip(TERMS, constants):
        print(f"  {name:16} {constant:+.4f}")
    print(f"  deviation {deviation:.4f}, quantile of {freedom} degrees of freedom {quantile}")
    for name, key in [("counted", lambda run: run["counted"]), ("tokens", lambda run: run["planned"]), ("width", lambda run: run["width"])]:
        values = [key(run) for run in fitted]
        print(f"  {name} from {min(values):,} to {max(values):,}")
    within = sum(abs(miss) <= quantile * deviation for _, miss in left_out)
    print(f"texts left out of the fit: {within} of {len(left_out)} within the band")
    print("| text | seconds | expected | band | reached | |\n|---|---:|---:|---:|---:|---|")
    hits = 0
    for run in unseen:
        middle, low, high = band(constants, run, deviation, quantile)
        place = "within" if low <= run["test"] <= high else "below" if run["test"] < low else "above"
        hits += place == "within"
        shown = [f"{value:.3g}" for value in (middle, low, high, run["test"])]
        print(f"| {run['text']} | {run['budget']} | {shown[0]} | {shown[1]} to {shown[2]} | {shown[3]} | {place} |")
    print(f"unseen texts: {hits} of {len(unseen)} within the band")
    if args.check:
        for run in fitted[:: len(fitted) // 5]:
            values = ", ".join(f"{value:.5g}" for value in band(constants, run, deviation, quantile))
            print(f"{run['text']}, {run['budget']} s: counted {run['counted']}, tokens {run['planned']}, width {run['width']}, "
                  f"letters {run['letters']}, adam {run['adam']}: {values}")
    if args.draw:
        draw(args.draw, left_out, unseen, constants, quantile * deviation)


def draw(picture, left_out, unseen, constants, half):
    from drawing import axes_of, save

    figure, axes = axes_of(6.4, 4.2)
    points = [(run, np.log(np.log(run["test"])) - miss, "letters" if run["letters"] else "words and subwords") for run, miss in left_out]
    points += [(run, np.log(np.log(run["test"])) - missed(constants, run), "texts not fitted on") for run in unseen]
    for number, name in enumerate(["letters", "words and subwords", "texts not fitted on"]):
        of = [(np.exp(at), np.log(run["test"])) for run, at, kind in points if kind == name]
        axes.plot(*zip(*of), "o" if number < 2 else "D", color=f"C{number}", markersize=4, label=f"{name}, {len(of)} runs")
    line = np.geomspace(1.1, 7, 50)
    axes.plot(line, line, color="0.4", linewidth=1)
    axes.fill_between(line, line * np.exp(-half), line * np.exp(half), color="0.5", alpha=0.15, linewidth=0, label="80 % band")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [1.2, 1.5, 2, 3, 4, 5, 6]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("expected, nats a token")
    axes.set_ylabel("reached on the test text, nats a token")
    save(figure, axes, picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", default=str(OBSERVATIONS))
    commands = parser.add_subparsers(required=True)
    swept = commands.add_parser("sweep", help="train, and add what comes of it")
    swept.add_argument("text", nargs="+")
    swept.add_argument("--budget", default="10s,40s", help="times, with commas between")
    swept.add_argument("--group", help="the text that these are parts of, left out of the fit together")
    swept.add_argument("--unseen", action="store_true", help="keep these texts out of the fit")
    swept.add_argument("--lstm", default="target/release/lstm")
    swept.set_defaults(run=sweep)
    fitting = commands.add_parser("fit", help="print the constants and what they are worth")
    fitting.add_argument("--draw", help="draw the fit into this SVG file")
    fitting.add_argument("--check", action="store_true", help="print what it makes of a few runs")
    fitting.set_defaults(run=fit)
    args, args.rest = parser.parse_known_args()
    args.run(args)


if __name__ == "__main__":
    main()
