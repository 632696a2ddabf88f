"""What is on the desk of the demo company: rules for a second person, deals in several states, customers on the move.

Played at the end of the year, so that there is something to approve, to send and to take back.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.contrib.auth.models import Group

from billing_admin.demo.catalog import paid
from billing_admin.flows import deals
from billing_admin.flows.approvals import ApprovalNeeded, ask
from billing_admin.flows.customers import create_customer
from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deal_execute import execute
from billing_admin.flows.deal_notes import add_deal_note
from billing_admin.flows.grants import Wanted, give_units
from billing_admin.flows.migrate import begin
from billing_admin.flows.migrate_order import Order, with_proposed
from billing_admin.flows.migrate_run import carry_out
from billing_admin.models import ApprovalRule
from catalog.models import Feature, Plan, PlanVersion
from customers.journal import Actor
from customers.models import Customer
from deals.models import Deal
from deals.terms import DealPhase, DealTerms

RULES = (
    ("deal.approved", "discount", "20", "", "Finance"),
    ("grant.given", "units", "1000", "", "Finance"),
    ("invoice.credited", "amount", "500", "USD", "Finance"),
    ("migration.started", "customers", "50", "", "Admin"),
    ("customer.closed", "", None, "", "Admin"),
)
HOUR = timedelta(hours=1)


def build(staff: dict[str, Actor], until: datetime) -> None:
    """Lay everything on the desk in the last hours of the year."""
    for act, measure, above, currency, role in RULES:
        bar = None if above is None else Decimal(above)
        approver = Group.objects.get(name=role)
        ApprovalRule.objects.create(
            act=act, measure=measure, above=bar, currency=currency, approver=approver, created_by="admin"
        )
    _move_pro(staff["admin"], until - 5 * HOUR)
    _deals(staff["sales"], until - 4 * HOUR)
    _ask_for_units(staff["ops"], until - 2 * HOUR)


def _move_pro(by: Actor, now: datetime) -> None:
    """Whoever still pays the old price of Pro gets the new one at their next renewal."""
    old, new = PlanVersion.objects.standard().filter(plan__key="pro").order_by("number")[:2]
    reason = "The old price ends with the year; announced on 1 October."
    carry_out(begin(with_proposed(Order(old, new)), reason=reason, actor=by, now=now), now)


def _deals(by: Actor, now: datetime) -> None:
    enterprise = Plan.objects.select_related("current_version").get(key="enterprise").current_version
    assert enterprise is not None
    template = deals.create_deal(None, enterprise, name="Enterprise, two-year ramp", term_months=24, actor=by, now=now)
    deals.save_version(template, _ramp(template, "15000", "18000"), actor=by, now=now)

    signed = _deal(template, "Halcyon Labs", by, now)
    terms = replace(deals.read_terms(deals.newest(signed)), activation="now", net_terms_days=30)
    deals.save_version(signed, terms, actor=by, now=now)
    _through(signed, by, now)

    sent = _deal(template, "Osprey Freight", by, now + HOUR)
    submit(sent, actor=by, now=now + HOUR)
    deals.send(sent, actor=by, now=now + HOUR)

    waiting = _deal(template, "Ferrum Robotics", by, now + HOUR)
    deals.save_version(waiting, _ramp(waiting, "12000", "15000"), actor=by, now=now + HOUR)
    submit(waiting, reason="They bring two subsidiaries next year.", actor=by, now=now + HOUR)
    add_deal_note(waiting, text="Their CFO decides on Friday; legal has our terms.", actor=by, now=now + HOUR)


def _deal(template: Deal, name: str, by: Actor, now: datetime) -> Deal:
    slug = name.lower().replace(" ", "_")
    customer = create_customer(
        customer_id=slug, name=name, email=f"finance@{slug.split('_')[0]}.example", actor=by, now=now
    )
    return deals.create_from(template, customer, name=f"{name}, two years", actor=by, now=now)


def _ramp(deal: Deal, first: str, second: str) -> DealTerms:
    """Two years of the enterprise plan, the second at another fee."""
    terms = deals.read_terms(deals.newest(deal))
    year = terms.phases[0]
    return replace(
        terms,
        phases=(_year("Year 1", 12, year, first), _year("Year 2", None, year, second)),
        use=(("fine-tuning-hours", Decimal(50)), ("input-tokens", Decimal(2_100_000_000))),
        introduction="Language models for your products, with priority GPUs and a service level.",
    )


def _year(label: str, months: int | None, like: DealPhase, amount: str) -> DealPhase:
    hours = paid("fine-tuning-hours", "4.00", included=40, monthly=True)
    items = [replace(item, amount=Decimal(amount)) if item.key == "base" else item for item in like.items]
    return replace(
        like, label=label, months=months, items=tuple(hours if item.key == hours.key else item for item in items)
    )


def _through(deal: Deal, by: Actor, now: datetime) -> None:
    submit(deal, actor=by, now=now)
    deals.send(deal, actor=by, now=now)
    deals.accept(deal, by="Ada Lindqvist, CTO", how="signed order form", actor=by, now=now)
    execute(deal, reason="Signed for two years.", actor=by, now=now)


def _ask_for_units(by: Actor, now: datetime) -> None:
    """More than Ops gives alone: Finance finds it among the requests."""
    customer = Customer.objects.filter(customer_id="acme_robotics").first()
    if customer is None:
        return
    wanted = Wanted(
        Feature.objects.get(slug="credits"), Decimal(5_000), now + timedelta(days=30), "Outage on 3 November"
    )
    try:
        give_units(customer, wanted, reason="Outage on 3 November, promised by their manager.", actor=by, now=now)
    except ApprovalNeeded as needed:
        ask(needed, actor=by, now=now)
