"""Products, prices and subscriptions in Stripe's double, and the import that brings them here."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from billing_admin.flows import stripe_import
from billing_admin.flows.catalog import update
from billing_admin.flows.stripe_follow import follow_due
from billing_admin.flows.stripe_mirror import mirror_subscription
from catalog.models import Plan
from catalog.terms import ItemTerms
from customers.models import Customer, Subscription
from payments.gateway import gateway
from payments.models import StripePrice, StripeRun, StripeSubscription
from tests import builders as a
from tests.instants import MARCH_1

if TYPE_CHECKING:
    from tests.stripe_double import Double


def use(settings: Any, double: "Double", now: datetime = MARCH_1) -> None:
    """Point our settings at the double, which stands still at the instant."""
    settings.STRIPE_SECRET_KEY = double.key
    settings.STRIPE_API_URL = double.url
    settings.STRIPE_WEBHOOK_SECRET = double.webhook_secret
    double.set_clock(now)


def product(name: str = "Pro", **more: Any) -> str:
    return str(gateway().v1.products.create({"name": name, **more}).id)


def price(of: str, amount: int = 2000, every: str = "month", *, count: int = 1, **more: Any) -> str:
    """A price of so many cents; `every=""` is paid once."""
    params: dict[str, Any] = {"product": of, "currency": "usd", "unit_amount": amount}
    if every:
        params["recurring"] = {"interval": every, "interval_count": count}
    return str(gateway().v1.prices.create(params | more).id)


def metered(of: str) -> str:
    recurring = {"interval": "month", "usage_type": "metered", "meter": "mtr_calls"}
    return str(
        gateway().v1.prices.create({"product": of, "currency": "usd", "unit_amount": 1, "recurring": recurring}).id
    )


def stripe_customer(who: Customer | None = None, *, key: str = "", **more: Any) -> str:
    """A customer in Stripe; with one of ours its metadata say so."""
    named = who.customer_id if who else key
    params: dict[str, Any] = {
        "name": who.name if who else "Somebody",
        "email": who.email if who else "who@else.example",
    }
    return str(gateway().v1.customers.create(params | {"metadata": {"customer_id": named} if named else {}} | more).id)


def subscribe(customer: str, *prices: str, quantity: int = 1, **more: Any) -> str:
    """A subscription that is active at once, because its bills are sent."""
    params = {
        "customer": customer,
        "items": [{"price": each, "quantity": quantity} for each in prices],
        "collection_method": "send_invoice",
        "days_until_due": 30,
    }
    return str(gateway().v1.subscriptions.create(params | more).id)


def bring(now: datetime = MARCH_1) -> StripeRun:
    """A whole import."""
    stripe_import.begin(actor=a.STAFF, now=now)
    while stripe_import.step(now):
        pass
    found = stripe_import.latest()
    assert found is not None
    return found


def the_plan(price_id: str) -> Plan:
    return Plan.objects.select_related("product", "current_version").get(stripe__stripe_id=price_id)


def give(price_id: str, *items: ItemTerms, now: datetime = MARCH_1) -> Plan:
    """Publish features on a mirrored plan; its fees stay. Subscribers follow."""
    plan = the_plan(price_id)
    assert plan.current_version is not None
    fees = [item for item in plan.current_version.terms().items if item.is_fee]
    cadence = plan.current_version.cadence
    update(plan, [*fees, *items], cadence=cadence, message="features", actor=a.STAFF, now=now)
    follow_due(now)
    return a.reread(plan)


def subscriber(
    *items: ItemTerms, quantity: int = 1, now: datetime = MARCH_1, name: str = "Acme Robotics", **more: Any
) -> tuple[Customer, str]:
    """A subscription in Stripe to a plan with these features, followed here: its customer, and its id in Stripe."""
    who = a.customer(name)
    made = price(product(name=f"Plan of {name}"))
    subscription = subscribe(stripe_customer(who), made, quantity=quantity, **more)
    bring(now)
    give(made, *items, now=now)
    return who, subscription


def look(subscription: str, now: datetime) -> Subscription | None:
    """What a webhook about it leads to."""
    mirror_subscription(subscription, now)
    row = StripeSubscription.objects.select_related("subscription").filter(stripe_id=subscription).first()
    return row.subscription if row else None


def amount_of(plan: Plan) -> Decimal | None:
    assert plan.current_version is not None
    return next((item.amount for item in plan.current_version.terms().fees), None)


def conflicts() -> list[str]:
    """Every reason why something is not mirrored or followed."""
    prices = StripePrice.objects.exclude(conflict="").values_list("conflict", flat=True)
    items = StripeSubscription.objects.exclude(conflict="").values_list("conflict", flat=True)
    return sorted([*prices, *items])
