"""Runs TensorBoard over the curves of a run that was killed and resumed, in both of its readers.

    python bench/tensorboard.py [--venv FOLDER]

Sets up tensorboard and its data server in a virtual environment, builds the command, and trains a small run twice: left alone, and killed
(SIGKILL) while its curves are ahead of its checkpoint, then resumed. Each curve of the second has to be that of the first, every step once,
the values the same bits (but the speed), as seen by

- TensorBoard's web server with the Python reader (`--load_fast=false`) and with the Rust one (`--load_fast=true`), each once as it
  watched the run from its first step, kill and all, and once started afterwards;
- the Python reader's `EventAccumulator`, with and without its own purging;
- the bare records of the files.

Exits with 1 where one differs, and says which.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["tensorboard==2.21.0", "tensorboard-data-server==0.7.2"]
WORDS = "the cat sees a dog and runs home today".split()
OPTIONS = "--preset small --hidden 48 --embedding 16 --batch 4 --segment 16 --epochs 4 --threads 1".split()


def set_up(venv):
    """The Python of a virtual environment with TensorBoard."""
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return python


class Server:
    """A TensorBoard that watches a folder; it looks for news every second."""

    def __init__(self, python, folder, fast):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.name = "Rust reader" if fast else "Python reader"
        command = [python, "-m", "tensorboard.main", "--logdir", folder, "--port", str(self.port), "--host", "127.0.0.1"]
        command += [f"--load_fast={str(fast).lower()}", "--reload_interval", "1", "--samples_per_plugin", "scalars=100000"]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def get(self, route, **query):
        url = f"http://127.0.0.1:{self.port}/data/plugin/scalars/{route}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def curves(self, run):
        """The points of each curve, as the page gets them."""
        tags = self.get("tags").get(run, {})
        return {tag: [(step, value) for _, step, value in self.get("scalars", tag=tag, run=run)] for tag in tags}

    def wait(self, run, expected, seconds=60):
        """The curves when they are as expected, or as they are when the time is over."""
        end, curves = time.monotonic() + seconds, {}
        while time.monotonic() < end:
            try:
                curves = self.curves(run)
                if not differences(curves, expected):
                    break
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.5)
        return curves

    def stop(self):
        self.process.terminate()
        self.process.wait()


def differences(curves, expected):
    """What of the curves is not as expected, in sentences."""
    found = [f"{tag} is missing" for tag in expected.keys() - curves.keys()]
    found += [f"{tag} is new" for tag in curves.keys() - expected.keys()]
    for tag in sorted(expected.keys() & curves.keys()):
        got, want = curves[tag], expected[tag]
        if tag == "tokens_per_second":
            got, want = [[step for step, _ in points] for points in (got, want)]
        if got != want:
            doubled = len(got) - len({point if isinstance(point, int) else point[0] for point in got})
            found.append(f"{tag} has {len(got)} points, {doubled} of them doubled, instead of {len(want)}")
    return found


ACCUMULATE = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
read = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}, purge_orphaned_data=sys.argv[2] == "purge").Reload()
print(json.dumps({tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}))
"""

RECORDS = """
import collections, json, pathlib, sys
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
curves = collections.defaultdict(list)
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            assert value.WhichOneof("value") == "simple_value"
            curves[value.tag].append((event.step, value.simple_value))
print(json.dumps(curves))
"""


def read(python, program, *arguments):
    said = subprocess.run([python, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return {tag: [tuple(point) for point in points] for tag, points in json.loads(said.stdout).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venv", type=Path, default=ROOT / "target/tensorboard-venv", help="the virtual environment")
    options = parser.parse_args()
    python = set_up(options.venv.absolute())
    subprocess.run(["cargo", "build", "--release", "--workspace"], cwd=ROOT, check=True)
    lstm = ROOT / "target/release/lstm"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        lines = (" ".join(WORDS[(i * 7 + j * (i % 5 + 1)) % 9] for j in range(3 + i % 7)) for i in range(16000))
        (folder / "text.txt").write_text("\n".join(lines) + "\n")

        def train(*arguments):
            return subprocess.Popen([lstm, "train", *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def begin(run):
            return train("text.txt", *OPTIONS, "--out", run, "--tensorboard", f"logs/{run}")

        assert begin("whole").wait() == 0
        expected = read(python, RECORDS, folder / "logs/whole")
        watching = [Server(python, folder / "logs", fast) for fast in (False, True)]
        try:
            for server in watching:
                server.wait("whole", expected)
            # Within an epoch, behind the checkpoint of the last one's end, and when both have seen what will be taken back.
            run = begin("run")
            file = folder / "logs/run/events.out.tfevents.0000000000.lstm"
            ahead = (len(expected["loss/train"]) * 3 // 8) * 10
            while not file.exists() or read(python, RECORDS, file.parent).get("loss/train", [(0, 0)])[-1][0] < ahead:
                assert run.poll() is None, "it ended before it could be killed"
            os.kill(run.pid, signal.SIGSTOP)
            seen = read(python, RECORDS, file.parent)
            for server in watching:
                missing = differences(server.wait("run", seen), seen)
                assert not missing, f"{server.name}, before the kill: {missing}"
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            last, checkpoint = seen["loss/train"][-1][0], seen["loss/valid"][-1][0]
            assert last > checkpoint, "the curves are not ahead of the checkpoint"
            with open(file, "ab") as half:
                half.write(file.read_bytes()[:7])
            assert train("--resume", "run", "--tensorboard", "logs/run").wait() == 0
            print(f"killed at step {last}, behind it half a record; the checkpoint was of step {checkpoint}")
            fresh = [Server(python, folder / "logs", fast) for fast in (False, True)]
            watching += fresh
            results = {"the bare records": read(python, RECORDS, folder / "logs/run")}
            for purge in ("purge", "keep"):
                results[f"EventAccumulator, {purge}"] = read(python, ACCUMULATE, folder / "logs/run", purge)
            for server in watching:
                when = "started afterwards" if server in fresh else "that watched"
                results[f"{server.name} {when}"] = server.wait("run", expected)
        finally:
            for server in watching:
                server.stop()
        points = sum(len(curve) for curve in expected.values())
        wrong = False
        for name, curves in results.items():
            found = differences(curves, expected)
            wrong |= bool(found)
            print(f"{name:<34} {'; '.join(found) or f'{len(expected)} curves, {points} points, each once, the same'}")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
