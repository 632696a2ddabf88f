"""A deal from its draft to what it became: versions, approval, signature, execution, amendment."""

from dataclasses import replace
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError

from billing_admin.flows import deals
from billing_admin.flows.approvals import approve, refuse
from billing_admin.flows.cancel import cancel
from billing_admin.flows.customers import deletion_blockers
from billing_admin.flows.deal_approval import VersionMoved, submit
from billing_admin.flows.deal_execute import execute
from billing_admin.flows.deal_past import deal_at
from billing_admin.flows.deals import (
    AmendedAlready,
    CustomerMoved,
    NotATemplate,
    OfferOver,
    accept,
    amend,
    create_deal,
    create_from,
    newest,
    read_terms,
    save_version,
    void,
)
from billing_admin.flows.enable_plan import PlanNotOffered
from billing_admin.flows.gate import expire
from billing_admin.flows.undo import undo, why_not
from billing_admin.models import ApprovalRequest, ApprovalRule
from customers.journal import Actor
from customers.models import Customer
from customers.states import SubscriptionState
from deals.models import Deal
from deals.states import CannotMoveDeal
from deals.terms import NOW, DealCoupon, DealOverride, DealPhase, DealTerms, InvalidDeal
from tests.builders import (
    STAFF,
    access,
    allowance,
    customer,
    enable,
    fee,
    free,
    pass_time,
    pay_all,
    plan,
    the_subscription,
    totals,
)
from tests.instants import APRIL_1, MARCH_1, MARCH_16, MAY_1, day

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


def test_an_older_request_has_no_say_over_what_was_submitted_after_it():
    deal = draft()
    ramp(deal, 70, 80)
    rule(20)
    submit(deal, actor=STAFF, now=MARCH_1)
    [old] = ApprovalRequest.objects.all()
    ramp(deal, 60, 80)
    submit(deal, actor=STAFF, now=MARCH_1)

    refuse(old, reason="too cheap", user=finance(), now=MARCH_1)

    deal.refresh_from_db()
    assert deal.state == "awaiting_approval"


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


def test_a_refused_deal_is_a_draft_again():
    deal = draft()
    ramp(deal, 70, 80)
    rule(20)
    deal = submit(deal, actor=STAFF, now=MARCH_1)
    [request] = ApprovalRequest.objects.all()

    refuse(request, reason="too cheap", user=finance(), now=MARCH_1)

    deal.refresh_from_db()
    assert (deal.state, deal.approval) == ("draft", "")


def test_an_approved_deal_keeps_who_approved_it():
    """A deal that was approved carries its approval into everything that is written."""
    who = customer()
    deal = draft(who)
    ramp(deal, 70, 80)
    rule(20)
    asker = Actor.of(sales())
    submit(deal, actor=asker, now=MARCH_1)
    [request] = ApprovalRequest.objects.all()

    approve(request, user=finance(), now=day("2026-03-03"))
    deal.refresh_from_db()
    assert (deal.state, deal.approved_by) == ("approved", "fin")
    accept(deal, by="Jane Roe", actor=asker, now=day("2026-03-03"))
    execute(deal, actor=asker, now=day("2026-03-04"))

    enabled = who.operations.get(verb="plan.enabled")
    assert (enabled.approval, enabled.approved_by) == (request.public_id, "fin")


def finance() -> User:
    return User.objects.create_superuser("fin", password="x")


def sales() -> User:
    return User.objects.create_superuser("sal", password="x")


def test_what_was_changed_after_the_approval_is_not_executed():
    deal = signed(draft())
    version = newest(deal)
    version.deal.versions.filter(pk=version.pk).update(fingerprint="another")

    with pytest.raises(VersionMoved):
        execute(deal, actor=STAFF, now=MARCH_1)


def test_a_deal_is_refused_when_the_customer_has_something_else_by_now():
    who, what = customer(), plan("pro", fee(100), allowance(100, price="0.10"))
    deal = signed(draft(who, of=what))
    enable(who, what)

    with pytest.raises(CustomerMoved):
        execute(deal, actor=STAFF, now=MARCH_1)


def test_a_void_deal_says_why():
    deal = void(draft(), reason="they chose another one", actor=STAFF, now=MARCH_1)

    assert (deal.state, deal.void_reason) == ("void", "they chose another one")


def test_an_offer_that_is_over_is_not_accepted():
    deal = submit(draft(), actor=STAFF, now=MARCH_1)
    deals.rename(deal, name="Acme", expires_at=MARCH_16, actor=STAFF, now=MARCH_1)

    with pytest.raises(OfferOver):
        accept(deal, by="Jane Roe", actor=STAFF, now=APRIL_1)


def test_an_offer_that_stands_longer_than_approved_is_a_draft_again():
    deal = draft()
    deals.rename(deal, name="Acme", expires_at=MARCH_16, actor=STAFF, now=MARCH_1)
    submit(deal, actor=STAFF, now=MARCH_1)

    deals.rename(deal, name="Acme", expires_at=APRIL_1, actor=STAFF, now=MARCH_1)

    deal.refresh_from_db()
    assert (deal.state, deal.approved_fingerprint) == ("draft", "")


def test_an_offer_can_be_made_shorter_while_it_is_approved():
    deal = draft()
    deals.rename(deal, name="Acme", expires_at=APRIL_1, actor=STAFF, now=MARCH_1)
    submit(deal, actor=STAFF, now=MARCH_1)

    deals.rename(deal, name="Acme", expires_at=MARCH_16, actor=STAFF, now=MARCH_1)

    deal.refresh_from_db()
    assert deal.state == "approved"


@pytest.mark.parametrize("asked", [DealOverride("nothing", True), DealOverride("credits", "500")])
def test_an_override_that_cannot_be_is_not_written_into_a_deal(asked: DealOverride):
    deal = draft()

    with pytest.raises(InvalidDeal) as refused:
        ramp(deal, 80, overrides=(asked,))

    assert refused.value.problems[0].field.startswith("overrides.0.")


def test_a_coupon_that_cannot_be_redeemed_is_not_submitted():
    deal = draft()
    ramp(deal, 80, coupons=(DealCoupon("nope"),))

    with pytest.raises(ValidationError):
        submit(deal, actor=STAFF, now=MARCH_1)


def test_a_deal_is_refused_when_the_customer_has_more_of_the_same_by_now():
    who, what = customer(), plan("pro", fee(100), allowance(100, price="0.10"))
    enable(who, what)
    pay_all(who, now=MARCH_1)
    deal = signed(draft(who, of=what))
    enable(who, what, quantity=5)

    with pytest.raises(CustomerMoved):
        execute(deal, actor=STAFF, now=MARCH_1)


def test_a_template_is_the_beginning_of_many_deals():
    template = draft_template()
    ramp(template, 80, 90)

    deal = create_from(template, customer(), name="Beta 2026", actor=STAFF, now=APRIL_1)

    assert (deal.made_from, deal.is_template) == (template, False)
    assert [phase.label for phase in read_terms(newest(deal)).phases] == ["Year 1", "Year 2"]


def draft_template() -> Deal:
    made = plan("pro", fee(100), allowance(100, price="0.10"))
    return create_deal(None, made.current_version, name="Ramp", actor=STAFF, now=MARCH_1)


def test_a_template_is_not_submitted():
    with pytest.raises(NotATemplate):
        submit(draft_template(), actor=STAFF, now=MARCH_1)


# Amendments -----------------------------------------------------------------------------------------------------------


def amended(who: Customer) -> tuple[Deal, Deal]:
    """80 in the first year, 90 in the second; from June on 85 and, after the first year, 120."""
    now = day("2026-06-16")
    deal = draft(who)
    ramp(deal, 80, 90, renews=False)
    deal = execute(signed(deal), actor=STAFF, now=MARCH_1)
    pass_time(who, to=now)
    later = amend(deal, name="Acme 2026, amended", actor=STAFF, now=now)
    terms = read_terms(newest(later))
    first, second = terms.phases
    dearer = (
        replace(first, items=(fee(85), *first.items[1:])),
        replace(second, items=(fee(120), *second.items[1:])),
    )
    save_version(later, replace(terms, phases=dearer), actor=STAFF, now=now)
    return deal, execute(signed(later, now=now), actor=STAFF, now=now)


def test_an_amendment_begins_with_the_months_that_are_left():
    who = customer()
    deal = draft(who)
    ramp(deal, 80, 90)
    deal = execute(signed(deal), actor=STAFF, now=MARCH_1)
    pass_time(who, to=day("2026-06-16"))

    terms = read_terms(newest(amend(deal, name="Amended", actor=STAFF, now=day("2026-06-16"))))

    assert (terms.term_months, [phase.months for phase in terms.phases]) == (21, [9, None])


def test_an_amendment_goes_on_with_the_contract_and_ends_when_it_did():
    who = customer()

    deal, later = amended(who)
    pass_time(who, to=day("2028-03-02"))

    contract = who.subscriptions.get()
    assert later.subscription == deal.subscription == contract
    assert contract.ended_at == day("2028-03-01")
    assert totals(who)[:6] == [8000, 8000, 8000, 8000, 250, 8500]
    assert totals(who)[12:15] == [8500, 12000, 12000]


def test_what_was_amended_is_amended_from_its_amendment_on():
    deal, _ = amended(customer())
    deal.refresh_from_db()

    with pytest.raises(AmendedAlready, match="Acme 2026, amended amends it"):
        amend(deal, name="Again", actor=STAFF, now=day("2026-06-16"))


def test_an_amendment_for_a_day_to_come_begins_with_the_next_period():
    who, now = customer(), day("2026-06-16")
    deal = execute(signed(draft(who)), actor=STAFF, now=MARCH_1)
    pass_time(who, to=now)
    later = amend(deal, name="Amended", actor=STAFF, now=now)
    terms = read_terms(newest(later))
    dearer = replace(terms.phases[0], items=(fee(150), *terms.phases[0].items[1:]))
    save_version(later, replace(terms, phases=(dearer,), starts_at=day("2026-07-10")), actor=STAFF, now=now)

    execute(signed(later, now=now), actor=STAFF, now=now)
    pass_time(who, to=day("2026-08-02"))

    assert totals(who) == [10000] * 5 + [15000]


def test_a_deal_as_it_was_before_and_after_its_amendment():
    deal, later = amended(customer())

    before, after = deal_at(deal, day("2026-06-01")), deal_at(later, day("2026-06-17"))

    assert [(p.label, p.starts_at, p.ends_at) for p in before.phases] == [
        ("Year 1", MARCH_1, day("2027-03-01")),
        ("Year 2", day("2027-03-01"), day("2028-03-01")),
    ]
    assert [(p.deal, p.label, p.starts_at) for p in after.phases] == [
        (deal, "Year 1", MARCH_1),
        (later, "Year 1", day("2026-06-16")),
        (later, "Year 2", day("2027-03-01")),
    ]
    assert (before.state, deal_at(later, day("2026-06-01")).version) == ("executed", None)


# The first payment ----------------------------------------------------------------------------------------------------


def test_the_phases_of_a_deal_wait_with_it_for_the_first_payment():
    who = customer()
    deal = draft(who)
    terms = ramp(deal, 80, 90)
    save_version(deal, replace(terms, activation="after_payment"), actor=STAFF, now=MARCH_1)

    contract = execute(signed(deal), actor=STAFF, now=MARCH_1).subscription
    assert contract.state == SubscriptionState.PENDING_PAYMENT
    pay_all(who, now=MARCH_16)
    pass_time(who, to=day("2027-03-02"))

    assert totals(who)[-1] == 9000


def test_a_deal_after_a_free_plan_leaves_it_alone_until_the_first_payment():
    who = customer()
    enable(who, free())
    made = plan("pro", fee(100), allowance(100, price="0.10"))
    deal = draft(who, of=made)
    terms = ramp(deal, 80, 90, renews=False)
    save_version(deal, replace(terms, activation="after_payment"), actor=STAFF, now=MARCH_1)

    contract = execute(signed(deal), actor=STAFF, now=MARCH_1).subscription
    assert contract.phases.kept().count() == 1
    pay_all(who, now=MARCH_1)
    contract.refresh_from_db()

    assert [phase.version.plan.key for phase in contract.phases.kept()] == ["free", "pro", "pro"]
    assert contract.ends_at == day("2028-03-01")


def test_a_term_that_waits_for_its_payment_ends_when_it_was_agreed():
    """One phase only: there is no later one that could carry the end."""
    who = customer()
    enable(who, free())
    deal = draft(who, of=plan("pro", fee(100), allowance(100, price="0.10")))
    terms = ramp(deal, 80, renews=False)
    save_version(deal, replace(terms, activation="after_payment"), actor=STAFF, now=MARCH_1)

    execute(signed(deal), actor=STAFF, now=MARCH_1)
    pay_all(who, now=MARCH_1)
    pass_time(who, to=day("2027-03-02"))

    assert who.subscriptions.get().ended_at == day("2027-03-01")
    assert totals(who) == [8000] * 12


def test_a_deal_that_nobody_pays_leaves_nothing_scheduled():
    who = customer()
    enable(who, free())
    deal = draft(who, of=plan("pro", fee(100), allowance(100, price="0.10")))
    terms = ramp(deal, 80, 90)
    save_version(deal, replace(terms, activation="after_payment"), actor=STAFF, now=MARCH_1)
    execute(signed(deal), actor=STAFF, now=MARCH_1)

    [invoice] = who.invoices.gating()
    expire(invoice, now=day("2026-03-03"))

    assert [phase.version.plan.key for phase in the_subscription(who).phases.kept()] == ["free"]


# Taking it back -------------------------------------------------------------------------------------------------------


def test_a_deal_that_has_not_begun_is_taken_back():
    who = customer()
    deal = draft(who)
    ramp(deal, 80, starts_at=APRIL_1)
    deal = execute(signed(deal), actor=STAFF, now=MARCH_1)

    undo(deal.operation, reason="too early", actor=STAFF, now=MARCH_16)
    pass_time(who, to=MAY_1)

    deal.refresh_from_db()
    assert (deal.state, deal.subscription) == ("accepted", None)
    assert (who.subscriptions.get().state, totals(who)) == (SubscriptionState.WITHDRAWN, [])


def test_an_amendment_that_has_not_begun_is_taken_back_with_what_was_planned_before():
    who, now = customer(), day("2026-06-16")
    first = draft(who)
    ramp(first, 80, 90, renews=False)
    first = execute(signed(first), actor=STAFF, now=MARCH_1)
    pass_time(who, to=now)
    later = amend(first, name="Amended", actor=STAFF, now=now)
    terms = read_terms(newest(later))
    save_version(later, replace(terms, starts_at=day("2026-08-01"), renews=True), actor=STAFF, now=now)
    later = execute(signed(later, now=now), actor=STAFF, now=now)

    undo(later.operation, reason="a mistake", actor=STAFF, now=now)

    contract = the_subscription(who)
    assert contract.ends_at == day("2028-03-01")
    assert [p.starts_at for p in contract.kept_phases()] == [MARCH_1, day("2027-03-01")]


def test_a_deal_that_was_renewed_is_not_taken_back():
    who = customer()
    deal = execute(signed(draft(who)), actor=STAFF, now=MARCH_1)
    pass_time(who, to=APRIL_1)

    assert why_not(deal.operation, APRIL_1).startswith("It was renewed on 1 Apr 2026")


def test_a_deal_of_today_is_taken_back_with_its_invoice():
    who = customer()
    deal = draft(who)
    ramp(deal, 80, 90, overrides=(DealOverride("credits", Decimal(500), 0, 6),))
    deal = execute(signed(deal), actor=STAFF, now=MARCH_1)

    undo(deal.operation, reason="a mistake", actor=STAFF, now=MARCH_1)

    deal.refresh_from_db()
    assert deal.state == "accepted"
    assert not who.subscriptions.live().exists()
    assert [invoice.state for invoice in who.invoices.all()] == ["void"]
    assert who.feature_overrides.get().revoked_at == MARCH_1


def test_a_contract_that_has_not_begun_is_canceled():
    who = customer()
    deal = draft(who)
    ramp(deal, 80, starts_at=APRIL_1)
    contract = execute(signed(deal), actor=STAFF, now=MARCH_1).subscription

    cancel(contract, reason="changed their mind", actor=STAFF, now=MARCH_16)

    contract.refresh_from_db()
    assert contract.state == SubscriptionState.WITHDRAWN


def test_a_customer_whose_contract_has_not_begun_is_not_deleted():
    who = customer()
    deal = draft(who)
    ramp(deal, 80, starts_at=APRIL_1)
    execute(signed(deal), actor=STAFF, now=MARCH_1)

    [blocker] = deletion_blockers(who, now=MARCH_16)

    assert blocker.sentence == "Pro is agreed from 1 Apr 2026 on. Cancel it first."


def test_no_other_plan_is_enabled_beside_a_contract_that_waits_for_its_day():
    who, what = customer(), plan("pro", fee(100), allowance(100, price="0.10"))
    deal = draft(who, of=what)
    ramp(deal, 80, starts_at=APRIL_1)
    execute(signed(deal), actor=STAFF, now=MARCH_1)

    with pytest.raises(PlanNotOffered, match="begins on 1 Apr 2026"):
        enable(who, what)


def test_a_contract_gives_access_on_its_day_before_any_worker():
    """The late worker changes cost, never meaning."""
    who = customer()
    deal = draft(who)
    ramp(deal, 80, starts_at=APRIL_1)
    execute(signed(deal), actor=STAFF, now=MARCH_1)

    assert not access(who, now=MARCH_16).has_access
    assert access(who, now=APRIL_1).has_access
