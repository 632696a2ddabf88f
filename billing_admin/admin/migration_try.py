"""The dry run of a migration: sums, what it means for each customer, who is left alone and why; and the button."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse

from billing_admin.access import require
from billing_admin.admin.acts import moment
from billing_admin.admin.catalog_plans import trail_of
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.migration_order import MIGRATE, kept, labels, refuse_unknown
from billing_admin.csv_table import csv_line
from billing_admin.flows.approvals import ApprovalNeeded, guard
from billing_admin.flows.migrate import MigratePlan, begin
from billing_admin.flows.migrate_order import Order
from billing_admin.flows.migrate_outlook import Outlook, OutlookMoved, RowOutlook, dry_run
from billing_admin.pages import ASK, ActPage
from billing_admin.plan_page import signed_minor
from billing_admin.site import page
from catalog.mapping import priced
from catalog.money import format_minor, to_major
from catalog.periods import every
from customers.journal import Actor
from customers.models import PlanMigration

Timing = PlanMigration.Timing
A_PAGE = 50
KEPT = timedelta(minutes=30)
MOVED_SHOWN = 20
MOVING, LOSING, SKIPPED = "moving", "losing", "skipped"
# Why contracts are left alone, as the heading of those that share it.
SKIPS = {
    "custom_plan": "on a custom plan",
    "scheduled_change": "a change is scheduled",
    "end_planned": "ends anyway",
    "pending_payment": "waits for a payment",
    "parked": "parked",
    "follows_stripe": "follows Stripe",
    "on_trial": "on trial",
    "override_dropped": "a special price would lose its item",
    "not_on_version": "not on the version any more",
    "no_cycle": "no billing cycle",
    "prices_differ": "its price would change at once",
}


# What was seen --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """A dry run as somebody saw it."""

    at: datetime
    outlook: Outlook


def look(request: HttpRequest, key: str, *, again: bool = False) -> Seen:
    """The dry run of a kept order: as it was seen minutes ago, so that its pages agree, or made anew."""
    refuse_unknown(request, key)
    seen: Seen | None = None if again else cache.get(_place(key))
    return seen or look_anew(key, kept(request, key), moment(request))


def look_anew(key: str, order: Order, now: datetime) -> Seen:
    seen = Seen(now, dry_run(order, now))
    cache.set(_place(key), seen, KEPT.total_seconds())
    return seen


def _place(key: str) -> str:
    return f"migration-try:{key}"


# For people -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TriedRow:
    """One contract of the table."""

    name: str
    customer_id: str
    url: str
    old: str
    new: str
    difference: str
    costs_less: bool
    lost: tuple[str, ...]
    above: tuple[str, ...]
    at: datetime | None
    problem: str


def tried_row(row: RowOutlook) -> TriedRow:
    return TriedRow(
        name=row.customer_name,
        customer_id=row.customer,
        url=customer_link(row.customer_id),
        old=format_minor(row.old_price, row.currency),
        new=format_minor(row.new_price, row.currency),
        difference=signed_minor(row.difference, row.currency),
        costs_less=row.difference < 0,
        lost=row.lost,
        above=row.above,
        at=row.at,
        problem=row.problem,
    )


@dataclass(frozen=True, slots=True)
class SumRow:
    currency: str
    old: str
    new: str
    difference: str
    costs_less: bool


def sum_rows(outlook: Outlook) -> list[SumRow]:
    return [
        SumRow(
            currency=currency,
            old=format_minor(total.old, currency),
            new=format_minor(total.new, currency),
            difference=signed_minor(total.difference, currency),
            costs_less=total.difference < 0,
        )
        for currency, total in outlook.sums.items()
    ]


@dataclass(frozen=True, slots=True)
class Skip:
    code: str
    words: str
    customers: int


@dataclass(frozen=True, slots=True)
class MovedRow:
    """What became of a contract between looking and pressing."""

    name: str
    before: str
    after: str


def moved_rows(before: Outlook, after: Outlook) -> list[MovedRow]:
    """Contracts of which something was shown that does not hold any more."""
    was = {row.subscription_id: row for row in before.rows}
    now = {row.subscription_id: row for row in after.rows}
    found = []
    for key in dict.fromkeys([*was, *now]):
        old, new = was.get(key), now.get(key)
        if old is None or new is None or old.facts() != new.facts():
            one = new or old
            assert one is not None
            found.append(MovedRow(one.customer_name, _in_words(old), _in_words(new)))
    return found


def _in_words(row: RowOutlook | None) -> str:
    if row is None:
        return "not among them"
    if row.code:
        return f"left alone: {row.problem}"
    price = f"{format_minor(row.old_price, row.currency)} → {format_minor(row.new_price, row.currency)}"
    begins = f", from {row.at:%-d %b %Y}" if row.at else ""
    lost = f"; {', '.join(row.lost)}" if row.lost else ""
    return f"moves, {price}{begins}{lost}"


def customers_words(number: int) -> str:
    return f"{number:,} customer{'' if number == 1 else 's'}"


def when_words(order: Order) -> str:
    """The end of "Move 482 customers …"."""
    if order.timing == Timing.NOW:
        return "now"
    if order.timing == Timing.ON_DATE and order.not_before:
        return f"at their first billing cycle from {order.not_before:%-d %b %Y}"
    return "at their next billing cycle"


# The page -------------------------------------------------------------------------------------------------------------


class TryForm(forms.Form):
    """What was looked at comes back as its fingerprint."""

    reason = forms.CharField(
        label="Reason",
        max_length=500,
        help_text="Stands in the history of every customer that moves.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    confirmed = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)


class TryMigration(ActPage):
    permission = MIGRATE
    form_class = TryForm
    page_template = "migrations/try.html"
    moved: Sequence[MovedRow] = ()

    @cached_property
    def seen(self) -> Seen:
        return look(self.request, self.kwargs["key"])

    @property
    def outlook(self) -> Outlook:
        return self.seen.outlook

    @property
    def order(self) -> Order:
        return self.outlook.order

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            if "again" in request.GET:
                look(request, kwargs["key"], again=True)
                return HttpResponseRedirect(request.path)
            return super().get(request, *args, **kwargs)
        except ValidationError as refused:
            return self._cannot(refused)

    def _cannot(self, refused: ValidationError) -> HttpResponse:
        """The order itself can no longer be carried out: back to where it is made, with the sentence."""
        order = kept(self.request, self.kwargs["key"])
        for sentence in refused.messages[:3]:
            messages.error(self.request, sentence)
        return HttpResponseRedirect(_order_url(order))

    def get_title(self) -> str:
        return "Dry run"

    @cached_property
    def approval(self) -> ApprovalNeeded | None:
        """Whether a second person has to agree, and why."""
        if not self.outlook.moves:
            return None
        act = MigratePlan(self.order, self.outlook)
        try:
            guard(act, actor=Actor.of(self.request.user), now=moment(self.request))
        except ApprovalNeeded as needed:
            return needed
        return None

    def get_submit(self) -> str:
        if self.approval:
            return "Ask for approval"
        return f"Move {customers_words(self.outlook.moves)} {when_words(self.order)}"

    def get_outcome(self) -> str:
        if self.order.timing == Timing.NOW:
            return "What was used stays used, reset dates stay, and no money moves."
        return "Until then everything stays as it is; invoices that were issued never change."

    def back(self) -> str:
        return _order_url(self.order)

    def trail(self) -> list[tuple[str, str]]:
        return [*trail_of(self.order.plan, "Move customers")[:-1], ("Move customers", self.back()), ("Dry run", "")]

    def get_initial(self) -> dict[str, Any]:
        return {"confirmed": self.outlook.fingerprint}

    def act(self, form: TryForm) -> str:
        said = form.cleaned_data
        now, actor = moment(self.request), Actor.of(self.request.user)
        order = kept(self.request, self.kwargs["key"])
        try:
            migration = begin(order, reason=said["reason"], actor=actor, now=now, confirmed=said["confirmed"])
        except OutlookMoved as refused:
            self._look_again(form, refused.outlook, now)
            raise
        return link("migration", migration.public_id)

    def _look_again(self, form: TryForm, outlook: Outlook, now: datetime) -> None:
        """Show what moved, and let the next press confirm the numbers as they are now."""
        before = cache.get(_place(self.kwargs["key"]))
        self.moved = moved_rows(before.outlook, outlook) if before else ()
        self.seen = Seen(now, outlook)
        cache.set(_place(self.kwargs["key"]), self.seen, KEPT.total_seconds())
        said = self.request.POST.copy()
        said["confirmed"] = outlook.fingerprint
        form.data = said

    def extra(self) -> dict[str, Any]:
        shown = self.request.GET.get("show", "")
        shown = shown if shown in (MOVING, LOSING, SKIPPED) else MOVING if self.outlook.moves else SKIPPED
        rows = self.rows(shown)
        first = number(self.request.GET.get("page")) or 1
        starts = dict.fromkeys(row.at for row in self.outlook.moving if row.at)
        return {
            "approval": self.approval,
            "ask": ASK,
            "plan": self.order.plan,
            "order": self.order,
            "seen_at": self.seen.at,
            "outlook": self.outlook,
            "sums": sum_rows(self.outlook),
            "period": every(self.order.old.cadence),
            "dropped": dropped_labels(self.order),
            "skips": [Skip(c, SKIPS.get(c, c.replace("_", " ")), n) for c, n in self.outlook.skips.items()],
            "first_at": min(starts, default=None),
            "last_at": max(starts, default=None),
            "shown": shown,
            "q": self.request.GET.get("q", ""),
            "code": self.request.GET.get("code", ""),
            "tabs": self.tabs(shown),
            "rows": [tried_row(row) for row in rows[(first - 1) * A_PAGE : first * A_PAGE]],
            "found": len(rows),
            "pages": pages_of(self.request, len(rows), first),
            "csv_url": link("migration_try_csv", self.kwargs["key"], SKIPPED if shown == SKIPPED else MOVING),
            "moved": self.moved[:MOVED_SHOWN],
            "more_moved": max(0, len(self.moved) - MOVED_SHOWN),
        }

    def rows(self, shown: str) -> list[RowOutlook]:
        """Those of one tab, narrowed as the address says."""
        words, code = self.request.GET.get("q", "").strip().lower(), self.request.GET.get("code", "")
        rows = self.outlook.skipped if shown == SKIPPED else self.outlook.moving
        if shown == LOSING:
            rows = [row for row in rows if row.lost]
        if shown == SKIPPED and code:
            rows = [row for row in rows if row.code == code]
        if words:
            rows = [row for row in rows if _begins(row, words)]
        return rows

    def tabs(self, shown: str) -> list[dict[str, Any]]:
        outlook = self.outlook
        found = [
            (MOVING, "Who moves", outlook.moves),
            (LOSING, "Loses access", outlook.losing),
            (SKIPPED, "Left alone", len(outlook.rows) - outlook.moves),
        ]
        return [
            {"name": name, "label": label, "number": n, "is_shown": name == shown}
            for name, label, n in found
            if n or name == MOVING
        ]


def _begins(row: RowOutlook, words: str) -> bool:
    return row.customer_name.lower().startswith(words) or row.customer.lower().startswith(words)


def dropped_labels(order: Order) -> list[str]:
    """Prices of the old version that nobody pays any more."""
    names = labels(order.old)
    return [names[item.key] for item in priced(order.old) if order.keys.get(item.key) is None]


def _order_url(order: Order) -> str:
    sides = {"from": order.from_version.number, "to": order.to_version.number}
    return link("migration_new", order.plan.pk, **sides)


def number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 8 else 0


def pages_of(request: HttpRequest, found: int, present: int) -> dict[str, str]:
    """Where the page before and the next one are; empty where there is none."""

    def to(number: int) -> str:
        asked = request.GET.copy()
        asked["page"] = str(number)
        return f"?{asked.urlencode()}"

    last = max(1, -(-found // A_PAGE))
    return {
        "before": to(present - 1) if present > 1 else "",
        "next": to(present + 1) if present < last else "",
        "words": f"{min((present - 1) * A_PAGE + 1, found):,}–{min(present * A_PAGE, found):,} of {found:,}",
    }


# As CSV ---------------------------------------------------------------------------------------------------------------

MOVING_HEAD = (
    "customer_id",
    "name",
    "subscription",
    "quantity",
    "currency",
    "old_price",
    "new_price",
    "difference",
    "begins",
    "access_lost",
    "in_use_above",
)
SKIPPED_HEAD = ("customer_id", "name", "subscription", "code", "why")


def try_csv(request: HttpRequest, key: str, which: str) -> StreamingHttpResponse:
    """Everybody who moves, or everybody who is left alone, as they were shown."""
    require(request, MIGRATE)
    if which not in (MOVING, SKIPPED):
        raise Http404("There is no such list.")
    outlook = look(request, key).outlook
    lines = _skipped_lines(outlook) if which == SKIPPED else _moving_lines(outlook)
    answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{which}.csv"'
    return answer


def _moving_lines(outlook: Outlook) -> Iterator[str]:
    yield csv_line(MOVING_HEAD)
    for row in outlook.moving:
        yield csv_line(
            (
                row.customer,
                row.customer_name,
                row.subscription,
                row.quantity,
                row.currency,
                *(to_major(amount, row.currency) for amount in (row.old_price, row.new_price, row.difference)),
                row.at,
                "; ".join(row.lost),
                "; ".join(row.above),
            )
        )


def _skipped_lines(outlook: Outlook) -> Iterator[str]:
    yield csv_line(SKIPPED_HEAD)
    for row in outlook.skipped:
        yield csv_line((row.customer, row.customer_name, row.subscription, row.code, row.problem))


page("migrations/try/<str:key>/", name="migration_try")(TryMigration.as_view())
page("migrations/try/<str:key>/<slug:which>.csv", name="migration_try_csv", methods=("GET",))(try_csv)
