"""Staff at the catalog's pages, and what they type into the items editor."""

from itertools import count
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client

from billing_admin.item_prices import typed_tiers
from billing_admin.item_rows import typed_of
from catalog.terms import ItemTerms

_numbers = count(1)


def staff(role: str = "Admin") -> Client:
    user = User.objects.create_user(f"staff-{next(_numbers)}", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def typed(
    *items: ItemTerms | dict[str, str], cadence: str = "P1M", prefix: str = "items", **more: str
) -> dict[str, Any]:
    """The editor's fields as a browser sends them: rows in order, then whatever else the form has."""
    data: dict[str, Any] = {f"{prefix}-shown": "1", f"{prefix}-cadence": cadence, f"{prefix}-row": []}
    for n, item in enumerate(items):
        data[f"{prefix}-row"].append(f"r{n}")
        fields = row(item) if isinstance(item, ItemTerms) else item
        data |= {f"{prefix}-r{n}-{name}": value for name, value in fields.items() if value}
    return data | more


def row(item: ItemTerms, **changed: Any) -> dict[str, Any]:
    """An item as it is shown, with some cells typed over; tiers are three lists."""
    tiers = typed_tiers(item.price, "USD")
    columns = {name: [getattr(tier, name) for tier in tiers] for name in ("up_to", "unit", "flat")}
    return typed_of(item, "USD") | columns | changed
