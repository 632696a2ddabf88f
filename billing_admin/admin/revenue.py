"""Revenue: what comes back every month and how it moved, what was invoiced by product, what was used by feature. Every
figure leads to the rows that it is the sum of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django import forms
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse

from billing_admin.access import requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.event_search import TooSlow, within
from billing_admin.flows.invoiced import (
    NO_PRODUCT,
    OfFeature,
    OfProduct,
    by_feature,
    by_product,
    charged,
    firsts,
    lines,
)
from billing_admin.flows.revenue import (
    Kind,
    Month,
    Present,
    Standing,
    held,
    month_after,
    month_of,
    monthly_total,
    months,
    moved_in,
    movements,
    present,
    until_of,
)
from billing_admin.pages import dress, render_page
from billing_admin.revenue_chart import RevenueChart, draw, signed
from billing_admin.site import page
from catalog.models import Product
from catalog.money import format_minor, grouped
from customers.models import Customer
from invoicing.models import InvoiceLine

SEES = ("customers.view_subscription", "invoicing.view_invoice")
MONTHS = 12
A_PAGE = 50
# Sums over a long time are looked up again after so many seconds; the lists behind them are always fresh.
KEPT, KEPT_USE = 300, 3600
PATIENCE = 3  # seconds that a sum over all events may take
COLUMNS = (Standing.OPENING, *Kind, Standing.CLOSING)
TITLES: dict[str, str] = {
    Standing.OPENING: "At the beginning",
    Kind.NEW: "New",
    Kind.EXPANSION: "Expansion",
    Kind.REACTIVATION: "Reactivation",
    Kind.CONTRACTION: "Contraction",
    Kind.CHURN: "Churn",
    Standing.CLOSING: "At the end",
}
MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"


# What is asked for ----------------------------------------------------------------------------------------------------


class RevenueFilter(forms.Form):
    currency = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "Currency"}))

    def __init__(self, *args: Any, usual: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        codes = list(dict.fromkeys([usual, *settings.CURRENCIES]))
        self.fields["currency"].choices = [(code, code) for code in codes]  # type: ignore[attr-defined]

    def chosen(self, usual: str) -> str:
        said = self.cleaned_data if self.is_valid() else {}
        return said.get("currency") or usual


class RowsFilter(forms.Form):
    """Which rows a list shows. What cannot be read falls back to the running month."""

    currency = forms.RegexField(r"^[A-Z]{3}$", required=False)
    month = forms.RegexField(MONTH, required=False)
    months = forms.IntegerField(required=False, min_value=1, max_value=MONTHS)
    kind = forms.ChoiceField(required=False, choices=[(kind.value, TITLES[kind]) for kind in COLUMNS])
    product = forms.CharField(required=False, max_length=60)
    before = forms.CharField(required=False, max_length=60)

    @property
    def said(self) -> dict[str, Any]:
        self.is_valid()
        found: dict[str, Any] = self.cleaned_data
        return found

    def first(self, now: datetime) -> datetime:
        text = self.said.get("month") or ""
        if not text or text[:4] < "1971":
            return month_of(now)
        return min(datetime(int(text[:4]), int(text[5:]), 1, tzinfo=UTC), month_of(now))


def told_present(now: datetime) -> dict[str, Present]:
    """What is in force, by currency; the largest first."""
    found: dict[str, Present] = kept("present", partial(present, now))
    return found


def told_currencies(now: datetime) -> dict[str, int]:
    """Recurring revenue by currency, minor units; the largest first."""
    return {currency: found.brings for currency, found in told_present(now).items() if found.brings}


def usual_currency(now: datetime) -> str:
    """The one that most comes back in."""
    return next(iter(told_currencies(now)), settings.CURRENCIES[0])


def kept(name: str, read: Any, seconds: int = KEPT) -> Any:
    """From the cache, or read and kept for a while."""
    return cache.get_or_set(f"revenue:{name}", read, seconds)


def told_months(currency: str, now: datetime) -> list[Month]:
    """The last months; kept, since it reads the phases of all time."""
    read = partial(months, currency, now=now, most=MONTHS)
    found: list[Month] = kept(f"months:{currency}:{month_of(now):%Y-%m}", read)
    return found


def told_products(currency: str, now: datetime) -> list[OfProduct]:
    read = partial(by_product, currency, now=now, most=MONTHS)
    found: list[OfProduct] = kept(f"products:{currency}:{month_of(now):%Y-%m}", read)
    return found


def told_features(now: datetime) -> list[OfFeature] | None:
    """None where there are too many events to count while somebody waits."""

    def read() -> list[OfFeature] | None:
        try:
            with within(PATIENCE):
                return by_feature(now=now, most=MONTHS)
        except TooSlow:
            return None

    found: list[OfFeature] | None = kept(f"features:{month_of(now):%Y-%m}", read, KEPT_USE)
    return found


# The page -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    words: str
    url: str


@dataclass(frozen=True, slots=True)
class MonthRow:
    first: datetime
    figures: tuple[Figure, ...]


def month_rows(told: Sequence[Month], currency: str) -> list[MonthRow]:
    """The newest first."""
    return [
        MonthRow(month.first, tuple(_figure(month, kind, currency) for kind in COLUMNS)) for month in reversed(told)
    ]


def _figure(month: Month, kind: str, currency: str) -> Figure:
    amount = month.amount(kind)
    words = format_minor(amount, currency) if kind in list(Standing) else signed(amount, currency)
    return Figure(words if amount else "—", movements_url(currency, month.first, kind) if amount else "")


def movements_url(currency: str, first: datetime, kind: str) -> str:
    return link("revenue_movements", currency=currency, month=f"{first:%Y-%m}", kind=str(kind))


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A product or a feature: its months for the small line, and three figures with their lists."""

    name: str
    months: tuple[float, ...]
    this: Figure
    last: Figure
    year: Figure


def product_rows(told: Sequence[OfProduct], currency: str, now: datetime) -> list[ShareRow]:
    return [
        ShareRow(
            row.name,
            tuple(float(minor) for minor in row.months),
            _charged(row, row.months[-1], currency, month_of(now)),
            _charged(row, row.months[-2], currency, month_after(month_of(now), -1)),
            _charged(row, sum(row.months), currency, month_of(now), months=MONTHS),
        )
        for row in told
    ]


def _charged(row: OfProduct, minor: int, currency: str, month: datetime, **over: int) -> Figure:
    url = link("revenue_lines", currency=currency, product=row.key, month=f"{month:%Y-%m}", **over)
    return Figure(format_minor(minor, currency), url if minor else "")


def feature_rows(told: Sequence[OfFeature], now: datetime) -> list[ShareRow]:
    this = month_of(now)
    before = month_after(this, -1)
    return [
        ShareRow(
            row.name,
            tuple(float(units) for units in row.months),
            _used(row, row.months[-1], this.date(), now.astimezone(UTC).date()),
            _used(row, row.months[-2], before.date(), (this - timedelta(days=1)).date()),
            _used(row, sum(row.months, Decimal(0)), firsts(now, MONTHS)[0].date(), now.astimezone(UTC).date()),
        )
        for row in told
    ]


def _used(row: OfFeature, units: Decimal, since: date, until: date) -> Figure:
    asked = {"since": since.isoformat(), "until": until.isoformat(), "show": "units"}
    return Figure(grouped(units), link("feature_events", row.pk, **asked) if units else "")


def revenue_chart(currency: str, now: datetime) -> RevenueChart:
    return draw(told_months(currency, now), currency)


@requires(*SEES)
def revenue(request: HttpRequest) -> HttpResponse:
    now = moment(request)
    usual = usual_currency(now)
    form = RevenueFilter(request.GET or {"currency": usual}, usual=usual)
    dress(form)
    currency = form.chosen(usual)
    used = told_features(now)
    return render_page(
        request,
        "revenue/page.html",
        trail=[("Revenue", "")],
        form=form,
        currency=currency,
        chart=revenue_chart(currency, now),
        columns=[TITLES[kind] for kind in COLUMNS],
        months=month_rows(told_months(currency, now), currency),
        left_out=found.left_out if (found := told_present(now).get(currency)) else 0,
        products=product_rows(told_products(currency, now), currency, now),
        features=None if used is None else feature_rows(used, now),
    )


# The customers behind a figure ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MovedRow:
    """One customer; without a movement, what they bring is all there is to say."""

    customer: Customer
    url: str
    opening: int | None
    closing: int
    change: int | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """One figure: what kind, in which month and currency."""

    currency: str
    first: datetime
    kind: str
    now: datetime

    @property
    def is_standing(self) -> bool:
        return self.kind in list(Standing)

    @property
    def until(self) -> datetime:
        return self.first if self.kind == Standing.OPENING else until_of(self.first, self.now)

    def rows(self, *, before: int | None, most: int) -> list[tuple[int, int | None, int]]:
        """(customer, opening, closing), the newest customer first."""
        if self.is_standing:
            return [(pk, None, minor) for pk, minor in held(self.currency, self.until, before=before, most=most)]
        found = movements(self.currency, self.first, self.kind, now=self.now, before=before, most=most)
        return [(row.customer_id, row.opening, row.closing) for row in found]

    def total(self) -> int:
        if self.is_standing:
            return monthly_total(self.currency, self.until)
        return moved_in(self.currency, self.first, self.kind, now=self.now)[0]

    def query(self, **others: Any) -> dict[str, Any]:
        return {"currency": self.currency, "month": f"{self.first:%Y-%m}", "kind": str(self.kind), **others}


def chosen_of(form: RowsFilter, now: datetime) -> Chosen:
    said = form.said
    currency = said.get("currency") or usual_currency(now)
    return Chosen(currency, form.first(now), said.get("kind") or Standing.CLOSING, now)


def told_rows(found: Sequence[tuple[int, int | None, int]]) -> list[MovedRow]:
    customers = Customer.objects.in_bulk([pk for pk, _, _ in found])
    return [
        MovedRow(customers[pk], customer_link(pk), opening, closing, None if opening is None else closing - opening)
        for pk, opening, closing in found
    ]


@requires(*SEES)
def moved(request: HttpRequest) -> HttpResponse:
    """The customers whose sum a figure is, the newest first, by keys."""
    now = moment(request)
    form = RowsFilter(request.GET)
    chosen = chosen_of(form, now)
    before = form.said.get("before", "")
    found = chosen.rows(before=int(before) if before.isdecimal() and len(before) < 18 else None, most=A_PAGE + 1)
    rows = told_rows(found[:A_PAGE])
    return render_page(
        request,
        "revenue/movements.html",
        trail=[("Revenue", link("revenue", currency=chosen.currency)), (TITLES[chosen.kind], "")],
        chosen=chosen,
        title=TITLES[chosen.kind],
        total=chosen.total(),
        rows=rows,
        tabs=[
            (TITLES[kind], movements_url(chosen.currency, chosen.first, kind), kind == chosen.kind) for kind in COLUMNS
        ],
        first_url=link("revenue_movements", **chosen.query()) if before else "",
        older=link("revenue_movements", **chosen.query(before=rows[-1].customer.pk)) if len(found) > A_PAGE else "",
        export_query=chosen.query(),
    )


def tabs_of(chosen: Chosen) -> list[tuple[str, str, bool]]:
    """The other figures of the same month: (words, address, whether it is the one shown)."""
    urls = ((kind, movements_url(chosen.currency, chosen.first, kind)) for kind in COLUMNS)
    return [(TITLES[kind], url, kind == chosen.kind) for kind, url in urls]


# The lines behind a product's figure ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Charged:
    """Lines of one product, issued in some months."""

    currency: str
    product: str
    first: datetime
    months: int

    @property
    def since(self) -> datetime:
        return month_after(self.first, 1 - self.months)

    @property
    def until(self) -> datetime:
        return month_after(self.first)

    @property
    def words(self) -> str:
        last = f"{self.first:%B %Y}"
        return last if self.months == 1 else f"{self.since:%B %Y} to {last}"

    def rows(self, *, before: tuple[datetime, int] | None, most: int) -> list[InvoiceLine]:
        return lines(self.currency, self.product, self.since, self.until, before=before, most=most)

    def query(self, **others: Any) -> dict[str, Any]:
        month = f"{self.first:%Y-%m}"
        return {"currency": self.currency, "product": self.product, "month": month, "months": self.months, **others}


def charged_of(form: RowsFilter, now: datetime) -> Charged:
    said = form.said
    currency = said.get("currency") or usual_currency(now)
    return Charged(currency, said.get("product") or NO_PRODUCT, form.first(now), said.get("months") or 1)


def place_of(text: str) -> tuple[datetime, int] | None:
    """`2026-04-01T00:00:00+00:00~12`; None for anything else."""
    at, _, pk = text.partition("~")
    try:
        found = datetime.fromisoformat(at), int(pk)
    except ValueError:
        return None
    return found if found[0].tzinfo else None


@dataclass(frozen=True, slots=True)
class LineRow:
    line: InvoiceLine
    url: str
    customer_url: str


@requires(*SEES)
def charged_lines(request: HttpRequest) -> HttpResponse:
    """The newest first, by keys."""
    form = RowsFilter(request.GET)
    asked = charged_of(form, moment(request))
    before = place_of(form.said.get("before", ""))
    found = asked.rows(before=before, most=A_PAGE + 1)
    rows = found[:A_PAGE]
    named = Product.objects.filter(key=asked.product).values_list("name", flat=True).first()
    title = named or "Without a product"
    place = f"{rows[-1].invoice.issued_at.isoformat()}~{rows[-1].pk}" if len(found) > A_PAGE else ""  # type: ignore[union-attr]
    return render_page(
        request,
        "revenue/lines.html",
        trail=[("Revenue", link("revenue", currency=asked.currency)), (title, "")],
        asked=asked,
        title=title,
        total=charged(asked.currency, asked.product, asked.since, asked.until),
        rows=[LineRow(row, invoice_link(row.invoice_id), customer_link(row.invoice.customer_id)) for row in rows],
        first_url=link("revenue_lines", **asked.query()) if before else "",
        older=link("revenue_lines", **asked.query(before=place)) if place else "",
        export_query=asked.query(),
    )


page("revenue/", name="revenue", methods=("GET",))(revenue)
page("revenue/movements/", name="revenue_movements", methods=("GET",))(moved)
page("revenue/lines/", name="revenue_lines", methods=("GET",))(charged_lines)
