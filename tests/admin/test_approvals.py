"""Approvals on the desk: the inbox with its count, one request with what moved, decisions, and the rules."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from billing_admin.flows.approvals import ApprovalNeeded, approve, ask
from billing_admin.flows.rewards import apply_coupon
from billing_admin.models import ApprovalRequest, ApprovalRule
from catalog.models import Coupon
from customers.journal import Actor
from customers.models import Customer
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.approving import FINANCE, coupon, person, rule
from tests.instants import MARCH_16, day

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Customer:
    coupon("half", percent="50")
    rule("coupon.applied", measure="discount", above="20")
    return a.on(a.pro(50))


def asked(who: Customer, *, by: str = "Ops", code: str = "half") -> ApprovalRequest:
    actor = Actor.of(person(by))
    with pytest.raises(ApprovalNeeded) as needed:
        apply_coupon(who, code, reason="they asked", actor=actor, now=MARCH_16)
    return ask(needed.value, actor=actor, now=MARCH_16)


def at(client: Client, role: str, now=MARCH_16) -> CustomerDesk:
    person(role)
    return CustomerDesk(client, role=role, now=now)


def titles(page: Page) -> list[str]:
    return [row.request.title for row in page.answer.context["rows"]]


# The inbox


def test_what_waits_for_me_stands_in_the_inbox_with_who_asks_and_why(acme, client):
    asked(acme)

    page = at(client, FINANCE).get("approvals")

    assert titles(page) == ["Give Acme Robotics the coupon Half"]
    assert "they asked" in page.text and "ops" in page.text


def test_a_request_of_two_roles_names_both_in_the_inbox_and_on_its_page(acme, client):
    """A-53"""
    rule("coupon.applied", measure="amount", above="10", approver="Admin")
    coupon("forty", amount=4000)
    request = asked(acme, code="forty")

    desk = at(client, "Read-only")

    assert "Admin and Finance" in desk.get("approvals", shown="waiting").text
    assert "Asked of Admin and Finance" in desk.get("approval", request.public_id).text


def test_what_i_asked_for_myself_does_not_wait_for_me(acme, client):
    """A-53"""
    asked(acme, by=FINANCE)
    desk = at(client, FINANCE)

    assert titles(desk.get("approvals")) == []
    assert titles(desk.get("approvals", shown="asked")) == ["Give Acme Robotics the coupon Half"]


def test_the_sidebar_counts_what_waits_for_those_who_may_decide(acme, client):
    asked(acme)

    def badge(role: str) -> object:
        groups = at(client, role).get("approvals").answer.context["sidebar_navigation"]
        [entry] = [item for group in groups for item in group["items"] if item["title"] == "Approvals"]
        return entry.get("badge")

    assert (badge(FINANCE), badge("Admin"), badge("Ops")) == (1, None, None)


def test_what_was_decided_leaves_the_inbox_and_stays_in_the_list(acme, client):
    approve(asked(acme), user=person(FINANCE), now=MARCH_16)
    desk = at(client, FINANCE)

    assert titles(desk.get("approvals")) == []
    assert titles(desk.get("approvals", shown="decided")) == ["Give Acme Robotics the coupon Half"]


def test_the_inbox_stays_within_its_queries(acme, client, django_assert_max_num_queries):
    for number in range(12):
        asked(acme, code=coupon(f"half{number}", percent="50").code)
    desk = at(client, FINANCE)
    desk.get("approvals")

    with django_assert_max_num_queries(12):
        assert len(titles(desk.get("approvals"))) == 12


# One request


def test_a_request_shows_what_it_would_do_as_it_was_and_as_it_is_now(acme, client):
    request = asked(acme)
    Coupon.objects.update(percent=Decimal(90))

    page = at(client, FINANCE).get("approval", request.public_id)

    [moved] = [row for row in page.answer.context["present"].rows if row.is_moved]
    assert (moved.label, moved.was, moved.now) == ("Gives", "50 % off, one invoice", "90 % off, one invoice")
    assert "whoever asked has to ask again" in page.text


def test_the_one_who_decides_sees_the_rule_the_reason_and_until_when(acme, client):
    request = asked(acme)

    page = at(client, FINANCE).get("approval", request.public_id)

    assert "A coupon with a discount above 20 % needs approval by Finance." in page.text
    assert "they asked" in page.text and "19 Mar 2026" in page.text
    assert page.answer.context["may_decide"] and not page.answer.context["may_withdraw"]


def test_the_one_who_asked_sees_that_they_can_only_withdraw(acme, client):
    request = asked(acme)

    context = at(client, "Ops").get("approval", request.public_id).answer.context

    assert (context["may_decide"], context["may_withdraw"]) == (False, True)


def test_it_says_when_it_cannot_be_done_as_things_stand(acme, client):
    request = asked(acme)
    Coupon.objects.update(archived_at=MARCH_16)

    assert "no longer given out" in at(client, FINANCE).get("approval", request.public_id).text


def test_a_request_page_stays_within_its_queries(acme, client, django_assert_max_num_queries):
    request = asked(acme)
    desk = at(client, FINANCE)
    desk.get("approval", request.public_id)

    with django_assert_max_num_queries(45):  # the preview of a coupon draws the next invoices twice
        desk.get("approval", request.public_id)


# Deciding


def test_an_approval_does_it_and_the_history_says_who_approved(acme, client):
    request = asked(acme)
    desk = at(client, FINANCE)

    done = desk.post("approval_approve", request.public_id)

    request.refresh_from_db()
    assert done.went_on and request.state == "applied"
    assert acme.applied_coupons.exists()
    assert "approved by finance" in desk.get("customers_operation_changelist").text


def test_what_moved_is_not_done_and_the_page_says_so(acme, client):
    request = asked(acme)
    Coupon.objects.update(percent=Decimal(90))
    desk = at(client, FINANCE)

    desk.post("approval_approve", request.public_id)

    assert "Outdated: ask again by finance" in desk.get("approval", request.public_id).text
    assert not acme.applied_coupons.exists()


def test_a_refusal_of_the_verb_is_shown_and_the_request_waits(acme, client):
    request = asked(acme)
    Coupon.objects.update(archived_at=MARCH_16)

    page = at(client, FINANCE).post("approval_approve", request.public_id)

    request.refresh_from_db()
    assert "no longer given out" in page.text and request.state == "waiting"


def test_a_refusal_takes_a_reason(acme, client):
    request = asked(acme)
    desk = at(client, FINANCE)

    assert list(desk.post("approval_refuse", request.public_id, reason="").errors) == ["reason"]
    desk.post("approval_refuse", request.public_id, reason="too much")

    request.refresh_from_db()
    assert (request.state, request.answer) == ("refused", "too much")


def test_the_one_who_asked_withdraws(acme, client):
    request = asked(acme)

    at(client, "Ops").post("approval_withdraw", request.public_id)

    request.refresh_from_db()
    assert request.state == "withdrawn"


def test_nobody_decides_what_they_asked_for_themselves(acme, client):
    """A-53"""
    request = asked(acme, by=FINANCE)

    page = at(client, FINANCE).post("approval_approve", request.public_id)

    request.refresh_from_db()
    assert "somebody else has to decide it" in page.text and request.state == "waiting"


@pytest.mark.parametrize("act", ["approval_approve", "approval_refuse"])
@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_who_may_not_decide_reaches_neither_dialog_nor_act(acme, client, role, act):
    """A-53"""
    request = asked(acme, by="Ops" if role != "Ops" else "Sales engineer")
    desk = at(client, role)

    assert desk.get(act, request.public_id).status == 403
    assert desk.post(act, request.public_id, reason="mine").status == 403


def test_what_expired_can_no_longer_be_approved(acme, client):
    request = asked(acme)

    page = at(client, FINANCE, now=day("2026-03-20")).post("approval_approve", request.public_id)

    assert "does not wait any more: it is expired" in page.text


# Rules


def typed(**said: str) -> dict[str, object]:
    finance = Group.objects.get(name=FINANCE).pk
    return {
        "act": "grant.given",
        "measure": "units",
        "above": "1000",
        "currency": "",
        "approver": str(finance),
        "expires_hours": "24",
    } | said


def test_a_rule_is_added_changed_and_switched_off(client):
    desk = at(client, "Admin")

    desk.post("approval_rule_new", **typed())
    [made] = ApprovalRule.objects.all()
    desk.post("approval_rule", made.pk, **typed(above="2000"))
    desk.post("approval_rule_switch", made.pk)

    made.refresh_from_db()
    assert (made.above, made.expires_hours, made.is_active) == (2000, 24, False)
    assert "A grant with more than 2,000 units needs approval by Finance." in desk.get("approval_rules").text


def test_a_rule_can_count_acts_of_some_hours_together(client):
    """A-53"""
    desk = at(client, "Admin")
    said = typed(act="invoice_credit.given", measure="amount", above="100", currency="USD")

    desk.post("approval_rule_new", **said, within_hours="24")
    [made] = ApprovalRule.objects.all()

    assert made.within_hours == 24
    assert desk.get("approval_rule", made.pk).answer.context["form"].initial["within_hours"] == 24
    assert "above 100 USD, alone or together with others within 24 hours," in desk.get("approval_rules").text
    assert list(
        desk.post("approval_rule_new", **typed(act="trial.extended", measure="days"), within_hours="24").errors
    ) == ["within_hours"]


def test_the_rules_offer_every_act_in_plain_words(client):
    page = at(client, "Admin").get("approval_rule_new").text

    for title in ("Voiding an invoice", "A new or longer trial", "Pausing collection", "A feature override"):
        assert title in page


def test_a_rule_that_cannot_be_is_refused_at_its_field(client):
    desk = at(client, "Admin")

    assert list(desk.post("approval_rule_new", **typed(act="customer.closed")).errors) == ["measure"]
    assert list(desk.post("approval_rule_new", **typed(above="")).errors) == ["above"]
    assert not ApprovalRule.objects.exists()


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer", "Finance"])
def test_rules_are_the_admins(client, role):
    """A-53"""
    made = rule("customer.closed")
    desk = at(client, role)

    pages = [("approval_rules",), ("approval_rule_new",), ("approval_rule", made.pk), ("approval_rule_switch", made.pk)]
    assert {desk.get(*page).status for page in pages} == {403}


def test_a_dialog_that_needs_approval_keeps_what_was_typed(acme, client):
    said = {"code": "half", "at": "next_invoice", "subscription": "", "reason": "they asked"}

    page = at(client, "Ops").post("customer_coupon", acme.pk, dialog=True, **said)

    assert 'hx-target="#desk-dialog"' in page.html
    assert '<input type="hidden" name="code" value="half">' in page.html
    assert "Ask for approval" in page.text


def test_a_customers_page_counts_along_without_a_question_more(acme, client):
    asked(acme)

    def badge(role: str) -> object:
        groups = at(client, role).page(acme).answer.context["sidebar_navigation"]
        [entry] = [item for group in groups for item in group["items"] if item["title"] == "Approvals"]
        return entry.get("badge")

    assert (badge(FINANCE), badge("Ops")) == (1, None)
