"""The package itself: its examples, its types."""

import doctest
import pathlib
import subprocess
import sys

import pytest

import lstm_cpu


def test_examples_of_the_docstrings():
    pytest.importorskip("torch", reason="torch is not installed, which the examples use")
    from lstm_cpu import torch

    found = doctest.testmod(torch)
    assert found.failed == 0 and found.attempted > 8


def test_types_are_checked():
    pytest.importorskip("mypy", reason="mypy is not installed, which checks the types")
    folder = pathlib.Path(lstm_cpu.__file__).parent
    assert (folder / "py.typed").exists()
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-calls", "--follow-imports=silent", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_threads_are_set():
    before = lstm_cpu.get_threads()
    lstm_cpu.set_threads(3)
    assert lstm_cpu.get_threads() == 3
    lstm_cpu.set_threads(before)
    assert lstm_cpu.__version__
