"""Customers in Stripe: made when they are first needed, kept in step with ours, and read back with their cards."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from billing_admin.flows.stripe_account import connect, failing, reached
from billing_admin.stripe_provider import pass_on
from catalog.after import after_commit
from customers.models import Customer
from payments.facts import CardFacts, CustomerFacts
from payments.gateway import REFERENCE, Busy, Missing, NotAllowed, StripeTrouble, Unreachable, gateway
from payments.models import StripeAccount, StripeCustomer, StripeInvoice

MOST = 200
# What is left of a person in a row.
NOBODY: dict[str, Any] = {
    "name": "", "email": "", "key": "", "sent_name": "", "sent_email": "", "sent_id": "",
    "payment_methods": [], "problem": "", "conflict": "",
}  # fmt: skip


def backoff(attempts: int) -> timedelta:
    """How long to wait after so many failures in a row: half a minute, doubled each time, an hour at most."""
    return min(timedelta(seconds=30 * 2 ** min(attempts, 10)), timedelta(hours=1))


def metadata_of(customer: Customer, account: StripeAccount) -> dict[str, str]:
    return {REFERENCE: customer.public_id, account.link_key: customer.customer_id}


def ensure(customer: Customer, now: datetime, *, tries: int = 0, since: datetime | None = None) -> StripeCustomer:
    """The customer in Stripe, made there if need be; never called inside a transaction. Raises `StripeTrouble`.

    Where one may have been made `since` without our hearing of it, it is looked for first. After `tries` of which
    Stripe said that they failed, another key is used.
    """
    account = connect(now)
    known = StripeCustomer.objects.filter(customer=customer, deleted_at=None).first()
    if known is not None:
        return known
    lost = gateway().find_customer(customer.public_id, since=since) if since else None
    return _keep(customer, lost or _make(customer, account, tries), account, now)


def _make(customer: Customer, account: StripeAccount, tries: int) -> CustomerFacts:
    # One that was deleted there cannot come back under its key.
    former = StripeCustomer.objects.filter(customer=customer).first()
    key = f"{customer.public_id}:customer:{former.stripe_id if former else ''}:{tries}"
    return gateway().create_customer(
        name=customer.name, email=customer.email, metadata=metadata_of(customer, account), key=key
    )


def _keep(customer: Customer, found: CustomerFacts, account: StripeAccount, now: datetime) -> StripeCustomer:
    with transaction.atomic():
        Customer.objects.select_for_update().get(pk=customer.pk)
        others = StripeCustomer.objects.filter(customer=customer).exclude(stripe_id=found.id)
        if faster := others.filter(deleted_at=None).first():
            return faster
        release(others, customer)
        row, _ = StripeCustomer.objects.get_or_create(
            stripe_id=found.id,
            defaults={"created_at": found.created_at, "linked_at": now, "linked_by": StripeCustomer.Link.CREATED},
        )
        if row.customer_id is None:
            row.customer = customer
        _write_facts(row, found, (), account, now)
        row.sent_name, row.sent_email, row.sent_id = customer.name, customer.email, customer.customer_id
        row.save()
    return row


def release(former: QuerySet[StripeCustomer], customer: Customer) -> None:
    """Make room for another one: those that were deleted there are known as this customer's by our public id only."""
    former.update(customer=None, **NOBODY | {"sent_id": customer.public_id})


def formers(customers: Iterable[Customer]) -> QuerySet[StripeCustomer]:
    """Those in Stripe that were deleted there and replaced; `sent_id` says whose each was, by our public id."""
    known = {customer.public_id for customer in customers}
    return StripeCustomer.objects.filter(customer=None, deleted_at__isnull=False, sent_id__in=known)


def refresh_customer(stripe_id: str, now: datetime) -> StripeCustomer | None:
    """What Stripe knows of a customer now: name, e-mail, cards, deletion. None for one that we know nothing of.

    With a new card, what waited for one is charged.
    """
    row = StripeCustomer.objects.filter(stripe_id=stripe_id).first()
    if row is None:
        return None
    door = gateway()
    cards: tuple[CardFacts, ...] = ()
    try:
        found = door.customer(stripe_id)
        cards = () if found.deleted else door.cards(found)
        if cards and not found.default_method and row.customer_id is not None:
            # Invoices are charged to the default: the first card that one of ours saves becomes it.
            found = door.set_default_method(stripe_id, cards[0].id)
            cards = door.cards(found)
    except Missing:
        found = CustomerFacts(stripe_id, deleted=True)
    return write_customer(found, cards, now)


def write_customer(found: CustomerFacts, cards: tuple[CardFacts, ...], now: datetime) -> StripeCustomer:
    """Keep what Stripe knows; invoices that waited for a card are due once there is one."""
    account = StripeAccount.present()
    with transaction.atomic():
        rows = StripeCustomer.objects.select_for_update(of=("self",)).select_related("customer")
        row = rows.get(stripe_id=found.id)
        had = row.default_method
        _write_facts(row, found, cards, account, now)
        row.save()
        if row.default_method and row.default_method != had:
            waiting = StripeInvoice.objects.filter(invoice__customer=row.customer_id, invoice__state="open")
            states = StripeInvoice.State
            stuck = waiting.filter(state__in=[states.NEEDS_METHOD, states.DECLINED, states.ACTION])
            ids = list(stuck.values_list("invoice__public_id", flat=True))
            stuck.update(next_attempt_at=now, charge_asked=True)
            for public_id in ids:
                after_commit(pass_on, public_id)
    return row


def _write_facts(
    row: StripeCustomer,
    found: CustomerFacts,
    cards: tuple[CardFacts, ...],
    account: StripeAccount | None,
    now: datetime,
) -> None:
    row.seen_at = now
    if found.deleted:
        row.deleted_at, row.payment_methods = row.deleted_at or now, []
        return
    if row.customer is not None and row.customer.erased_at:
        return  # Stripe may go on knowing who that was; we do not
    row.name, row.email = found.name[:200], found.email[:254]
    row.key = found.metadata.get(account.link_key, "")[:200] if account else ""
    row.payment_methods = [card.to_json() for card in cards]


def sync_due(now: datetime, most: int = MOST) -> int:
    """Tell Stripe the names, e-mails and ids that it does not have yet. Returns how many; stops where it is away."""
    account = StripeAccount.present()
    if account is None:
        return 0
    waits = Q(next_attempt_at=None) | Q(next_attempt_at__lte=now)
    rows = StripeCustomer.objects.out_of_step().filter(waits).select_related("customer").order_by("id")
    told = 0
    for row in rows[:most]:
        try:
            tell(row, account, now)
            told += 1
        except (Unreachable, NotAllowed) as error:
            if not isinstance(error, Busy):
                failing(error, now)
            _postpone(row, error, now)
            break
        except Missing:
            write_customer(CustomerFacts(row.stripe_id, deleted=True), (), now)
        except StripeTrouble as error:
            _postpone(row, error, now)
    return told


def tell(row: StripeCustomer, account: StripeAccount, now: datetime) -> None:
    """Write one customer's name, e-mail and ids to Stripe. Raises `StripeTrouble`."""
    customer = row.customer
    assert customer is not None, "only linked customers are told"
    gateway().update_customer(
        row.stripe_id, name=customer.name, email=customer.email, metadata=metadata_of(customer, account)
    )
    reached(now)
    StripeCustomer.objects.filter(pk=row.pk).update(
        sent_name=customer.name,
        sent_email=customer.email,
        sent_id=customer.customer_id,
        name=customer.name,
        email=customer.email,
        key=customer.customer_id,
        attempts=0,
        next_attempt_at=None,
        problem="",
    )


def _postpone(row: StripeCustomer, error: StripeTrouble, now: datetime) -> None:
    later = now + max(backoff(row.attempts), timedelta(seconds=getattr(error, "retry_after", 0)))
    StripeCustomer.objects.filter(pk=row.pk).update(
        attempts=F("attempts") + 1, next_attempt_at=later, problem=error.sentence[:300]
    )
