"""Keep the mirror: look at one object of Stripe's as it is now, write it, and let contracts here follow.

Each look may come late, twice or before the look at what it depends on: an unknown price or customer is fetched first.
Nothing is mirrored before somebody has begun the first import.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from billing_admin.flows.stripe_account import connect
from billing_admin.flows.stripe_catalog import drop_price, fetch_price, fetch_product, write_price, write_product
from billing_admin.flows.stripe_customers import refresh_customer
from billing_admin.flows.stripe_follow import follow
from billing_admin.flows.stripe_links import link_by_key
from customers.models import Customer
from payments.facts import CustomerFacts, SubscriptionFacts
from payments.gateway import Missing, gateway
from payments.models import StripeCustomer, StripePrice, StripeProduct, StripeRun, StripeSubscription

NOT_MIRRORED = "Nothing is mirrored before the first import."


def is_mirroring() -> bool:
    """Whether the first import has begun; until then Stripe's products and subscriptions are none of our business."""
    return StripeRun.objects.filter(kind=StripeRun.Kind.IMPORT).exists()


# One object -----------------------------------------------------------------------------------------------------------


def mirror_product(stripe_id: str, now: datetime) -> str:
    """Returns what came of it, in a sentence. Raises `StripeTrouble`."""
    if not is_mirroring():
        return NOT_MIRRORED
    row = write_product(fetch_product(stripe_id), now)
    return "A product that was never mirrored." if row is None else f"{row.name}: as Stripe has it."


def mirror_price(stripe_id: str, now: datetime) -> str:
    """The same of a price, and of the subscriptions on its plan where it changed."""
    if not is_mirroring():
        return NOT_MIRRORED
    row = _price(stripe_id, now)
    if row is None:
        return "A price that was never mirrored."
    for customer in _subscribers(row):
        follow(customer, now)
    return row.conflict or f"{row.plan}: as Stripe has it."


def _price(stripe_id: str, now: datetime) -> StripePrice | None:
    found = fetch_price(stripe_id)
    known = StripePrice.objects.filter(stripe_id=stripe_id).select_related("product__product").first()
    if found is None:
        if known is not None:
            drop_price(known, now)
        return known
    product = StripeProduct.objects.filter(stripe_id=found.product).first()
    product = product or write_product(fetch_product(found.product), now)
    return None if product is None else write_price(found, product, now)


def _subscribers(price: StripePrice) -> Iterable[Customer]:
    """Those on an older version of its plan, or whom a conflict with the price kept from it."""
    rows = price.subscriptions.exclude(stripe_customer__customer=None).exclude(status="canceled")
    return Customer.objects.filter(stripe__subscriptions__in=rows).distinct().order_by("pk")


def mirror_customer(stripe_id: str, now: datetime) -> str:
    """The same of a customer: linked where its key says to whom, and its subscriptions with it."""
    known = StripeCustomer.objects.filter(stripe_id=stripe_id).first()
    if known is None and is_mirroring():
        _fetch_customer(stripe_id, now)
    row = refresh_customer(stripe_id, now)
    if row is None:
        return "A customer whom nobody here knows."
    if row.deleted_at is not None:
        running = row.subscriptions.filter(ended_at=None).values_list("stripe_id", flat=True)
        for subscription in sorted(set(running)):
            mirror_subscription(subscription, now)
    elif is_mirroring():
        keys = {row.key, known.key if known else ""} - {""}
        alike = StripeCustomer.objects.filter(Q(key__in=keys) | Q(pk=row.pk))
        link_by_key(alike.values_list("pk", flat=True), now)
        row = StripeCustomer.objects.select_related("customer").get(pk=row.pk)
    if row.customer is not None:
        follow(row.customer, now)
    return f"{row}: {row.conflict or ('deleted in Stripe' if row.deleted_at else 'as Stripe has it')}."


def mirror_subscription(stripe_id: str, now: datetime) -> str:
    """The same of a subscription."""
    if not is_mirroring():
        return NOT_MIRRORED
    found = fetch_subscription(stripe_id)
    if found is None:
        gone = StripeSubscription.objects.filter(stripe_id=stripe_id)
        gone.filter(ended_at=None).update(status="canceled", ended_at=now, seen_at=now)
        row = gone.select_related("stripe_customer__customer").first()
        customer = row.stripe_customer.customer if row else None
    else:
        fetch_unknown([found], now)
        customer = write_subscription(found, now).customer
    if customer is None:
        return "Its customer is not linked with one of ours."
    follow(customer, now)
    conflict = (
        StripeSubscription.objects.filter(stripe_id=stripe_id).exclude(conflict="").values_list("conflict").first()
    )
    return conflict[0] if conflict else f"{customer}: as Stripe has it."


def fetch_subscription(stripe_id: str) -> SubscriptionFacts | None:
    try:
        return gateway().subscription(stripe_id)
    except Missing:
        return None


def fetch_subscriptions(customer: str, now: datetime) -> None:
    """Keep all that a customer of Stripe's subscribes to, before somebody is linked with them."""
    last, is_more = "", is_mirroring()
    while is_more:
        found = gateway().subscriptions(customer=customer, after=last)
        fetch_unknown(found.rows, now)
        for facts in found.rows:
            write_subscription(facts, now)
        last = found.last
        is_more = bool(last)


# What it depends on ---------------------------------------------------------------------------------------------------


def fetch_unknown(found: Sequence[SubscriptionFacts], now: datetime) -> None:
    """Fetch the customers and prices of subscriptions that we have not met yet."""
    customers = {facts.customer for facts in found}
    known = StripeCustomer.objects.filter(stripe_id__in=customers).values_list("stripe_id", flat=True)
    for stripe_id in sorted(customers - set(known)):
        _fetch_customer(stripe_id, now)
    prices = {item.price for facts in found for item in facts.items}
    met = StripePrice.objects.filter(stripe_id__in=prices).values_list("stripe_id", flat=True)
    for stripe_id in sorted(prices - set(met)):
        _price(stripe_id, now)


def _fetch_customer(stripe_id: str, now: datetime) -> None:
    try:
        facts = gateway().customer(stripe_id)
    except Missing:
        facts = CustomerFacts(stripe_id, deleted=True)
    write_customers([facts], now)
    link_by_key(StripeCustomer.objects.filter(stripe_id=stripe_id, customer=None).values_list("pk", flat=True), now)


def write_customers(found: Sequence[CustomerFacts], now: datetime) -> None:
    """Keep what Stripe says of customers, but for those who were erased here; whose they are is left alone."""
    key = connect(now).link_key
    erased = StripeCustomer.objects.filter(customer__erased_at__isnull=False, stripe_id__in=[each.id for each in found])
    nobody = set(erased.values_list("stripe_id", flat=True))
    rows = [
        StripeCustomer(
            stripe_id=facts.id,
            name=facts.name[:200],
            email=facts.email[:254],
            key=facts.metadata.get(key, "")[:200],
            created_at=facts.created_at,
            deleted_at=now if facts.deleted else None,
            seen_at=now,
        )
        for facts in found
        if facts.id not in nobody
    ]
    StripeCustomer.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["stripe_id"],
        update_fields=["name", "email", "key", "created_at", "deleted_at", "seen_at"],
    )


@transaction.atomic
def write_subscription(found: SubscriptionFacts, now: datetime) -> StripeCustomer:
    """Keep what Stripe says of a subscription, an item a row. Returns its customer, who is there, as its prices are."""
    owner = StripeCustomer.objects.select_related("customer").get(stripe_id=found.customer)
    prices = StripePrice.objects.in_bulk([item.price for item in found.items], field_name="stripe_id")
    shared = {
        "stripe_id": found.id,
        "stripe_customer": owner,
        "status": found.status,
        "anchor": found.anchor,
        "started_at": found.started_at,
        "trial_ends_at": found.trial_ends_at,
        "cancels_at": found.cancels_at,
        "ended_at": found.ended_at,
        "removed_at": None,
        "seen_at": now,
    }
    for item in found.items:
        own = {
            "price": prices.get(item.price),
            "quantity": item.quantity,
            "period_starts_at": item.period_starts_at,
            "period_ends_at": item.period_ends_at,
        }
        StripeSubscription.objects.update_or_create(item_id=item.id, defaults=shared | own)
    gone = StripeSubscription.objects.filter(stripe_id=found.id, removed_at=None)
    gone.exclude(item_id__in=[item.id for item in found.items]).update(removed_at=now, seen_at=now)
    return owner
