"""Units of a customer's own: the dialogs that give them and take them back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import requires
from billing_admin.admin.acts import CustomerAct, find_customer, moment
from billing_admin.admin.links import customer_link, link
from billing_admin.admin.overrides import at_midnight, day_input, midnight
from billing_admin.admin.panels import bucket_name
from billing_admin.flows.grants import Wanted, give_units, void_units
from billing_admin.pages import ActPage
from billing_admin.site import page
from catalog.models import Feature
from catalog.money import grouped
from catalog.periods import NEVER, RESETS, every
from catalog.terms import METERED
from customers.journal import Actor
from customers.models import Customer
from entitlements.balances import GrantTerms, Kind, extra
from entitlements.grant import BadGrant
from entitlements.models import UNITS, Grant
from entitlements.pool import Pool
from entitlements.readings import pool_at

GIVE, VOID = "entitlements.add_grant", "entitlements.change_grant"
KINDS = {Grant.Source.BONUS: Kind.BONUS, Grant.Source.PURCHASE: Kind.PURCHASE}
# Smaller numbers are burnt first; the plans' own buckets have 0.
PRIORITIES = [(-1, "Before everything else"), (0, "In the usual order"), (1, "After everything else")]


class GrantForm(forms.Form):
    feature = forms.ChoiceField(label="Feature")
    source = forms.ChoiceField(
        label="As",
        choices=[
            (Grant.Source.BONUS, "A bonus: given, no part of the limit"),
            (Grant.Source.PURCHASE, "A purchase: paid for outside, part of the limit"),
        ],
        widget=forms.RadioSelect,
        initial=Grant.Source.BONUS,
    )
    units = forms.DecimalField(
        label="Units",
        max_digits=UNITS["max_digits"],
        decimal_places=UNITS["decimal_places"],
        localize=False,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    label = forms.CharField(
        label="What it is called", max_length=120, widget=forms.TextInput(attrs={"placeholder": "Support case 412"})
    )
    starts = forms.DateField(label="From", required=False, widget=day_input(), help_text="Empty: now.")
    until = forms.DateField(label="Until", required=False, widget=day_input(), help_text="Empty: the units last.")
    recurs = forms.ChoiceField(
        label="How often",
        required=False,
        choices=[("", "Once"), *((code, f"Again every {every(code)}") for code in RESETS if code != NEVER)],
    )
    priority = forms.TypedChoiceField(label="Burnt", coerce=int, choices=PRIORITIES, initial=0)
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, features: Mapping[str, Feature], now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.features, self.now = features, now
        named = [("", "Choose a feature"), *((slug, row.name) for slug, row in features.items())]
        self.fields["feature"].choices = named  # type: ignore[attr-defined]

    def clean_units(self) -> Decimal:
        units: Decimal = self.cleaned_data["units"]
        if units <= 0:
            raise ValidationError("Give more than 0 units.")
        return units

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        starts, until = said.get("starts"), midnight(said.get("until"))
        if until is not None and until <= max(self.now, midnight(starts) or self.now):
            self.add_error("until", "The units end after they begin, in the future.")
        if starts is not None and starts < self.now.date():
            self.add_error("starts", "Units are given from now on or later.")
        return said

    @property
    def wanted(self) -> Wanted:
        """After `is_valid()`, except for the reason and the label."""
        said = self.cleaned_data
        return Wanted(
            feature=self.features[said["feature"]],
            units=said["units"],
            ends_at=midnight(said["until"]),
            label=said.get("label", ""),
            source=said["source"],
            priority=said["priority"],
            starts_at=at_midnight(said["starts"], self.now),
            recurs=said["recurs"],
        )


def metered_features() -> dict[str, Feature]:
    return {row.slug: row for row in Feature.objects.filter(archived_at=None, type=METERED).order_by("name")}


# What it would make true ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InOrder:
    """One bucket in the order in which they are burnt."""

    name: str
    left: Decimal | None
    ends_at: datetime | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class GrantOutlook:
    sentence: str
    order: tuple[InOrder, ...]


def look_ahead(wanted: Wanted, customer: Customer, now: datetime) -> GrantOutlook:
    """The units beside the buckets that are there when they begin, in the order of the burn."""
    starts_at = wanted.starts_at or now
    terms = GrantTerms(0, wanted.units, starts_at, wanted.ends_at, wanted.recurs)
    window = terms.window(starts_at)
    given = extra(
        wanted.feature.terms(),
        wanted.units,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        label=wanted.label or "These units",
        kind=KINDS[Grant.Source(wanted.source)],
    )
    given = replace(given, priority=wanted.priority)
    there = pool_at(customer, starts_at, wanted.feature.slug)
    owners = owners_of(there)
    buckets = sorted([*there.of(wanted.feature.slug), given], key=lambda b: b.burn_order())
    order = (InOrder(bucket_name(b, owners), b.left, b.ends_at, b is given) for b in buckets)
    return GrantOutlook(_sentence(wanted, starts_at, now, there), tuple(order))


def owners_of(there: Pool) -> dict[tuple[int | None, int | None], str]:
    """The names of the plans whose buckets these are."""
    return {s.contribution.owner: s.contribution.contract.plan_name for s in there.standings}


def _sentence(wanted: Wanted, starts_at: datetime, now: datetime, there: Pool) -> str:
    start = "now" if starts_at == now else f"{starts_at:%-d %b %Y}"
    span = f"From {start} until {wanted.ends_at:%-d %b %Y}" if wanted.ends_at else f"From {start} on"
    often = f", again every {every(wanted.recurs)}" if wanted.recurs else ""
    lasts = "" if wanted.ends_at or wanted.recurs else " They last until they are used."
    closed = there.overrides(wanted.feature.slug).closed
    blocked = " An override gives no access, so nobody can use them meanwhile." if closed else ""
    return f"{span}: {grouped(wanted.units)} {wanted.feature.name} more{often}.{lasts}{blocked} Nothing is charged."


# Give -----------------------------------------------------------------------------------------------------------------


class GiveUnits(CustomerAct):
    permission = GIVE
    form_class = GrantForm
    title = "Give units"
    act_template = "overrides/give_units.html"

    @cached_property
    def features(self) -> dict[str, Feature]:
        return metered_features()

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "features": self.features, "now": moment(self.request)}

    def get_initial(self) -> dict[str, Any]:
        return {**super().get_initial(), "feature": self.request.GET.get("feature", "")}

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        shown = {"preview_url": link("grant_preview", self.customer.pk), "customer": self.customer}
        return super().render_to_response(context | shown | outcome(context["form"], self.customer), **kwargs)

    def act(self, form: GrantForm) -> str:
        wanted = form.wanted
        try:
            give_units(
                self.customer,
                wanted,
                reason=form.cleaned_data["reason"],
                actor=self.actor,
                now=moment(self.request),
            )
        except BadGrant as refused:
            raise ValidationError({"units": refused.messages}) from refused
        messages.success(self.request, f"{grouped(wanted.units)} {wanted.feature.name} are given.")
        return self.back()


def outcome(form: GrantForm, customer: Customer) -> dict[str, Any]:
    """What the numbers typed so far would make true; nothing while some are missing."""
    known = form.is_bound and not form.is_valid() and not (form.errors.keys() - {"label", "reason", "__all__"})
    whole = form.is_bound and form.is_valid()
    return {"found": look_ahead(form.wanted, customer, form.now) if known or whole else None}


@requires(GIVE)
def preview(request: HttpRequest, key: str) -> HttpResponse:
    """The sentence and the order of the burn for what has been typed so far."""
    customer = find_customer(key)
    form = GrantForm(request.GET, features=metered_features(), now=moment(request))
    return TemplateResponse(request, "overrides/units_outcome.html", outcome(form, customer))


# Take back ------------------------------------------------------------------------------------------------------------


class VoidForm(forms.Form):
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class TakeUnitsBack(ActPage):
    permission = VOID
    form_class = VoidForm
    submit = "Take units back"
    danger = True

    @cached_property
    def given(self) -> Grant:
        found = Grant.objects.filter(pk=self.kwargs["pk"]).select_related("customer", "feature").first()
        if found is None:
            raise Http404("There is no such grant.")
        return found

    def get_title(self) -> str:
        return f"Take back {self.given.label}"

    def get_outcome(self) -> str:
        now = moment(self.request)
        rows = self.given.balances.filter(closed_at=None)
        left = sum((max(Decimal(0), row.left or Decimal(0)) for row in _alive(rows, now)), Decimal(0))
        again = " No further window opens." if self.given.recurs else ""
        what = f"{grouped(left)} {self.given.feature.name} are taken back" if left else "Nothing of it is left"
        return f"{what}; what was used stays used.{again}"

    def back(self) -> str:
        return customer_link(self.given.customer_id)

    def trail(self) -> list[tuple[str, str]]:
        customer = self.given.customer
        return [("Customers", link("customers_customer_changelist")), (customer.name, self.back()), (self.submit, "")]

    def act(self, form: VoidForm) -> str:
        actor = Actor.of(self.request.user)
        taken = void_units(self.given, reason=form.cleaned_data["reason"], actor=actor, now=moment(self.request))
        messages.success(self.request, f"{grouped(taken)} {self.given.feature.name} are taken back.")
        return self.back()


def _alive(rows: Iterable[Any], now: datetime) -> list[Any]:
    return [row for row in rows if row.ends_at is None or row.ends_at > now]


page("grants/give/<str:key>/", name="grant_give")(GiveUnits.as_view())
page("grants/give/<str:key>/preview/", name="grant_preview", methods=("GET",))(preview)
page("grants/<int:pk>/void/", name="grant_void")(TakeUnitsBack.as_view())
