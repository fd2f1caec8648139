"""The package itself: its examples, its types."""

import doctest
import pathlib
import shutil
import subprocess
import sys

import pytest

import lstm_cpu


def test_examples_of_the_docstrings():
    pytest.importorskip("torch", reason="torch is not installed, which the examples use")
    from lstm_cpu import torch

    found = doctest.testmod(torch)
    assert found.failed == 0 and found.attempted > 8


def test_types_are_checked(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed, which checks the types")
    pytest.importorskip("torch", reason="torch is not installed, whose types the package is checked with")
    folder = pathlib.Path(lstm_cpu.__file__).parent
    assert (folder / "py.typed").exists()
    # Away from where it is installed: mypy takes what lies beside it for modules of its own.
    sources = shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-calls", "--follow-imports=silent", str(sources)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_threads_are_set():
    before = lstm_cpu.get_threads()
    lstm_cpu.set_threads(3)
    assert lstm_cpu.get_threads() == 3
    lstm_cpu.set_threads(before)
    assert lstm_cpu.__version__
