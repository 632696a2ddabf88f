"""The deal builder: phases with their items, what comes beside them, and what it all comes to while somebody types.

GET shows what the newest version says. POST looks (`act=look`, or the fragment that the page asks for) or saves
(`act=save`) another version; a button named `do` only rearranges what was typed.
"""

from datetime import UTC, datetime, time, timedelta

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.functional import cached_property

from billing_admin.access import require, requires
from billing_admin.admin.acts import moment
from billing_admin.admin.deal_acts import deal_link, find_deal
from billing_admin.admin.links import customer_link, link
from billing_admin.deal_form import DealForm
from billing_admin.deal_rights import CHANGE, rights_for
from billing_admin.deal_rows import Worth, worth_of
from billing_admin.flows.deal_reading import calendar_for
from billing_admin.flows.deals import InvalidPhase, newest, read_terms, rename, save_version
from billing_admin.pages import dress, render_page
from catalog.models import Feature, PlanVersion
from customers.journal import Actor
from deals.states import DealState
from deals.terms import DealTerms, InvalidDeal, Problem

MARKED = "Something cannot stay as it was typed; it is marked at its place."
A_DAY = timedelta(days=1)
FRAME = ("net_terms_days", "activation", "trial_days", "expires_on")
SHOWN = (DealState.SENT, DealState.ACCEPTED, DealState.APPROVED, DealState.AWAITING_APPROVAL)


class BuilderPage:
    """One visit: the deal, what was typed, and what it comes to."""

    def __init__(self, request: HttpRequest, key: str):
        self.request, self.now = request, moment(request)
        self.deal = find_deal(key)
        self.customer, self.plan = self.deal.customer, self.deal.base_version.plan
        self.before = newest(self.deal)
        self.typed = request.POST if request.method == "POST" else None
        self.problem = self.message_error = ""
        self.worth: Worth | None = None

    # What the template asks

    @property
    def name(self) -> str:
        return self.deal.name

    @property
    def title(self) -> str:
        return f"Change {self.deal.name}"

    @cached_property
    def version(self) -> PlanVersion:
        found: PlanVersion = PlanVersion.objects.with_items().get(pk=self.deal.base_version_id)
        return found

    @property
    def url(self) -> str:
        return link("deal_edit", self.deal.public_id)

    @property
    def preview_url(self) -> str:
        return link("deal_edit_preview", self.deal.public_id)

    @property
    def customer_url(self) -> str:
        return customer_link(self.customer.pk) if self.customer else ""

    @property
    def back(self) -> str:
        return deal_link(self.deal)

    @property
    def warning(self) -> str:
        """What a change takes back."""
        if self.deal.state not in SHOWN:
            return ""
        state = self.deal.get_state_display().lower()
        return f"This deal is {state}. A change makes it a draft again, and it has to be approved anew."

    @property
    def asks_message(self) -> bool:
        return self.before.number > 1 or self.deal.state != DealState.DRAFT

    @property
    def needs_message(self) -> bool:
        """Whoever was shown the version before wants to know what is different."""
        return self.deal.state in SHOWN

    @property
    def message(self) -> str:
        return self.typed.get("message", "").strip() if self.typed else ""

    @property
    def outcome(self) -> str:
        return (
            f"Version {self.before.number + 1} says what stands above; version {self.before.number} stays to be read."
        )

    @property
    def submit(self) -> str:
        return f"Save version {self.before.number + 1}"

    @property
    def frame_open(self) -> bool:
        return self.form.head.is_bound and any(name in self.form.head.errors for name in FRAME)

    @cached_property
    def form(self) -> DealForm:
        return DealForm(
            self.typed,
            plan=self.plan,
            base=self.version.terms(),
            start=read_terms(self.before),
            features={f.slug: f for f in Feature.objects.order_by("name")},
            name=self.deal.name,
            expires_at=_last_day(self.deal.expires_at),
        )

    @property
    def shows_other_units(self) -> bool:
        return self.request.POST.get("units-shown", "") != self.form.units_shown

    # What it comes to

    def look(self) -> DealTerms | None:
        """Read what was typed, and reckon with it; None when something cannot be."""
        terms = self.form.read()
        if self.form.acted:
            return None
        if terms is None:
            self.problem = self.form.error or MARKED
            return None
        try:
            self.worth = worth_of(terms, calendar_for(self.deal, terms, now=self.now))
        except ValidationError as refused:
            self._refuse(refused)
            return None
        return terms

    def _refuse(self, refused: ValidationError) -> None:
        if isinstance(refused, InvalidDeal):
            self.form.refuse(refused.problems)
        elif isinstance(refused, InvalidPhase):
            at = f"phases.{refused.place}.items"
            self.form.refuse(Problem(f"{at}.{e.index}.{e.field}", e.message) for e in refused.errors)
        else:
            self.form.error = " ".join(refused.messages)
        self.problem = self.form.error or MARKED

    def save(self) -> HttpResponse | None:
        """Save another version; None when there is something to look at first."""
        terms = self.look()
        if terms is None:
            return None
        require(self.request, *rights_for(terms))
        if self.needs_message and not self.message:
            self.message_error = "Say what this version changes; whoever has seen the last one wants to know."
            return None
        try:
            self._write(terms)
        except ValidationError as refused:
            self._refuse(refused)
            return None
        return HttpResponseRedirect(self.back)

    @transaction.atomic
    def _write(self, terms: DealTerms) -> None:
        said, actor = self.form.head.cleaned_data, Actor.of(self.request.user)
        expires_at = _end_of(said["expires_on"])
        if (said["name"], expires_at) != (self.deal.name, self.deal.expires_at):
            rename(self.deal, name=said["name"], expires_at=expires_at, actor=actor, now=self.now)
        version = save_version(self.deal, terms, message=self.message, actor=actor, now=self.now)
        if version.number == self.before.number:
            messages.info(self.request, f"Version {version.number} says this already.")
        else:
            messages.success(self.request, f"Saved version {version.number} of {said['name']}.")

    def context(self) -> dict[str, object]:
        dress(self.form.head)
        return {"page": self, "form": self.form, "worth": self.worth}

    def render(self) -> HttpResponse:
        trail = [("Deals", link("deals_deal_changelist")), (self.deal.name, self.back), ("Change", "")]
        return render_page(self.request, "deals/build.html", trail=trail, **self.context())


def _last_day(at: datetime | None) -> datetime | None:
    """An offer that ends as a day ends stands until that day."""
    return at - timedelta(microseconds=1) if at else None


def _end_of(day: object) -> datetime | None:
    return datetime.combine(day, time(), UTC) + A_DAY if day else None  # type: ignore[arg-type]  # a date of the form


@requires(CHANGE)
def edit_deal(request: HttpRequest, key: str) -> HttpResponse:
    visit = BuilderPage(request, key)
    if visit.deal.state in (DealState.EXECUTED, DealState.VOID):
        messages.info(request, f"{visit.deal.name} is {visit.deal.get_state_display().lower()}, so it stays as it is.")
        return HttpResponseRedirect(visit.back)
    if request.method == "POST" and request.POST.get("act") == "save" and not visit.form.acted:
        return visit.save() or visit.render()
    visit.look()
    return visit.render()


@requires(CHANGE)
def preview_deal(request: HttpRequest, key: str) -> HttpResponse:
    """The right column alone, for whoever is typing."""
    visit = BuilderPage(request, key)
    visit.look()
    return TemplateResponse(request, "deals/value_live.html", visit.context())
