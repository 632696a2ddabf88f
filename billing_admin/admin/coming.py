"""What is coming, as a calendar of a month and as a list: renewals, changes and ends across customers, with money."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse

from billing_admin.access import requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.admin.panels import CustomerPanels
from billing_admin.coming import (
    A_DAY,
    NINETY_DAYS,
    WORDS,
    Coming,
    Kind,
    Sums,
    midnight,
    next_month,
    runs_out_at,
    soonest,
    total,
    weeks,
)
from billing_admin.flows.coming import EVERY_KIND, Asked, Cursor, read_days, read_page
from billing_admin.flows.override_outlook import words_of
from billing_admin.flows.revenue import INSTANT
from billing_admin.pages import dress, render_page
from billing_admin.reward_rows import RewardRow
from billing_admin.site import page
from billing_admin.typed import in_calendar
from catalog.models import Plan, Product

SEES = ("customers.view_subscription", "invoicing.view_invoice")
DAYS = {"7": "Next 7 days", "30": "Next 30 days", "90": "Next 90 days", "365": "Next year"}
USUAL_DAYS = "90"
MOST_MONTHS = 36
A_PAGE = 50


class ComingFilter(forms.Form):
    """What is shown; lives in the address. A day goes before `days`."""

    kind = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "What comes"}))
    product = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "Product"}))
    plan = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "Plan"}))
    least = forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=12,
        decimal_places=2,
        label="To bill from",
        widget=forms.NumberInput(attrs={"step": "any", "size": 8, "placeholder": "0"}),
    )
    days = forms.ChoiceField(
        required=False, choices=list(DAYS.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "How far"})
    )
    day = forms.DateField(required=False, validators=[in_calendar], widget=forms.HiddenInput)
    month = forms.RegexField(r"^\d{4}-(0[1-9]|1[0-2])$", required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, drop: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kinds = [("", "Everything"), *((kind.value, WORDS[kind][0]) for kind in Kind)]
        products = Product.objects.order_by("name").values_list("key", "name")
        plans = Plan.objects.select_related("product").order_by("product__name", "name")
        self._offer("kind", kinds)
        self._offer("product", [("", "Every product"), *products])
        self._offer("plan", [("", "Every plan"), *((plan.key, plan.title) for plan in plans)])
        for name in drop:
            del self.fields[name]

    def _offer(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    @property
    def said(self) -> dict[str, Any]:
        """What was asked for as far as it can be read: what cannot narrows nothing, and its field says why."""
        self.is_valid()
        found: dict[str, Any] = self.cleaned_data
        return found

    def asked(self, since: datetime, until: datetime) -> Asked:
        said = self.said
        return Asked(
            since=since,
            until=until,
            kinds=frozenset([Kind(said["kind"])]) if said.get("kind") else EVERY_KIND,
            product=said.get("product", ""),
            plan=said.get("plan", ""),
            least=said.get("least"),
        )

    def query(self, **others: Any) -> dict[str, Any]:
        """The filters as an address has them, with others beside them."""
        said = self.said
        kept = {name: said.get(name) for name in ("kind", "product", "plan", "least")}
        return {name: value for name, value in {**kept, **others}.items() if value not in (None, "")}

    @property
    def is_narrowed(self) -> bool:
        return bool(self.query())


# The calendar ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of the grid; one outside of the month has no sums and leads nowhere."""

    day: date
    sums: Sums
    url: str
    is_today: bool
    is_past: bool
    is_inside: bool


@requires(*SEES)
def calendar(request: HttpRequest) -> HttpResponse:
    """One month, day by day; days are those of UTC, by which billing counts."""
    now = moment(request)
    today = now.astimezone(UTC).date()
    form = ComingFilter(request.GET, drop=("days", "day"))
    dress(form)
    month = month_asked(form.said.get("month", ""), today)
    asked = form.asked(after(now, month), midnight(next_month(month)))
    sums = read_days(asked)
    return render_page(
        request,
        "coming/calendar.html",
        trail=[("What is coming", "")],
        form=form,
        narrowed=form.is_narrowed,
        month=month,
        weeks=[[cell(day, sums, month, today, form) for day in week] for week in weeks(month)],
        days=[cell(day, sums, month, today, form) for day in sorted(sums)],
        total=total(sums.values()),
        earlier=month_url(form, next_month(month, -1), today),
        later=month_url(form, next_month(month), today),
        list_url=link("coming_list", **form.query()),
    )


def month_asked(text: str, today: date) -> date:
    """The first day of the month asked for, from this month on and not too far away."""
    present = today.replace(day=1)
    wanted = date(int(text[:4]), int(text[5:]), 1) if text and text[:4] != "0000" else present
    return min(max(wanted, present), next_month(present, MOST_MONTHS))


def after(now: datetime, day: date) -> datetime:
    """From a day on, but only what has not come yet."""
    return max(midnight(day), now + INSTANT)


def cell(day: date, sums: Mapping[date, Sums], month: date, today: date, form: ComingFilter) -> Cell:
    here = sums.get(day, Sums()) if day.month == month.month else Sums()
    return Cell(
        day=day,
        sums=here,
        url=link("coming_list", **form.query(day=day.isoformat())) if here.count else "",
        is_today=day == today,
        is_past=day < today,
        is_inside=day.month == month.month,
    )


def month_url(form: ComingFilter, month: date, today: date) -> str:
    present = today.replace(day=1)
    if not present <= month <= next_month(present, MOST_MONTHS):
        return ""
    return link("coming", **form.query(month=f"{month:%Y-%m}"))


# The list -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    coming: Coming
    customer_url: str
    url: str


def row_of(coming: Coming) -> Row:
    return Row(coming, customer_link(coming.customer.pk) if coming.customer else "", url_of(coming))


def url_of(coming: Coming) -> str:
    """Where what comes has a page of its own."""
    if coming.kind == Kind.DRAFT:
        return invoice_link(coming.row)
    return link("deals_deal_change", coming.row) if coming.kind == Kind.OFFER_END else ""


def window_of(form: ComingFilter, now: datetime) -> tuple[datetime, datetime]:
    """The day that was asked for, or so many days from now."""
    said = form.said
    if said.get("day"):
        return after(now, said["day"]), max(midnight(said["day"] + A_DAY), now + INSTANT)
    return now + INSTANT, now + timedelta(days=int(said.get("days") or USUAL_DAYS))


@requires(*SEES)
def listed(request: HttpRequest) -> HttpResponse:
    """The soonest first, by keys; its figures are those of the calendar."""
    now = moment(request)
    given = request.GET.copy()
    given.setdefault("days", USUAL_DAYS)
    form = ComingFilter(given, drop=("month", "days") if request.GET.get("day") else ("month",))
    dress(form)
    asked = form.asked(*window_of(form, now))
    found = read_page(asked, after=Cursor.read(request.GET.get("after", "")), most=A_PAGE)
    day = form.said.get("day")
    here = {"day": day.isoformat()} if day else {"days": form.said.get("days")}
    return render_page(
        request,
        "coming/list.html",
        trail=[("What is coming", link("coming")), (f"{day.day} {day:%b %Y}" if day else "List", "")],
        form=form,
        narrowed=form.is_narrowed,
        day=day,
        rows=[row_of(row) for row in found.rows],
        total=total(read_days(asked).values()),
        first_url="" if not request.GET.get("after") else link("coming_list", **form.query(**here)),
        later_url=link("coming_list", **form.query(**here, after=found.following)) if found.following else "",
        calendar_url=link("coming", **form.query(month=f"{day:%Y-%m}" if day else "")),
        export_query=form.query(**here),
    )


# On a customer's page -------------------------------------------------------------------------------------------------


def next_days(page: CustomerPanels, rewards: Iterable[dict[str, Any]], *, now: datetime) -> Sequence[Coming]:
    """What comes for one customer in ninety days, from what their page has read already."""
    until = now + NINETY_DAYS
    found = list(page.coming)
    found += [
        Coming(Kind.OVERRIDE_END, row.stops_at, f"{row.feature.name} {words_of(row)}", row.reason)
        for row in page.overridden
        if row.stops_at is not None and row.stops_at != row.effective_from
    ]
    for special, row in page.overrides:
        phase = row.subscription.phase_at(row.created_at)
        at = runs_out_at(row.subscription, phase, special.left, key=row.item_key) if phase else None
        if at is not None and row.revoked_at is None and phase is not None:
            found.append(Coming(Kind.PRICE_END, at, phase.version.plan.title, row.reason))
    coupons = (_coupon_end(each["row"], page, now) for each in rewards)
    found += [coupon for coupon in coupons if coupon is not None]
    return soonest(found, now=now, until=until)


def _coupon_end(reward: RewardRow, page: CustomerPanels, now: datetime) -> Coming | None:
    """By its date, or by the invoices it has left where it holds for one contract."""
    what = f"{reward.name}: {reward.gives}"
    if reward.ends_at is not None:
        return Coming(Kind.COUPON_END, reward.ends_at, what, reward.applied.reason)
    billed = [s for s in page.subscriptions if s.bills_at is not None]
    contract = next((s for s in billed if s.pk == reward.applied.subscription_id), None)
    if contract is None and reward.applied.subscription_id is None and len(billed) == 1:
        contract = billed[0]
    phase = contract.phase_at(now) if contract else None
    at = runs_out_at(contract, phase, reward.periods_left) if contract and phase else None
    return Coming(Kind.COUPON_END, at, what, reward.applied.reason) if at is not None else None


page("coming/", name="coming", methods=("GET",))(calendar)
page("coming/list/", name="coming_list", methods=("GET",))(listed)
