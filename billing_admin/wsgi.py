"""The web process."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_admin.settings")
# Only the web process keeps a pool of connections; commands, workers and tests open their own.
os.environ.setdefault("DATABASE_POOL", "true")

application = get_wsgi_application()
