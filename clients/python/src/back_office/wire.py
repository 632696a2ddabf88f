"""Between our requests and replies and those of httpx, for both clients."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from back_office.flow import Lost, Reply, Request

ROOT = "api/v1/"


def options(base_url: str, key: str) -> dict[str, Any]:
    """How an httpx client is made: the address, the key, no redirects (they would carry the key elsewhere)."""
    url = httpx.URL(base_url.rstrip("/") + "/" + ROOT)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"{base_url!r} is not the address of a service: https://billing.example.com.")
    if not (key.isascii() and key.isprintable()) or not key or " " in key:
        raise ValueError("The key is not one of ours: bk_….")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}", "Accept": "application/json", "User-Agent": _agent()},
        "follow_redirects": False,
    }


def sent(request: Request) -> dict[str, Any]:
    """A request in httpx's words; `within` bounds each step of it: connecting, sending, each read."""
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query) or None,
        "content": request.content,
        "headers": dict(request.headers),
        "timeout": request.within,
    }


def reply(response: httpx.Response, content: bytes) -> Reply:
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)


def lost(error: Exception) -> Lost:
    """Without the address: it may hold ids of customers."""
    said = str(error)
    return Lost(f"The service did not answer: {type(error).__name__}{f' ({said})' if said else ''}.")


def too_slow(request: Request) -> Lost:
    return Lost(f"The service did not finish its answer within {request.within:g} seconds.")


def _agent() -> str:
    try:
        return f"billing-back-office-client/{version('billing-back-office-client')}"
    except PackageNotFoundError:  # used from its folder, without being installed
        return "billing-back-office-client"
