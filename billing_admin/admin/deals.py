"""Deals: the list, the page of one with its calendar, its order form as a page and as a PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin import deal_acts as acts
from billing_admin.admin.acts import find_customer, moment
from billing_admin.admin.deal_acts import deal_link, find_deal
from billing_admin.admin.deal_builder import edit_deal, preview_deal
from billing_admin.admin.deal_start import StartDeal, suggest_customers
from billing_admin.admin.facts import DEALS_SHOWN, DealFact
from billing_admin.admin.invoices import invoice_row
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.operations import OperationRow, operation_row
from billing_admin.deal_rights import ADD, CHANGE, EXECUTE, NOTE, SEND, VIEW
from billing_admin.deal_rows import (
    calendar_rows,
    chart_of,
    deal_state,
    frame_entries,
    given_entries,
    percent,
    since,
    stage_rows,
    version_rows,
    worth_of,
)
from billing_admin.flows.deal_past import DealAt, deal_at
from billing_admin.flows.deal_reading import OVER, calendar_for, goes_on, read_order_form
from billing_admin.flows.deal_taken_back import Part, parts_of, taken_back_words
from billing_admin.flows.deals import has_moved
from billing_admin.models import ApprovalRequest
from billing_admin.pages import dress, render_page
from catalog.models import Feature
from catalog.money import format_minor
from customers.models import Customer, Operation
from customers.states import SubscriptionState
from deals.models import Deal, DealVersion
from deals.states import DealState
from deals.terms import DealTerms, differences, said
from invoicing.models import Invoice

A_PAGE = 50
HISTORY = 20
A_DAY = timedelta(days=1)
OPEN, TEMPLATES = "open", "template"
SHOWN = {
    "": "Every state",
    OPEN: "Open",
    **dict(DealState.choices),
    TEMPLATES: "Templates",
}
ONE_INVOICE_LIST = 12  # newest documents of the contract that a deal became


# The list -------------------------------------------------------------------------------------------------------------


class DealFilter(forms.Form):
    """What the list is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Deal or customer, as it begins"}),
    )
    state = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "State"})
    )
    owner = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "Owner"}))
    customer = forms.CharField(required=False, max_length=120, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        owners = Deal.objects.order_by("owner").values_list("owner", flat=True).distinct()
        self.fields["owner"].choices = [("", "Every owner"), *((owner, owner) for owner in owners)]  # type: ignore[attr-defined]

    @property
    def said(self) -> dict[str, Any]:
        return self.cleaned_data if self.is_valid() else {}

    def narrowed(self) -> QuerySet[Deal]:
        said = self.said
        rows: QuerySet[Deal] = Deal.objects.all()
        if words := said.get("q", "").strip():
            customers = Customer.objects.matching(words).order_by().values("pk")
            rows = rows.filter(Q(name__istartswith=words) | Q(public_id=words) | Q(customer__in=customers))
        if said.get("customer"):
            rows = rows.filter(customer=find_customer(said["customer"]))
        if said.get("owner"):
            rows = rows.filter(owner=said["owner"])
        state = said.get("state", "")
        if state == OPEN:
            return rows.filter(pk__in=Deal.objects.open())
        if state == TEMPLATES:
            return rows.filter(is_template=True)
        return rows.filter(state=state, is_template=False) if state else rows


@dataclass(frozen=True, slots=True)
class DealRow:
    """One deal in a list. Money is empty until it was reckoned."""

    name: str
    url: str
    plan: str
    customer: str
    customer_url: str
    is_template: bool
    amends: bool
    state: tuple[str, str]
    since: datetime
    value: str
    monthly: str
    discount: str
    term: str
    starts_at: datetime | None
    owner: str


def with_newest(rows: QuerySet[Deal]) -> QuerySet[Deal]:
    """Each with what its newest version says of sums, term and start."""
    newest = DealVersion.objects.filter(deal=OuterRef("pk")).order_by("-number")
    return rows.annotate(
        figures=Subquery(newest.values("figures")[:1]),
        months=Subquery(newest.values("content__term_months")[:1]),
        starts=Subquery(newest.values("content__starts_at")[:1]),
    )


def deal_row(deal: Any) -> DealRow:
    """Reads what `with_newest` has annotated, the customer and the plan, joined."""
    figures = deal.figures or {}
    currency = figures.get("currency", "")
    return DealRow(
        name=deal.name,
        url=deal_link(deal),
        plan=deal.base_version.plan.title,
        customer=deal.customer.name if deal.customer else "",
        customer_url=customer_link(deal.customer.pk) if deal.customer else "",
        is_template=deal.is_template,
        amends=deal.amends_id is not None,
        state=deal_state(deal),
        since=since(deal),
        value=format_minor(figures["value"], currency) if figures else "",
        monthly=format_minor(figures["monthly"], currency) if figures else "",
        discount=percent(Decimal(figures["discount"])) if figures.get("discount") else "",
        term=said("term_months", deal.months),
        starts_at=datetime.fromisoformat(deal.starts) if deal.starts else None,
        owner=deal.owner,
    )


@requires(VIEW)
def deal_list(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys instead of pages that have to be counted."""
    # The dialog that begins a deal has a field of the same name.
    form = DealFilter(request.GET, auto_id="filter_%s")
    dress(form)
    rows, before = form.narrowed(), request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    joined = with_newest(rows).select_related("customer", "base_version__plan__product")
    found = list(joined.order_by("-id")[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    of = form.said.get("customer", "")
    return render_page(
        request,
        "deals/list.html",
        trail=[("Deals", "")],
        form=form,
        rows=[deal_row(deal) for deal in found[:A_PAGE]],
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        first=not before,
        of_customer=find_customer(of).name if of else "",
        new_url=link("deals_deal_add") if allowed(request, ADD) else "",
    )


@dataclass(frozen=True, slots=True)
class PanelRow:
    name: str
    url: str
    state: tuple[str, str]
    since: datetime
    value: str
    term: str


@dataclass(frozen=True, slots=True)
class Panel:
    """The deals of one customer that are open or were carried out, newest first."""

    rows: tuple[PanelRow, ...]
    new_url: str
    all_url: str


def panel(request: HttpRequest, customer: Customer, facts: Sequence[DealFact]) -> Panel | None:
    """For the customer's page; nothing for whoever may not see deals."""
    if not allowed(request, VIEW):
        return None
    may_begin = allowed(request, ADD) and customer.closed_at is None
    rows = (
        PanelRow(
            name=fact.name,
            url=link("deals_deal_change", fact.public_id),
            state=(fact.state, str(DealState(fact.state).label)),
            since=fact.since,
            value=fact.value,
            term=said("term_months", fact.months),
        )
        for fact in facts[:DEALS_SHOWN]
    )
    return Panel(
        rows=tuple(rows),
        new_url=link("deals_deal_add", customer=customer.customer_id) if may_begin else "",
        all_url=link("deals_deal_changelist", customer=customer.public_id) if len(facts) > DEALS_SHOWN else "",
    )


# The page -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Button:
    label: str
    url: str
    primary: bool = False
    dialog: bool = True


@requires(VIEW)
def deal_page(request: HttpRequest, key: str) -> HttpResponse:
    """One deal: what it is worth, every invoice of its term, what is bought, its versions, and the next step."""
    deal, now = find_deal(key), moment(request)
    versions = read_versions(deal)
    at, asked = _asked(request)
    past = deal_at(deal, at) if at else None
    version, terms = _shown(versions, past, request.GET.get("version", ""))
    calendar = calendar_for(deal, terms, now=now)
    parts = parts_of(deal)
    is_now = version == versions[0][0] and at is None
    names = dict(Feature.objects.filter(slug__in=[o.feature for o in terms.overrides]).values_list("slug", "name"))
    url = deal_link(deal)
    return render_page(
        request,
        "deals/page.html",
        trail=[("Deals", link("deals_deal_changelist")), (deal.name, "")],
        deal=deal,
        version=version,
        newest=versions[0][0],
        is_now=is_now,
        as_of=at,
        asked=asked,
        state=(past.state, past.state_label or "Not begun") if past else deal_state(deal),
        undone=taken_back_words(parts) if is_now else "",
        parts=part_rows(parts) if is_now else [],
        moved=is_now and deal.state not in OVER and not deal.is_template and has_moved(deal, terms),
        goes_on=goes_on(deal),
        contract=contract_words(deal) if is_now else "",
        changed=differences(versions[-1][1], terms) if deal.amends_id else (),
        known=past.phases if past else (),
        worth=worth_of(terms, calendar),
        years=calendar_rows(calendar),
        chart=chart_of(calendar),
        frame=frame_entries(terms),
        stages=stage_rows(terms, calendar.term),
        given=given_entries(terms, names),
        terms=terms,
        versions=version_rows(deal, versions, shown=version.number, url=url),
        url=url,
        customer_url=customer_link(deal.customer.pk) if deal.customer else "",
        buttons=buttons(request, deal) if is_now else [],
        menu=menu(request, deal) if is_now else [],
        approval=approval_of(deal),
        approval_url=link("approval", deal.approval) if deal.approval else "",
        is_over=bool(deal.expires_at and deal.expires_at <= now and deal.state not in OVER),
        notes=list(deal.notes.all()),
        note_url=link("deal_note", deal.public_id) if allowed(request, NOTE) else "",
        form_url=link("deal_form", deal.public_id, version="" if is_now else version.number),
        pdf_url=link("deal_pdf", deal.public_id, version="" if is_now else version.number),
        operations=history_of(deal) if allowed(request, "customers.view_operation") else None,
        invoices=invoices_of(deal, now) if allowed(request, "invoicing.view_invoice") else [],
        others=related(deal),
    )


def read_versions(deal: Deal) -> list[tuple[DealVersion, DealTerms]]:
    """Newest first, read with the features as they are called now; two queries."""
    rows = list(deal.versions.order_by("-number"))
    slugs = {
        item["feature"]["slug"]
        for row in rows
        for phase in row.content["phases"]
        for item in phase["items"]
        if "feature" in item
    }
    features = {feature.slug: feature.terms() for feature in Feature.objects.filter(slug__in=slugs)}
    return [(row, DealTerms.from_json(row.content, features)) for row in rows]


def _asked(request: HttpRequest) -> tuple[datetime | None, str]:
    """The end of the day that somebody wants to see it as of, and the day as it was typed."""
    typed = request.GET.get("at", "")
    day = forms.DateField(required=False).clean(typed) if typed else None
    return (datetime.combine(day, time(), UTC) + A_DAY if day else None), typed


def _shown(
    versions: Sequence[tuple[DealVersion, DealTerms]], past: DealAt | None, number: str
) -> tuple[DealVersion, DealTerms]:
    """The version of this number, or of an instant (before all of them: the first), or the newest."""
    wanted = number or (str(past.version.number if past.version else versions[-1][0].number) if past else "")
    if not wanted:
        return versions[0]
    found = next((pair for pair in versions if str(pair[0].number) == wanted), None)
    if found is None:
        raise Http404("There is no such version of this deal.")
    return found


def buttons(request: HttpRequest, deal: Deal) -> list[Button]:
    """The next step first; then what else is usual."""
    step = next_step(request, deal)
    found = [step] if step else []
    if deal.state not in OVER and allowed(request, CHANGE):
        found.append(Button("Change", link("deal_edit", deal.public_id), dialog=False))
    return found


def next_step(request: HttpRequest, deal: Deal) -> Button | None:
    if deal.is_template:
        url = link("deals_deal_add", **{"from": deal.public_id})
        return Button("New deal from this", url, primary=True) if allowed(request, ADD) else None
    steps = {
        DealState.DRAFT: ("Submit for approval", "deal_submit", CHANGE),
        DealState.APPROVED: ("Send", "deal_send", SEND),
        DealState.SENT: ("Record acceptance", "deal_accept", SEND),
        DealState.ACCEPTED: ("Execute", "deal_execute", EXECUTE),
    }
    label, name, permission = steps.get(DealState(deal.state), ("", "", ""))
    if label and allowed(request, permission):
        return Button(label, link(name, deal.public_id), primary=True)
    if deal.state == DealState.AWAITING_APPROVAL and deal.approval:
        return Button("Open the request", link("approval", deal.approval), primary=True, dialog=False)
    return None


def menu(request: HttpRequest, deal: Deal) -> list[Button]:
    found = []
    own = deal.public_id
    if deal.state == DealState.APPROVED and allowed(request, SEND):
        found.append(Button("Record acceptance", link("deal_accept", own)))
    if deal.state == DealState.SENT and allowed(request, SEND):
        found.append(Button("Send again", link("deal_send", own)))
    if deal.state == DealState.EXECUTED and allowed(request, ADD):
        found.append(Button("Amend", link("deal_amend", own)))
    if allowed(request, ADD):
        if not deal.is_template:
            found.append(Button("New deal like this", link("deals_deal_add", **{"from": own})))
        found.append(Button("Copy as a template", link("deal_template", own)))
    if deal.state not in OVER and allowed(request, CHANGE):
        found.append(Button("Give up", link("deal_void", own)))
    return found


@dataclass(frozen=True, slots=True)
class PartRow:
    """One act that the deal is made of, with the line of the journal that took it back."""

    summary: str
    url: str
    undone_by: str
    undone_at: datetime | None
    undone_url: str


def part_rows(parts: Sequence[Part]) -> list[PartRow]:
    return [
        PartRow(
            summary=part.act.summary,
            url=link("customers_operation_changelist", q=part.act.public_id),
            undone_by=by.actor if by else "",
            undone_at=by.at if by else None,
            undone_url=link("customers_operation_changelist", q=by.public_id) if by else "",
        )
        for part in parts
        for by in [part.taken_back_by]
    ]


def contract_words(deal: Deal) -> str:
    """What became of the contract, where it is not simply in force; reads the joined subscription."""
    contract = deal.subscription
    if deal.state != DealState.EXECUTED or contract is None:
        return ""
    day = f"{contract.started_at:%-d %b %Y}"
    match contract.state:
        case SubscriptionState.SCHEDULED if contract.waits_for_payment:
            return f"It begins on {day}: its first invoice is issued then, and access begins once that is paid."
        case SubscriptionState.SCHEDULED:
            return f"It begins on {day}, and gives access from that day on."
        case SubscriptionState.PENDING_PAYMENT:
            return "Access waits until its first invoice is paid."
        case SubscriptionState.ENDED if contract.end_reason == "payment_expired":
            return "Its first invoice was not paid within its window, so the contract ended without having begun."
        case SubscriptionState.ENDED:
            return f"The contract ended on {contract.ended_at:%-d %b %Y}."
        case SubscriptionState.WITHDRAWN:
            return "The contract was withdrawn before it began."
    return ""


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """Who was asked and what they said, newest first."""

    state: tuple[str, str]
    why: str
    asked_by: str
    asked_at: datetime
    reason: str
    decided_by: str
    decided_at: datetime | None
    answer: str
    url: str


def approval_of(deal: Deal) -> list[ApprovalRow]:
    rows = ApprovalRequest.objects.filter(
        act="deal.approved", customer=deal.customer_id, inputs__deal=deal.public_id
    ).order_by("-id")
    tones = {"waiting": "draft", "applied": "active", "refused": "failed"}
    return [
        ApprovalRow(
            state=(tones.get(row.state, "ended"), str(row.get_state_display())),
            why=row.why,
            asked_by=row.requested_by,
            asked_at=row.requested_at,
            reason=row.reason,
            decided_by=row.decided_by,
            decided_at=row.decided_at,
            answer=row.answer,
            url=link("approval", row.public_id),
        )
        for row in rows
    ]


def operations_of(deal: Deal) -> QuerySet[Operation]:
    """Every line of the journal about the deal, newest first."""
    rows: QuerySet[Operation] = Operation.objects.filter(customer=deal.customer_id, inputs__deal=deal.public_id)
    return rows.order_by("-id")


def history_of(deal: Deal) -> list[OperationRow]:
    return [operation_row(row, "") for row in operations_of(deal)[:HISTORY]]


def invoices_of(deal: Deal, now: datetime) -> list[Any]:
    """The documents of the contract since it was carried out, newest first."""
    if deal.subscription_id is None or deal.executed_at is None:
        return []
    since_then = Q(issued_at=None) | Q(issued_at__gte=deal.executed_at)
    rows = Invoice.objects.filter(since_then, subscription=deal.subscription_id)
    return [invoice_row(invoice, now) for invoice in rows.newest()[:ONE_INVOICE_LIST]]


def related(deal: Deal) -> list[tuple[str, str, str]]:
    """How, name and address of what it came from and what came of it."""
    found = []
    if deal.made_from and not deal.amends_id:
        found.append(("Made from", deal.made_from.name, deal_link(deal.made_from)))
    if deal.amends:
        found.append(("Amends", deal.amends.name, deal_link(deal.amends)))
    found += [("Amended by", other.name, deal_link(other)) for other in deal.amendments.all()]
    return found


# The order form -------------------------------------------------------------------------------------------------------


def _version(deal: Deal, request: HttpRequest) -> DealVersion | None:
    number = request.GET.get("version", "")
    if not number:
        return None
    found: DealVersion | None = deal.versions.filter(number=number).first() if number.isdecimal() else None
    if found is None:
        raise Http404("There is no such version of this deal.")
    return found


@requires(VIEW)
def order_form_page(request: HttpRequest, key: str) -> HttpResponse:
    deal = find_deal(key)
    version = _version(deal, request)
    return render_page(
        request,
        "deals/order_form.html",
        trail=[("Deals", link("deals_deal_changelist")), (deal.name, deal_link(deal)), ("Order form", "")],
        paper=read_order_form(deal, version, now=moment(request)),
        pdf_url=link("deal_pdf", deal.public_id, version=version.number if version else ""),
        back=deal_link(deal),
    )


@requires(VIEW)
def order_form_pdf(request: HttpRequest, key: str) -> HttpResponse:
    from deals.order_form_pdf import print_order_form  # its library takes memory that few web processes need

    deal = find_deal(key)
    form = read_order_form(deal, _version(deal, request), now=moment(request))
    printed = HttpResponse(print_order_form(form), content_type="application/pdf")
    printed["Content-Disposition"] = f'inline; filename="{form.file_name}"'
    return printed


@admin.register(Deal)
class DealAdmin(ModelAdmin):
    """The frame around our own pages. `key` in an address is our id or a number."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        below = [
            ("edit/", edit_deal, "deal_edit"),
            ("edit/preview/", preview_deal, "deal_edit_preview"),
            ("submit/", acts.SubmitDeal.as_view(), "deal_submit"),
            ("send/", acts.SendDeal.as_view(), "deal_send"),
            ("accept/", acts.AcceptDeal.as_view(), "deal_accept"),
            ("execute/", acts.ExecuteDeal.as_view(), "deal_execute"),
            ("void/", acts.VoidDeal.as_view(), "deal_void"),
            ("note/", acts.AddDealNote.as_view(), "deal_note"),
            ("template/", acts.KeepAsTemplate.as_view(), "deal_template"),
            ("amend/", acts.AmendDeal.as_view(), "deal_amend"),
            ("order-form/", order_form_page, "deal_form"),
            ("order-form.pdf", order_form_pdf, "deal_pdf"),
        ]
        return [
            path("", inside(deal_list), name="deals_deal_changelist"),
            path("add/", inside(StartDeal.as_view()), name="deals_deal_add"),
            path("customers/", inside(suggest_customers), name="deal_customers"),
            path("<str:key>/change/", inside(deal_page), name="deals_deal_change"),
            *(path(f"<str:key>/{tail}", inside(view), name=name) for tail, view, name in below),
        ]
