"""Reading: how the contracts of a customer go on, and how much is used a day."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Sum

from billing_admin.flows.boundary import committed_period
from billing_admin.flows.forecast import Course, course_of
from billing_admin.flows.position import levels_of, stretch_of
from customers.models import Customer, Phase, Subscription
from entitlements.models import Balance, UsageEvent
from invoicing.manual import pending_by_contract
from invoicing.overrides import specials_by_contract
from invoicing.readings import charged_in, rated_use, unbilled_use
from invoicing.rules import billing_rules

DAYS = 30
A_DAY = timedelta(days=1)


def daily_use(customer: Customer, *, now: datetime) -> dict[str, Decimal]:
    """Units per day, by the slug of the feature: the last 30 days, or as many as there have been."""
    since = max(now - DAYS * A_DAY, customer.created_at)
    days = max(Decimal(1), Decimal(int((now - since).total_seconds())) / 86_400)
    events = UsageEvent.objects.since(since).filter(customer=customer, at__lt=now, voided_at=None)
    counted = events.order_by().values("feature__slug")
    return {row["feature__slug"]: row["units"] / days for row in counted.annotate(units=Sum("taken"))}


def read_courses(
    customer: Customer, subscriptions: Sequence[Subscription], *, now: datetime
) -> list[tuple[Subscription, Course]]:
    """The contracts that bill something, with their course; `subscriptions` have their phases prefetched."""
    billing = [s for s in subscriptions if s.bills_at is not None and s.settled_at is None]
    use, specials, pending = _windows(billing), specials_by_contract(billing), pending_by_contract(billing)
    found = []
    for subscription in billing:
        phase = subscription.phase_at(now) or subscription.kept_phases()[-1]
        course = course_of(
            subscription,
            at=now,
            rules=billing_rules(customer, phase.version.plan, subscription, at=now),
            uses=[rated_use(row) for row in use.get(subscription.pk, [])],
            levels=levels_of(subscription),
            specials=specials.get(subscription.pk, ()),
            charged=_charged(subscription, phase, now) if phase.terms().commitment else 0,
            pending=pending.get(subscription.pk, ()),
        )
        found.append((subscription, course))
    return found


def _charged(subscription: Subscription, phase: Phase, now: datetime) -> int:
    """What counts towards the minimum of the running period already, minor units."""
    begun = [p for p in subscription.kept_phases() if p.starts_at <= phase.starts_at]
    period = committed_period([stretch_of(p, {}) for p in begun], now, closes=True)
    return charged_in(subscription, period) if period else 0


def _windows(subscriptions: Sequence[Subscription]) -> dict[int, list[Balance]]:
    """Windows with use that no invoice has, and all that are open: those may still come to cost something."""
    found = unbilled_use(subscriptions)
    known = {row.pk for rows in found.values() for row in rows}
    open_ = Balance.objects.filter(
        subscription__in=[s.pk for s in subscriptions], closed_at=None, ends_at__isnull=False, granted__isnull=False
    )
    priced = open_.filter(item__price__isnull=False).exclude(pk__in=known).prefetch_related("entries")
    for row in priced.order_by("ends_at", "id"):
        found.setdefault(row.subscription_id or 0, []).append(row)
    return found


def share_of_use(courses: Sequence[tuple[Subscription, Course]], daily: dict[str, Decimal]) -> list[dict[str, Decimal]]:
    """Whose the use is, where several contracts sell the same feature: the first that has a price for it."""
    taken: set[str] = set()
    shares = []
    for _, course in courses:
        last = course.legs[-1].stretch.terms
        sold = {item.feature.slug for item in last.usage_items if item.feature} - taken
        shares.append({slug: units for slug, units in daily.items() if slug in sold})
        taken |= sold
    return shares
