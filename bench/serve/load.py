"""Load on the real server: streams side by side, idle connections, clients that behave badly, and what is left of it all.

    python3 bench/serve/load.py --model RUN [--lstm PROGRAM] [--seconds 60] [--json FILE]

Prints ratios beside times: on a busy machine those alone mean something. The clients share the machine with the server.
"""

import asyncio
import json
import os
import pathlib
import random
import resource
import time
import urllib.request

import serving

TOKENS = 100


class Stream(asyncio.Protocol):
    """A client of one stream on a connection of its own, which notes when its tokens come."""

    def __init__(self, body, done, reads=True):
        self.body, self.done, self.reads = body, done, reads
        self.tail, self.times, self.head, self.whole = b"", [], b"", False

    def connection_made(self, transport):
        self.transport, self.begun = transport, time.perf_counter()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        transport.write(head.encode() + self.body)
        if not self.reads:
            transport.pause_reading()

    def data_received(self, data):
        now = time.perf_counter()
        if not self.head:
            self.head = data[:15]
        data = self.tail + data
        # Every event begins with it, and none has it inside.
        count = data.count(b'data: {"')
        self.tail = data[-8:]
        count -= self.tail.count(b'data: {"')
        self.times.extend([now] * count)
        if b"data: [DONE]" in data:
            self.whole = True
            self.transport.close()
        elif not self.head.startswith(b"HTTP/1.1 200"):
            self.transport.close()

    def connection_lost(self, error):
        if not self.done.done():
            self.done.set_result(self)


async def stream(port, length, seed, reads=True):
    done = asyncio.get_running_loop().create_future()
    # Three prompts, so that some begin as one that is known already.
    prompt = ["the company said", "he was", "in new york stock exchange trading yesterday"][seed % 3]
    body = json.dumps({"prompt": prompt, "max_tokens": length, "seed": seed, "stream": True}).encode()
    _, protocol = await asyncio.get_running_loop().create_connection(lambda: Stream(body, done, reads), "127.0.0.1", port)
    return protocol, done


def percentiles(values):
    values = sorted(values)
    at = lambda share: 1e3 * values[min(len(values) - 1, int(share * len(values)))]
    return {"p50": at(0.5), "p99": at(0.99), "max": 1e3 * values[-1]}


async def side_by_side(port, streams, seconds, length=TOKENS):
    """So many streams at any time, each followed by another, for so long."""
    begun, first, gaps, lost, ended, tokens = time.perf_counter(), [], [], 0, 0, 0

    async def one(number):
        nonlocal lost, ended, tokens
        turn = 0
        while time.perf_counter() - begun < seconds:
            seed = number + streams * turn
            turn += 1
            protocol, done = await stream(port, length, seed)
            await done
            times = protocol.times
            ended += 1
            tokens += len(times)
            lost += not (protocol.whole and len(times) >= length)
            if times:
                first.append(times[0] - protocol.begun)
                gaps.extend(b - a for a, b in zip(times, times[1:]))

    await asyncio.gather(*(one(number) for number in range(streams)))
    took = time.perf_counter() - begun
    return {
        "streams": streams, "seconds": took, "requests": ended, "lost": lost, "tokens_per_second": tokens / took,
        "first_token_ms": percentiles(first), "between_tokens_ms": percentiles(gaps),
    }


def footprint(process):
    """The descriptors and the resident bytes of the server."""
    folder = pathlib.Path(f"/proc/{process.pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return {"descriptors": len(os.listdir(folder / "fd")), "resident_mb": int(status["VmRSS"].split()[0]) / 1024}


def figures(address):
    lines = urllib.request.urlopen(f"{address}/metrics").read().decode().splitlines()
    return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines if "le=" not in line and line[0] != "#"}


async def settled(address):
    """Waits until nobody has a place any more."""
    for _ in range(200):
        now = figures(address)
        if now["lstm_texts_running"] == now["lstm_texts_waiting"] == 0:
            return now
        await asyncio.sleep(0.05)
    raise AssertionError(f"places are held by nobody: {now}")


async def idle(port, address, count):
    """So many connections that say nothing, and a request among them."""
    connections = []
    for _ in range(count):
        connections.append(await asyncio.open_connection("127.0.0.1", port))
    begun = time.perf_counter()
    protocol, done = await stream(port, 10, 1)
    await done
    took = time.perf_counter() - begun
    for _, writer in connections:
        writer.close()
    return {"connections": count, "request_ms": 1e3 * took, "whole": protocol.whole}


async def misbehaving(port, address):
    """Clients that read slowly, cut their connection, send no JSON, or too much."""
    slow = [await stream(port, 5000, seed, reads=False) for seed in range(20)]
    for seed in range(100):
        protocol, _ = await stream(port, 5000, seed)
        asyncio.get_running_loop().call_later(random.random(), protocol.transport.abort)
    # Others are not held up meanwhile.
    beside = await side_by_side(port, 8, 2)
    statuses = []
    for head, body in [
        ("Content-Type: application/json\r\nContent-Length: 11", '{"prompt": '),
        ("Content-Type: application/json\r\nContent-Length: 99999999", "{"),
        ("Content-Type: application/json\r\nTransfer-Encoding: chunked", f"{2 << 20:x}\r\n" + "x" * (2 << 20)),
        ("Content-Type: text/plain\r\nContent-Length: 2", "{}"),
        ("Content-Length: 5\r\nContent-Length: 6", "{}"),
    ] * 10:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{body}".encode())
        line = b""
        try:
            line = await asyncio.wait_for(reader.readline(), 10)
        except (ConnectionError, asyncio.TimeoutError):
            pass
        statuses.append(line.decode().split(" ")[1] if line else "cut")
        writer.close()
    for protocol, _ in slow:
        protocol.transport.abort()
    return {"statuses": sorted(set(statuses)), "lost_beside": beside["lost"]}


async def run(given, model):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threads = ["--threads", given.threads] if given.threads else []
    with serving.server(given, model, *threads) as (address, process):
        port = int(address.rsplit(":", 1)[1])
        # All of it once before it is measured, so that memory that is kept for later is there already.
        await side_by_side(port, 200, 2)
        await idle(port, address, given.idle)
        await misbehaving(port, address)
        await settled(address)
        before = footprint(process)
        # One after the other in turns, so that what else the machine does meets both.
        turns = [(await side_by_side(port, 1, 3), await side_by_side(port, 64, 3)) for _ in range(given.turns)]
        speeds = [many["tokens_per_second"] / one["tokens_per_second"] for one, many in turns]
        waits = [many["between_tokens_ms"]["p99"] / one["between_tokens_ms"]["p99"] for one, many in turns]
        result = {
            "one": turns[-1][0], "sixty_four": turns[-1][1],
            "throughput_of_64_over_one": sorted(speeds), "p99_of_64_over_one": sorted(waits),
        }
        result["two_hundred"] = await side_by_side(port, 200, given.seconds)
        result["idle"] = await idle(port, address, given.idle)
        result["misbehaving"] = await misbehaving(port, address)
        result["figures"] = await settled(address)
        await asyncio.sleep(1)
        # The states of prefixes are kept by design, up to their bound.
        kept = result["figures"]["lstm_prefix_bytes"] / 2**20
        result["before"], result["after"] = before, {**footprint(process), "of_it_prefixes_mb": kept}
    return result


def main():
    parser = serving.options(__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long 200 streams are kept up")
    parser.add_argument("--turns", type=int, default=5, help="how often one stream and 64 are compared")
    parser.add_argument("--idle", type=int, default=10_000, help="connections that say nothing")
    parser.add_argument("--threads", help="threads of the model")
    parser.add_argument("--json", help="a file for the figures")
    given = parser.parse_args()
    with serving.model(given) as model:
        result = asyncio.run(run(given, model))
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(result, indent=1))
    for name in ["one", "sixty_four", "two_hundred"]:
        of = result[name]
        first, gaps = of["first_token_ms"], of["between_tokens_ms"]
        show = lambda times: " ".join(f"{name} {value:.1f}" for name, value in times.items())
        print(f"{of['streams']:4} streams: {of['tokens_per_second']:8.0f} tokens/s, {of['requests']} texts, {of['lost']} lost; "
              f"first token, ms: {show(first)}; between tokens, ms: {show(gaps)}")
    middle = lambda values: f"{values[len(values) // 2]:.2f} ({values[0]:.2f} to {values[-1]:.2f})"
    print("throughput of 64 streams over that of one:", middle(result["throughput_of_64_over_one"]))
    print("p99 between tokens of 64 streams over that of one:", middle(result["p99_of_64_over_one"]))
    print("idle:", result["idle"])
    print("misbehaving:", result["misbehaving"])
    print("before:", result["before"], "after:", result["after"])


if __name__ == "__main__":
    main()
