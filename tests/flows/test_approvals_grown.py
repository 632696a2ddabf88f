"""Approvals where something came between: the act has grown, a right is gone, another coupon came, Stripe is first."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group

from billing_admin.flows.acts_overrides import OverrideMany
from billing_admin.flows.approvals import ApprovalNeeded, MayNoLonger, approve, ask
from billing_admin.flows.balances import Wanted, set_balance
from billing_admin.flows.cancel import cancel
from billing_admin.flows.deal_approval import submit
from billing_admin.flows.deals import create_deal, newest, read_terms, save_version
from billing_admin.flows.drafts import add_line
from billing_admin.flows.override_batch import Row, begin
from billing_admin.flows.rewards import apply_coupon
from billing_admin.flows.stripe_delete import delete_everywhere
from billing_admin.models import ApprovalRequest
from customers.journal import Actor
from customers.models import Customer
from deals.terms import DealPhase
from entitlements.models import OverrideBatch
from invoicing.models import PendingLine
from payments.models import StripeCustomer
from tests import builders as a
from tests.api.conftest import caller_with
from tests.approving import FINANCE, coupon, person, rule
from tests.instants import MARCH_16
from tests.payments import pages_world as world

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Customer:
    return a.on(a.pro(50))


def edit_asked(acme: Customer, to: int) -> ApprovalRequest:
    wanted, actor = Wanted("credits", Decimal(to), total=True), Actor.of(person("Ops"))
    with pytest.raises(ApprovalNeeded) as needed:
        set_balance(acme, wanted, reason="outage", actor=actor, now=MARCH_16)
    return ask(needed.value, actor=actor, now=MARCH_16)


def test_an_act_that_has_grown_into_the_rule_of_somebody_else_is_outdated(acme: Customer):
    """A-53: 60 credits more are for Finance, 150 more for the Admins."""
    rule("balance.edited", measure="units", above="50")
    rule("balance.edited", measure="units", above="100", approver="Admin")
    request = edit_asked(acme, 160)
    a.use(acme, 90, now=MARCH_16)

    decided = approve(request, user=person(FINANCE), now=MARCH_16)

    assert decided.state == "outdated"
    assert decided.answer == ("It is larger by now: A balance edit with more than 100 units needs approval by Admin.")
    assert a.left(acme, now=MARCH_16) == 10


def test_an_act_that_has_grown_but_stays_with_its_approver_is_done(acme: Customer):
    """A-53"""
    rule("balance.edited", measure="units", above="50")
    rule("balance.edited", measure="units", above="1000", approver="Admin")
    request = edit_asked(acme, 160)
    a.use(acme, 90, now=MARCH_16)

    assert approve(request, user=person(FINANCE), now=MARCH_16).state == "applied"


def test_another_coupon_meanwhile_outdates_the_one_that_was_asked_for(acme: Customer):
    """Law 4"""
    rule("coupon.applied", measure="discount", above="20")
    actor = Actor.of(person("Ops"))
    with pytest.raises(ApprovalNeeded) as needed:
        apply_coupon(acme, coupon("half", percent="50"), reason="asked", actor=actor, now=MARCH_16)
    request = ask(needed.value, actor=actor, now=MARCH_16)
    apply_coupon(acme, coupon("fifth", percent="20"), actor=actor, now=MARCH_16)

    decided = approve(request, user=person(FINANCE), now=MARCH_16)

    assert (decided.state, decided.answer) == ("outdated", "Since it was asked for, this moved: other coupons.")
    assert [row.coupon.code for row in acme.applied_coupons.all()] == ["fifth"]


def test_a_batch_of_overrides_for_good_takes_the_right_to_those_when_it_is_approved(acme: Customer):
    """A-53"""
    rule("override_batch.begun", measure="customers", above="0")
    rows = [Row(1, acme.customer_id, "credits", Decimal(500), None)]
    user = person("Admin", called="admin-who-asks")
    with pytest.raises(ApprovalNeeded) as needed:
        begin(rows, "outage", Actor.of(user), MARCH_16)
    request = ask(needed.value, actor=Actor.of(user), now=MARCH_16)
    admin = Group.objects.get(name="Admin")
    admin.permissions.remove(admin.permissions.get(codename="add_featureoverride"))

    assert OverrideMany(rows).more_permissions(MARCH_16) == ("entitlements.add_featureoverride",)
    with pytest.raises(MayNoLonger):
        approve(request, user=person(FINANCE), now=MARCH_16)
    assert not OverrideBatch.objects.exists()


# A line below zero is a credit, whatever it is called


def test_a_credit_as_a_line_of_the_next_invoice_goes_by_the_rule_of_invoice_credits(acme: Customer):
    """A-53"""
    rule("invoice_credit.given", measure="amount", above="20")
    contract, actor = a.the_subscription(acme), Actor.of(person("Finance", called="clerk"))
    said: dict[str, Any] = {"subscription": contract, "description": "Goodwill", "actor": actor, "now": MARCH_16}
    add_line(amount=-2000, **said)
    add_line(amount=9000, **said)
    with pytest.raises(ApprovalNeeded) as needed:
        add_line(amount=-2001, **said)
    assert PendingLine.objects.count() == 2

    request = ask(needed.value, reason="outage", actor=actor, now=MARCH_16)
    decided = approve(request, user=person(FINANCE), now=MARCH_16 + timedelta(hours=1))

    assert (decided.state, decided.operation.verb if decided.operation else "") == ("applied", "line.added")
    assert sorted(PendingLine.objects.values_list("amount", flat=True)) == [-2001, -2000, 9000]


def test_the_api_asks_for_a_credit_line_too(acme: Customer):
    """A-53"""
    rule("invoice_credit.given", measure="amount", above="20")
    body = {"description": "Goodwill", "amount": -5000}

    answer = caller_with("Admin").at(MARCH_16).post(f"subscriptions/{a.the_subscription(acme).public_id}/lines", body)

    assert answer.status == 202
    assert not PendingLine.objects.exists()


# Stripe


def test_nobody_is_deleted_in_stripe_for_somebody_who_lost_the_right(settings: Any, double: "Double"):
    """A-52: what is gone there does not come back, so the right is looked at before."""
    world.use(settings, double)
    invoice = world.owing(card=world.GOOD, double=double)
    world.collect(invoice)
    who = invoice.customer
    cancel(a.the_subscription(who), at_once=True, unused="nothing", reason="left", actor=a.STAFF, now=MARCH_16)
    rule("customer.closed")
    user = person("Admin", called="admin-who-asks")
    who.refresh_from_db()
    with pytest.raises(ApprovalNeeded) as needed:
        delete_everywhere(who, confirm_name=who.name, reason="asked to", actor=Actor.of(user), now=MARCH_16)
    request = ask(needed.value, actor=Actor.of(user), now=MARCH_16)
    user.groups.clear()

    with pytest.raises(MayNoLonger):
        approve(request, user=person(FINANCE), now=MARCH_16)

    assert StripeCustomer.objects.get(customer=who).deleted_at is None


# A deal is a plan below its list price, too


def test_a_deal_meets_the_rule_of_plans_below_their_list_price():
    """A-53: executing it asks nobody again, so the rule of what it is made of is asked with the deal."""
    rule("plan.enabled", measure="discount", above="20")
    deal = create_deal(a.customer(), a.pro(100).current_version, name="Globex", actor=a.STAFF, now=MARCH_16)
    phase = DealPhase("Year 1", None, (a.fee(70), a.allowance(100)))
    save_version(deal, replace(read_terms(newest(deal)), phases=(phase,)), actor=a.STAFF, now=MARCH_16)

    deal = submit(deal, reason="a reference", actor=Actor.of(person("Sales engineer")), now=MARCH_16)

    [request] = ApprovalRequest.objects.all()
    assert (deal.state, request.why) == (
        "awaiting_approval",
        "A plan below its list price with a discount above 20 % needs approval by Finance.",
    )
