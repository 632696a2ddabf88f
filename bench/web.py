"""The real web process, started as `make run` starts it, and questions to it over real connections."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import places
from launch import run
from launch.configuration import Configuration
from launch.processes import Process

HOST = "127.0.0.1"


@contextmanager
def serving() -> Iterator[int]:
    """The web process on a free port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    config = Configuration(HOST, port, 2, 8, None, None, production=False)
    [web] = [part for part in run.our_processes(config) if part.name == "Web"]
    web = Process("Bench web", web.command, web.root, run.LOGS / "bench-web.log", web.env)
    web.start()
    try:
        _wait(port)
        yield port
    finally:
        assert web.running is not None
        web.running.terminate()
        web.running.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=10)
            connection.request("HEAD", "/")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the web process did not answer, see {run.LOGS / 'bench-web.log'}")


def load(
    port: int, request: dict[str, Any], numbers: range, *, connections: int, seconds: float, most: int = 0
) -> dict[str, Any]:
    """What the load generator measured, in a process of its own."""
    task = {
        "host": HOST,
        "port": port,
        "request": request,
        "numbers": [numbers.start, numbers.stop - 1],
        "connections": connections,
        "seconds": seconds,
        "most": most,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        cwd=places.ROOT,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failures"]:
        raise RuntimeError(f"{request['path']} answered {', '.join(found['failures'])}")
    return found
