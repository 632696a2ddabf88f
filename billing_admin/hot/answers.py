"""Answers as bytes, in the shape and with the very classes of the ordinary endpoints."""

import secrets
from datetime import datetime
from typing import Any

import orjson
from django.core.serializers.json import DjangoJSONEncoder

from billing_admin.api.usage import AccessOut, PlanRef
from customers.models import ALPHABET
from entitlements.access import Access

_as_django = DjangoJSONEncoder().default
# Every sign of the alphabet equally often: bytes from here on are thrown away.
_FAIR = 256 - 256 % len(ALPHABET)
_SIGNS = bytes(ord(ALPHABET[byte % len(ALPHABET)]) if byte < _FAIR else 0 for byte in range(256))
_TOO_LARGE = bytes(range(_FAIR, 256))


def as_json(value: Any) -> bytes:
    """With instants as Django writes them."""
    return orjson.dumps(value, default=_default, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return _as_django(value)
    raise TypeError(f"{type(value).__name__} in an answer")


def access_body(access: Access, upgrades: list[PlanRef] | None = None) -> dict[str, Any]:
    return AccessOut.of(access, upgrades).model_dump(by_alias=True)


def new_event_id() -> str:
    """As `customers.models.public_id` makes them, in one draw."""
    found = b""
    while len(found) < 16:
        found += secrets.token_bytes(24).translate(_SIGNS, _TOO_LARGE)
    return f"evt_{found[:16].decode()}"
