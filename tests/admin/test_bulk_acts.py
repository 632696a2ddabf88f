"""One act for many customers: ticked in the list or all that match, tried, confirmed, taken back together."""

from typing import Any

import pytest
import time_machine
from django.test import Client

from billing_admin.flows import batches
from billing_admin.models import Batch
from customers.models import AppliedCoupon, Customer, Note
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.flows.coupon_world import percent

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client)


def tried(desk: CustomerDesk, kind: str, *customers: Customer, **said: Any) -> Page:
    return desk.post("bulk", kind, **{"customer": [who.pk for who in customers], "reason": "the outage"} | said)


def the_batch() -> Batch:
    return Batch.objects.latest("id")


def confirmed(desk: CustomerDesk) -> Page:
    url = desk.get("batch", the_batch().public_id).answer.context["confirm_url"]
    with time_machine.travel(desk.now, tick=False):
        return Page(desk.client.post(url))


def states() -> list[str]:
    return [row.state for row in the_batch().rows.all()]


def units(**said: Any) -> dict[str, Any]:
    return {"feature": "credits", "units": "50", "until": "2027-01-01", "label": "", "recurs": ""} | said


def test_units_are_given_to_those_who_were_ticked(desk):
    """L-30"""
    plan = a.pro()
    one, two, other = (a.on(plan, name=name) for name in ("Acme", "Globex", "Initech"))

    tried(desk, "grants", one, two, **units())
    assert a.left(one, now=desk.now) == 100
    confirmed(desk)

    assert [a.left(who, now=desk.now) for who in (one, two, other)] == [150, 150, 100]
    assert the_batch().title == "2 customers, chosen in the list"


def test_all_that_match_the_filter_are_meant_as_they_are_now(desk):
    plan = a.pro()
    one = a.on(plan, name="Acme one")
    a.on(plan, name="Globex")

    tried(desk, "notes", all="1", query="q=acme&before=1", text="Called.")
    late = a.customer("Acme late")
    confirmed(desk)

    assert set(Note.objects.values_list("customer", flat=True)) == {one.pk}
    assert not late.notes.exists()
    assert the_batch().title == "1 customer: all that match q=acme"


def test_a_coupon_is_applied_and_who_has_it_already_is_left_out(desk):
    made = percent()
    plan = a.pro()
    one, has = a.on(plan, name="Acme"), a.on(plan, name="Globex")
    tried(desk, "coupons", has, coupon=made.code, at="next_invoice")
    confirmed(desk)

    tried(desk, "coupons", one, has, coupon=made.code, at="next_invoice")
    page = desk.get("batch", the_batch().public_id)
    confirmed(desk)

    assert "already" in page.text
    assert sorted(states()) == ["done", "left_out"]
    assert AppliedCoupon.objects.count() == 2


def test_a_batch_is_taken_back_together(desk):
    """L-30"""
    plan = a.pro()
    one, two = a.on(plan, name="Acme"), a.on(plan, name="Globex")
    tried(desk, "grants", one, two, **units())
    confirmed(desk)

    desk.post("batch_take_back", the_batch().public_id, reason="the wrong list")

    assert [a.left(who, now=desk.now) for who in (one, two)] == [100, 100]
    assert (states(), the_batch().state) == (["taken_back", "taken_back"], "taken_back")


def test_what_cannot_be_taken_back_is_kept_and_told(desk):
    one, two = a.on(a.pro(), name="Acme"), a.customer("Globex")
    tried(desk, "grants", one, two, **units())
    confirmed(desk)
    Customer.objects.filter(pk=two.pk).update(closed_at=desk.now)

    desk.post("batch_take_back", the_batch().public_id, reason="the wrong list")
    page = desk.get("batch", the_batch().public_id)

    assert sorted(states()) == ["kept", "taken_back"]
    assert "This customer is closed." in page.text


def test_taking_back_takes_a_reason(desk):
    tried(desk, "notes", a.customer(), text="Called.")
    confirmed(desk)

    refused = desk.post("batch_take_back", the_batch().public_id, reason="")

    assert "reason" in refused.errors and the_batch().state == "finished"


def test_what_is_wrong_stands_at_its_field(desk):
    """L-06"""
    a.feature("credits")

    page = tried(desk, "grants", a.customer(), **units(units="many", until="soon"))

    assert set(page.errors) == {"units", "until"}
    assert not Batch.objects.exists()


def test_nobody_chosen_is_said(desk):
    page = desk.get("bulk", "notes")

    assert "Nobody is chosen" in page.text


def test_a_batch_that_is_stopped_does_no_more_rows_until_it_goes_on(desk):
    people = [a.customer(f"Customer {n}") for n in range(40)]
    tried(desk, "notes", *people, text="Called.")
    confirmed(desk)
    batch = the_batch()
    assert batch.state == "running"
    for _ in range(10):
        batches.step(batch, desk.now)

    desk.post("batch_turn", batch.public_id, do="stop")
    batches.step(batch, desk.now)
    assert Note.objects.count() == 10
    desk.post("batch_turn", batch.public_id, do="resume")
    batch.refresh_from_db()
    batches.go_on(batch, clock=lambda: desk.now, until=desk.now + batches.A_MOMENT)

    assert (Note.objects.count(), the_batch().state) == (40, "finished")


def test_the_list_offers_what_somebody_may_do_to_many(client):
    """A-53"""
    a.customer()
    ops = CustomerDesk(client, role="Ops").get("customers_customer_changelist").html
    reader = CustomerDesk(client, role="Read-only").get("customers_customer_changelist").html

    assert 'formaction="/bulk/notes/"' in ops and 'formaction="/bulk/overrides/"' not in ops
    assert "formaction" not in reader
    assert CustomerDesk(client, role="Read-only").get("bulk", "notes").status == 403


def test_overrides_of_all_that_match_go_to_their_own_page(desk):
    one = a.customer("Acme")
    a.customer("Globex")

    went = desk.get("bulk", "overrides", all="1", query="q=acme")

    assert went.answer.headers["Location"] == f"/overrides/many/?customer={one.pk}"


def test_more_than_the_page_of_overrides_takes_is_refused_not_cut(desk, monkeypatch):
    monkeypatch.setattr("billing_admin.admin.batches.MOST_OVERRIDDEN", 1)
    a.customer("Acme")
    a.customer("Globex")

    went = desk.get("bulk", "overrides", all="1", query="")

    assert went.answer.headers["Location"] == "/customers/customer/?"


def test_what_was_done_is_taken_back_though_failed_rows_wait_to_be_confirmed(desk):
    one, two = a.customer("Acme"), a.customer("Globex")
    a.feature("credits")
    tried(desk, "grants", one, two, **units())
    Customer.objects.filter(pk=two.pk).update(closed_at=desk.now)
    confirmed(desk)
    assert sorted(states()) == ["done", "failed"]
    desk.post("batch_turn", the_batch().public_id, do="retry")

    desk.post("batch_take_back", the_batch().public_id, reason="the wrong list")

    assert sorted(states()) == ["left_out", "taken_back"]
