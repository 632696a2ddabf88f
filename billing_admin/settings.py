"""Settings, read from the environment and `.env`; `.env.example` lists every name. Defaults suit `make run`."""

import logging
import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import environ
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing_admin.frame import UNFOLD  # noqa: F401  the admin frame's looks, read by unfold from these settings
from launch.places import Places

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = BASE_DIR / "var"

env = environ.Env()
env.read_env(BASE_DIR / ".env")

# Where this runs ------------------------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
# In production nothing is guessed: secrets and servers must be given, and everything goes over HTTPS.
PRODUCTION = env.str("ENVIRONMENT", default="development") == "production"

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Where customers reach us: what the links in mails begin with.
PUBLIC_URL = env.str("PUBLIC_URL", default="http://localhost:8000").rstrip("/")

# Mail to customers: printed, unless a server is named (smtp+tls://user:password@host:587).
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="billing@localhost")


def needed(name: str, *, otherwise: str) -> str:
    """The environment's value; in development the given one when there is none."""
    value: str = env.str(name, default="")
    if not value and PRODUCTION:
        raise ImproperlyConfigured(f"{name} must be set in production; see docs/production.md.")
    return value or otherwise


def secret_key() -> str:
    """Make this folder's key once, so that restarts keep everyone signed in."""
    file = VAR / "secret_key"
    if not file.exists():
        VAR.mkdir(exist_ok=True)
        draft = VAR / f"secret_key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(get_random_secret_key())
        with suppress(FileExistsError):  # another process was faster: its key is as good
            file.hardlink_to(draft)
        draft.unlink()
    return file.read_text()


SECRET_KEY = needed("SECRET_KEY", otherwise="") or secret_key()

# Database and queue ---------------------------------------------------------------------------------------------------

EMBEDDED = Places(VAR)
DATABASE_URL = needed("DATABASE_URL", otherwise=EMBEDDED.database_url)
REDIS_URL = needed("REDIS_URL", otherwise=EMBEDDED.redis_url)

DATABASES: dict[str, dict[str, Any]] = {"default": environ.Env.db_url_config(DATABASE_URL)}
DATABASES["default"].setdefault("OPTIONS", {})
# A socket's folder comes in the URL's query; `dbshell` looks for it here.
DATABASES["default"]["HOST"] = DATABASES["default"]["OPTIONS"].pop("host", DATABASES["default"]["HOST"])
DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", 5)
# Parameters bound by the server make prepared statements possible: faster, and stricter about types.
DATABASES["default"]["OPTIONS"]["server_side_binding"] = env.bool("DATABASE_SERVER_SIDE_BINDING", default=False)
if env.bool("DATABASE_POOL", default=False):
    # The pool hands out and takes back connections itself, so Django may not keep them (CONN_MAX_AGE stays 0).
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": env.int("DATABASE_POOL_MIN", default=2),
        "max_size": env.int("DATABASE_POOL_MAX", default=10),
        "timeout": 5,
    }
    # A connection that died with the server is replaced before a request gets it.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        # A cache that is away may not hold a page up: by default the client tries again for seconds.
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1, "retry": Retry(NoBackoff(), 1)},
    },
}

# Seconds between two looks at what is due (billing_admin/celery.py). Demos and tests may want it shorter.
CLOCKWORK_SECONDS = env.float("CLOCKWORK_SECONDS", default=30.0)

# Threads of one web worker for everything that is not a plain check or track.
WEB_THREADS = env.int("WEB_THREADS", default=8)
# Plain checks and tracks: connections of their own, how many are answered together at most, and the seconds after
# which the database counts as away.
HOT_CHECK_CONNECTIONS = env.int("HOT_CHECK_CONNECTIONS", default=2)
HOT_TRACK_CONNECTIONS = env.int("HOT_TRACK_CONNECTIONS", default=2)
HOT_BATCH_CONNECTIONS = env.int("HOT_BATCH_CONNECTIONS", default=1)
HOT_BATCH = env.int("HOT_BATCH", default=64)
HOT_TIMEOUT = env.float("HOT_TIMEOUT", default=5.0)

# Calls that one API key may make in a minute.
API_RATE_LIMIT = env.int("API_RATE_LIMIT", default=6_000)

# Stripe. Without the secret key nothing of it shows. The other addresses are for a stand-in of Stripe.
STRIPE_SECRET_KEY: str = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_PUBLISHABLE_KEY: str = env.str("STRIPE_PUBLISHABLE_KEY", default="")
STRIPE_WEBHOOK_SECRET: str = env.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_API_URL: str = env.str("STRIPE_API_URL", default="")
STRIPE_JS_URL: str = env.str("STRIPE_JS_URL", default="https://js.stripe.com/v3/")
# Seconds after which a call to it is given up, to be made again later.
STRIPE_TIMEOUT = env.float("STRIPE_TIMEOUT", default=20.0)

# Events older than so many months go to files in a folder; empty: all stay in the database. No window of a plan is
# longer than a year, and what an open window counts has to be at hand.
USAGE_KEEP_MONTHS: int | None = int(env.str("USAGE_KEEP_MONTHS", default="24") or 0) or None
if USAGE_KEEP_MONTHS is not None and USAGE_KEEP_MONTHS < 13:
    raise ImproperlyConfigured("USAGE_KEEP_MONTHS must be 13 or more, or empty.")
USAGE_ARCHIVE: Path = Path(env.str("USAGE_ARCHIVE", default=str(VAR / "archive")))
# Lists that people took away as CSV lie here for a week; web processes and workers share it.
EXPORT_FOLDER: Path = Path(env.str("EXPORT_FOLDER", default=str(VAR / "exports")))

# Apps -----------------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    # The admin's looks must stand before the admin itself.
    # The plain config: the default one would put its own admin site in the place of ours.
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.simple_history",
    "billing_admin.apps.BackOfficeAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    # Operator classes and exclusion constraints in indexes.
    "django.contrib.postgres",
    "simple_history",
    "axes",
    # The page of the API, with its scripts.
    "ninja",
    # Ours, from the ground up: each may import those above it.
    "catalog",
    "customers",
    "entitlements",
    "invoicing",
    "payments",
    "deals",
    "billing_admin.apps.BillingAdminConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "billing_admin.middleware.InstantMiddleware",
    "billing_admin.middleware.DisplayMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "billing_admin.urls"
WSGI_APPLICATION = "billing_admin.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Money and time -------------------------------------------------------------------------------------------------------

CURRENCIES = env.list("CURRENCIES", default=["USD", "EUR"])

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en-us"
USE_I18N = False

# Static files: whitenoise serves them, named by their content and compressed ------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = env.path("STATIC_ROOT", default=str(VAR / "static"))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage",
    },
}
# With DEBUG an edited stylesheet shows at once, without collecting.
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG

# Who may come in ------------------------------------------------------------------------------------------------------

LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# Ten wrong passwords for one name from one address close that door for a quarter of an hour.
AXES_ENABLED = env.bool("AXES_ENABLED", default=True)
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
# Only a proxy that we trust may say where a request comes from: the number of those in front of us.
AXES_IPWARE_PROXY_COUNT = env.int("PROXY_COUNT", default=0) or None

# Safety of pages ------------------------------------------------------------------------------------------------------

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("SECURE_COOKIES", default=PRODUCTION)
SESSION_COOKIE_AGE = 12 * 3600
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=PRODUCTION)
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=365 * 24 * 3600 if PRODUCTION else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_SECONDS > 0
SILENCED_SYSTEM_CHECKS = ["security.W021"]  # whether browsers list the whole domain is not for one app to decide
if env.int("PROXY_COUNT", default=0):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Logs: lines for people in development, JSON for machines in production, secrets in neither ---------------------------

SECRETS = ("password", "secret", "token", "authorization", "api_key", "cookie")


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if any(secret in name.lower() for secret in SECRETS):
            event[name] = "…"
    return event


SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    hide_secrets,
]

structlog.configure(
    processors=[*SHARED_PROCESSORS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": SHARED_PROCESSORS,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(
                    [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
                    if PRODUCTION
                    else [structlog.dev.ConsoleRenderer(colors=False)]
                ),
            ],
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        # Django's own handlers would print each line a second time.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        "axes": {"level": "WARNING"},
        # It writes two lines for every call.
        "stripe": {"level": "WARNING"},
    },
}
logging.captureWarnings(capture=True)
