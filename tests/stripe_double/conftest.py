"""The real SDK, talking to the double, and a shop that says only what a test is about."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import stripe

from tests.instants import MARCH_1
from tests.stripe_double import Double


@dataclass
class Shop:
    double: Double

    @cached_property
    def api(self) -> Any:
        client = stripe.StripeClient(self.double.key, base_addresses={"api": self.double.url}, max_network_retries=0)
        return client.v1

    def customer(self, card: str | None = None, **more: Any) -> stripe.Customer:
        made = self.api.customers.create({"name": "Acme", "email": "billing@acme.test", **more})
        if card:
            self.double.add_card(made.id, card)
        return made

    def draft(self, customer: stripe.Customer, *amounts: int, currency: str = "usd", **more: Any) -> stripe.Invoice:
        invoice = self.api.invoices.create({"customer": customer.id, "currency": currency, **more})
        for amount in amounts:
            self.api.invoice_items.create(
                {"customer": customer.id, "invoice": invoice.id, "amount": amount, "currency": currency}
            )
        return self.api.invoices.retrieve(invoice.id)

    def open(self, customer: stripe.Customer, *amounts: int, **more: Any) -> stripe.Invoice:
        return self.api.invoices.finalize_invoice(self.draft(customer, *amounts, **more).id)

    def paid(self, customer: stripe.Customer, *amounts: int, **more: Any) -> stripe.Invoice:
        return self.api.invoices.pay(self.open(customer, *amounts, **more).id)

    def intent(self, invoice: stripe.Invoice) -> stripe.PaymentIntent:
        found = self.api.invoices.retrieve(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
        return found.payments.data[0].payment.payment_intent

    def price(self, amount: int = 5000, **more: Any) -> stripe.Price:
        product = self.api.products.create({"name": "Pro"})
        return self.api.prices.create(
            {
                "product": product.id,
                "unit_amount": amount,
                "currency": "usd",
                "recurring": {"interval": "month"},
                **more,
            }
        )

    def types(self) -> list[str]:
        """The events so far, oldest first."""
        return [event["type"] for event in self.double.objects("event")]


@pytest.fixture
def shop(double: Double) -> Shop:
    double.set_clock(MARCH_1)
    return Shop(double)
