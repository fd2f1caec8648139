"""Fuzzes every reader of this program, one after the other, and says what came of it.

    python bench/fuzz.py [--seconds 600] [--jobs 1] [TARGET ...]

Needs a C++ compiler (libFuzzer is built from the crate `libfuzzer-sys`) and nothing else: the stable toolchain instruments by flags of its own,
as `cargo fuzz --sanitizer none` would. Targets lie in fuzz/targets; each is seeded with the golden files of the tests and with a small
run that is made here, and goes on with what it found before (fuzz/corpus, which is not committed). A crash, a panic, an allocation
above 1 GiB, 2 GiB in all, or 25 seconds for an input end a target, and the input lies in fuzz/artifacts.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "fuzz"
GOLDEN = ROOT / "crates/lstm/tests/golden"
FLAGS = (
    "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters "
    "-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
)
# A frame of one block as it is, and one of a block that is one byte repeated.
ZSTD = [bytes.fromhex("28b52ffd2004210000") + b"text", bytes.fromhex("28b52ffd200403000061" + "010000")]


def build():
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = re.search(r"host: (\S+)", host)[1]
    environment = os.environ | {"RUSTFLAGS": FLAGS}
    # With a target named, build scripts and macros are not instrumented.
    command = ["cargo", "build", "--release", "--target", host, "--manifest-path", FUZZ / "Cargo.toml"]
    subprocess.run(command, env=environment, check=True)
    return FUZZ / "target" / host / "release"


def run_of(lstm):
    """A run of the built-in language, for a model file, a configuration and a tokenizer."""
    folder = Path(tempfile.mkdtemp()) / "run"
    command = [lstm, "train", "--steps", "2", "--hidden", "4", "--embedding", "4", "--out", folder]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def seeds(run):
    """Inputs by target."""
    packed = {path.name[:-3]: gzip.decompress(path.read_bytes()) for path in (GOLDEN / "keras").glob("*.gz")}
    ends = lambda end: [bytes for name, bytes in packed.items() if name.endswith(end)]
    files = lambda end: [path.read_bytes() for path in (GOLDEN / "pytorch").glob(f"*.{end}")]
    text = b"the cat sees\na dog\n"
    all_seeds = {
        "pytorch": files("pt"),
        "safetensors": files("safetensors"),
        "hdf5": ends(".h5"),
        "keras": ends(".keras"),
        "onnx": [path.read_bytes() for path in (GOLDEN / "onnx").glob("**/*.onnx")],
        "model_file": [],
        "tokenizer_json": [text],
        "config_toml": [],
        "gzip": [gzip.compress(text, mtime=0), gzip.compress(text * 50, mtime=0) + gzip.compress(text, 0, mtime=0)],
        "zstd": ZSTD,
    }
    if run:
        for target, name in (
            ("model_file", "model.safetensors"),
            ("tokenizer_json", "tokenizer.json"),
            ("config_toml", "config.toml"),
        ):
            all_seeds[target].append((run / name).read_bytes())
    return all_seeds


def fuzz(program, name, inputs, seconds):
    corpus, artifacts = FUZZ / "corpus" / name, FUZZ / "artifacts" / name
    corpus.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    for number, bytes in enumerate(inputs):
        (corpus / f"seed-{number}").write_bytes(bytes)
    limits = [f"-max_total_time={seconds}", "-timeout=25", "-rss_limit_mb=2048", "-malloc_limit_mb=1024", "-max_len=65536"]
    command = [program, corpus, f"-artifact_prefix={artifacts}/", "-print_final_stats=1", *limits]
    start = time.monotonic()
    grew, coverage, executed, crash = 0.0, 0, 0, ""
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True, errors="replace")
    with open(artifacts / "log.txt", "w") as log:
        for line in process.stderr:
            log.write(line)
            if found := re.search(r"cov: (\d+)", line):
                if int(found[1]) > coverage:
                    coverage, grew = int(found[1]), time.monotonic() - start
            if found := re.search(r"^#(\d+)\s", line) or re.search(r"number_of_executed_units: (\d+)", line):
                executed = max(executed, int(found[1]))
            if found := re.search(r"ERROR: libFuzzer: (.*)|panicked at (.*)", line):
                crash += (found[1] or found[2]) + " "
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took, worked = time.monotonic() - start, used.ru_utime + used.ru_stime
    return (
        f"{name}: {executed} executions in {took:.0f} s ({worked:.0f} s of a processor), coverage {coverage}, "
        f"last grown after {grew:.0f} s, {crash or 'no crash'}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="[default: all]")
    parser.add_argument("--seconds", type=int, default=600, help="of each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets that run at once")
    parser.add_argument("--lstm", type=Path, help="the command, in place of a build")
    options = parser.parse_args()
    built = build()
    lstm = options.lstm
    if lstm is None:
        subprocess.run(["cargo", "build", "--release", "-p", "lstm-cli"], cwd=ROOT, check=True)
        lstm = ROOT / "target/release/lstm"
    run = run_of(lstm)
    try:
        inputs = seeds(run)
    finally:
        shutil.rmtree(run.parent)
    there = sorted(path.stem for path in (FUZZ / "targets").glob("*.rs"))
    with ThreadPoolExecutor(options.jobs) as pool:
        done = [pool.submit(fuzz, built / name, name, inputs[name], options.seconds) for name in options.targets or there]
        for said in as_completed(done):
            print(said.result(), flush=True)


main()
