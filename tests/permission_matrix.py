"""Every address × role × method: who gets in. `tests/permission_matrix.txt` is the table, read by people.

An address that is not in the table fails the test, so each new one has to say whom it is for. Write it anew with
`WRITE_MATRIX=1 pytest tests/test_permission_matrix.py`, and read the difference before you keep it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

FILE = Path(__file__).with_suffix(".txt")
METHODS = ("GET", "POST")
# What Django's own pages give everybody who may sign in, and addresses for customers and for Stripe, who have no role.
NOT_OURS = {"login", "logout", "password_change", "password_change_done", "autocomplete", "jsi18n", "view_on_site"}
OPEN = ("i/", "pay/", "stripe/webhook", "static/", "api/v1/")
ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Address:
    route: str
    name: str

    def filled(self, world: dict[str, Any]) -> str:
        """With real rows: the value of the longest known beginning of the route, else of the argument's name."""

        def value(found: re.Match[str]) -> str:
            ahead = self.route[: found.start()]
            known = [key for key in world if key.endswith(f"|{found[1]}") and ahead.startswith(key.split("|")[0])]
            if not known:
                raise KeyError(f"Say in tests/test_permission_matrix.py which {found[1]} {self.route} is tried with.")
            return str(world[max(known, key=len)])

        return "/" + ARGUMENT.sub(value, self.route)


def addresses() -> list[Address]:
    """Every page of the desk, by its route."""
    found = [Address(route, pattern.name or "") for route, pattern in _walk(get_resolver())]
    kept = [a for a in found if a.name and a.name not in NOT_OURS and not a.route.startswith(OPEN)]
    return [a for a in kept if not a.route.startswith("^")]


def _walk(resolver: URLResolver, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern, route)
        else:
            yield route, pattern


def read() -> dict[str, str]:
    """`GET route` → the roles that get in, or why nobody does."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return dict(line.split(" : ", 1) for line in lines if " : " in line)


def of_other_methods(method: str) -> dict[str, str]:
    return {key: who for key, who in read().items() if not key.startswith(f"{method} ")}


def write(table: dict[str, str]) -> None:
    FILE.write_text("".join(f"{key} : {value}\n" for key, value in sorted(table.items(), key=_order)))


def _order(entry: tuple[str, str]) -> tuple[str, str]:
    method, route = entry[0].split(" ", 1)
    return route, method
