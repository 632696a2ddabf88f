"""Stripe's events for staff: the inbox, one event with what came of it, and the acts that process or fetch again."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from billing_admin import stripe_runs
from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.admin.stripe_collection import USE, WithKeys, in_dashboard, require_keys
from billing_admin.event_search import TooSlow, within
from billing_admin.flows import stripe_fetch
from billing_admin.flows.stripe_account import failing, reached
from billing_admin.flows.stripe_events import process_again
from billing_admin.pages import ActPage, dress, render_page
from billing_admin.stripe_webhook import hand_over
from customers.journal import Actor, record
from customers.models import Customer
from payments import inbox
from payments.events import ABOUT, CUSTOMER, INTENT, INVOICE, PRICE, PRODUCT, SUBSCRIPTION, named
from payments.gateway import Busy, StripeTrouble, Unreachable, in_a_hurry
from payments.models import StripeCustomer, StripeEvent, StripeEventQuerySet, StripeInvoice, StripeRefusal

VIEW = "payments.view_stripeevent"
State = StripeEvent.State
A_PAGE = 50
# Seconds that a search may take; customers whom its words may mean; failures that are counted.
PATIENCE, MOST_CUSTOMERS, COUNTED = 3, 50, 1_000
# A type, or how types begin.
TYPE = re.compile(r"[a-z_]+(\.[a-z_.]*)?")
LABELS = {
    State.WAITING: ("Waiting", "wait"),
    State.DONE: ("Done", "good"),
    State.IGNORED: ("Ignored", "off"),
    State.FAILED: ("Failed", "bad"),
}
# Where Stripe's dashboard shows a kind of object.
IN_DASHBOARD = {
    INVOICE: "invoices",
    INTENT: "payments",
    CUSTOMER: "customers",
    SUBSCRIPTION: "subscriptions",
    PRODUCT: "products",
    PRICE: "prices",
}


# The list -------------------------------------------------------------------------------------------------------------


class EventFilter(forms.Form):
    """What the list is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        max_length=120,
        label="Search",
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": "Event, object, type as it begins, or customer"}
        ),
    )
    type = forms.ChoiceField(
        required=False,
        choices=[("", "About anything"), *((name, name.replace("_", " ").replace(".", " ")) for name in sorted(ABOUT))],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "Type"}),
    )
    state = forms.ChoiceField(
        required=False,
        choices=[("", "Every state"), *State.choices],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "State"}),
    )

    def narrowed(self, rows: StripeEventQuerySet) -> StripeEventQuerySet:
        said = self.cleaned_data if self.is_valid() else {}
        if said.get("state"):
            rows = rows.filter(state=said["state"])
        if said.get("type"):
            rows = rows.filter(type__startswith=f"{said['type']}.")
        if words := said.get("q", "").strip():
            rows = rows.filter(_about(words))
        return rows


def _about(words: str) -> Q:
    """One id of Stripe's or ours, a customer, the number of an invoice, or how a type begins; each has an index."""
    found = Q(stripe_id=words) | Q(object_id=words) | Q(customer=words)
    customers = list(Customer.objects.matching(words).values_list("pk", flat=True)[:MOST_CUSTOMERS])
    if customers:
        known = StripeCustomer.objects.filter(customer__in=customers)
        found |= Q(customer__in=list(known.values_list("stripe_id", flat=True)))
    invoice = StripeInvoice.objects.filter(Q(invoice__number=words) | Q(invoice__public_id=words))
    if stripe_id := invoice.exclude(stripe_id=None).values_list("stripe_id", flat=True).first():
        found |= Q(object_id=stripe_id)
    return found | Q(type__startswith=words) if TYPE.fullmatch(words) else found


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event in a line."""

    id: int
    url: str
    stripe_id: str
    type: str
    object_id: str
    happened_at: datetime
    received_at: datetime
    fetched: bool
    state: tuple[str, str]
    outcome: str
    attempts: int
    next_attempt_at: datetime | None
    customer: str
    customer_url: str
    invoice: str
    invoice_url: str


def event_rows(events: Sequence[StripeEvent]) -> list[EventRow]:
    """With the customers and invoices of ours that they are about; two queries."""
    ids = {event.customer for event in events if event.customer}
    customers = StripeCustomer.objects.filter(stripe_id__in=ids, customer__isnull=False).select_related("customer")
    owners = {row.stripe_id: row.customer for row in customers} if ids else {}
    about = {event.pk: named(event.payload, INVOICE) for event in events}
    rows = StripeInvoice.objects.filter(stripe_id__in={id_ for id_ in about.values() if id_}).select_related("invoice")
    invoices = {row.stripe_id: row.invoice for row in rows}
    return [_row(event, owners.get(event.customer), invoices.get(about[event.pk])) for event in events]


def _row(event: StripeEvent, customer: Any, invoice: Any) -> EventRow:
    return EventRow(
        id=event.pk,
        url=link("payments_stripeevent_change", event.pk),
        stripe_id=event.stripe_id,
        type=event.type,
        object_id=event.object_id,
        happened_at=event.happened_at,
        received_at=event.received_at,
        fetched=event.was_fetched,
        state=LABELS[State(event.state)],
        outcome=event.outcome,
        attempts=event.attempts,
        next_attempt_at=event.next_attempt_at,
        customer=customer.name if customer else "",
        customer_url=customer_link(customer.pk) if customer else "",
        invoice=str(invoice) if invoice else "",
        invoice_url=invoice_link(invoice.pk) if invoice else "",
    )


@dataclass(frozen=True, slots=True)
class Found:
    rows: Sequence[EventRow] = ()
    older: int | None = None
    slow: bool = False


def find(form: EventFilter, before: str) -> Found:
    """By keys, never by offsets, in the time that a person waits."""
    try:
        with within(PATIENCE):
            events = list(_older_than(form.narrowed(StripeEvent.objects.all()), before)[: A_PAGE + 1])
    except TooSlow:
        return Found(slow=True)
    return Found(event_rows(events[:A_PAGE]), events[A_PAGE - 1].pk if len(events) > A_PAGE else None)


def _older_than(rows: StripeEventQuerySet, before: str) -> Any:
    last = StripeEvent.objects.filter(pk=int(before)).first() if before.isdecimal() and len(before) < 18 else None
    if last is not None:
        at = last.happened_at
        rows = rows.filter(happened_at__lte=at).exclude(happened_at=at, pk__gte=last.pk)
    return rows.order_by("-happened_at", "-id")


@requires(VIEW)
def event_list(request: HttpRequest) -> HttpResponse:
    require_keys()
    form = EventFilter(request.GET)
    dress(form)
    before = request.GET.get("before", "")
    found = find(form, before)
    asked = request.GET.copy()
    if found.older:
        asked["before"] = str(found.older)
    failed = StripeEvent.objects.filter(state=State.FAILED).order_by()[: COUNTED + 1].count()
    return render_page(
        request,
        "stripe/events.html",
        trail=[("Stripe events", "")],
        form=form,
        found=found,
        rows=found.rows,
        older=f"?{asked.urlencode()}" if found.older else "",
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        first=not before,
        refusals=list(_refusals(moment(request))),
        failed=_words(failed),
        may_use=allowed(request, USE),
    )


def _words(failed: int) -> str:
    if failed < 2:
        return "the failed one" if failed else ""
    return f"all {min(failed, COUNTED):,}{'+' if failed > COUNTED else ''} failed"


def _refusals(now: datetime) -> Iterable[tuple[StripeRefusal, str]]:
    for row in StripeRefusal.objects.filter(last_at__gte=now - inbox.REMEMBERED).order_by("kind"):
        yield row, f"{row.number:,} refused"


# One event ------------------------------------------------------------------------------------------------------------


def _event(pk: int) -> StripeEvent:
    found = StripeEvent.objects.filter(pk=pk).first()
    if found is None:
        raise Http404("There is no such event.")
    return found


@requires(VIEW)
def one_event(request: HttpRequest, pk: int) -> HttpResponse:
    require_keys()
    event = _event(pk)
    [row] = event_rows([event])
    thing = (event.payload.get("data") or {}).get("object") or {}
    shown = IN_DASHBOARD.get(str(thing.get("object")), "")
    return render_page(
        request,
        "stripe/event.html",
        trail=[("Stripe events", link("payments_stripeevent_changelist")), (event.type, "")],
        event=event,
        row=row,
        json=json.dumps(event.payload, indent=2, ensure_ascii=False),
        dashboard_url=in_dashboard(shown, event.object_id) if shown and event.object_id else "",
        may_use=allowed(request, USE),
    )


# Acts -----------------------------------------------------------------------------------------------------------------


@require_POST
@requires(USE)
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """Process one event anew while the person waits."""
    require_keys()
    event, now = _event(pk), moment(request)
    process_again(StripeEvent.objects.filter(pk=pk), now)
    with in_a_hurry():
        stripe_runs.events(now=now, only=[pk], asked_by=Actor.of(request.user).name).finish(now)
    event.refresh_from_db()
    _say(request, event)
    return HttpResponseRedirect(link("payments_stripeevent_change", pk))


def _say(request: HttpRequest, event: StripeEvent) -> None:
    if event.state == State.DONE:
        messages.success(request, f"Processed again. {event.outcome}")
    elif event.state == State.IGNORED:
        messages.info(request, f"Looked at again, and ignored. {event.outcome}")
    else:
        messages.warning(request, f"It could not be processed yet: {event.outcome or 'another worker is at it.'}")


@require_POST
@requires(USE)
def all_again(request: HttpRequest) -> HttpResponse:
    """Let everything that failed wait anew; a worker goes through it."""
    require_keys()
    now = moment(request)
    number = process_again(StripeEvent.objects.filter(state=State.FAILED), now)
    if number:
        record(
            None,
            "stripe_events.retried",
            f"Let {number:,} failed event{'s' if number > 1 else ''} of Stripe be processed again",
            actor=Actor.of(request.user),
            now=now,
            effects={"events": number},
        )
        hand_over()
        messages.success(request, f"{number:,} failed event{'s are' if number > 1 else ' is'} processed again.")
    else:
        messages.info(request, "Somebody was faster: nothing is left that failed.")
    return HttpResponseRedirect(link("payments_stripeevent_changelist"))


class FetchForm(forms.Form):
    """Instants in UTC."""

    since = forms.DateTimeField(label="From (UTC)")
    until = forms.DateTimeField(label="To (UTC)", help_text="Stripe lists the events of the last 30 days.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")


class FetchEvents(WithKeys, ActPage):
    """Ask Stripe for what it sent in vain, while the person waits."""

    permission = USE
    form_class = FetchForm
    title = "Fetch what we missed"
    submit = "Fetch events"
    outcome = "Events of these hours that are not here yet are kept and processed; the others stay as they are."

    def get_initial(self) -> dict[str, Any]:
        now = moment(self.request)
        # The field shows whole minutes; what happened in this one belongs to it.
        return {"since": stripe_fetch.first_choice(now), "until": now + timedelta(minutes=1)}

    def back(self) -> str:
        return link("payments_stripeevent_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Stripe events", self.back()), (self.title, "")]

    def act(self, form: FetchForm) -> str:
        now = moment(self.request)
        since, until = form.cleaned_data["since"], form.cleaned_data["until"]
        found = self.fetch(since, until, now)
        record(
            None,
            "stripe_events.fetched",
            f"Fetched events of Stripe: {found.listed:,} listed, {found.new:,} new",
            actor=Actor.of(self.request.user),
            now=now,
            inputs={"since": since, "until": until},
            effects={"listed": found.listed, "new": found.new},
        )
        hand_over()
        said = f"Stripe listed {found.listed:,} event{'' if found.listed == 1 else 's'}; {found.new:,} of them new."
        if found.left_before is None:
            messages.success(self.request, said)
        else:
            left = f"{found.left_before:%-d %b %Y, %H:%M} UTC"
            messages.warning(self.request, f"{said} There are more before {left}: fetch again up to then.")
        return self.back()

    def fetch(self, since: datetime, until: datetime, now: datetime) -> stripe_fetch.Fetched:
        try:
            with in_a_hurry():
                found = stripe_fetch.fetch(since, until, now)
        except stripe_fetch.BadRange as refused:
            raise ValidationError({refused.field: refused.messages}) from refused
        except StripeTrouble as error:
            if isinstance(error, Unreachable) and not isinstance(error, Busy):
                failing(error, now)
            raise ValidationError(f"Stripe: {error.sentence}", code="stripe_unreachable") from error
        reached(now)
        return found


@admin.register(StripeEvent)
class StripeEventAdmin(ModelAdmin):
    """Events are what Stripe said: read, processed again, never edited."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [
            path("", inside(event_list), name="payments_stripeevent_changelist"),
            path("fetch/", inside(FetchEvents.as_view()), name="stripe_fetch"),
            path("again/", inside(all_again), name="stripe_events_again"),
            path("<int:pk>/change/", inside(one_event), name="payments_stripeevent_change"),
            path("<int:pk>/again/", inside(again), name="stripe_event_again"),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: StripeEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: StripeEvent | None = None) -> bool:
        return False
