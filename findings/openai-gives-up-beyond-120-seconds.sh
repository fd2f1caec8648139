#!/usr/bin/env bash
# A Retry-After above 120 seconds makes the openai client give up at once: it neither waits so long nor asks again after a time of
# its own, as it does without the header, so max_retries counts for nothing. A server that honestly says "in five minutes" is
# asked once and its user has an error; one that says 120 or less is asked again.
#
# Seen with openai 3.57.0:
#   max_retries 2: Retry-After 1 makes 3 requests, Retry-After 121 makes 1 and gives up after 0.0 s
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q openai==3.57.0
cat >retries.py <<'PYTHON'
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

requests, wait = 0, ""


class Handler(BaseHTTPRequestHandler):
    """Refuses every request, for so long as it is told to say."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        global requests
        requests += 1
        self.send_response(429)
        self.send_header("Retry-After", wait)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=2)


def asked(seconds):
    """The requests that were made, and after how long the client gave up."""
    global requests, wait
    requests, wait, begun = 0, seconds, time.time()
    try:
        client.models.list()
    except openai.RateLimitError:
        pass
    return requests, time.time() - begun


(short, short_time), (long, long_time) = asked("1"), asked("121")
print(f"openai {openai.__version__}, max_retries 2: Retry-After 1 makes {short} requests, Retry-After 121 makes {long} and gives up after {long_time:.1f} s")
sys.exit(0 if (short, long) == (3, 1) and short_time >= 2 and long_time < 1 else "the behaviour has changed")
PYTHON
venv/bin/python retries.py
