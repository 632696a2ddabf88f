"""Whatever fails between us and Stripe, at whatever step: afterwards all is as if nothing had failed."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from billing_admin.flows import stripe_collect
from billing_admin.flows.corrections import void_invoice
from invoicing.models import CreditEntry
from payments.models import StripeAccount, StripeCustomer
from tests import builders as a
from tests.instants import MARCH_1, MARCH_16
from tests.payments import fault_world as f
from tests.payments import pages_world as world
from tests.payments.fault_world import Fault, Story

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
IMPATIENT, SLOW = 0.15, 0.3


@pytest.fixture(autouse=True)
def _stripe(settings: Any, double: "Double") -> None:
    world.use(settings, double)
    settings.STRIPE_TIMEOUT = 10.0


# name of the step → story, the wait before which the fault is planted, method, path
STEPS: dict[str, tuple[Story, int, str, str]] = {
    "make the customer": (f.asked, 0, "POST", "/v1/customers"),
    "make the invoice": (f.charged, 0, "POST", "/v1/invoices"),
    "add a line": (f.charged, 0, "POST", "/v1/invoiceitems"),
    "make it final": (f.charged, 0, "POST", "/v1/invoices/*/finalize"),
    "charge": (f.charged, 0, "POST", "/v1/invoices/*/pay"),
    "look": (f.charged, 0, "GET", "/v1/invoices/*"),
    "look at payments": (f.charged, 0, "GET", "/v1/invoice_payments"),
    "void": (f.voided, 1, "POST", "/v1/invoices/*/void"),
    "throw a draft away": (f.thrown_away, 1, "DELETE", "/v1/invoices/*"),
    "give up": (f.given_up, 1, "POST", "/v1/invoices/*/mark_uncollectible"),
    "settle outside": (f.paid_by_hand, 1, "POST", "/v1/invoices/*/pay"),
    "ask for less": (f.credited, 1, "POST", "/v1/credit_notes"),
    "give back": (f.refunded, 1, "POST", "/v1/credit_notes"),
    "look for a credit": (f.refunded, 1, "GET", "/v1/credit_notes"),
    "look at a refund": (f.refunded, 1, "GET", "/v1/refunds/*"),
}
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "slow": ("delay", {"seconds": SLOW}),
    "failed before": ("error", {"status": 500}),
    "failed after": ("fail_after", {}),
    "dropped before": ("drop_before", {}),
    "dropped after": ("drop_after", {}),
    "too many": ("rate_limit", {}),
    "too many, says until when": ("rate_limit", {"seconds": 90}),
    "under way": ("error", {"status": 409}),
}
READ = ("slow", "failed before", "dropped after", "too many")
CASES = [(step, name) for step, (_, _, method, _) in STEPS.items() for name in (READ if method == "GET" else FAULTS)]
# One after the other, on the same step: after the second its effect is there.
PAIRS = [("dropped before", "failed after"), ("under way", "dropped after")]
ACTS = [step for step, (_, _, method, _) in STEPS.items() if method != "GET"]
faultless: dict[Story, dict[str, Any]] = {}


def undisturbed(double: "Double", story: Story) -> dict[str, Any]:
    if story not in faultless:
        faultless[story] = f.play(double, story)
        double.reset()
        double.set_clock(world.MARCH_1)
    return faultless[story]


def fault(step: str, name: str) -> Fault:
    _, _, method, path = STEPS[step]
    kind, more = FAULTS[name]
    return Fault(method, path, kind, tuple(more.items()))


@pytest.mark.parametrize(("step", "name"), CASES)
def test_a_fault_at_a_step_leaves_what_no_fault_leaves(step: str, name: str, double: "Double", settings: Any):
    story, at, _, _ = STEPS[step]
    wanted = undisturbed(double, story)
    if name == "slow":
        settings.STRIPE_TIMEOUT = IMPATIENT

    found = f.play(double, story, [fault(step, name)], at=at)

    assert found == wanted
    assert len(found["ledger"]) <= 1


@pytest.mark.parametrize("pair", PAIRS, ids=" then ".join)
@pytest.mark.parametrize("step", ACTS)
def test_two_faults_in_a_row_at_a_step_leave_what_no_fault_leaves(step: str, pair: tuple[str, str], double: "Double"):
    story, at, _, _ = STEPS[step]
    wanted = undisturbed(double, story)

    found = f.play(double, story, [fault(step, name) for name in pair], at=at)

    assert found == wanted


def test_a_lost_invoice_is_found_again_a_day_later_when_its_key_is_forgotten(double: "Double"):
    invoice = f.bill(a.customer())
    double.fault("POST", "/v1/invoices", "drop_after")
    f.one_pass(MARCH_1)
    double.expire_keys()

    f.until_done(double, MARCH_1 + timedelta(days=1))

    assert [found["status"] for found in double.objects("invoice")] == ["open"]
    assert world.row_of(invoice).stripe_id == double.objects("invoice")[0]["id"]


def test_a_lost_customer_is_found_again_a_day_later_when_its_key_is_forgotten(double: "Double"):
    f.bill(a.customer())
    double.fault("POST", "/v1/customers", "drop_after")
    f.one_pass(MARCH_1)
    double.expire_keys()

    f.until_done(double, MARCH_1 + timedelta(days=1))

    assert len(double.objects("customer")) == 1


def test_a_lost_credit_is_found_again_a_day_later_when_its_key_is_forgotten(double: "Double"):
    story = f.refunded(double, f.bill(a.customer()))
    next(story)
    f.until_done(double)
    next(story)
    double.fault("POST", "/v1/credit_notes", "drop_after")
    f.one_pass(MARCH_1)
    double.expire_keys()

    f.until_done(double, MARCH_1 + timedelta(days=1))

    assert [charge["refunded"] for charge in double.ledger()] == [2000]


def test_somebody_who_asks_to_try_again_does_not_make_it_twice(double: "Double"):
    invoice = f.bill(a.customer())
    double.fault("POST", "/v1/invoices", "drop_after")
    f.one_pass(MARCH_1)
    double.expire_keys()

    stripe_collect.try_again(world.row_of(invoice), actor=a.STAFF, now=MARCH_1)
    f.until_done(double)

    assert len(double.objects("invoice")) == 1


def test_a_rate_limit_ends_the_pass_and_is_waited_out(double: "Double"):
    bills = [f.bill(a.customer(f"Customer {n}")) for n in range(3)]
    double.fault("*", "**", "rate_limit", seconds=600)
    before = len(double.requests)

    f.one_pass(MARCH_1)

    assert len(double.requests) == before + 1
    assert [world.row_of(bill).attempts for bill in bills].count(1) == 1
    waits = {world.row_of(bill).next_attempt_at for bill in bills}
    assert waits == {MARCH_1, MARCH_1 + timedelta(seconds=600)}


def test_a_stripe_that_is_away_is_asked_once_a_pass(double: "Double"):
    for n in range(3):
        f.bill(a.customer(f"Customer {n}"))
    double.fault("*", "**", "down")
    before = len(double.requests)

    f.one_pass(MARCH_1)

    assert len(double.requests) == before + 1
    account = StripeAccount.present()
    assert account is not None and account.failing_since == MARCH_1
    double.lift()
    f.until_done(double)
    assert StripeAccount.objects.get().failing_since is None
    assert len(double.objects("invoice")) == 3


def test_the_pause_grows_with_every_failure_up_to_an_hour(double: "Double"):
    invoice = f.bill(a.customer())
    double.fault("*", "**", "down")
    pauses, now = [], MARCH_1
    for _ in range(9):
        f.one_pass(now)
        later = world.row_of(invoice).next_attempt_at
        assert later is not None
        pauses.append(int((later - now).total_seconds()))
        now = later

    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_a_customer_who_was_deleted_in_stripe_is_made_anew(double: "Double"):
    first = f.bill(a.customer())
    f.until_done(double)
    there = StripeCustomer.objects.get()
    httpx.delete(f"{double.url}/v1/customers/{there.stripe_id}", auth=(double.key, "")).raise_for_status()
    second = f.bill(first.customer)

    f.until_done(double)

    present = StripeCustomer.objects.get(customer=first.customer)
    assert present.stripe_id != there.stripe_id
    assert double.object(world.row_of(second).stripe_id)["customer"] == present.stripe_id


def test_a_draft_that_somebody_deleted_in_stripe_is_drawn_up_again(double: "Double"):
    invoice = f.bill(a.customer())
    double.fault("POST", "/v1/invoices/*/finalize", "drop_before")
    f.one_pass(MARCH_1)
    there = world.row_of(invoice).stripe_id
    httpx.delete(f"{double.url}/v1/invoices/{there}", auth=(double.key, "")).raise_for_status()

    f.until_done(double)

    row = world.row_of(invoice)
    assert (row.status, row.state) == ("open", "needs_method")
    assert row.stripe_id != there


def test_a_card_that_is_gone_in_stripe_leaves_the_invoice_waiting_for_one(double: "Double"):
    invoice = f.bill(a.customer())
    known = world.save_card(invoice.customer, double)
    double.edit(known.stripe_id, invoice_settings={"default_payment_method": None})
    httpx.post(
        f"{double.url}/v1/payment_methods/{known.payment_methods[0]['id']}/detach", auth=(double.key, "")
    ).raise_for_status()

    f.until_done(double)

    assert world.row_of(invoice).state == "needs_method"


def test_what_was_paid_there_while_it_was_voided_here_is_account_credit_with_an_alert(double: "Double"):
    invoice = f.bill(a.customer())
    f.until_done(double)
    f.pay_on_the_page(world.row_of(invoice))

    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1)
    f.until_done(double)

    row = world.row_of(invoice)
    assert (row.state, row.invoice.state) == ("paid", "void")
    assert list(CreditEntry.objects.values_list("kind", "amount")) == [("late", 5000)]
    assert invoice.customer.operations.get(verb="payment.late").effects["alert"] is True


def test_a_debit_that_arrives_after_the_void_is_account_credit(double: "Double"):
    """A payment that moves keeps Stripe's invoice open; it is looked at until it has ended."""
    invoice = f.bill(a.customer())
    world.save_card(invoice.customer, double, "DE89370400440532013000")
    f.one_pass(MARCH_1)
    row = world.row_of(invoice)
    assert row.state == "processing"
    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1)
    f.one_pass(MARCH_1)
    assert world.row_of(invoice).next_attempt_at == MARCH_1 + timedelta(hours=1)

    double.settle_processing(row.payment_intent)
    f.until_done(double)

    assert list(CreditEntry.objects.values_list("kind", "amount")) == [("late", 5000)]


def test_a_debit_that_bounces_after_the_void_ends_stripes_invoice_too(double: "Double"):
    invoice = f.bill(a.customer())
    world.save_card(invoice.customer, double, "DE89370400440532013000")
    f.one_pass(MARCH_1)
    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1)
    f.one_pass(MARCH_1)

    double.settle_processing(world.row_of(invoice).payment_intent, ok=False)
    f.until_done(double)

    assert world.row_of(invoice).state == "void"


def test_a_parked_invoice_that_is_voided_here_is_ended_there(double: "Double"):
    invoice = f.bill(a.customer())
    f.until_done(double)
    there = world.row_of(invoice).stripe_id
    assert there is not None
    double.edit(there, amount_remaining=4000)
    stripe_collect.refresh(world.row_of(invoice), MARCH_1)
    assert world.row_of(invoice).code == "asks_for_less"

    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_16)
    f.until_done(double, MARCH_16)

    assert double.object(there)["status"] == "void"
