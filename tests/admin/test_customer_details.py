"""Who a customer is: new, details, notes, deletion and its way back."""

from typing import Any

import pytest
from django.test import Client

from billing_admin.flows.cancel import cancel
from customers.models import Customer
from invoicing.issue import void
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk, Page
from tests.instants import MARCH_1, MARCH_16, day

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Ops")


# New ------------------------------------------------------------------------------------------------------------------


def create(desk: CustomerDesk, **said: Any) -> Page:
    return desk.post("customers_customer_add", **{"name": "Acme", "customer_id": "acme", "email": "", **said})


def test_a_new_customer_leads_to_their_page(desk):
    page = create(desk, email="ops@acme.example")

    who = Customer.objects.get()
    assert page.answer.url == f"/customers/customer/{who.pk}/"
    assert (who.name, who.customer_id, who.email, who.created_at) == ("Acme", "acme", "ops@acme.example", MARCH_16)


def test_a_bad_mail_is_refused_beside_the_field(desk):
    """A-51"""
    assert list(create(desk, email="ops@").errors) == ["email"]
    assert not Customer.objects.exists()


def test_an_id_that_exists_is_refused_beside_the_field(desk):
    """A-51"""
    a.customer(customer_id="acme")

    assert list(create(desk).errors) == ["customer_id"]


def test_an_id_with_spaces_is_refused_beside_the_field(desk):
    assert list(create(desk, customer_id="acme robotics").errors) == ["customer_id"]


# Details --------------------------------------------------------------------------------------------------------------


def change(desk: CustomerDesk, who: Customer, field: str, value: str) -> Page:
    return desk.post("customer_detail", who.pk, field, **{field: value, "reason": ""})


@pytest.mark.parametrize(
    ("field", "value"), [("name", "Acme Ltd"), ("email", "new@acme.example"), ("customer_id", "acme:2"), ("email", "")]
)
def test_a_detail_is_changed_and_stands_in_the_history(desk, field, value):
    """A-51"""
    who = a.customer()

    assert change(desk, who, field, value).went_on

    who.refresh_from_db()
    assert getattr(who, field) == value
    assert who.operations.newest()[0].inputs[field]["to"] == value


@pytest.mark.parametrize(("field", "value"), [("email", "nonsense"), ("customer_id", "taken"), ("name", "")])
def test_a_wrong_detail_is_refused_beside_its_field(desk, field, value):
    """A-51"""
    a.customer("Other", customer_id="taken")
    who = a.customer()

    page = change(desk, who, field, value)

    assert list(page.errors) == [field]
    assert not who.operations.exists()


def test_usage_that_starts_in_the_future_is_refused_beside_its_field(desk):
    """P-29"""
    assert list(change(desk, a.customer(), "usage_started_at", "2027-01-01T00:00").errors) == ["usage_started_at"]


def test_a_moved_start_of_usage_moves_open_windows_and_counts_again(desk):
    """P-29"""
    a.default(a.allowance(100))
    who = a.customer(since=MARCH_1)
    a.use(who, 3, now=day("2026-03-05"))
    a.use(who, 4, now=day("2026-03-12"))

    change(desk, who, "usage_started_at", "2026-01-10T00:00")

    access = a.access(Customer.objects.get(pk=who.pk), now=MARCH_16)
    assert (access.used, access.next_reset_at) == (4, day("2026-04-10"))


def test_a_field_that_is_none_of_the_details_is_not_found(desk):
    assert desk.get("customer_detail", a.customer().pk, "currency").status == 404


def test_a_note_stands_on_the_page_with_its_author(desk):
    who = a.customer()

    desk.post("customer_note", who.pk, text="Peter takes care of them.")

    assert "Peter takes care of them. ops, 16 Mar 2026" in desk.page(who).text


def test_an_empty_note_is_refused(desk):
    assert list(desk.post("customer_note", a.customer().pk, text="  ").errors) == ["text"]


def test_what_somebody_typed_is_shown_as_text(desk):
    """What customers are called comes from outside."""
    who = a.customer()
    desk.post("customer_note", who.pk, text="<script>alert(1)</script>")
    Customer.objects.filter(pk=who.pk).update(name="<b>Acme</b>")

    html = desk.page(who).html

    assert "<script>alert" not in html
    assert "<b>Acme" not in html


# Delete ---------------------------------------------------------------------------------------------------------------


def delete(desk: CustomerDesk, who: Customer, name: str = "Acme Robotics", reason: str = "asked by mail") -> Page:
    return desk.post("customers_customer_delete", who.pk, confirm_name=name, reason=reason)


def test_what_is_not_settled_is_listed_with_where_to_settle_it(desk):
    """A-52"""
    who = a.customer()
    a.enable(who, a.pro())
    [invoice] = who.invoices.all()

    page = desk.get("customers_customer_delete", who.pk)

    rows = page.answer.context["blockers"]
    assert [row.sentence for row in rows] == [
        "Pro is running and paid for. Cancel it first.",
        "Invoice ACME-0001 is open: $50.00. Settle or void it first.",
    ]
    assert rows[0].url.startswith("/subscriptions/")
    assert rows[1].url == f"/invoicing/invoice/{invoice.pk}/"


def test_a_deletion_is_refused_until_everything_is_settled(desk):
    """A-52"""
    who = a.on(a.pro())

    page = delete(desk, who)

    assert page.status == 200
    assert "Cancel it first" in page.text
    assert Customer.objects.get(pk=who.pk).closed_at is None


def test_account_credit_stands_in_the_way(desk):
    """A-52"""
    who = a.on(a.pro())
    cancel(a.the_subscription(who), at_once=True, reason="moves", actor=a.STAFF, now=MARCH_16)

    [row] = desk.get("customer_settings", who.pk).answer.context["blockers"]

    assert "account credit" in row.sentence
    assert row.url == f"/customers/customer/{who.pk}/credit/"


def test_once_settled_the_name_confirms_and_the_customer_is_closed(desk):
    """A-52"""
    who = a.customer()
    a.enable(who, a.pro())
    subscription = a.the_subscription(who)
    void(who.invoices.get(), reason="never paid", actor=a.STAFF, now=MARCH_1)
    cancel(subscription, at_once=True, unused="nothing", reason="x", actor=a.STAFF, now=MARCH_16)

    assert delete(desk, who).went_on

    who.refresh_from_db()
    assert (who.closed_at, who.erase_at) == (MARCH_16, day("2026-04-15"))


@pytest.mark.parametrize(("said", "field"), [({"name": "acme"}, "confirm_name"), ({"reason": ""}, "reason")])
def test_another_name_or_no_reason_deletes_nothing(desk, said, field):
    """A-52"""
    who = a.customer()

    page = delete(desk, who, **said)

    assert list(page.errors) == [field]
    assert Customer.objects.get(pk=who.pk).closed_at is None


def test_a_closed_customer_says_when_they_are_erased_and_offers_no_act_but_to_reopen(desk):
    """A-52"""
    who = a.customer()
    delete(desk, who)

    page = desk.page(who)

    assert "Personal data is erased on 15 Apr 2026" in page.text
    assert "Enable Product" not in page.text
    assert "Reopen" in page.text


def test_a_deletion_is_undone_by_reopening(desk):
    """A-52"""
    who = a.customer()
    delete(desk, who)

    desk.post("customer_reopen", who.pk, reason="by mistake")

    assert Customer.objects.get(pk=who.pk).closed_at is None
    assert desk.page(who).answer.context["page"].state == ("off", "No plan")
