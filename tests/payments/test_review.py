"""What real Stripe and busy people do to a collection: nothing is asked twice, lost, or stuck."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pytest_django.fixtures import Settings as Given

from billing_admin import stripe_runs
from billing_admin.flows import (
    stripe_anew,
    stripe_collect,
    stripe_compare,
    stripe_customers,
    stripe_events,
    stripe_links,
    stripe_methods,
    stripe_mirror,
)
from billing_admin.flows.corrections import credit_invoice, void_invoice
from billing_admin.flows.customers import close_customer, erase, update_customer
from billing_admin.flows.gate import collect as pay_by_hand
from billing_admin.flows.stripe_account import connect
from billing_admin.flows.stripe_repair import preview_many
from invoicing.models import Invoice
from payments.gateway import WrongAccount, event_facts, gateway, key_digest
from payments.inbox import keep
from payments.models import (
    Difference,
    StripeAccount,
    StripeCustomer,
    StripeEvent,
    StripeInvoice,
    StripeRun,
    StripeSubscription,
)
from tests import builders as a
from tests.admin.catalog_desk import staff
from tests.instants import MARCH_1, MARCH_16
from tests.payments import mirror_world as mirror
from tests.payments import pages_world as world
from tests.payments.fault_world import pay_on_the_page

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
State = StripeInvoice.State
EVENT: dict[str, Any] = {
    "id": "evt_1", "object": "event", "type": "invoice.paid", "created": int(MARCH_1.timestamp()), "livemode": False,
    "data": {"object": {"id": "", "object": "invoice"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def keys(settings: Given, double: "Double") -> None:
    world.use(settings, double)


def pay_part(invoice: Invoice, amount: int = 2000) -> None:
    pay_by_hand(invoice, amount=amount, reference=f"bank {amount}", actor=a.STAFF, now=MARCH_1)


# What is owed changes while Stripe asks -------------------------------------------------------------------------------


def test_a_part_that_is_paid_by_hand_makes_stripe_ask_for_the_rest_by_itself(double: "Double"):
    invoice = world.owing()
    row = world.collect(invoice)

    pay_part(invoice)
    after = world.collect(invoice)

    assert double.object(row.stripe_id)["amount_remaining"] == 3000
    assert (after.asked, after.state, after.next_attempt_at) == (3000, State.NEEDS_METHOD, None)


def test_a_credit_note_on_an_open_invoice_reaches_stripe_by_itself(double: "Double"):
    invoice = world.owing()
    row = world.collect(invoice)

    credit_invoice(invoice, amount=2000, settlement="offset", reason="late start", actor=a.STAFF, now=MARCH_1)
    world.collect(invoice)

    assert double.object(row.stripe_id)["amount_remaining"] == 3000


def test_while_a_payment_is_under_way_a_part_that_came_otherwise_is_looked_at_once_an_hour(double: "Double"):
    invoice = world.owing(card=world.ASKS, double=double)
    world.collect(invoice)

    pay_part(invoice)
    row = world.collect(invoice)

    assert row.next_attempt_at == MARCH_1 + timedelta(hours=1)
    assert stripe_collect.enqueue(MARCH_1) == 0


def test_an_invoice_that_was_credited_in_stripe_can_still_be_voided(double: "Double"):
    invoice = world.owing()
    row = world.collect(invoice)
    pay_part(invoice)
    world.collect(invoice)

    void_invoice(invoice, reason="wrong plan", actor=a.STAFF, now=MARCH_1)

    assert world.collect(invoice).state == State.VOID
    assert double.object(row.stripe_id)["status"] == "void"


def test_an_invoice_that_was_credited_in_stripe_can_be_collected_anew(double: "Double"):
    invoice = world.owing()
    former = world.collect(invoice).stripe_id
    pay_part(invoice)
    world.collect(invoice)

    stripe_anew.collect_anew(invoice, reason="other page", actor=a.STAFF, now=MARCH_1)
    row = world.collect(invoice)

    assert double.object(former)["status"] == "void"
    assert (row.asked, double.object(row.stripe_id)["amount_remaining"]) == (3000, 3000)


# Who pays, and with what ----------------------------------------------------------------------------------------------


def test_another_card_is_charged_at_once_where_the_bank_wanted_a_confirmation_of_the_first(double: "Double"):
    invoice = world.owing(card=world.ASKS, double=double)
    row = world.collect(invoice)
    assert row.state == State.ACTION
    double.edit(row.payment_intent, status="requires_payment_method", last_payment_error={
        "type": "card_error", "code": "authentication_required", "decline_code": "authentication_required",
    })  # fmt: skip
    assert stripe_collect.refresh(row, MARCH_1).state == State.ACTION
    owner = StripeCustomer.objects.get(customer=invoice.customer)

    card = double.add_card(owner.stripe_id, world.GOOD)
    stripe_methods.charge_to(
        stripe_customers.refresh_customer(owner.stripe_id, MARCH_1), card, actor=a.STAFF, now=MARCH_1
    )

    assert world.collect(invoice).state == State.PAID
    assert [charge["amount"] for charge in double.ledger()] == [5000]


def test_a_payment_that_its_customer_never_confirmed_is_tried_with_the_card_they_save_then(double: "Double"):
    invoice = world.owing(card=world.ASKS, double=double)
    row = world.collect(invoice)
    assert double.object(row.payment_intent)["status"] == "requires_action"

    world.save_card(invoice.customer, double)

    assert world.collect(invoice).state == State.PAID
    assert [charge["amount"] for charge in double.ledger()] == [5000]


def test_what_is_paid_by_hand_is_settled_there_though_a_confirmation_is_still_awaited(double: "Double"):
    invoice = world.owing(card=world.ASKS, double=double)
    row = world.collect(invoice)

    pay_part(invoice, 5000)

    assert world.collect(invoice).state == State.OUTSIDE
    assert double.object(row.payment_intent)["status"] == "canceled"


def test_a_customer_of_stripes_whom_nobody_here_is_gets_no_other_default(double: "Double"):
    them = gateway().create_customer(name="Else", email="", metadata={}, key="else")
    StripeCustomer.objects.create(stripe_id=them.id, name="Else")
    double.add_card(them.id, world.GOOD, default=False)

    stripe_customers.refresh_customer(them.id, MARCH_1)

    assert double.object(them.id)["invoice_settings"]["default_payment_method"] is None


# Stripe and the books say different things ----------------------------------------------------------------------------


def test_what_was_marked_as_paid_in_stripe_alone_says_so_and_can_be_collected_anew(double: "Double"):
    invoice = world.owing()
    row = world.collect(invoice)
    gateway().settle_outside(row.stripe_id, key="a person")
    stripe_collect.refresh(row, MARCH_1)

    said = world.panel(staff("Finance"), invoice)

    assert "$50.00 is still open here" in said
    assert "Nothing is left to do" not in said
    assert "Collect anew" in said
    stripe_anew.collect_anew(invoice, reason="it never came", actor=a.STAFF, now=MARCH_16)
    again = world.collect(invoice, MARCH_16)
    assert again.stripe_id != row.stripe_id
    assert double.object(again.stripe_id)["status"] == "open"


def test_what_somebody_took_off_in_stripe_and_was_paid_there_says_what_is_left_here(double: "Double"):
    invoice = world.owing()
    row = world.collect(invoice)
    gateway().credit(
        row.stripe_id, amount=2000, currency="USD", refund=False, memo="by a person", reference="", key="a person"
    )
    pay_on_the_page(row)
    stripe_collect.refresh(row, MARCH_1)

    said = world.panel(staff("Finance"), invoice)

    assert Invoice.objects.get(pk=invoice.pk).due == 2000
    assert "Paid in Stripe, but $20.00 is still open here" in said
    assert "Nothing is left to do" not in said


def test_a_late_look_at_a_former_invoice_is_not_taken_for_the_one_that_is_drawn_up_anew(double: "Double"):
    invoice = world.owing()
    row = world.collect(invoice)
    before = gateway().invoice(row.stripe_id)
    stripe_anew.collect_anew(invoice, reason="other page", actor=a.STAFF, now=MARCH_1)

    stripe_collect.observe(row, before, MARCH_1)

    assert world.row_of(invoice).stripe_id is None


def test_somebody_who_stops_a_collection_stops_the_worker_that_is_at_it(double: "Double"):
    invoice = world.owing(card=world.GOOD, double=double)
    row = StripeInvoice(invoice=invoice, method="charge_automatically", queued_at=MARCH_1, next_attempt_at=MARCH_1)
    row.save()
    at_it = world.row_of(invoice)
    stripe_anew.stop_collecting(invoice, reason="they pay by cheque", actor=a.STAFF, now=MARCH_1)

    stripe_collect._bring_on(at_it, gateway(), MARCH_1, is_unsure=False)

    assert double.ledger() == []


# Who was deleted, there or here ---------------------------------------------------------------------------------------


def deleted_there(invoice: Invoice) -> StripeCustomer:
    known = StripeCustomer.objects.get(customer=invoice.customer)
    gateway().delete_customer(known.stripe_id)
    stripe_customers.refresh_customer(known.stripe_id, MARCH_1)
    return known


def test_an_invoice_of_a_customer_who_was_replaced_in_stripe_is_no_difference(double: "Double"):
    invoice = world.owing(card=world.GOOD, double=double)
    row = world.collect(invoice)
    former = deleted_there(invoice)

    present = stripe_customers.ensure(invoice.customer, MARCH_1, tries=1)

    assert present.stripe_id != former.stripe_id
    assert stripe_compare.look_at_invoice(row.stripe_id, MARCH_16).gaps == ()


def test_one_who_was_deleted_in_stripe_can_be_linked_with_another_though_invoices_were_sent(double: "Double"):
    invoice = world.owing()
    world.collect(invoice)
    deleted_there(invoice)
    other = gateway().create_customer(name="Acme", email="", metadata={}, key="by a person")
    stripe_mirror.write_customers([other], MARCH_1)

    stripe_links.link(StripeCustomer.objects.get(stripe_id=other.id), invoice.customer, actor=a.STAFF, now=MARCH_1)

    assert StripeCustomer.objects.get(customer=invoice.customer).stripe_id == other.id


def test_what_stripe_told_of_one_who_was_replaced_there_is_erased_as_well(double: "Double"):
    """A-52."""
    who = a.customer()
    known = stripe_customers.ensure(who, MARCH_1)
    told = {**EVENT, "type": "customer.updated", "data": {"object": {
        "id": known.stripe_id, "object": "customer", "name": "Acme Robotics", "phone": "555",
    }}}  # fmt: skip
    keep([event_facts(told)], now=MARCH_1)
    gateway().delete_customer(known.stripe_id)
    stripe_customers.refresh_customer(known.stripe_id, MARCH_1)
    stripe_customers.ensure(who, MARCH_1, tries=1)

    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_1)
    assert erase(who.pk, now=MARCH_1 + timedelta(days=31))

    assert "555" not in str(StripeEvent.objects.get().payload)


def test_an_import_brings_back_nothing_of_whoever_was_erased(double: "Double"):
    """A-52."""
    who = a.customer()
    known = stripe_customers.ensure(who, MARCH_1)
    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_1)
    assert erase(who.pk, now=MARCH_1 + timedelta(days=31))

    stripe_mirror.write_customers([gateway().customer(known.stripe_id)], MARCH_1 + timedelta(days=40))

    row = StripeCustomer.objects.get()
    assert (row.name, row.email, row.key) == ("", "", "")


# One that goes wrong holds up no other --------------------------------------------------------------------------------


def test_an_invoice_whose_payment_cannot_be_written_holds_up_no_other(double: "Double"):
    broken = world.owing("Broken")
    row = world.collect(broken)
    pay_on_the_page(row)
    Invoice.objects.filter(pk=broken.pk).update(state="draft")  # nothing can be paid on one
    StripeInvoice.objects.filter(invoice=broken).update(next_attempt_at=MARCH_1 - timedelta(days=1))
    other = world.owing("Other", card=world.GOOD, double=double)

    this = stripe_runs.work(stripe_runs.COLLECT, now=MARCH_1)

    assert world.row_of(other).state == State.PAID
    row = world.row_of(broken)
    assert (row.attempts, row.next_attempt_at, row.claimed_until) == (1, MARCH_1 + timedelta(seconds=30), None)
    assert (this.done, this.failed) == (1, 1)


def test_a_customer_who_cannot_follow_stripe_does_not_hold_up_the_import(double: "Double"):
    mirror.subscriber(name="Broken")
    StripeSubscription.objects.update(started_at=None, seen_at=MARCH_16)  # so the import leaves it as it is
    other = a.customer("Other")
    mirror.subscribe(mirror.stripe_customer(other), mirror.price(mirror.product("Other")))

    run = mirror.bring()

    assert run.finished_at == MARCH_1
    assert other.subscriptions.get().state == "active"


def test_where_stripe_does_not_answer_many_previews_ask_it_once(double: "Double"):
    rows = [world.collect(world.owing(name)) for name in ("One", "Two", "Three")]
    run = StripeRun.objects.create(kind="comparison", started_at=MARCH_1, started_by="a test", finished_at=MARCH_1)
    told = [
        Difference.objects.create(
            run=run, subject="invoice", kind="status", since=MARCH_1, our_id=row.invoice.public_id,
            stripe_id=str(row.stripe_id), repair="look",
        )
        for row in rows
    ]  # fmt: skip
    double.fault("*", "**", "down")
    before = len(double.requests)

    tried = preview_many(told, MARCH_1)

    assert [each.preview for each in tried] == [None, None, None]
    assert len(double.requests) - before == 1


def test_a_key_of_another_account_marks_nothing_as_gone(double: "Double", settings: Given):
    invoice = world.owing(card=world.GOOD, double=double)
    row = world.collect(world.owing("Other"))
    StripeInvoice.objects.filter(pk=row.pk).update(next_attempt_at=MARCH_1)
    StripeAccount.objects.update(key_digest="other", stripe_id="acct_books")  # the key is of acct_double
    update_customer(invoice.customer, name="Acme Inc.", actor=a.STAFF, now=MARCH_1)

    stripe_collect.collect_due(MARCH_1)
    stripe_customers.sync_due(MARCH_1)
    with pytest.raises(WrongAccount):
        stripe_customers.refresh_customer(StripeCustomer.objects.get(customer=invoice.customer).stripe_id, MARCH_1)

    assert not StripeCustomer.objects.exclude(deleted_at=None).exists()
    row.refresh_from_db()
    assert (row.state, row.attempts, row.code) == (State.NEEDS_METHOD, 1, "key_changed")


def test_a_restricted_key_that_may_not_read_the_account_connects_all_the_same(double: "Double"):
    StripeAccount.objects.all().delete()
    said = f"The provided key 'rk_test_***' does not have the required permissions on account '{double.account}'."
    body = {"error": {"type": "invalid_request_error", "message": said}}
    double.fault("GET", "/v1/account", "error", times=None, status=403, body=body)

    account = connect(MARCH_1)

    assert (account.stripe_id, account.livemode) == (double.account, False)


def test_events_wait_while_the_key_is_wrong(double: "Double", settings: Given):
    invoice = world.owing()
    row = world.collect(invoice)
    EVENT["data"]["object"]["id"] = row.stripe_id
    keep([event_facts(EVENT)], now=MARCH_1)
    settings.STRIPE_SECRET_KEY = "sk_test_revoked"
    StripeAccount.objects.update(key_digest=key_digest())  # it was right once

    for minutes in range(0, 600, 60):
        stripe_events.process(MARCH_1 + timedelta(minutes=minutes))

    assert StripeEvent.objects.get().state == StripeEvent.State.WAITING
    account = StripeAccount.present()
    assert account is not None and account.failing_since is not None
    settings.STRIPE_SECRET_KEY = double.key
    StripeAccount.objects.update(key_digest=key_digest())
    stripe_events.process(MARCH_1 + timedelta(hours=12))
    assert StripeEvent.objects.get().state == StripeEvent.State.DONE
