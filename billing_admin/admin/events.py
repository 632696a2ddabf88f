"""What applications reported: the panel and the page of a customer, and what the page of a feature shares with it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import requires
from billing_admin.admin.acts import find_customer, moment
from billing_admin.admin.event_filter import DAY, EVENTS, UNITS, EventForm
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.panels import Day, read_days
from billing_admin.api.events import EventDetailOut, UsedOut, balances_of, parts_of, rows_of, used_of
from billing_admin.event_chart import draw
from billing_admin.event_search import (
    PER_DAY,
    PROPERTY,
    BadCursor,
    Cursor,
    Search,
    TooSlow,
    in_time,
    newest,
    series,
    within,
)
from billing_admin.pages import dress, render_page
from billing_admin.site import page
from billing_admin.typed import row_number
from catalog.models import Feature
from customers.models import Customer
from entitlements.models import Balance, UsageEvent

VIEW = "entitlements.view_usageevent"
IN_PANEL, A_PAGE = 10, 50
# All customers together report more than one does: their page begins with fewer days.
DAYS_OF_CUSTOMER, DAYS_OF_FEATURE = 30, 7
# How the page shows what was found, and where in it.
NO_CONDITIONS = ("before", "by", "show", "wait")
# Seconds that the list and the chart may each take; more, when a person asks for it.
PATIENCE, MORE_PATIENCE = 3, 25


# The panel on the customer's page -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventPanel:
    """One page of events: `older` is the id to go on from, if there are more."""

    words: str
    rows: Sequence[UsageEvent]
    older: int | None
    first: bool
    url: str

    @property
    def older_url(self) -> str:
        return f"{self.url}?{urlencode({'q': self.words, 'before': self.older})}" if self.older else ""


def read_events(customer: Customer, *, words: str = "", before: int | None = None) -> EventPanel:
    """By keys, never by offsets: the thousandth page costs as much as the first."""
    rows = UsageEvent.objects.filter(_among(words), customer=customer).select_related("feature")
    if before:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-id")[: IN_PANEL + 1])
    more = found[IN_PANEL - 1].pk if len(found) > IN_PANEL else None
    return EventPanel(words, found[:IN_PANEL], more, before is None, link("customer_events", customer.pk))


def _among(words: str) -> Q:
    """Features by the start of their name or slug, or the one event with this key."""
    words = words.strip()
    if not words:
        return Q()
    features = Feature.objects.filter(Q(name__istartswith=words) | Q(slug__startswith=words.lower()))
    return Q(feature__in=list(features.values_list("pk", flat=True))) | Q(key=words)


def _panel(request: HttpRequest, customer: Customer) -> HttpResponse:
    words, before = request.GET.get("q", "").strip(), row_number(request.GET.get("before", ""))
    found = read_events(customer, words=words, before=before)
    context = {"customer": customer, "events": found, "days": _days(customer, request, words)}
    return TemplateResponse(request, "panels/events.html", context)


def _days(customer: Customer, request: HttpRequest, words: str) -> Sequence[Day]:
    return read_days(customer, now=moment(request), among=_among(words))[1]


# The list -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """`exact`: the words were an event's whole id or key, so that nothing else was looked at."""

    rows: Sequence[UsageEvent] = ()
    older: Cursor | None = None
    exact: bool = False
    slow: bool = False

    @property
    def keys(self) -> list[str]:
        """Names of properties that are on the page, to choose from."""
        return sorted({name for row in self.rows for name in row.properties if PROPERTY.fullmatch(name)})[:30]


def find(search: Search, *, before: str) -> Found:
    """Events for one page of the list, in the time that a person waits."""
    try:
        after = Cursor.read(before) if before else None
    except BadCursor:
        after = None
    try:
        with within(PATIENCE):
            exact = search.exact() if search.words and after is None else []
            if exact:
                return Found(exact, exact=True)
            rows, older = newest(search, after=after, limit=A_PAGE)
            return Found(rows, older)
    except TooSlow:
        return Found(slow=True)


# Pages ----------------------------------------------------------------------------------------------------------------


def events_page(
    request: HttpRequest,
    template: str,
    *,
    trail: list[tuple[str, str]],
    features: Iterable[Feature] | None,
    days: int,
    of: dict[str, Any],
) -> HttpResponse:
    """The page of whatever events belong to (`of`: a customer, or a feature); without scripts it is the same."""
    whose = {name: row.pk for name, row in of.items()}
    form = EventForm(request.GET, features=features, today=moment(request).astimezone(UTC).date(), days=days)
    dress(form)
    context: dict[str, Any] = {"form": form, "narrowed": _narrows(request), **of}
    if not form.is_valid():
        return render_page(request, template, trail=trail, found=Found(), export_query=whose, **context)
    search = form.search(**of)
    said = form.cleaned_data
    found = find(search, before=request.GET.get("before", ""))
    show = said["show"] or EVENTS
    patience = MORE_PATIENCE if request.GET.get("wait") else PATIENCE
    points = None if found.exact else in_time(lambda: series(search, per=PER_DAY, by=said["by"]), seconds=patience)
    return render_page(
        request,
        template,
        trail=trail,
        found=found,
        chart=None if points is None else draw(points, search, by_units=show == UNITS, split=bool(said["by"])),
        since=search.since,
        until=search.until - DAY,
        by=said["by"],
        show=show,
        kept=_address(request, drop=("by", "show", "before", "wait")),
        older=_address(request, drop=("before",), before=str(found.older)) if found.older else "",
        newest=_address(request, drop=("before",)) if request.GET.get("before") else "",
        wait=_address(request, wait="1"),
        export_query=_asked(request, drop=NO_CONDITIONS) | {"since": said["since"], "until": said["until"]} | whose,
        **context,
    )


def _narrows(request: HttpRequest) -> bool:
    return any(value for name, value in request.GET.items() if name in ("q", "feature", "name", "property", "voided"))


def _address(request: HttpRequest, drop: Sequence[str] = (), **more: str) -> str:
    return f"?{urlencode(_asked(request, drop) | more)}"


def _asked(request: HttpRequest, drop: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in request.GET.items() if value and name not in drop}


@requires("customers.view_customer", VIEW)
def events(request: HttpRequest, key: str) -> HttpResponse:
    """The panel alone where the customer's page asks for it; else a page of its own."""
    customer = find_customer(key)
    if request.headers.get("HX-Request"):
        return _panel(request, customer)
    return events_page(
        request,
        "events/page.html",
        trail=[
            ("Customers", link("customers_customer_changelist")),
            (customer.name, customer_link(customer.pk)),
            ("Events", ""),
        ],
        features=Feature.objects.filter(balances__customer=customer).distinct().order_by("name"),
        days=DAYS_OF_CUSTOMER,
        of={"customer": customer},
    )


# One event ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsedBucket:
    feature: str
    used: UsedOut
    kind: str
    ledger_url: str


@page("events/<str:public_id>/", name="usage_event", methods=("GET",))
@requires("customers.view_customer", VIEW)
def one_event(request: HttpRequest, public_id: str) -> HttpResponse:
    """An event as the API tells it, with links to the balances it used: a dialog, or a page of its own."""
    rows = rows_of(public_id)
    if not rows:
        raise Http404("There is no such event. Those of long ago are in the archive.")
    balances, first = balances_of(rows), rows[0]
    context = {
        "event": first,
        "rows": rows,
        "used": list(_used(rows, balances)),
        "json": EventDetailOut.of(rows, balances).model_dump_json(by_alias=True, indent=2),
        "customer_url": customer_link(first.customer_id),
        "events_url": link("customer_events", first.customer_id, q=first.public_id),
    }
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "events/event_dialog.html", context)
    trail = [
        ("Customers", link("customers_customer_changelist")),
        (first.customer.name, customer_link(first.customer_id)),
        ("Events", link("customer_events", first.customer_id)),
        (first.public_id, ""),
    ]
    return render_page(request, "events/event_page.html", trail=trail, **context)


def _used(rows: Iterable[UsageEvent], balances: dict[int, Balance]) -> Iterator[UsedBucket]:
    for row in rows:
        for pk, units in parts_of(row):
            if balance := balances.get(pk):
                yield UsedBucket(
                    row.feature.name,
                    used_of(balance, units),
                    Balance.Source(balance.source).label,
                    link("customer_ledger", row.customer_id, pk),
                )
