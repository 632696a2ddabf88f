"""Enable Product, or change: choose a plan, edit its items, see what happens to the cent, enable it.

GET shows the page, with the numbers when something differs already. POST previews (`act=preview`, or the fragment that
the page asks for while somebody types) or enables (`act=enable`, with the confirmation of a preview in the form).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing_admin import change_rows
from billing_admin.access import allowed, require
from billing_admin.admin.acts import moment
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.change_rows import ChangeRows, marked, rows_of
from billing_admin.flows.approvals import ApprovalNeeded
from billing_admin.flows.coupons import coupon_for_act
from billing_admin.flows.courses import daily_use
from billing_admin.flows.enable_plan import (
    MOST_NET_TERMS,
    AlreadyOnPlan,
    BadAnchor,
    BadEnd,
    Enabled,
    PreviewOutdated,
    addable_plans,
    carried_out,
    enable_plan,
    offered_plans,
    preview_plan,
    propose,
)
from billing_admin.flows.forecast import forecast_change
from billing_admin.flows.plan_change import Activation, FirstPeriod, NewCoupon, PlanChange, Proposal, Timing
from billing_admin.flows.rebase import Rebased, merge
from billing_admin.items import ItemsForm
from billing_admin.pages import ask_for_approval, dress, render_page
from billing_admin.site import page
from catalog.charges import describe
from catalog.items import InvalidItems
from catalog.models import Plan, PlanVersion, read_terms
from catalog.money import plain
from catalog.terms import ItemTerms, PlanTerms
from customers.journal import Actor, ReasonRequired
from customers.models import Customer, Phase, Subscription
from invoicing.models import Invoice

MARKED = "Something cannot stay as it was typed; it is marked at its place."
ENABLE, ASSIGN = "customers.enable_plan", "customers.assign_plan"
ACTIVATE_UNPAID, EXTEND_TRIAL = "customers.activate_unpaid", "customers.extend_trial"
APPLY_COUPON = "customers.apply_coupon"


class ChoicesForm(forms.Form):
    """Everything on the page beside the items."""

    quantity = forms.IntegerField(
        min_value=1,
        max_value=1_000_000,
        required=False,
        help_text="So many at once: fees and allowances are multiplied.",
        error_messages={"min_value": "The quantity is a whole number of 1 or more."},
    )
    ends_on = forms.DateField(
        label="Ends on",
        required=False,
        help_text="Access ends by itself as this day begins (UTC). Empty: it lasts.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    trial_days = forms.IntegerField(
        label="Trial days",
        min_value=0,
        max_value=730,
        required=False,
        help_text="Free days before the first period; 0 for none.",
    )
    coupon = forms.CharField(
        label="Coupon or promo code",
        max_length=60,
        required=False,
        help_text="Discounts what this act charges, and what follows for as long as it lasts.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    net_terms_days = forms.IntegerField(
        label="Net terms, days",
        min_value=0,
        max_value=MOST_NET_TERMS,
        required=False,
        help_text="Days to pay; above 0 access does not wait for the payment. Empty: as the account does.",
    )
    anchor_on = forms.DateField(
        label="Billing periods count from",
        required=False,
        help_text="A day in the past (UTC), such as the first of the month. Empty: from now.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    first_period = forms.ChoiceField(
        label="A short first period",
        choices=[(FirstPeriod.PRORATE, "is prorated by the second"), (FirstPeriod.FULL, "is billed in full")],
        required=False,
    )
    activation = forms.ChoiceField(
        choices=[(Activation.AFTER_PAYMENT, "After payment"), (Activation.NOW, "Now")], required=False
    )
    timing = forms.ChoiceField(choices=[(timing, timing) for timing in Timing], required=False)
    default_timing = forms.CharField(required=False)
    reason = forms.CharField(
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "Support case 412: promised 250 credits"}),
    )
    confirmed = forms.CharField(required=False)
    seen = forms.CharField(required=False)

    @property
    def chosen_timing(self) -> Timing | None:
        """The timing that the person chose; None while it is the one that was preselected for them."""
        timing = self.cleaned_data.get("timing")
        return Timing(timing) if timing and timing != self.cleaned_data.get("default_timing") else None

    @property
    def ends_at(self) -> datetime | None:
        return self._midnight("ends_on")

    @property
    def anchor(self) -> datetime | None:
        return self._midnight("anchor_on")

    @property
    def chosen_activation(self) -> Activation:
        return Activation(self.cleaned_data.get("activation") or Activation.AFTER_PAYMENT)

    @property
    def chosen_first_period(self) -> FirstPeriod:
        return FirstPeriod(self.cleaned_data.get("first_period") or FirstPeriod.PRORATE)

    def _midnight(self, field: str) -> datetime | None:
        day = self.cleaned_data.get(field)
        return datetime.combine(day, time(), UTC) if day else None


@dataclass(frozen=True, slots=True)
class UnitsRow:
    """Prepaid units of one item: what was typed, and what it comes to."""

    key: str
    label: str
    typed: str
    words: str
    pack: str
    error: str = ""

    @property
    def name(self) -> str:
        return f"bought-{self.key}"


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One plan to choose from."""

    title: str
    price: str
    badges: tuple[tuple[str, str], ...]
    link: str
    words: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class PlanGroup:
    title: str
    rows: tuple[PlanRow, ...]


class EnablePage:
    """One visit: who, what is chosen, what was typed, and what would happen."""

    def __init__(self, request: HttpRequest, pk: int):
        self.request = request
        self.now = moment(request)
        if not allowed(request, ASSIGN):
            require(request, ENABLE)
        self.customer = get_object_or_404(Customer.objects.open(), pk=pk)
        self.typed = request.POST if request.method == "POST" else None
        self.asked = request.POST if request.method == "POST" else request.GET
        self.change: PlanChange | None = None
        self.problem = ""
        self.hint = ""
        self.outdated = ""

    # What there is to choose

    @cached_property
    def subscriptions(self) -> list[Subscription]:
        return list(self.customer.subscriptions.live().with_phases())

    @cached_property
    def held(self) -> dict[int, Phase]:
        """The phases in force, by plan."""
        phases = (subscription.phase_at(self.now) for subscription in self.subscriptions)
        return {phase.version.plan_id: phase for phase in phases if phase}

    @cached_property
    def changing(self) -> Subscription | None:
        """The contract that is to be changed, when the page was opened with "Change"."""
        public_id = self.asked.get("subscription")
        if not public_id:
            return None
        found = next((s for s in self.subscriptions if s.public_id == public_id), None)
        if found is None:
            raise Http404("This customer has no such subscription any more.")
        return found

    @cached_property
    def offered(self) -> list[Plan]:
        return [plan for plan in offered_plans(self.customer) if allowed(self.request, permission(plan))]

    @cached_property
    def groups(self) -> list[PlanGroup]:
        """By product; those that can be added come before those that replace what the customer has."""
        if self.changing:
            return list(self._grouped([plan for plan in self.offered if self._changes(plan, self.changing)]))
        adding = addable_plans(self.customer, among=self.offered)
        replacing = [plan for plan in self.offered if plan not in adding]
        return [*self._grouped(adding), *self._grouped(replacing, instead=True)]

    def _changes(self, plan: Plan, subscription: Subscription) -> bool:
        if subscription.add_on:
            return plan.pk in self.held and plan.add_on
        return plan.product_id == subscription.product_id and not plan.add_on

    def _grouped(self, plans: Sequence[Plan], *, instead: bool = False) -> Iterator[PlanGroup]:
        mains = {s.product_id: s.phase_at(self.now) for s in self.subscriptions if not s.add_on}
        for product in dict.fromkeys(plan.product for plan in plans):
            rows = tuple(self._row(plan) for plan in plans if plan.product_id == product.pk)
            present = mains.get(product.pk) if instead else None
            yield PlanGroup(
                f"{product.name} — instead of {present.version.plan.name}" if present else product.name, rows
            )

    def _row(self, plan: Plan) -> PlanRow:
        phase = self.held.get(plan.pk)
        assert plan.current_version is not None
        return PlanRow(
            title=plan.name,
            price=price_words(phase.terms() if phase else read_terms(plan.current_version)),
            badges=tuple(badges(plan, phase)),
            link=self.link_to(plan),
            words=f"{plan.product.name} {plan.name} {plan.key}".lower(),
            is_chosen=plan == self.plan,
        )

    def link_to(self, plan: Plan, version: int | None = None) -> str:
        subscription = self.changing.public_id if self.changing else None
        return link("enable_plan", self.customer.pk, plan=plan.key, subscription=subscription, version=version)

    # What is chosen

    @cached_property
    def plan(self) -> Plan | None:
        key = self.asked.get("plan")
        if key:
            found = next((plan for plan in self.offered if plan.key == key), None)
            if found is None:
                self._refuse_unoffered(key)
            return found
        if self.changing and (phase := self.changing.phase_at(self.now)):
            return next((plan for plan in self.offered if plan.pk == phase.version.plan_id), None)
        return None

    def _refuse_unoffered(self, key: str) -> None:
        """A plan that this person may not enable is a refusal; one that is not offered is not found."""
        plan = get_object_or_404(Plan, key=key)
        require(self.request, permission(plan))
        raise Http404(f"{plan.name} is not offered to this customer.")

    @cached_property
    def phase(self) -> Phase | None:
        """What the customer is on of the chosen plan."""
        return self.held.get(self.plan.pk) if self.plan else None

    @cached_property
    def subscription(self) -> Subscription | None:
        """The contract that enabling the chosen plan changes."""
        if self.plan is None or (self.plan.add_on and self.phase is None):
            return None
        if self.phase:
            return next(s for s in self.subscriptions if s.pk == self.phase.subscription_id)
        return next((s for s in self.subscriptions if s.product_id == self.plan.product_id and not s.add_on), None)

    @cached_property
    def version(self) -> PlanVersion:
        """The version that the items are measured by. Whoever is pinned to an older one stays there until moved."""
        assert self.plan is not None and self.plan.current_version is not None
        pinned = self.phase.version if self.phase and not self.phase.version.tailored else None
        chosen = self.asked.get("version", "")
        number = int(chosen) if chosen.isdecimal() else (pinned or self.plan.current_version).number
        if number == self.plan.current_version.number:
            return self.plan.current_version
        if pinned and number == pinned.number:
            return pinned
        published = PlanVersion.objects.with_items().standard().live().filter(plan=self.plan)
        asked: PlanVersion = get_object_or_404(published, number=number)
        return asked

    @cached_property
    def items(self) -> ItemsForm:
        """The items to begin with are the customer's own custom ones, else the standard."""
        assert self.plan is not None
        standard = self.version.terms()
        present = self.phase.terms() if self.phase and self.phase.version.tailored else standard
        present = self.rebased.terms if self.rebased else present
        typed = self.typed if self.may_tailor else None
        return ItemsForm(
            typed,
            plan=self.plan,
            items=present.items,
            cadence=present.cadence,
            conditions=present.conditions,
            standard=standard,
        )

    @cached_property
    def rebased(self) -> Rebased | None:
        """The customer's own changes on top of another version than the one they were made from, when asked for."""
        version = self.phase.version if self.phase else None
        if not self.asked.get("rebase") or version is None or not version.tailored or not self.may_tailor:
            return None
        base = version.custom.base_version
        return None if base.pk == self.version.pk else merge(base.terms(), self.version.terms(), version.terms())

    @property
    def follows(self) -> list[tuple[str, str]]:
        """What the customer would take over from the new base."""
        found = self.rebased.followed if self.rebased else ()
        return [(difference.sign, difference.sentence(self.items.currency)) for difference in found]

    @property
    def may_tailor(self) -> bool:
        return allowed(self.request, ENABLE)

    @property
    def other_version(self) -> PlanVersion | None:
        """The current version when the items are those of an older one, and the other way round."""
        assert self.plan is not None
        if self.version.pk != self.plan.current_version_id:
            return self.plan.current_version
        if self.phase and not self.phase.version.tailored and self.phase.version_id != self.version.pk:
            return self.phase.version
        return None

    @property
    def link_to_other(self) -> str:
        return self.link_to(self.plan, self.other_version.number) if self.plan and self.other_version else ""

    @property
    def back(self) -> str:
        return customer_link(self.customer.pk)

    @cached_property
    def chosen(self) -> PlanRow | None:
        return self._row(self.plan) if self.plan else None

    @cached_property
    def form(self) -> ChoicesForm:
        present = {"quantity": self.present_quantity, "trial_days": self.usual_trial_days}
        form = ChoicesForm(self.typed, initial=present)
        for name in self._left_out():
            del form.fields[name]
        return form

    def _left_out(self) -> Iterator[str]:
        """Fields that mean nothing here, or that this person may not use."""
        if self.plan is None:
            return
        is_assigned, is_first = self.plan.kind == Plan.Kind.ASSIGNED, self.subscription is None
        yield "quantity" if is_assigned else "ends_on"
        if is_assigned or not self.may_begin_trial or not allowed(self.request, EXTEND_TRIAL):
            yield "trial_days"
        if is_assigned or not allowed(self.request, APPLY_COUPON):
            yield "coupon"
        if is_assigned or not is_first:
            yield "net_terms_days"
        if is_assigned or not is_first or self.plan.add_on:
            yield from ("anchor_on", "first_period")
        if not allowed(self.request, ACTIVATE_UNPAID):
            yield "activation"

    @property
    def may_begin_trial(self) -> bool:
        """A trial stands before the first paid plan of a product, and nowhere else."""
        present = self.subscription.phase_at(self.now) if self.subscription else None
        return present is None or present.terms().is_free

    @cached_property
    def usual_trial_days(self) -> int:
        """What the plan's terms give this customer: one trial per product."""
        assert self.plan is not None
        had = self.customer.subscriptions.filter(product_id=self.plan.product_id, trial_ends_at__isnull=False)
        return 0 if had.exists() else self.version.trial_days

    @property
    def present_quantity(self) -> int:
        phase = self.subscription.phase_at(self.now) if self.subscription else None
        return phase.quantity if phase else 1

    # What would happen

    def proposal(self) -> Proposal | None:
        """What was asked for; None when something cannot be, which then stands at its place on the page."""
        assert self.plan is not None
        items, form = self.items, self.form
        is_readable = [form.is_valid() if form.is_bound else True, items.is_valid() if items.is_bound else True]
        is_readable.append(self._read_units())
        if items.acted:
            return None
        if not all(is_readable):
            self.problem = MARKED
            return None
        is_tailored = items.is_bound or items.present != self.version.terms().items
        try:
            proposal = propose(
                self.customer,
                self.plan,
                items=(items.items if items.is_bound else items.present) if is_tailored else None,
                cadence=items.cadence if is_tailored else None,
                conditions=items.conditions if is_tailored else None,
                version=self.version,
                quantity=self.quantity,
                timing=form.chosen_timing if form.is_bound else None,
                ends_at=form.ends_at if form.is_bound else None,
                bought=self.bought,
                **self._choices(),
            )
        except InvalidItems as refused:
            items.refuse(refused)
            self.problem = MARKED
            return None
        except ValidationError as refused:
            self.problem = said(refused)
            return None
        require(self.request, ENABLE if proposal.is_custom else permission(self.plan))
        self._require_more(proposal)
        return proposal

    def _require_more(self, proposal: Proposal) -> None:
        """What takes a permission of its own: another trial than the plan's, access before payment, a coupon."""
        if proposal.trial_days is not None:
            require(self.request, EXTEND_TRIAL)
        if proposal.activation is Activation.NOW:
            require(self.request, ACTIVATE_UNPAID)
        if proposal.coupons:
            require(self.request, APPLY_COUPON)

    def _choices(self) -> dict[str, Any]:
        """What was typed beside items, quantity and dates; raises what a coupon refuses."""
        form = self.form
        if not form.is_bound:
            return {}
        days = form.cleaned_data.get("trial_days")
        return {
            "trial_days": None if days == self.usual_trial_days else days,
            "activation": form.chosen_activation,
            "net_terms_days": form.cleaned_data.get("net_terms_days"),
            "anchor": form.anchor,
            "first_period": form.chosen_first_period,
            "coupons": self._coupons(form.cleaned_data.get("coupon", "")),
        }

    def _coupons(self, code: str) -> list[NewCoupon]:
        if not code.strip():
            return []
        try:
            return [coupon_for_act(self.customer, code, self.now, plan=self.plan)]
        except ValidationError as refused:
            self.form.add_error("coupon", refused)
            raise

    # Prepaid units

    @cached_property
    def bought(self) -> dict[str, Decimal]:
        return {}

    @property
    def prepaid_items(self) -> list[ItemTerms]:
        items = self.items.items if self.items.is_bound else self.items.present
        return [item for item in items if item.is_prepaid and item.feature]

    @cached_property
    def present_units(self) -> dict[str, Decimal]:
        """Units that the customer has bought, by item key."""
        phase = self.subscription.phase_at(self.now) if self.subscription else None
        return phase.bought_units() if phase else {}

    def _read_units(self) -> bool:
        """Take the typed units; False when one of them is no number."""
        self.unit_errors: dict[str, str] = {}
        for item in self.prepaid_items:
            typed = self.asked.get(f"bought-{item.key}", "").replace(",", "").strip()
            if not typed:
                continue
            try:
                units = Decimal(typed)
            except InvalidOperation:
                units = Decimal("NaN")
            if not units.is_finite() or units < 0:
                self.unit_errors[item.key] = "A number of units, 0 or more."
            else:
                self.bought[item.key] = units
        return not self.unit_errors

    @property
    def units(self) -> list[UnitsRow]:
        """One input for each prepaid item, with what it comes to."""
        words = self.rows.units if self.rows else {}
        errors = getattr(self, "unit_errors", {})
        found = []
        for item in self.prepaid_items:
            least = item.included or Decimal(0)
            typed = self.asked.get(f"bought-{item.key}") or plain(max(self.present_units.get(item.key, least), least))
            pack = describe(item.price, self.items.currency, "unit") if item.price else ""
            found.append(UnitsRow(item.key, item.label, typed, words.get(item.key, ""), pack, errors.get(item.key, "")))
        return found

    @property
    def shows_other_units(self) -> bool:
        """Whether the inputs on the page are not those of the items as they are now."""
        return self.asked.get("units-shown", "") != self.units_shown

    @property
    def units_shown(self) -> str:
        return " ".join(item.key for item in self.prepaid_items)

    @property
    def quantity(self) -> int:
        """Assigned plans are not sold in numbers; whoever leaves the field empty keeps what there is."""
        typed = self.form.cleaned_data.get("quantity") if self.form.is_bound else None
        return typed or (1 if self.plan and self.plan.kind == Plan.Kind.ASSIGNED else self.present_quantity)

    def preview(self) -> None:
        if proposal := self.proposal():
            self._preview(proposal)

    def _preview(self, proposal: Proposal) -> None:
        try:
            self.change = preview_plan(self.customer, proposal, now=self.now)
        except AlreadyOnPlan as same:
            self.hint = said(same)
        except (BadEnd, BadAnchor) as refused:
            field = "ends_on" if isinstance(refused, BadEnd) else "anchor_on"
            self.form.add_error(field if field in self.form.fields else None, refused)
            self.problem = said(refused)
        except ValidationError as refused:
            self.problem = said(refused)

    def enable(self) -> HttpResponse | None:
        """Enable what was previewed; None when there is something to look at first."""
        proposal = self.proposal()
        if proposal is None:
            return None
        confirmed = self.form.cleaned_data["confirmed"]
        if not confirmed:
            self._preview(proposal)
            self.problem = self.problem or self.hint
            return None
        try:
            enabled = enable_plan(
                self.customer,
                proposal,
                reason=self.form.cleaned_data["reason"],
                actor=Actor.of(self.request.user),
                now=self.now,
                confirmed=confirmed,
            )
        except ReasonRequired as refused:
            self.form.add_error("reason", refused)
            self._preview(proposal)
            return None
        except (PreviewOutdated, AlreadyOnPlan) as refused:
            self._look_again(refused)
            return self._already(confirmed)
        except ApprovalNeeded as needed:
            why = self.form.cleaned_data["reason"]
            return ask_for_approval(self.request, needed, back=self.back, trail=self.trail, reason=why)
        except ValidationError as refused:
            self.problem = said(refused)
            return None
        messages.success(self.request, done(enabled, self.customer.name))
        return HttpResponseRedirect(customer_link(self.customer.pk))

    def _already(self, confirmed: str) -> HttpResponse | None:
        """The second press of a double click: it was done once, and this is what came of it."""
        operation = carried_out(self.customer, confirmed)
        if operation is None:
            return None
        messages.info(self.request, f"This was done already: {operation.summary}. It was not done twice.")
        return HttpResponseRedirect(customer_link(self.customer.pk))

    def _look_again(self, refused: PreviewOutdated | AlreadyOnPlan) -> None:
        if isinstance(refused, PreviewOutdated):
            self.change, self.outdated = refused.change, said(refused)
        else:
            self.problem = said(refused)

    # What is shown

    @cached_property
    def rows(self) -> ChangeRows | None:
        if self.change is None:
            return None
        offsets = {line.offsets_id for line in self.change.lines if line.offsets_id}
        invoices = Invoice.objects.filter(pk__in=offsets) if offsets else ()
        numbers = {invoice.pk: str(invoice) for invoice in invoices}
        expected = forecast_change(self.change, daily_use(self.customer, now=self.now))
        rows = rows_of(self.change, customer=self.customer.name, invoice_numbers=numbers, expected=expected)
        if self.outdated or self.form.has_error("reason"):
            rows = marked(rows, self.form.cleaned_data.get("seen", ""), always=bool(self.outdated))
        return rows

    def context(self) -> dict[str, object]:
        shown = {"page": self, "customer": self.customer, "rows": self.rows}
        if self.plan is None:
            return shown
        dress(self.form)
        return shown | {"form": self.form, "items": self.items}

    @property
    def title(self) -> str:
        return "Change plan" if self.changing else "Enable Product"

    @property
    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Customers", link("customers_customer_changelist")),
            (self.customer.name, customer_link(self.customer.pk)),
            (self.title, ""),
        ]

    def render(self) -> HttpResponse:
        return render_page(self.request, "enable/page.html", trail=self.trail, **self.context())


def permission(plan: Plan) -> str:
    """What it takes to enable the standard version of a plan; a custom version always takes `ENABLE`."""
    return ASSIGN if plan.kind == Plan.Kind.ASSIGNED else ENABLE


def badges(plan: Plan, phase: Phase | None) -> Iterator[tuple[str, str]]:
    if phase:
        yield "current", "info"
    if phase and phase.version.tailored:
        yield "custom", "accent"
    if plan.add_on:
        yield "add-on", ""
    if plan.kind == Plan.Kind.ASSIGNED:
        yield "assigned", ""


def price_words(terms: PlanTerms) -> str:
    """`$50.00 / month + use`."""
    if not terms.is_invoiced:
        return "never invoiced"
    parts = [item.describe_price(terms.currency) for item in terms.fees if item.amount]
    if any(item.price and (item.is_usage or item.is_instant) for item in terms.items):
        parts.append("use")
    return " + ".join(parts) or "free"


def said(refused: ValidationError) -> str:
    return " ".join(refused.messages)


def done(enabled: Enabled, customer: str) -> SafeString:
    """What has become true, with links to the documents that came of it."""
    links = format_html_join(
        "", ' <a class="desk-link" href="{}">{}</a>', ((invoice_link(i.pk), str(i)) for i in enabled.invoices)
    )
    return format_html("{}{}", change_rows.headline(enabled.change, customer), links)


@page("customers/<int:pk>/enable/", name="enable_plan")
def enable_plan_page(request: HttpRequest, pk: int) -> HttpResponse:
    visit = EnablePage(request, pk)
    if visit.plan is None:
        return visit.render()
    if request.method == "POST" and request.POST.get("act") == "enable":
        return visit.enable() or visit.render()
    visit.preview()
    return visit.render()


@page("customers/<int:pk>/enable/preview/", name="enable_plan_preview", methods=("POST",))
def enable_plan_preview(request: HttpRequest, pk: int) -> HttpResponse:
    """The right column alone, for whoever is typing."""
    visit = EnablePage(request, pk)
    if visit.plan is None:
        raise Http404("Choose a plan first.")
    visit.preview()
    return TemplateResponse(request, "enable/preview.html", visit.context())
