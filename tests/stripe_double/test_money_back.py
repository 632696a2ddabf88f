"""Refunds and credit notes: the sums must add up."""

import pytest
import stripe

from tests.stripe_double.conftest import Shop

VISA = "4242424242424242"


def test_a_part_then_the_rest_is_refunded_and_no_more(shop: Shop) -> None:
    intent = shop.intent(shop.paid(shop.customer(VISA), 5000)).id

    shop.api.refunds.create({"payment_intent": intent, "amount": 2000})
    charge = shop.api.charges.retrieve(shop.double.ledger()[0]["charge"], {"expand": ["refunds"]})
    assert (charge.amount_refunded, charge.refunded, len(charge.refunds.data)) == (2000, False, 1)
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        shop.api.refunds.create({"payment_intent": intent, "amount": 3001})
    assert shop.api.refunds.create({"charge": charge.id}).amount == 3000
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.refunds.create({"charge": charge.id})
    assert refusal.value.code == "charge_already_refunded"


def test_a_disputed_charge_is_not_refunded(shop: Shop) -> None:
    shop.paid(shop.customer(VISA), 5000)
    charge = shop.double.ledger()[0]["charge"]
    shop.double.dispute(charge)

    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.refunds.create({"charge": charge})

    assert refusal.value.code == "charge_disputed"


def test_a_refund_to_some_cards_fails_later(shop: Shop) -> None:
    intent = shop.intent(shop.paid(shop.customer("4000000000005126"), 5000)).id

    refund = shop.api.refunds.create({"payment_intent": intent})

    assert (refund.status, refund.failure_reason) == ("failed", "expired_or_canceled_card")
    assert shop.double.ledger()[0]["refunded"] == 0


def test_a_slow_refund_arrives_later(shop: Shop) -> None:
    intent = shop.intent(shop.paid(shop.customer("4000000000007726"), 5000)).id
    refund = shop.api.refunds.create({"payment_intent": intent})
    assert refund.status == "pending"

    assert shop.double.settle_refund(refund.id)["status"] == "succeeded"


def test_a_credit_note_on_an_open_invoice_leaves_less_to_pay(shop: Shop) -> None:
    invoice = shop.open(shop.customer(VISA), 5000)

    note = shop.api.credit_notes.create({"invoice": invoice.id, "amount": 1500})

    assert (note.type, note.pre_payment_amount, note.post_payment_amount) == ("pre_payment", 1500, 0)
    found = shop.api.invoices.retrieve(invoice.id)
    assert (found.amount_due, found.amount_remaining, found.total) == (3500, 3500, 5000)
    shop.api.invoices.pay(invoice.id)
    assert [entry["amount"] for entry in shop.double.ledger()] == [3500]


def test_a_credit_note_over_all_that_is_open_pays_the_invoice(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)

    shop.api.credit_notes.create({"invoice": invoice.id, "amount": 5000})

    assert shop.api.invoices.retrieve(invoice.id).status == "paid"
    assert shop.intent(invoice).status == "canceled"


@pytest.mark.parametrize(
    "parts",
    [
        {"refund_amount": 2000},
        {"credit_amount": 2000},
        {"out_of_band_amount": 2000},
        {"refund_amount": 500, "credit_amount": 700, "out_of_band_amount": 800},
    ],
)
def test_a_credit_note_on_a_paid_invoice_says_where_the_money_goes(shop: Shop, parts: dict[str, int]) -> None:
    customer = shop.customer(VISA)
    invoice = shop.paid(customer, 5000)

    note = shop.api.credit_notes.create({"invoice": invoice.id, "amount": 2000, **parts})

    assert (note.type, note.post_payment_amount) == ("post_payment", 2000)
    assert shop.double.ledger()[0]["refunded"] == parts.get("refund_amount", 0)
    assert shop.api.customers.retrieve(customer.id).balance == -parts.get("credit_amount", 0)


def test_parts_that_do_not_add_up_are_refused_without_any_effect(shop: Shop) -> None:
    invoice = shop.paid(shop.customer(VISA), 5000)

    for parts in ({}, {"refund_amount": 1999}, {"refund_amount": 2000, "credit_amount": 1}):
        with pytest.raises(stripe.InvalidRequestError, match="must equal the post payment amount"):
            shop.api.credit_notes.create({"invoice": invoice.id, "amount": 2000, **parts})

    assert shop.double.ledger()[0]["refunded"] == 0
    assert shop.api.credit_notes.list({"invoice": invoice.id}).data == []


def test_a_refund_made_before_can_be_linked(shop: Shop) -> None:
    invoice = shop.paid(shop.customer(VISA), 5000)
    refund = shop.api.refunds.create({"payment_intent": shop.intent(invoice).id, "amount": 2000})

    note = shop.api.credit_notes.create(
        {"invoice": invoice.id, "amount": 2000, "refunds": [{"refund": refund.id, "amount_refunded": 2000}]}
    )

    assert [(each.refund, each.amount_refunded) for each in note.refunds] == [(refund.id, 2000)]
    assert shop.double.ledger()[0]["refunded"] == 2000


def test_no_more_is_credited_than_was_invoiced(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)
    shop.api.credit_notes.create({"invoice": invoice.id, "amount": 4000})

    with pytest.raises(stripe.InvalidRequestError, match=r"at most \$10\.00"):
        shop.api.credit_notes.create({"invoice": invoice.id, "amount": 1001})


def test_a_credit_note_names_lines_of_its_invoice(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 3000, 2000)
    line = invoice.lines.data[1]

    note = shop.api.credit_notes.create(
        {
            "invoice": invoice.id,
            "lines": [{"type": "invoice_line_item", "invoice_line_item": line.id, "amount": 500}],
        }
    )

    assert (note.total, note.lines.data[0].invoice_line_item) == (500, line.id)
    assert shop.api.credit_notes.line_items.list(note.id).data[0].amount == 500


def test_a_credit_note_is_voided_while_its_invoice_is_open(shop: Shop) -> None:
    customer = shop.customer(VISA)
    invoice = shop.open(customer, 5000)
    note = shop.api.credit_notes.create({"invoice": invoice.id, "amount": 1500})

    assert shop.api.credit_notes.void_credit_note(note.id).status == "void"
    assert shop.api.invoices.retrieve(invoice.id).amount_remaining == 5000
    back = shop.api.credit_notes.create({"invoice": shop.paid(customer, 900).id, "amount": 900, "credit_amount": 900})
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.credit_notes.void_credit_note(back.id)
