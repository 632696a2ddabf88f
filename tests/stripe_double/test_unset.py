"""What an empty value does to the texts of a customer."""

from typing import TYPE_CHECKING

import stripe

if TYPE_CHECKING:
    from tests.stripe_double import Double


def test_an_empty_email_unsets_it(double: "Double"):
    client = stripe.StripeClient(double.key, base_addresses={"api": double.url})
    made = client.v1.customers.create({"email": "ops@acme.example", "name": "Acme"})

    changed = client.v1.customers.update(made.id, {"email": ""})

    assert (changed.email, changed.name) == (None, "Acme")
