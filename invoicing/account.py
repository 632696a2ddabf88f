"""Verb: how this account bills. Each value has a sentence for when it cannot be."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from customers.journal import Actor, record
from invoicing.models import BillingSettings

# Field: least, most, and how it is said.
BOUNDS = {
    "payment_window_hours": (1, 30 * 24, "A first invoice may stay unpaid for 1 to 720 hours (30 days)."),
    "grace_hours": (0, 7 * 24, "Invoices wait for late use at most 168 hours (7 days); 0 is not at all."),
    "net_terms_days": (0, 365, "Net terms are 0 to 365 days; 0 is due at once."),
    "most_lines": (1, 100_000, "Give 1 to 100,000 lines."),
    "most_growth": (2, 1_000, "Give 2 to 1,000 times the last total."),
}
TEXTS = {
    "company_name": 200,
    "company_address": 1_000,
    "company_tax_number": 40,
    "payment_instructions": 1_000,
    "invoice_footer": 1_000,
}
FLAGS = {"approve_first_invoices", "send_invoices"}
MOST_RETRIES = 10
LAST_RETRY = 365


class BadSetting(ValidationError):
    """A value that the account cannot bill with, beside its field."""

    def __init__(self, field: str, why: str):
        self.field = field
        super().__init__(why, code="bad_setting")


@transaction.atomic
def change_settings(*, actor: Actor, now: datetime, reason: str = "", **said: Any) -> BillingSettings:
    """Change what is given; what is left out stays. It holds for what happens from now on. Raises `BadSetting`."""
    wanted = {field: _checked(field, value) for field, value in said.items()}
    BillingSettings.objects.get_or_create(pk=BillingSettings.SINGLE)
    account = BillingSettings.objects.select_for_update().get(pk=BillingSettings.SINGLE)
    changed = {field: value for field, value in wanted.items() if value != getattr(account, field)}
    if changed:
        inputs = {field: {"from": getattr(account, field), "to": value} for field, value in changed.items()}
        for field, value in changed.items():
            setattr(account, field, value)
        account.save(update_fields=list(changed))
        names = ", ".join(field.replace("_", " ") for field in changed)
        summary = f"Changed the billing settings: {names}"
        record(None, "settings.changed", summary, actor=actor, now=now, reason=reason.strip(), inputs=inputs)
    return account


def _checked(field: str, value: Any) -> Any:
    if field in BOUNDS:
        least, most, why = BOUNDS[field]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadSetting(field, why)
        return value
    if field in TEXTS:
        text = str(value).strip()
        if len(text) > TEXTS[field]:
            raise BadSetting(field, f"This takes up to {TEXTS[field]:,} letters.")
        return text
    if field == "retry_days":
        return _retry_days(value)
    if field in FLAGS and isinstance(value, bool):
        return value
    raise BadSetting(field, f"{field!r} is not a setting that can be changed.")


def _retry_days(value: Any) -> list[int]:
    days = list(value) if isinstance(value, list | tuple) else []
    whole = all(isinstance(day, int) and not isinstance(day, bool) for day in days)
    if not days or len(days) > MOST_RETRIES or not whole or days != sorted(set(days)):
        why = f"Give 1 to {MOST_RETRIES} days after the due date, each later than the one before, such as 3, 7, 14, 21."
        raise BadSetting("retry_days", why)
    if days[0] < 1 or days[-1] > LAST_RETRY:
        raise BadSetting("retry_days", f"Each lies 1 to {LAST_RETRY} days after the due date.")
    return days
