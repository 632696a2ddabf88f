"""The inbox of Stripe's events as staff see it, and what they can do there."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from billing_admin.admin import stripe_events as page
from billing_admin.models import Heartbeat, WorkerRun
from customers.models import Customer, Operation
from payments.models import StripeAccount, StripeCustomer, StripeEvent, StripeInvoice, StripeRefusal
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import MARCH_1
from tests.payments.inbox_world import event, made_up, use
from tests.stripe_double import Double

pytestmark = pytest.mark.django_db

NOW = MARCH_1 + timedelta(hours=3)
HOUR = timedelta(hours=1)
LIST, ONE, AGAIN = "payments_stripeevent_changelist", "payments_stripeevent_change", "stripe_event_again"
ALL, FETCH = "stripe_events_again", "stripe_fetch"


@pytest.fixture(autouse=True)
def keys(settings: Any) -> None:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = "sk_test_inbox", "whsec_inbox"
    settings.STRIPE_API_URL = "http://127.0.0.1:1"


@pytest.fixture
def account() -> StripeAccount:
    return StripeAccount.objects.create(
        pk=1, stripe_id="acct_1", livemode=False, connected_at=MARCH_1, last_answer_at=NOW - timedelta(seconds=12)
    )


@pytest.fixture
def acme() -> Customer:
    """Known to Stripe as cus_acme, with one invoice there."""
    who = a.customer()
    a.enable(who, a.pro())
    StripeCustomer.objects.create(stripe_id="cus_acme", customer=who, name="Acme Robotics")
    StripeInvoice.objects.create(
        invoice=who.invoices.get(), stripe_id="in_acme", method="charge_automatically", queued_at=MARCH_1
    )
    return who


def desk(client: Client, role: str = "Finance") -> CustomerDesk:
    return CustomerDesk(client, now=NOW, role=role)


# The list -------------------------------------------------------------------------------------------------------------


def test_events_are_listed_newest_first_with_what_came_of_them(client: Client, acme: Customer):
    event("invoice.paid", "in_acme", at=MARCH_1, state="done", outcome="ACME-0001: Paid.", customer="cus_acme")
    event("customer.updated", "cus_x", at=MARCH_1 + HOUR, state="failed", outcome="Stripe refuses the key.")

    shown = desk(client).get(LIST)

    assert shown.text.index("customer.updated") < shown.text.index("invoice.paid")
    assert "Failed Stripe refuses the key." in shown.text
    assert "Acme Robotics" in shown.text and "ACME-0001: Paid." in shown.text


def test_pages_go_on_from_the_last_row_also_within_one_second(
    client: Client, monkeypatch: pytest.MonkeyPatch, account: StripeAccount
):
    monkeypatch.setattr(page, "A_PAGE", 2)
    rows = [event("invoice.paid", f"in_{n}", at=MARCH_1) for n in range(4)]
    rows.append(event("invoice.paid", "in_old", at=MARCH_1 - HOUR))

    seen, before = [], ""
    for _ in range(3):
        shown = desk(client).get(LIST, before=before)
        found = shown.answer.context["found"]
        seen += [row.id for row in found.rows]
        before = str(found.older or "")

    assert seen == [row.pk for row in [rows[3], rows[2], rows[1], rows[0], rows[4]]]


def test_the_list_takes_few_queries(client: Client, acme: Customer, django_assert_max_num_queries: Any):
    for number in range(60):
        event("invoice.updated", f"in_{number}", at=MARCH_1, customer="cus_acme")
    at = desk(client)
    at.get(LIST)

    with django_assert_max_num_queries(16):
        at.get(LIST)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("evt_0", {"in_acme"}),
        ("in_acme", {"in_acme"}),
        ("cus_acme", {"in_acme", "pm_1"}),
        ("acme rob", {"in_acme", "pm_1"}),
        ("invoice", {"in_acme", "in_other"}),
        ("invoice.p", {"in_acme"}),
        ("evt", set()),
    ],
)
def test_events_are_found_by_id_object_customer_and_type(client: Client, acme: Customer, words: str, found: set[str]):
    event("invoice.paid", "in_acme", at=MARCH_1, customer="cus_acme")
    event("payment_method.attached", "pm_1", at=MARCH_1, customer="cus_acme")
    event("invoice.voided", "in_other", at=MARCH_1)

    shown = desk(client).get(LIST, q=words)

    assert {row.object_id for row in shown.answer.context["rows"]} == found


def test_events_are_found_by_the_number_of_their_invoice(client: Client, acme: Customer):
    event("invoice.paid", "in_acme", at=MARCH_1)
    event("invoice.paid", "in_other", at=MARCH_1)

    shown = desk(client).get(LIST, q=str(acme.invoices.get()))

    assert [row.object_id for row in shown.answer.context["rows"]] == ["in_acme"]


def test_events_are_narrowed_to_a_state_and_a_family_of_types(client: Client):
    event("invoice.paid", "in_1", at=MARCH_1, state="done")
    event("invoice.voided", "in_2", at=MARCH_1)
    event("invoice_payment.paid", "inpay_1", at=MARCH_1)

    shown = desk(client).get(LIST, state="waiting", type="invoice")

    assert [row.object_id for row in shown.answer.context["rows"]] == ["in_2"]


def test_empty_lists_say_what_to_do(client: Client):
    assert "No events yet" in desk(client).get(LIST).text
    assert "No event matches" in desk(client).get(LIST, q="evt_unheard").text


def test_a_search_that_takes_too_long_says_so(client: Client, monkeypatch: pytest.MonkeyPatch):
    def too_slow(*_: Any) -> Any:
        raise page.TooSlow

    monkeypatch.setattr(page, "_older_than", too_slow)

    assert "This search takes too long" in desk(client).get(LIST, q="invoice").text


def test_what_was_refused_is_told(client: Client):
    StripeRefusal.objects.create(kind="mode", number=3, since=MARCH_1, last_at=MARCH_1)
    StripeRefusal.objects.create(kind="account", number=8, since=MARCH_1, last_at=MARCH_1 - timedelta(days=40))

    shown = desk(client).get(LIST).text

    assert "3 refused since 1 Mar 2026 : of the other mode, test or live" in shown
    assert "8 refused" not in shown


# Health ---------------------------------------------------------------------------------------------------------------


def test_the_head_says_when_stripe_answered(client: Client, account: StripeAccount):
    assert "Stripe answered 12 s ago" in desk(client).get(LIST).text


def test_the_head_says_since_when_stripe_is_away_and_what_waits(client: Client, account: StripeAccount, acme: Customer):
    StripeAccount.objects.update(failing_since=MARCH_1, last_error="Stripe cannot be reached.")
    StripeInvoice.objects.update(next_attempt_at=NOW)

    assert "has not answered since 1 Mar 2026 00:00 UTC; 1 invoice waits" in desk(client).get(LIST).text


def test_before_the_first_answer_the_head_says_so(client: Client):
    assert "Stripe has not been reached yet" in desk(client).get(LIST).text


# One event ------------------------------------------------------------------------------------------------------------


def test_one_event_shows_its_payload_and_links_to_ours(client: Client, acme: Customer):
    thing = {"id": "in_acme", "object": "invoice", "customer": "cus_acme"}
    row = event("invoice.paid", "in_acme", at=MARCH_1, customer="cus_acme", payload=made_up(data={"object": thing}))

    shown = desk(client).get(ONE, row.pk)

    assert "Nothing yet." in shown.text and '"customer": "cus_acme"' in shown.text
    assert "https://dashboard.stripe.com/test/invoices/in_acme" in shown.html
    assert f"/invoicing/invoice/{acme.invoices.get().pk}/" in shown.html
    assert f"/customers/customer/{acme.pk}/" in shown.html


def test_an_event_that_is_not_there_is_404(client: Client):
    assert desk(client).get(ONE, 4711).status == 404


def test_one_event_is_processed_again_while_the_person_waits(
    client: Client, double: Double, settings: Any, acme: Customer
):
    use(settings, double)
    row = event("customer.updated", "cus_acme", at=MARCH_1, state="failed", outcome="KeyError", attempts=5)

    desk(client).post(AGAIN, row.pk)

    row.refresh_from_db()
    assert (row.state, row.attempts) == ("done", 0)
    assert WorkerRun.objects.get().effects == {"asked_by": "finance"}


def test_an_event_that_fails_again_says_why(client: Client, account: StripeAccount, acme: Customer):
    row = event("customer.updated", "cus_acme", at=MARCH_1, state="failed")

    desk(client).post(AGAIN, row.pk)

    row.refresh_from_db()
    assert (row.state, row.outcome) == ("waiting", "Stripe cannot be reached, or did not answer in time.")


def test_all_that_failed_waits_anew(client: Client, django_capture_on_commit_callbacks: Any):
    for number in range(3):
        event("invoice.paid", f"in_{number}", at=MARCH_1, state="failed", attempts=5)
    event("invoice.paid", "in_done", at=MARCH_1, state="done")

    shown = desk(client).get(LIST)
    desk(client).post(ALL)

    assert "Process all 3 failed again" in shown.text
    assert StripeEvent.objects.filter(state="waiting", attempts=0, next_attempt_at=NOW).count() == 3
    assert Operation.objects.get(verb="stripe_events.retried").effects == {"events": 3}


# Fetch what we missed -------------------------------------------------------------------------------------------------


def test_the_dialog_begins_an_hour_before_the_newest_event(client: Client):
    event("invoice.paid", at=MARCH_1 + HOUR)

    shown = desk(client).get(FETCH, dialog=True)

    assert 'value="2026-03-01T00:00"' in shown.html and 'value="2026-03-01T03:01"' in shown.html


def test_what_never_came_is_fetched(client: Client, double: Double, settings: Any):
    use(settings, double)
    double.set_clock(MARCH_1 + HOUR)
    double.plant("product", "prod", id="prod_1", name="API", active=True, type="service")
    for _ in range(3):
        double.emit("product.updated", "prod_1")

    done = desk(client).post(FETCH, since="2026-03-01T00:00", until="2026-03-01T03:00")

    assert done.went_on
    assert set(StripeEvent.objects.values_list("was_fetched", "state")) == {(True, "waiting")}
    assert Operation.objects.get().effects == {"listed": 3, "new": 3}


def test_what_is_there_already_is_not_fetched_twice(client: Client, double: Double, settings: Any):
    use(settings, double)
    double.set_clock(MARCH_1 + HOUR)
    double.plant("product", "prod", id="prod_1", name="API", active=True, type="service")
    known = double.emit("product.updated", "prod_1")
    double.emit("product.updated", "prod_1")
    event("product.updated", "prod_1", at=MARCH_1, stripe_id=known["id"], state="done")

    desk(client).post(FETCH, since="2026-03-01T00:00", until="2026-03-01T03:00")

    assert Operation.objects.get().effects == {"listed": 2, "new": 1}
    assert StripeEvent.objects.get(stripe_id=known["id"]).state == "done"


@pytest.mark.parametrize(
    ("since", "until", "field", "why"),
    [
        ("2026-01-01T00:00", "2026-03-01T00:00", "since", "Stripe lists the events of the last 30 days."),
        ("2026-03-01T02:00", "2026-03-01T01:00", "until", "The end is not after the start."),
        ("", "2026-03-01T01:00", "since", "This field is required."),
    ],
)
def test_a_range_that_cannot_be_fetched_is_refused(client: Client, since: str, until: str, field: str, why: str):
    shown = desk(client).post(FETCH, since=since, until=until)

    [error] = shown.errors[field]
    assert error.startswith(why)


def test_a_fetch_that_stripe_does_not_answer_says_so(client: Client, account: StripeAccount):
    shown = desk(client).post(FETCH, since="2026-03-01T00:00", until="2026-03-01T03:00")

    assert shown.errors["__all__"] == ["Stripe: Stripe cannot be reached, or did not answer in time."]
    assert StripeAccount.present().failing_since == NOW
    assert not Heartbeat.objects.filter(name="stripe_events_fetched").exists()


# Who may --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["Read-only", "Ops", "Sales engineer"])
def test_events_are_seen_by_everybody_and_processed_by_finance(client: Client, role: str):
    """A-53"""
    row = event(at=MARCH_1, state="failed")
    at = desk(client, role)

    assert (at.get(LIST).status, at.get(ONE, row.pk).status) == (200, 200)
    assert "Process" not in at.get(LIST).text + at.get(ONE, row.pk).text
    acts = [at.post(AGAIN, row.pk), at.post(ALL), at.get(FETCH), at.post(FETCH), at.get(FETCH, dialog=True)]
    assert {act.status for act in acts} == {403}


def test_without_keys_there_is_no_inbox(client: Client, settings: Any):
    settings.STRIPE_SECRET_KEY = ""
    row = event(at=MARCH_1)
    at = desk(client)

    seen = [at.get(LIST), at.get(ONE, row.pk), at.get(FETCH), at.post(AGAIN, row.pk), at.post(ALL), at.post(FETCH)]

    assert {found.status for found in seen} == {404}
    assert "stripeevent" not in at.get("index").html
