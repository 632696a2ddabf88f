"""Undo on the desk: who is offered it, what the dialog says, what it does."""

from decimal import Decimal

import pytest
from django.test import Client

from customers.models import Customer, Operation
from entitlements.edit import edit_balance
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.flows.undo_world import last
from tests.instants import MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Ops")


def edited(who: Customer) -> Operation:
    operation, _ = edit_balance(
        who, feature="credits", to=Decimal(250), reason="outage on 3 Mar", actor=a.STAFF, now=MARCH_16
    )
    return operation


def confirm(desk: CustomerDesk, operation: Operation, reason: str = "a slip") -> Page:
    shown = desk.get("operation_undo", operation.public_id, dialog=True)
    confirmed = shown.answer.context["confirmed"]
    return desk.post("operation_undo", operation.public_id, dialog=True, reason=reason, confirmed=confirmed)


def test_the_dialog_says_what_it_was_who_did_it_and_what_changes(desk):
    who = a.on(a.pro())
    a.use(who, 10, now=MARCH_16)

    text = desk.get("operation_undo", edited(who).public_id, dialog=True).text

    assert "Set Credits to 250 left (was 90) · Acme Robotics" in text
    assert "“outage on 3 Mar”" in text
    assert "Credits 250 left, resets 1 Apr 2026 90 left of 100, resets 1 Apr 2026" in text
    assert "What stays as it is 10 Credits were used in this window; they stay used." in text
    assert "Take back: Set Credits to 250 left (was 90)" in text


def test_the_dialog_works_as_a_page_without_scripts(desk):
    page = desk.get("operation_undo", edited(a.on(a.pro())).public_id)

    assert "<html" in page.html and 'name="reason"' in page.html


def test_confirming_takes_the_act_back_and_says_why(desk):
    who = a.on(a.pro())
    operation = edited(who)

    assert confirm(desk, operation).went_on

    made = last(who)
    assert (made.reverses, made.reason, a.left(who, now=MARCH_16)) == (operation, "a slip", 100)


def test_a_reason_is_asked_for(desk):
    who = a.on(a.pro())

    page = confirm(desk, edited(who), reason="")

    assert (page.errors["reason"], a.left(who, now=MARCH_16)) == (["This field is required."], 250)


def test_what_moved_meanwhile_is_shown_again(desk):
    who = a.on(a.pro())
    operation = edited(who)
    page = desk.post("operation_undo", operation.public_id, dialog=True, reason="a slip", confirmed="of yesterday")

    assert (page.status, a.left(who, now=MARCH_16)) == (200, 250)
    assert "Look at it again" in page.text


def test_an_act_that_stays_says_why_and_links_its_invoice(client):
    desk = CustomerDesk(client, role="Finance")
    who = a.on(a.pro())

    page = desk.get("operation_undo", last(who, "payment.received").public_id, dialog=True)

    assert "This act stays" in page.text and "Open ACME-0001" in page.text
    assert 'name="reason"' not in page.html


@pytest.mark.parametrize("role", ["Read-only", "Finance"])
def test_neither_dialog_nor_post_works_without_the_permission_of_the_act(client, role: str):
    """A-53"""
    desk = CustomerDesk(client, role=role)
    who = a.on(a.pro())
    operation = edited(who)

    codes = {
        desk.get("operation_undo", operation.public_id).status,
        desk.get("operation_undo", operation.public_id, dialog=True).status,
        desk.post("operation_undo", operation.public_id, reason="a slip").status,
    }

    assert (codes, a.left(who, now=MARCH_16)) == ({403}, 250)


def test_the_history_offers_undo_to_those_who_may_only(client):
    """A-53"""
    who = a.on(a.pro())
    address = f"/{edited(who).public_id}/undo/"

    assert address in CustomerDesk(client, role="Ops").page(who).html
    assert address not in CustomerDesk(client, role="Read-only").page(who).html


def test_an_act_that_was_taken_back_says_by_whom_and_both_are_linked(desk):
    who = a.on(a.pro())
    operation = edited(who)
    confirm(desk, operation)

    page = desk.page(who)

    assert f"/{operation.public_id}/undo/" not in page.html
    assert f"q={operation.public_id}" in page.html and f"q={last(who).public_id}" in page.html
    assert f"Taken back by {last(who).actor}" in page.text


def test_the_journal_of_everybody_offers_it_too_and_stays_within_its_queries(desk, django_assert_max_num_queries):
    who = a.on(a.pro())
    for _ in range(12):
        edited(who)

    with django_assert_max_num_queries(12):
        page = desk.get("customers_operation_changelist")

    assert page.html.count("/undo/") >= 12


def test_an_act_that_is_not_there_is_not_found(desk):
    assert desk.get("operation_undo", "op_nothing").status == 404
