"""The collection of an invoice as staff see it: where it stands, what comes next, what they can do."""

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing_admin.flows import stripe_collect
from billing_admin.flows.corrections import void_invoice
from billing_admin.flows.gate import collect as pay_by_hand
from customers.models import Operation
from invoicing.credit_note import credit
from payments.models import Method, StripeAccount, StripeInvoice
from payments.words import STANDINGS
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import MARCH_1, MARCH_16, day
from tests.payments import pages_world as world
from tests.payments.pages_world import ASKS, DECLINES, GOOD, collect, get, owing, panel, post, row_of

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
State = StripeInvoice.State
ACTS = ["collect", "retry", "stop", "anew", "refresh"]


@pytest.fixture(autouse=True)
def keys(settings: Any, double: "Double") -> None:
    world.use(settings, double)


@pytest.fixture
def finance(db: None) -> Client:
    return staff("Finance")


# Where it stands


def test_every_state_has_its_words_and_tone():
    assert set(STANDINGS) == set(State.values)
    assert all(s.what and s.next and s.tone in ("good", "info", "wait", "bad", "off") for s in STANDINGS.values())


def test_an_invoice_that_nobody_collects_yet_can_be_handed_over(finance: Client):
    text = panel(finance, owing())

    assert "It is not collected with Stripe." in text and "Collect with Stripe" in text


def test_what_is_on_its_way_looks_again_by_itself(finance: Client):
    invoice = owing()
    stripe_collect.enqueue(MARCH_1)

    html = get(finance, f"/stripe/invoices/{invoice.pk}/").content.decode()

    assert "Waiting for Stripe" in html and 'hx-trigger="every 3s"' in html


def test_without_a_method_the_next_step_is_to_ask_for_one(finance: Client):
    invoice = owing()
    collect(invoice)

    text = panel(finance, invoice)

    assert "No payment method" in text and "Send the customer the link to save one" in text
    assert "Stripe’s page" in text and "In Stripe’s dashboard" in text
    assert "every 3s" not in text


def test_a_declined_payment_says_why_and_when_it_is_charged_again(finance: Client, double: "Double"):
    invoice = owing(card=DECLINES, double=double)
    collect(invoice)

    text = panel(finance, invoice)

    assert "Declined" in text and "The bank declined the card without saying why." in text
    assert "It is charged again on 4 Mar 2026." in text and "Charge again now" in text


def test_where_stripe_retries_by_its_own_rules_it_says_so(finance: Client, double: "Double"):
    StripeAccount.objects.update(auto_advance=True)
    invoice = owing(card=DECLINES, double=double)
    collect(invoice)

    assert "Stripe tries again by its own rules." in panel(finance, invoice)


def test_a_debit_says_how_long_the_bank_takes(finance: Client, double: "Double"):
    invoice = owing(card="DE89370400440532013000", double=double)
    collect(invoice)

    text = panel(finance, invoice)

    assert "Processing" in text and "within 14 business days" in text
    assert "Stop collecting" not in text


def test_a_paid_invoice_tells_what_was_collected_and_stripes_ids(finance: Client, double: "Double"):
    invoice = owing(card=GOOD, double=double)
    row = collect(invoice)

    text = panel(finance, invoice)

    assert "Collected $50.00" in text and row.payment_intent in text and str(row.stripe_id) in text
    assert "Charge again" not in text and "Stop" not in text


def test_a_dispute_says_where_to_answer(finance: Client, double: "Double"):
    invoice = owing(card="4000000000000259", double=double)
    collect(invoice)

    text = panel(finance, invoice)

    assert "Disputed" in text and "Stripe waits for evidence" in text
    assert "Answer in Stripe's dashboard before its deadline" in text


def test_void_there_and_open_here_is_a_matter_for_a_person(finance: Client, double: "Double"):
    invoice = owing()
    row = collect(invoice)
    double.edit(str(row.stripe_id), status="void")
    stripe_collect.refresh(row, MARCH_1)

    text = panel(staff("Admin"), invoice)

    assert "Void in Stripe, but $50.00 is still open here." in text
    assert "Collect anew" in text and "Void here too" in text


def test_a_parked_invoice_says_its_cause_and_what_mends_it(finance: Client):
    invoice = owing()
    collect(invoice)
    stripe_collect.park(row_of(invoice), "Somebody else added a line.", "foreign_line", MARCH_1)

    text = panel(finance, invoice)

    assert "Parked" in text and "Somebody else added a line." in text
    assert "Delete the draft in Stripe" in text and "Try again" in text


def test_with_stripe_away_it_says_that_it_is_tried_again(finance: Client, double: "Double"):
    invoice = owing()
    double.fault("POST", "/v1/invoices", "down", times=None)
    collect(invoice)

    text = panel(finance, invoice)

    assert "Stripe cannot be reached" in text and "It is tried again by itself; 1 so far." in text


def test_money_that_only_stripe_gave_back_asks_for_a_credit_note(finance: Client, double: "Double"):
    invoice = owing(card=GOOD, double=double)
    row = collect(invoice)
    charge = double.ledger()[0]["charge"]
    double.edit(charge, amount_refunded=2000)
    stripe_collect.refresh(row, MARCH_1)

    text = panel(finance, invoice)

    assert "Partially refunded" in text and "Stripe gave back $20.00 that no credit note here accounts for." in text
    invoice.refresh_from_db()
    credit(invoice, amount=2000, settlement="refund", reason="goodwill", reference="re_1", actor=a.STAFF, now=MARCH_16)
    assert "no credit note" not in panel(finance, invoice)


def test_the_page_of_the_invoice_shows_the_panel(finance: Client, double: "Double"):
    invoice = owing(card=GOOD, double=double)
    collect(invoice)

    text = world.words(get(finance, f"/invoicing/invoice/{invoice.pk}/"))

    assert "Collection Test mode Paid Stripe took the money in." in text


# What can be done


def test_somebody_hands_an_old_invoice_over(finance: Client):
    invoice = owing()
    StripeAccount.objects.update(connected_at=MARCH_16)

    answer = post(finance, f"/stripe/invoices/{invoice.pk}/collect/")

    assert answer.status_code == 204
    assert row_of(invoice).next_attempt_at == MARCH_1
    assert Operation.objects.filter(verb="collection.started").exists()


def test_what_is_collected_already_is_not_handed_over_twice(finance: Client):
    invoice = owing()
    collect(invoice)

    assert "collected with Stripe already" in world.words(post(finance, f"/stripe/invoices/{invoice.pk}/collect/"))


def test_charging_again_now_charges_once(finance: Client, double: "Double"):
    invoice = owing(card=DECLINES, double=double)
    collect(invoice)
    world.save_card(invoice.customer, double, GOOD)

    asked = world.words(get(finance, f"/stripe/invoices/{invoice.pk}/retry/"))
    post(finance, f"/stripe/invoices/{invoice.pk}/retry/")
    row = collect(invoice)

    assert "The customer's payment method is charged $50.00 within seconds." in asked
    assert row.state == State.PAID and len(double.ledger()) == 1


def test_stopping_voids_there_and_keeps_it_open_here(finance: Client, double: "Double"):
    invoice = owing()
    there = str(collect(invoice).stripe_id)

    post(finance, f"/stripe/invoices/{invoice.pk}/stop/", {"reason": "pays by cheque"})
    row = collect(invoice)

    assert double.object(there)["status"] == "void"
    assert (row.state, row.invoice.state) == (State.VOID, "open")
    assert "Somebody stopped collecting it with Stripe." in panel(finance, invoice)
    assert Operation.objects.get(verb="collection.stopped").reason == "pays by cheque"
    assert stripe_collect.enqueue(day("2026-03-02")) == 0


def test_stopping_what_never_came_to_stripe_leaves_it_to_people(finance: Client, double: "Double"):
    invoice = owing()
    stripe_collect.enqueue(MARCH_1)
    post(finance, f"/stripe/invoices/{invoice.pk}/stop/", {"reason": "pays by cheque"})

    row = collect(invoice)

    assert (row.state, row.stripe_id, row.invoice.state) == (State.VOID, None, "open")
    assert double.objects("invoice") == []


def test_stopping_needs_a_reason(finance: Client):
    invoice = owing()
    collect(invoice)

    post(finance, f"/stripe/invoices/{invoice.pk}/stop/", {"reason": ""})

    assert row_of(invoice).method == Method.CHARGE


def test_a_debit_that_is_under_way_is_neither_stopped_nor_begun_anew(finance: Client, double: "Double"):
    invoice = owing(card="DE89370400440532013000", double=double)
    there = str(collect(invoice).stripe_id)

    answers = [
        world.words(post(finance, f"/stripe/invoices/{invoice.pk}/{act}/", {"reason": "x"})) for act in ("stop", "anew")
    ]

    assert all("A payment for it is under way." in text for text in answers)
    assert double.object(there)["status"] == "open"


def test_collecting_anew_voids_the_old_one_and_makes_another(finance: Client, double: "Double"):
    invoice = owing()
    old = str(collect(invoice).stripe_id)

    post(finance, f"/stripe/invoices/{invoice.pk}/anew/", {"reason": "another address"})
    row = collect(invoice)

    assert double.object(old)["status"] == "void"
    assert row.stripe_id != old and row.status == "open"
    assert double.object(str(row.stripe_id))["total"] == 5000


def test_word_of_the_voided_one_does_not_bring_it_back(finance: Client):
    invoice = owing()
    row = collect(invoice)
    post(finance, f"/stripe/invoices/{invoice.pk}/anew/", {"reason": "another address"})

    stripe_collect.refresh(row, MARCH_1)  # a worker that had read the row before

    assert row_of(invoice).stripe_id is None


def test_what_was_paid_meanwhile_is_recorded_instead(finance: Client, double: "Double"):
    invoice = owing()
    row = collect(invoice)
    known = world.save_card(invoice.customer, double, GOOD)
    method = double.object(known.stripe_id)["invoice_settings"]["default_payment_method"]
    world_pays(double, str(row.stripe_id), method)

    answer = post(finance, f"/stripe/invoices/{invoice.pk}/anew/", {"reason": "x"})

    assert "Nothing is due" in world.words(answer)
    assert row_of(invoice).state == State.PAID and len(double.ledger()) == 1


def world_pays(double: "Double", invoice: str, method: str) -> None:
    """The customer pays on Stripe's page."""
    import stripe

    client = stripe.StripeClient(double.key, base_addresses={"api": double.url})
    client.v1.invoices.pay(invoice, {"payment_method": method})


def test_after_a_stop_it_can_be_collected_again(finance: Client):
    invoice = owing()
    collect(invoice)
    post(finance, f"/stripe/invoices/{invoice.pk}/stop/", {"reason": "pays by cheque"})
    collect(invoice)

    post(finance, f"/stripe/invoices/{invoice.pk}/anew/", {"reason": "the cheque bounced"})

    assert (row_of(invoice).method, collect(invoice).status) == (Method.CHARGE, "open")


def test_refreshing_records_a_payment_that_nobody_told_of(finance: Client, double: "Double"):
    invoice = owing(card=ASKS, double=double)
    row = collect(invoice)
    double.authenticate(row.payment_intent)

    post(finance, f"/stripe/invoices/{invoice.pk}/refresh/")

    invoice.refresh_from_db()
    assert (invoice.state, row_of(invoice).state) == ("paid", State.PAID)


def test_with_stripe_away_an_act_says_so_and_changes_nothing(finance: Client, double: "Double"):
    invoice = owing()
    before = collect(invoice)
    double.fault("GET", "/v1/invoices/*", "down", times=None)

    answers = [
        world.words(post(finance, f"/stripe/invoices/{invoice.pk}/{act}/", {"reason": "x"}))
        for act in ("refresh", "anew")
    ]

    assert all("Stripe cannot be reached" in text and "Nothing was changed here." in text for text in answers)
    after = row_of(invoice)
    assert (after.stripe_id, after.state, after.claimed_until) == (before.stripe_id, before.state, None)


@pytest.mark.parametrize("act", ACTS)
def test_acts_take_the_permission(act: str):
    """A-53."""
    invoice = owing()
    collect(invoice)
    client = staff("Ops")

    address = f"/stripe/invoices/{invoice.pk}/{act}/"

    assert {get(client, address).status_code, post(client, address).status_code} == {403}
    assert f"/{act}/" not in get(client, f"/stripe/invoices/{invoice.pk}/").content.decode()


# Lists


def test_the_list_shows_and_filters_where_collections_stand(finance: Client, double: "Double"):
    paid, declined = owing("Paid Inc", card=GOOD, double=double), owing("Declined Inc", card=DECLINES, double=double)
    by_hand = owing("Hand Inc")
    for invoice in (paid, declined):
        collect(invoice)
    StripeInvoice.objects.filter(invoice=by_hand).delete()

    listed = {
        state: world.words(get(finance, f"/invoicing/invoice/?collection={state}"))
        for state in ("", "declined", "none")
    }

    assert "Collection" in listed[""] and "Declined" in listed[""]
    assert "Declined Inc" in listed["declined"] and "Paid Inc" not in listed["declined"]
    assert "Hand Inc" in listed["none"] and "Declined Inc" not in listed["none"]


def test_the_list_takes_as_many_queries_with_ten_rows_as_with_one(finance: Client, django_assert_max_num_queries: Any):
    for n in range(10):
        invoice = owing(f"Number {n}")
        stripe_collect.enqueue(MARCH_1)
    assert row_of(invoice)

    with django_assert_max_num_queries(7):
        get(finance, "/invoicing/invoice/")


def test_the_page_takes_few_queries_more(finance: Client, double: "Double", django_assert_max_num_queries: Any):
    invoice = owing(card=GOOD, double=double)
    collect(invoice)

    with django_assert_max_num_queries(22):
        get(finance, f"/invoicing/invoice/{invoice.pk}/")


# What needs a person


def test_the_first_page_counts_what_needs_a_person(double: "Double"):
    for n in range(2):
        invoice = owing(f"Broke {n}", card=DECLINES, double=double)
    collect(invoice)
    asked = owing("Asked Inc", card=ASKS, double=double)
    collect(asked)

    text = world.words(get(staff("Admin"), "/"))

    assert "2 payments declined" in text and "1 payment waits for its customer's confirmation" in text


def test_a_quiet_account_shows_nothing_there(double: "Double"):
    collect(owing(card=GOOD, double=double))

    text = world.words(get(staff("Admin"), "/"))

    assert "payment declined" not in text and "payments declined" not in text and "0 declined" in text


# Settled here


def test_what_is_void_here_before_it_is_paid_ends_there(finance: Client, double: "Double"):
    invoice = owing(card=ASKS, double=double)
    there = str(collect(invoice).stripe_id)
    void_invoice(invoice, reason="wrong", actor=a.STAFF, now=MARCH_1)

    row = collect(invoice)

    assert double.object(there)["status"] == "void"
    assert row.state == State.VOID and "Nothing is left to do." in panel(finance, invoice)


def test_what_was_paid_by_transfer_says_settled_outside(finance: Client):
    invoice = owing()
    collect(invoice)
    pay_by_hand(invoice, amount=5000, reference="bank", actor=a.STAFF, now=MARCH_1)

    collect(invoice)

    assert "Settled outside Stripe" in panel(finance, invoice)


# Without keys


@pytest.mark.parametrize("act", ["", *(f"{act}/" for act in ACTS)])
def test_without_keys_there_is_nothing_at_these_addresses(settings: Any, act: str):
    invoice = owing()
    collect(invoice)
    settings.STRIPE_SECRET_KEY = ""

    assert get(staff("Admin"), f"/stripe/invoices/{invoice.pk}/{act}").status_code == 404


def test_without_keys_pages_say_nothing_of_it_and_ask_nothing(settings: Any):
    invoice = owing()
    client = staff("Admin")
    settings.STRIPE_SECRET_KEY = ""

    with CaptureQueriesContext(connection) as asked:
        texts = [
            get(client, address).content.decode()
            for address in (f"/invoicing/invoice/{invoice.pk}/", "/invoicing/invoice/", "/")
        ]

    assert not [text for text in texts if "tripe" in text.replace("stripe.com", "")]
    assert not [query for query in asked.captured_queries if "payments_" in query["sql"]]
