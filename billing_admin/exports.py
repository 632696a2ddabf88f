"""Lists that can be taken away as CSV: for each who may, which columns, and the rows that its own filter leaves.

An export asks the list itself what it is narrowed to, so that the file holds what the page showed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.urls import NoReverseMatch, reverse

from billing_admin.csv_table import Cell
from billing_admin.typed import row_number
from customers.models import Customer

Cells = Callable[[Sequence[Any], "Asked"], Iterator[Sequence[Cell]]]
# Places in a list, not conditions on it.
PLACES = ("before", "after", "p", "page", "all", "o")


FilterForm = TypeVar("FilterForm", bound=forms.Form)


class BadCondition(ValidationError):
    def __init__(self, name: str, why: str):
        self.field = f"filters.{name}"
        super().__init__(why, code="bad_condition")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an export was asked for: the conditions of the list, by whom, and the instant that "overdue" means.

    A page shows that it did not understand a condition, and is not narrowed by it; `is_strict` refuses it.
    """

    query: QueryDict
    user: Any
    now: datetime
    is_strict: bool = False

    def form(self, kind: Callable[..., FilterForm], **more: Any) -> FilterForm:
        """The filter of the page. Raises `BadCondition` where that is strict."""
        form = kind(self.query, **more)
        if self.is_strict and not form.is_valid():
            name, problems = next(iter(form.errors.items()))
            raise BadCondition(name, str(problems[0]))
        return form

    @property
    def request(self) -> HttpRequest:
        """The list as that person would open it."""
        request = HttpRequest()
        request.method, request.user = "GET", self.user
        request.GET = self.query  # type: ignore[assignment]  # nobody changes it
        request.now = self.now  # type: ignore[attr-defined]  # declared by DeskRequest
        return request


@dataclass(frozen=True, slots=True)
class Walk:
    """Rows in an order of their own, each read as it is reached: of lists that are no single table. `total` is None
    where counting them would take as long as writing them."""

    rows: Iterable[Any]
    total: int | None = None


@dataclass(frozen=True, slots=True)
class ListExport:
    """One list. `page` is the name of its address; `rows` are its rows, of a table in any order; `cells` those of some
    of them at once, so that what stands beside them is read together.

    `needs` are permissions beside the first. `of` is the condition that stands in the path of its page, if one does:
    the page of a customer's events asks for `customer`. `button` is for pages with more than one list.
    """

    kind: str
    title: str
    page: str
    permission: str
    head: tuple[str, ...]
    rows: Callable[[Asked], "QuerySet | Walk"]
    cells: Cells
    needs: tuple[str, ...] = ()
    of: str = ""
    button: str = "Export CSV"

    @property
    def permissions(self) -> tuple[str, ...]:
        """All that somebody has to hold who asks for it, writes it or fetches it."""
        return (self.permission, *self.needs)

    def is_for(self, user: Any) -> bool:
        return bool(user.has_perms(self.permissions))

    def address(self, query: str) -> str:
        """The list in the desk, narrowed as it was; empty where it has none."""
        asked = QueryDict(query, mutable=True)
        args = asked.pop(self.of, [""])[-1:] if self.of else []
        try:
            path = reverse(f"admin:{self.page}", args=args)
        except NoReverseMatch:
            return ""
        return f"{path}?{asked.urlencode()}" if asked else path


EXPORTS: dict[str, ListExport] = {}


def exported(one: ListExport) -> ListExport:
    """Register a list."""
    EXPORTS[one.kind] = one
    return one


def of_page(name: str) -> list[ListExport]:
    """The exports of the lists at an address of this name; nearly always one."""
    return [one for one in EXPORTS.values() if one.page == name]


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


def each(cells: Callable[[Any], Sequence[Cell]]) -> Cells:
    """For rows that need nothing beside them."""

    def of_all(rows: Sequence[Any], _asked: Asked) -> Iterator[Sequence[Cell]]:
        return (cells(row) for row in rows)

    return of_all


def of_customer(rows: QuerySet, asked: Asked) -> QuerySet:
    """A list that another page opens for one customer: by the number in our own links, by our id, or by the one that
    the application uses. Nobody's rows are no rows; where that is strict, it raises `BadCondition`."""
    said = asked.query.get("customer", "")
    if not said:
        return rows
    number = row_number(said)
    found = Customer.objects.filter(pk=number).first() if number is not None else None
    found = found or Customer.objects.filter(Q(public_id=said) | Q(customer_id=said)).first()
    if found is None and asked.is_strict:
        raise BadCondition("customer", f"There is no customer {said!r}.")
    return rows.filter(customer=found) if found else rows.none()
