"""In which time zone a page says its instants. What is typed, stored, billed and exported stays UTC.

Django's own active zone is left alone on purpose: forms would read what people type in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from billing_admin.models import Preference

KEY = "time_zone"  # in the session, so that no page asks the database for it
REGIONS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")

_shown: ContextVar[tzinfo] = ContextVar("display_zone", default=UTC)


def display_zone() -> tzinfo:
    """The zone of whoever reads the page that is being made; UTC outside of one."""
    return _shown.get()


@contextmanager
def shown_in(name: str) -> Iterator[None]:
    """Say instants in a zone, by its name (`Europe/Berlin`); an empty or unknown one is UTC."""
    token = _shown.set(_zone(name))
    try:
        yield
    finally:
        _shown.reset(token)


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def zone_names() -> list[str]:
    """The zones that people know, by region and town."""
    return sorted(name for name in available_timezones() if name.partition("/")[0] in REGIONS)


def choose_zone(request: HttpRequest, user: User, name: str) -> None:
    """Keep a person's zone, for this session and all to come. Empty: UTC."""
    Preference.objects.update_or_create(user=user, defaults={"time_zone": name})
    request.session[KEY] = name


@receiver(user_logged_in, dispatch_uid="display.remember")
def _remember(sender: type, request: HttpRequest | None, user: User, **_kwargs: object) -> None:
    """A new session says instants as its owner chose."""
    kept = Preference.objects.filter(user_id=user.pk).values_list("time_zone", flat=True).first()
    if request is not None and kept:
        request.session[KEY] = kept
