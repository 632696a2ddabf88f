"""Stripe's customers and whose they are here: the list, linking by hand and by a file, taking a link back."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.invoice_acts import ReasonForm
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.stripe_collection import WithKeys, in_dashboard, require_keys
from billing_admin.csv_file import LARGEST, CsvField
from billing_admin.flows.stripe_links import (
    COLUMNS,
    MOST_ROWS,
    FileRow,
    LinkRefused,
    key_name,
    link_file,
    read_file,
    suggestions,
    what_hangs_on,
    why_not,
)
from billing_admin.flows.stripe_links import link as link_customers
from billing_admin.flows.stripe_links import unlink as unlink_customers
from billing_admin.flows.stripe_mirror import fetch_subscriptions
from billing_admin.pages import ActPage, add_refusal, dress, render_page
from billing_admin.site import page
from customers.journal import Actor
from customers.models import Customer
from payments.gateway import StripeTrouble, in_a_hurry
from payments.models import StripeCustomer

USE = "payments.use_stripe"
VIEW = "payments.view_stripecustomer"
A_PAGE = 50
FOUND = 8
ROWS_SHOWN = 200
SHOWN = {
    "": "Everybody",
    "linked": "Linked",
    "unlinked": "Not linked",
    "conflict": "With a conflict",
    "deleted": "Deleted in Stripe",
}


# The list -------------------------------------------------------------------------------------------------------------


class CustomersFilter(forms.Form):
    """What the list is narrowed to; lives in the URL."""

    q = forms.CharField(
        required=False,
        label="Search",
        max_length=200,
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Id, name or e-mail, as it begins"}),
    )
    shown = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "Which"})
    )

    def narrowed(self) -> QuerySet[StripeCustomer]:
        said = self.cleaned_data if self.is_valid() else {}
        rows = StripeCustomer.objects.select_related("customer")
        if words := said.get("q", "").strip():
            theirs = Q(stripe_id__startswith=words) | Q(name__istartswith=words) | Q(email__istartswith=words)
            ours = Q(customer__in=Customer.objects.matching(words).order_by().values("pk"))
            rows = rows.filter(theirs | ours)
        match said.get("shown", ""):
            case "linked":
                return rows.filter(customer__isnull=False, deleted_at=None)
            case "unlinked":
                return rows.filter(customer=None, deleted_at=None)
            case "conflict":
                return rows.filter(deleted_at=None).exclude(conflict="")
            case "deleted":
                return rows.exclude(deleted_at=None)
        return rows


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """One of Stripe's customers; `suggested` has the same e-mail as exactly one of ours, which is no proof."""

    row: StripeCustomer
    state: tuple[str, str]
    url: str
    dashboard_url: str
    link_url: str = ""
    unlink_url: str = ""
    suggested: Customer | None = None
    suggested_url: str = ""


def read_rows(rows: Sequence[StripeCustomer], request: HttpRequest) -> list[CustomerRow]:
    """With suggestions for those that nobody is, in one query more."""
    found = suggestions(rows)
    may = allowed(request, USE)
    return [_row(row, found.get(row.pk), may) for row in rows]


def _row(row: StripeCustomer, suggested: Customer | None, may: bool) -> CustomerRow:
    can_link = may and row.customer_id is None and row.deleted_at is None
    return CustomerRow(
        row=row,
        state=_state(row),
        url=customer_link(row.customer_id) if row.customer_id else "",
        dashboard_url=in_dashboard("customers", row.stripe_id),
        link_url=link("stripe_link", row.pk) if can_link else "",
        unlink_url=link("stripe_unlink", row.pk) if may and row.customer_id else "",
        suggested=suggested,
        suggested_url=link("stripe_link", row.pk, customer=suggested.pk) if suggested and can_link else "",
    )


def _state(row: StripeCustomer) -> tuple[str, str]:
    if row.deleted_at is not None:
        return "off", "Deleted in Stripe"
    if row.customer_id is not None:
        return "active", "Linked"
    return ("failed", "Conflict") if row.conflict else ("draft", "Not linked")


@requires(VIEW)
def customer_list(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys."""
    require_keys()
    form = CustomersFilter(request.GET)
    dress(form)
    rows, before = form.narrowed().order_by("-id"), request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    return render_page(
        request,
        "stripe/customers.html",
        trail=[("Stripe customers", "")],
        form=form,
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        rows=read_rows(found[:A_PAGE], request),
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        first=not before,
        file_url=link("stripe_link_file") if allowed(request, USE) else "",
        mirror_url=link("stripe_mirror") if allowed(request, "payments.view_striperun") else "",
        key_name=key_name(),
    )


# By hand --------------------------------------------------------------------------------------------------------------


class TakeOverForm(forms.Form):
    takes_over = forms.BooleanField(label="Take over Stripe's name and e-mail here", required=False)


@dataclass(frozen=True, slots=True)
class Side:
    """One line of the comparison: what Stripe has beside what we have, and whether the two should be the same."""

    what: str
    theirs: str
    ours: str
    is_told: bool = True

    @property
    def differs(self) -> bool:
        return self.is_told and self.theirs != self.ours


class LinkCustomer(WithKeys, ActPage):
    """First whom, then both side by side, then the button."""

    permission = USE
    form_class = TakeOverForm
    act_template = "stripe/link.html"
    page_template = "stripe/link_page.html"

    @cached_property
    def row(self) -> StripeCustomer:
        return find_row(self.kwargs["pk"])

    @cached_property
    def chosen(self) -> Customer | None:
        key = self.request.GET.get("customer", "")
        return Customer.objects.filter(pk=int(key)).first() if key.isdecimal() and len(key) < 18 else None

    def get_title(self) -> str:
        return f"Link {self.row.name or self.row.stripe_id} with {self.chosen.name if self.chosen else '…'}"

    def back(self) -> str:
        return link("stripe_customers")

    def trail(self) -> list[tuple[str, str]]:
        return [("Stripe customers", self.back()), (self.get_title(), "")]

    def get_submit(self) -> str:
        return f"Link with {self.chosen.name}" if self.chosen else "Link"

    def extra(self) -> dict[str, Any]:
        words = self.request.GET.get("q", "").strip()
        return {
            "row": self.row,
            "chosen": self.chosen,
            "why_not": why_not(self.row, self.chosen) if self.chosen else "",
            "sides": sides_of(self.row, self.chosen) if self.chosen else [],
            "words": words,
            "found": [] if self.chosen else self._found(words),
            "search_url": link("stripe_link", self.row.pk),
        }

    def _found(self, words: str) -> list[tuple[Customer, str]]:
        """Who begins like that; without words, who has the same e-mail or name."""
        alike = Q(email__iexact=self.row.email) if self.row.email else Q(pk=None)
        alike |= Q(name__iexact=self.row.name) if self.row.name else Q(pk=None)
        rows = Customer.objects.open().filter(stripe=None)
        rows = (
            rows.filter(pk__in=Customer.objects.matching(words).order_by().values("pk"))
            if words
            else rows.filter(alike)
        )
        return [(who, link("stripe_link", self.row.pk, customer=who.pk)) for who in rows.order_by("name", "pk")[:FOUND]]

    def act(self, form: TakeOverForm) -> str:
        if self.chosen is None:
            raise LinkRefused("Choose the customer first.")
        now = moment(self.request)
        try:
            with in_a_hurry():
                fetch_subscriptions(self.row.stripe_id, now)
        except StripeTrouble as error:
            raise LinkRefused(f"{error.sentence} Nothing was linked; try again.") from None
        takes_over, actor = form.cleaned_data["takes_over"], Actor.of(self.request.user)
        link_customers(self.row, self.chosen, takes_over=takes_over, actor=actor, now=now)
        messages.success(self.request, f"{self.row.stripe_id} is {self.chosen.name}.")
        return customer_link(self.chosen.pk)


def sides_of(row: StripeCustomer, customer: Customer) -> list[Side]:
    return [
        Side("Name", row.name, customer.name),
        Side("E-mail", row.email, customer.email),
        Side("Customer id", row.key, customer.customer_id),
        Side("Since", _day(row.created_at), _day(customer.created_at), is_told=False),
    ]


def _day(at: datetime | None) -> str:
    return f"{at:%-d %b %Y}" if at else ""


class UnlinkCustomer(WithKeys, ActPage):
    permission = USE
    form_class = ReasonForm
    danger = True

    @cached_property
    def row(self) -> StripeCustomer:
        return find_row(self.kwargs["pk"])

    def get_title(self) -> str:
        return f"Take back the link of {self.row.customer or self.row.stripe_id}"

    def get_submit(self) -> str:
        return "Take back the link"

    def get_outcome(self) -> str:
        hangs = what_hangs_on(self.row)
        return f"It cannot be taken back. {hangs}" if hangs else f"{self.row.stripe_id} is nobody here any more."

    def back(self) -> str:
        return link("stripe_customers")

    def trail(self) -> list[tuple[str, str]]:
        return [("Stripe customers", self.back()), (self.get_title(), "")]

    def act(self, form: ReasonForm) -> str:
        now = moment(self.request)
        unlink_customers(self.row, reason=form.cleaned_data["reason"], actor=Actor.of(self.request.user), now=now)
        messages.success(self.request, f"{self.row.stripe_id} is no longer linked.")
        return self.back()


def find_row(pk: int) -> StripeCustomer:
    found = StripeCustomer.objects.select_related("customer").filter(pk=pk).first()
    if found is None:
        raise Http404("There is no such customer in Stripe.")
    return found


# By a file ------------------------------------------------------------------------------------------------------------


class FileForm(forms.Form):
    """Rows as CSV: pasted, or a file."""

    rows = forms.CharField(
        label="Rows",
        required=False,
        strip=False,
        max_length=LARGEST,
        widget=forms.Textarea(
            attrs={"rows": 8, "spellcheck": "false", "placeholder": "stripe_id,customer_id\ncus_NffrFeUfNV2Hib,acme"}
        ),
    )
    file = CsvField()

    @property
    def text(self) -> str:
        return str(self.cleaned_data["file"] or self.cleaned_data["rows"])


@requires(USE)
def link_by_file(request: HttpRequest) -> HttpResponse:
    """Ask, try, link: the last step is refused when a line would do something else than what was looked at."""
    require_keys()
    if request.POST.get("step") == "link":
        return _carry_out(request)
    form = FileForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            return _tried(request, form.text)
        except LinkRefused as refused:
            add_refusal(form, refused)
    dress(form)
    return _file_page(request, "stripe/link_file.html", form=form, columns=",".join(COLUMNS), most=MOST_ROWS)


def _tried(request: HttpRequest, text: str, *, moved: bool = False) -> HttpResponse:
    rows = read_file(text)
    good, bad = [row for row in rows if row.links], [row for row in rows if not row.links]
    return _file_page(
        request,
        "stripe/link_tried.html",
        good=good[:ROWS_SHOWN],
        bad=bad[:ROWS_SHOWN],
        number=len(good),
        left_out=len(bad),
        text=text,
        seen=digest(rows),
        moved=moved,
        back_url=link("stripe_link_file"),
    )


def digest(rows: Iterable[FileRow]) -> str:
    """Changes when a line would do something else than what was looked at."""
    seen = [(row.line, row.stripe_id, row.customer_id, row.why_not) for row in rows]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def _carry_out(request: HttpRequest) -> HttpResponse:
    text = request.POST.get("rows", "")
    try:
        if digest(read_file(text)) != request.POST.get("seen", ""):
            return _tried(request, text, moved=True)
        operation = link_file(text, actor=Actor.of(request.user), now=moment(request))
    except LinkRefused as refused:
        messages.error(request, refused.messages[0])
        return HttpResponseRedirect(link("stripe_link_file"))
    messages.success(request, f"{operation.summary}.")
    return HttpResponseRedirect(link("stripe_customers", shown="linked"))


def _file_page(request: HttpRequest, template: str, **context: Mapping[str, Any] | Any) -> HttpResponse:
    trail = [("Stripe customers", link("stripe_customers")), ("Link by a file", "")]
    return render_page(request, template, trail=trail, **context)


page("stripe/customers/", name="stripe_customers", methods=("GET",))(customer_list)
page("stripe/customers/file/", name="stripe_link_file")(link_by_file)
page("stripe/customers/<int:pk>/link/", name="stripe_link")(LinkCustomer.as_view())
page("stripe/customers/<int:pk>/unlink/", name="stripe_unlink")(UnlinkCustomer.as_view())
