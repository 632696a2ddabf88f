"""Deleting a customer in Stripe too, and forgetting whom Stripe knows (A-52)."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.test import Client

from billing_admin.flows import stripe_customers
from billing_admin.flows.cancel import cancel
from billing_admin.flows.customers import (
    ERASED_AFTER,
    DeletionBlocked,
    WrongName,
    close_customer,
    erase_due,
    reopen_customer,
)
from billing_admin.flows.stripe_delete import NotInStripe, StripeKeepsThem, delete_everywhere
from customers.models import Customer
from payments.models import Difference, StripeAccount, StripeCustomer, StripeInvoice, StripeRun
from tests import builders as a
from tests.admin.customer_desk import CustomerDesk
from tests.instants import APRIL_1, MARCH_16
from tests.payments import pages_world as world

if TYPE_CHECKING:
    from tests.stripe_double import Double

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _stripe(settings: Any, double: "Double") -> None:
    world.use(settings, double)


def left(double: "Double") -> Customer:
    """A customer who paid with a card, cancelled, and owes nothing."""
    invoice = world.owing(card=world.GOOD, double=double)
    world.collect(invoice)
    who = invoice.customer
    cancel(a.the_subscription(who), at_once=True, unused="nothing", reason="left", actor=a.STAFF, now=MARCH_16)
    who.refresh_from_db()
    return who


def delete(who: Customer, name: str = "") -> Customer:
    return delete_everywhere(who, confirm_name=name or who.name, reason="asked to", actor=a.STAFF, now=MARCH_16)


def is_untouched(who: Customer) -> bool:
    who.refresh_from_db()
    return who.closed_at is None and StripeCustomer.objects.get(customer=who).deleted_at is None


def test_stripe_deletes_the_customer_first_then_we_close_them(double: "Double"):
    """A-52."""
    who = left(double)
    known = StripeCustomer.objects.get(customer=who)

    who = delete(who)

    assert who.closed_at == MARCH_16
    assert double.object(known.stripe_id)["deleted"] is True
    known.refresh_from_db()
    assert (known.customer_id, known.deleted_at, known.payment_methods) == (who.pk, MARCH_16, [])
    assert who.operations.get(verb="customer.deleted_in_stripe").actor == a.STAFF.name


@pytest.mark.parametrize("kind", ["down", "drop_before", "error", "rate_limit"])
def test_nothing_changes_here_while_stripe_does_not_delete(double: "Double", kind: str):
    """A-52."""
    who = left(double)
    double.fault("DELETE", "/v1/customers/*", kind)

    with pytest.raises(StripeKeepsThem, match="Nothing was changed here"):
        delete(who)

    assert is_untouched(who)


def test_a_deletion_whose_answer_was_lost_is_finished_by_the_next_try(double: "Double"):
    """A-52."""
    who = left(double)
    double.fault("DELETE", "/v1/customers/*", "drop_after")
    with pytest.raises(StripeKeepsThem):
        delete(who)
    assert is_untouched(who)

    assert delete(who).closed_at == MARCH_16


def test_what_we_refuse_is_not_asked_of_stripe(double: "Double"):
    who = left(double)
    before = len(double.requests)

    with pytest.raises(WrongName):
        delete(who, "Somebody else")

    assert len(double.requests) == before


def ask(double: "Double", path: str, **said: Any) -> dict[str, Any]:
    """What somebody does in Stripe's dashboard."""
    answer = httpx.post(f"{double.url}/v1/{path}", data=said, auth=(double.key, ""))
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def test_an_open_invoice_and_a_payment_under_way_there_stand_in_the_way(double: "Double"):
    """A-52."""
    who = left(double)
    there = StripeCustomer.objects.get(customer=who).stripe_id
    intent = ask(double, "payment_intents", customer=there, amount=100, currency="usd")
    double.edit(intent["id"], status="processing")
    [paid] = double.objects("invoice")
    double.edit(paid["id"], status="open", amount_remaining=700)

    with pytest.raises(DeletionBlocked) as refused:
        delete(who)

    assert [blocker.kind for blocker in refused.value.blockers] == ["stripe_invoice", "stripe_payment"]
    assert "$7.00" in refused.value.blockers[0].sentence
    assert is_untouched(who)


def test_a_running_subscription_there_stands_in_the_way(double: "Double"):
    """A-52."""
    who = left(double)
    there = StripeCustomer.objects.get(customer=who).stripe_id
    product = ask(double, "products", name="Pro")
    price = ask(
        double,
        "prices",
        product=product["id"],
        currency="usd",
        unit_amount=100,
        **{"recurring[interval]": "month"},
    )
    subscription = ask(double, "subscriptions", customer=there, **{"items[0][price]": price["id"]})

    with pytest.raises(DeletionBlocked) as refused:
        delete(who)

    assert [(b.kind, b.id) for b in refused.value.blockers] == [("stripe_subscription", subscription["id"])]


def test_who_is_not_in_stripe_cannot_be_deleted_there():
    with pytest.raises(NotInStripe):
        delete(a.customer())


def test_an_undone_deletion_gets_a_new_customer_in_stripe_with_the_next_invoice(double: "Double"):
    """A-52."""
    who = delete(left(double))
    former = StripeCustomer.objects.get(customer=who)
    who = reopen_customer(who, actor=a.STAFF, now=MARCH_16 + timedelta(days=29))
    assert StripeCustomer.objects.get(customer=who).deleted_at == MARCH_16
    a.enable(who, a.plan("next", a.fee(20)), now=APRIL_1)

    row = world.collect(who.invoices.unpaid().get(), APRIL_1)

    present = StripeCustomer.objects.get(customer=who)
    assert (row.state, present.deleted_at) == ("needs_method", None)
    assert present.stripe_id != former.stripe_id
    assert double.object(row.stripe_id)["customer"] == present.stripe_id
    former.refresh_from_db()
    assert (former.customer, former.name, former.email) == (None, "", "")


def test_erasure_forgets_names_mails_and_cards_that_came_from_stripe(double: "Double"):
    """A-52."""
    who = left(double)
    known = StripeCustomer.objects.get(customer=who)
    double.edit(known.stripe_id, name="Jane Billing", email="jane@billing.example")
    stripe_customers.refresh_customer(known.stripe_id, MARCH_16)
    StripeInvoice.objects.update(problem="Jane Billing's bank said no.")
    run = StripeRun.objects.create(kind="comparison", started_at=MARCH_16, started_by="ops", finished_at=MARCH_16)
    Difference.objects.create(
        run=run,
        subject="customer",
        kind="owner",
        customer=who,
        ours=who.name,
        theirs="Jane Billing",
        since=MARCH_16,
    )
    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_16)

    erase_due(now=MARCH_16 + ERASED_AFTER)

    rows = [str(row) for model in (StripeCustomer, StripeInvoice, Difference) for row in model.objects.values()]
    assert [row for row in rows if "Jane" in row or "jane" in row or "4242" in row or "Acme" in row] == []
    assert StripeCustomer.objects.get().customer == who


def test_what_stripe_says_later_of_an_erased_customer_is_not_kept(double: "Double"):
    """A-52."""
    who = left(double)
    known = StripeCustomer.objects.get(customer=who)
    close_customer(who, confirm_name=who.name, reason="asked to", actor=a.STAFF, now=MARCH_16)
    erase_due(now=MARCH_16 + ERASED_AFTER)

    stripe_customers.refresh_customer(known.stripe_id, MARCH_16 + ERASED_AFTER)

    known.refresh_from_db()
    assert (known.name, known.email, known.payment_methods) == ("", "", [])


# Doors ----------------------------------------------------------------------------------------------------------------


def test_the_dialog_asks_whether_to_delete_in_stripe_too(double: "Double", client: Client):
    who = left(double)
    desk = CustomerDesk(client)

    page = desk.get("customers_customer_delete", who.pk)

    assert "Delete in Stripe too" in page.text and "keeps payments and invoices on record" in page.text
    said = {"confirm_name": who.name, "reason": "asked to", "in_stripe": "on"}
    assert desk.post("customers_customer_delete", who.pk, **said).went_on
    assert double.object(StripeCustomer.objects.get().stripe_id)["deleted"] is True


def test_the_dialog_says_that_nothing_changed_while_stripe_is_away(double: "Double", client: Client):
    """A-52."""
    who = left(double)
    double.fault("*", "**", "down")

    said = {"confirm_name": who.name, "reason": "asked to", "in_stripe": "on"}
    page = CustomerDesk(client).post("customers_customer_delete", who.pk, **said)

    assert "Nothing was changed here." in page.text
    assert is_untouched(who)
    account = StripeAccount.present()
    assert account is not None and account.failing_since == MARCH_16


def test_without_keys_nobody_is_asked(double: "Double", client: Client, settings: Any):
    who = left(double)
    settings.STRIPE_SECRET_KEY = ""

    assert "Stripe" not in CustomerDesk(client).get("customers_customer_delete", who.pk).text
