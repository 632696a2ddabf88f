"""What staff do with an invoice by its state: drafts, the gate of a first payment, credit notes and their undoing."""

from decimal import Decimal

import pytest
from django.test import Client

from billing_admin.flows.plan_change import Activation
from invoicing.credit_note import credit
from invoicing.models import BillingSettings, Invoice, InvoiceCredit, Refund, TaxRate
from invoicing.readings import account_credit
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.admin.enable_desk import person
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client: Client) -> CustomerDesk:
    return CustomerDesk(client, role="Finance")


def labels(desk: CustomerDesk, invoice: Invoice) -> list[str]:
    context = desk.get("invoicing_invoice_change", invoice.pk).answer.context
    return [act.label for act in (*context["acts"], *context["more_acts"])]


def a_draft() -> Invoice:
    """A renewal that waits a day for late use."""
    BillingSettings.objects.create(pk=1, grace_hours=24)
    who = a.on(a.plan("metered", a.fee(50), a.allowance(100, price="0.10")))
    a.use(who, 120, now=MARCH_16)
    a.pass_time(who, to=APRIL_1, pays=False)
    return who.invoices.drafts().get()


def at_april(client: Client, role: str = "Finance") -> CustomerDesk:
    return CustomerDesk(client, now=APRIL_1, role=role)


# Drafts


def test_a_draft_says_when_it_is_issued_and_has_no_link(client):
    draft, desk = a_draft(), at_april(client)

    page = desk.get("invoicing_invoice_change", draft.pk)
    [row] = desk.get("invoicing_invoice_changelist", state="draft").answer.context["rows"]

    assert "A draft: issues in 24 h." in page.text
    assert page.answer.context["link"] == ""
    assert row.waits_for == "issues in 24 h"
    assert labels(desk, draft) == ["Issue now", "Add a line", "Draw up anew", "Void"]


def test_a_line_is_added_to_a_draft_and_removed_again(client):
    """Y-52"""
    draft, desk = a_draft(), at_april(client)

    desk.post("invoice_add_line", draft.pk, description="Onboarding", amount="20")
    draft.refresh_from_db()
    assert draft.total == 7200
    line = draft.lines.get(kind="manual")
    page = desk.get("invoicing_invoice_change", draft.pk)
    [removable] = [row for row in page.answer.context["lines"] if row.remove_url]
    assert removable.text == "Onboarding"
    assert "Added Onboarding ($20.00)" in page.text

    desk.post("invoice_remove_line", draft.pk, line.pk)
    draft.refresh_from_db()
    assert draft.total == 5200


def test_a_credit_that_takes_a_draft_below_zero_is_refused_with_a_sentence(client):
    """Y-52"""
    draft = a_draft()

    page = at_april(client).post("invoice_add_line", draft.pk, description="Goodwill", amount="-90")

    assert "a draft does not fall below zero" in page.text
    assert not draft.lines.filter(kind="manual").exists()


def test_only_lines_by_hand_can_be_removed(client):
    draft = a_draft()

    page = at_april(client).post("invoice_remove_line", draft.pk, draft.lines.first().pk)

    assert page.status == 404


def test_a_draft_that_is_issued_gets_its_number_and_its_link(client):
    draft, desk = a_draft(), at_april(client)

    assert desk.post("invoice_issue", draft.pk).went_on
    page = desk.get("invoicing_invoice_change", draft.pk)

    assert page.answer.context["invoice"].number == "ACME-0002"
    [issued] = [step for step in page.answer.context["history"] if step.text == "Issued"]
    assert issued.actor == person("Finance").username
    assert page.answer.context["link"].endswith(f"/i/{draft.token}")
    assert labels(desk, draft) == ["Record payment", "Credit note", "Void", "Void and reissue", "Give up"]


@pytest.mark.parametrize("act", ["add_line", "refresh", "issue"])
def test_drafts_are_not_for_those_without_the_right(client, act):
    """A-53"""
    draft, desk = a_draft(), at_april(client, role="Ops")

    assert desk.get(f"invoice_{act}", draft.pk).status == 403
    assert desk.post(f"invoice_{act}", draft.pk).status == 403
    assert labels(desk, draft) == []


# The gate


def gated(**fields: object) -> Invoice:
    if fields:
        BillingSettings.objects.create(pk=1, **fields)
    who = a.customer()
    a.enable(who, a.pro(), activation=Activation.AFTER_PAYMENT)
    return who.invoices.get()


def gate_desk(client: Client, role: str = "Finance") -> CustomerDesk:
    return CustomerDesk(client, now=MARCH_1, role=role)


def test_a_first_invoice_shows_its_payment_link_and_until_when(client):
    invoice = gated()

    page = gate_desk(client).get("invoicing_invoice_change", invoice.pk)

    assert "Pro starts when this is paid. Unpaid it is void on 2 Mar 2026" in page.text
    assert "Payment link" in page.text and invoice.token in page.html


def test_the_payment_of_a_first_invoice_starts_its_plan(client):
    """Y-25"""
    invoice = gated()

    gate_desk(client).post("invoice_pay", invoice.pk, amount="50", reference="wire 7")

    assert a.the_subscription(invoice.customer).state == "active"


def test_activating_without_payment_needs_a_reason_and_shows_it(client):
    invoice, desk = gated(), gate_desk(client)

    assert list(desk.post("invoice_activate", invoice.pk, reason="").errors) == ["reason"]
    assert desk.post("invoice_activate", invoice.pk, reason="pays by cheque").went_on

    assert a.the_subscription(invoice.customer).state == "active"
    page = desk.get("invoicing_invoice_change", invoice.pk)
    assert "pays by cheque" in page.text and "Activate now" not in page.text


def test_activating_without_payment_takes_its_own_right(client):
    """A-53"""
    assert gate_desk(client, role="Ops").post("invoice_activate", gated().pk, reason="x").status == 403


def test_a_first_invoice_that_awaits_approval_is_approved(client):
    """Y-27"""
    invoice, desk = gated(approve_first_invoices=True), gate_desk(client)
    assert desk.get("invoicing_invoice_changelist").answer.context["rows"][0].state == ("draft", "Awaits approval")
    assert labels(desk, invoice)[0] == "Approve"

    desk.post("invoice_approve", invoice.pk)

    invoice.refresh_from_db()
    assert (invoice.state, invoice.number) == ("open", "ACME-0001")


# Giving up, and starting over


def an_open_one() -> Invoice:
    who = a.customer()
    a.enable(who, a.pro())
    return who.invoices.get()


def test_an_invoice_is_voided_and_issued_anew(desk):
    invoice = an_open_one()

    desk.post("invoice_reissue", invoice.pk, reason="new address")

    again = invoice.replaced_by.get()
    page = desk.get("invoicing_invoice_change", again.pk)
    assert ("Replaces", "ACME-0001") in [(other.how, other.name) for other in page.answer.context["related"]]
    assert Invoice.objects.get(pk=invoice.pk).state == "void"


def test_what_is_given_up_takes_a_reason_and_still_a_payment(desk):
    invoice = an_open_one()

    assert list(desk.post("invoice_give_up", invoice.pk, reason="").errors) == ["reason"]
    desk.post("invoice_give_up", invoice.pk, reason="insolvent")

    page = desk.get("invoicing_invoice_change", invoice.pk)
    assert page.answer.context["state"] == ("uncollectible", "") and "insolvent" in page.text
    assert "Record payment" in labels(desk, invoice)


def test_a_void_of_a_first_invoice_gives_up_its_plan(client):
    invoice, desk = gated(), gate_desk(client)

    assert "the plan that waits for it is given up" in desk.get("invoice_void", invoice.pk).text
    desk.post("invoice_void", invoice.pk, reason="changed their mind")

    assert invoice.customer.subscriptions.get().state == "ended"


@pytest.mark.parametrize("act", ["reissue", "give_up", "void", "approve"])
def test_no_invoice_is_corrected_without_the_right(client, act):
    """A-53"""
    assert CustomerDesk(client, role="Ops").post(f"invoice_{act}", an_open_one().pk, reason="x").status == 403


# Credit notes


def paid() -> Invoice:
    return a.on(a.plan("two", a.fee(30), a.fee(20, key="support"))).invoices.get()


def test_the_dialog_says_what_a_credit_would_be_and_its_limits(desk):
    """Y-51"""
    invoice = paid()

    page = desk.get("invoice_credit_preview", invoice.pk, what="amount", amount="12", settlement="account_credit")

    assert "Credit $12.00" in page.text and "$12.00 becomes account credit." in page.text
    assert "$50.00 of ACME-0001 was paid and not given back" in page.text


def test_too_much_is_refused_before_it_is_confirmed(desk):
    """Y-51"""
    page = desk.get("invoice_credit_preview", paid().pk, what="amount", amount="51", settlement="refund")

    assert "$51.00 is too much" in page.text


def test_one_line_is_credited_with_its_reason(desk):
    """Y-51"""
    invoice = paid()
    line = invoice.lines.get(key="support")

    page = desk.post(
        "invoice_credit",
        invoice.pk,
        what="lines",
        settlement="account_credit",
        reason="support was away",
        **{f"line_{line.pk}": "7.50"},
    )

    note = invoice.credit_notes.get()
    assert page.answer.headers["Location"] == f"/invoicing/invoice/{note.pk}/"
    assert (note.total, account_credit(invoice.customer)) == (-750, 750)
    assert note.lines.get().source == line
    assert "support was away" in desk.get("invoicing_invoice_change", invoice.pk).text


def test_a_credit_without_a_reason_is_refused_at_the_field(desk):
    page = desk.post("invoice_credit", paid().pk, what="whole", settlement="account_credit", reason="")

    assert list(page.errors) == ["reason"]


def test_an_open_invoice_can_only_be_offset(desk):
    """Y-51"""
    who = a.customer()
    a.enable(who, a.pro())
    form = desk.get("invoice_credit", who.invoices.get().pk).answer.context["form"]

    assert [value for value, _ in form.fields["settlement"].choices] == ["offset"]


def test_a_credit_note_is_undone(desk):
    """Y-51"""
    invoice = paid()
    note = credit(invoice, amount=1000, settlement="account_credit", reason="x", actor=a.STAFF, now=MARCH_16)

    assert "taken back from account credit" in desk.get("invoice_void_note", note.pk).text
    desk.post("invoice_void_note", note.pk, reason="wrong invoice")

    assert account_credit(invoice.customer) == 0
    assert "wrong invoice" in desk.get("invoicing_invoice_change", note.pk).text


def test_a_refund_that_is_still_to_be_made_is_recorded_later(desk):
    """Y-51"""
    note = credit(paid(), amount=1000, settlement="refund", reason="x", actor=a.STAFF, now=MARCH_16)
    assert labels(desk, note) == ["Record the refund", "Void"]

    desk.post("invoice_pay_out", note.pk, reference="SEPA 99")

    assert Refund.objects.get(credit_note=note).reference == "SEPA 99"


@pytest.mark.parametrize("act", ["credit", "credit_preview"])
def test_credit_notes_are_not_for_those_without_the_right(client, act):
    """A-53"""
    invoice = paid()

    assert CustomerDesk(client, role="Ops").get(f"invoice_{act}", invoice.pk).status == 403


# What was taken off, and what happened


def test_invoice_credits_and_taxes_stand_between_subtotal_and_total(desk):
    """L-37"""
    who = a.customer()
    TaxRate.objects.create(name="VAT", percent=Decimal(20), is_default=True)
    InvoiceCredit.objects.create(
        customer=who, label="Welcome", amount=3000, currency="USD", created_by="ops", created_at=MARCH_1
    )
    a.enable(who, a.pro(price=80))

    entries = desk.get("invoicing_invoice_change", who.invoices.get().pk).answer.context["totals"]

    assert [(entry.name, entry.value) for entry in entries] == [
        ("Subtotal", "$80.00"),
        ("Credit: Welcome", "−$30.00"),
        ("VAT 20 % on $50.00", "$10.00"),
        ("Total", "$60.00"),
        ("Due", "$60.00"),
    ]


def test_invoices_are_filtered_by_currency(desk):
    a.on(a.pro(), name="Acme")
    a.on(a.plan("euro", a.fee(5), of="other", currency="EUR"), name="Globex")

    rows = desk.get("invoicing_invoice_changelist", currency="EUR").answer.context["rows"]

    assert [row.title for row in rows] == ["GLOBEX-0001"]


def test_an_invoice_is_not_found_where_credit_notes_are_voided(desk: CustomerDesk):
    invoice = a.on(a.pro()).invoices.get()

    assert desk.get("invoice_void_note", invoice.pk).status == 404
