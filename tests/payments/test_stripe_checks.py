"""Keys that do not fit together are said before anything starts."""

from typing import Any

import pytest

from billing_admin.checks import stripe_keys

KEYS = {
    "STRIPE_SECRET_KEY": "sk_test_a",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_a",
    "STRIPE_WEBHOOK_SECRET": "whsec_a",
    "STRIPE_API_URL": "",
    "DEBUG": False,
    "PRODUCTION": False,
}
LIVE = {"STRIPE_SECRET_KEY": "sk_live_a", "STRIPE_PUBLISHABLE_KEY": "pk_live_a"}


def found(settings: Any, **changed: Any) -> list[str]:
    for name, value in (KEYS | changed).items():
        setattr(settings, name, value)
    return [message.id for message in stripe_keys()]


@pytest.mark.parametrize(
    "good",
    [
        {},
        LIVE,
        {"STRIPE_SECRET_KEY": "rk_test_a"},
        {"STRIPE_API_URL": "http://127.0.0.1:12111"},
        {"STRIPE_SECRET_KEY": "", "STRIPE_PUBLISHABLE_KEY": "", "STRIPE_WEBHOOK_SECRET": ""},
    ],
)
def test_keys_that_fit_are_not_mentioned(settings, good):
    assert found(settings, **good) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"STRIPE_SECRET_KEY": "pk_test_a"}, "stripe.E001"),
        ({"STRIPE_PUBLISHABLE_KEY": "sk_test_a"}, "stripe.E002"),
        ({"STRIPE_PUBLISHABLE_KEY": "pk_live_a"}, "stripe.E003"),
        (LIVE | {"STRIPE_API_URL": "http://127.0.0.1:12111"}, "stripe.E004"),
        ({"STRIPE_WEBHOOK_SECRET": "", "PRODUCTION": True}, "stripe.E005"),
        ({"STRIPE_WEBHOOK_SECRET": ""}, "stripe.W001"),
        ({"STRIPE_PUBLISHABLE_KEY": ""}, "stripe.W002"),
        (LIVE | {"DEBUG": True}, "stripe.W003"),
    ],
)
def test_each_mistake_has_its_message(settings, bad, said):
    assert found(settings, **bad) == [said]
