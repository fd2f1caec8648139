#!/usr/bin/env bash
# The synchronous client of the openai package opens a new connection for every stream, though it reads each to its end and the
# server keeps connections open; the asynchronous one goes on with the one it has. A server that is asked for many short streams
# accepts a connection for each, and its limits on connections and descriptors have to allow for that.
#
# Seen with openai 3.57.0, an HTTP/1.1 server whose whole answer and its end come in one piece:
#   five streams read to their end: 5 connections synchronously, 1 asynchronously
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q openai==3.57.0
cat >connections.py <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

connections = 0


class Handler(BaseHTTPRequestHandler):
    """Answers every request with a stream of two events, on a connection that stays open."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        global connections
        connections += 1
        super().setup()

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        choice = {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": None}
        object = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        body = f"data: {json.dumps(object)}\n\ndata: [DONE]\n\n".encode()
        # The whole answer and its end in one piece.
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
access = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none"}
asked = {"model": "m", "prompt": "a", "stream": True}


def counted(run):
    before = connections
    run()
    return connections - before


def synchronous():
    client = openai.OpenAI(**access)
    for _ in range(5):
        assert len(list(client.completions.create(**asked))) == 1


def asynchronous():
    async def run():
        client = openai.AsyncOpenAI(**access)
        for _ in range(5):
            assert len([chunk async for chunk in await client.completions.create(**asked)]) == 1

    asyncio.run(run())


sync, aio = counted(synchronous), counted(asynchronous)
print(f"openai {openai.__version__}, five streams read to their end: {sync} connections synchronously, {aio} asynchronously")
sys.exit(0 if (sync, aio) == (5, 1) else "the behaviour has changed")
PYTHON
venv/bin/python connections.py
