"""What only the customer's pages say: signed units, and bars for the last days."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import template

from catalog.money import grouped

if TYPE_CHECKING:  # admin modules may only be imported after Django has loaded its template libraries
    from billing_admin.admin.panels import Day

register = template.Library()

WIDTH, HEIGHT, GAP = 20, 56, 4


@register.filter
def signed(value: Decimal) -> str:
    """`+150`, `−20`, `0`."""
    return f"+{grouped(value)}" if value > 0 else grouped(value)


@register.inclusion_tag("parts/day_bars.html")
def day_bars(days: "Sequence[Day]") -> dict[str, Any]:
    """A bar per day, drawn as SVG by the server; each says its day and number on hover."""
    bars = []
    for place, day in enumerate(days):
        height = max(2, round(day.share * HEIGHT / 100)) if day.count else 1
        bars.append({"x": place * (WIDTH + GAP), "y": HEIGHT - height, "height": height, "day": day})
    return {"bars": bars, "bar_width": WIDTH, "width": len(bars) * (WIDTH + GAP) - GAP, "height": HEIGHT, "days": days}
