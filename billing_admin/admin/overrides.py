"""Feature overrides on the customer's page: who has which, and the dialogs that give and revoke one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing_admin.access import allowed, require
from billing_admin.admin.acts import CustomerAct, find_customer, moment
from billing_admin.admin.links import customer_link, link
from billing_admin.flows.customers import CustomerClosed
from billing_admin.flows.override_outlook import Outlook, Wanted, misfit, outlook, planned, words_of
from billing_admin.flows.overrides import give_override
from billing_admin.pages import ActPage
from billing_admin.site import page
from billing_admin.typed import Wrong, number
from catalog.models import Feature
from catalog.terms import BOOLEAN, METERED, STATIC
from customers.contracts import Contract
from customers.journal import Actor
from customers.models import Customer, Subscription
from entitlements.models import UNITS, FeatureOverride
from entitlements.override import BadOverride, Overlaps, overlapping, refuse_bad_dates, revoke, value_of

# Whoever may give concessions gives them for a limited time; the other permission has no such bound.
GIVE, CONCESSION = "entitlements.add_featureoverride", "entitlements.give_concession"
VALUE, ON, UNLIMITED, NO_ACCESS = "value", "on", "unlimited", "no_access"
CHOICES = {
    BOOLEAN: [(ON, "On"), (NO_ACCESS, "No access")],
    METERED: [(VALUE, "A number of units"), (UNLIMITED, "Unlimited"), (NO_ACCESS, "No access")],
    STATIC: [(VALUE, "A number or a text"), (UNLIMITED, "Unlimited"), (NO_ACCESS, "No access")],
}
EVERY_CHOICE = [(VALUE, "A number or a text"), (ON, "On"), (UNLIMITED, "Unlimited"), (NO_ACCESS, "No access")]
WHOLE_CUSTOMER = "customer"
# On the customer's page; the register has the others.
PAST_SHOWN = 10
FIELD = {"value": "value", "from": "starts", "until": "until", "subscription": "level"}


def may_give(request: HttpRequest) -> bool:
    return allowed(request, GIVE) or allowed(request, CONCESSION)


def require_giving(request: HttpRequest, *, ends: bool = True) -> None:
    """Refuse (403, logged) whoever may not give, or take back, an override with or without an end."""
    if not (ends and allowed(request, CONCESSION)):
        require(request, GIVE)


# One of them, for people ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OverrideRow:
    """An override in the sidebar and in the register."""

    public_id: str
    feature: str
    value: str
    instead_of: str
    level: str
    state: str
    starts_at: datetime
    ends_at: datetime | None
    by: str
    since: datetime
    reason: str
    revoked: str
    misfit: str
    revoke_url: str
    batch: str = ""
    batch_url: str = ""
    customer: str = ""
    customer_url: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in ("in_force", "scheduled")

    @property
    def never_began(self) -> bool:
        """Taken back, or replaced, before its start."""
        return self.ends_at == self.starts_at


def override_row(
    row: FeatureOverride, *, now: datetime, may: Callable[[FeatureOverride], bool], instead_of: str = ""
) -> OverrideRow:
    """Reads the joined feature with its meter, the subscription with its product, the batch, and the customer where
    that was joined."""
    state = row.state(now)
    joined = "customer" in row._state.fields_cache
    standing = state in ("in_force", "scheduled")
    return OverrideRow(
        public_id=row.public_id,
        feature=row.feature.name,
        value=words_of(row),
        instead_of=instead_of,
        level=f"on {row.subscription.product.name}" if row.subscription else "",
        state=state,
        starts_at=row.effective_from,
        ends_at=row.stops_at,
        by=row.created_by,
        since=row.created_at,
        reason=row.reason,
        revoked=row.revoke_reason,
        misfit=misfit(row.feature, row.units) if row.units is not None else "",
        revoke_url=link("override_revoke", row.public_id) if standing and may(row) else "",
        batch=row.batch.public_id if row.batch else "",
        batch_url=link("override_batch", row.batch.public_id) if row.batch else "",
        customer=row.customer.name if joined else "",
        customer_url=customer_link(row.customer_id),
    )


def may_revoke(request: HttpRequest) -> Callable[[FeatureOverride], bool]:
    """Of a row, whether this person may take it back: whoever could have given it."""
    everything, concessions = allowed(request, GIVE), allowed(request, CONCESSION)
    return lambda row: everything or (concessions and row.effective_until is not None)


# The sidebar ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OverridesPanel:
    """What the customer's page shows: in force, to come, over; features that are overridden at both levels."""

    standing: tuple[OverrideRow, ...]
    past: tuple[OverrideRow, ...]
    both_levels: tuple[str, ...]
    give_url: str
    all_url: str


def panel(
    request: HttpRequest, customer: Customer, contracts: Sequence[Contract], rows: Sequence[FeatureOverride]
) -> OverridesPanel:
    """From the newest rows; a customer with hundreds of past overrides has them in the register."""
    now = moment(request)
    may = may_revoke(request)
    is_open = customer.closed_at is None
    standing = [row for row in rows if not row.is_over(now)]
    past = [row for row in rows if row.is_over(now)]
    shown = sorted(standing, key=lambda row: (row.effective_from > now, row.feature.name, row.effective_from))
    return OverridesPanel(
        standing=tuple(
            override_row(
                row,
                now=now,
                may=(lambda row: is_open and may(row)),
                instead_of=planned(contracts, row.feature.terms(), row.subscription_id),
            )
            for row in shown
        ),
        past=tuple(override_row(row, now=now, may=lambda _: False) for row in past[:PAST_SHOWN]),
        both_levels=tuple(doubled(row for row in standing if row.effective_from <= now)),
        give_url=link("override_give", customer.pk) if is_open and may_give(request) else "",
        all_url=link("entitlements_featureoverride_changelist", customer=customer.pk, shown="all")
        if len(past) > PAST_SHOWN
        else "",
    )


def doubled(in_force: Iterable[FeatureOverride]) -> list[str]:
    """Names of features that are overridden for the customer and for a subscription at once."""
    levels: dict[str, set[bool]] = {}
    for row in in_force:
        levels.setdefault(row.feature.name, set()).add(row.subscription_id is None)
    return [name for name, found in levels.items() if len(found) == 2]


# Give one -------------------------------------------------------------------------------------------------------------


def at_midnight(day: date | None, now: datetime) -> datetime | None:
    """A day as an instant; today is now, since this morning is over."""
    if day is None:
        return None
    return now if day == now.astimezone(UTC).date() else datetime(day.year, day.month, day.day, tzinfo=UTC)


def day_input() -> forms.DateInput:
    return forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")


class OverrideForm(forms.Form):
    """Which feature, which value, at which level, how long, why. `feature` chooses what may be said of it."""

    feature = forms.ChoiceField(label="Feature")
    what = forms.ChoiceField(label="Gives", widget=forms.RadioSelect)
    value = forms.CharField(
        label="Value", required=False, max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    level = forms.ChoiceField(label="For")
    starts = forms.DateField(label="From", required=False, widget=day_input(), help_text="Empty: now.")
    until = forms.DateField(
        label="Until", required=False, widget=day_input(), help_text="It ends as this day begins, UTC."
    )
    permanent = forms.BooleanField(label="Permanent: it stays until somebody revokes it", required=False)
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    supersede = forms.BooleanField(required=False)

    def __init__(
        self,
        *args: Any,
        features: Mapping[str, Feature],
        subscriptions: Sequence[Subscription],
        now: datetime,
        time_boxed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.features, self.now, self.time_boxed = features, now, time_boxed
        self.subscriptions = {row.public_id: row for row in subscriptions}
        named = [("", "Choose a feature"), *((slug, row.name) for slug, row in features.items())]
        levels = [(WHOLE_CUSTOMER, "The whole customer"), *((pk, label(s)) for pk, s in self.subscriptions.items())]
        self.fields["feature"].choices = named  # type: ignore[attr-defined]
        self.fields["level"].choices = levels  # type: ignore[attr-defined]
        if len(levels) == 1:
            self.fields["level"].widget = forms.HiddenInput()
            self.fields["level"].initial = WHOLE_CUSTOMER
        self._type(self.chosen)
        if time_boxed:
            del self.fields["permanent"]
            self.fields["until"].required = True
            self.fields["until"].error_messages["required"] = "You may give it for a limited time: say when it ends."

    @property
    def chosen(self) -> Feature | None:
        """The feature that was chosen so far."""
        said = self.data.get(self.add_prefix("feature")) if self.is_bound else self.initial.get("feature")
        return self.features.get(said or "")

    def _type(self, feature: Feature | None) -> None:
        """What may be said of the chosen feature."""
        choices = CHOICES[feature.type] if feature else EVERY_CHOICE
        self.fields["what"].choices = choices  # type: ignore[attr-defined]
        self.fields["what"].initial = choices[0][0]
        if feature is None:
            return
        if feature.type == BOOLEAN:
            self.fields["value"].widget = forms.HiddenInput()
        elif feature.type == METERED:
            self.fields["value"].label = f"Units ({feature.unit}s)" if feature.unit else "Units"
            self.fields["value"].widget.attrs |= {"inputmode": "decimal", "autofocus": True}
        else:
            self.fields["value"].widget.attrs |= {"autofocus": True}

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if not self.time_boxed and "until" not in self.errors:
            if said.get("until") and said.get("permanent"):
                self.add_error("until", "Either it ends, or it is permanent.")
            elif not said.get("until") and not said.get("permanent"):
                self.add_error("until", "Say when it ends, or that it is permanent.")
        feature = self.chosen
        if feature and said.get("what"):
            try:
                self.asked = value_of(feature, self._value(feature, said))
            except Wrong as wrong:
                self.add_error("value", wrong.message)
            except BadOverride as refused:
                self.add_error("value", refused)
        return said

    def _value(self, feature: Feature, said: Mapping[str, Any]) -> bool | str | Decimal:
        if said["what"] != VALUE:
            return {ON: True, NO_ACCESS: False}.get(said["what"], UNLIMITED)
        text: str = said.get("value", "").strip()
        if not text:
            raise Wrong("value", "Say how many units." if feature.type == METERED else "Say the number or the text.")
        if feature.type != METERED:
            return text
        units = number(text, "value", decimals=UNITS["decimal_places"], digits=24)
        assert units is not None, "the text is not empty"
        return units

    @property
    def wanted(self) -> Wanted:
        """After `is_valid()`."""
        said = self.cleaned_data
        return Wanted(
            feature=self.features[said["feature"]],
            asked=self.asked,
            subscription=self.subscriptions.get(said["level"]),
            starts_at=at_midnight(said["starts"], self.now) or self.now,
            ends_at=midnight(said["until"]),
        )

    @property
    def raw_value(self) -> bool | str | Decimal:
        """As the verb takes it; after `is_valid()`."""
        return self._value(self.features[self.cleaned_data["feature"]], self.cleaned_data)


def midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


def label(subscription: Subscription) -> str:
    phases = subscription.kept_phases()
    plan = phases[-1].version.plan.title if phases else subscription.product.name
    return f"Only {plan}" + (" (add-on)" if subscription.add_on else "")


def form_kwargs(request: HttpRequest, customer: Customer) -> dict[str, Any]:
    features = Feature.objects.filter(archived_at=None).select_related("meter").order_by("name")
    return {
        "features": {row.slug: row for row in features},
        "subscriptions": list(customer.subscriptions.live().with_phases()),
        "now": moment(request),
        "time_boxed": not allowed(request, GIVE),
    }


class GiveOverride(CustomerAct):
    form_class = OverrideForm
    title = "Override a feature"
    submit = "Override feature"
    act_template = "overrides/give.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require_giving(request)
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), **form_kwargs(self.request, self.customer)}

    def get_initial(self) -> dict[str, Any]:
        """What was typed before another feature was chosen stays."""
        asked = self.request.GET
        kept = {
            name: asked[name]
            for name in ("feature", "value", "level", "starts", "until", "permanent", "reason")
            if name in asked
        }
        return {**super().get_initial(), **kept}

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        shown = {
            "customer": self.customer,
            "reload_url": link("override_give", self.customer.pk),
            "preview_url": link("override_preview", self.customer.pk),
        }
        shown |= outcome(self.request, context["form"], self.customer)
        return super().render_to_response(context | shown, **kwargs)

    def act(self, form: OverrideForm) -> str:
        said, wanted = form.cleaned_data, form.wanted
        require_giving(self.request, ends=wanted.ends_at is not None)
        if self.customer.closed_at is not None:
            raise CustomerClosed
        if said["supersede"]:
            met = overlapping(self.customer, wanted.feature, wanted.subscription, wanted.starts_at, wanted.ends_at)
            require_giving(self.request, ends=all(other.effective_until is not None for other in met))
        try:
            give_override(
                self.customer,
                wanted.feature,
                form.raw_value,
                subscription=wanted.subscription,
                effective_from=wanted.starts_at,
                effective_until=wanted.ends_at,
                reason=said["reason"],
                supersede=said["supersede"],
                actor=self.actor,
                now=moment(self.request),
            )
        except BadOverride as refused:
            raise ValidationError({FIELD.get(refused.field, "value"): refused.messages}) from refused
        except Overlaps as refused:
            raise ValidationError(
                "Another override holds in that time. Tick below that this one takes over."
            ) from refused
        messages.success(self.request, f"{wanted.feature.name} is overridden.")
        return self.back()


@dataclass(frozen=True, slots=True)
class Other:
    """An override that the new one would overlap."""

    value: str
    starts_at: datetime
    ends_at: datetime | None
    reason: str
    by: str


def outcome(request: HttpRequest, form: OverrideForm, customer: Customer) -> dict[str, Any]:
    """What the numbers typed so far would make true; why not where they cannot be."""
    found, why = look_ahead(form, customer)
    others = [
        Other(words_of(row), row.effective_from, row.stops_at, row.reason, row.created_by)
        for row in (found.overlapping if found else ())
    ]
    return {
        "form": form,
        "found": found,
        "why": why,
        "others": others,
        "version_url": link("catalog_plan_edit", found.plan_id)
        if found and found.plan_id and found.suggests_version and allowed(request, "catalog.change_plan")
        else "",
    }


def look_ahead(form: OverrideForm, customer: Customer) -> tuple[Outlook | None, str]:
    """The outlook of what was typed, or why there is none yet: empty while something is missing."""
    if not form.is_bound:
        return None, ""
    form.is_valid()
    missing = form.errors.keys() - {"reason", "__all__"}
    if missing:
        said = form.data.get("value", "").strip()
        return None, " ".join(map(str, form.errors["value"])) if "value" in form.errors and said else ""
    wanted = form.wanted
    try:
        refuse_bad_dates(wanted.starts_at, wanted.ends_at, now=form.now)
    except BadOverride as refused:
        return None, refused.messages[0]
    return outlook(customer, wanted, now=form.now), ""


def preview(request: HttpRequest, key: str) -> HttpResponse:
    """The sentence for what has been typed so far."""
    require_giving(request)
    customer = find_customer(key)
    form = OverrideForm(request.GET, **form_kwargs(request, customer))
    return TemplateResponse(request, "overrides/outcome.html", outcome(request, form, customer))


# Revoke ---------------------------------------------------------------------------------------------------------------


class RevokeForm(forms.Form):
    reason = forms.CharField(label="Reason", max_length=500, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class RevokeOverride(ActPage):
    form_class = RevokeForm
    submit = "Revoke override"
    danger = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require_giving(request, ends=self.override.effective_until is not None)
        return super().dispatch(request, *args, **kwargs)

    @cached_property
    def override(self) -> FeatureOverride:
        rows = FeatureOverride.objects.select_related("customer", "feature", "subscription__product")
        found = rows.filter(public_id=self.kwargs["public_id"]).first()
        if found is None:
            raise Http404("There is no such override.")
        return found

    def get_title(self) -> str:
        row = self.override
        where = f" on {row.subscription.product.name}" if row.subscription else ""
        return f"Revoke {row.feature.name}: {words_of(row)}{where}"

    def get_outcome(self) -> str:
        if self.override.state(moment(self.request)) == "scheduled":
            return "It will not begin. The row stays, with who revoked it and why."
        return "It stops at once and what the plan gives holds again. What it covered of the use so far stays covered."

    def back(self) -> str:
        return customer_link(self.override.customer_id)

    def trail(self) -> list[tuple[str, str]]:
        customer = self.override.customer
        return [("Customers", link("customers_customer_changelist")), (customer.name, self.back()), (self.submit, "")]

    def act(self, form: RevokeForm) -> str:
        actor = Actor.of(self.request.user)
        revoke(self.override, reason=form.cleaned_data["reason"], actor=actor, now=moment(self.request))
        messages.success(self.request, f"The override of {self.override.feature.name} is revoked.")
        return self.back()


page("overrides/give/<str:key>/", name="override_give")(GiveOverride.as_view())
page("overrides/give/<str:key>/preview/", name="override_preview", methods=("GET",))(preview)
page("overrides/<str:public_id>/revoke/", name="override_revoke")(RevokeOverride.as_view())
