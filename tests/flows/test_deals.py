"""A deal from its draft to what it became: versions, approval, signature, execution, amendment."""

from dataclasses import replace
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group

from billing_admin.flows import deals
from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deal_execute import execute
from billing_admin.flows.deals import accept, create_deal, create_from, newest, read_terms, save_version, send, void
from billing_admin.models import ApprovalRequest, ApprovalRule
from customers.models import Customer
from customers.states import SubscriptionState
from deals.models import Deal
from deals.states import CannotMoveDeal
from deals.terms import NOW, DealPhase, DealTerms
from tests.builders import STAFF, allowance, customer, fee, pass_time, plan, pro, the_subscription, totals
from tests.instants import APRIL_1, MARCH_1, day

pytestmark = pytest.mark.django_db


def draft(who: Customer | None = None, *, now=MARCH_1, of=None) -> Deal:
    made = of or plan("pro", fee(100), allowance(100, price="0.10"))
    return create_deal(who or customer(), made.current_version, name="Acme 2026", actor=STAFF, now=now)


def ramp(deal: Deal, *amounts: int, now=MARCH_1, **changes) -> DealTerms:
    """A year at each fee; the last runs until the end."""
    terms = read_terms(newest(deal))
    rest = terms.phases[0].items[1:]
    phases = [DealPhase(f"Year {n}", 12, (fee(amount), *rest)) for n, amount in enumerate(amounts, 1)]
    new = replace(terms, term_months=12 * len(amounts), phases=tuple(phases), activation=NOW, **changes)
    save_version(deal, new, actor=STAFF, now=now)
    return new


def signed(deal: Deal, *, now=MARCH_1) -> Deal:
    deal.refresh_from_db()
    submit(deal, actor=STAFF, now=now)
    return accept(deal, by="Jane Roe", how="order form by e-mail", actor=STAFF, now=now)


def test_a_deal_begins_with_what_the_version_says():
    """Y-37"""
    deal = draft()

    terms = read_terms(newest(deal))

    assert deal.state == "draft"
    assert [item.key for item in terms.phases[0].items] == ["base", "credits"]


def test_a_changed_deal_is_another_version():
    deal = draft()

    ramp(deal, 80, 90)

    assert [(v.number, v.frozen_at is not None) for v in deal.versions.order_by("number")] == [(1, True), (2, False)]


def test_saving_what_is_said_already_is_no_version():
    deal = draft()

    save_version(deal, read_terms(newest(deal)), actor=STAFF, now=MARCH_1)

    assert deal.versions.count() == 1


def test_without_a_rule_a_deal_is_approved_at_once():
    deal = draft()

    submit(deal, actor=STAFF, now=MARCH_1)

    deal.refresh_from_db()
    assert (deal.state, deal.approved_fingerprint) == ("approved", newest(deal).fingerprint)


def rule(above: int, measure: str = "discount") -> ApprovalRule:
    finance, _ = Group.objects.get_or_create(name="Finance")
    return ApprovalRule.objects.create(act="deal.approved", measure=measure, above=Decimal(above), approver=finance)


def test_a_deal_far_below_list_waits_for_a_second_person():
    deal = draft()
    ramp(deal, 70, 80)  # 25 % below 100
    rule(20)

    deal = submit(deal, reason="a reference", actor=STAFF, now=MARCH_1)

    [request] = ApprovalRequest.objects.all()
    assert (deal.state, deal.approval) == ("awaiting_approval", request.public_id)
    assert request.title == "Acme 2026 for Acme Robotics: $1,800.00 over 24 months"


def test_a_deal_near_list_does_not_wait():
    deal = draft()
    ramp(deal, 90, 90)
    rule(20)

    assert submit(deal, actor=STAFF, now=MARCH_1).state == "approved"


def test_a_changed_deal_loses_its_approval():
    deal = draft()
    deal = submit(deal, actor=STAFF, now=MARCH_1)

    ramp(deal, 50)

    deal.refresh_from_db()
    assert (deal.state, deal.approved_fingerprint) == ("draft", "")


def test_a_deal_that_nobody_signed_is_not_executed():
    deal = submit(draft(), actor=STAFF, now=MARCH_1)

    with pytest.raises(CannotMoveDeal):
        execute(deal, actor=STAFF, now=MARCH_1)


def test_an_executed_ramp_switches_and_bills_year_by_year():
    who = customer()
    deal = draft(who)
    ramp(deal, 80, 90, net_terms_days=30)

    deal = execute(signed(deal), actor=STAFF, now=MARCH_1)
    pass_time(who, to=day("2027-04-01"))

    contract = the_subscription(who)
    assert (deal.state, deal.subscription) == ("executed", contract)
    assert totals(who)[0] == 8000
    assert totals(who)[11:14] == [8000, 9000, 9000]
    assert contract.ends_at is None


def test_a_deal_is_executed_once():
    who = customer()
    deal = signed(draft(who))

    execute(deal, actor=STAFF, now=MARCH_1)
    execute(deal, actor=STAFF, now=MARCH_1)

    assert who.subscriptions.count() == 1


def test_a_deal_for_a_day_to_come_begins_by_itself():
    who = customer()
    deal = draft(who)
    ramp(deal, 80, starts_at=APRIL_1, renews=False)

    deal = execute(signed(deal), actor=STAFF, now=MARCH_1)
    assert deal.subscription.state == SubscriptionState.SCHEDULED
    pass_time(who, to=day("2026-04-02"))

    contract = the_subscription(who)
    assert (contract.state, contract.ends_at) == ("active", day("2027-04-01"))
    assert totals(who) == [8000]
