"""`lstm_cpu` beside torch.nn.LSTM in one process: alternating runs, medians, ratios of a round.

    python bench/python/compare.py                     # every row, some minutes
    python bench/python/compare.py --only layer,packed --rounds 3 --seconds 0.5 --lstm target/release/lstm

Both compute from the same weights in the same memory; where results differ by more than 1e-4 of their size (bfloat16: 2 %) the exit code is 1.
On a machine that others use too, `--threads 1 --clock cpu` counts the processor's time of this process, not the clock's.
With `--lstm` each row of `layer` also says what the Rust library's own ratio is, measured by `lstm bench layer` beside torch.
"""

import argparse
import copy
import json
import pathlib
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import lstm_cpu

CLOCK = time.perf_counter
ROOT = pathlib.Path(__file__).resolve().parent


def seconds_of(call, budget):
    """The median time of a call, of as many as the budget has room for and at least three."""
    taken, started = [], CLOCK()
    while len(taken) < 3 or CLOCK() - started < budget:
        begin = CLOCK()
        call()
        taken.append(CLOCK() - begin)
    return statistics.median(taken)


def pair(*arguments, **options):
    theirs = nn.LSTM(*arguments, **options)
    ours = copy.deepcopy(theirs)
    lstm_cpu.accelerate(ours)
    return ours, theirs


def step_of(module, input, hx=None):
    """Forward and backward with the gradients of everything; gives what came out."""

    def step():
        module.zero_grad()
        input.grad = None
        output = module(input, hx)[0]
        output = output if isinstance(output, torch.Tensor) else output.data
        output.backward(gradient_of(output))
        return output

    return step


GRADIENTS = {}


def gradient_of(output):
    found = GRADIENTS.get(output.shape)
    if found is None:
        found = GRADIENTS[output.shape] = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    return found


def packed_step(module, data, lengths):
    def step():
        module.zero_grad()
        data.grad = None
        output = module(pack_padded_sequence(data, lengths))[0].data
        output.backward(gradient_of(output))
        return output

    return step


def layer_rows():
    for hidden in (64, 128, 256, 512, 650, 1024, 1500):
        ours, theirs = pair(hidden, hidden)
        x = torch.randn(35, 20, hidden, requires_grad=True)
        yield f"H {hidden}, T 35, B 20", step_of(ours, x), step_of(theirs, x), hidden


def row_rows():
    for hidden in (64, 256):
        ours, theirs = pair(hidden, hidden)
        x = torch.randn(100, 1, hidden, requires_grad=True)
        yield f"one row, H {hidden}, T 100", step_of(ours, x), step_of(theirs, x), None


def packed_rows():
    ours, theirs = pair(256, 256)
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 101, (64,), generator=generator).sort(descending=True).values
    lengths[0] = 100
    x = torch.randn(100, 64, 256, requires_grad=True)
    packed = packed_step(ours, x, lengths)
    yield "lengths 5…100, B 64, H 256, beside torch's packed", packed, packed_step(theirs, x, lengths), None
    yield "the same beside torch's padded", packed, step_of(theirs, x), None


def call_rows():
    ours, theirs = pair(8, 8)
    x = torch.randn(1, 1, 8, requires_grad=True)
    yield "a call: H 8, T 1, B 1, forward and backward", step_of(ours, x), step_of(theirs, x), None

    def forward(module):
        def call():
            with torch.no_grad():
                return module(x)[0]

        return call

    yield "a call: H 8, T 1, B 1, forward alone", forward(ours), forward(theirs), None


def model_rows():
    """The whole step of PyTorch's word-language-model example, 2 layers of 200, V 33,278 (WikiText-2)."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.rnn = nn.Embedding(33278, 200), nn.LSTM(200, 200, 2)
            self.decoder = nn.Linear(200, 33278)

    theirs = Model()
    ours = copy.deepcopy(theirs)
    lstm_cpu.accelerate(ours)
    tokens = torch.randint(33278, (36, 20))

    def step_of(model):
        def step():
            model.zero_grad()
            output, _ = model.rnn(model.encoder(tokens[:-1]))
            scores = nn.functional.log_softmax(model.decoder(output).view(-1, 33278), 1)
            loss = nn.functional.nll_loss(scores, tokens[1:].reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(parameter.grad, alpha=-1e-6)
            return loss

        return step

    yield "word-language-model example, 2×200, whole step", step_of(ours), step_of(theirs), None


def autocast_rows():
    try:
        with torch.autocast("cpu", torch.bfloat16):
            nn.LSTM(8, 8)(torch.randn(1, 1, 8))
    except RuntimeError as error:
        print(f"autocast: not measured, torch's own layer raises on this processor: {error}", file=sys.stderr)
        return
    for hidden in (256, 650, 1024):
        theirs = nn.LSTM(hidden, hidden)
        ours = copy.deepcopy(theirs)
        lstm_cpu.accelerate(ours)
        x = torch.randn(35, 20, hidden)

        def step_of(layer):
            def step():
                layer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    output, _ = layer(x)
                output.float().sum().backward()
                return output.float()

            return step

        yield f"autocast of bfloat16, H {hidden}, T 35, B 20", step_of(ours), step_of(theirs), None


SECTIONS = {"call": call_rows, "row": row_rows, "layer": layer_rows, "packed": packed_rows, "model": model_rows, "autocast": autocast_rows}


def own_ratio(args, hidden):
    """What the Rust library's own ratio is: its time and torch's, each in its own process, in turns."""
    sizes = ["layer", "--embedding", hidden, "--hidden", hidden, "--layers", 1, "--segment", 35, "--batch", 20]
    options = ["--threads", args.threads, "--seconds", args.seconds]
    commands = [
        [args.lstm, "bench", *sizes, *options, "--json"],
        [sys.executable, ROOT.parent / "pytorch_peer.py", *sizes, *options],
    ]
    ratios = []
    for _ in range(args.rounds):
        results = [json.loads(subprocess.check_output([str(part) for part in command])) for command in commands]
        ours, theirs = (result.get("both", result)["milliseconds"] for result in results)
        ratios.append(theirs / ours)
    return statistics.median(ratios)


MEMORY = """
import re, sys, torch, lstm_cpu
torch.set_num_threads(2)
cls = lstm_cpu.LSTM if sys.argv[1] == "ours" else torch.nn.LSTM
module, x = cls(650, 650, 2), torch.randn(35, 20, 650)
# Loading torch takes more than training: the highest is counted from here.
open("/proc/self/clear_refs", "w").write("5")
kib = lambda name: int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
before = kib("VmRSS")
for _ in range(5):
    module.zero_grad()
    module(x)[0].sum().backward()
print((kib("VmHWM") - before) / 1024)
"""


def memory():
    """The memory that training takes beside the program's, MiB, each in its own process."""
    return [float(subprocess.check_output([sys.executable, "-c", MEMORY, who])) for who in ("ours", "torch")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join([*SECTIONS, "memory"]))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lstm", type=pathlib.Path, help="the command, to measure the Rust library's own ratio")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    args = parser.parse_args()
    if args.clock == "cpu":
        if args.threads != 1:
            parser.error("--clock cpu needs --threads 1: threads that wait for each other spend the processor's time too")
        global CLOCK
        CLOCK = time.process_time
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    print(f"torch {torch.__version__}, {args.threads} threads, {lstm_cpu.isa()}, {args.rounds} rounds of {args.seconds} s, {args.clock} time\n")
    print("| | lstm_cpu, ms | torch, ms | ratio | the library's own |\n|---|---:|---:|---:|---:|")
    wrong = False
    for section in args.only.split(","):
        for name, ours, theirs, hidden in SECTIONS.get(section, lambda: ())():
            a, b = ours().detach(), theirs().detach()
            bound = 2e-2 if section == "autocast" else 1e-4
            if a.shape == b.shape and (a - b).abs().max() > bound * b.abs().max().clamp(min=1.0):
                wrong, name = True, f"{name} (results differ)"
            rounds = []
            for number in range(args.rounds):
                # Whoever comes first in one round comes last in the next.
                order = [(0, ours), (1, theirs)][:: 1 if number % 2 == 0 else -1]
                rounds.append([taken for _, taken in sorted((at, seconds_of(call, args.seconds)) for at, call in order)])
            ratios = sorted(b / a for a, b in rounds)
            mine, others = (statistics.median(column) * 1e3 for column in zip(*rounds))
            own = f"{own_ratio(args, hidden):.2f}" if args.lstm and hidden else ""
            ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
            print(f"| {name} | {mine:.3g} | {others:.3g} | {ratio} | {own} |", flush=True)
    if "memory" in args.only:
        mine, others = memory()
        print(f"| memory of training beside the program's, 2×650, T 35, B 20, MiB | {mine:.0f} | {others:.0f} | {others / mine:.2f} | |")
    sys.exit("results differ" if wrong else 0)


if __name__ == "__main__":
    main()
