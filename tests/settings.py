"""The settings under test: the same, on throwaway servers under var/test, with a quick password hasher."""

import os
from pathlib import Path

import environ
import structlog

from launch.places import Places

BASE_DIR = Path(__file__).resolve().parent.parent
environ.Env.read_env(BASE_DIR / ".env")

PLACES = Places(BASE_DIR / "var" / "test", database="postgres")
# Read before our own default goes in: tests/conftest.py starts only the servers that nobody gave us.
GIVEN = {name for name in ("DATABASE_URL", "REDIS_URL") if os.environ.get(name)}
os.environ["DATABASE_URL"] = os.environ.get("DATABASE_URL") or PLACES.database_url
os.environ["REDIS_URL"] = os.environ.get("REDIS_URL") or PLACES.redis_url
os.environ.setdefault("ENVIRONMENT", "development")

from billing_admin.settings import *  # noqa: E402, F403

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AXES_ENABLED = False
INSTALLED_APPS.append("tests.emptying")  # noqa: F405 - of the settings above
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
EXPORT_FOLDER = Path(BASE_DIR / "var" / "test" / "exports")
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
# With rich, which comes with the tests' packages, structlog draws every frame of every refused request: that is slow.
LOGGING["formatters"]["line"]["processors"][-1] = structlog.dev.ConsoleRenderer(  # noqa: F405 - of the settings above
    colors=False, exception_formatter=structlog.dev.plain_traceback
)
