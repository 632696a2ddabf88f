"""A real browser at the real application. Without Chromium its tests are skipped; in CI they fail."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.signals import request_finished, request_started
from django.test import Client
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from catalog.models import _frozen_terms
from entitlements.readings import forget_items

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 20_000  # milliseconds: a busy machine is slow, and no reason to fail
OURS = ("catalog", "customers", "entitlements", "invoicing", "billing_admin")


def the_dialog(page: Page) -> Locator:
    """The dialog, once it is open: before that neither Escape nor a click beside it would close anything."""
    box = page.locator("#desk-dialog")
    expect(box).to_be_visible()
    return box


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of this folder: whoever comes after them may have an event loop of their own."""
    if not CHROMIUM.exists():
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("there is no Chromium here")
    # Playwright keeps an event loop in this thread, so Django would refuse to touch the database in it.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


class Requests:
    """How many requests the live server is answering, as Django's signals tell."""

    def __init__(self) -> None:
        self.running = 0
        self.lock = threading.Lock()

    def begin(self, **_: Any) -> None:
        with self.lock:
            self.running += 1

    def end(self, **_: Any) -> None:
        with self.lock:
            self.running -= 1

    def wait_until_none(self) -> None:
        """Two looks: what had been sent when the browser went away may begin between them."""
        deadline = time.monotonic() + PATIENCE / 1000
        quiet = 0
        while quiet < 2:
            assert time.monotonic() < deadline, f"{self.running} requests are still being answered"
            quiet = quiet + 1 if self.running == 0 else 0
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def nothing_lingers(live_server: Any) -> Iterator[None]:
    """Pages ask by themselves (panels, previews, progress). Whatever is being answered when a test is over has to end
    before the tables are emptied: the two would wait for each other. And each test has its own rows under the same
    numbers, so nothing of them may be remembered."""
    requests = Requests()
    request_started.connect(requests.begin)
    request_finished.connect(requests.end)
    yield
    requests.wait_until_none()
    request_started.disconnect(requests.begin)
    request_finished.disconnect(requests.end)
    _frozen_terms.cache_clear()
    forget_items()


@pytest.fixture
def signed_in(chromium: Browser, live_server: Any, settings: Any) -> Iterator[Callable[..., Page]]:
    """`page = signed_in()`: somebody who may do everything, at a desktop; or `signed_in("readonly")`, who may look.

    Their session is there already; how one signs in with a password has a test of its own.
    """
    settings.SESSION_COOKIE_AGE = 400 * 24 * 3600  # a session survives what tests do to the clock
    contexts = []

    def sign_in(who: str = "admin", *, width: int = 1280, javascript: bool = True) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, base_url=live_server.url, java_script_enabled=javascript
        )
        context.set_default_timeout(PATIENCE)
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session(who), "url": live_server.url}])
        contexts.append(context)
        return context.new_page()

    yield sign_in
    for context in contexts:
        context.close()


def session(who: str) -> str:
    """The key of a new session of `who`."""
    user, made = User.objects.get_or_create(username=who, defaults={"is_staff": True, "is_superuser": who == "admin"})
    if made:
        views = Permission.objects.filter(content_type__app_label__in=OURS, codename__startswith="view_")
        user.user_permissions.add(*views)
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value
