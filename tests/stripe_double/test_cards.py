"""Each test card does what its page in the documentation says."""

import pytest
import stripe

from tests.stripe_double.conftest import Shop


@pytest.mark.parametrize(
    ("number", "code", "decline_code"),
    [
        ("4000000000000002", "card_declined", "generic_decline"),
        ("4000000000009995", "card_declined", "insufficient_funds"),
        ("4000000000000341", "card_declined", "generic_decline"),
        ("4000000000000069", "expired_card", None),
        ("4000000000000119", "processing_error", None),
    ],
)
def test_a_declined_card_leaves_the_invoice_open(shop: Shop, number: str, code: str, decline_code: str | None) -> None:
    invoice = shop.open(shop.customer(number), 5000)

    with pytest.raises(stripe.CardError) as decline:
        shop.api.invoices.pay(invoice.id)

    error = decline.value
    assert (error.http_status, error.code, error.error.decline_code) == (402, code, decline_code)
    assert error.error.payment_intent.status == "requires_payment_method"
    found = shop.api.invoices.retrieve(invoice.id)
    assert (found.status, found.attempted, found.attempt_count) == ("open", True, 1)
    assert shop.types()[-1] == "invoice.payment_failed"
    assert shop.double.ledger() == []


def test_after_a_decline_another_card_pays(shop: Shop) -> None:
    customer = shop.customer("4000000000000341")
    invoice = shop.open(customer, 5000)
    with pytest.raises(stripe.CardError):
        shop.api.invoices.pay(invoice.id)

    shop.api.invoices.pay(invoice.id, {"payment_method": shop.double.add_card(customer.id)})

    assert [entry["amount"] for entry in shop.double.ledger()] == [5000]


@pytest.mark.parametrize(("token", "brand"), [("pm_card_visa", "visa"), ("pm_card_mastercard", "mastercard")])
def test_a_token_is_attached_as_a_card_of_its_brand(shop: Shop, token: str, brand: str) -> None:
    method = shop.api.payment_methods.attach(token, {"customer": shop.customer().id})

    assert (method.card.brand, method.id.startswith("pm_")) == (brand, True)


def test_a_card_that_is_always_declined_is_not_even_attached(shop: Shop) -> None:
    customer = shop.customer()

    with pytest.raises(stripe.CardError):
        shop.api.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer.id})
    shop.api.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})

    assert len(shop.api.payment_methods.list({"customer": customer.id}).data) == 1


@pytest.mark.parametrize("number", ["4000002500003155", "4000000000003220"])
def test_a_card_that_wants_its_owner_waits_for_an_action(shop: Shop, number: str) -> None:
    invoice = shop.open(shop.customer(number), 5000)

    with pytest.raises(stripe.CardError) as asked:
        shop.api.invoices.pay(invoice.id)

    assert asked.value.code == "invoice_payment_intent_requires_action"
    assert shop.intent(invoice).status == "requires_action"
    assert "invoice.payment_action_required" in shop.types()
    shop.double.authenticate(shop.intent(invoice).id)
    assert shop.api.invoices.retrieve(invoice.id).status == "paid"


def test_an_owner_who_does_not_prove_it_pays_nothing(shop: Shop) -> None:
    invoice = shop.open(shop.customer("4000000000003220"), 5000)
    with pytest.raises(stripe.CardError):
        shop.api.invoices.pay(invoice.id)

    shop.double.authenticate(shop.intent(invoice).id, ok=False)

    intent = shop.intent(invoice)
    assert intent.last_payment_error.code == "payment_intent_authentication_failure"
    assert shop.double.ledger() == []


def test_a_card_set_up_once_is_charged_without_its_owner(shop: Shop) -> None:
    customer = shop.customer()
    intent = shop.api.setup_intents.create({"customer": customer.id})
    shop.api.setup_intents.confirm(intent.id, {"payment_method": "pm_card_authenticationRequiredOnSetup"})
    method = shop.double.authenticate(intent.id)["payment_method"]

    invoice = shop.api.invoices.pay(shop.open(customer, 5000).id, {"payment_method": method})

    assert invoice.status == "paid"


def test_a_disputed_card_pays_and_is_disputed(shop: Shop) -> None:
    shop.paid(shop.customer("4000000000000259"), 5000)

    dispute = shop.api.disputes.list().data[0]
    assert (dispute.amount, dispute.status, dispute.reason) == (5000, "needs_response", "fraudulent")
    assert shop.api.charges.retrieve(dispute.charge).disputed
    assert "charge.dispute.created" in shop.types()
    assert shop.double.close_dispute(dispute.id, won=False)["status"] == "lost"


@pytest.mark.parametrize("account", ["DE89370400440532013000", "000123456789"])
@pytest.mark.parametrize(("ok", "status"), [(True, "paid"), (False, "open")])
def test_a_bank_debit_is_on_its_way_until_it_arrives_or_bounces(
    shop: Shop, account: str, ok: bool, status: str
) -> None:
    invoice = shop.paid(shop.customer(account), 5000)
    assert (invoice.status, shop.intent(invoice).status) == ("open", "processing")
    with pytest.raises(stripe.InvalidRequestError, match="still processing"):
        shop.api.invoices.pay(invoice.id)

    shop.double.settle_processing(shop.intent(invoice).id, ok=ok)

    assert shop.api.invoices.retrieve(invoice.id).status == status
    assert [entry["amount"] for entry in shop.double.ledger()] == ([5000] if ok else [])
