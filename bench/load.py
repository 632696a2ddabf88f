"""A load generator in a process of its own: keep-alive connections that ask one after the other. Prints JSON.

`python -m bench.load < task.json`; the task says host, port, seconds, connections, and the requests as
`{"method", "path", "headers", "body"}`, in which `{n}` is a random number of the range and `{k}` never repeats.
"""

import asyncio
import json
import random
import sys
import time
from itertools import count
from typing import Any


async def ask(task: dict[str, Any], seed: int, until: float, latencies: list[float], failures: list[str]) -> None:
    chance = random.Random(seed)
    reader, writer = await asyncio.open_connection(task["host"], task["port"])
    first, last = task["numbers"]
    run = f"{time.time_ns():x}-{seed}"
    for turn in count():
        if (task.get("most") and turn >= task["most"]) or time.perf_counter() >= until:
            break
        words = {"{n}": str(chance.randint(first, last)), "{k}": f"{run}-{turn}"}
        request = fill(task["request"], words)
        began = time.perf_counter()
        writer.write(request)
        status = await answer(reader)
        latencies.append(time.perf_counter() - began)
        if status != task.get("expect", 200):
            failures.append(str(status))
    writer.close()


def fill(request: dict[str, Any], words: dict[str, str]) -> bytes:
    path, body = request["path"], request.get("body", "")
    for word, value in words.items():
        path, body = path.replace(word, value), body.replace(word, value)
    headers = {"Host": "localhost", "Content-Length": str(len(body)), **request["headers"]}
    lines = [f"{request['method']} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", body]
    return "\r\n".join(lines).encode()


async def answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    else:
        while size := int((await reader.readline()).strip() or b"0", 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head[0].split()[1])


async def main() -> None:
    task = json.load(sys.stdin)
    latencies: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()
    until = began + task["seconds"]
    await asyncio.gather(*(ask(task, seed, until, latencies, failures) for seed in range(task["connections"])))
    spent = time.perf_counter() - began
    latencies.sort()

    def percentile(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000

    found = {"rate": len(latencies) / spent, "requests": len(latencies), "failures": failures[:5]}
    print(json.dumps({**found, "p50": percentile(0.5), "p95": percentile(0.95), "p99": percentile(0.99)}))


if __name__ == "__main__":
    asyncio.run(main())
