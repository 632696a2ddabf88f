"""The first page: numbers that lead to their rows, charts, and what needs a person."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import TruncDay, TruncMonth
from django.http import HttpRequest

from billing_admin import runs
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.admin.revenue import (
    feature_rows,
    product_rows,
    revenue_chart,
    told_currencies,
    told_features,
    told_products,
    usual_currency,
)
from billing_admin.admin.runs import pulse
from billing_admin.coming import Coming, Kind, Sums, total
from billing_admin.flows import override_notices
from billing_admin.flows.approvals import waiting_for
from billing_admin.flows.coming import Asked, read_days, read_page
from billing_admin.flows.override_outlook import words_of
from billing_admin.flows.revenue import INSTANT
from billing_admin.flows.stripe_compare import open_differences
from catalog.money import format_minor
from catalog.periods import Cadence, boundary
from customers.models import Customer, PlanMigration, Subscription
from customers.states import LIVE
from deals.models import Deal
from entitlements.models import UsageEvent
from invoicing.models import Invoice
from invoicing.states import InvoiceState
from payments.gateway import enabled
from payments.models import StripeAccount, StripeInvoice

A_DAY, A_WEEK = timedelta(days=1), timedelta(days=7)
MONTHS, DAYS = 12, 30
# Sums over a long time are looked up again after so many seconds; what needs a person is always fresh.
KEPT = 300
# Beyond so many rows a number is the planner's estimate, and says so: counting them would hold the page up.
COUNTED = 20_000
NEEDS_A_PERSON = 5
CHANGES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """One number. `value` may have several lines, one for each currency."""

    label: str
    value: tuple[str, ...]
    note: str
    url: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    words: str
    share: int  # of the tallest, in percent


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    bars: tuple[Bar, ...]
    top: str
    total: str


@dataclass(frozen=True, slots=True)
class Task:
    """Something that waits for a person."""

    what: str
    why: str
    url: str
    tone: str
    at: datetime | None = None


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows; unfold calls this for its index."""
    if not request.user.has_perms(["customers.view_customer", "invoicing.view_invoice"]):
        return context
    now = moment(request)
    currency = usual_currency(now)
    used = told_features(now)
    return {
        **context,
        "tiles": tiles(request, now),
        "chart": revenue_chart(currency, now),
        "chart_url": link("revenue"),
        "products": product_rows(told_products(currency, now), currency, now),
        "features": None if used is None else feature_rows(used, now),
        "charts": [invoiced_by_month(now), events_by_day(now)],
        "tasks": tasks(now),
        "changes": coming_changes(now),
        "changes_url": link("coming_list", **THIS_WEEK, kind=Kind.CHANGE.value),
        "pulse": pulse(now),
    }


# Numbers -------------------------------------------------------------------------------------------------------------

THIS_WEEK = {"days": "7"}


def tiles(request: HttpRequest, now: datetime) -> list[Tile]:
    """Each leads to the list that it counts or sums up; what a person may not decide is not theirs to count."""
    found = [*about_customers(), *about_money(now), *about_this_week(now), *about_work()]
    if request.user.has_perm("customers.migrate_plan"):
        running = PlanMigration.objects.filter(state=PlanMigration.State.RUNNING).count()
        found.append(Tile("Migrations", (f"{running:,}",), "running", link("migrations", state="running")))
    if request.user.has_perm("billing_admin.decide_approval"):
        waiting = waiting_for(request.user, now)  # type: ignore[arg-type]  # only people open the desk
        tone = "wait" if waiting else ""
        found.append(Tile("Approvals", (f"{waiting:,}",), "wait for you", link("approvals"), tone))
    return found


def about_customers() -> list[Tile]:
    live = Subscription.objects.live()
    return [
        Tile("Customers", (about(Customer.objects.open()),), "", link("customers_customer_changelist")),
        Tile(
            "Active subscriptions",
            (about(live),),
            f"{about(live.filter(state='past_due'))} past due",
            link("customers_subscription_changelist") or link("customers_customer_changelist"),
        ),
    ]


def about_money(now: datetime) -> list[Tile]:
    unpaid = list(
        Invoice.objects.unpaid()
        .order_by()
        .values("currency")
        .annotate(
            due=Sum(F("total") - F("credit_applied") - F("offset") - F("paid")),
            number=Count("id"),
            late=Count("id", filter=Q(due_at__lte=now - A_DAY)),
        )
    )
    late = sum(row["late"] for row in unpaid)
    return [
        Tile("Recurring revenue", monthly_recurring(now), "a month, as sold", link("revenue")),
        Tile(
            "Open invoices",
            tuple(format_minor(row["due"], row["currency"]) for row in unpaid) or ("0",),
            f"{sum(row['number'] for row in unpaid):,} open",
            link("invoicing_invoice_changelist", state="open"),
        ),
        failed_payments(late),
    ]


def failed_payments(late: int) -> Tile:
    """Payments that were declined; where nobody collects by card, invoices that are past due."""
    if not enabled():
        url = link("invoicing_invoice_changelist", state="overdue")
        return Tile("Past due", (f"{late:,}",), "invoices", url, "wait" if late else "")
    declined = StripeInvoice.objects.filter(state=StripeInvoice.State.DECLINED).count()
    url = link("invoicing_invoice_changelist", collection=StripeInvoice.State.DECLINED.value)
    return Tile("Failed payments", (f"{declined:,}",), f"declined; {late:,} past due", url, "bad" if declined else "")


def about_this_week(now: datetime) -> list[Tile]:
    """From the same sums as the calendar of what is coming."""
    renewals = kept("renewals", lambda: week_of(Kind.RENEWAL, now))
    changes, overrides = week_of(Kind.CHANGE, now), week_of(Kind.OVERRIDE_END, now)
    return [
        Tile(
            "Renewals",
            tuple(renewals.money) or ("0",),
            f"{renewals.count:,} in the next 7 days",
            link("coming_list", kind=Kind.RENEWAL.value, **THIS_WEEK),
        ),
        Tile(
            "Scheduled changes",
            (f"{changes.count:,}",),
            "in the next 7 days",
            link("coming_list", kind=Kind.CHANGE.value, **THIS_WEEK),
        ),
        Tile(
            "Overrides ending",
            (f"{overrides.count:,}",),
            "in the next 7 days",
            link("coming_list", kind=Kind.OVERRIDE_END.value, **THIS_WEEK),
        ),
    ]


def week_of(kind: Kind, now: datetime) -> Sums:
    return total(read_days(Asked(now + INSTANT, now + A_WEEK, frozenset([kind]))).values())


def about_work() -> list[Tile]:
    parked, failed = Subscription.objects.parked().count(), _failing()
    troubled = parked + failed
    return [
        Tile("Deals", (f"{Deal.objects.open().count():,}",), "under way", link("deals_deal_changelist", state="open")),
        Tile(
            "Parked or failed",
            (f"{troubled:,}",),
            f"{parked:,} parked, {failed:,} failed",
            link("billing_admin_workerrun_changelist"),
            "bad" if troubled else "good",
        ),
    ]


def about(rows: "QuerySet[Any]") -> str:
    """How many there are: exactly in a small table, in a large one what the planner expects (≈)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [rows.model._meta.db_table])
        [size] = cursor.fetchone()
    if size <= COUNTED:
        return f"{rows.order_by().count():,}"
    [plan] = json.loads(rows.order_by().explain(format="json"))
    expected = plan["Plan"]["Plan Rows"]
    return f"≈ {round(expected, -2):,}"


def monthly_recurring(now: datetime) -> tuple[str, ...]:
    """What was sold and is in force, normalised to a month, by currency."""
    return tuple(format_minor(minor, currency) for currency, minor in told_currencies(now).items()) or ("0",)


def _failing() -> int:
    number: int = runs.open_failures().values("what").distinct().count()
    return number


def kept(name: str, read: Callable[[], Any]) -> Any:
    """From the cache, or read and kept for a while."""
    return cache.get_or_set(f"dashboard:{name}", read, KEPT)


# Charts ----------------------------------------------------------------------------------------------------------


def invoiced_by_month(now: datetime) -> Chart:
    """Totals of the documents of each month, credit notes taken off; in the currency that is invoiced most."""
    this_month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    firsts = [boundary(this_month, Cadence.parse("P1M"), n) for n in range(1 - MONTHS, 1)]

    def read() -> dict[str, dict[str, int]]:
        rows = (
            Invoice.objects.filter(issued_at__gte=firsts[0])
            .exclude(state=InvoiceState.VOID)
            .order_by()
            .values("currency", month=TruncMonth("issued_at", tzinfo=UTC))
            .annotate(sum=Sum("total"))
        )
        found: dict[str, dict[str, int]] = {}
        for row in rows:
            found.setdefault(row["currency"], {})[row["month"].date().isoformat()] = row["sum"]
        return found

    by_currency: dict[str, dict[str, int]] = kept(f"invoiced:{this_month:%Y-%m}", read)
    currency = max(by_currency, key=lambda code: sum(by_currency[code].values()), default="USD")
    values = [by_currency.get(currency, {}).get(first.date().isoformat(), 0) for first in firsts]
    return chart(
        "Invoiced per month",
        [f"{first:%b %Y}" for first in firsts],
        values,
        lambda minor: format_minor(int(minor), currency),
    )


def events_by_day(now: datetime) -> Chart:
    """Events of the last days, today last."""
    today = now.astimezone(UTC).date()
    days = [today - timedelta(days=n) for n in range(DAYS - 1, -1, -1)]
    since = datetime(days[0].year, days[0].month, days[0].day, tzinfo=UTC)

    def read() -> dict[str, int]:
        rows = UsageEvent.objects.since(since).order_by()
        found = rows.values(day=TruncDay("at", tzinfo=UTC)).annotate(number=Count("id"))
        return {row["day"].date().isoformat(): row["number"] for row in found}

    by_day: dict[str, int] = kept(f"events:{today}", read)
    return chart(
        "Usage events per day", [words(d) for d in days], [by_day.get(d.isoformat(), 0) for d in days], "{:,}".format
    )


def words(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def chart(title: str, labels: Sequence[str], values: Sequence[int | Decimal], say: Callable[[Any], str]) -> Chart:
    top = max(values, default=0)
    bars = tuple(
        Bar(label, say(value), round(max(0, value) * 100 / top) if top else 0)
        for label, value in zip(labels, values, strict=True)
    )
    return Chart(title, bars, say(top), say(sum(values)))


# What needs a person -------------------------------------------------------------------------------------------------


def tasks(now: datetime) -> list[Task]:
    """What no clockwork can decide, the most urgent first."""
    found: list[Task] = []
    if failing := _failing():
        run_page = link("billing_admin_workerrun_changelist")
        found.append(Task(f"{failing:,} failed", "a worker could not finish them", run_page, "bad"))
    for parked in Subscription.objects.parked().select_related("customer").order_by("parked_at")[:NEEDS_A_PERSON]:
        url = link("billing_admin_workerrun_changelist")
        found.append(Task(f"{parked.customer} is parked", parked.parked_because, url, "bad", parked.parked_at))
    if differing := sum(open_differences().values()):
        what = f"{differing:,} difference{'s' if differing > 1 else ''} from Stripe"
        found.append(Task(what, "our books and Stripe's part", link("stripe_compare"), "wait"))
    late = Invoice.objects.unpaid().filter(due_at__lte=now - A_DAY).select_related("customer").order_by("due_at", "id")
    for invoice in late[:NEEDS_A_PERSON]:
        due = format_minor(invoice.due, invoice.currency)
        why = f"{invoice.customer}, {(now - invoice.due_at).days} days late"
        found.append(Task(f"{invoice} · {due} unpaid", why, invoice_link(invoice.pk), "wait", invoice.due_at))
    ending = Subscription.objects.filter(state__in=LIVE, bills_at__lte=now + 2 * A_WEEK, ends_at__lte=now + 2 * A_WEEK)
    for subscription in ending.select_related("customer", "product").order_by("ends_at", "id")[:NEEDS_A_PERSON]:
        what = f"{subscription.customer} leaves {subscription.product}"
        url = customer_link(subscription.customer_id)
        found.append(Task(what, subscription.end_reason.replace("_", " "), url, "info", subscription.ends_at))
    found += overrides_ending(now)
    return [*stripe_tasks(), *found] if enabled() else found


# Collections that stand still until somebody acts: how one is said, how several are.
STANDING_STILL = {
    "declined": ("1 payment declined", "{} payments declined", "the customer can pay, or save another method", "bad"),
    "parked": ("1 invoice parked", "{} invoices parked", "Stripe cannot collect it as it is", "bad"),
    "disputed": ("1 payment disputed", "{} payments disputed", "evidence is due in Stripe's dashboard", "bad"),
    "requires_action": (
        "1 payment waits for its customer's confirmation",
        "{} payments wait for their customers' confirmation",
        "the bank asks them to confirm on the hosted page",
        "wait",
    ),
}


def stripe_tasks() -> list[Task]:
    """Since when Stripe does not answer, and collections that stand still, counted by an index."""
    found: list[Task] = []
    account = StripeAccount.present()
    if account is not None and account.failing_since:
        url = link("stripe_backlog")
        found.append(Task("Stripe does not answer", account.last_error, url, "bad", account.failing_since))
    rows = StripeInvoice.objects.filter(state__in=STANDING_STILL).order_by().values("state")
    counts = dict(rows.annotate(number=Count("id")).values_list("state", "number"))
    for state, (one, several, why, tone) in STANDING_STILL.items():
        if number := counts.get(state):
            what = one if number == 1 else several.format(f"{number:,}")
            found.append(Task(what, why, link("invoicing_invoice_changelist", collection=state), tone))
    return found


def overrides_ending(now: datetime) -> list[Task]:
    """Overrides that end this week; what is left of them is in the register."""
    rows = override_notices.ending(now, now + override_notices.NOTICE).select_related("customer", "feature")
    return [
        Task(
            f"{row.customer}'s {row.feature.name} {words_of(row)} ends",
            f"{row.reason} ({row.created_by})",
            customer_link(row.customer_id),
            "info",
            row.stops_at,
        )
        for row in rows.order_by("stops_at", "id")[:NEEDS_A_PERSON]
    ]


def coming_changes(now: datetime) -> Sequence[Coming]:
    """The scheduled changes of the next days, the soonest first."""
    asked = Asked(now + INSTANT, now + A_WEEK, frozenset([Kind.CHANGE]))
    return read_page(asked, most=CHANGES_SHOWN).rows
