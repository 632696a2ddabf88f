"""A small HTTP server that behaves as badly as it is told, one behaviour for each request."""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

ACCESS = {
    "featureSlug": "credits",
    "type": "metered",
    "hasAccess": True,
    "allowed": True,
    "reason": "ok",
    "source": "plan",
    "value": None,
    "required": 1,
    "unlimited": False,
    "limit": 100,
    "used": 3,
    "remaining": 97,
    "overage": 0,
    "hasReachedLimit": False,
    "nextResetAt": "2026-04-01T00:00:00Z",
    "sources": [],
    "buckets": [],
    "upgradeTo": [],
}
EVENT = {
    "id": "evt_1",
    "featureSlug": "credits",
    "value": 3,
    "counted": 3,
    "at": "2026-03-01T00:00:00Z",
    "mode": "reject",
}
TRACKED = {"applied": True, "event": EVENT, "access": ACCESS}


@dataclass
class Heard:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


Behaviour = Callable[[socket.socket, Heard], None]


@dataclass
class Misbehaving:
    """`with Misbehaving(says(503), says(200, {...})) as server:`; the last behaviour goes on."""

    behaviours: list[Behaviour]
    heard: list[Heard] = field(default_factory=list)

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours, self.heard = list(behaviours), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection:
            heard = read_request(connection)
            if heard is None:
                return
            self.heard.append(heard)
            behaviour = self.behaviours[min(len(self.heard), len(self.behaviours)) - 1]
            behaviour(connection, heard)


def read_request(connection: socket.socket) -> Heard | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return None
        data += more
    head, _, content = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(content) < int(headers.get("content-length", 0)):
        content += connection.recv(65_536)
    method, path, _ = first.split(" ")
    return Heard(method, path, headers, content)


def says(status: int, body: Any = None, **headers: str) -> Behaviour:
    """Answer with JSON, or with bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
    sent = {"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent.items())

    def behave(connection: socket.socket, heard: Heard) -> None:
        connection.sendall(head.encode() + b"\r\n" + content)

    return behave


def drops(connection: socket.socket, heard: Heard) -> None:
    """Hear the request and hang up."""


def hangs(connection: socket.socket, heard: Heard) -> None:
    """Never answer, until the caller hangs up."""
    connection.settimeout(10)
    connection.recv(1)


def dribbles(connection: socket.socket, heard: Heard) -> None:
    """Answer a byte every tenth of a second: no single read is slow."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    try:
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.1)
    except OSError:
        return


def forwards(url: str, *, loses_the_answer: bool = False) -> Behaviour:
    """Pass the request to a real server; the effect happens also when its answer is lost."""

    def behave(connection: socket.socket, heard: Heard) -> None:
        sent = {k: v for k, v in heard.headers.items() if k not in {"host", "content-length", "connection"}}
        answer = httpx.request(heard.method, url + heard.path, content=heard.content, headers=sent, timeout=10)
        if not loses_the_answer:
            says(answer.status_code, answer.content)(connection, heard)

    return behave
