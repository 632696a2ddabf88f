"""In whose name something is carried out later: a person's, or that of a key of the API. Their rights are asked for
again then, so that nobody's work outlives them."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import QuerySet

from billing_admin.models import ApiKey, Batch, Export

BY_KEY = "api:"


class KeyHolder:
    """A key of the API wherever lists and rows ask a person: it may do what its role may, until it is revoked."""

    pk = id = None
    is_superuser = False
    is_staff = is_authenticated = True

    def __init__(self, key: ApiKey):
        self.key = key

    @property
    def is_active(self) -> bool:
        return self.key.revoked_at is None

    @property
    def groups(self) -> QuerySet[Group]:
        return Group.objects.filter(pk=self.key.role_id)

    @cached_property
    def permissions(self) -> set[str]:
        granted = Permission.objects.filter(group=self.key.role_id)
        return {f"{label}.{code}" for label, code in granted.values_list("content_type__app_label", "codename")}

    def get_username(self) -> str:
        """As the journal names it."""
        return f"{BY_KEY}{self.key.name}"

    def has_perm(self, permission: str, _row: Any = None) -> bool:
        return self.is_active and permission in self.permissions

    def has_perms(self, permissions: Iterable[str], _row: Any = None) -> bool:
        return all(self.has_perm(permission) for permission in permissions)

    def has_module_perms(self, label: str) -> bool:
        return any(permission.startswith(f"{label}.") for permission in self.permissions)


def whose(holder: Any) -> dict[str, Any]:
    """The columns that keep a person or a `KeyHolder`; also what finds their rows."""
    is_key = isinstance(holder, KeyHolder)
    return {"user": None if is_key else holder, "key": holder.key if is_key else None}


def holder_of(row: Batch | Export) -> Any:
    """The person or the key behind a row, with their rights as they are; None for somebody who is gone. A key is read
    anew each time: revoking one works at once."""
    if row.key_id is None:
        return row.user
    key = ApiKey.objects.filter(pk=row.key_id).first()
    return KeyHolder(key) if key else None


def has_lost(name: str, needs: Iterable[str]) -> bool:
    """Whether nobody of this name in the journal may do something any more. Who is in neither list is the clockwork, a
    command, or somebody whose name was changed: of them nothing is known."""
    needs = tuple(needs)
    holders: list[Any] = (
        [KeyHolder(key) for key in ApiKey.objects.filter(name=name.removeprefix(BY_KEY))]
        if name.startswith(BY_KEY)
        else list(User.objects.filter(username=name))
    )
    return bool(holders) and not any(holder.is_active and holder.has_perms(needs) for holder in holders)
