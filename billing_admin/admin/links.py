"""Where things are: one name for the address of each page that others link to."""

from typing import Any
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse


def link(name: str, *args: Any, **query: Any) -> str:
    """The address of an admin page, or nothing while no such page exists, so that a module may be left out."""
    try:
        url = reverse(f"admin:{name}", args=args)
    except NoReverseMatch:
        return ""
    asked = {key: value for key, value in query.items() if value not in (None, "")}
    return f"{url}?{urlencode(asked)}" if asked else url


def customer_link(pk: int) -> str:
    return link("customers_customer_change", pk)


def invoice_link(pk: int) -> str:
    return link("invoicing_invoice_change", pk)
