#!/usr/bin/env python3
"""Load on `trajformer serve`: requests at a fixed rate, answered or not, and how long each took from when it should have been sent.

    trajformer serve runs/td3_bc-hopper-medium-short --listen 127.0.0.1:8000
    benches/load.py 127.0.0.1:8000 td3_bc-hopper-medium-short --rate 1000 --seconds 20

Beside them, if asked for: connections that say nothing (--idle N), heads that never end (--slow N), clients that send a gigabyte (--gigabytes N).
Policies that remember act in sessions, as many as --connections; their rate is of all together.
"""

import argparse
import asyncio
import json
import random
import struct
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("model")
    parser.add_argument("--rate", type=float, default=1000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=16, help="that requests are spread over")
    parser.add_argument("--rows", type=int, default=1, help="observations in a request")
    parser.add_argument("--json", action="store_true", help="bodies as JSON in the place of floats")
    parser.add_argument("--session-steps", type=int, default=1000, help="steps of an episode")
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--slow", type=int, default=0)
    parser.add_argument("--gigabytes", type=int, default=0)
    return parser.parse_args()


async def connect(address):
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


async def ask(stream, method, path, headers, body=b""):
    reader, writer = stream
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, length = int(head.split(" ", 2)[1]), 0
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return status, await reader.readexactly(length)


class Requests:
    """One connection's, one after the other."""

    def __init__(self, args, spec):
        self.args, self.spec = args, spec
        self.stream, self.session, self.steps = None, None, 0
        self.path = f"/v1/models/{args.model}"

    async def one(self):
        if self.stream is None:
            self.stream = await connect(self.args.address)
        if not self.spec["needs_session"]:
            return await self.send(f"{self.path}/act", self.args.rows, "")
        if self.session is None or self.steps == self.args.session_steps:
            if self.session is not None:
                await ask(self.stream, "DELETE", f"{self.path}/sessions/{self.session}", "")
            status, body = await ask(self.stream, "POST", f"{self.path}/sessions", "")
            if status != 201:
                return status
            self.session, self.steps = json.loads(body)["session"], 0
        reward = f"Trajformer-Reward: {random.random():.3f}\r\n" if self.steps else ""
        self.steps += 1
        return await self.send(f"{self.path}/sessions/{self.session}", 1, reward)

    async def send(self, path, rows, headers):
        numbers = [random.gauss(0, 1) for _ in range(rows * self.spec["observation_dim"])]
        if self.args.json and not self.spec["needs_session"]:
            width = self.spec["observation_dim"]
            body = json.dumps({"observations": [numbers[at:at + width] for at in range(0, len(numbers), width)]}).encode()
            kind = "application/json"
        else:
            body, kind = struct.pack(f"<{len(numbers)}f", *numbers), "application/octet-stream"
        return (await ask(self.stream, "POST", path, f"Content-Type: {kind}\r\n{headers}", body))[0]


async def load(args, spec):
    begin = time.perf_counter()
    times, statuses = [], {}
    due = asyncio.Queue()

    async def clock():
        number = 0
        while number < args.rate * args.seconds:
            now = time.perf_counter() - begin
            while number / args.rate <= now and number < args.rate * args.seconds:
                due.put_nowait(number / args.rate)
                number += 1
            await asyncio.sleep(0.0005)
        for _ in range(args.connections):
            due.put_nowait(None)

    async def work():
        requests = Requests(args, spec)
        while (when := await due.get()) is not None:
            try:
                status = await requests.one()
            except (OSError, asyncio.IncompleteReadError) as error:
                status, requests.stream = type(error).__name__, None
            statuses[status] = statuses.get(status, 0) + 1
            times.append(time.perf_counter() - begin - when)

    await asyncio.gather(clock(), *(work() for _ in range(args.connections)))
    return times, statuses, time.perf_counter() - begin


async def silent(address, count, said):
    streams = []
    for _ in range(count):
        try:
            stream = await connect(address)
            stream[1].write(said)
            streams.append(stream)
        except OSError:
            pass
    return streams


async def gigabyte(args):
    while True:
        try:
            _, writer = await connect(args.address)
            head = f"POST /v1/models/{args.model}/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head.encode())
            piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            for _ in range(1 << 14):
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        await asyncio.sleep(0.1)


async def main():
    args = arguments()
    stream = await connect(args.address)
    status, body = await ask(stream, "GET", f"/v1/models/{args.model}", "")
    if status != 200:
        raise SystemExit(body.decode())
    spec = json.loads(body)
    held = await silent(args.address, args.idle, b"")
    held += await silent(args.address, args.slow, b"GET /health HTTP/1.1\r\nHo")
    beside = [asyncio.ensure_future(gigabyte(args)) for _ in range(args.gigabytes)]
    times, statuses, took = await load(args, spec)
    for task in beside:
        task.cancel()
    times.sort()
    at = lambda share: 1e3 * times[min(int(share * len(times)), len(times) - 1)]
    print(f"{len(times)} requests in {took:.1f} s: {len(times) / took:.0f} a second of {args.rate:.0f} asked for, over {args.connections} connections")
    print("milliseconds:", ", ".join(f"p{100 * share:g} {at(share):.2f}" for share in (0.5, 0.9, 0.99, 0.999)), f"most {at(1):.2f}")
    print("statuses:", ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items(), key=str)))
    if held:
        print(f"{len(held)} silent connections were opened beside them")
    _, text = await ask(await connect(args.address), "GET", "/metrics", "")
    for line in text.decode().splitlines():
        if line.startswith(("process_resident", "trajformer_connections", "trajformer_sessions", "trajformer_batch_rows_count", "trajformer_batch_rows_sum")):
            print(line)


asyncio.run(main())
