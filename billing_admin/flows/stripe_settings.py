"""How the account collects with Stripe; whether Stripe answers; and trying everything that waits at once."""

import re
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from billing_admin.flows.stripe_account import connect, failing, reached
from billing_admin.flows.stripe_anew import StripeIsAway
from customers.journal import Actor, record
from payments.gateway import REFERENCE, NotAllowed, StripeTrouble, Unreachable, gateway, in_a_hurry, key_digest
from payments.models import Method, StripeAccount, StripeCredit, StripeCustomer, StripeInvoice

KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class BadStripeSetting(ValidationError):
    """A value that cannot be, beside its field."""

    def __init__(self, field: str, why: str):
        self.field = field
        super().__init__(why, code="bad_setting")


class NotConnected(ValidationError):
    def __init__(self) -> None:
        super().__init__("Stripe has not answered yet. Check the connection first.", code="not_connected")


@transaction.atomic
def change_account(
    *, method: str, auto_advance: bool, link_key: str, actor: Actor, now: datetime, reason: str = ""
) -> StripeAccount:
    """It holds for what is handed to Stripe from now on. Raises `BadStripeSetting`, `NotConnected`."""
    if method not in Method.values:
        raise BadStripeSetting("method", "Choose how invoices are collected.")
    if not KEY.fullmatch(link_key) or link_key == REFERENCE:
        why = f"Up to 40 letters, digits, dots, dashes and underscores; {REFERENCE} is taken."
        raise BadStripeSetting("link_key", why)
    account = StripeAccount.objects.select_for_update().filter(pk=StripeAccount.SINGLE).first()
    if account is None:
        raise NotConnected
    wanted = {"method": method, "auto_advance": auto_advance, "link_key": link_key}
    changed = {name: value for name, value in wanted.items() if value != getattr(account, name)}
    if changed:
        inputs = {name: {"from": getattr(account, name), "to": value} for name, value in changed.items()}
        for name, value in changed.items():
            setattr(account, name, value)
        account.save(update_fields=list(changed))
        names = ", ".join(name.replace("_", " ") for name in changed)
        said = f"Changed how Stripe collects: {names}"
        record(None, "stripe.changed", said, actor=actor, now=now, reason=reason.strip(), inputs=inputs)
    return account


def check_connection(now: datetime) -> StripeAccount:
    """Ask Stripe whose keys these are, now. Raises `StripeIsAway`."""
    try:
        with in_a_hurry():
            known = StripeAccount.present()
            if known is None or known.key_digest != key_digest():
                connect(now)
            else:
                gateway().account()
    except StripeTrouble as trouble:
        if isinstance(trouble, Unreachable | NotAllowed):
            failing(trouble, now)
        raise StripeIsAway(trouble) from trouble
    reached(now)
    return StripeAccount.objects.get(pk=StripeAccount.SINGLE)


@transaction.atomic
def try_all_again(*, actor: Actor, now: datetime) -> int:
    """Let everything that failed to reach Stripe be tried by the next pass instead of at its time. Returns how many."""
    waiting: list[QuerySet] = [
        StripeInvoice.objects.filter(attempts__gt=0, next_attempt_at__gt=now),
        StripeCredit.objects.filter(attempts__gt=0, next_attempt_at__gt=now),
        StripeCustomer.objects.filter(attempts__gt=0, next_attempt_at__gt=now),
    ]
    number = sum(rows.update(next_attempt_at=now) for rows in waiting)
    if number:
        record(
            None, "stripe.retried", f"Asked for {number:,} that wait for Stripe to be tried again", actor=actor, now=now
        )
    return number
