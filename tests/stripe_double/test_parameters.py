"""What the double reads of a request, and refuses."""

import pytest
import stripe

from tests.stripe_double.conftest import Shop


def test_an_unknown_parameter_is_refused_by_name(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.customers.create({"nam": "Acme"})

    assert (refusal.value.http_status, refusal.value.code, refusal.value.param) == (400, "parameter_unknown", "nam")


def test_an_unknown_parameter_is_found_inside_a_list_too(shop: Shop) -> None:
    invoice = shop.draft(shop.customer())

    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.invoices.add_lines(invoice.id, {"lines": [{"amount": 1, "sum": 2}]})

    assert refusal.value.param == "lines[0][sum]"


def test_a_missing_parameter_is_named(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.credit_notes.create({"amount": 5})

    assert (refusal.value.code, refusal.value.param) == ("parameter_missing", "invoice")


def test_a_word_that_is_no_choice_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="must be one of charge_automatically, or send_invoice"):
        shop.api.invoices.create({"customer": shop.customer().id, "collection_method": "by_mail"})


def test_a_number_must_be_a_number(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.api.invoice_items.create({"customer": shop.customer().id, "amount": "12.50", "currency": "usd"})

    assert refusal.value.code == "parameter_invalid_integer"


def test_metadata_has_its_limits_and_an_empty_value_removes_a_name(shop: Shop) -> None:
    customer = shop.customer(metadata={"ours": "7", "plan": "pro"})

    with pytest.raises(stripe.InvalidRequestError, match="under 500 characters"):
        shop.api.customers.update(customer.id, {"metadata": {"plan": "x" * 501}})
    changed = shop.api.customers.update(customer.id, {"metadata": {"plan": ""}})

    assert changed.metadata.to_dict() == {"ours": "7"}


def test_a_key_that_is_not_ours_is_unauthorised(shop: Shop) -> None:
    stranger = stripe.StripeClient("sk_test_stranger", base_addresses={"api": shop.double.url})

    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.customers.list()


def test_an_address_that_stripe_does_not_have_is_not_found(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        shop.api.coupons.list()
    with pytest.raises(stripe.APIError, match="does not play"):
        shop.api.invoices.create_preview({"customer": shop.customer().id})


def test_only_what_can_be_expanded_is(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)

    found = shop.api.invoices.retrieve(invoice.id, {"expand": ["customer"]})
    assert found.customer.email == "billing@acme.test"
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        shop.api.invoices.retrieve(invoice.id, {"expand": ["payment_intent"]})


def test_what_is_only_there_when_expanded_is_not_there_otherwise(shop: Shop) -> None:
    invoice = shop.open(shop.customer(), 5000)

    assert not {"payments", "confirmation_secret"} & invoice.to_dict().keys()
    found = shop.api.invoices.retrieve(invoice.id, {"expand": ["confirmation_secret", "payments"]})
    assert found.confirmation_secret.client_secret.startswith("pi_")
    assert found.payments.data[0].status == "open"


def test_a_list_is_expanded_through_data(shop: Shop) -> None:
    shop.paid(shop.customer("4242424242424242"), 5000)

    found = shop.api.payment_intents.list({"expand": ["data.latest_charge"]})

    assert found.data[0].latest_charge.paid


def test_card_numbers_are_not_for_servers(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="generally unsafe"):
        shop.api.payment_methods.create(
            {"type": "card", "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2034, "cvc": "123"}}
        )


def test_search_is_refused_because_it_lags_behind(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="lags behind"):
        shop.api.customers.search({"query": "metadata['ours']:'7'"})


def test_the_account_tells_its_id(shop: Shop) -> None:
    assert shop.api.accounts.retrieve_current().id == shop.double.account
