"""A real browser at the real application. Without Chromium its tests are skipped; in CI they fail."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

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
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def signed_in(chromium: Browser, live_server: Any, settings: Any) -> Iterator[Callable[..., Page]]:
    """`page = signed_in()`: somebody who may do everything, at a desktop; or `signed_in("readonly")`, who may look."""
    settings.SESSION_COOKIE_AGE = 400 * 24 * 3600  # a session survives what tests do to the clock
    contexts = []

    def sign_in(who: str = "admin", *, width: int = 1280, javascript: bool = True) -> Page:
        user, made = User.objects.get_or_create(
            username=who, defaults={"is_staff": True, "is_superuser": who == "admin"}
        )
        if made:
            user.set_password("demo")
            user.save()
            views = Permission.objects.filter(content_type__app_label__in=OURS, codename__startswith="view_")
            user.user_permissions.add(*views)
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, base_url=live_server.url, java_script_enabled=javascript
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.goto("/login/")
        page.fill("[name=username]", who)
        page.fill("[name=password]", "demo")
        page.press("[name=password]", "Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        return page

    yield sign_in
    for context in contexts:
        context.close()
