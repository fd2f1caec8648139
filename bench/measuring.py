"""What the Python peers share: the options of `lstm bench`, its numbered values, its way of timing, its JSON.

A peer measures one shape and prints one object with the keys of `lstm bench --json`. Weights, tokens and inputs are the
same numbers as there (`crates/lstm/src/bench.rs`), so losses and norms must agree.
"""

import argparse
import json
import time

import numpy as np

WARM_UP = 4  # steps before the clock starts
FEWEST_ROUNDS = 5
DECODED_TOKENS = 64  # of each stream, read over and over
WEIGHTS, TOKENS, INPUT, OUTPUT_GRADIENT = range(4)


def bits(row, start, count):
    """64 random bits for each index from `start`: SplitMix64 of the row and the index."""
    z = np.arange(start, start + count, dtype=np.uint64) + np.uint64((row << 40) + 1)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def numbered(row, shape, start=0):
    """Values uniform in [-1, 1), float32."""
    count = int(np.prod(shape))
    whole = (bits(row, start, count) >> np.uint64(40)).astype(np.float32)
    return (whole / np.float32(1 << 23) - np.float32(1)).reshape(shape)


def tokens(vocabulary, shape):
    high = bits(TOKENS, 0, int(np.prod(shape))) >> np.uint64(32)
    return ((high * np.uint64(vocabulary)) >> np.uint64(32)).astype(np.int64).reshape(shape)


class Weights:
    """The numbered parameters, handed out in the order of the model's layout."""

    def __init__(self, hidden):
        self.bound = np.float32(1) / np.sqrt(np.float32(hidden))
        self.taken = 0

    def take(self, *shape):
        values = self.bound * numbered(WEIGHTS, shape, self.taken)
        self.taken += values.size
        return values

    def layers(self, args):
        """weight_ih [4H, I], weight_hh [4H, H], bias_ih [4H], bias_hh [4H] of each layer, gates in the order i f g o."""
        gates = 4 * args.hidden
        for layer in range(args.layers):
            width = args.embedding if layer == 0 else args.hidden
            yield [self.take(*shape) for shape in ((gates, width), (gates, args.hidden), (gates,), (gates,))]


def arguments(kinds):
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=kinds)
    defaults = {"vocab": 10_000, "embedding": 200, "hidden": 200, "layers": 2, "segment": 20, "batch": 20, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of training's products")
    parser.add_argument("--weights", choices=["f32", "bf16", "int8"], default="f32", help="of one token at a time")
    return parser.parse_args()


def timed(args, tokens_of_a_pass, one_pass):
    """The median time of `one_pass` over `--seconds`; the warm-up is the caller's."""
    taken = []
    started = time.perf_counter()
    while len(taken) < FEWEST_ROUNDS or time.perf_counter() - started < args.seconds:
        start = time.perf_counter()
        one_pass()
        taken.append(time.perf_counter() - start)
    seconds = sorted(taken)[len(taken) // 2]
    return {
        "milliseconds": seconds * 1e3,
        "rounds": len(taken),
        "tokens_per_second": tokens_of_a_pass / seconds,
    }


def resident(key="VmHWM"):
    """The most memory this process has held (VmRSS: holds now), in bytes, where the system tells."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))
    except (OSError, StopIteration):
        return None


def report(name, result):
    print(json.dumps({"name": name, "peak_rss_bytes": resident(), **result}))
