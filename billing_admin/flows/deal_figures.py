"""What lists show of a deal without reckoning it anew: written with each of its versions."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError

from billing_admin.flows.deal_calendar import read_calendar
from customers.models import Customer
from deals.terms import DealTerms


def reckon(customer: Customer | None, terms: DealTerms, *, now: datetime) -> dict[str, Any]:
    """Money in minor units, the discount in percent as text; nothing where the deal cannot be reckoned, such as with a
    coupon that is gone."""
    try:
        calendar = read_calendar(terms, customer, now=now)
    except ValidationError:
        return {}
    return {
        "currency": calendar.currency,
        "value": calendar.value,
        "monthly": calendar.monthly,
        "list": calendar.list_value,
        "committed": calendar.committed,
        "discount": None if calendar.discount is None else str(calendar.discount),
    }
