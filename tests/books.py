"""What customers were billed and hold, in words that do not depend on who wrote it, or in which order."""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Model

from customers.models import Customer, Operation, Phase, Subscription
from entitlements.models import Balance, BalanceEntry
from invoicing.models import CreditEntry, Deduction, Invoice, InvoiceLine, InvoiceSeries, Payment, Reminder

# Each with the way to its customer.
KEPT: dict[type[Model], str] = {
    Subscription: "customer_id",
    Phase: "subscription__customer_id",
    Operation: "customer_id",
    Balance: "customer_id",
    BalanceEntry: "balance__customer_id",
    InvoiceSeries: "customer_id",
    Invoice: "customer_id",
    InvoiceLine: "invoice__customer_id",
    Deduction: "invoice__customer_id",
    CreditEntry: "customer_id",
    Payment: "invoice__customer_id",
    Reminder: "invoice__customer_id",
}
# Drawn at random for each row.
RANDOM = {"public_id", "token"}


def books(customers: Iterable[Customer]) -> dict[str, list[dict[str, Any]]]:
    """Every column of every row, but ids are places: the third invoice of customer 7 is `7/3`."""
    ids = [customer.pk for customer in customers]
    rows = {model: _rows(model, way, ids) for model, way in KEPT.items()}
    places: dict[type[Model], dict[int, str]] = {}
    for model, found in rows.items():
        counts: dict[int, int] = {}
        places[model] = {}
        for owner, row in found:
            counts[owner] = counts.get(owner, 0) + 1
            places[model][row.pk] = f"{owner}/{counts[owner]}"
    return {
        model.__name__: sorted((_words(row, places) for _, row in found), key=lambda words: str(words["id"]))
        for model, found in rows.items()
    }


def _rows(model: type[Model], way: str, ids: list[int]) -> list[tuple[int, Model]]:
    """With their customer, in the order in which one customer's were written."""
    found = model._default_manager.filter(**{f"{way.removesuffix('_id')}__in": ids}).order_by("pk")
    owners = dict(found.values_list("pk", way))
    return [(owners[row.pk], row) for row in found]


def _words(row: Model, places: dict[type[Model], dict[int, str]]) -> dict[str, Any]:
    words: dict[str, Any] = {}
    for column in row._meta.concrete_fields:
        value = getattr(row, column.attname)
        target = type(row) if column.primary_key else column.related_model
        if column.name in RANDOM:
            continue
        if value is not None and isinstance(target, type) and target in places:
            value = places[target].get(value, value)
        words[column.name] = _plain(value)
    return words


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return f"{value:f}" if isinstance(value, Decimal) else value


def digest(customers: Iterable[Customer]) -> str:
    """One word for all of it."""
    return hashlib.sha256(json.dumps(books(customers), sort_keys=True).encode()).hexdigest()
