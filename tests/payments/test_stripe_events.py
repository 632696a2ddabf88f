"""What Stripe's events lead to: one look at the present state of what they name, whatever they say themselves."""

from datetime import timedelta
from typing import Any

import pytest

from billing_admin import runs, stripe_runs
from billing_admin.flows import stripe_collect, stripe_events
from billing_admin.flows.stripe_account import connect
from billing_admin.models import WorkerFailure
from customers.models import Customer
from payments.events import Subject, subjects
from payments.gateway import gateway
from payments.models import StripeAccount, StripeCustomer, StripeEvent, StripeInvoice
from tests import builders as a
from tests.instants import MARCH_1
from tests.payments.inbox_world import door, event, made_up, use
from tests.stripe_double import Double

pytestmark = pytest.mark.django_db

LATER = MARCH_1 + timedelta(hours=1)


@pytest.fixture(autouse=True)
def stripe(double: Double, settings: Any) -> Double:
    """Stripe stands still on the first of March; its postman waits for us to deliver."""
    use(settings, double)
    double.set_clock(MARCH_1)
    double.hold_webhooks()
    double.webhooks_to(door(MARCH_1))
    connect(MARCH_1)
    return double


@pytest.fixture
def acme(stripe: Double) -> Customer:
    """A customer with one open invoice that Stripe asks for; there is no card yet."""
    who = a.customer()
    a.enable(who, a.pro())
    collect()
    return who


def collect(now: Any = MARCH_1) -> None:
    stripe_collect.enqueue(now)
    stripe_collect.collect_due(now)


def asked(double: Double, path: str) -> int:
    """How often Stripe was asked for this."""
    return sum(request.method == "GET" and request.path == path for request in double.requests)


def outcomes() -> dict[str, tuple[str, str]]:
    return {row.type: (row.state, row.outcome) for row in StripeEvent.objects.all()}


# Which object ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "thing", "found"),
    [
        ("invoice.paid", {"id": "in_1", "object": "invoice"}, ["invoice in_1"]),
        ("invoice_payment.paid", {"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1"}, ["invoice in_1"]),
        ("payment_intent.succeeded", {"id": "pi_1", "object": "payment_intent"}, ["payment_intent pi_1"]),
        ("charge.failed", {"id": "ch_1", "object": "charge", "payment_intent": "pi_1"}, ["payment_intent pi_1"]),
        ("charge.succeeded", {"id": "ch_1", "object": "charge", "payment_intent": None}, []),
        (
            "charge.dispute.created",
            {"id": "dp_1", "object": "dispute", "payment_intent": {"id": "pi_1"}},
            ["payment_intent pi_1"],
        ),
        (
            "charge.refund.updated",
            {"id": "re_1", "object": "refund", "payment_intent": "pi_1"},
            ["payment_intent pi_1", "refund re_1"],
        ),
        (
            "refund.failed",
            {"id": "re_1", "object": "refund", "payment_intent": "pi_1"},
            ["payment_intent pi_1", "refund re_1"],
        ),
        (
            "credit_note.voided",
            {"id": "cn_1", "object": "credit_note", "invoice": "in_1"},
            ["invoice in_1", "credit_note cn_1"],
        ),
        ("customer.updated", {"id": "cus_1", "object": "customer"}, ["customer cus_1"]),
        (
            "customer.discount.created",
            {"id": "di_1", "object": "discount", "customer": "cus_1"},
            ["customer cus_1"],
        ),
        ("customer.subscription.updated", {"id": "sub_1", "object": "subscription"}, ["subscription sub_1"]),
        (
            "setup_intent.succeeded",
            {"id": "seti_1", "object": "setup_intent", "customer": "cus_1"},
            ["customer cus_1"],
        ),
        ("product.deleted", {"id": "prod_1", "object": "product"}, ["product prod_1"]),
        ("price.created", {"id": "price_1", "object": "price"}, ["price price_1"]),
        ("invoice.upcoming", {"object": "invoice"}, []),
        ("balance.available", {"object": "balance"}, []),
        ("invoiceitem.created", {"id": "ii_1", "object": "invoiceitem", "invoice": "in_1"}, []),
    ],
)
def test_an_event_names_what_to_look_at(type_: str, thing: dict[str, Any], found: list[str]):
    named = subjects(type_, {"data": {"object": thing}})

    assert [f"{subject.kind} {subject.id}" for subject in named] == found


def test_a_card_that_was_taken_off_names_its_former_customer():
    data = {"object": {"id": "pm_1", "customer": None}, "previous_attributes": {"customer": "cus_1"}}

    assert subjects("payment_method.detached", {"data": data}) == (Subject("customer", "cus_1"),)


# What comes of it -----------------------------------------------------------------------------------------------------


def test_a_card_that_was_saved_lets_what_waited_for_one_be_charged(stripe: Double, acme: Customer):
    stripe.add_card(acme.stripe.stripe_id)
    stripe.deliver()
    stripe_runs.events(now=LATER)
    collect(LATER)

    assert StripeInvoice.objects.get().state == "paid"
    assert acme.invoices.get().state == "paid"
    assert outcomes()["payment_method.attached"] == ("done", "Acme Robotics: as Stripe has it.")


def test_an_invoice_that_was_paid_on_stripes_page_is_paid_here(stripe: Double, acme: Customer):
    row = StripeInvoice.objects.get()
    stripe.add_card(acme.stripe.stripe_id)
    pay(stripe, row)
    stripe.deliver()

    stripe_runs.events(now=LATER)

    invoice = acme.invoices.get()
    assert (invoice.state, [p.provider for p in invoice.payments.all()]) == ("paid", ["stripe"])
    assert outcomes()["invoice.paid"] == ("done", f"{invoice}: Paid.")


def test_what_an_event_says_is_not_believed(stripe: Double, acme: Customer):
    """The invoice is open, whatever a payload of its payment says."""
    row = StripeInvoice.objects.get()
    thing = {"id": row.stripe_id, "object": "invoice", "status": "paid", "amount_paid": 5000}
    event("invoice.paid", row.stripe_id, at=MARCH_1, payload=made_up(data={"object": thing}))

    stripe_runs.events(now=LATER)

    assert acme.invoices.get().state == "open"
    assert StripeEvent.objects.get().state == "done"


def test_a_dispute_finds_its_invoice_by_its_payment(stripe: Double, acme: Customer):
    stripe.add_card(acme.stripe.stripe_id)
    pay(stripe, StripeInvoice.objects.get())
    settle(stripe)
    [charge] = stripe.ledger()

    stripe.dispute(charge["charge"])
    settle(stripe)

    assert StripeInvoice.objects.get().state == "disputed"
    found = StripeEvent.objects.get(type="charge.dispute.created")
    assert (found.state, found.customer) == ("done", acme.stripe.stripe_id)


def test_a_payment_for_something_else_is_not_ours(stripe: Double):
    event("payment_intent.succeeded", "pi_other", at=MARCH_1)

    stripe_runs.events(now=LATER)

    assert outcomes() == {"payment_intent.succeeded": ("ignored", "A payment for no invoice.")}


@pytest.mark.parametrize(
    ("type_", "object_id", "why"),
    [
        ("invoice.paid", "in_other", "An invoice that was not made here."),
        ("customer.updated", "cus_other", "A customer whom nobody here knows."),
        ("payout.paid", "po_1", "Nothing here depends on it."),
        ("v9.unheard.of", "x_1", "Nothing here depends on it."),
        ("charge.captured", "ch_1", "It names nothing that is looked at here."),
    ],
)
def test_what_is_not_ours_is_kept_and_ignored_without_asking(stripe: Double, type_: str, object_id: str, why: str):
    event(type_, object_id, at=MARCH_1)
    before = len(stripe.requests)

    run = stripe_runs.events(now=LATER).finish(LATER)

    assert outcomes() == {type_: ("ignored", why)}
    assert (len(stripe.requests), run) == (before, None)


def test_events_about_one_object_are_settled_by_one_look(stripe: Double, acme: Customer):
    row = StripeInvoice.objects.get()
    for kind in ("created", "finalized", "updated", "payment_failed"):
        event(f"invoice.{kind}", row.stripe_id, at=MARCH_1)
    # One of them waits longer, after a failure.
    StripeEvent.objects.filter(type="invoice.updated").update(next_attempt_at=LATER + timedelta(hours=1))
    before = asked(stripe, f"/v1/invoices/{row.stripe_id}")

    stripe_runs.events(now=LATER)

    assert asked(stripe, f"/v1/invoices/{row.stripe_id}") == before + 1
    assert {state for state, _ in outcomes().values()} == {"done"}


def test_a_payment_and_its_invoice_are_one_look(stripe: Double, acme: Customer):
    stripe.add_card(acme.stripe.stripe_id)
    pay(stripe, StripeInvoice.objects.get())
    settle(stripe)
    row = StripeInvoice.objects.get()
    event("invoice.updated", row.stripe_id, at=LATER)
    event("payment_intent.succeeded", row.payment_intent, at=LATER)
    before = asked(stripe, f"/v1/invoices/{row.stripe_id}")

    stripe_runs.events(now=LATER)

    assert asked(stripe, f"/v1/invoices/{row.stripe_id}") == before + 1


def test_processing_twice_changes_nothing(stripe: Double, acme: Customer):
    stripe.add_card(acme.stripe.stripe_id)
    pay(stripe, StripeInvoice.objects.get())
    settle(stripe)

    stripe_events.process_again(StripeEvent.objects.all(), LATER)
    stripe_runs.events(now=LATER)

    assert acme.invoices.get().payments.count() == 1
    assert not StripeEvent.objects.exclude(state__in=["done", "ignored"]).exists()


# When it goes wrong ---------------------------------------------------------------------------------------------------


def test_while_stripe_is_away_events_wait_longer_each_time(stripe: Double, acme: Customer):
    waiting = event("invoice.paid", StripeInvoice.objects.get().stripe_id, at=MARCH_1)
    stripe.fault("GET", "/v1/**", "down", times=None)
    pauses, now = [], LATER

    for _ in range(9):
        stripe_runs.events(now=now)
        waiting.refresh_from_db()
        pauses.append((waiting.next_attempt_at - now).total_seconds())
        now = waiting.next_attempt_at

    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert (waiting.state, waiting.attempts) == ("waiting", 9)
    assert "cannot be reached" in waiting.outcome
    assert StripeAccount.present().failing_since == LATER


def test_one_call_is_tried_while_stripe_is_away(stripe: Double, acme: Customer):
    for number in range(5):
        event("customer.updated", f"cus_{number}", at=MARCH_1)
        StripeCustomer.objects.create(stripe_id=f"cus_{number}")
    stripe.fault("GET", "/v1/**", "error", times=None, status=500)
    before = len(stripe.requests)

    stripe_runs.events(now=LATER)

    assert len(stripe.requests) == before + 1
    assert StripeEvent.objects.filter(state="waiting", attempts=0, next_attempt_at=LATER).count() == 4


def test_when_stripe_answers_again_what_waited_is_settled(stripe: Double, acme: Customer):
    event("invoice.paid", StripeInvoice.objects.get().stripe_id, at=MARCH_1)
    stripe.fault("GET", "/v1/**", "down", times=None)
    stripe_runs.events(now=LATER)
    stripe.lift()

    stripe_runs.events(now=LATER + timedelta(minutes=1))

    assert StripeEvent.objects.get().state == "done"
    assert StripeAccount.present().failing_since is None


def test_what_fails_five_times_waits_for_a_person_and_holds_up_nothing(
    stripe: Double, acme: Customer, monkeypatch: pytest.MonkeyPatch
):
    stuck = event("product.updated", "prod_1", at=MARCH_1)
    monkeypatch.setitem(stripe_events.HANDLERS, "product", break_down)
    now = LATER
    for number in range(5):
        event("customer.updated", acme.stripe.stripe_id, at=now, stripe_id=f"evt_fine_{number}")
        run = stripe_runs.events(now=now).finish(now)
        now += timedelta(hours=1)

    stuck.refresh_from_db()
    assert (stuck.state, stuck.outcome, stuck.next_attempt_at) == ("failed", "KeyError: 'name'", None)
    assert StripeEvent.objects.filter(state="done").count() == 5
    assert (run.task, run.failed, run.failures.get().what) == ("stripe_events", 1, stuck.stripe_id)


def test_a_person_lets_what_failed_be_processed_again(stripe: Double, acme: Customer, monkeypatch: pytest.MonkeyPatch):
    event("customer.updated", acme.stripe.stripe_id, at=MARCH_1, attempts=4)
    with monkeypatch.context() as broken:
        broken.setitem(stripe_events.HANDLERS, "customer", break_down)
        stripe_runs.events(now=LATER).finish(LATER)

    [run] = runs.retry(runs.open_failures().select_related("run"), actor=a.STAFF, now=LATER)

    assert (run.done, run.failed, run.effects) == (1, 0, {"asked_by": "ops"})
    assert StripeEvent.objects.get().state == "done"
    assert WorkerFailure.objects.get().resolved_at == LATER


def test_a_worker_that_died_lets_go_of_its_events(stripe: Double, acme: Customer):
    event("customer.updated", acme.stripe.stripe_id, at=MARCH_1)
    stripe_events._claim(LATER, None)

    stripe_runs.events(now=LATER)
    before = StripeEvent.objects.get().state
    stripe_runs.events(now=LATER + stripe_events.CLAIM)

    assert (before, StripeEvent.objects.get().state) == ("waiting", "done")


def test_a_busy_stripe_says_how_long_to_wait(stripe: Double, acme: Customer):
    waiting = event("invoice.paid", StripeInvoice.objects.get().stripe_id, at=MARCH_1)
    stripe.fault("GET", "/v1/**", "rate_limit")

    stripe_runs.events(now=LATER)

    waiting.refresh_from_db()
    assert (waiting.state, waiting.outcome) == ("waiting", "Stripe asks for a pause.")
    assert StripeAccount.present().failing_since is None


def test_without_keys_nothing_is_processed(stripe: Double, settings: Any):
    event("invoice.paid", "in_1", at=MARCH_1)
    settings.STRIPE_SECRET_KEY = ""

    stripe_runs.events(now=LATER)

    assert StripeEvent.objects.get().state == "waiting"


def break_down(stripe_id: str, now: Any) -> Any:
    raise KeyError("name")


def pay(double: Double, row: StripeInvoice) -> None:
    """The customer pays on Stripe's page: nothing of it comes through us."""
    gateway().pay(row.stripe_id, key=f"{row.stripe_id}:by-hand")


def settle(double: Double) -> None:
    double.deliver()
    stripe_runs.events(now=LATER)
