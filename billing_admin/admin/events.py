"""The Events panel: what the customer's application reported, newest first, found by feature or key."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import requires
from billing_admin.admin.acts import find_customer, moment
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.panels import Day, read_days
from billing_admin.pages import render_page
from catalog.models import Feature
from customers.models import Customer
from entitlements.models import UsageEvent

A_PAGE = 10


@dataclass(frozen=True, slots=True)
class EventPage:
    """One page of events: `older` is the id to go on from, if there are more."""

    words: str
    rows: Sequence[UsageEvent]
    older: int | None
    first: bool
    url: str

    @property
    def older_url(self) -> str:
        return f"{self.url}?q={self.words}&before={self.older}" if self.older else ""


def read_events(customer: Customer, *, words: str = "", before: int | None = None) -> EventPage:
    """By keys, never by offsets: the thousandth page costs as much as the first."""
    rows = UsageEvent.objects.filter(_among(words), customer=customer).select_related("feature")
    if before:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-id")[: A_PAGE + 1])
    more = found[A_PAGE - 1].pk if len(found) > A_PAGE else None
    return EventPage(words, found[:A_PAGE], more, before is None, link("customer_events", customer.pk))


def _among(words: str) -> Q:
    """Features by the start of their name or slug, or the one event with this key."""
    words = words.strip()
    if not words:
        return Q()
    features = Feature.objects.filter(Q(name__istartswith=words) | Q(slug__startswith=words.lower()))
    return Q(feature__in=list(features.values_list("pk", flat=True))) | Q(key=words)


@requires("customers.view_customer")
def events(request: HttpRequest, key: str) -> HttpResponse:
    """The panel alone where a script asked for it; else a page of its own."""
    customer = find_customer(key)
    words, before = request.GET.get("q", "").strip(), request.GET.get("before", "")
    page = read_events(customer, words=words, before=int(before) if before.isdigit() else None)
    context = {"customer": customer, "events": page, "days": chart(customer, request, words)}
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "panels/events.html", context)
    trail = [
        ("Customers", link("customers_customer_changelist")),
        (customer.name, customer_link(customer.pk)),
        ("Events", ""),
    ]
    return render_page(request, "customers/events.html", trail=trail, **context)


def chart(customer: Customer, request: HttpRequest, words: str) -> Sequence[Day]:
    return read_days(customer, now=moment(request), among=_among(words))[1]
