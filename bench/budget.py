"""The sweep behind `lstm train FILE --budget`: the same time for models of different widths, and what each reaches.

    python3 bench/budget.py TEXT --budget 1m --hidden 128,208,320,512 --out sweep.jsonl
    python3 bench/budget.py --draw docs/images/budget-ptb.svg sweep.jsonl

Every run is `lstm train TEXT --budget B --hidden N`, which follows the plan in all else. A line of the result has the
width, the layers, the parameters, the times the text was read, and the validation and test perplexity. Runs measure time,
so nothing else may be at work. Drawing needs matplotlib.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def sweep(args):
    for budget in args.budget.split(","):
        for hidden in args.hidden.split(","):
            with tempfile.TemporaryDirectory() as folder:
                command = [args.lstm, "train", args.text, "--budget", budget, "--hidden", hidden, "--members", "1", "--json",
                           "--out", f"{folder}/run", *args.rest]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                result = json.loads(said.stdout)
                shown = subprocess.run([args.lstm, "show", f"{folder}/run", "--json"], check=True,
                                       stdout=subprocess.PIPE)
                model = json.loads(shown.stdout)["config"]["model"]
                last = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
                epochs = max(record.get("epoch", 0) for record in last)
                record = {
                    "text": args.name or Path(args.text).name, "budget": budget, "hidden": int(hidden), "layers": model["lstm"]["layers"],
                    "dropout": model["dropout"]["input"], "parameters": result["parameters"], "epochs": epochs,
                    "seconds": round(result["seconds"], 1), "tokens_per_second": round(result["tokens_per_second"]),
                    "valid": result["valid"]["perplexity"], "test": result["test"]["perplexity"],
                }
                with open(args.out, "a") as out:
                    print(json.dumps(record), file=out)
                print(json.dumps(record))


def draw(picture, files):
    from drawing import axes_of, save

    records = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    figure, axes = axes_of(6.4, 3.8)
    curves = dict.fromkeys((record["text"], record["budget"]) for record in records)
    for number, (text, budget) in enumerate(curves):
        points = sorted((r for r in records if (r["text"], r["budget"]) == (text, budget)), key=lambda r: r["hidden"])
        least = min(point["valid"] for point in points)
        heights = [point["valid"] / least for point in points]
        axes.plot([r["hidden"] for r in points], heights, "o-", color=f"C{number}", markersize=4,
                  label=f"{text}, {budget}")
        for point, height in zip(points, heights):
            layers = f" ({point['layers']} layers)" if point["layers"] > 1 else ""
            axes.annotate(f"{point['valid']:.3g}{layers}", (point["hidden"], height), fontsize=7, color=f"C{number}",
                          xytext=(0, 5), textcoords="offset points", ha="center")
    axes.set_xscale("log", base=2)
    widths = sorted({record["hidden"] for record in records})
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set_xlabel("hidden size")
    axes.set_ylabel("perplexity, over the lowest of its text")
    save(figure, axes, picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="*", help="the text; with --draw the results of sweeps")
    parser.add_argument("--budget", default="1m", help="times, with commas between")
    parser.add_argument("--hidden", default="128,208,320,512", help="widths, with commas between")
    parser.add_argument("--out", default="sweep.jsonl", help="where results are added")
    parser.add_argument("--name", help="what the text is called, if not by its file")
    parser.add_argument("--lstm", default="target/release/lstm")
    parser.add_argument("--draw", help="draw results into this SVG file instead")
    args, args.rest = parser.parse_known_args()
    if args.draw:
        draw(args.draw, args.text)
        return
    if len(args.text) != 1:
        sys.exit("give one text")
    args.text = args.text[0]
    sweep(args)


if __name__ == "__main__":
    main()
