"""Worlds in few words: a builder takes what matters to the test and chooses the rest."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

from billing_admin.flows.enable_plan import Enabled, confirmation, enable_plan, preview_plan, propose
from billing_admin.flows.gate import collect
from billing_admin.flows.plan_change import Activation, PlanChange, Timing
from billing_admin.flows.renew import catch_up
from billing_admin.flows.reprice import Wanted, override_price
from billing_admin.flows.use import track_use
from catalog.charges import PACKAGE, Price
from catalog.models import Feature, Plan, PlanVersion, Product
from catalog.publish import create_plan, make_default, open_draft, publish, write_conditions, write_items
from catalog.terms import (
    ALLOCATED,
    BOOLEAN,
    CHARGE,
    CONSUMABLE,
    HARD,
    IN_ADVANCE,
    IN_ARREARS,
    INSTANT,
    METERED,
    PRORATE,
    SOFT,
    STATIC,
    Conditions,
    ItemTerms,
)
from customers.journal import Actor
from customers.models import Customer, PriceOverride, Subscription
from entitlements.access import Access
from entitlements.balances import Mode
from entitlements.check import check
from entitlements.track import Tracked, track
from invoicing.models import TaxRate
from invoicing.tax import create_rate
from invoicing.wallet import top_up
from tests.instants import MARCH_1

STAFF = Actor("ops")
_numbers = count(1)


def feature(slug: str = "credits", *, type: str = METERED, usage: str = CONSUMABLE, unit: str = "") -> Feature:
    found, _ = Feature.objects.get_or_create(
        slug=slug,
        defaults={"name": slug.replace("-", " ").capitalize(), "type": type, "usage": usage, "unit": unit},
    )
    return found


def product(key: str = "api") -> Product:
    found, _ = Product.objects.get_or_create(key=key, defaults={"name": key.upper()})
    return found


# Items


def fee(amount: str | int, *, cadence: str = "P1M", key: str = "base", quantity: int = 1) -> ItemTerms:
    return ItemTerms(key=key, amount=Decimal(amount), cadence=cadence, quantity=quantity)


def allowance(
    included: str | int | None = 100,
    *,
    of: str = "credits",
    resets: str = "P1M",
    soft: bool = False,
    price: str | None = None,
    max_overage: int | None = None,
    calendar: bool = False,
    cadence: str = "",
) -> ItemTerms:
    """Units of a consumable feature; `included=None` is unlimited; a `price` makes use beyond it paid."""
    return ItemTerms(
        key=of,
        feature=feature(of).terms(),
        included=None if included is None else Decimal(included),
        unlimited=included is None,
        reset=resets,
        reset_anchor="calendar" if calendar else "billing_period",
        limit=SOFT if soft or price else HARD,
        price=None if price is None else Price(rate=Decimal(price)),
        max_overage=None if max_overage is None else Decimal(max_overage),
        cadence=cadence,
    )


def prepaid(
    included: int = 0,
    *,
    price: Price | str = "10",
    pack: int = 100,
    of: str = "credits",
    resets: str = "P1M",
    once: bool = False,
    on_increase: str = PRORATE,
    on_decrease: str = PRORATE,
) -> ItemTerms:
    """Units that are bought in packs and paid in advance; `once`: they last, and are paid once."""
    made = price if isinstance(price, Price) else Price(model=PACKAGE, rate=Decimal(price), pack=Decimal(pack))
    return ItemTerms(
        key=of,
        feature=feature(of).terms(),
        included=Decimal(included),
        reset="never" if once else resets,
        price=made,
        term=IN_ADVANCE,
        cadence="P0D" if once else "",
        on_increase=on_increase,
        on_decrease=on_decrease,
    )


def paid_seats(
    included: int = 2, *, price: str = "10", of: str = "seats", on_increase: str = PRORATE, on_decrease: str = PRORATE
) -> ItemTerms:
    """A level whose units beyond the included ones are paid in advance."""
    return replace(
        seats(included, of=of), price=Price(rate=Decimal(price)), on_increase=on_increase, on_decrease=on_decrease
    )


def in_arrears(amount: str | int, *, key: str = "base", cadence: str = "P1M") -> ItemTerms:
    return replace(fee(amount, key=key, cadence=cadence), term=IN_ARREARS)


def seats(included: int = 5, *, of: str = "seats") -> ItemTerms:
    return ItemTerms(
        key=of, feature=feature(of, usage=ALLOCATED).terms(), included=Decimal(included), reset="never", limit=SOFT
    )


def lasting(included: int = 200, *, of: str = "tokens") -> ItemTerms:
    return ItemTerms(key=of, feature=feature(of).terms(), included=Decimal(included), reset="never")


def switch(slug: str = "sso") -> ItemTerms:
    return ItemTerms(key=slug, feature=feature(slug, type=BOOLEAN).terms())


def static(value: str = "100", *, of: str = "rate-limit") -> ItemTerms:
    unlimited = value == "unlimited"
    return ItemTerms(
        key=of, feature=feature(of, type=STATIC).terms(), value="" if unlimited else value, unlimited=unlimited
    )


# Plans


def plan(
    key: str = "pro",
    *items: ItemTerms,
    of: str = "api",
    cadence: str = "P1M",
    kind: str = Plan.Kind.BILLED,
    add_on: bool = False,
    currency: str = "USD",
    now: datetime = MARCH_1,
    published: bool = True,
    trial_days: int = 0,
    trial_end: str = CHARGE,
    commitment: str | None = None,
    billing_version: int = 1,
) -> Plan:
    made = create_plan(
        product(of),
        name=key.replace("-", " ").capitalize(),
        key=key,
        kind=kind,
        by="tests",
        currency=currency,
        cadence=cadence,
        add_on=add_on,
        items=items,
        billing_version=billing_version,
    )
    if trial_days or commitment:
        least = None if commitment is None else Decimal(commitment)
        write_conditions(made.versions.get(), Conditions(trial_days, trial_end, least))
    if published:
        publish(made.versions.get(), message="first", by="tests", now=now)
    return reread(made)


def pro(price: str | int = 50, credits: int = 100) -> Plan:
    return plan("pro", fee(price), allowance(credits))


def team(price: str | int = 200, credits: int = 500) -> Plan:
    return plan("team", fee(price), allowance(credits))


def free(credits: int = 10) -> Plan:
    return plan("free", allowance(credits))


def assigned(key: str = "partner", *items: ItemTerms, of: str = "partners") -> Plan:
    return plan(key, *(items or (allowance(1000),)), of=of, kind=Plan.Kind.ASSIGNED)


def default(*items: ItemTerms) -> Plan:
    made = assigned("community", *(items or (allowance(5),)), of="community")
    make_default(made, confirmed=True)
    return reread(made)


def new_version(of: Plan, *items: ItemTerms, now: datetime = MARCH_1, cadence: str | None = None) -> PlanVersion:
    draft = open_draft(of, by="tests")
    write_items(draft, items, cadence=cadence)
    published = publish(draft, message="next", by="tests", now=now)
    of.refresh_from_db()
    return published


def reread(made: Plan) -> Plan:
    return Plan.objects.select_related("product", "current_version").get(pk=made.pk)


# Customers and acts


def customer(name: str = "Acme Robotics", *, since: datetime = MARCH_1, customer_id: str = "") -> Customer:
    slug = name.lower().replace(" ", "_")
    return Customer.objects.create(
        customer_id=customer_id or f"{slug}_{next(_numbers)}", name=name, email=f"ops@{slug}.example", created_at=since
    )


def preview(
    who: Customer, what: Plan, *items: ItemTerms, now: datetime = MARCH_1, timing: Timing | None = None, **options: Any
) -> PlanChange:
    """What enabling a plan would do; with items it is a custom plan."""
    return preview_plan(who, propose(who, reread(what), items=items or None, timing=timing, **options), now=now)


def enable(
    who: Customer,
    what: Plan,
    *items: ItemTerms,
    now: datetime = MARCH_1,
    timing: Timing | None = None,
    reason: str = "agreed by phone",
    activation: Activation = Activation.NOW,
    **options: Any,
) -> Enabled:
    """Preview and confirm at the same instant; access does not wait for the payment unless somebody says so."""
    proposal = propose(who, reread(what), items=items or None, timing=timing, activation=activation, **options)
    confirmed = confirmation(preview_plan(who, proposal, now=now))
    who.refresh_from_db()
    return enable_plan(who, proposal, reason=reason, actor=STAFF, now=now, confirmed=confirmed)


def on(what: Plan, *, since: datetime = MARCH_1, name: str = "Acme Robotics") -> Customer:
    """A customer on a plan who has paid. How they came there is not what the test is about: nothing is previewed."""
    who = customer(name, since=since)
    proposal = propose(who, reread(what), activation=Activation.NOW)
    enable_plan(who, proposal, reason="agreed by phone", actor=STAFF, now=since)
    pay_all(who, now=since)
    return who


def tax_rate(percent: str = "7", *, name: str = "VAT", now: datetime = MARCH_1, **more: Any) -> TaxRate:
    """A rate on top of the prices, unless it is `inclusive`."""
    return create_rate(name=name, percent=Decimal(percent), **more, actor=STAFF, now=now)


def special_price(
    who: Customer, amount: int = 3000, *, key: str = "base", now: datetime = MARCH_1, **wanted: Any
) -> PriceOverride:
    """Another price, in minor units, for an item of the customer's one contract."""
    rule = "RRULE:FREQ=MONTHLY;INTERVAL=1"
    component = {"type": "fixed", "label": "Launch price", "amount_cents": amount, "recurrence_rule": rule}
    asked = Wanted(key, [component], **wanted)
    return override_price(the_subscription(who), asked, reason="migration deal", actor=STAFF, now=now)


def use(who: Customer, amount: str | int, *, of: str = "credits", now: datetime = MARCH_1, **options: Any) -> Tracked:
    return track_use(who, feature=of, amount=Decimal(amount), now=now, **options)


def overuse(who: Customer, amount: str | int, *, of: str = "credits", now: datetime = MARCH_1) -> Tracked:
    return track(who, feature=of, amount=Decimal(amount), now=now, mode=Mode.OVERFLOW)


def access(who: Customer, *, of: str = "credits", now: datetime = MARCH_1, required: int = 1) -> Access:
    return check(who, of, now=now, required=Decimal(required))


def left(who: Customer, *, of: str = "credits", now: datetime = MARCH_1) -> Decimal | None:
    """What is left, below zero when more was used."""
    return check(who, of, now=now).net


def the_subscription(who: Customer) -> Subscription:
    """The one live contract of this customer."""
    return who.subscriptions.live().get()


def pay_all(who: Customer, *, now: datetime = MARCH_1) -> None:
    for invoice in who.invoices.unpaid():
        if invoice.due:
            collect(invoice, amount=invoice.due, reference="bank", actor=STAFF, now=now)


def pass_time(who: Customer, *, to: datetime, pays: bool = True) -> None:
    """The worker does what is due until the instant."""
    catch_up(who, now=to)
    who.refresh_from_db()
    if pays:
        pay_all(who, now=to)


def totals(who: Customer) -> list[int]:
    """Totals of the documents in the order they were issued, minor units."""
    return list(who.invoices.order_by("id").values_list("total", flat=True))


# Wallets


def instantly(price: Price | str = "0.50", *, of: str = "credits", resets: str = "P1M") -> ItemTerms:
    """Use that the wallet pays event by event; for plans of billing version 0."""
    made = price if isinstance(price, Price) else Price(rate=Decimal(price))
    return ItemTerms(key=of, feature=feature(of).terms(), reset=resets, price=made, term=INSTANT)


def filled(amount: str | int = 5, *, currency: str = "USD", now: datetime = MARCH_1) -> Customer:
    """A customer with money in the wallet; nothing at 0."""
    who = customer(since=now)
    if Decimal(amount):
        top_up(who, Decimal(amount), currency, reference="bank", actor=STAFF, now=now)
    who.refresh_from_db()
    return who


def paying_at_once(amount: str | int = 5, *items: ItemTerms, now: datetime = MARCH_1) -> Customer:
    """A customer on a plan of billing version 0 whose wallet pays each event."""
    who = filled(amount, now=now)
    enable(who, plan("metered", *(items or (instantly(),)), billing_version=0, now=now), now=now)
    who.refresh_from_db()
    return who


def wallet_balance(who: Customer) -> Decimal:
    """What the wallets hold; checks that each is the sum of its entries."""
    total = Decimal(0)
    for wallet in who.wallets.all():
        entries = list(wallet.entries.order_by("id"))
        running = Decimal(0)
        for entry in entries:
            running += entry.amount
            assert entry.balance_after == running >= 0
        assert wallet.balance == running
        total += running
    return total
