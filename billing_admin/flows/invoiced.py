"""Reading: what was invoiced by product, and what was used by feature, month by month (UTC). One query each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncMonth

from billing_admin.flows.revenue import month_after, month_of
from catalog.models import Feature, Product
from entitlements.models import ArchivedMonth, ArchivedUse, UsageEvent
from invoicing.models import InvoiceLine
from invoicing.states import InvoiceState

# What a line charged in the end, before tax on top.
NET = F("amount") - F("discounted") - F("credited")
NO_PRODUCT = "none"
Amount = TypeVar("Amount", int, Decimal)


@dataclass(frozen=True, slots=True)
class OfProduct:
    """What one product's lines charged, month by month, minor units; `key` is what its list is asked for by."""

    key: str
    name: str
    months: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OfFeature:
    """Units of one feature that were used, month by month."""

    pk: int
    name: str
    unit: str
    months: tuple[Decimal, ...]


def firsts(now: datetime, most: int) -> list[datetime]:
    """When the last months began, the running one last."""
    return [month_after(month_of(now), n) for n in range(1 - most, 1)]


def issued_lines(currency: str, since: datetime, until: datetime) -> "QuerySet[InvoiceLine]":
    """Lines of documents issued within `[since, until)`, credit notes too; void ones are left out."""
    rows = InvoiceLine.objects.filter(
        invoice__issued_at__gte=since, invoice__issued_at__lt=until, invoice__currency=currency
    )
    return rows.exclude(invoice__state__in=[InvoiceState.VOID, InvoiceState.DRAFT])


def of_product(rows: "QuerySet[InvoiceLine]", key: str) -> "QuerySet[InvoiceLine]":
    """Those of one product; `NO_PRODUCT`: of documents that belong to no contract."""
    return rows.filter(subscription=None) if key == NO_PRODUCT else rows.filter(subscription__product__key=key)


def by_product(currency: str, *, now: datetime, most: int) -> list[OfProduct]:
    """The products that anything was invoiced for, the largest first."""
    months = firsts(now, most)
    rows = issued_lines(currency, months[0], month_after(months[-1])).order_by()
    sums = rows.values_list("subscription__product", TruncMonth("invoice__issued_at", tzinfo=UTC)).annotate(
        sum=Sum(NET)
    )
    found: dict[int | None, dict[datetime, int]] = {}
    for product, month, charged in sums:
        found.setdefault(product, {})[month] = charged
    names = {row.pk: (row.key, row.name) for row in Product.objects.filter(pk__in=[pk for pk in found if pk])}
    told = [
        OfProduct(*names.get(product or 0, (NO_PRODUCT, "Without a product")), _filled(months, charged, 0))
        for product, charged in found.items()
    ]
    return sorted(told, key=lambda row: (-sum(row.months), row.name))


def charged(currency: str, key: str, since: datetime, until: datetime) -> int:
    """What one product's lines charged within `[since, until)`, minor units."""
    found: int | None = of_product(issued_lines(currency, since, until), key).aggregate(sum=Sum(NET))["sum"]
    return found or 0


def lines(
    currency: str, key: str, since: datetime, until: datetime, *, before: tuple[datetime, int] | None, most: int
) -> list[InvoiceLine]:
    """The lines of one product, the newest first; `before` goes on from (issued at, key of the line)."""
    rows = of_product(issued_lines(currency, since, until), key)
    if before is not None:
        at, pk = before
        rows = rows.filter(
            Q(invoice__issued_at__lt=at) | Q(invoice__issued_at=at, pk__lt=pk), invoice__issued_at__lte=at
        )
    return list(rows.select_related("invoice__customer").order_by("-invoice__issued_at", "-pk")[:most])


def by_feature(*, now: datetime, most: int) -> list[OfFeature]:
    """The features of which anything was used, by name; of events that are in the archive from their daily sums."""
    months = firsts(now, most)
    events = UsageEvent.objects.since(months[0]).filter(at__lt=month_after(months[-1]), voided_at=None).order_by()
    sums = list(events.values_list("feature", TruncMonth("at", tzinfo=UTC)).annotate(units=Sum("taken")))
    if ArchivedMonth.objects.filter(month__gte=months[0].date()).exists():
        archived = ArchivedUse.objects.filter(at__gte=months[0], at__lt=month_after(months[-1])).order_by()
        sums += archived.values_list("balance__feature", TruncMonth("at", tzinfo=UTC)).annotate(units=Sum("used"))
    found: dict[int, dict[datetime, Decimal]] = {}
    for feature, month, units in sums:
        of = found.setdefault(feature, {})
        of[month] = of.get(month, Decimal(0)) + units
    features = Feature.objects.filter(pk__in=found).order_by("name")
    return [OfFeature(f.pk, f.name, f.unit, _filled(months, found[f.pk], Decimal(0))) for f in features]


def _filled(months: Sequence[datetime], found: dict[datetime, Amount], nothing: Amount) -> tuple[Amount, ...]:
    return tuple(found.get(month, nothing) for month in months)
