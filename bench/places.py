"""Where the bench runs: the embedded servers, with a database and a cache number of its own."""

import os
from pathlib import Path

from psycopg import sql

from launch import servers
from launch.places import Places

ROOT = Path(__file__).resolve().parent.parent
PLACES = Places(ROOT / "var", database="bench")
CACHE = 9


def start() -> None:
    """Start the servers if they are not up, empty the database `bench`, and point the settings at it."""
    postgres = servers.Postgres(PLACES)
    servers.start([postgres, servers.Valkey(PLACES)], PLACES)
    with postgres.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(PLACES.database)))
    postgres.make_database()
    os.environ["DATABASE_URL"] = PLACES.database_url
    os.environ["REDIS_URL"] = PLACES.redis_url.replace("db=0", f"db={CACHE}")
    # What is measured is the answer, not the refusal.
    os.environ["API_RATE_LIMIT"] = "1000000000"
    os.environ["LOG_LEVEL"] = "ERROR"


def pgbench() -> str:
    return servers.Postgres(PLACES).binary("pgbench")
