"""The same statements without us: what a call asks of the database, written down as a pgbench script.

Statements are caught while the real endpoint answers for one customer; that customer's numbers become pgbench's random
one, so pgbench does for any customer what the endpoint does.
"""

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from django.test import Client
from psycopg.adapt import Dumper

from bench import places


class Raw:
    """A piece of SQL in the place of a value."""

    def __init__(self, text: str) -> None:
        self.text = text


class RawDumper(Dumper):
    def dump(self, obj: Raw) -> bytes:
        return obj.text.encode()

    def quote(self, obj: Raw) -> bytes:
        return obj.text.encode()


def caught(path: str, body: dict[str, Any], headers: dict[str, str]) -> list[tuple[str, tuple[Any, ...]]]:
    """Every statement of one call, with its values."""
    found: list[tuple[str, tuple[Any, ...]]] = []

    def catch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found.append((sql, tuple(params or ())))
        return execute(sql, params, many, context)

    client = Client(headers=headers, SERVER_NAME="localhost")
    url = f"/api/v1/{path}"
    client.post(url, json.dumps(body), content_type="application/json")  # once before, so that caches are warm
    body = {name: f"{value}-2" if name == "eventKey" else value for name, value in body.items()}
    with connection.execute_wrapper(catch):
        answer = client.post(url, json.dumps(body), content_type="application/json")
    assert answer.status_code == 200, answer.content
    return found


def script(statements: list[tuple[str, tuple[Any, ...]]], number: int, numbers: range) -> str:
    """As pgbench's own: a random customer, then the statements; what follows a lock stands in one transaction."""
    with psycopg.connect(connection.get_connection_params()["dbname"] and _dsn()) as plain:
        plain.adapters.register_dumper(Raw, RawDumper)
        cursor = psycopg.ClientCursor(plain)
        lines = [f"\\set n random({numbers.start}, {numbers.stop - 1})"]
        begun = False
        for sql, params in statements:
            if "FOR KEY SHARE" in sql or "FOR UPDATE" in sql:
                lines += [] if begun else ["BEGIN;"]
                begun = True
            text = cursor.mogrify(sql, [_generalised(value, number) for value in params])
            lines.append(re.sub(r"\s+", " ", text) + ";")
        return "\n".join([*lines, *(["COMMIT;"] if begun else [])]) + "\n"


def _dsn() -> str:
    return f"host={places.PLACES.socket_address} user=postgres dbname={places.PLACES.database}"


def _generalised(value: Any, number: int) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value == number:
            return Raw(":n")
        if value // 10 == number:
            return Raw(f"(:n * 10 + {value % 10})")
        return value
    if isinstance(value, datetime):  # without colons, which pgbench would take for variables
        return Raw(f"'{value.astimezone(UTC):%Y%m%dT%H%M%SZ}'::timestamptz")
    if isinstance(value, str) and value.startswith("caught-"):
        return Raw("('caught-' || random() || clock_timestamp())")
    if isinstance(value, str) and str(number) in value:
        before, _, after = value.partition(str(number))
        return Raw(f"('{before}' || :n || '{after}')")
    if isinstance(value, list):
        return Raw(f"ARRAY[{', '.join(_text(_generalised(item, number)) for item in value)}]") if value else value
    return value


def _text(value: Any) -> str:
    return value.text if isinstance(value, Raw) else str(value)


def pgbench(file: Path, *, connections: int, seconds: float) -> float:
    """Transactions per second of a script."""
    command = [places.pgbench(), "-h", str(places.PLACES.socket_address), "-U", "postgres", "-n", "-f", str(file)]
    command += ["-c", str(connections), "-j", str(min(2, connections)), "-T", str(max(1, round(seconds)))]
    done = subprocess.run([*command, places.PLACES.database], capture_output=True, text=True, check=False)
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or rate is None:
        raise RuntimeError(f"pgbench failed: {done.stderr[-500:]}")
    return float(rate.group(1))
