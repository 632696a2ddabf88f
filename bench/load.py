"""A load generator in a process of its own: keep-alive connections that ask one after the other. Prints JSON.

`python -m bench.load < task.json`; the task says host, port, seconds, connections, and the request as
`{"method", "path", "headers", "body"}`, in which `{n}` is a random number of the range and `{k}` never repeats.
It shares the cores with what it measures, so it does as little as it can: bytes on a socket, no HTTP library.
"""

import asyncio
import json
import random
import re
import sys
import time
from itertools import count
from typing import Any

import uvloop

PLACES = re.compile(r"(\{n\}|\{k\})")
WORDS = {"{n}", "{k}"}
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
END_OF_HEAD = b"\r\n\r\n"
END_OF_CHUNKS = b"0\r\n\r\n"


class Requests:
    """The requests of one connection, as bytes."""

    def __init__(self, task: dict[str, Any], seed: int) -> None:
        request = task["request"]
        self.path, self.body = PLACES.split(request["path"]), PLACES.split(request.get("body", ""))
        headers = {"Host": "localhost", **request["headers"]}
        self.method = request["method"]
        self.headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.first, self.last = task["numbers"]
        self.chance = random.Random(seed)
        self.turns = count()
        self.run = f"{time.time_ns():x}-{seed}-"

    def next(self) -> bytes:
        path, body = self.fill(self.path), self.fill(self.body)
        head = f"{self.method} {path} HTTP/1.1\r\n{self.headers}Content-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    def fill(self, parts: list[str]) -> str:
        return "".join([self.word(part) if part in WORDS else part for part in parts])

    def word(self, name: str) -> str:
        if name == "{k}":
            return f"{self.run}{next(self.turns)}"
        return str(self.first + int(self.chance.random() * (self.last - self.first + 1)))


class Connection(asyncio.Protocol):
    """Asks, waits for the whole answer, asks again."""

    def __init__(self, task: dict[str, Any], requests: Requests, until: float) -> None:
        self.expect, self.most = str(task.get("expect", 200)).encode(), task.get("most") or sys.maxsize
        self.requests, self.until = requests, until
        self.latencies: list[float] = []
        self.failures: list[str] = []
        self.received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        request = self.requests.next()
        self.began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        if not self.whole():
            return
        now = time.perf_counter()
        self.latencies.append(now - self.began)
        if self.received[9:12] != self.expect:
            self.failures.append(self.received[9:12].decode())
        self.received = b""
        if now < self.until and len(self.latencies) < self.most:
            self.ask()
        else:
            self.transport.close()

    def whole(self) -> bool:
        head = self.received.find(END_OF_HEAD)
        if head < 0:
            return False
        length = LENGTH.search(self.received, 0, head)
        if length is None:
            return self.received.endswith(END_OF_CHUNKS)
        return len(self.received) >= head + len(END_OF_HEAD) + int(length.group(1))

    def connection_lost(self, error: Exception | None) -> None:
        if self.received or error:
            self.failures.append("connection lost")
        if not self.done.done():
            self.done.set_result(None)


async def main() -> None:
    task = json.load(sys.stdin)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    until = began + task["seconds"]
    connections = []
    for seed in range(task["connections"]):
        _, connection = await loop.create_connection(
            lambda seed=seed: Connection(task, Requests(task, seed), until),  # type: ignore[misc]
            task["host"],
            task["port"],
        )
        connections.append(connection)
    await asyncio.gather(*(connection.done for connection in connections))
    spent = time.perf_counter() - began
    latencies = sorted(latency for connection in connections for latency in connection.latencies)
    failures = [failure for connection in connections for failure in connection.failures]

    def percentile(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000

    found = {"rate": len(latencies) / spent, "requests": len(latencies), "failures": failures[:5]}
    print(json.dumps({**found, "p50": percentile(0.5), "p95": percentile(0.95), "p99": percentile(0.99)}))


if __name__ == "__main__":
    uvloop.run(main())
