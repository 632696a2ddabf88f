"""A repair says what it writes, does it, and is gone in the next comparison; it is refused when a side moved."""

from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ValidationError
from pytest_django.fixtures import Settings as Given

from billing_admin.flows.gate import collect as pay_by_hand
from billing_admin.flows.stripe_repair import LABELS, Preview, preview, preview_many, repair
from customers.models import Operation
from invoicing.models import Invoice, Payment
from payments.gateway import gateway
from payments.models import Difference, StripeCustomer, StripeInvoice, StripeSubscription
from tests import builders as a
from tests.payments import mirror_world as mirror
from tests.payments.compare_world import (
    LATER,
    PLANTS,
    REPAIRABLE,
    Plant,
    compare,
    forget_payment,
    found,
    open_invoice,
    paid_invoice,
    row_of,
    sent,
    still,
    use,
)

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db
NEXT = LATER.replace(day=3)


@pytest.fixture(autouse=True)
def keys(settings: Given, double: "Double") -> None:
    use(settings, double)


def the_difference() -> Difference:
    return Difference.objects.get(settled_at=None)


def written(seen: Preview) -> list[str]:
    return [f"{write.where}: {write.what}" for write in seen.writes]


def repaired(row: Difference) -> bool:
    return repair(row, confirmed=preview(row, LATER).fingerprint, actor=a.STAFF, now=LATER).is_gone


@pytest.mark.parametrize("plant", REPAIRABLE, ids=str)
def test_a_repair_ends_its_difference_and_the_next_comparison_agrees(plant: Plant, double: "Double"):
    plant.do(double)
    compare()
    row = the_difference()

    gone = repaired(row)
    compare(NEXT)

    row.refresh_from_db()
    assert (gone, row.settled_by, found()) == (True, "ops", [])
    operation = Operation.objects.get(verb="difference.repaired")
    assert (operation.customer_id, operation.actor) == (row.customer_id, "ops")
    assert operation.effects["writes"]


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if not plant.expected[0][2]], ids=str)
def test_without_a_safe_repair_a_person_has_to_decide(plant: Plant, double: "Double"):
    plant.do(double)
    compare()

    for row in Difference.objects.filter(settled_at=None, repair=""):
        with pytest.raises(ValidationError) as refused:
            preview(row, LATER)

        assert refused.value.code == "no_safe_repair"


def test_a_payment_that_stripe_took_is_recorded_and_opens_what_waited_for_it(double: "Double"):
    """Y-25."""
    invoice = paid_invoice(double)
    forget_payment(invoice)
    compare()
    row = the_difference()

    said = written(preview(row, LATER))
    repaired(row)

    intent = row_of(invoice).payment_intent
    assert said == [f"Here: a payment of $50.00 ({intent}) for {invoice}", f"Here: {invoice} is paid"]
    invoice.refresh_from_db()
    assert (invoice.state, Payment.objects.get(invoice=invoice).reference) == ("paid", intent)
    assert len(double.ledger()) == 1


def test_what_is_paid_by_hand_here_is_marked_as_paid_there_and_nothing_is_charged(double: "Double"):
    invoice = open_invoice(double)
    pay_by_hand(invoice, amount=5000, reference="bank", actor=a.STAFF, now=LATER)
    still(invoice)
    compare()
    row = the_difference()

    said = written(preview(row, LATER))
    repaired(row)

    stripe_id = sent(invoice)
    assert said == [f"Stripe: {stripe_id} is marked as paid outside Stripe; nothing is charged"]
    assert (double.object(stripe_id)["status"], double.ledger()) == ("paid", [])


def test_an_invoice_that_stripe_lost_is_drawn_up_again_once(double: "Double"):
    invoice = open_invoice(double)
    lost = sent(invoice)
    double.edit(lost, deleted=True)
    compare()

    repaired(the_difference())

    again = double.objects("invoice")
    assert [(each["id"] != lost, each["status"], each["amount_due"]) for each in again] == [(True, "open", 5000)]
    assert sent(invoice) == again[0]["id"]


def test_a_stripe_invoice_that_we_forgot_is_followed_and_no_other_one_is_made(double: "Double"):
    invoice = open_invoice(double)
    forgotten = sent(invoice)
    StripeInvoice.objects.all().delete()
    compare()

    repaired(the_difference())

    assert (sent(invoice), row_of(invoice).status) == (forgotten, "open")
    assert len(double.objects("invoice")) == 1


def test_stripe_is_told_our_name_again(double: "Double"):
    owner = StripeCustomer.objects.get(customer=open_invoice(double).customer)
    double.edit(owner.stripe_id, name="Somebody else", email="other@acme.example")
    compare()

    repaired(the_difference())

    there = double.object(owner.stripe_id)
    assert (there["name"], there["email"]) == ("Acme Robotics", "ops@acme_robotics.example")


def test_a_subscription_is_followed_again(double: "Double"):
    who, subscription = mirror.subscriber(a.allowance(100))
    item = StripeSubscription.objects.get().item_id
    changed = {"items": [{"id": item, "quantity": 3}], "proration_behavior": "none"}
    gateway().v1.subscriptions.update(subscription, changed)
    compare()

    repaired(the_difference())

    assert a.the_subscription(who).quantity == 3


def test_a_deleted_customer_is_noted_and_the_next_invoice_makes_another(double: "Double"):
    invoice = paid_invoice(double)
    owner = StripeCustomer.objects.get(customer=invoice.customer)
    double.edit(owner.stripe_id, deleted=True)
    compare()

    repaired(the_difference())

    owner.refresh_from_db()
    assert (owner.deleted_at, owner.payment_methods) == (LATER, [])


def test_what_was_confirmed_is_refused_when_stripe_moved(double: "Double"):
    invoice = open_invoice(double)
    pay_by_hand(invoice, amount=2000, reference="bank", actor=a.STAFF, now=LATER)
    still(invoice)
    compare()
    row = the_difference()
    seen = preview(row, LATER)
    pay_by_hand(invoice, amount=1000, reference="bank", actor=a.STAFF, now=LATER)
    still(invoice)

    with pytest.raises(ValidationError) as refused:
        repair(row, confirmed=seen.fingerprint, actor=a.STAFF, now=LATER)

    assert refused.value.code == "world_moved"
    assert double.object(sent(invoice))["amount_remaining"] == 5000
    assert not Operation.objects.filter(verb="difference.repaired").exists()


def test_what_agrees_by_now_is_not_repaired(double: "Double"):
    invoice = paid_invoice(double)
    forget_payment(invoice)
    compare()
    row = the_difference()
    seen = preview(row, LATER)
    repaired(row)

    with pytest.raises(ValidationError) as refused:
        repair(row, confirmed=seen.fingerprint, actor=a.STAFF, now=LATER)

    assert refused.value.code == "world_moved"
    assert Payment.objects.count() == 1


def test_a_repair_says_when_stripe_is_away_and_changes_nothing(double: "Double"):
    invoice = paid_invoice(double)
    forget_payment(invoice)
    compare()
    double.fault("GET", "/v1/*", "down", times=None)

    with pytest.raises(ValidationError) as refused:
        preview(the_difference(), LATER)

    assert refused.value.code == "stripe_unreachable"
    assert Invoice.objects.get(pk=invoice.pk).state == "open"


def test_of_many_each_says_what_it_would_write_or_why_not(double: "Double"):
    forget_payment(paid_invoice(double))
    settled = paid_invoice(double, "Globex")
    forget_payment(settled)
    compare()
    rows = list(Difference.objects.order_by("id"))
    repaired(next(row for row in rows if row.our_id == settled.public_id))
    for row in rows:
        row.refresh_from_db()

    tried = preview_many(rows, LATER)

    assert sorted(each.preview is not None for each in tried) == [False, True]


def test_each_repair_has_a_button():
    assert {plant.expected[0][2] for plant in REPAIRABLE} == set(LABELS)
