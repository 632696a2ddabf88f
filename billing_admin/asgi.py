"""The web process: plain checks and tracks answered by the event loop, everything else by Django in threads."""

from typing import Any, cast

from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.urls import get_resolver

from billing_admin.wsgi import application as django  # the apps are loaded from here on

from billing_admin.hot.door import Door  # isort: skip
from billing_admin.hot.asgi import App  # isort: skip

get_resolver().url_patterns  # noqa: B018  read the pages now, not while the first one waits for them
application = Door(cast(App, WSGIMiddleware(cast(Any, django), workers=settings.WEB_THREADS)))
