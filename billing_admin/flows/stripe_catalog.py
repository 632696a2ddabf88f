"""Stripe's products and prices as products and plans of ours: name and amounts are Stripe's, features are ours."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction

from catalog.models import Plan, PlanVersion, Product, unique_key
from catalog.publish import create_plan, duplicate_access, publish, republish_fees
from customers.journal import Actor, record
from payments.facts import PriceFacts, ProductFacts
from payments.gateway import Missing, gateway
from payments.mirroring import PriceTerms, fees_of, kept_of, names_of, why_no_plan
from payments.models import StripePrice, StripeProduct

STRIPE = Actor("Stripe")


def fetch_product(stripe_id: str) -> ProductFacts:
    try:
        return gateway().product(stripe_id)
    except Missing:
        return ProductFacts(stripe_id, "", active=False, deleted=True)


def fetch_price(stripe_id: str) -> PriceFacts | None:
    try:
        return gateway().price(stripe_id)
    except Missing:
        return None


@transaction.atomic
def write_product(found: ProductFacts, now: datetime) -> StripeProduct | None:
    """Keep what Stripe says of a product. None for one that is gone and that we never knew."""
    row = StripeProduct.objects.select_for_update(of=("self",)).filter(stripe_id=found.id).first()
    if row is None and found.deleted:
        return None
    row = row or StripeProduct(stripe_id=found.id)
    row.name = found.name[:250] or row.name
    row.is_active, row.seen_at = found.active, now
    row.save()
    _tell_plans(row, now)
    return row


@transaction.atomic
def write_price(found: PriceFacts, product: StripeProduct, now: datetime) -> StripePrice:
    """Keep what Stripe says of a price, and make a plan of it, or say why there is none."""
    StripeProduct.objects.select_for_update(of=("self",)).get(pk=product.pk)
    row = StripePrice.objects.filter(stripe_id=found.id).first() or StripePrice(stripe_id=found.id, product=product)
    row.is_active, row.facts, row.seen_at = found.active, kept_of(found), now
    terms = PriceTerms.read(row.facts)
    row.conflict = why_no_plan(terms, settings.CURRENCIES)
    row.save()
    if not row.conflict:
        _mirror(row, terms, now)
    _tell_plans(product, now)
    return row


def drop_price(row: StripePrice, now: datetime) -> None:
    """A price that Stripe no longer has: nobody new can take its plan."""
    with transaction.atomic():
        row.is_active, row.seen_at = False, now
        row.save(update_fields=["is_active", "seen_at"])
        _tell_plans(row.product, now)


def _mirror(row: StripePrice, terms: PriceTerms, now: datetime) -> None:
    fees = fees_of(terms)
    if row.plan is None:
        row.plan = _new_plan(row, terms, now)
        row.save(update_fields=["plan"])
        return
    version = row.plan.current_version
    assert version is not None, "a mirrored plan is published when it is made"
    present = [(i.key, i.amount, i.cadence) for i in version.terms().fees]
    if (version.cadence, present) == (terms.cadence, [(i.key, i.amount, i.cadence) for i in fees]):
        return
    version = republish_fees(
        row.plan, fees, cadence=terms.cadence, message="Its price changed in Stripe.", by=STRIPE.name, now=now
    )
    row.plan.refresh_from_db()
    _record_version(row.plan, version, now)


def _record_version(plan: Plan, version: PlanVersion, now: datetime) -> None:
    summary = f"{plan.name} {version.label} was published: its price changed in Stripe"
    record(
        None, "plan.published", summary, actor=STRIPE, now=now, effects={"plan": plan.key, "version": version.number}
    )


def _new_plan(row: StripePrice, terms: PriceTerms, now: datetime) -> Plan:
    """A published plan with the price, and the features of the newest plan beside it."""
    product = row.product.product or _new_product(row.product)
    sibling = Plan.objects.filter(product=product, stripe__isnull=False).order_by("-id").first()
    name = names_of(row.product.name, {0: terms})[0]
    plan = create_plan(
        product,
        name=name,
        by=STRIPE.name,
        currency=terms.currency,
        kind=Plan.Kind.STRIPE,
        cadence=terms.cadence,
        items=fees_of(terms),
    )
    draft = plan.versions.get()
    if sibling is not None:
        duplicate_access(sibling, plan, by=STRIPE.name)
    publish(draft, message="Mirrored from Stripe.", by=STRIPE.name, now=now)
    plan.refresh_from_db()
    effects = {"plan": plan.key, "product": product.key, "price": row.stripe_id}
    record(None, "plan.mirrored", f"Plan {plan.name} was made from Stripe's price {row.stripe_id}", actor=STRIPE,
           now=now, effects=effects)  # fmt: skip
    return plan


def _new_product(row: StripeProduct) -> Product:
    name = row.name[:120]
    row.product = Product.objects.create(key=unique_key(Product, name), name=name)
    row.save(update_fields=["product"])
    return row.product


def _tell_plans(row: StripeProduct, now: datetime) -> None:
    """Bring names, and what is off the shelf, in line with Stripe."""
    if row.product is None:
        return
    if row.product.name != row.name[:120]:
        row.product.name = row.name[:120]
        row.product.save(update_fields=["name"])
    prices = list(row.prices.filter(plan__isnull=False).select_related("plan"))
    names = names_of(row.name, {price.pk: PriceTerms.read(price.facts) for price in prices})
    for price in prices:
        _tell_plan(price, names[price.pk], row.is_active and price.is_active and not price.conflict, now)


def _tell_plan(price: StripePrice, name: str, is_offered: bool, now: datetime) -> None:
    plan = price.plan
    assert plan is not None
    changed: Sequence[str] = ()
    if name != plan.name:
        plan.name = plan.invoice_display_name = name
        changed = ["name", "invoice_display_name"]
    if is_offered != (plan.archived_at is None):
        plan.archived_at = None if is_offered else now
        changed = [*changed, "archived_at"]
    if changed:
        plan.save(update_fields=changed)
