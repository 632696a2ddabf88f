import pytest
import stripe

from tests.stripe_double.conftest import Shop


def test_a_deleted_customer_is_shown_as_deleted_and_takes_no_invoice(shop: Shop) -> None:
    customer = shop.customer()

    assert shop.api.customers.delete(customer.id).deleted
    assert shop.api.customers.retrieve(customer.id).deleted
    assert shop.api.customers.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.invoices.create({"customer": customer.id})
    assert refusal.value.code == "resource_missing"


def test_an_email_that_is_none_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.customers.create({"email": "acme"})

    assert refusal.value.code == "email_invalid"


def test_a_default_method_must_be_the_customers_own(shop: Shop) -> None:
    method = shop.double.add_card(shop.customer().id)

    with pytest.raises(stripe.InvalidRequestError, match="must be attached to the customer"):
        shop.customer(invoice_settings={"default_payment_method": method})


def test_a_detached_method_is_nobodys_for_ever(shop: Shop) -> None:
    customer = shop.customer()
    method = shop.double.add_card(customer.id)

    shop.api.payment_methods.detach(method)

    assert shop.api.customers.retrieve(customer.id).invoice_settings.default_payment_method is None
    assert shop.api.payment_methods.list({"customer": customer.id}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        shop.api.payment_methods.attach(method, {"customer": customer.id})


def test_a_setup_intent_keeps_the_card(shop: Shop) -> None:
    customer = shop.customer()

    intent = shop.api.setup_intents.create(
        {"customer": customer.id, "payment_method": "pm_card_visa", "confirm": True, "return_url": "https://acme.test/"}
    )

    assert intent.status == "succeeded"
    assert [method.card.last4 for method in shop.api.payment_methods.list({"customer": customer.id}).data] == ["4242"]
    assert "setup_intent.succeeded" in shop.types()


def test_a_setup_intent_asks_the_owner_where_the_bank_wants_it(shop: Shop) -> None:
    customer = shop.customer()
    intent = shop.api.setup_intents.create({"customer": customer.id})

    asked = shop.api.setup_intents.confirm(
        intent.id, {"payment_method": "pm_card_authenticationRequiredOnSetup", "return_url": "https://acme.test/"}
    )
    assert (asked.status, asked.next_action.type) == ("requires_action", "redirect_to_url")

    shop.double.authenticate(intent.id)
    assert shop.api.setup_intents.retrieve(intent.id).status == "succeeded"


def test_a_setup_intent_that_fails_says_why(shop: Shop) -> None:
    intent = shop.api.setup_intents.create({"customer": shop.customer().id})

    with pytest.raises(stripe.CardError) as decline:
        shop.api.setup_intents.confirm(intent.id, {"payment_method": "pm_card_chargeDeclined"})

    assert (decline.value.http_status, decline.value.code) == (402, "card_declined")
    found = shop.api.setup_intents.retrieve(intent.id)
    assert (found.status, found.last_setup_error.decline_code) == ("requires_payment_method", "generic_decline")


def test_a_canceled_setup_intent_is_over(shop: Shop) -> None:
    intent = shop.api.setup_intents.create({})
    shop.api.setup_intents.cancel(intent.id)

    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.setup_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})

    assert refusal.value.code == "setup_intent_unexpected_state"


@pytest.mark.parametrize(("balance", "due", "left"), [(-1000, 4000, 0), (-9000, 0, -4000), (700, 5700, 0)])
def test_the_balance_is_applied_when_an_invoice_is_finalised(shop: Shop, balance: int, due: int, left: int) -> None:
    customer = shop.customer(balance=balance)

    invoice = shop.open(customer, 5000)

    assert (invoice.amount_due, invoice.starting_balance, invoice.ending_balance) == (due, balance, left)
    assert shop.api.customers.retrieve(customer.id).balance == left
