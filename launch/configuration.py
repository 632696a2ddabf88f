"""What `make run` reads from the environment and `.env`, refused in one sentence where it cannot work."""

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import environ
import psycopg
import redis
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from launch.errors import LaunchError

PATIENCE = 5  # seconds for a server of yours to answer


@dataclass(frozen=True)
class Configuration:
    host: str
    port: int
    web_workers: int
    web_threads: int
    database_url: str | None  # None: the embedded one
    redis_url: str | None
    production: bool
    stripe_double: bool = False  # a double of Stripe runs beside us

    @property
    def address(self) -> str:
        return f"http://{'localhost' if self.host in ('0.0.0.0', '::') else self.host}:{self.port}/"


def read(root: Path) -> Configuration:
    environ.Env.read_env(root / ".env")
    production = os.environ.get("ENVIRONMENT") == "production"
    return Configuration(
        host=os.environ.get("HOST") or "127.0.0.1",
        port=whole_number("PORT", 8000),
        web_workers=whole_number("WEB_WORKERS", 2),
        web_threads=whole_number("WEB_THREADS", 8),
        database_url=os.environ.get("DATABASE_URL") or None,
        redis_url=os.environ.get("REDIS_URL") or None,
        production=production,
        stripe_double=wants_double(root, production=production),
    )


def wants_double(root: Path, *, production: bool) -> bool:
    """Whether STRIPE=double was asked for, and may be."""
    asked = os.environ.get("STRIPE") or ""
    if not asked:
        return False
    if asked != "double":
        raise LaunchError(
            f"STRIPE can be double, not {asked!r}; for Stripe itself leave it out and put its keys into .env."
        )
    if production:
        raise LaunchError("The double of Stripe takes no real money: it does not run with ENVIRONMENT=production.")
    if os.environ.get("STRIPE_SECRET_KEY"):
        raise LaunchError("There are keys of Stripe in the environment or in .env: remove them, or leave out STRIPE.")
    if not (root / "tests" / "stripe_double").is_dir():
        raise LaunchError("The double of Stripe lies in tests/stripe_double/, which is not here.")
    return True


def whole_number(name: str, otherwise: int) -> int:
    text = os.environ.get(name) or str(otherwise)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise LaunchError(f"{name} must be a whole number from 1 to 65535, not {text!r}.")
    return int(text)


def refuse_taken_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as refusal:
            raise LaunchError(f"Port {port} is not ours to use; choose one above 1023 with PORT=8000.") from refusal
        except OSError as refusal:
            raise LaunchError(
                f"Port {port} on {host} is taken by another program; stop it, or choose another: PORT={port + 1}."
                if refusal.errno == errno.EADDRINUSE
                else f"Cannot listen on {host}:{port}: {refusal.strerror}."
            ) from refusal


def refuse_unreachable_database(url: str) -> None:
    if not url.startswith(("postgres://", "postgresql://")):
        raise LaunchError("DATABASE_URL must be a postgres:// URL: other databases lack the row locks that this needs.")
    try:
        parts = environ.Env.db_url_config(url)
    except (ImproperlyConfigured, ValueError) as refusal:
        raise LaunchError("DATABASE_URL is not a URL like postgres://user:password@host:5432/name.") from refusal
    options = parts.get("OPTIONS", {})
    try:
        psycopg.connect(
            host=options.get("host") or parts["HOST"] or None,
            port=parts["PORT"] or None,
            user=parts["USER"] or None,
            password=parts["PASSWORD"] or None,
            dbname=parts["NAME"],
            sslmode=options.get("sslmode"),
            connect_timeout=PATIENCE,
        ).close()
    except psycopg.Error as refusal:
        raise LaunchError(f"The database of DATABASE_URL cannot be reached: {one_sentence(refusal)}") from refusal


def refuse_unreachable_redis(url: str) -> None:
    try:
        redis.from_url(url, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)).ping()
    except (redis.RedisError, ValueError) as refusal:
        raise LaunchError(f"The server of REDIS_URL cannot be reached: {one_sentence(refusal)}") from refusal


def one_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
