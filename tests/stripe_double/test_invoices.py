"""The state machine of an invoice, and what each state refuses."""

import pytest
import stripe

from tests.stripe_double.conftest import Shop

VISA = "4242424242424242"


def test_lines_add_up_to_the_total_negative_ones_too(shop: Shop) -> None:
    invoice = shop.draft(shop.customer(), 5000, -1500)

    assert (invoice.status, invoice.total, [line.amount for line in invoice.lines.data]) == (
        "draft",
        3500,
        [5000, -1500],
    )
    assert invoice.lines.data[0].parent.type == "invoice_item_details"


def test_finalising_numbers_it_and_asks_for_payment(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)

    assert (invoice.status, invoice.amount_remaining) == ("open", 5000)
    assert invoice.number.endswith("-0001")
    assert shop.intent(invoice).amount == 5000


def test_paying_charges_the_default_method_once(shop: Shop) -> None:
    invoice = shop.paid(shop.customer(VISA), 5000)

    assert (invoice.status, invoice.amount_paid, invoice.amount_remaining) == ("paid", 5000, 0)
    assert [entry["amount"] for entry in shop.double.ledger()] == [5000]
    assert shop.double.ledger()[0]["invoice"] == invoice.id


def test_a_payment_leads_back_to_its_invoice(shop: Shop) -> None:
    invoice = shop.paid(shop.customer(VISA), 5000)

    found = shop.api.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": shop.intent(invoice).id}}
    )

    assert [(each.invoice, each.status, each.amount_paid) for each in found.data] == [(invoice.id, "paid", 5000)]


def test_the_events_of_a_payment_come_in_stripes_order(shop: Shop) -> None:
    customer = shop.customer(VISA)
    invoice = shop.open(customer, 5000)
    before = len(shop.types())
    shop.api.invoices.pay(invoice.id)

    told = [kind for kind in shop.types()[before:] if kind != "invoice.updated"]

    assert told == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


def test_nothing_to_pay_is_paid_at_once(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000, -5000)

    assert (invoice.status, invoice.total) == ("paid", 0)
    assert shop.double.ledger() == []


def test_less_than_the_least_charge_goes_on_the_balance(shop: Shop) -> None:
    customer = shop.customer()

    invoice = shop.open(customer, 49)

    assert (invoice.status, invoice.amount_due, invoice.total) == ("paid", 0, 49)
    assert shop.api.customers.retrieve(customer.id).balance == 49


def test_a_negative_total_becomes_credit(shop: Shop) -> None:
    customer = shop.customer()

    assert shop.open(customer, -2000).status == "paid"
    assert shop.api.customers.retrieve(customer.id).balance == -2000


def test_an_invoice_without_lines_is_not_finalised(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.open(shop.customer())

    assert refusal.value.code == "invoice_no_customer_line_items"


def test_a_finalised_invoice_takes_no_items_and_loses_none(shop: Shop) -> None:
    customer = shop.customer()
    invoice = shop.open(customer, 5000)
    item = shop.api.invoice_items.list({"invoice": invoice.id}).data[0]

    for act in (
        lambda: shop.api.invoice_items.create({"customer": customer.id, "invoice": invoice.id, "amount": 5}),
        lambda: shop.api.invoice_items.update(item.id, {"amount": 5}),
        lambda: shop.api.invoice_items.delete(item.id),
        lambda: shop.api.invoices.finalize_invoice(invoice.id),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            act()
        assert refusal.value.code == "invoice_not_editable"


def test_only_a_draft_can_be_deleted(shop: Shop) -> None:
    customer = shop.customer()
    draft, issued = shop.draft(customer, 5000), shop.open(customer, 5000)

    assert shop.api.invoices.delete(draft.id).deleted
    with pytest.raises(stripe.InvalidRequestError, match="void it instead"):
        shop.api.invoices.delete(issued.id)


def test_a_draft_or_a_paid_or_a_voided_invoice_cannot_be_paid(shop: Shop) -> None:
    customer = shop.customer(VISA)
    voided = shop.api.invoices.void_invoice(shop.open(customer, 5000).id)

    for invoice in (shop.draft(customer, 5000), shop.paid(customer, 5000), voided):
        with pytest.raises(stripe.InvalidRequestError):
            shop.api.invoices.pay(invoice.id)


def test_an_uncollectible_invoice_can_still_be_paid_or_voided(shop: Shop) -> None:
    customer = shop.customer(VISA)
    first, second = shop.open(customer, 5000), shop.open(customer, 5000)
    for invoice in (first, second):
        assert shop.api.invoices.mark_uncollectible(invoice.id).status == "uncollectible"

    assert shop.api.invoices.pay(first.id).status == "paid"
    assert shop.api.invoices.void_invoice(second.id).status == "void"


def test_only_open_or_uncollectible_invoices_are_voided_and_only_open_ones_given_up(shop: Shop) -> None:
    customer = shop.customer(VISA)
    draft, paid = shop.draft(customer, 5000), shop.paid(customer, 5000)

    for invoice in (draft, paid):
        with pytest.raises(stripe.InvalidRequestError):
            shop.api.invoices.void_invoice(invoice.id)
        with pytest.raises(stripe.InvalidRequestError):
            shop.api.invoices.mark_uncollectible(invoice.id)


def test_voiding_cancels_the_payment_and_gives_the_balance_back(shop: Shop) -> None:
    customer = shop.customer(balance=-1000)
    invoice = shop.open(customer, 5000)

    shop.api.invoices.void_invoice(invoice.id)

    assert shop.intent(invoice).status == "canceled"
    assert shop.api.customers.retrieve(customer.id).balance == -1000


def test_an_invoice_paid_elsewhere_has_no_charge(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)

    paid = shop.api.invoices.pay(invoice.id, {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]})

    assert (paid.status, paid.amount_paid, paid.amount_paid_off_stripe) == ("paid", 5000, 5000)
    assert shop.types()[-1] == "invoice.paid"
    assert shop.double.ledger() == []


def test_paying_without_any_method_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        shop.paid(shop.customer(), 5000)


def test_a_bill_that_is_sent_needs_days_and_an_email_and_a_charge_has_none(shop: Shop) -> None:
    customer, silent = shop.customer(), shop.customer()
    shop.double.edit(silent.id, email=None)
    sent = {"collection_method": "send_invoice", "days_until_due": 14}

    with pytest.raises(stripe.InvalidRequestError, match="days_until_due"):
        shop.draft(customer, collection_method="send_invoice")
    with pytest.raises(stripe.InvalidRequestError, match="days_until_due"):
        shop.draft(customer, days_until_due=14)
    with pytest.raises(stripe.InvalidRequestError, match="Missing email"):
        shop.draft(silent, **sent)
    invoice = shop.open(customer, 5000, **sent)
    assert invoice.due_date - invoice.created == 14 * 24 * 3600
    assert shop.api.invoices.send_invoice(invoice.id).status == "open"
    assert shop.types()[-1] == "invoice.sent"


def test_pending_items_come_along_only_when_asked_for(shop: Shop) -> None:
    customer = shop.customer()
    shop.api.invoice_items.create({"customer": customer.id, "amount": 700, "currency": "usd"})

    assert shop.draft(customer).total == 0
    assert shop.draft(customer, pending_invoice_items_behavior="include").total == 700
    with pytest.raises(stripe.InvalidRequestError, match="Nothing to invoice"):
        shop.draft(customer, pending_invoice_items_behavior="include")


def test_lines_are_added_at_once_and_changed_with_their_items(shop: Shop) -> None:
    draft = shop.draft(shop.customer())
    shop.api.invoices.add_lines(draft.id, {"lines": [{"amount": 700, "description": "Seats"}, {"amount": -200}]})
    item = shop.api.invoice_items.list({"invoice": draft.id}).data[-1]

    shop.api.invoice_items.update(item.id, {"amount": 900})

    lines = shop.api.invoices.line_items.list(draft.id).data
    assert [(line.description, line.amount) for line in lines] == [("Seats", 900), (None, -200)]
    assert shop.api.invoices.retrieve(draft.id).total == 700


def test_a_finalised_invoice_keeps_its_terms(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)

    assert shop.api.invoices.update(invoice.id, {"metadata": {"ours": "7"}}).metadata["ours"] == "7"
    with pytest.raises(stripe.InvalidRequestError, match="can't be updated in this way"):
        shop.api.invoices.update(invoice.id, {"description": "Once more"})


def test_an_item_in_another_currency_is_refused(shop: Shop) -> None:
    customer = shop.customer()
    draft = shop.draft(customer)

    with pytest.raises(stripe.InvalidRequestError, match="must match the currency"):
        shop.api.invoice_items.create({"customer": customer.id, "invoice": draft.id, "amount": 5, "currency": "eur"})


@pytest.mark.parametrize(("currency", "good", "bad"), [("kwd", 12340, 12345), ("isk", 50000, 50050)])
def test_special_currencies_want_round_amounts(shop: Shop, currency: str, good: int, bad: int) -> None:
    customer = shop.customer()

    assert shop.draft(customer, good, currency=currency).total == good
    with pytest.raises(stripe.InvalidRequestError, match="multiple of"):
        shop.draft(customer, bad, currency=currency)


def test_invoices_are_listed_by_customer_and_status(shop: Shop) -> None:
    acme, bravo = shop.customer(), shop.customer()
    issued = shop.open(acme, 5000)
    shop.draft(acme, 5000)
    shop.open(bravo, 5000)

    found = shop.api.invoices.list({"customer": acme.id, "status": "open"})

    assert [invoice.id for invoice in found.data] == [issued.id]


def test_an_invoice_that_advances_is_finalised_and_charged_after_an_hour(shop: Shop) -> None:
    draft = shop.draft(shop.customer(VISA), 5000, auto_advance=True)

    shop.double.advance(minutes=59)
    assert shop.api.invoices.retrieve(draft.id).status == "draft"
    shop.double.advance(minutes=1)

    assert shop.api.invoices.retrieve(draft.id).status == "paid"
