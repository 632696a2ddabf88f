"""From what came back, or did not, to the error that it is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from back_office.access import Access
from back_office.errors import (
    BackOfficeError,
    BadRequest,
    Conflict,
    Forbidden,
    InsufficientFunds,
    KeyUsedOtherwise,
    LimitReached,
    NotFound,
    Problem,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from back_office.fields import Json, decode
from back_office.flow import Lost, Reply

BY_STATUS: Mapping[int, type[Refused]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
}
BY_CODE: Mapping[str, type[Refused]] = {
    "idempotency_conflict": KeyUsedOtherwise,
    "insufficient_funds": InsufficientFunds,
    "limit_reached": LimitReached,
}
CODES = {429: "rate_limited"}


def failure(outcome: Reply | Lost) -> BackOfficeError | None:
    """The error behind an outcome; None for an answer."""
    if isinstance(outcome, Lost):
        return Unavailable(outcome.why)
    if 200 <= outcome.status < 300:
        return None
    said = _said(outcome.content)
    code = str(said.get("code") or CODES.get(outcome.status, f"http_{outcome.status}"))
    message = str(said.get("message") or f"The service answered with status {outcome.status}.")
    if outcome.status == 429:
        return RateLimited(message, code=code, retry_after=_retry_after(outcome.headers))
    if outcome.status >= 500:
        code = code if "code" in said else "unavailable"
        return Unavailable(message, code=code, status=outcome.status, retry_after=_retry_after(outcome.headers))
    if 300 <= outcome.status < 400:
        return Unavailable(f"{message} Is the address right?", code=code, status=outcome.status, may_be_repeated=False)
    return refusal(outcome.status, code, message, said)


def refusal(status: int, code: str, message: str, said: Json) -> Refused:
    """The typed error of a refusal: by its code where that has a type, else by its status."""
    kind = BY_CODE.get(code) or BY_STATUS.get(status, Refused)
    problems = tuple(
        Problem(p.get("code", code), p.get("message", ""), p.get("field")) for p in said.get("errors") or ()
    )
    refused = kind(message, code=code, status=status, field=said.get("field"), errors=problems, details=said)
    if isinstance(refused, LimitReached) and said.get("access"):
        refused.access = Access.of(said["access"])
    return refused


def unreadable(cause: Exception) -> Unavailable:
    """An answer of another shape: something between us and the service spoke instead of it."""
    return Unavailable(
        f"The answer could not be read: {type(cause).__name__}: {cause}",
        code="unreadable_answer",
        may_be_repeated=False,
    )


def _said(content: bytes) -> Mapping[str, Any]:
    """The body of a refusal; whatever stands in front of the service may answer with a page instead."""
    try:
        said = decode(content)
    except ValueError:
        return {}
    return said if isinstance(said, Mapping) else {}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from a `Retry-After` of seconds or of a date."""
    said = headers.get("retry-after", "").strip()
    if not said:
        return None
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
