"""How the desk says money, quantities, instants and states. Every page uses these, so that all say them alike."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing_admin.display import display_zone
from catalog.money import format_minor, format_rate, grouped
from catalog.periods import Period

register = template.Library()

# Word → (what people read, colour of the dot). The word is always printed; colour never stands alone.
STATES: dict[str, tuple[str, str]] = {
    "active": ("Active", "good"),
    "on": ("On", "good"),
    "paid": ("Paid", "good"),
    "published": ("Published", "good"),
    "older": ("Published", "off"),
    "current": ("Current", "good"),
    "default": ("Default", "info"),
    "trialing": ("Trial", "info"),
    "scheduled": ("Scheduled", "info"),
    "open": ("Open", "info"),
    "draft": ("Draft", "wait"),
    "awaiting_approval": ("Awaiting approval", "wait"),
    "approved": ("Approved", "info"),
    "sent": ("Sent", "info"),
    "accepted": ("Accepted", "good"),
    "executed": ("Executed", "good"),
    "pending_payment": ("Pending payment", "wait"),
    "past_due": ("Past due", "bad"),
    "failed": ("Failed", "bad"),
    "uncollectible": ("Uncollectible", "bad"),
    "ended": ("Ended", "off"),
    "archived": ("Archived", "off"),
    "withdrawn": ("Withdrawn", "off"),
    "void": ("Void", "off"),
    "closed": ("Closed", "off"),
    "off": ("Off", "off"),
}


@register.filter
def money(minor: int | None, currency: str) -> str:
    """Minor units as people read them: `$26.67`, `¥1,200`, credits `−$10.00`."""
    return "" if minor is None else format_minor(minor, currency)


@register.filter
def rate(amount: Decimal | None, currency: str) -> str:
    """An exact price in major units with all the digits it needs: `$0.000002`."""
    return "" if amount is None else format_rate(amount, currency)


@register.filter
def quantity(value: Decimal | int | None) -> str:
    """`10,000`, `12.5`, `−3`; nothing reads "unlimited"."""
    return "unlimited" if value is None else grouped(value)


@register.simple_tag
def when(at: datetime | None, otherwise: str = "—") -> str:
    """`1 Dec 2026` in the reader's time zone, with the exact UTC instant on hover."""
    if at is None:
        return otherwise
    at = at.astimezone(UTC)
    there = at.astimezone(display_zone())
    # Billing counts days in UTC: where it is another day for the reader, the hour says why.
    text = _day(there) if there.date() == at.date() else f"{_day(there)}, {there:%H:%M}"
    return format_html('<time class="desk-when" datetime="{}" title="{}">{}</time>', at.isoformat(), _in_utc(at), text)


@register.simple_tag
def instant(at: datetime | None, otherwise: str = "—") -> str:
    """`1 Dec 2026 14:05` in the reader's time zone: for events, of which there are many a day."""
    if at is None:
        return otherwise
    at = at.astimezone(UTC)
    there = at.astimezone(display_zone())
    return format_html(
        '<time class="desk-when" datetime="{}" title="{}">{} <span class="desk-muted">{}</span></time>',
        at.isoformat(),
        _in_utc(at),
        _day(there),
        f"{there:%H:%M}",
    )


@register.simple_tag
def between(period: Period) -> str:
    """`1 Nov – 1 Dec 2026`: the end is the instant at which the next one begins."""
    if period.ends_at is None:
        return format_html("from {}", when(period.starts_at))
    return format_html("{} – {}", when(period.starts_at), when(period.ends_at))


def _in_utc(at: datetime) -> str:
    return f"{_day(at)}, {at:%H:%M:%S} UTC"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b %Y}"


@register.simple_tag
def state(word: str, label: str = "") -> str:
    """A dot and the word."""
    text, tone = STATES.get(word, (str(word).replace("_", " ").capitalize(), "off"))
    return format_html(
        '<span class="desk-state desk-state--{}"><span class="desk-dot" aria-hidden="true"></span>{}</span>',
        tone,
        label or text,
    )


@register.inclusion_tag("parts/badge.html")
def badge(text: str, tone: str = "") -> dict[str, str]:
    return {"text": text, "tone": tone}


@register.inclusion_tag("parts/copy.html")
def copy(text: str, what: str = "") -> dict[str, str]:
    """An id in monospace with its copy button."""
    return {"text": text, "what": what}


@register.inclusion_tag("parts/meter.html")
def meter(used: Decimal, of: Decimal | None, unit: str = "") -> dict[str, Any]:
    share = min(100, max(0, round(used * 100 / of))) if of else (100 if of is not None and used > 0 else 0)
    tone = "bad" if share >= 100 else "wait" if share >= 80 else "good"
    return {"used": used, "of": of, "share": share, "tone": tone, "unit": unit}


@register.inclusion_tag("parts/sparkline.html")
def sparkline(values: Sequence[float | Decimal], label: str = "") -> dict[str, Any]:
    """A small line of the last values, drawn as SVG by the server."""
    width, height = 96, 22
    top = max([float(v) for v in values], default=0) or 1
    step = width / max(1, len(values) - 1)
    points = [
        f"{round(i * step, 1)},{round(height - 2 - float(v) / top * (height - 4), 1)}" for i, v in enumerate(values)
    ]
    return {"points": " ".join(points), "width": width, "height": height, "label": label, "empty": not any(values)}


@register.simple_tag
def classes(**flags: Any) -> SafeString:
    """`{% classes is_changed=cell.changed is_wrong=cell.error %}` → the names of those that hold."""
    return SafeString(" ".join(name.replace("_", "-") for name, holds in flags.items() if holds))
