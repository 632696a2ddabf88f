"""What the double answers has the fields of the SDK's classes, no more and no less."""

from typing import Any

from tests.stripe_double import shapes
from tests.stripe_double.conftest import Shop

FREE = {"metadata", "previous_attributes", "details", "next_action", "last_payment_error", "last_setup_error"}


def busy(shop: Shop) -> None:
    """A little of everything."""
    api, customer = shop.api, shop.customer("4000000000000259")
    invoice = shop.paid(customer, 5000, -500)
    api.invoices.void_invoice(shop.open(customer, 700).id)
    shop.double.edit(shop.double.ledger()[0]["charge"], disputed=False)
    api.credit_notes.create({"invoice": invoice.id, "amount": 500, "refund_amount": 200, "credit_amount": 300})
    api.setup_intents.create({"customer": customer.id, "payment_method": "pm_card_visa", "confirm": True})
    shop.double.add_card(customer.id, "DE89370400440532013000")
    api.subscriptions.create({"customer": customer.id, "items": [{"price": shop.price().id}]})
    shop.double.advance(days=40)


def test_every_object_has_the_fields_of_its_class(shop: Shop) -> None:
    busy(shop)
    wrong: list[str] = []

    for kind, cls in shapes.CLASSES.items():
        for thing in shop.double.objects(kind):
            wrong += strange(thing, cls, kind)

    assert sorted(set(wrong)) == []
    assert all(shop.double.world.kinds.get(kind) for kind in shapes.CLASSES if kind not in {"account"})


def strange(shown: dict[str, Any], cls: Any, path: str) -> list[str]:
    """Fields that Stripe does not have, and required ones that are missing or null."""
    fields = shapes.fields_of(cls)
    allowed = cls.__annotations__.keys()
    found = [f"{path}.{name} is unknown" for name in shown.keys() - allowed]
    found += [f"{path}.{name} is missing" for name in fields.required if shown.get(name) is None]
    for name, inner in fields.inner.items():
        if name not in FREE and isinstance(shown.get(name), dict):
            found += strange(shown[name], inner, f"{path}.{name}")
    return found
