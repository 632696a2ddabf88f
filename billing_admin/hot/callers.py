"""Who calls: the keys of the API with the permissions of their roles.

Each statement asks whether the key is still valid, so a revoked one stops at once; a change of a role waits a little.
"""

from dataclasses import dataclass

from billing_admin.api.endpoints import Caller
from billing_admin.models import ApiKey, digest

LASTS = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class KnownCaller:
    key_id: int
    public_id: str
    permissions: frozenset[str]


def read_caller(authorization: bytes) -> KnownCaller | None:
    """The caller behind a header `Authorization`; None without a key, and for one that is unknown or revoked."""
    scheme, _, secret = authorization.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        return None
    key = ApiKey.objects.filter(digest=digest(secret.strip()), revoked_at=None).first()
    return None if key is None else KnownCaller(key.pk, key.public_id, frozenset(Caller(key).permissions))
