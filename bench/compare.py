"""Compares training and inference with PyTorch's, ONNX Runtime's, candle's and burn's on this machine, in turns.

    python3 bench/compare.py                              # everything: about half an hour
    python3 bench/compare.py --only train,decode          # some of the sections
    python3 bench/compare.py --only layer --rounds 3 --threads 1
    python3 bench/compare.py --only train --precision bf16        # beside PyTorch in bf16, the faster of its ways, and in f32
    python3 bench/compare.py --only model,decode --weights int8   # beside ONNX Runtime's dynamic quantization
    python3 bench/compare.py --lstm target/release/lstm --venv /some/venv    # with what is there, nothing built or installed

The first run makes a virtual environment under `target/` and installs the Python peers into it (`--venv` names another
one), and builds `lstm` and the Rust peers in release mode. In every round each program measures the same shape for
`--seconds`, one after another, so that a machine that grows slower or faster does so for all; a ratio is of one round.
The Markdown table goes to stdout and to `--out`. All programs compute the same numbers from the same weights: where
losses or norms differ by more than 1e-3 of their size the row says so, and the exit code is 1.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

import shapes

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-3
# Of products whose factors are rounded, each program's in its own way.
ROUNDED_TOLERANCE = 3e-2
OURS = "lstm"
# A section: what it is called, the kind of measurement, the part of it that counts, the shapes, the peers.
SECTIONS = {
    "train": ("Training step: forward, backward, clipping, SGD", "train", None, shapes.TRAIN, ["pytorch"]),
    "layer": ("LSTM alone, forward and backward", "layer", None, shapes.LAYER, ["pytorch"]),
    "rust": ("LSTM alone, forward and backward, other Rust", "layer", None, shapes.RUST, ["candle", "burn"]),
    "segments": ("LSTM alone, forward over segments", "layer", "forward", shapes.SEGMENTS, ["onnxruntime", "pytorch"]),
    "decode": ("One token at a time, through the layers alone", "decode", "stack", shapes.DECODE, ["onnxruntime", "pytorch"]),
    "model": ("One token at a time, embedding and readout too", "decode", None, shapes.DECODE, ["onnxruntime", "pytorch"]),
    "threads": ("Training step, all threads against one", "train", None, shapes.TRAIN, ["one thread"]),
}
PACKAGES = {"pytorch": ["torch", "numpy"], "onnxruntime": ["onnxruntime", "onnx", "numpy"]}
MODULES = {"pytorch": "torch, numpy", "onnxruntime": "onnxruntime, onnx, numpy"}


def run(command, **options):
    """Runs a command that must succeed; what it says on stderr is shown if it does not."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def peers_of(name, args):
    """Beside whom a section is measured: a training step in fewer bits beside PyTorch in bf16 and in f32."""
    in_f32 = ["pytorch f32"] if name == "train" and args.precision != "f32" else []
    return SECTIONS[name][4] + in_f32


def build(manifest, target, *options):
    subprocess.run(["cargo", "build", "--release", "--manifest-path", manifest, "--target-dir", target, *options], check=True)


def set_up(peers, args):
    """The commands that measure, by name; each takes a kind, sizes, `--threads` and `--seconds`."""
    target = args.target_dir.resolve()
    if args.lstm is None:
        build(ROOT / "Cargo.toml", target, "--locked", "--package", "lstm-cli")
    lstm = (args.lstm or target / "release" / "lstm").absolute()
    commands = {OURS: [lstm, "bench"], "one thread": [lstm, "bench"]}
    venv = (args.venv or target / "bench-venv").absolute()
    python = venv / "bin" / "python"
    for peer in sorted(peers & PACKAGES.keys()):
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        if subprocess.run([python, "-c", f"import {MODULES[peer]}"], capture_output=True).returncode != 0:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[peer]], check=True)
        commands[peer] = [python, ROOT / "bench" / f"{peer}_peer.py"]
    if "pytorch" in commands:
        commands["pytorch f32"] = commands["pytorch"]
    if peers & {"candle", "burn"}:
        build(ROOT / "bench" / "peers" / "Cargo.toml", target / "peers", "--locked")
        binary = target / "peers" / "release" / "peers"
        commands |= {"candle": [binary, "candle"], "burn": [binary, "burn"]}
    return commands


def measure(command, program, kind, shape, args):
    """One measurement by one program, in a process of its own."""
    threads = 1 if program == "one thread" else args.threads
    options = ["--threads", threads, "--seconds", args.seconds]
    if program in (OURS, "one thread"):
        options.append("--json")
    if kind == "train" and args.precision != "f32" and program != "pytorch f32":
        # No peer makes three products: bf16 is its fastest.
        options += ["--precision", args.precision if program in (OURS, "one thread") else "bf16"]
    # A peer without weights of so many bits is measured in f32.
    if kind == "decode" and args.weights != "f32" and (program == OURS or (program, args.weights) == ("onnxruntime", "int8")):
        options += ["--weights", args.weights]
    sizes = shape.arguments()
    if program in ("candle", "burn") and shape.vocab is not None:
        sys.exit(f"{program} is measured without a vocabulary")
    count = {name: str(threads) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return json.loads(run([*command, kind, *sizes, *options], env=os.environ | count))


def found(result):
    """What a program computed on a shape: the numbers that all programs must agree on."""
    if "losses" in result:
        return {"losses": result["losses"]}
    names = ("output_norm", "gradient_norm", "score_norm")
    return {name: [result[name]] for name in names if result.get(name) is not None}


def agree(ours, theirs, tolerance):
    """Whether all that both computed is the same within the tolerance."""
    pairs = [pair for name in ours.keys() & theirs.keys() for pair in zip(ours[name], theirs[name], strict=True)]
    return bool(pairs) and all(abs(a - b) <= tolerance * max(abs(a), abs(b)) for a, b in pairs)


def compare(kind, part, shape, peers, commands, args):
    """All rounds of one shape: the results of every program, round by round."""
    results = {program: [] for program in (OURS, *peers)}
    for number in range(args.rounds):
        # Whoever comes first in one round comes last in the next.
        for program in list(results)[:: 1 if number % 2 == 0 else -1]:
            results[program].append(measure(commands[program], program, kind, shape, args))
        speeds = [f"{program} {chosen(results[program][-1], part)['milliseconds']:.4g}" for program in results]
        print(f"{kind} {shape.name} {shape.sizes()}, round {number + 1}: {', '.join(speeds)} ms", file=sys.stderr)
    return results


def chosen(result, part):
    return result if part is None else result[part]


def table(title, part, measured, lock, tolerance):
    """The Markdown of a section, and whether every program computed the same."""
    lines = [f"\n## {title}\n"]
    floor = any("floor_milliseconds" in chosen(results[OURS][0], part) for _, results in measured)
    # Of a training step in fewer bits the peak is that of its unit, so also how many peaks of f32 that is.
    rounded = any(results[OURS][0].get("precision") not in (None, "f32") for _, results in measured)
    limit = "peaks of f32 | " if rounded else "reading the weights, ms | " if floor else ""
    lines.append(f"| shape | lstm, ms | tokens/s | of peak | {limit}peer | ms | ratio | lowest–highest | computed, lstm / peer |")
    lines.append(f"|---|---:|---:|---:|{'---:|' if limit else ''}---|---:|---:|---|---|")
    same = True
    for shape, results in measured:
        ours = [chosen(result, part) for result in results[OURS]]
        peak = max(result["peak_gflops"] for result in results[OURS])
        middle = lambda name, of: statistics.median(result[name] for result in of)
        for peer in list(results)[1:]:
            theirs = [chosen(result, part) for result in results[peer]]
            ratios = [b["milliseconds"] / a["milliseconds"] for a, b in zip(ours, theirs, strict=True)]
            a, b = found(results[OURS][0]), found(results[peer][0])
            names = [name for name in a if name in b]
            said = ", ".join(f"{name.split('_')[0]} {a[name][-1]:.5g} / {b[name][-1]:.5g}" for name in names)
            if not agree(a, b, tolerance):
                same, said = False, f"**not the same**: {said or 'nothing to compare'}"
            limit = f"{middle('f32_peaks', ours):.2f} | " if rounded else f"{middle('floor_milliseconds', ours):.4g} | " if floor else ""
            lines.append(
                f"| {f'{shape.name}: ' if shape.name else ''}{shape.sizes()} | {middle('milliseconds', ours):.4g} "
                f"| {middle('tokens_per_second', ours):,.0f} | {100 * middle('gflops', ours) / peak:.0f} % | {limit}"
                f"{name_of(peer, results[peer][0], lock)} | {middle('milliseconds', theirs):.4g} "
                f"| {statistics.median(ratios):.2f} | {min(ratios):.2f}–{max(ratios):.2f} | {said} |"
            )
    return lines, same


def memory(measured):
    """Peak resident memory of the training processes."""
    lines = ["\n## Peak memory of a training process, MiB\n"]
    lines.append("| shape | lstm | PyTorch | of which before the model | ratio |\n|---|---:|---:|---:|---:|")
    for shape, results in measured:
        middle = lambda program, name: statistics.median(result[name] / 2**20 for result in results[program])
        every = [result["peak_rss_bytes"] for part in results.values() for result in part]
        if None not in every:
            ours, theirs = middle(OURS, "peak_rss_bytes"), middle("pytorch", "peak_rss_bytes")
            before = middle("pytorch", "imported_rss_bytes")
            lines.append(f"| {shape.name}: {shape.sizes()} | {ours:.0f} | {theirs:.0f} | {before:.0f} | {ours / theirs:.2f} |")
    return lines


@functools.cache
def locked_versions():
    text = (ROOT / "bench" / "peers" / "Cargo.lock").read_text()
    return dict(re.findall(r'name = "(candle-nn|burn-flex)"\nversion = "([^"]+)"', text))


def name_of(peer, result, lock):
    if peer == "one thread":
        return "lstm, 1 thread"
    crate = {"candle": "candle-nn", "burn": "burn-flex"}.get(peer)
    version = lock[crate] if crate else "f32" if peer == "pytorch f32" else ""
    return f"{result['name']} {version}".rstrip()


def heading(args):
    processor = platform.processor() or platform.machine()
    try:
        names = re.findall(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
        processor = names[0] if names else processor
    except OSError:
        pass
    git = ["git", "-C", ROOT]
    commit = run([*git, "rev-parse", "--short", "HEAD"]).strip()
    changed = " with changes" if run([*git, "status", "--porcelain", "--untracked-files=no"]).strip() else ""
    rust = run(["rustc", "--version"]).split()[1]
    return [
        "# lstm beside its peers\n",
        f"{processor}, {args.threads} threads; lstm at commit {commit}{changed}, rustc {rust}; Python {platform.python_version()}. "
        f"Medians of {args.rounds} rounds in turns, {args.seconds:g} s each; a ratio above 1 means that lstm is faster, and its spread is "
        "over the rounds.",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between: " + ", ".join(SECTIONS))
    parser.add_argument("--shape", help="only the shapes whose name or sizes contain this")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--precision", choices=["f32", "bf16x3", "bf16"], default="f32",
                        help="of training steps (peers beside fewer bits are measured in bf16 and in f32); the layers alone are f32")
    parser.add_argument("--weights", choices=["f32", "bf16", "int8"], default="f32", help="of one token at a time")
    parser.add_argument("--lstm", type=pathlib.Path, help="the program to measure, built before [default: it is built in the target directory]")
    parser.add_argument("--target-dir", type=pathlib.Path, default=ROOT / "target")
    parser.add_argument("--venv", type=pathlib.Path, help="default: bench-venv in the target directory")
    parser.add_argument("--out", type=pathlib.Path, help="default: bench.md in the target directory")
    args = parser.parse_args()
    names = args.only.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if args.rounds < 1 or args.threads < 1 or not args.seconds >= 0:
        parser.error("--rounds and --threads must be at least 1, --seconds at least 0")

    def selected(shape):
        return not args.shape or args.shape in f"{shape.name} {shape.sizes()}"

    sections = {name: SECTIONS[name] for name in names if any(map(selected, SECTIONS[name][3]))}
    if not sections:
        parser.error(f"no shape of these sections has {args.shape!r} in it")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.7:
        print(f"the load of this machine is {load:.1f} already: other programs will disturb the measurement", file=sys.stderr)
    commands = set_up({peer for section in sections.values() for peer in section[4]}, args)
    out = args.out or args.target_dir / "bench.md"
    lines, all_same = heading(args), True
    print("\n".join(lines))
    cache = {}
    for name, (title, kind, part, every, _) in sections.items():
        measured, peers = [], peers_of(name, args)
        for shape in filter(selected, every):
            # The layers and the whole model of one token are one measurement.
            key = (kind, shape, *peers)
            if key not in cache:
                cache[key] = compare(kind, part, shape, peers, commands, args)
            measured.append((shape, cache[key]))
        bits = {"train": args.precision, "decode": args.weights}.get(kind, "f32")
        tolerance = TOLERANCE if bits == "f32" else ROUNDED_TOLERANCE
        title = title if bits == "f32" else f"{title}, in {bits}"
        section, same = table(title, part, measured, locked_versions(), tolerance)
        all_same = all_same and same
        if kind == "train" and "pytorch" in peers:
            section += memory(measured)
        print("\n".join(section), flush=True)
        lines += section
        out.write_text("\n".join(lines) + "\n")
    print(f"\nwritten to {out}", file=sys.stderr)
    return 0 if all_same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped; the sections that were finished are written")
