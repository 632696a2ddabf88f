"""How a comparison walks: in pages, once at a time, from where it stopped, and without an alarm about what moves."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings as Given

from billing_admin.flows import stripe_collect, stripe_compare
from billing_admin.flows.stripe_compare import IN_STEP, MOVING, STAGES, counted
from customers.models import Operation
from invoicing.models import Invoice, Payment
from payments import gateway as door
from payments.gateway import REFERENCE, gateway
from payments.models import Difference, StripeAccount, StripeCustomer, StripeInvoice, StripeRun
from tests import builders as a
from tests.instants import MARCH_1, day
from tests.payments import mirror_world as mirror
from tests.payments.compare_world import (
    LATER,
    compare,
    forget_payment,
    found,
    open_invoice,
    owing,
    paid_invoice,
    sent,
    use,
)

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
NEXT = LATER + timedelta(days=1)


@pytest.fixture(autouse=True)
def keys(settings: Given, double: "Double") -> None:
    use(settings, double)


def begun(now=LATER) -> StripeRun:
    return stripe_compare.begin(actor=a.STAFF, now=now)


def test_it_counts_what_is_in_step_and_what_is_on_its_way(double: "Double"):
    paid_invoice(double)
    StripeInvoice.objects.filter(invoice=open_invoice(double, "Globex")).update(next_attempt_at=LATER)

    counts = counted(compare())

    assert counts["customer"] == {IN_STEP: 2, MOVING: 0}
    assert counts["invoice"] == {IN_STEP: 1, MOVING: 1}
    assert counts["payment"] == {IN_STEP: 1, MOVING: 0}


def test_nothing_is_repaired_by_itself(double: "Double"):
    invoice = paid_invoice(double)
    forget_payment(invoice)
    acts = Operation.objects.count()
    asked = len(double.requests)

    compare()

    invoice.refresh_from_db()
    assert (invoice.state, Payment.objects.count(), Operation.objects.count()) == ("open", 0, acts)
    assert {request.method for request in double.requests[asked:]} == {"GET"}


def test_a_comparison_that_was_killed_goes_on_where_it_stopped(double: "Double", monkeypatch: pytest.MonkeyPatch):
    for name in ("Acme", "Globex", "Initech"):
        forget_payment(paid_invoice(double, name))
    monkeypatch.setattr(door, "PAGE", 1)
    undisturbed = compare()
    expected = (found(), counted(undisturbed))
    Difference.objects.all().delete()
    run = begun(NEXT)
    for _ in range(7):
        stripe_compare.turn_page(run, NEXT)
    run = StripeRun.objects.get(pk=run.pk)
    asked = len(double.requests)

    run = stripe_compare.carry_on(run, NEXT, pages=1000)

    assert (found(), counted(run)) == expected
    assert not [r for r in double.requests[asked:] if r.path == "/v1/customers"]


def test_a_worker_that_died_lets_go_of_its_comparison_after_a_while(double: "Double"):
    run = begun()
    StripeRun.objects.update(claimed_until=LATER + stripe_compare.CLAIM)

    busy = stripe_compare.carry_on(run, LATER, pages=1000).finished_at
    later = LATER + stripe_compare.CLAIM

    assert busy is None
    assert stripe_compare.carry_on(run, later, pages=1000).finished_at == later


def test_one_is_under_way_at_a_time(double: "Double"):
    run = begun()

    assert begun() == run
    with pytest.raises(IntegrityError), transaction.atomic():
        StripeRun.objects.create(kind="comparison", started_at=LATER, started_by="ops")


def test_it_begins_once_a_day(double: "Double"):
    first = stripe_compare.compare_due(LATER)

    early = stripe_compare.compare_due(LATER + timedelta(hours=23))
    late = stripe_compare.compare_due(NEXT)

    assert first is not None and first.finished_at == LATER
    assert (early, late is not None and late.started_by) == (None, "clockwork")


def test_without_keys_nothing_is_compared(settings: Given, double: "Double"):
    settings.STRIPE_SECRET_KEY = ""

    assert stripe_compare.compare_due(LATER) is None
    assert stripe_compare.open_differences() == {}
    assert not StripeRun.objects.exists()


def test_with_stripe_away_it_waits_says_so_and_goes_on(double: "Double"):
    forget_payment(paid_invoice(double))
    begun()
    double.fault("GET", "/v1/invoices", "down")

    waiting = stripe_compare.compare_due(LATER)
    since = StripeAccount.objects.get().failing_since
    double.lift()
    done = stripe_compare.compare_due(LATER + timedelta(minutes=5))

    assert waiting is not None and waiting.problem and waiting.finished_at is None
    assert (since, StripeAccount.objects.get().failing_since) == (LATER, None)
    assert done is not None and done.problem == "" and done.finished_at is not None
    assert found() == [("payment", "missing_here", "record")]


def test_a_page_whose_last_row_was_deleted_begins_its_stage_anew(double: "Double", monkeypatch: pytest.MonkeyPatch):
    for name in ("Acme", "Globex"):
        open_invoice(double, name)
    monkeypatch.setattr(door, "PAGE", 1)
    run = begun()
    stripe_compare.turn_page(run, LATER)
    double.edit(run.cursor["after"], deleted=True)

    run = stripe_compare.carry_on(run, LATER, pages=1000)
    told = found()
    compare(NEXT)

    assert (run.finished_at, told, counted(run)["customer"]) == (LATER, [], {IN_STEP: 1, MOVING: 0})
    assert found() == [("customer", "missing_there", "unlink")]  # it was seen before it went


def test_money_that_comes_while_we_compare_is_no_difference(double: "Double", monkeypatch: pytest.MonkeyPatch):
    """The list says that it is paid, our books do not yet; before the second look the webhook came."""
    invoice = paid_invoice(double)
    row = StripeInvoice.objects.get(invoice=invoice)
    forget_payment(invoice)
    looks = []
    look = stripe_compare.look_at_invoice

    def webhook_first(*what, **more):
        looks.append(what)
        if len(looks) == 2:
            stripe_collect.refresh(StripeInvoice.objects.select_related("invoice").get(pk=row.pk), LATER)
        return look(*what, **more)

    monkeypatch.setattr(stripe_compare, "look_at_invoice", webhook_first)
    compare()

    assert (found(), len(looks) >= 2) == ([], True)


@pytest.mark.parametrize("waits", [{"next_attempt_at": LATER}, {"claimed_until": LATER + timedelta(minutes=5)}])
def test_what_a_worker_is_at_gives_no_alarm(waits: dict[str, object], double: "Double"):
    invoice = paid_invoice(double)
    forget_payment(invoice)
    StripeInvoice.objects.filter(invoice=invoice).update(**waits)

    run = compare()

    assert (found(), counted(run)["invoice"][MOVING]) == ([], 1)


def test_an_invoice_that_was_issued_a_moment_ago_is_on_its_way(double: "Double"):
    owing()

    run = compare(MARCH_1)

    assert (found(), counted(run)["invoice"][MOVING]) == ([], 1)


def test_who_is_renamed_here_is_on_the_way_until_stripe_was_told(double: "Double"):
    who = open_invoice(double).customer
    type(who).objects.filter(pk=who.pk).update(name="Acme Cybernetics")

    run = compare()

    assert (found(), counted(run)["customer"][MOVING]) == ([], 1)


def test_a_difference_that_stays_is_told_once_and_one_that_is_gone_is_settled(double: "Double"):
    forget_payment(paid_invoice(double))
    gone = paid_invoice(double, "Globex")
    forget_payment(gone)
    compare()
    stripe_collect.refresh(StripeInvoice.objects.select_related("invoice").get(invoice=gone), LATER)

    second = compare(NEXT)

    settled, stays = Difference.objects.order_by("settled_at")
    assert (stays.settled_at, stays.since, stays.run) == (None, LATER, second)
    assert settled.settled_at == NEXT
    assert settled.settled_by == "gone in the comparison of 00:00 on 3 Mar 2026 UTC"


def test_what_fell_out_of_the_window_is_looked_at_again_before_it_counts_as_gone(double: "Double"):
    double.edit(sent(paid_invoice(double)), total=6000)
    compare()

    compare(day("2026-06-01"))

    assert found() == [("invoice", "amount", "")]


def test_an_old_invoice_that_is_open_on_either_side_is_compared(double: "Double"):
    """Issued long before the window: paid by hand here, still asked for there; and the other way round."""
    here, there = open_invoice(double), open_invoice(double, "Globex")
    Invoice.objects.update(issued_at=day("2025-12-01"))
    for each in (here, there):
        double.edit(sent(each), created=int(day("2025-12-01").timestamp()))
    Invoice.objects.filter(pk=here.pk).update(state="void", voided_at=day("2025-12-02"))
    double.edit(sent(there), status="void")

    compare()

    assert found() == [("invoice", "status", ""), ("invoice", "status", "bring_on")]


def test_invoices_of_others_are_none_of_our_business(double: "Double"):
    owner = StripeCustomer.objects.get(customer=open_invoice(double).customer)
    gateway().v1.invoices.create({"customer": owner.stripe_id})
    gateway().create_customer(name="Stranger", email="", metadata={}, key="by hand")

    run = compare()

    assert (found(), counted(run)["invoice"][IN_STEP]) == ([], 1)


def test_what_stripe_knows_of_somebody_erased_here_is_no_difference(double: "Double"):
    who = paid_invoice(double).customer
    type(who).objects.filter(pk=who.pk).update(name="Erased", email="", closed_at=LATER, erased_at=LATER)

    assert (compare().finished_at, found()) == (LATER, [])


def many(double: "Double", number: int) -> None:
    """So many customers with one open invoice each, on both sides."""
    pattern = open_invoice(double)
    for n in range(number - 1):
        who = a.customer(f"Customer {n}")
        invoice = Invoice.objects.create(
            customer=who, state="open", number=f"C{n}-1", issued_at=MARCH_1, currency="USD", subtotal=5000, total=5000
        )
        facts = gateway().create_customer(
            name=who.name,
            email=who.email,
            metadata={REFERENCE: who.public_id, "customer_id": who.customer_id},
            key=who.public_id,
        )
        row = StripeCustomer.objects.create(
            stripe_id=facts.id, customer=who, sent_name=who.name, sent_email=who.email, sent_id=who.customer_id
        )
        made = double.world.keep(
            double.world.things[sent(pattern)]
            | {
                "id": f"in_many{n}",
                "customer": row.stripe_id,
                "metadata": {REFERENCE: invoice.public_id},
                "_payments": [],
            }
        )
        StripeInvoice.objects.create(
            invoice=invoice,
            stripe_id=made["id"],
            method="send_invoice",
            status="open",
            state="sent",
            queued_at=MARCH_1,
        )


@pytest.mark.parametrize("stage", ["customers", "invoices"])
def test_a_page_of_a_hundred_is_compared_in_few_queries(
    stage: str, double: "Double", django_assert_max_num_queries: object
):
    many(double, 100)
    run = begun()
    run.cursor = {"stage": stage, "after": ""}
    run.save()
    queries = django_assert_max_num_queries(18)  # type: ignore[operator]

    with queries:
        stripe_compare.turn_page(run, LATER)

    name = {"customers": "customer", "invoices": "invoice"}[stage]
    assert (counted(run)[name][IN_STEP], found()) == (100, [])


def queries_of(stage: str) -> int:
    run = begun()
    run.cursor = {"stage": stage, "after": ""}
    run.save()
    with CaptureQueriesContext(connection) as asked:
        stripe_compare.turn_page(run, LATER)
    StripeRun.objects.filter(pk=run.pk).update(finished_at=LATER)
    return len(asked)


def test_a_page_of_payments_takes_as_many_queries_as_one_payment(double: "Double"):
    paid_invoice(double)
    one = queries_of("payments")
    for name in ("Globex", "Initech", "Umbrella"):
        paid_invoice(double, name)

    assert queries_of("payments") == one


def test_a_page_of_subscriptions_takes_as_many_queries_as_one(double: "Double"):
    who, _ = mirror.subscriber(a.allowance(100))
    one = queries_of("subscriptions")
    for name in ("Second", "Third"):
        owner = StripeCustomer.objects.get(customer=who).stripe_id
        mirror.look(mirror.subscribe(owner, mirror.price(mirror.product(name=name))), MARCH_1)

    assert (queries_of("subscriptions"), found()) == (one, [])


def test_every_stage_is_passed_once(double: "Double", monkeypatch: pytest.MonkeyPatch):
    passed = []
    for name, stage in list(STAGES.items()):
        monkeypatch.setitem(STAGES, name, lambda *what, name=name, stage=stage: (passed.append(name), stage(*what))[1])

    compare()

    assert passed == list(STAGES)
