"""Lists as somebody narrowed them, kept under a name. They are no act on a customer: no line in the journal."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from billing_admin.exports import conditions
from billing_admin.models import SavedFilter

MOST = 50  # of one person on one list


class NameTaken(ValidationError):
    def __init__(self, name: str):
        self.field = "name"
        super().__init__(f"You have a filter “{name}” for this list already.", code="name_taken", params={"f": "name"})


class NotYours(ValidationError):
    def __init__(self) -> None:
        super().__init__("Only whoever saved a filter changes it.", code="not_your_filter")


class NothingToSave(ValidationError):
    def __init__(self) -> None:
        super().__init__("The list is narrowed to nothing yet: filter it first.", code="nothing_to_save")


class TooMany(ValidationError):
    def __init__(self) -> None:
        super().__init__(f"You keep {MOST} filters for this list; delete one first.", code="too_many_filters")


def shown_to(user: Any, page: str) -> QuerySet[SavedFilter]:
    """Their own and those that others share; one query."""
    return SavedFilter.objects.filter(Q(user=user) | Q(is_shared=True), page=page).select_related("user")


@transaction.atomic
def save_filter(*, user: Any, page: str, query: str, name: str, is_shared: bool, now: datetime) -> SavedFilter:
    """Keep the conditions of a list; the place in it is none. Raises `NothingToSave`, `NameTaken`, `TooMany`."""
    said = conditions(query).urlencode()
    if not said:
        raise NothingToSave
    if len(said) > (SavedFilter._meta.get_field("query").max_length or 0):
        raise ValidationError("The list is narrowed by too much at once.", code="query_too_long")
    if SavedFilter.objects.filter(user=user, page=page).count() >= MOST:
        raise TooMany
    made = SavedFilter(user=user, page=page, query=said, is_shared=is_shared, created_at=now)
    return _named(made, name)


@transaction.atomic
def change_filter(kept: SavedFilter, *, name: str, is_shared: bool, user: Any) -> SavedFilter:
    """Another name, or for others, too. Raises `NotYours`, `NameTaken`."""
    _refuse_others(kept, user)
    kept.is_shared = is_shared
    return _named(kept, name)


@transaction.atomic
def delete_filter(kept: SavedFilter, *, user: Any) -> None:
    """Raises `NotYours`."""
    _refuse_others(kept, user)
    kept.delete()


def _named(kept: SavedFilter, name: str) -> SavedFilter:
    kept.name = name.strip()
    try:
        with transaction.atomic():
            kept.save()
    except IntegrityError:
        raise NameTaken(kept.name) from None
    return kept


def _refuse_others(kept: SavedFilter, user: Any) -> None:
    if kept.user_id != user.pk:
        raise NotYours
