"""Invoices for staff: list, page, payment and void; and the journal of everything."""

from decimal import Decimal

import pytest
from django.test import Client

from billing_admin.flows.cancel import cancel
from invoicing.models import Invoice
from invoicing.readings import account_credit
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Finance")


def open_invoice(price: int = 50) -> Invoice:
    who = a.customer()
    a.enable(who, a.pro(price=price))
    return who.invoices.get()


def test_each_line_unfolds_into_its_sum(desk):
    invoice = open_invoice()

    [row] = desk.get("invoicing_invoice_change", invoice.pk).answer.context["lines"]

    assert row.sum == "Pro, whole period: $50.00 = $50.00"


def test_a_credit_line_says_which_line_it_gives_back(desk):
    who = a.on(a.pro())
    cancel(a.the_subscription(who), at_once=True, reason="moves", actor=a.STAFF, now=MARCH_16)
    note = who.invoices.get(kind="credit_note")

    page = desk.get("invoicing_invoice_change", note.pk)

    [row] = page.answer.context["lines"]
    assert ("Gives back", "Pro on ACME-0001") in row.facts
    assert page.answer.context["state"] == ("ended", "Issued")


def test_a_part_payment_leaves_the_rest_due(desk):
    invoice = open_invoice()

    desk.post("invoice_pay", invoice.pk, amount="20", reference="wire 1")

    invoice.refresh_from_db()
    assert (invoice.state, invoice.due) == ("open", 3000)


def test_the_last_payment_settles_the_invoice(desk):
    invoice = open_invoice()

    desk.post("invoice_pay", invoice.pk, amount="20.00", reference="wire 1")
    desk.post("invoice_pay", invoice.pk, amount="30.00", reference="wire 2")

    page = desk.get("invoicing_invoice_change", invoice.pk)
    assert page.answer.context["state"] == ("paid", "")
    assert [step.text for step in page.answer.context["history"]] == [
        "Issued",
        "$20.00 received",
        "$30.00 received",
        "Paid",
    ]


def test_too_much_money_becomes_account_credit(desk):
    invoice = open_invoice()

    desk.post("invoice_pay", invoice.pk, amount="60", reference="wire")

    assert account_credit(invoice.customer) == 1000
    credit = CustomerDesk(desk.client).get("customer_credit", invoice.customer_id)
    assert credit.answer.context["sum"] == credit.answer.context["lines"][-1]["after"] == 1000


@pytest.mark.parametrize("amount", ["", "0", "-5", "ten", "1.005"])
def test_a_wrong_amount_is_refused_at_the_field(desk, amount):
    invoice = open_invoice()

    page = desk.post("invoice_pay", invoice.pk, amount=amount, reference="wire")

    assert list(page.errors) == ["amount"]
    assert not invoice.payments.exists()


def test_a_payment_needs_a_reference(desk):
    assert list(desk.post("invoice_pay", open_invoice().pk, amount="5", reference=" ").errors) == ["reference"]


def test_a_paid_invoice_takes_no_payment(desk):
    who = a.on(a.pro())
    invoice = who.invoices.get()

    page = desk.post("invoice_pay", invoice.pk, amount="5", reference="wire")

    assert "ACME-0001 is paid" in page.text
    assert invoice.payments.count() == 1


def test_a_void_needs_a_reason_and_says_what_comes_back(desk):
    invoice = open_invoice()
    desk.post("invoice_pay", invoice.pk, amount="20", reference="wire")

    assert "$20.00 becomes account credit" in desk.get("invoice_void", invoice.pk).text
    assert list(desk.post("invoice_void", invoice.pk, reason="").errors) == ["reason"]
    assert desk.post("invoice_void", invoice.pk, reason="wrong customer").went_on
    assert account_credit(invoice.customer) == 2000
    assert "wrong customer" in desk.get("invoicing_invoice_change", invoice.pk).text


def test_roles_without_the_right_see_no_acts_and_are_refused(client):
    """A-53"""
    invoice, desk = open_invoice(), CustomerDesk(client, role="Read-only")

    page = desk.get("invoicing_invoice_change", invoice.pk)

    assert "Record payment" not in page.text
    assert page.answer.context["acts"] == []
    assert desk.post("invoice_pay", invoice.pk, amount="5", reference="x").status == 403
    assert desk.post("invoice_void", invoice.pk, reason="x").status == 403


def test_invoices_are_found_by_number_and_by_customer(desk):
    a.on(a.pro(), name="Acme")
    a.on(a.plan("other", a.fee(5), of="other"), name="Globex")

    for words in ("glob", "GLOBEX-0001"):
        rows = desk.get("invoicing_invoice_changelist", q=words).answer.context["rows"]
        assert [row.title for row in rows] == ["GLOBEX-0001"]


def test_invoices_are_filtered_by_state(desk):
    a.on(a.pro(), name="Acme")
    open_invoice_of_other = a.customer("Globex")
    a.enable(open_invoice_of_other, a.plan("other", a.fee(5), of="other"), now=MARCH_1)

    def titles(**query: str) -> list[str]:
        return [row.title for row in desk.get("invoicing_invoice_changelist", **query).answer.context["rows"]]

    assert titles(state="paid") == ["ACME-0001"]
    assert titles(state="open") == titles(state="overdue") == ["GLOBEX-0001"]
    assert titles(kind="credit_note") == []


def test_the_list_and_the_page_stay_within_twenty_queries(desk, django_assert_max_num_queries):
    """A-54"""
    plan = a.plan("busy", *(a.fee(5, key=f"fee-{n}") for n in range(8)))
    whos = [a.on(plan, name=f"Acme {n}") for n in range(5)]

    with django_assert_max_num_queries(20):
        desk.get("invoicing_invoice_changelist")
    with django_assert_max_num_queries(20):
        desk.get("invoicing_invoice_change", whos[0].invoices.get().pk)


# The journal ----------------------------------------------------------------------------------------------------------


def test_the_journal_is_narrowed_by_subject_person_customer_and_day(desk):
    """A-50"""
    who = a.on(a.pro(), name="Acme")
    a.on(a.plan("other", a.fee(5), of="other"), name="Globex")
    desk.post("invoice_pay", a.customer("Initech").pk, amount="1", reference="x")

    def summaries(**query: str) -> list[str]:
        return [row.summary for row in desk.get("customers_operation_changelist", **query).answer.context["rows"]]

    assert len(summaries()) == 4
    assert summaries(about="payment", q="glob") == ["$5.00 received for GLOBEX-0001"]
    assert summaries(customer=str(who.pk), about="plan") == ["Enabled Pro: $50.00"]
    assert summaries(by="nobody") == summaries(since="2026-03-02") == summaries(until="2026-02-28") == []


def test_a_nonsense_day_is_said_at_the_filter(desk):
    page = desk.get("customers_operation_changelist", since="yesterday")

    assert page.status == 200
    assert "Enter a valid date" in page.text


def test_units_and_money_in_the_journal_are_written_for_people(desk):
    who = a.on(a.pro())
    CustomerDesk(desk.client).post(
        "customer_balance", who.pk, "credits", to=Decimal("1250"), reason="x", bucket=f"s{a.the_subscription(who).pk}"
    )

    newest = CustomerDesk(desk.client).page(who).answer.context["operations"][0]

    assert ("Feature", "credits") in newest.inputs
    assert {("Was", "100"), ("Adjusted", "1,150"), ("Charge", "$0.00")} <= set(newest.effects)
