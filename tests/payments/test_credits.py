"""Money goes back the way it came: credit notes here, refunds in Stripe."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from billing_admin import stripe_runs
from billing_admin.flows import stripe_credits, stripe_events
from billing_admin.flows.corrections import credit_invoice
from billing_admin.flows.gate import collect as pay_by_hand
from billing_admin.flows.stripe_credits import NoReference, NotStuck
from billing_admin.runs import open_failures
from invoicing.credit_note import BadCredit, CannotUndo, pay_out, void_credit_note
from invoicing.models import Invoice, Refund
from payments.models import StripeAccount, StripeCredit
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk as Desk
from tests.instants import MARCH_1, MARCH_16
from tests.payments import pages_world as world

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
State = StripeCredit.State
# Its refunds take days, and one whose refunds come back.
SLOW, BOUNCES = "4000000000007726", "4000000000005126"


@pytest.fixture(autouse=True)
def _stripe(settings: Any, double: "Double") -> None:
    world.use(settings, double)


def paid(double: "Double", card: str = world.GOOD) -> Invoice:
    invoice = world.owing(card=card, double=double)
    world.collect(invoice)
    invoice.refresh_from_db()
    assert invoice.state == "paid"
    return invoice


def credit(invoice: Invoice, amount: int = 2000, *, settlement: str = "refund", reference: str = "") -> Invoice:
    return credit_invoice(
        invoice,
        amount=amount,
        settlement=settlement,
        reason="downtime",
        reference=reference,
        actor=a.STAFF,
        now=MARCH_16,
    )


def give_back(now=MARCH_16) -> StripeCredit:
    stripe_credits.enqueue_credits(now)
    stripe_credits.credit_due(now)
    return StripeCredit.objects.get()


def ledger(double: "Double") -> list[tuple[int, int]]:
    return [(charge["amount"], charge["refunded"]) for charge in double.ledger()]


def test_a_refund_goes_back_through_stripe_once(double: "Double"):
    invoice = paid(double)
    note = credit(invoice)

    row = give_back()
    give_back()

    assert (row.state, row.next_attempt_at) == (State.DONE, None)
    assert ledger(double) == [(5000, 2000)]
    refund = note.refunds.get()
    assert (refund.provider, refund.amount, refund.reference, refund.at) == ("stripe", 2000, row.refund_id, MARCH_16)
    assert world.row_of(invoice).state == "partially_refunded"
    told = note.customer.operations.get(verb="refund.paid_out")
    assert told.summary == f"$20.00 went back through Stripe for {note}"


def test_what_was_paid_by_hand_goes_back_by_hand():
    invoice = world.owing()
    world.collect(invoice)
    pay_by_hand(invoice, amount=5000, reference="bank 7", actor=a.STAFF, now=MARCH_1)
    note = credit(invoice)

    assert stripe_credits.enqueue_credits(MARCH_16) == 0
    assert note.refunds.get().provider == "manual"


def test_an_invoice_that_was_paid_both_ways_gives_back_stripes_part_through_stripe(double: "Double"):
    invoice = world.owing()
    world.collect(invoice)
    pay_by_hand(invoice, amount=1500, reference="bank 7", actor=a.STAFF, now=MARCH_1)
    world.collect(invoice)
    world.save_card(invoice.customer, double)
    world.collect(invoice)
    invoice.refresh_from_db()

    note = credit(invoice, 5000)
    give_back()
    pay_out(note, reference="sepa 9", actor=a.STAFF, now=MARCH_16)

    assert ledger(double) == [(3500, 3500)]
    parts = Refund.objects.order_by("provider").values_list("provider", "amount", "reference")
    assert list(parts) == [("manual", 1500, "sepa 9"), ("stripe", 3500, StripeCredit.objects.get().refund_id)]


def test_a_second_credit_gives_back_only_what_the_first_left_in_stripe(double: "Double"):
    invoice = paid(double)
    credit(invoice, 3000)
    note = credit(invoice, 2000)

    stripe_credits.enqueue_credits(MARCH_16)
    stripe_credits.credit_due(MARCH_16)

    assert ledger(double) == [(5000, 5000)]
    assert note.refunds.get().reference.startswith("re_")
    with pytest.raises(BadCredit):
        credit(invoice, 1)


def test_the_unused_time_of_two_invoices_goes_back_to_each(double: "Double"):
    """A note of a plan that ends may give back lines of several invoices: a refund for each of them."""
    from billing_admin.flows.cancel import cancel
    from invoicing.models import InvoiceLine

    who = a.customer()
    world.save_card(who, double)
    a.enable(who, a.plan("pro", a.fee(50), a.paid_seats(0, price="10")), quantity=1)
    seats = who.invoices.get()
    world.collect(seats)
    a.use(who, 3, of="seats", now=MARCH_1)
    second = who.invoices.exclude(pk=seats.pk).get()
    world.collect(second)

    cancel(a.the_subscription(who), at_once=True, unused="refund", reason="x", actor=a.STAFF, now=MARCH_16)
    stripe_credits.enqueue_credits(MARCH_16)
    stripe_credits.credit_due(MARCH_16)

    note = who.invoices.get(kind="credit_note")
    given = {refund.of_id: refund.amount for refund in note.refunds.all()}
    assert set(given) == {seats.pk, second.pk}
    assert sum(given.values()) == -note.total == sum(refunded for _, refunded in ledger(double))
    assert InvoiceLine.objects.filter(invoice=note).count() == 2


def test_a_refund_that_the_bank_takes_days_for_is_on_its_way_until_stripe_says_more(double: "Double"):
    note = credit(paid(double, SLOW))

    row = give_back()

    assert (row.state, note.refunds.get().reference) == (State.PENDING, "")
    double.settle_refund(row.refund_id)
    row = stripe_credits.refresh_credit(row, MARCH_16)
    assert (row.state, note.refunds.get().reference) == (State.DONE, row.refund_id)


def test_a_look_a_day_later_finds_what_no_event_told(double: "Double"):
    note = credit(paid(double, SLOW))
    row = give_back()
    double.settle_refund(row.refund_id)

    give_back(MARCH_16 + timedelta(hours=23))
    assert note.refunds.get().reference == ""
    give_back(MARCH_16 + timedelta(days=1))

    assert note.refunds.get().reference == row.refund_id


def test_a_refund_that_comes_back_is_a_persons_to_send_another_way(double: "Double"):
    invoice = paid(double, BOUNCES)
    note = credit(invoice)

    row = give_back()

    assert (row.state, note.refunds.get().reference) == (State.FAILED, "")
    assert note.customer.operations.get(verb="refund.failed").effects["alert"] is True
    with pytest.raises(NotStuck):
        stripe_credits.try_again(row, actor=a.STAFF, now=MARCH_16)
    with pytest.raises(NoReference):
        stripe_credits.pay_another_way(row, reference=" ", actor=a.STAFF, now=MARCH_16)
    stripe_credits.pay_another_way(row, reference="sepa 4", actor=a.STAFF, now=MARCH_16)
    refund = note.refunds.get()
    assert (refund.provider, refund.reference) == ("manual", "sepa 4")
    assert give_back().state == State.CANCELED
    assert ledger(double) == [(5000, 0)]


def test_events_about_a_refund_are_answered_by_a_look(double: "Double"):
    note = credit(paid(double, SLOW))
    row = give_back()
    double.settle_refund(row.refund_id, ok=False)

    look = stripe_events.HANDLERS["refund"](row.refund_id, MARCH_16)

    assert (look.state, StripeCredit.objects.get().state) == ("done", State.FAILED)
    assert look.outcome == f"{note}: Failed."


def test_a_credit_note_whose_refund_waits_is_voided_with_it(double: "Double"):
    note = credit(paid(double))
    stripe_credits.enqueue_credits(MARCH_16)

    void_credit_note(note, reason="wrong customer", actor=a.STAFF, now=MARCH_16)

    assert give_back().state == State.CANCELED
    assert ledger(double) == [(5000, 0)]


def test_a_credit_note_whose_refund_ran_or_may_have_run_cannot_be_voided(double: "Double"):
    note = credit(paid(double))
    double.fault("POST", "/v1/credit_notes", "drop_before")
    assert give_back().attempts == 1

    with pytest.raises(CannotUndo, match="on its way back"):
        void_credit_note(note, reason="x", actor=a.STAFF, now=MARCH_16)
    give_back(MARCH_16 + timedelta(hours=2))
    with pytest.raises(CannotUndo, match="was paid out"):
        void_credit_note(note, reason="x", actor=a.STAFF, now=MARCH_16)


def test_what_stripe_refuses_to_give_back_waits_for_a_person(double: "Double"):
    invoice = paid(double)
    [charge] = double.ledger()
    dispute = double.dispute(charge["charge"])
    note = credit(invoice)

    row = give_back()

    assert (row.state, row.next_attempt_at) == (State.PARKED, None)
    assert "charged back" in row.problem
    assert note.customer.operations.get(verb="refund.parked").effects["alert"] is True
    double.edit(charge["charge"], disputed=False)
    double.close_dispute(dispute["id"], won=True)
    stripe_credits.try_again(row, actor=a.STAFF, now=MARCH_16)
    assert give_back().state == State.DONE


def test_a_refund_that_was_made_in_stripes_dashboard_is_recorded_and_not_sent_again(double: "Double"):
    invoice = paid(double)

    note = credit(invoice, reference="re_made_there")

    refund = note.refunds.get()
    assert (refund.provider, refund.reference) == ("stripe", "re_made_there")
    assert stripe_credits.enqueue_credits(MARCH_16) == 0


def test_account_credit_stays_ours(double: "Double"):
    note = credit(paid(double), settlement="account_credit")

    assert stripe_credits.enqueue_credits(MARCH_16) == 0
    assert not note.refunds.exists()
    assert ledger(double) == [(5000, 0)]


def test_refunds_wait_while_stripe_is_away(double: "Double"):
    credit(paid(double))
    double.fault("*", "**", "down")

    row = give_back()

    account = StripeAccount.present()
    assert account is not None and account.failing_since == MARCH_16
    assert (row.state, row.attempts, row.next_attempt_at) == (State.WAITING, 1, MARCH_16 + timedelta(seconds=30))
    double.lift()
    assert give_back(MARCH_16 + timedelta(seconds=30)).state == State.DONE


def test_a_refund_that_breaks_waits_and_holds_up_no_other(double: "Double"):
    broken = credit(paid(double))
    invoice = world.owing("Other", card=world.GOOD, double=double)
    world.collect(invoice)
    invoice.refresh_from_db()
    other = credit(invoice)
    Invoice.objects.filter(pk=broken.pk).update(currency="ZZZ")  # there is no such money

    this = stripe_runs.work(stripe_runs.COLLECT, now=MARCH_16)

    assert this.failed == 1
    assert [failure.what for failure in open_failures()] == [broken.public_id]
    assert other.refunds.get().reference.startswith("re_")
    row = StripeCredit.objects.get(note=broken)
    assert (row.attempts, row.next_attempt_at) == (1, MARCH_16 + timedelta(seconds=30))
    Invoice.objects.filter(pk=broken.pk).update(currency="USD")
    stripe_runs.work(stripe_runs.COLLECT, now=MARCH_16 + timedelta(seconds=30))
    assert not open_failures().exists()


def test_without_keys_no_refund_is_looked_for(settings: Any):
    settings.STRIPE_SECRET_KEY = ""
    StripeAccount.objects.all().delete()

    assert stripe_credits.credit_due(MARCH_16).done == 0


# On the desk ----------------------------------------------------------------------------------------------------------


def test_the_dialog_says_where_the_money_goes_and_asks_for_no_reference(double: "Double", client: Client):
    invoice = paid(double)

    page = Desk(client, role="Finance").get("invoice_credit", invoice.pk)

    assert "back to Visa ·· 4242 through Stripe" in page.text
    assert 'name="reference"' not in page.html


def test_the_page_of_a_credit_note_says_what_became_of_its_refund_and_what_to_do(double: "Double", client: Client):
    desk = Desk(client, role="Finance")
    note = credit(paid(double, BOUNCES))
    give_back()

    page = desk.get("invoicing_invoice_change", note.pk)

    assert "The money is with us again" in page.text
    assert "Record another way" in page.text and "Record the refund" not in page.text
    assert desk.post("invoice_refund_by_hand", note.pk, reference="sepa 4").went_on
    assert note.refunds.get().reference == "sepa 4"


def test_only_those_who_may_credit_send_a_refund_another_way(double: "Double", client: Client):
    desk = Desk(client, role="Ops")
    note = credit(paid(double, BOUNCES))
    give_back()

    assert desk.post("invoice_refund_by_hand", note.pk, reference="x").status == 403
    assert desk.post("invoice_refund_again", note.pk).status == 403
