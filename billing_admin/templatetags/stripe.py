"""Whether Stripe answers: the line that all its pages share."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django import template
from django.template import Context
from django.utils.html import format_html

from payments.gateway import enabled, livemode
from payments.models import StripeAccount, StripeInvoice

register = template.Library()

COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Health:
    """`tone` colours the dot; `since` is when Stripe stopped answering, None while it does."""

    sentence: str
    tone: str
    since: datetime | None = None
    error: str = ""
    backlog: str = ""


@register.inclusion_tag("parts/stripe_health.html", takes_context=True)
def stripe_health(context: Context) -> dict[str, Health | None]:
    """`{% stripe_health %}`: nothing without keys."""
    return {"health": health(context["request"].now) if enabled() else None}


@register.simple_tag
def test_mode() -> str:
    """A badge beside the title, where the keys move no real money."""
    is_test = enabled() and not livemode()
    return format_html(' <span class="desk-badge desk-badge--{}">{}</span>', "wait", "Test mode") if is_test else ""


def health(now: datetime) -> Health:
    """One query, and one more while Stripe does not answer."""
    account = StripeAccount.present()
    if account is None:
        return Health("Stripe has not been reached yet", "wait")
    if account.failing_since is not None:
        return Health("", "bad", account.failing_since, account.last_error, _backlog())
    if account.last_answer_at is None:
        return Health("Stripe has not been asked yet", "wait")
    return Health(f"Stripe answered {ago(now - account.last_answer_at)} ago", "good")


def _backlog() -> str:
    number = StripeInvoice.objects.waiting().order_by()[: COUNTED + 1].count()
    if not number:
        return "no invoice waits"
    return f"{min(number, COUNTED):,}{'+' if number > COUNTED else ''} invoice{' waits' if number == 1 else 's wait'}"


def ago(span: timedelta) -> str:
    """`12 s`, `4 min`, `2 h 14 min`, `3 days`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
