"""Measures the figures of README.md, docs/results.md, docs/ablation.md and docs/experiments.md again: one commit, one machine, one table.

    python3 bench/results.py                       # all of it, in the background over some eight hours; a second call goes on
    python3 bench/results.py --list                # what there is, how long it takes here, and what is done
    python3 bench/results.py --only ptb-3m,characters
    python3 bench/results.py --scale 0.02          # a first look at all of it, in minutes; the pages stay as they are

The first call builds the program of the commit that is checked out, measures how fast this machine trains, and keeps both in --work: later
calls go on with them, whatever is checked out by then. Of each run its folder and its result stay there, so a call that was
stopped (Ctrl-C, a kill) goes on where it was, a run in its middle by `--resume`. After every run the pages are written: wherever README.md
or a page of docs/ has a line

    <!-- results.py: ptb -->

all up to `<!-- end -->` is the script's, and becomes the table of that name; pictures go to docs/images. A table of which nothing was
measured is empty, a row that is missing says so.

Times are those of two cores of an EPYC of the fifth generation (Zen 5, in f32: REFERENCE). Elsewhere a run is given the time in which this
machine makes as many multiply-adds: the time there, times what `lstm bench train` reached there, over what it reaches here, in the
precision that a plan takes here. Nothing else may be at work. Pictures need matplotlib.
"""

import argparse
import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import ablation
from shapes import TRAIN

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# Tokens a second of training steps of `lstm bench` on two cores of Zen 5 in f32, whose peak is 533 GFLOP/s there: 54 to 70 % of it.
# The peak is no measure: what share of it a step reaches is the processor's.
REFERENCE = {"textlstm": 62_745, "small": 22_658, "medium": 4_693, "char": 61_864, "large vocabulary": 6_564}
# How much faster steps in bf16 have to be for a plan to take them (`PrecisionChoice` in crates/lstm/src/train/fastest.rs).
WORTH_BF16 = 1.1

MISSING = "not measured yet"
TITLES = {
    "ptb": "Penn Treebank, words", "characters": "tinyshakespeare, characters", "short": "Short times", "windows": "The word after five",
    "expected": "Expected and reached", "tasks": "Other tasks", "speed": "Training steps", "experiments": "The report's choices",
    "ablation": "Each technique alone", "shuffle": "Columns that begin elsewhere in every epoch", "orthogonal": "Orthogonal steps and mogrified cells",
}
WORDS = "ptb"
CHARACTERS = "tinyshakespeare/input.txt"
SMALL = "penn_small"


@dataclass(frozen=True)
class Run:
    """A run of `lstm train`. It ends after `budget` minutes of the reference, or by itself, after some `about` minutes of it."""

    name: str
    table: str
    text: str
    options: str
    budget: float | None = None
    about: float = 1.0
    pieces: int = 1  # in how many it is run, each going on by --resume
    adapt: tuple = ()  # kinds of `lstm eval --adapt` that the model is measured with
    baseline: bool = False  # whether n-grams of its training text are measured beside it
    what: str = ""
    published: str = ""
    picture: str = ""  # what its curve is called

    def minutes(self):
        return self.budget or self.about


def runs():
    """All of them, the short ones of each table first."""
    cache, all_ways = ("cache",), ("cache", "both")
    zaremba = "115.9 (Zaremba 2014, the same model)"
    yield Run("ptb-2m", "ptb", WORDS, "", 2, baseline=True)
    yield Run("ptb-3m", "ptb", WORDS, "", 3, adapt=cache, picture="Penn Treebank, 3 minutes")
    yield Run("ptb-small", "ptb", WORDS, "--preset small", about=10.5, published=zaremba, picture="Penn Treebank, 13 epochs of small")
    yield Run("ptb-15m", "ptb", WORDS, "", 15, adapt=cache, picture="Penn Treebank, 15 minutes")
    medium = "82.7 (Zaremba 2014, medium: two layers of 650, 39 epochs)"
    yield Run("ptb-30m", "ptb", WORDS, "", 30, adapt=all_ways, published=medium, picture="Penn Treebank, 30 minutes")
    yield Run("ptb-4h", "ptb", WORDS, "", 240, pieces=4, adapt=all_ways, picture="Penn Treebank, 4 hours in four pieces")
    yield Run("characters", "characters", CHARACTERS, "--split 90/0/10 --tokenizer chars", 10,
              published="1.5–1.6 char-rnn; 1.47 a small transformer on a GPU", picture="tinyshakespeare, 10 minutes")
    yield Run("plays", "characters", CHARACTERS, "--preset char --epochs 4", about=1)
    for name, text, budget in (("penn-1m", SMALL, 1), ("penn-2m", SMALL, 2), ("penn-3m", SMALL, 3), ("shakespeare-2m", CHARACTERS, 2)):
        yield Run(name, "short", text, "--tokenizer chars" if text == CHARACTERS else "", budget)
    report = "--preset textlstm"
    yield Run("windows", "windows", SMALL, f"{report} --readout hidden --init torch --hidden 256 --tied --dropout 0.4 --dropout-kind locked "
              "--epochs 10 --rate 0.002 --schedule cosine", about=1.5, picture="Windows of penn_small, ten epochs")
    standard = f"{report} --readout hidden --init torch"
    for name, what, options, about in (
        ("report", "**the report's: output gate, ones, one layer**", report, 0.5),
        ("readout", "readout: the hidden state", f"{report} --readout hidden", 0.5),
        ("init", "initial values: PyTorch's", f"{report} --init torch", 0.5),
        ("standard", "both: the standard model", standard, 0.5),
        ("report-cut", "the report's model, cut at every step", f"{report} --horizon 1", 0.5),
        ("standard-cut", "the standard model, cut at every step", f"{standard} --horizon 1", 0.5),
        ("report-scores", "the report's model, two layers, `scores` (the report's)", f"{report} --layers 2", 10),
        ("report-stacked", "the report's model, two layers, `stacked`", f"{report} --layers 2 --wiring stacked", 0.5),
        ("report-skip", "the report's model, two layers, `skip`", f"{report} --layers 2 --wiring skip", 0.5),
        ("report-scores-cut", "the report's model, two layers, `scores`, cut at every step", f"{report} --layers 2 --horizon 1", 10),
        ("standard-scores", "the standard model, two layers, `scores`", f"{standard} --layers 2", 10),
        ("standard-stacked", "the standard model, two layers, `stacked`", f"{standard} --layers 2 --wiring stacked", 0.5),
        ("standard-skip", "the standard model, two layers, `skip`", f"{standard} --layers 2 --wiring skip", 0.5),
        ("standard-stream", "the standard model on a stream of 20 columns", f"{standard} --batches stream --batch 20 --segment 20", 0.5),
        ("forget-bias", "PyTorch's initial values with a forget bias of 2", f"{report} --init torch --forget-bias 2", 0.5),
    ):
        yield Run(f"experiment-{name}", "experiments", SMALL, options, about=about, what=what)
    number = 0
    for row in filter(None, ablation.ROWS):
        what, source, changes = row
        chosen = {name: value for name, value in {**ablation.BASE, **changes}.items() if value is not None}
        number += 1
        yield Run(f"ablation-{number}", "ablation", SMALL, spelled(chosen), about=8 if changes.get("wiring") == "scores" else 0.8,
                  what=what, published=source)
    small_words = {**ablation.BASE, "layers": 1, "hidden": 128, "embedding": 128, "batch": 20, "epochs": 6, "tokenizer": "words"}
    for text, base in ((SMALL, ablation.BASE), (CHARACTERS, small_words)):
        for seed in (1, 2, 3):
            for shuffled in (False, True):
                options = {**base, "seed": seed, **({"partial-shuffle": True} if shuffled else {})}
                what = f"{'penn_small' if text == SMALL else 'tinyshakespeare, words'}, seed {seed}{', shuffled' if shuffled else ''}"
                name = f"shuffle-{'penn' if text == SMALL else 'shakespeare'}-{seed}{'-yes' if shuffled else '-no'}"
                yield Run(name, "shuffle", text, spelled(options), about=0.8, what=what)
    letters = "--tokenizer chars --layers 1 --hidden 128 --embedding 64 --batch 32 --segment 64 --steps 600 --dropout 0 --schedule cosine --warmup 0.03 --unigram-bias=false --weight-decay 0"
    for optimizer, rates, more in (("sgd", (10, 20, 40), " --clip 0.25"), ("adam", (0.003, 0.01, 0.02), ""), ("muon", (0.005, 0.01, 0.02, 0.04), "")):
        for rate in rates:
            yield Run(f"orthogonal-{optimizer}-{rate}", "orthogonal", CHARACTERS, f"{letters} --optimizer {optimizer} --rate {rate}{more}",
                      about=0.3, what=f"characters, {optimizer} at {rate}")
    words = {**ablation.BASE, "hidden": 100, "embedding": 100, "batch": 10, "dropout": 0.2, "epochs": 4, "candidates": 1000}
    for name, what, changes in (
        ("words-sgd", "SGD at 30", {}),
        ("words-muon-sgd", "muon-sgd: SGD at 30, matrices at 0.01", {"optimizer": "muon-sgd", "muon-rate": 0.01}),
        ("words-muon", "muon at 0.004, AdamW for the rest, clipped to 1", {"optimizer": "muon", "rate": 0.004, "clip": 1}),
        ("words-mogrify", "SGD at 30, a mogrifier of 5 rounds", {"mogrify": 5}),
        ("words-mogrify-20", "the same, of rank 20", {"mogrify": 5, "mogrify-rank": 20}),
    ):
        yield Run(f"orthogonal-{name}", "orthogonal", SMALL, spelled({**words, **changes}), about=0.4, what=f"words, {what}")
    yield Run("labels", "tasks", "sst2/train.txt", "--task classify --valid DATA/sst2/dev.txt --test DATA/sst2/test.txt", 1.5, what="SST-2")
    yield Run("table", "tasks", "ett/ETTh2.csv", "--task forecast --target OT --horizon 24 --split 8640/2880/2880", 1, what="ETTh2, 24 hours")
    yield Run("own", "tasks", "", "", about=0.3, what="the program's own language")


def spelled(options):
    return " ".join(word for name, value in options.items() for word in ablation.arguments(name, value))


class Stopped(Exception):
    """Somebody wants this script to end."""


class Work:
    """The work folder: program, machine, runs and results."""

    def __init__(self, args):
        self.args = args
        self.folder = Path(args.work) / (f"scale-{args.scale}" if args.scale != 1 else "")
        self.kept = self.folder / "machine.json"
        self.machine = json.loads(self.kept.read_text()) if self.kept.exists() else None
        self.program = str(self.folder / "lstm")

    def begin(self):
        """Program and machine, as the first call found them."""
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        # Held until the script ends, however it ends.
        self.lock = open(self.folder / "lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another call is at work in {self.folder}")
        if self.machine:
            if self.machine["processor"] != processor():
                sys.exit(f"{self.folder} was begun on another machine, {self.machine['processor']}; give another --work")
            return
        commit = self.args.commit or tidy_commit()
        program = self.args.lstm
        if not program:
            subprocess.run(["cargo", "build", "--release", "--locked", "-p", "lstm-cli"], cwd=ROOT, check=True)
            program = ROOT / "target" / "release" / "lstm"
        shutil.copy2(program, self.program)
        note("how fast this machine trains")
        speeds = {precision: self.speed(precision) for precision in ("f32", "bf16x3", "bf16")}
        means = {precision: times(speed) for precision, speed in speeds.items()}
        precision = "bf16" if means["bf16"] >= WORTH_BF16 * means["f32"] else "f32"
        known = [of for of in speeds[precision].values() if of["reference"]]
        gflops = math.exp(sum(math.log(of["gflops"]) for of in known) / len(known))
        any_of = known[0]
        self.machine = {
            "commit": commit, "processor": processor(), "threads": any_of["threads"], "unit": any_of["unit"], "precision": precision,
            "peak_gflops": max(of["f32_peak_gflops"] for of in speeds["f32"].values()), "gflops": gflops, "times": means[precision],
            "date": time.strftime("%Y-%m-%d", time.gmtime()), "speeds": speeds,
        }
        write(self.kept, json.dumps(self.machine, indent=1))

    def speed(self, precision):
        """What `lstm bench` says of every shape of the README's table."""
        measured = {}
        first_look = self.args.scale != 1
        for shape in [shape for shape in TRAIN if shape.name == "small" or not first_look]:
            seconds = "0.1" if first_look else "3"
            command = [self.program, "bench", "train", *shape.arguments(), "--precision", precision, "--seconds", seconds, "--json"]
            said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            keys = ("tokens_per_second", "gflops", "f32_peak_gflops", "threads", "unit")
            measured[shape.name] = {**{key: said[key] for key in keys}, "reference": REFERENCE.get(shape.name)}
        return measured

    def seconds(self, run):
        """The time that a run with a budget gets here, or any in a first look."""
        if run.budget is None and self.args.scale == 1:
            return None
        # Less than this no plan can be made in.
        return max(3, round(60 * run.minutes() * self.args.scale / (self.machine["times"] if self.machine else 1)))

    def result(self, run):
        path = self.folder / f"{run.name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def path(self, of):
        return str(Path(self.args.data) / of)

    def words(self, run):
        """The command of a run, without where it is kept."""
        text = [self.path(run.text)] if run.text else []
        options = [word.replace("DATA", self.args.data) for word in run.options.split()]
        bound = ["--budget", f"{self.seconds(run)}s"] if self.seconds(run) else []
        return ["train", *text, *options, *bound]

    def do(self, run):
        """Trains, or goes on, measures what is to be measured, and keeps the result."""
        folder = self.folder / "runs" / run.name
        parts = self.folder / f"{run.name}.parts"  # the seconds and the memory of each part of it
        spent = [json.loads(line) for line in parts.read_text().splitlines()] if parts.exists() else []
        piece = self.seconds(run) / run.pieces if run.pieces > 1 else None
        said = None
        while said is None:
            begun = (folder / "checkpoint.safetensors").exists()
            if not begun:
                spent = []
            command = ["train", "--resume", str(folder)] if begun else [*self.words(run), "--out", str(folder), "--force"]
            said, seconds, memory, stopped = self.call([*command, "--json"], folder.with_suffix(".log"), piece)
            spent.append({"seconds": seconds, "memory": memory})
            write(parts, "".join(json.dumps(part) + "\n" for part in spent))
            if stopped:
                raise Stopped
        record = {
            "command": self.words(run), "seconds": sum(part["seconds"] for part in spent), "parts": len(spent),
            "memory": max(part["memory"] for part in spent), "trained": said, "readings": readings(folder),
        }
        for how in run.adapt:
            record[how] = self.measured(["eval", str(folder), "--adapt", how, "--json"], folder)["adapted"]
        if run.baseline:
            file = next(Path(self.path(run.text)).glob("*test*"))
            record["baseline"] = self.measured(["eval", str(folder), str(file), "--baseline", "--json"], folder)["baseline"]
        write(self.folder / f"{run.name}.json", json.dumps(record, indent=1))

    def measured(self, command, folder):
        said, _, _, stopped = self.call(command, folder.with_suffix(".log"))
        if stopped:
            raise Stopped
        return said

    def call(self, command, log, piece=None):
        """The object that the program says, none where it was stopped; its seconds, the most memory it held, and whether it is us who are to stop."""
        started, stopping, wanted = time.monotonic(), False, False
        with open(log, "a") as talk, open(log.with_suffix(".out"), "w+") as out:
            # In a session of its own, so that Ctrl-C does not reach it beside our signal: it saves on the first and dies of the second.
            child = subprocess.Popen([self.program, *command], stdout=out, stderr=talk, start_new_session=True)
            while True:
                try:
                    pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                    if pid:
                        break
                    time.sleep(0.5)
                    over = piece and time.monotonic() - started > piece
                except (KeyboardInterrupt, Stopped):
                    over = wanted = True
                if over and not stopping:
                    stopping = True
                    child.send_signal(signal.SIGTERM)
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            text = out.read()
        seconds = time.monotonic() - started
        if child.returncode and not stopping:
            last = Path(log).read_text().strip().splitlines()[-1:] or [""]
            raise RuntimeError(f"lstm {' '.join(command)}: {last[0]} ({log})")
        said = json.loads(text) if text.strip() and not wanted else None
        return said, seconds, 1024 * usage.ru_maxrss, wanted


def note(line):
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def write(path, text):
    """A reader, or a call after a kill, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.replace(path)


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def tidy_commit():
    if git("status", "--porcelain", "--untracked-files=no"):
        sys.exit("there are changes that no commit has, so figures would be of none; commit them, or name what is measured by --lstm and --commit")
    return git("rev-parse", "--short", "HEAD")


def processor():
    """Its name, as the system has it; virtual machines hide the model, so family and number are told too."""
    try:
        about = Path("/proc/cpuinfo").read_text()
    except OSError:
        import platform

        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", about, re.MULTILINE))
    count = len(re.findall(r"^processor\s*:", about, re.MULTILINE))
    return f"{fields.get('model name', 'unknown')}, family {fields.get('cpu family')}, model {fields.get('model')}, {count} processors"


def times(speed):
    """How many times the reference's speed this is: the geometric mean over its shapes."""
    ratios = [math.log(of["tokens_per_second"] / of["reference"]) for of in speed.values() if of["reference"]]
    return math.exp(sum(ratios) / len(ratios))


def readings(folder):
    """How often the text was read: whole epochs, and of the last the share that it has of a whole one."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return None
    tokens = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if "epoch_tokens" in record:
            tokens[record["epoch"]] = max(tokens.get(record["epoch"], 0), record["epoch_tokens"])
    if len(tokens) < 2:
        return None
    last = max(tokens)
    return last - 1 + min(1, tokens[last] / max(of for epoch, of in tokens.items() if epoch != last))


# The pages.

def clock(seconds):
    return str(timedelta(seconds=round(seconds))).removeprefix("0:").removeprefix("0")


def count(number, thing):
    return f"{number} {thing}{'' if number == 1 else 's'}"


def figure(value):
    return MISSING if value is None else f"{value:.4g}" if value < 10 else f"{value:.1f}"


class Pages:
    """What is written of the results."""

    def __init__(self, work):
        self.work = work
        self.results = {run.name: (run, work.result(run)) for run in runs()}
        self.root = ROOT
        if work.args.scale != 1:
            # A first look changes no page: copies lie in the work folder.
            self.root = work.folder / "pages"
            for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
                copy = self.root / page.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(page, copy)

    def of(self, table):
        return [(run, result) for run, result in self.results.values() if run.table == table]

    def write(self):
        pattern = re.compile(r"(<!-- results\.py: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
        for page in [self.root / "README.md", *sorted((self.root / "docs").glob("*.md"))]:
            text = page.read_text()
            images = "docs/images" if page.name == "README.md" else "images"
            written = pattern.sub(lambda found: found[1] + self.section(found[2], images) + found[3], text)
            if written != text:
                write(page, written)
        return self.root

    def section(self, name, images):
        made = {"machine": self.about, "expected": self.expected, "speed": self.speed, "tasks": self.tasks, "main": self.main}
        rows = [result for _, result in self.of(name)]
        if name in made:
            lines = made[name]()
        elif any(rows):
            lines = self.ablation() if name == "ablation" else self.language(name, images)
        elif rows:
            lines = []
        else:
            sys.exit(f"no table is called {name}")
        if lines and name in TITLES:
            lines = [f"### {TITLES[name]}", "", *lines]
        return "\n" + "\n".join(lines) + "\n\n" if lines else ""

    def about(self):
        machine, scale = self.work.machine, self.work.args.scale
        lines = [
            f"All of commit {machine['commit']}, on one machine: {machine['processor']}, {count(machine['threads'], 'thread')}, begun {machine['date']}. "
            f"Training steps of `lstm bench` reach {machine['gflops']:.0f} GFLOP/s in {machine['precision']} ({machine['unit']}; geometric mean over "
            f"{count(sum(of['reference'] is not None for of in machine['speeds']['f32'].values()), 'size')}; the peak in f32 is {machine['peak_gflops']:.0f}), {machine['times']:.2f} times what two cores of Zen 5 reach in f32 (peak 533), so "
            f"what is said to have a time of those has {1 / machine['times']:.2f} times that here, for as many multiply-adds: the column `given`."
        ]
        if scale != 1:
            lines.append(f"\n**A first look, with {scale} of the time: these are no results.**")
        return lines

    def language(self, name, images):
        """The table of language models, with the columns that its rows have something in."""
        rows = self.of(name)
        characters = name == "characters"
        command = ("command", lambda run, _: self.command(run))
        named = any(run.what for run, _ in rows)
        # Where rows have names, the commands come last.
        columns = [("", lambda run, _: run.what), ("", lambda *_: "") if named else command,
                   ("published, for comparison", lambda run, _: run.published),
                   ("given", lambda run, _: self.given(run)),
                   ("valid", lambda _, result: figure(loss(result, "valid", "perplexity")) if loss(result, "valid", "perplexity") else ""),
                   ("test", lambda _, result: f"**{figure(loss(result, 'test', 'perplexity'))}**"),
                   ("nats a character", lambda _, result: f"{loss(result, 'test', 'nll'):.3f}" if characters else ""),
                   ("with the cache", lambda _, result: figure(result["cache"]["perplexity"]) if "cache" in result else ""),
                   ("learning and with the cache", lambda _, result: figure(result["both"]["perplexity"]) if "both" in result else ""),
                   ("time", lambda _, result: clock(result["seconds"]) + (f" in {result['parts']} parts" if result["parts"] > 1 else "")),
                   ("memory", lambda _, result: f"{result['memory'] / 2**20:.0f} MiB"),
                   ("readings", lambda _, result: f"{result['readings']:.1f}" if result["readings"] else ""),
                   command if named else ("", lambda *_: "")]
        beforehand = 4  # columns that need no result
        cells = []
        for run, result in rows:
            row = [of(run, result) if number < beforehand or number == len(columns) - 1 or result else "" for number, (_, of) in enumerate(columns)]
            if not result:
                row[5] = MISSING
            cells.append(row)
        for run, result in rows:
            if result and "baseline" in result:
                order, value = result["baseline"]["order"], result["baseline"]["perplexity"]
                row = [""] * len(columns)
                row[1], row[5] = f"`lstm eval RUN TEST --baseline` ({order}-gram, Kneser-Ney)", figure(value)
                cells.append(row)
        used = [number for number in range(len(columns)) if any(row[number] for row in cells)]
        lines = table([columns[number][0] for number in used], [[row[number] for number in used] for row in cells], texts=sum(number < 3 for number in used))
        pictures = [f"![{run.picture}]({images}/measured-{run.name}.svg)" for run, result in rows if result and self.draw(run)]
        return lines + ([""] if pictures else []) + pictures

    def command(self, run):
        minutes = f"{run.budget:g}m" if run.budget and run.budget < 60 else f"{run.budget / 60:g}h" if run.budget else ""
        bound = f" --budget {minutes}" if run.budget else ""
        text = f" {self.work.path(run.text)}" if run.text else ""
        options = f" {run.options}".replace("DATA", self.work.args.data) if run.options else ""
        return f"`lstm train{text}{options}{bound}`"

    def given(self, run):
        seconds = self.work.seconds(run)
        return clock(seconds) if seconds else ""

    def draw(self, run):
        """The curve of a run, drawn anew where its result is; whether there is one."""
        if not run.picture:
            return False
        picture = self.root / "docs" / "images" / f"measured-{run.name}.svg"
        result = self.work.folder / f"{run.name}.json"
        if find_spec("matplotlib") is None or picture.exists() and picture.stat().st_mtime > result.stat().st_mtime:
            return picture.exists()
        command = [sys.executable, str(HERE / "curves.py"), str(picture), str(self.work.folder / "runs" / run.name), "--title", run.picture]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            note(f"no picture of {run.name}: {done.stdout.strip().splitlines()[-1]}")
        return not done.returncode

    def ablation(self):
        rows = self.of("ablation")
        base = rows[0][1]
        names = {what: changes for what, _, changes in filter(None, ablation.ROWS)}
        cells = []
        for run, result in rows:
            changes = names[run.what]
            option = " ".join(f"no --{name}" if value is None else " ".join(ablation.arguments(name, value)) for name, value in changes.items())
            head = [run.what, run.published, f"`{option}`" if option else ""]
            if not result:
                cells.append([*head, "", "", MISSING, ""])
                continue
            train, valid, test = (loss(result, part, "perplexity") for part in ("train", "valid", "test"))
            share = f"{100 * (test / loss(base, 'test', 'perplexity') - 1):+.1f} %" if base and changes else ""
            cells.append([*head, f"{train:.0f}", figure(valid), figure(test), share])
        return table(["", "source", "option", "train", "valid", "test", "of the base's"], cells, texts=3)

    def expected(self):
        """What the plans said beforehand beside what came of it."""
        cells, within, said = [], 0, 0
        for run, result in self.results.values():
            known = result and result["trained"].get("expected")
            if not known:
                continue
            said += 1
            within += known["place"] == "within"
            reached = loss(result, "test", "perplexity")
            values = [figure(known["perplexity"]), f"{figure(known['low'])} to {figure(known['high'])}", figure(reached), known["place"]]
            cells.append([self.command(run), *values])
        if not cells:
            return []
        head = ["", "expected test perplexity", "80 % band", "reached", ""]
        return [*table(head, cells, texts=1), "", f"{within} of {said} within the band."]

    def speed(self):
        speeds = self.work.machine["speeds"]
        precisions = dict.fromkeys(["f32", self.work.machine["precision"]])
        head = ["tokens/s", *speeds, *(f"GFLOP/s in {precision}" for precision in precisions)]
        cells = []
        for shape in [shape for shape in TRAIN if shape.name in speeds["f32"]]:
            of = {precision: speed[shape.name] for precision, speed in speeds.items()}
            name = f"`{shape.name}`: {shape.sizes()}"
            gflops = [f"{of[precision]['gflops']:.0f}" for precision in precisions]
            cells.append([name, *(f"{one['tokens_per_second']:,.0f}" for one in of.values()), *gflops])
        return table(head, cells, texts=1)

    def tasks(self):
        cells = []
        for run, result in self.of("tasks"):
            said = result["trained"] if result else {}
            if not result:
                values = MISSING
            elif run.name == "labels":
                test = said["test"]
                counted = test["baselines"]["bag of words"]["accuracy"]
                values = f"accuracy {100 * test['accuracy']:.2f} % (bag of words {100 * counted:.2f} %), macro F1 {100 * test['macro_f1']:.2f}"
            elif run.name == "table":
                model, others = said["measures"]["model"], said["measures"]["baselines"]
                beside = ", ".join(f"{of['name']} {of['measures']['mse_scaled']:.4f}" for of in others)
                values = f"MSE {model['mse_scaled']:.4f} ({beside}), CRPS {model['crps']:.4f}, {100 * model['coverage']:.1f} % within the 90 % band"
            else:
                values = f"test perplexity {said['test']['perplexity']:.2f}, floor {said['floor']:.2f}"
            cells.append([run.what, self.command(run), self.given(run), values, clock(result["seconds"]) if result else ""])
        return table(["", "command", "given", "test", "time"], cells, texts=2) if any(result for _, result in self.of("tasks")) else []

    def main(self):
        """The few figures that the README has."""
        cells = []
        for name, what in (("ptb-2m", "Penn Treebank, 2 minutes"), ("ptb-3m", "3 minutes"), ("ptb-15m", "15 minutes"),
                           ("ptb-30m", "30 minutes"), ("ptb-4h", "4 hours"), ("characters", "tinyshakespeare, characters, 10 minutes")):
            _, result = self.results[name]
            adapted = min((result[how]["perplexity"] for how in ("cache", "both") if how in result), default=None) if result else None
            reached = loss(result, "test", "perplexity") if result else None
            if name == "characters" and result:
                cells.append([what, f"{loss(result, 'test', 'nll'):.3f} nats", ""])
            else:
                cells.append([what, figure(reached), figure(adapted) if adapted else ""])
        if all(cell[1] == MISSING for cell in cells):
            return []
        machine = self.work.machine
        line = f"Test perplexities at commit {machine['commit']} on {machine['processor']}; times are those of two Zen 5 cores, here {1 / machine['times']:.2f} times as long:"
        return [line, "", *table(["", "test", "following the text"], cells, texts=1)]


def loss(result, part, key):
    of = result["trained"].get(part)
    return of[key] if of else None


def table(head, rows, texts):
    """Markdown; columns behind the first ones are numbers."""
    line = "|".join(["---"] * texts + ["---:"] * (len(head) - texts))
    return [f"| {' | '.join(head)} |", f"|{line}|", *(f"| {' | '.join(row)} |" for row in rows)]


def shown(work, chosen):
    left = 0
    for run in chosen:
        result = work.result(run)
        begun = (work.folder / "runs" / run.name / "checkpoint.safetensors").exists()
        seconds = work.seconds(run)
        if not seconds:
            seconds = 60 * run.about / (work.machine["times"] if work.machine else 1)
        left += 0 if result else seconds
        state = f"done in {clock(result['seconds'])}" if result else "begun" if begun else ""
        print(f"{run.name:<28} {clock(seconds):>8}  {state:<18} lstm {' '.join(work.words(run))}")
    where = "" if work.machine else " on two cores of Zen 5; this machine was not measured yet"
    print(f"{clock(left)} of training are left{where}")


def stop(*_):
    raise Stopped


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="these runs alone, names with commas between; a name of a table is all of its runs")
    parser.add_argument("--scale", type=float, default=1, help="how much of the time every run gets; other than 1 it is a first look")
    parser.add_argument("--list", action="store_true", help="say what there is and what is done, and run nothing")
    parser.add_argument("--tables", action="store_true", help="write the pages from what is there, and run nothing")
    parser.add_argument("--data", default="../shared/data", help="where the corpora lie: ptb, penn_small, tinyshakespeare, sst2, ett")
    parser.add_argument("--work", default="target/results", help="where runs and results are kept")
    parser.add_argument("--lstm", help="the program to measure, of --commit [default: the commit that is checked out is built]")
    parser.add_argument("--commit", help="which commit --lstm is of")
    args = parser.parse_args()
    if bool(args.lstm) != bool(args.commit):
        parser.error("--lstm and --commit belong together: a figure without its commit is none")
    chosen = list(runs())
    if args.only:
        names = args.only.split(",")
        unknown = [name for name in names if not any(name in (run.name, run.table) for run in chosen)]
        if unknown:
            parser.error(f"no run or table is called {', '.join(unknown)}; --list says what there is")
        chosen = [run for run in chosen if run.name in names or run.table in names]
    work = Work(args)
    if args.list:
        return shown(work, chosen)
    missing = [path for path in dict.fromkeys(work.path(run.text) for run in chosen) if not Path(path).exists()]
    if missing and not args.tables:
        parser.error(f"there is no {', '.join(missing)}; --data says where the corpora lie, `lstm data get` gets some")
    if args.tables and not work.machine:
        parser.error(f"nothing was measured in {work.folder} yet")
    if find_spec("matplotlib") is None:
        note("there is no matplotlib, so no picture is drawn; a later call with it draws them")
    signal.signal(signal.SIGTERM, stop)
    work.begin()
    failed = []
    try:
        for run in [] if args.tables else chosen:
            if work.result(run):
                continue
            note(f"{run.name}: lstm {' '.join(work.words(run))}")
            try:
                work.do(run)
                Pages(work).write()
            except RuntimeError as error:
                failed.append(f"{run.name}: {error}")
                note(failed[-1])
    except (KeyboardInterrupt, Stopped):
        sys.exit("stopped; the same call goes on")
    print(f"the pages are in {Pages(work).write()}")
    if failed:
        sys.exit("\n".join(["these failed, the rest is done:", *failed]))


if __name__ == "__main__":
    main()
