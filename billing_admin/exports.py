"""Lists that can be taken away as CSV: for each who may, which columns, and the rows that its own filter leaves.

An export asks the list itself what it is narrowed to, so that the file holds what the page showed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, QueryDict

from billing_admin.csv_table import Cell

# Places in a list, not conditions on it.
PLACES = ("before", "after", "p", "page", "all", "o")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an export was asked for: the conditions of the list, by whom, and the instant that "overdue" means."""

    query: QueryDict
    user: Any
    now: datetime

    @property
    def request(self) -> HttpRequest:
        """The list as that person would open it."""
        request = HttpRequest()
        request.method, request.user = "GET", self.user
        request.GET = self.query  # type: ignore[assignment]  # nobody changes it
        request.now = self.now  # type: ignore[attr-defined]  # declared by DeskRequest
        return request


@dataclass(frozen=True, slots=True)
class ListExport:
    """One list. `page` is the name of its address; `rows` are its rows in any order, `cells` those of some of them at
    once, so that what stands beside them is read together."""

    kind: str
    title: str
    page: str
    permission: str
    head: tuple[str, ...]
    rows: Callable[[Asked], QuerySet]
    cells: Callable[[Sequence[Any], Asked], Iterator[Sequence[Cell]]]


EXPORTS: dict[str, ListExport] = {}


def exported(one: ListExport) -> ListExport:
    """Register a list."""
    EXPORTS[one.kind] = one
    return one


def of_page(name: str) -> ListExport | None:
    """The export of the list at an address of this name."""
    return next((one for one in EXPORTS.values() if one.page == name), None)


def conditions(query: str) -> QueryDict:
    """What a list is narrowed to, without the place in it at which somebody stood."""
    asked = QueryDict(query, mutable=True)
    for name in PLACES:
        asked.pop(name, None)
    for name in [name for name, values in asked.lists() if not any(values)]:
        asked.pop(name)
    return asked


def of_model(model: type[Model]) -> Callable[[Asked], QuerySet]:
    """The rows that the admin's own list of a model shows for these conditions."""

    def rows(asked: Asked) -> QuerySet:
        changes = admin.site._registry[model].get_changelist_instance(asked.request)
        return changes.get_queryset(asked.request)

    return rows
