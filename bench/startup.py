"""How soon the first token of a model of some 100 MB is out: `lstm generate` beside PyTorch with the same weights, from the start of
the process.

    python bench/startup.py [--lstm target/release/lstm] [--rounds 20]

The weights are PyTorch's own initial ones, of two layers of 750 over 10,000 made-up words; `lstm convert` makes a model file of
them. PyTorch imports, maps them with safetensors, builds `nn.LSTM` and takes one step of one token. Both read files that are in memory
already, in turns; the time is from `Popen` to the first byte on standard output. Medians, the fastest and the slowest, the ratio; and the
processor time of a start, which says more where the machine is busy.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PEER = """
import sys
import torch
from safetensors.torch import load_file
from torch import nn
weights = load_file(sys.argv[1])
def part(module, prefix):
    module.load_state_dict({name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}, assign=True)
    return module
with torch.device("meta"):
    embedding, lstm, readout = nn.Embedding(*weights["embedding.weight"].shape), nn.LSTM(750, 750, 2), nn.Linear(750, weights["readout.weight"].shape[0])
with torch.inference_mode():
    output, _ = part(lstm, "lstm.")(part(embedding, "embedding.")(torch.tensor([0])))
    print(part(readout, "readout.")(output).argmax().item(), flush=True)
"""


VOCABULARY = 10_000


def make(path):
    """The state dict of the model."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    torch.manual_seed(1)
    modules = {"embedding": nn.Embedding(VOCABULARY, 750), "lstm": nn.LSTM(750, 750, 2), "readout": nn.Linear(750, VOCABULARY)}
    save_file({f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}, path)


def first_byte(command):
    """Milliseconds from the start of a process to its first byte on standard output."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        byte = process.stdout.read(1)
        taken = time.perf_counter() - started
        process.stdout.read()
    if not byte or process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed")
    return 1e3 * taken


def processor_time(command):
    """Milliseconds of all processors that a whole run of a command takes, the median of five."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        first_byte(command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return statistics.median(taken)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lstm", type=Path, default=ROOT / "target/release/lstm")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, state = folder / "model.safetensors", folder / "state.safetensors"
        make(state)
        words = folder / "words.txt"
        words.write_text("".join(f"{word}\n" for word in ["<unk>", "<eos>"] + [f"word{number}" for number in range(2, VOCABULARY)]))
        subprocess.run([args.lstm, "convert", state, model, "--vocab", words], check=True, capture_output=True)
        ours = [args.lstm, "generate", model, "--length", "1", "--temperature", "0"]
        peers = {"lstm": ours, "PyTorch": [sys.executable, "-c", PEER, state]}
        taken = {name: [] for name in peers}
        for command in peers.values():
            first_byte(command)
        for _ in range(args.rounds):
            for name, command in peers.items():
                taken[name].append(first_byte(command))
        print(f"{model.stat().st_size / 1e6:.0f} MB, {args.rounds} starts each, ms to the first token")
        for name, times in taken.items():
            print(f"{name:<8} {statistics.median(times):8.1f}  ({min(times):.1f}–{max(times):.1f}), {processor_time(peers[name]):.1f} of the processor")
        print(f"ratio    {statistics.median(taken['PyTorch']) / statistics.median(taken['lstm']):8.1f}")


if __name__ == "__main__":
    main()
