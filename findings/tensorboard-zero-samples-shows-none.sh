#!/usr/bin/env bash
# TensorBoard with --samples_per_plugin scalars=0 shows curves without a single point, in its Python and in its Rust reader. To the class
# EventAccumulator a size of 0 means the opposite ("If the size is 0, all events are stored"), and it keeps all. A number larger than
# the curve is what shows all of it.
#
# Seen with tensorboard 2.21.0 and tensorboard-data-server 0.7.2, a curve of 5 points:
#   EventAccumulator, size 0: 5
#   Python reader: 5, scalars=0: 0, scalars=100000: 5
#   Rust reader: 5, scalars=0: 0, scalars=100000: 5
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q tensorboard==2.21.0 tensorboard-data-server==0.7.2
cat >points.py <<'PYTHON'
import json
import socket
import subprocess
import sys
import time
import urllib.request

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter("logs/run")
for step in range(5):
    summary = Summary(value=[Summary.Value(tag="loss", simple_value=step)])
    writer.add_event(Event(wall_time=1.7e9 + step, step=step, summary=summary))
writer.close()


def points(fast, *options):
    """How many points of the curve a server gives."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "logs", "--host", "127.0.0.1", "--port", str(port)]
    command += [f"--load_fast={fast}", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ask = lambda route: json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/{route}"))
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                if "loss" in ask("tags").get("run", {}):
                    return len(ask("scalars?tag=loss&run=run"))
            except OSError:
                pass
        sys.exit("no answer")
    finally:
        server.terminate()
        server.wait()


kept = len(EventAccumulator("logs/run", size_guidance={"scalars": 0}).Reload().Scalars("loss"))
print(f"EventAccumulator, size 0: {kept}")
seen = [kept]
for name, fast in (("Python", "false"), ("Rust", "true")):
    found = [points(fast, *(f"--samples_per_plugin=scalars={n}" for n in given)) for given in ([], [0], [100000])]
    print(f"{name} reader: {found[0]}, scalars=0: {found[1]}, scalars=100000: {found[2]}")
    seen += found
sys.exit(0 if seen == [5, 5, 0, 5, 5, 0, 5] else "the behaviour has changed")
PYTHON
venv/bin/python points.py
