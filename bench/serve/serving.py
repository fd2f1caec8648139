"""The real server, started for a script and ended with it."""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Trains in seconds: a small model of the built-in language.
TINY = "--hidden 32 --embedding 16 --steps 300".split()


def options(description):
    """The options that every script has: the program and a model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--lstm", default=os.environ.get("LSTM", str(ROOT / "target/release/lstm")), help="the program")
    parser.add_argument("--model", help="a run folder [default: a tiny one, trained for this]")
    return parser


@contextlib.contextmanager
def model(given):
    """The run folder to serve."""
    if given.model:
        yield given.model
        return
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/tiny"
        subprocess.run([given.lstm, "train", *TINY, "--out", run], check=True, capture_output=True)
        yield run


@contextlib.contextmanager
def server(given, run, *more, environment=None):
    """A server of the run: its address and its process."""
    command = [given.lstm, "serve", str(run), "--port", "0", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    try:
        address = process.stdout.readline().strip()
        if not address:
            sys.exit("the server did not start")
        yield address, process
    finally:
        process.kill()
        process.wait()
