"""Corrections, drafts and first invoices over the API."""

from datetime import timedelta
from decimal import Decimal

import pytest

from billing_admin.flows.plan_change import Activation
from invoicing.models import BillingSettings, InvoiceCredit, TaxRate
from tests.api.conftest import caller_with
from tests.builders import access, allowance, customer, enable, fee, on, pass_time, plan, pro, the_subscription, use
from tests.instants import APRIL_1, MARCH_1, MARCH_16

pytestmark = pytest.mark.django_db
LATER = MARCH_1 + timedelta(hours=2)


@pytest.fixture
def who():
    """A customer who has paid one invoice."""
    return on(pro(50))


def only(who):
    return who.invoices.order_by("id")[0].public_id


def waiting():
    BillingSettings.objects.create(pk=1, grace_hours=48)
    acme = on(plan("metered", fee(50), allowance(100, price="0.10")))
    use(acme, 150, now=MARCH_16)
    pass_time(acme, to=APRIL_1)
    return acme, acme.invoices.drafts().get()


def gated(**settings):
    BillingSettings.objects.create(pk=1, **settings)
    acme = customer()
    [invoice] = enable(acme, pro(), activation=Activation.AFTER_PAYMENT).invoices
    return acme, invoice


def credit(api, invoice_id, *, now=MARCH_16, **body):
    sent = {"settlement": "account_credit", "reason": "downtime", **body}
    return api.at(now).post(f"invoices/{invoice_id}/credit-notes", sent)


# What an invoice shows


def test_an_invoice_shows_how_its_total_came_about(api):
    TaxRate.objects.create(name="VAT", percent=Decimal(10), is_default=True)
    acme = customer()
    InvoiceCredit.objects.create(
        customer=acme, label="Sorry", amount=1000, currency="USD", created_by="ops", created_at=MARCH_1
    )
    enable(acme, pro(50))

    answer = api.get(f"invoices/{only(acme)}")

    sums = [answer[name]["amount"] for name in ("subtotal", "creditTotal", "taxAdded", "total")]
    assert sums == [5000, 1000, 400, 4400]
    assert answer["url"].endswith(f"/i/{acme.invoices.get().token}")
    [line] = answer["lines"]
    assert (line["credited"]["amount"], line["taxes"][0]["amount"]["amount"], line["taxes"][0]["percent"]) == (
        1000,
        400,
        "10",
    )
    assert [(d["kind"], d["label"], d["amount"]["amount"]) for d in answer["deductions"]] == [
        ("invoice_credit", "Sorry", 1000)
    ]


def test_drafts_are_listed_by_their_state(api):
    _, draft = waiting()

    answer = api.get("invoices", state="draft")

    assert [(row["id"], row["url"], row["number"]) for row in answer["data"]] == [(draft.public_id, None, None)]
    assert answer["data"][0]["issuesAt"] == "2026-04-03T00:00:00Z"


def test_documents_are_listed_by_their_kind(api, who):
    credit(api, only(who), amount=500)

    assert [row["kind"] for row in api.get("invoices", kind="credit_note")["data"]] == ["credit_note"]


# Credit notes


def test_a_credit_note_is_previewed(api, who):
    """Y-51"""
    answer = api.post(f"invoices/{only(who)}/credit-notes/preview", {"amount": 2000, "settlement": "refund"})

    assert (answer.status, answer["total"]["amount"], answer["sentence"]) == (200, -2000, "$20.00 is paid back.")
    assert (answer["most"]["amount"], len(answer["limits"]), who.invoices.count()) == (5000, 2, 1)


def test_a_credit_note_is_made_for_lines(api, who):
    """Y-51"""
    line = api.get(f"invoices/{only(who)}")["lines"][0]["id"]

    answer = credit(api, only(who), lines=[{"lineId": line, "amount": 700}])

    assert (answer.status, answer["number"], answer["settlement"]) == (201, "ACME-CN-0001", "account_credit")
    assert (answer["correctsId"], answer["lines"][0]["sourceLineId"]) == (only(who), line)
    assert api.get(f"invoices/{only(who)}")["creditNoteIds"] == [answer["id"]]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"amount": 6000}, 409, "credit_too_high"),
        ({"amount": 100, "settlement": "offset"}, 409, "credit_too_high"),
        ({}, 400, "bad_credit"),
        ({"amount": 100, "reason": ""}, 400, "reason_required"),
        ({"amount": 100, "settlement": "cash"}, 400, "invalid"),
        ({"amount": -1}, 400, "invalid"),
    ],
)
def test_a_bad_credit_is_refused(api, who, body, status, code):
    """Y-51"""
    answer = credit(api, only(who), **body)

    assert (answer.status, answer["code"]) == (status, code)


def test_a_credit_note_is_voided(api, who):
    """Y-51"""
    note = credit(api, only(who), amount=500)["id"]

    voided = api.post(f"credit-notes/{note}/void", {"reason": "wrong customer"})
    again = api.post(f"credit-notes/{note}/void", {"reason": "wrong customer"})

    assert (voided.status, voided["state"]) == (200, "void")
    assert (again.status, again["code"]) == (409, "cannot_undo")


def test_a_refund_is_paid_out_later(api, who):
    """Y-51"""
    note = credit(api, only(who), amount=500, settlement="refund")["id"]

    answer = api.post(f"credit-notes/{note}/payout", {"reference": "sepa 7"})

    assert (answer.status, answer["reference"], answer["amount"]["amount"]) == (200, "sepa 7", 500)


def test_an_invoice_is_no_credit_note(api, who):
    answer = api.post(f"credit-notes/{only(who)}/void", {"reason": "x"})

    assert (answer.status, answer["code"]) == (404, "credit_note_not_found")


def test_credit_notes_are_for_finance(who):
    """A-53"""
    ops, finance = caller_with("Ops"), caller_with("Finance")

    assert [credit(caller, only(who), amount=5).status for caller in (ops, finance)] == [403, 201]


# Void, anew, given up


def owing():
    acme = customer()
    enable(acme, pro(50))
    return acme


def test_an_invoice_is_voided(api):
    answer = api.post(f"invoices/{only(owing())}/void", {"reason": "goodwill"})

    assert (answer.status, answer["state"], answer["voidReason"]) == (200, "void", "goodwill")


def test_an_invoice_is_issued_anew(api):
    old = only(owing())

    answer = api.post(f"invoices/{old}/reissue", {"reason": "wrong tax"})

    assert (answer.status, answer["number"], answer["replacesId"]) == (201, "ACME-0002", old)


def test_an_invoice_is_given_up(api):
    answer = api.post(f"invoices/{only(owing())}/uncollectible", {"reason": "insolvent"})

    assert (answer.status, answer["state"]) == (200, "uncollectible")


@pytest.mark.parametrize("act", ["void", "reissue", "uncollectible"])
def test_what_is_paid_is_left_alone(api, who, act):
    assert api.post(f"invoices/{only(who)}/{act}", {"reason": "x"}).status == 409


@pytest.mark.parametrize("act", ["void", "reissue", "uncollectible"])
def test_each_takes_a_reason_and_a_right(api, act):
    """Law 10, A-53"""
    invoice = only(owing())

    assert api.post(f"invoices/{invoice}/{act}", {})["code"] == "reason_required"
    assert caller_with("Ops").post(f"invoices/{invoice}/{act}", {"reason": "x"}).status == 403


# Drafts


def test_lines_are_added_to_a_draft_and_removed(api):
    """Y-52"""
    _, draft = waiting()
    at = api.at(APRIL_1)

    added = at.post(f"invoices/{draft.public_id}/lines", {"description": "Training", "amount": 2000, "currency": "USD"})
    [line] = [line for line in added["lines"] if line["kind"] == "manual"]
    removed = at.delete(f"invoices/{draft.public_id}/lines/{line['id']}")

    assert (added.status, added["total"]["amount"], removed["total"]["amount"]) == (201, 7500, 5500)


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"amount": -9000}, 409, "below_zero", None),
        ({"currency": "EUR"}, 400, "currency_mismatch", "currency"),
        ({"amount": 0}, 400, "bad_amount", "amount"),
        ({"description": " "}, 400, "invalid", "description"),
    ],
)
def test_a_bad_line_is_refused(api, body, status, code, field):
    """Y-52"""
    _, draft = waiting()
    sent = {"description": "Training", "amount": 2000, **body}

    answer = api.at(APRIL_1).post(f"invoices/{draft.public_id}/lines", sent)

    assert (answer.status, answer["code"], answer.body.get("field")) == (status, code, field)


def test_a_draft_is_issued(api):
    """Y-29"""
    _, draft = waiting()

    answer = api.at(APRIL_1).post(f"invoices/{draft.public_id}/issue")
    again = api.at(APRIL_1).post(f"invoices/{draft.public_id}/issue")

    assert (answer.status, answer["state"], answer["number"]) == (200, "open", "ACME-0002")
    assert (again.status, again["code"]) == (409, "not_a_draft")


def test_a_draft_is_drawn_up_anew(api):
    _, draft = waiting()
    TaxRate.objects.create(name="VAT", percent=Decimal(10), is_default=True)

    assert api.at(APRIL_1).post(f"invoices/{draft.public_id}/refresh")["total"]["amount"] == 6050


def test_lines_wait_for_the_next_invoice_of_a_subscription(api, who):
    """Y-52"""
    address = f"subscriptions/{the_subscription(who).public_id}/lines"

    added = api.post(address, {"description": "Training", "amount": -500})
    listed = api.get(address)
    left = api.delete(f"{address}/{added['id']}")

    assert (added.status, added["amount"]["amount"], added["createdBy"]) == (201, -500, "api:backend")
    assert ([line["id"] for line in listed["data"]], left["data"]) == ([added["id"]], [])


def test_unknown_lines_are_not_found(api, who):
    _, contract = only(who), the_subscription(who).public_id

    answers = [api.delete(f"invoices/{only(who)}/lines/1"), api.delete(f"subscriptions/{contract}/lines/1")]

    assert [(a.status, a["code"]) for a in answers] == [(404, "line_not_found")] * 2


# First invoices


def test_a_payment_opens_the_gate(api):
    """Y-24"""
    acme, invoice = gated()

    api.at(LATER).post(f"invoices/{invoice.public_id}/payments", {"amount": 5000, "reference": "wire 1"})

    assert access(acme, now=LATER).has_access


def test_a_first_invoice_is_approved(api):
    _, invoice = gated(approve_first_invoices=True)

    answer = api.at(LATER).post(f"invoices/{invoice.public_id}/approve")
    again = api.at(LATER).post(f"invoices/{invoice.public_id}/approve")

    assert (answer.status, answer["state"], answer["awaitsApproval"]) == (200, "open", False)
    assert (again.status, again["code"]) == (409, "nothing_to_approve")


def test_a_plan_is_activated_before_it_is_paid(api):
    acme, invoice = gated()

    answer = api.at(LATER).post(f"invoices/{invoice.public_id}/activate", {"reason": "purchase order"})
    again = api.at(LATER).post(f"invoices/{invoice.public_id}/activate", {"reason": "purchase order"})

    assert (answer.status, answer["invoice"]["state"], answer["operation"]["verb"]) == (200, "open", "plan.activated")
    assert access(acme, now=LATER).has_access
    assert (again.status, again["code"]) == (409, "nothing_to_activate")


# Late use


def test_use_can_be_reported_late(api):
    """Y-29"""
    acme, draft = waiting()
    body = {"customerId": acme.customer_id, "featureSlug": "credits", "value": 50, "at": "2026-03-20T10:00:00Z"}

    answer = api.at(APRIL_1).post("track", body)

    draft.refresh_from_db()
    assert (answer.status, answer["applied"], answer["event"]["at"]) == (200, True, "2026-03-20T10:00:00Z")
    assert draft.total == 6000


def test_use_of_a_window_that_was_billed_is_a_conflict(api):
    """Y-30"""
    acme, draft = waiting()
    api.at(APRIL_1).post(f"invoices/{draft.public_id}/issue")
    body = {"customerId": acme.customer_id, "featureSlug": "credits", "value": 50, "at": "2026-03-20T10:00:00Z"}

    answer = api.at(APRIL_1).post("track", body)

    assert (answer.status, answer["code"]) == (409, "window_billed")


def test_use_of_the_future_is_refused_at_its_field(api, who):
    body = {"customerId": who.customer_id, "featureSlug": "credits", "at": "2027-01-01T00:00:00Z"}

    answer = api.post("track", body)

    assert (answer.status, answer["code"], answer["field"]) == (400, "bad_instant", "at")
