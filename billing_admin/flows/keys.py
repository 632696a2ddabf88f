"""API keys: issue one, revoke one. The journal names the key, never its secret."""

from datetime import datetime

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction

from billing_admin.models import ApiKey
from customers.journal import Actor, record


class AlreadyRevoked(ValidationError):
    def __init__(self, key: ApiKey):
        super().__init__(f"{key.name} was revoked already.", code="already_revoked")


@transaction.atomic
def issue_key(name: str, role: Group, *, actor: Actor, now: datetime) -> tuple[ApiKey, str]:
    """A key with the permissions of a role, and its secret, which nobody can read again."""
    name = name.strip()
    if not name:
        raise ValidationError({"name": ValidationError("Say which program will use the key.", "name_required")})
    key, secret = ApiKey.issue(name, role, by=actor.name)
    record(
        None,
        "api_key.issued",
        f"API key {key} was issued for the role {role.name}",
        actor=actor,
        now=now,
        inputs={"key": key.public_id, "role": role.name},
    )
    return key, secret


@transaction.atomic
def revoke_key(key: ApiKey, *, reason: str = "", actor: Actor, now: datetime) -> ApiKey:
    """Refuse every call with this key from now on. The row stays. Raises `AlreadyRevoked`."""
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    if key.revoked_at:
        raise AlreadyRevoked(key)
    key.revoked_at = now
    key.save(update_fields=["revoked_at"])
    record(
        None,
        "api_key.revoked",
        f"API key {key} was revoked",
        actor=actor,
        now=now,
        reason=reason.strip(),
        inputs={"key": key.public_id},
    )
    return key
