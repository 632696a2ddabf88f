"""The door of the API: who calls, how often, and whether this call was answered already."""

import hashlib
import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

import structlog
from django.conf import settings
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.http import HttpResponse, JsonResponse
from redis.exceptions import RedisError

from billing_admin.api.endpoints import ApiRequest, Caller
from billing_admin.api.parser import is_storable
from billing_admin.api.refusals import answer, standard
from billing_admin.models import ApiKey, IdempotentAnswer, digest

log = structlog.get_logger("billing_admin.api")

View = Callable[..., HttpResponse]
WRITES = {"POST", "PATCH", "DELETE"}
# Use has keys of its own, which are kept for good: there the header is another place to write the event's key.
# An address is named after its first endpoint: that of setting use after the one that reads it.
HAVE_KEYS_OF_THEIR_OWN = {"track", "track_batch", "get_usage"}
WINDOW = 60


def door(view: View) -> View:
    """Wrap one address: identify the key, count its calls, answer a repeated write as before, refuse in one shape."""

    @wraps(view)
    def opened(request: ApiRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        request.caller = identify(request)
        used = count(request)
        if used is not None and used > rate_limit():
            response = too_many(request)
        elif is_too_large(request):
            response = too_large()
        elif not is_storable(request.path):
            response = standard(HTTPStatus.NOT_FOUND)
        else:
            response = answered_once(request, lambda: view(request, *args, **kwargs))
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allow = response["Allow"]
            response = standard(HTTPStatus.METHOD_NOT_ALLOWED)
            response["Allow"] = allow
        if used is not None:
            response["RateLimit-Limit"] = str(rate_limit())
            response["RateLimit-Remaining"] = str(max(0, rate_limit() - used))
            response["RateLimit-Reset"] = str(seconds_left(request))
        return response

    opened.csrf_exempt = True  # type: ignore[attr-defined]  # a key is sent on purpose, never by a browser on its own
    return opened


def identify(request: ApiRequest) -> Caller | None:
    """The caller behind the bearer's key; None without a key, and for one that is unknown or revoked."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        return None
    key = ApiKey.objects.filter(digest=digest(secret.strip()), revoked_at=None).first()
    return Caller(key) if key else None


def is_too_large(request: ApiRequest) -> bool:
    """By what it says of itself, before anything of it is read."""
    length = request.headers.get("Content-Length", "")
    return length.isdecimal() and len(length) < 20 and int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def too_large() -> HttpResponse:
    message = f"A request has at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes. Send less at once."
    return answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)


# How often ------------------------------------------------------------------------------------------------------------


def rate_limit() -> int:
    limit: int = settings.API_RATE_LIMIT
    return limit


def seconds_left(request: ApiRequest) -> int:
    return WINDOW - int(request.now.timestamp()) % WINDOW


def count(request: ApiRequest) -> int | None:
    """Calls of this key in the running minute, this one included. A cache that is away holds nobody up."""
    if request.caller is None:
        return None
    name = f"api-rate:{request.caller.key.public_id}:{int(request.now.timestamp()) // WINDOW}"
    try:
        cache.add(name, 0, timeout=2 * WINDOW)
        used: int = cache.incr(name)
    except (RedisError, ValueError) as error:
        log.warning("calls are not counted", cause=str(error))
        return None
    return used


def too_many(request: ApiRequest) -> HttpResponse:
    wait = seconds_left(request)
    message = f"More than {rate_limit():,} requests in a minute. Wait {wait} seconds."
    return answer(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", message, headers={"Retry-After": str(wait)})


# Once only ------------------------------------------------------------------------------------------------------------


def answered_once(request: ApiRequest, act: Callable[[], HttpResponse]) -> HttpResponse:
    """Carry out a write that bears an `Idempotency-Key` at most once, and give its answer again to whoever repeats it.

    The key is claimed in the transaction of the act: a second call waits at the row until the first one is done. What
    was refused did nothing, so its key stays free.
    """
    key = request.headers.get("Idempotency-Key")
    name = request.resolver_match.url_name if request.resolver_match else ""
    if not key or request.caller is None or request.method not in WRITES or name in HAVE_KEYS_OF_THEIR_OWN:
        return act()
    if len(key) > 255 or not key.isprintable():
        message = "An Idempotency-Key has at most 255 printable characters."
        return answer(HTTPStatus.BAD_REQUEST, "invalid", message, "Idempotency-Key")
    same = request_digest(request)
    if stored := given(request.caller.key, key):
        return again(stored, same)
    with transaction.atomic():
        claim = _claim(request, key, same)
        if claim:
            response = act()
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                transaction.set_rollback(rollback=True)
            else:
                claim.status, claim.body = response.status_code, json.loads(response.content)
                claim.save(update_fields=["status", "body"])
            return response
    stored = given(request.caller.key, key)
    assert stored is not None, "whoever claimed the key has kept the answer"
    return again(stored, same)


def _claim(request: ApiRequest, key: str, same: str) -> IdempotentAnswer | None:
    """Our claim to the key; None when somebody else's was first. Waits while theirs is undecided."""
    assert request.caller is not None
    claim = IdempotentAnswer(
        key=request.caller.key, idempotency_key=key, request_digest=same, status=0, body={}, at=request.now
    )
    try:
        with transaction.atomic():
            claim.save(force_insert=True)
    except IntegrityError:
        return None
    return claim


def given(key: ApiKey, idempotency_key: str) -> IdempotentAnswer | None:
    return IdempotentAnswer.objects.filter(key=key, idempotency_key=idempotency_key).first()


def again(stored: IdempotentAnswer, same: str) -> HttpResponse:
    if stored.request_digest != same:
        message = f"The key {stored.idempotency_key!r} was used for another request."
        return answer(HTTPStatus.CONFLICT, "idempotency_conflict", message, "Idempotency-Key")
    return JsonResponse(stored.body, status=stored.status, safe=False, headers={"Idempotent-Replayed": "true"})


def request_digest(request: ApiRequest) -> str:
    """What makes two calls the same: method, address and body, however the body is spaced."""
    try:
        body = json.dumps(json.loads(request.body), sort_keys=True).encode() if request.body else b""
    except (ValueError, RecursionError):
        body = request.body
    return hashlib.sha256(
        b"\0".join([str(request.method).encode(), request.get_full_path().encode(), body])
    ).hexdigest()
