"""The web process, for servers that speak ASGI; the WSGI one is faster here."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_admin.settings")
# Only the web process keeps a pool of connections; commands, workers and tests open their own.
os.environ.setdefault("DATABASE_POOL", "true")

application = get_asgi_application()
