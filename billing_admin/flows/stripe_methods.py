"""Ways to pay that Stripe charges by itself: a customer saves one behind a link, staff choose among them.

A link is signed and ends after a week; nothing is stored for it. What is saved lies with Stripe, which is asked what
became of it: nobody believes the address that a browser comes back with.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.signing import BadSignature, Signer
from django.db import transaction

from billing_admin.flows.stripe_account import reached
from billing_admin.flows.stripe_customers import ensure, refresh_customer
from customers.journal import Actor, record
from customers.models import Customer, Operation
from payments.facts import CardFacts
from payments.gateway import Missing, Refused, gateway
from payments.models import Method, StripeCustomer

VALID = timedelta(days=7)
THE_CUSTOMER = Actor("The customer")


class NoPublishableKey(ValidationError):
    def __init__(self) -> None:
        super().__init__("Set STRIPE_PUBLISHABLE_KEY: the page needs it.", code="no_publishable_key")


class NoSuchMethod(ValidationError):
    def __init__(self) -> None:
        super().__init__("This payment method is not saved any more.", code="payment_method_not_found")


class BadChoice(ValidationError):
    def __init__(self) -> None:
        super().__init__("Choose how invoices are collected.", code="bad_collection_method")


# The link -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SaveLink:
    url: str
    until: datetime


def token_of(customer: Customer, now: datetime) -> str:
    said = {"customer": customer.public_id, "until": int((now + VALID).timestamp())}
    return _signer().sign_object(said)


def link_to_save(customer: Customer, now: datetime) -> SaveLink:
    """Where a customer saves a way to pay. Raises `NoPublishableKey`."""
    if not settings.STRIPE_PUBLISHABLE_KEY:
        raise NoPublishableKey
    return SaveLink(f"{settings.PUBLIC_URL}/pay/method/{token_of(customer, now)}", now + VALID)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a link leads to: nobody, where it was not made here or its customer is gone."""

    customer: Customer | None
    is_over: bool = False


def open_link(token: str, now: datetime) -> Opened:
    try:
        said: dict[str, Any] = _signer().unsign_object(token)
    except (BadSignature, ValueError):
        return Opened(None)
    customer = Customer.objects.select_related("stripe").filter(public_id=said["customer"], closed_at=None).first()
    return Opened(customer, is_over=datetime.fromtimestamp(said["until"], UTC) <= now)


def _signer() -> Signer:
    return Signer(salt="save a payment method", sep=".")


# Saving ---------------------------------------------------------------------------------------------------------------


def begin_saving(customer: Customer, now: datetime) -> str:
    """The secret with which a browser saves a way to pay, once. Raises `StripeTrouble`."""
    owner = ensure(customer, now)
    key = f"{customer.public_id}:setup:{owner.stripe_id}:{now.isoformat()}"
    try:
        _, secret = gateway().begin_setup(owner.stripe_id, key=key)
    except Refused:
        # Deleted there without our knowing: then another one is made.
        seen = refresh_customer(owner.stripe_id, now)
        if seen is None or seen.deleted_at is None:
            raise
        owner = ensure(customer, now)
        _, secret = gateway().begin_setup(owner.stripe_id, key=f"{key}:{owner.stripe_id}")
    reached(now)
    return secret


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of it, in Stripe's word (`succeeded`, `processing`, `requires_payment_method`), and what it is."""

    status: str
    label: str = ""


def finish_saving(customer: Customer, setup: str, now: datetime) -> Saved:
    """Make what was saved the one that is charged; may be asked again. Raises `StripeTrouble`, among it `Missing`."""
    row = StripeCustomer.objects.linked().filter(customer=customer).first()
    status, owner, method = gateway().setup(setup)
    if row is None or owner != row.stripe_id:
        raise Missing("It was not made for this customer.", "resource_missing")
    if status != "succeeded":
        return Saved(status)
    default = row.default_method
    if default is None or default["id"] != method:
        gateway().set_default_method(owner, method)
        row = refresh_customer(owner, now) or row
    label = next((str(m["label"]) for m in row.payment_methods if m["id"] == method), "")
    _note_saved(customer, setup, label, now)
    return Saved(status, label)


@transaction.atomic
def _note_saved(customer: Customer, setup: str, label: str, now: datetime) -> None:
    """Once, however often the page is looked at."""
    Customer.objects.select_for_update().get(pk=customer.pk)
    if Operation.objects.filter(customer=customer, verb="payment_method.saved", inputs__setup=setup).exists():
        return
    said = f"Saved {label or 'a payment method'}; invoices are charged to it"
    record(customer, "payment_method.saved", said, actor=THE_CUSTOMER, now=now, inputs={"setup": setup})


# Choosing -------------------------------------------------------------------------------------------------------------


def charge_to(row: StripeCustomer, method: str, *, actor: Actor, now: datetime) -> StripeCustomer:
    """Let Stripe charge another saved way to pay. Asks Stripe. Raises `NoSuchMethod`, `StripeTrouble`."""
    label = _label(row, method)
    gateway().set_default_method(row.stripe_id, method)
    after = refresh_customer(row.stripe_id, now) or row
    record(row.customer, "payment_method.chosen", f"Invoices are charged to {label}", actor=actor, now=now)
    return after


def remove_method(row: StripeCustomer, method: str, *, actor: Actor, now: datetime) -> StripeCustomer:
    """Forget a saved way to pay, there as well. Asks Stripe. Raises `NoSuchMethod`, `StripeTrouble`."""
    label = _label(row, method)
    gateway().detach(method)
    after = refresh_customer(row.stripe_id, now) or row
    record(row.customer, "payment_method.removed", f"Removed {label}", actor=actor, now=now)
    return after


def _label(row: StripeCustomer, method: str) -> str:
    found = next((m for m in row.payment_methods if m["id"] == method), None)
    if found is None:
        raise NoSuchMethod
    return label_of(found)


def label_of(method: dict[str, Any]) -> str:
    """`Visa ·· 4242`, as it was seen."""
    return str(method.get("label") or CardFacts(method["id"], method["type"]).label)


def choose_collection(customer: Customer, method: str, *, actor: Actor, now: datetime) -> StripeCustomer:
    """How this customer's coming invoices are collected; empty: as the account does. May make them in Stripe."""
    if method and method not in Method.values:
        raise BadChoice
    owner = ensure(customer, now)
    with transaction.atomic():
        Customer.objects.select_for_update().get(pk=customer.pk)
        row = StripeCustomer.objects.select_for_update(of=("self",)).get(pk=owner.pk)
        before, row.method = row.method, method
        row.save(update_fields=["method"])
        said = Method(method).label if method else "As the account does"
        record(
            customer,
            "collection.chosen",
            f"How invoices are collected: {said.lower()}",
            actor=actor,
            now=now,
            inputs={"from": before, "to": method},
        )
    return row
