"""What `manage.py check` says of the settings: keys that do not fit together cost money, or lose news of it."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

SECRET_KINDS = ("sk_", "rk_")


@register
def stripe_keys(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    return list(_of_stripe()) if settings.STRIPE_SECRET_KEY else []


def _of_stripe() -> Iterator[CheckMessage]:
    secret, publishable = settings.STRIPE_SECRET_KEY, settings.STRIPE_PUBLISHABLE_KEY
    if not secret.startswith(SECRET_KINDS):
        yield Error(
            "STRIPE_SECRET_KEY is no secret key.",
            hint="It begins with sk_test_, sk_live_, or with rk_ when it is a restricted one.",
            id="stripe.E001",
        )
    if publishable.startswith(SECRET_KINDS):
        yield Error(
            "STRIPE_PUBLISHABLE_KEY is a secret key, and browsers would get to see it.",
            hint="Roll that key in Stripe's dashboard, and put the one that begins with pk_ here.",
            id="stripe.E002",
        )
    if publishable and _is_live(secret) != _is_live(publishable):
        yield Error(
            "The secret and the publishable key of Stripe are of different modes, test and live.",
            hint="Both stand on the same page of Stripe's dashboard.",
            id="stripe.E003",
        )
    if _is_live(secret) and settings.STRIPE_API_URL:
        yield Error(
            "A live key of Stripe would be sent to a stand-in.", hint="Remove STRIPE_API_URL.", id="stripe.E004"
        )
    if not settings.STRIPE_WEBHOOK_SECRET:
        yield _without_webhooks()
    if not publishable:
        yield Warning(
            "STRIPE_PUBLISHABLE_KEY is missing: customers cannot save a card on our page.",
            hint="Stripe's dashboard shows it beside the secret key.",
            id="stripe.W002",
        )
    if _is_live(secret) and settings.DEBUG:
        yield Warning(
            "A live key of Stripe is used with DEBUG.", hint="Use a test key, or DEBUG=false.", id="stripe.W003"
        )


def _is_live(key: str) -> bool:
    return "_live_" in key


def _without_webhooks() -> CheckMessage:
    """In production an error: payments would show only when somebody looks."""
    says = "STRIPE_WEBHOOK_SECRET is missing: Stripe cannot tell us what it did."
    hint = "Add an endpoint for /stripe/webhook in Stripe's dashboard and put its secret here; see docs/stripe.md."
    if settings.PRODUCTION:
        return Error(says, hint=hint, id="stripe.E005")
    return Warning(says, hint=hint, id="stripe.W001")
