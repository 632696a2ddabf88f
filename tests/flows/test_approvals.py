"""Nothing that a rule names is done before a second person has approved it, and what is done is what they saw."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core import mail
from django.db import connection

from billing_admin.approving import ACTS
from billing_admin.flows import approvals
from billing_admin.flows.approval_rules import BadRule, RuleTerms, ruled_acts, said, switch_rule, write_rule
from billing_admin.flows.approvals import (
    ApprovalNeeded,
    MayNoLonger,
    MayNotDecide,
    NotTheirs,
    NotWaiting,
    approve,
    ask,
    expire_due,
    refuse,
    waiting_for,
    withdraw,
)
from billing_admin.flows.balances import Wanted, set_balance
from billing_admin.flows.customers import erase_due
from billing_admin.flows.grants import Wanted as Units
from billing_admin.flows.grants import change_units, give_units
from billing_admin.flows.rewards import apply_coupon
from billing_admin.models import ApiKey, ApprovalRequest, ApprovalRule
from billing_admin.runs import approvals as approvals_pass
from catalog.models import Coupon
from customers.journal import Actor, ReasonRequired
from customers.models import Customer, PriceOverride
from tests import builders as a
from tests.approving import FINANCE, coupon, person, rule
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db
DAYS_4 = timedelta(days=4)


@pytest.fixture
def acme() -> Customer:
    return a.on(a.pro(50))


@pytest.fixture
def half() -> Coupon:
    return coupon("half", percent="50")


def needs(customer: Customer, half: Coupon, *, by: str = "Ops", **more: Any) -> ApprovalNeeded:
    with pytest.raises(ApprovalNeeded) as refused:
        apply_coupon(customer, half, reason="they asked", actor=Actor.of(person(by)), now=MARCH_16, **more)
    return refused.value


def asked(customer: Customer, half: Coupon, *, by: str = "Ops") -> ApprovalRequest:
    return ask(needs(customer, half, by=by), actor=Actor.of(person(by)), now=MARCH_16)


# Who has to be asked


def test_without_a_rule_nobody_is_asked(acme, half):
    assert apply_coupon(acme, half, actor=Actor.of(person("Ops")), now=MARCH_16).coupon == half


def test_a_coupon_above_the_threshold_is_not_applied_but_asked_for(acme, half):
    """A-53"""
    rule("coupon.applied", measure="discount", above="20")

    needed = needs(acme, half)

    assert needed.why == "A coupon with a discount above 20 % needs approval by Finance."
    assert not acme.applied_coupons.exists()


def test_at_the_threshold_nobody_is_asked(acme, half):
    rule("coupon.applied", measure="discount", above="50")

    assert apply_coupon(acme, half, actor=Actor.of(person("Ops")), now=MARCH_16)


def test_of_several_rules_the_highest_bar_that_is_exceeded_decides_who_approves(acme, half):
    rule("coupon.applied", measure="discount", above="10")
    rule("coupon.applied", measure="discount", above="40", approver="Admin")

    assert needs(acme, half).rule.approver.name == "Admin"


def test_a_rule_for_some_roles_leaves_the_others_alone(acme, half):
    rule("coupon.applied", measure="discount", above="10", for_roles=["Ops"])

    assert apply_coupon(acme, half, actor=Actor.of(person("Sales engineer")), now=MARCH_16)


def test_a_rule_for_a_role_is_met_by_a_key_of_that_role(acme, half):
    rule("coupon.applied", measure="discount", above="10", for_roles=["Ops"])
    ApiKey.issue("crm", Group.objects.get(name="Ops"), by="boss")

    with pytest.raises(ApprovalNeeded):
        apply_coupon(acme, half, actor=Actor("api:crm"), now=MARCH_16)


def test_an_amount_off_is_measured_on_the_next_invoice(acme):
    """$40 off $50 are 80 percent, however they are written."""
    rule("coupon.applied", measure="discount", above="75")
    fixed = coupon("forty", amount=4000)

    assert needs(acme, fixed).rule.measure == "discount"


def test_a_rule_in_one_currency_is_about_amounts_in_it(acme):
    rule("coupon.applied", measure="amount", above="10", currency="EUR")

    assert apply_coupon(acme, coupon("forty", amount=4000), actor=Actor.of(person("Ops")), now=MARCH_16)


def test_units_that_come_again_count_for_the_whole_year(acme):
    rule("grant.given", measure="units", above="100")
    monthly = Units(a.feature(), Decimal(10), None, "sorry", recurs="P1M")

    with pytest.raises(ApprovalNeeded):
        give_units(acme, monthly, reason="outage", actor=Actor.of(person("Ops")), now=MARCH_16)


def test_more_units_for_an_old_grant_go_by_the_rule_of_new_ones(acme):
    given = give_units(
        acme, Units(a.feature(), Decimal(10), APRIL_1, "sorry"), reason="outage", actor=a.STAFF, now=MARCH_16
    )
    rule("grant.given", measure="units", above="100")

    with pytest.raises(ApprovalNeeded):
        change_units(given, {"units": Decimal(5000)}, actor=Actor.of(person("Ops")), now=MARCH_16)

    given.refresh_from_db()
    assert given.units == 10


def test_a_check_of_the_rules_costs_one_query_where_there_are_none(acme, django_assert_num_queries):
    with django_assert_num_queries(1):
        approvals.guard_as("grant.given", actor=a.STAFF, now=MARCH_16, who=acme, wanted=None)


# Asking


def test_a_request_keeps_what_was_shown_and_until_when(acme, half):
    rule("coupon.applied", measure="discount", above="20")

    request = asked(acme, half)

    assert (request.state, request.requested_by, request.reason) == ("waiting", "ops", "they asked")
    assert request.title == "Give Acme Robotics the coupon Half"
    assert request.expires_at == MARCH_16 + timedelta(hours=72)
    assert {"label": "Begins", "after": "From the next invoice"}.items() <= request.shown["effects"][2].items()


def test_asking_twice_is_one_request(acme, half):
    rule("coupon.applied", measure="discount", above="20")

    assert asked(acme, half) == asked(acme, half)


def test_the_same_asked_by_somebody_else_is_another_request(acme, half):
    rule("coupon.applied", measure="discount", above="20")

    assert asked(acme, half) != asked(acme, half, by="Sales engineer")


def test_a_request_that_ran_out_makes_room_for_the_next(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    first, needed = asked(acme, half), needs(acme, half)

    second = ask(needed, actor=Actor.of(person("Ops")), now=MARCH_16 + DAYS_4)

    first.refresh_from_db()
    assert (first.state, second.state, first == second) == ("expired", "waiting", False)


def test_those_who_can_decide_are_told_by_mail_after_the_commit(acme, half, django_capture_on_commit_callbacks):
    rule("coupon.applied", measure="discount", above="20")
    person(FINANCE)

    with django_capture_on_commit_callbacks(execute=True):
        request = asked(acme, half)

    [sent] = mail.outbox
    assert sent.to == ["finance@desk.example"]
    assert "Give Acme Robotics the coupon Half" in sent.body and request.public_id in sent.body


# Approving


def test_what_is_approved_is_done_in_the_name_of_whoever_asked(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    decided = approve(request, user=person(FINANCE), now=MARCH_16)

    line = acme.operations.get(verb="coupon.applied")
    assert (decided.state, decided.operation) == ("applied", line)
    assert (line.actor, line.approved_by, line.approval, line.reason) == (
        "ops",
        "finance",
        request.public_id,
        "they asked",
    )


def test_nobody_approves_what_they_asked_for(acme, half):
    """A-53"""
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half, by=FINANCE)

    with pytest.raises(MayNotDecide, match="somebody else"):
        approve(request, user=person(FINANCE), now=MARCH_16)


def test_nobody_approves_what_a_key_of_theirs_asked_for(acme, half):
    """A-53"""
    rule("coupon.applied", measure="discount", above="20")
    key, _ = ApiKey.issue("crm", Group.objects.get(name="Admin"), by="finance")
    actor = Actor("api:crm")
    with pytest.raises(ApprovalNeeded) as needed:
        apply_coupon(acme, half, actor=actor, now=MARCH_16)
    request = ask(needed.value, actor=actor, key=key, now=MARCH_16)

    with pytest.raises(MayNotDecide, match="yourself"):
        approve(request, user=person(FINANCE), now=MARCH_16)

    assert waiting_for(person(FINANCE), MARCH_16) == 0


@pytest.mark.parametrize("role", ["Ops", "Sales engineer", "Read-only"])
def test_a_role_without_the_permission_approves_nothing(acme, half, role):
    """A-53"""
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    with pytest.raises(MayNotDecide):
        approve(request, user=person(role, called="colleague"), now=MARCH_16)


def test_another_role_than_the_rule_names_approves_nothing(acme, half):
    rule("coupon.applied", measure="discount", above="20", approver="Admin")
    request = asked(acme, half)

    with pytest.raises(MayNotDecide, match="Only Admin"):
        approve(request, user=person(FINANCE), now=MARCH_16)


def test_a_superuser_approves_in_the_place_of_any_role(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    assert approve(request, user=User.objects.create_superuser("boss"), now=MARCH_16).state == "applied"


def test_another_plan_meanwhile_outdates_a_special_price(acme):
    """Law 4"""
    rule("price.overridden", measure="discount", above="20")
    with pytest.raises(ApprovalNeeded) as needed:
        a.special_price(acme, amount=1000, now=MARCH_16)
    request = ask(needed.value, actor=Actor.of(person("Sales engineer")), now=MARCH_16)
    a.enable(acme, a.team(), now=MARCH_16)

    decided = approve(request, user=person(FINANCE), now=MARCH_16)

    assert decided.state == "outdated" and "Team" in decided.answer
    assert not PriceOverride.objects.exists()


def test_a_coupon_that_gives_more_than_was_shown_is_outdated(acme, half):
    """Law 4"""
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)
    Coupon.objects.filter(pk=half.pk).update(percent=Decimal(90))

    decided = approve(request, user=person(FINANCE), now=MARCH_16)

    assert (decided.state, decided.answer) == (
        "outdated",
        "Since it was asked for, this moved: Gives: 50 % off, one invoice → 90 % off, one invoice.",
    )
    assert not acme.applied_coupons.exists()


def test_a_refusal_of_the_verb_leaves_the_request_waiting(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)
    Coupon.objects.filter(pk=half.pk).update(archived_at=MARCH_16)

    with pytest.raises(Exception, match="no longer given out"):
        approve(request, user=person(FINANCE), now=MARCH_16)

    request.refresh_from_db()
    assert request.state == "waiting"


def test_it_is_not_done_for_somebody_who_lost_the_right_meanwhile(acme, half):
    """A-53"""
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)
    person("Ops").groups.clear()

    with pytest.raises(MayNoLonger):
        approve(request, user=person(FINANCE), now=MARCH_16)


def test_it_is_not_done_for_a_key_that_was_revoked_meanwhile(acme, half):
    """A-53"""
    rule("coupon.applied", measure="discount", above="20")
    key, _ = ApiKey.issue("crm", Group.objects.get(name="Ops"), by="boss")
    with pytest.raises(ApprovalNeeded) as needed:
        apply_coupon(acme, half, actor=Actor("api:crm"), now=MARCH_16)
    request = ask(needed.value, actor=Actor("api:crm"), key=key, now=MARCH_16)
    ApiKey.objects.update(revoked_at=MARCH_16)

    with pytest.raises(MayNoLonger):
        approve(request, user=person(FINANCE), now=MARCH_16)


def test_what_was_decided_is_not_decided_again(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)
    approve(request, user=person(FINANCE), now=MARCH_16)

    request.refresh_from_db()
    with pytest.raises(NotWaiting, match="approved and done by finance"):
        approve(request, user=person("Admin"), now=MARCH_16)


def test_what_expired_is_not_approved_even_before_the_clockwork_has_said_so(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    with pytest.raises(NotWaiting, match="expired"):
        approve(request, user=person(FINANCE), now=MARCH_16 + DAYS_4)


def test_whoever_asked_is_told_that_it_was_done(acme, half, django_capture_on_commit_callbacks):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    with django_capture_on_commit_callbacks(execute=True):
        approve(request, user=person(FINANCE), now=MARCH_16)

    assert [(sent.to, sent.subject) for sent in mail.outbox] == [
        (["ops@desk.example"], "Approved: Give Acme Robotics the coupon Half")
    ]


@pytest.mark.django_db(transaction=True)
def test_two_who_approve_at_once_do_it_once():
    finance, _ = Group.objects.get_or_create(name=FINANCE)
    ops, _ = Group.objects.get_or_create(name="Ops")
    for group, codename in ((finance, "decide_approval"), (ops, "apply_coupon")):
        group.permissions.add(Permission.objects.get(codename=codename))
    rule("coupon.applied", measure="discount", above="20")
    acme = a.customer()
    request = asked(acme, coupon("half", percent="50"))
    deciders = [person(FINANCE, called="one"), person(FINANCE, called="two")]

    def decide(user: User) -> str:
        try:
            return approve(ApprovalRequest.objects.get(pk=request.pk), user=user, now=MARCH_16).state
        except NotWaiting:
            return "too late"
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(decide, deciders)) == ["applied", "too late"]
    assert acme.applied_coupons.count() == 1


# Refusing, withdrawing, expiring


def test_a_refusal_takes_a_reason_and_tells_it(acme, half, django_capture_on_commit_callbacks):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    with django_capture_on_commit_callbacks(execute=True):
        refuse(request, reason="too much", user=person(FINANCE), now=MARCH_16)

    request.refresh_from_db()
    assert (request.state, request.answer, request.decided_by) == ("refused", "too much", "finance")
    assert "Reason given: too much" in mail.outbox[0].body
    assert acme.operations.get(verb="approval.refused").reason == "too much"


def test_a_refusal_without_a_reason_is_none(acme, half):
    """Law 10"""
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    with pytest.raises(ReasonRequired):
        refuse(request, reason=" ", user=person(FINANCE), now=MARCH_16)


def test_only_whoever_asked_withdraws(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    with pytest.raises(NotTheirs):
        withdraw(request, actor=Actor.of(person(FINANCE)), now=MARCH_16)

    assert withdraw(request, actor=Actor.of(person("Ops")), now=MARCH_16).state == "withdrawn"


def test_the_clockwork_closes_what_ran_out_once(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    request = asked(acme, half)

    assert [expire_due(now=MARCH_16 + DAYS_4), expire_due(now=MARCH_16 + DAYS_4)] == [1, 0]

    request.refresh_from_db()
    assert (request.state, request.decided_by) == ("expired", "")


def test_the_pass_of_the_clockwork_counts_what_it_closed(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    asked(acme, half)

    assert approvals_pass(now=MARCH_16 + DAYS_4).done == 1


def test_only_those_who_can_decide_have_it_waiting(acme, half):
    rule("coupon.applied", measure="discount", above="20")
    asked(acme, half)
    boss = User.objects.create_superuser("boss")

    who = {"Finance": person(FINANCE), "Admin": person("Admin"), "Ops": person("Ops"), "boss": boss}
    assert {name: waiting_for(user, MARCH_16) for name, user in who.items()} == {
        "Finance": 1,
        "Admin": 0,
        "Ops": 0,
        "boss": 1,
    }


def test_the_words_of_an_erased_customer_are_gone_from_what_was_asked_about_them(half):
    """A-52"""
    rule("coupon.applied", measure="discount", above="20")
    acme = a.customer()
    request = asked(acme, half)
    Customer.objects.filter(pk=acme.pk).update(closed_at=MARCH_16, erase_at=APRIL_1)

    erase_due(now=APRIL_1)

    request.refresh_from_db()
    assert "Acme" not in f"{request.title} {request.shown}"


# What moves by itself outdates nothing


def test_use_that_goes_on_does_not_outdate_a_balance_edit(acme):
    rule("balance.edited", measure="units", above="100")
    edit = Wanted("credits", Decimal(500), total=True)
    with pytest.raises(ApprovalNeeded) as needed:
        set_balance(acme, edit, reason="outage", actor=Actor.of(person("Ops")), now=MARCH_16)
    request = ask(needed.value, actor=Actor.of(person("Ops")), now=MARCH_16)
    a.use(acme, 7, now=MARCH_16)

    assert approve(request, user=person(FINANCE), now=MARCH_16).state == "applied"
    assert a.left(acme, now=MARCH_16) == 500


def test_a_custom_plan_below_list_is_enabled_as_it_was_asked_for(acme):
    rule("plan.enabled", measure="discount", above="20")
    items = (a.fee(30), a.allowance(250))
    with pytest.raises(ApprovalNeeded) as needed:
        a.enable(a.customer("Globex"), a.reread(acme_plan(acme)), *items, now=MARCH_16)
    request = ask(needed.value, actor=Actor.of(person("Sales engineer")), now=MARCH_16)

    decided = approve(request, user=person(FINANCE), now=MARCH_16 + timedelta(hours=2))

    assert decided.state == "applied"
    globex = Customer.objects.get(name="Globex")
    assert a.the_subscription(globex).phases.get().terms().item("base").amount == 30


def acme_plan(acme: Customer) -> Any:
    return a.the_subscription(acme).phases.get().version.plan


def test_a_custom_plan_that_only_gives_more_needs_nobody(acme):
    rule("plan.enabled", measure="discount", above="0")

    assert a.enable(a.customer("Globex"), acme_plan(acme), a.fee(60), a.allowance(100), now=MARCH_16)


def test_who_has_a_cheaper_plan_already_gets_no_new_discount(acme):
    globex = a.customer("Globex")
    a.enable(globex, acme_plan(acme), a.fee(30), a.allowance(250), now=MARCH_1)
    rule("plan.enabled", measure="discount", above="20")

    again = a.enable(globex, acme_plan(acme), a.fee(30), a.allowance(250), quantity=2, now=MARCH_16)

    assert again.subscription.customer == globex


# Rules


def test_every_rule_is_said_as_a_sentence():
    found = rule("coupon.applied", measure="amount", above="250.50", currency="USD", for_roles=["Ops"])

    assert said(found) == "A coupon with an amount above 250.5 USD needs approval by Finance. Asked of Ops."


def test_rules_that_cannot_be_are_refused_at_their_field():
    finance, ops = Group.objects.get(name=FINANCE), Group.objects.get(name="Ops")
    wrong = {
        "act": RuleTerms("coupon.eaten", finance),
        "measure": RuleTerms("customer.closed", finance, measure="units", above=Decimal(1)),
        "above": RuleTerms("coupon.applied", finance, measure="discount", above=Decimal(100)),
        "currency": RuleTerms("coupon.applied", finance, measure="discount", above=Decimal(10), currency="USD"),
        "expires_hours": RuleTerms("coupon.applied", finance, expires_hours=0),
        "approver": RuleTerms("coupon.applied", ops),
    }
    refused = {}
    for field, terms in wrong.items():
        with pytest.raises(BadRule) as error:
            write_rule(terms, actor=a.STAFF, now=MARCH_16)
        refused[field] = error.value.field

    assert refused == {field: field for field in wrong}


def test_a_rule_that_is_switched_off_asks_nobody(acme, half):
    found = rule("coupon.applied", measure="discount", above="20")
    switch_rule(found, on=False, actor=a.STAFF, now=MARCH_16)

    assert apply_coupon(acme, half, actor=Actor.of(person("Ops")), now=MARCH_16)
    assert not ApprovalRule.objects.get().is_active


def test_every_act_says_what_it_is_and_what_can_be_measured():
    for kind in ACTS.values():
        assert kind.title and kind.permissions and all(kind.measures.values())
    assert "grant.changed" in ACTS and "grant.changed" not in ruled_acts()
