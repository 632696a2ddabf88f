"""The register of all feature overrides: who has which, and what needs a look."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Exists, F, Min, OuterRef, Q
from django.db.models.functions import Floor
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from billing_admin.access import allowed, requires
from billing_admin.admin.acts import find_customer, moment
from billing_admin.admin.links import link
from billing_admin.admin.overrides import OverrideRow, may_revoke, override_row
from billing_admin.flows.override_outlook import SAME_ON, WHOLE, planned, words_of
from billing_admin.pages import dress, render_page
from catalog.models import Feature
from customers.holdings import contracts_of_all
from customers.models import Customer
from customers.states import LIVE
from entitlements.models import FeatureOverride, FeatureOverrideQuerySet

VIEW = "entitlements.view_featureoverride"
A_PAGE = 50
SOON = timedelta(days=30)
MOST_GROUPS = 50
SHOWN = {
    "": "In force or scheduled",
    "in_force": "In force",
    "scheduled": "Scheduled",
    "ending": "Ends within 30 days",
    "open": "No end",
    "both": "Both levels",
    "same": "Same on three or more",
    "misfit": "Does not fit its meter",
    "over": "Expired, superseded or revoked",
    "all": "All",
}
# What one override shares with others that are the same.
VALUE = ("feature", "on", "units", "text", "unlimited")


class RegisterFilter(forms.Form):
    """What the register is narrowed to; lives in the URL. `like` names an override: those of the same value."""

    q = forms.CharField(
        required=False,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Customer, as it begins"}),
    )
    shown = forms.ChoiceField(
        required=False, choices=list(SHOWN.items()), widget=forms.Select(attrs={"data-go": "", "aria-label": "Which"})
    )
    feature = forms.ChoiceField(required=False, widget=forms.Select(attrs={"data-go": "", "aria-label": "Feature"}))
    customer = forms.CharField(required=False, max_length=120, widget=forms.HiddenInput)
    batch = forms.CharField(required=False, max_length=24, widget=forms.HiddenInput)
    like = forms.CharField(required=False, max_length=24, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        features = Feature.objects.order_by("name").values_list("slug", "name")
        self.fields["feature"].choices = [("", "Every feature"), *features]  # type: ignore[attr-defined]

    @property
    def said(self) -> dict[str, Any]:
        return self.cleaned_data if self.is_valid() else {}

    def narrowed(self, now: datetime) -> FeatureOverrideQuerySet:
        said = self.said
        rows: FeatureOverrideQuerySet = FeatureOverride.objects.all()
        if words := said.get("q", "").strip():
            rows = rows.filter(customer__in=Customer.objects.matching(words).order_by().values("pk"))
        if said.get("customer"):
            rows = rows.filter(customer=find_customer(said["customer"]))
        if said.get("feature"):
            rows = rows.filter(feature__slug=said["feature"])
        if said.get("batch"):
            rows = rows.filter(batch__public_id=said["batch"])
        if said.get("like"):
            same = FeatureOverride.objects.filter(public_id=said["like"]).values(*VALUE).first()
            rows = rows.filter(**same) if same else rows.none()
        return shown(rows, said.get("shown", ""), now)


def shown(rows: FeatureOverrideQuerySet, which: str, now: datetime) -> FeatureOverrideQuerySet:
    standing = rows.standing(now)
    match which:
        case "all":
            return rows
        case "over":
            return rows.over(now)
        case "in_force":
            return rows.in_force(now)
        case "scheduled":
            return standing.filter(effective_from__gt=now)
        case "ending":
            return standing.filter(stops_at__lte=now + SOON)
        case "open":
            return standing.filter(stops_at=None)
        case "both":
            return at_both_levels(standing, now)
        case "misfit":
            whole = Q(feature__usage=Feature.Usage.ALLOCATED) | Q(feature__meter__aggregation__in=WHOLE)
            return standing.filter(whole, units__isnull=False).exclude(units=Floor("units"))
    return standing


def at_both_levels(rows: FeatureOverrideQuerySet, now: datetime) -> FeatureOverrideQuerySet:
    """Those beside which one of the other level stands."""
    others = FeatureOverride.objects.standing(now).filter(customer=OuterRef("customer"), feature=OuterRef("feature"))
    beneath = Q(subscription=None) & Exists(others.filter(subscription__isnull=False))
    above = Q(subscription__isnull=False) & Exists(others.filter(subscription=None))
    return rows.filter(beneath | above)


def joined(rows: FeatureOverrideQuerySet) -> FeatureOverrideQuerySet:
    return rows.select_related("customer", "feature__meter", "subscription__product", "batch")


def read_rows(rows: Sequence[FeatureOverride], request: HttpRequest) -> list[OverrideRow]:
    """With what their plans give, in two queries however many they are."""
    now, may = moment(request), may_revoke(request)
    contracts = contracts_of_all(list({row.customer_id: row.customer for row in rows}.values()), now) if rows else {}
    return [
        override_row(
            row,
            now=now,
            may=lambda row: row.customer.closed_at is None and may(row),
            instead_of=planned(contracts[row.customer_id], row.feature.terms(), row.subscription_id),
        )
        for row in rows
    ]


@requires(VIEW)
def register(request: HttpRequest) -> HttpResponse:
    """Newest first, by keys instead of pages that have to be counted."""
    now = moment(request)
    form = RegisterFilter(request.GET)
    dress(form)
    if form.said.get("shown") == "same":
        return _grouped(request, form)
    rows, before = form.narrowed(now), request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(joined(rows).order_by("-id")[: A_PAGE + 1])
    asked = request.GET.copy()
    if len(found) > A_PAGE:
        asked["before"] = str(found[A_PAGE - 1].pk)
    return _page(
        request,
        form,
        rows=read_rows(found[:A_PAGE], request),
        older=f"?{asked.urlencode()}" if len(found) > A_PAGE else "",
        first=not before,
    )


def _page(request: HttpRequest, form: RegisterFilter, **context: Any) -> HttpResponse:
    about = form.said
    return render_page(
        request,
        "overrides/register.html",
        trail=[("Overrides", "")],
        form=form,
        narrowed=any(value for name, value in request.GET.items() if name != "before"),
        narrowed_to=[word for word in (_who(about), about.get("batch")) if word],
        many_url=link("override_batch_new") if allowed(request, "entitlements.bulk_override") else "",
        batches_url=link("entitlements_overridebatch_changelist"),
        **context,
    )


def _who(said: dict[str, Any]) -> str:
    return find_customer(said["customer"]).name if said.get("customer") else ""


# The same on three or more --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """One value of one feature that stands on several customers: a plan that nobody has written yet."""

    feature: str
    value: str
    customers: int
    url: str
    plan: str
    plan_url: str


def _grouped(request: HttpRequest, form: RegisterFilter) -> HttpResponse:
    return _page(request, form, groups=read_groups(form.narrowed(moment(request)), request), first=True)


def read_groups(rows: FeatureOverrideQuerySet, request: HttpRequest) -> list[Group]:
    """The widest spread first, in three queries."""
    spread = _spread(rows)
    ones = FeatureOverride.objects.select_related("feature").in_bulk([group["one"] for group in spread])
    plans = plans_of(rows, {row.feature_id for row in ones.values()}, moment(request))
    may_publish = allowed(request, "catalog.change_plan")
    found = []
    for group in spread:
        one = ones[group["one"]]
        plan_id, plan = plans.get(tuple(group[name] for name in VALUE), (0, ""))
        found.append(
            Group(
                feature=one.feature.name,
                value=words_of(one),
                customers=group["customers"],
                url=link("entitlements_featureoverride_changelist", like=one.public_id),
                plan=plan,
                plan_url=link("catalog_plan_edit" if may_publish else "catalog_plan_change", plan_id) if plan else "",
            )
        )
    return found


def _spread(rows: FeatureOverrideQuerySet) -> list[dict[str, Any]]:
    """Values with how many customers have them and the first override of each."""
    counted = rows.order_by().values(*VALUE).annotate(customers=Count("customer", distinct=True), one=Min("id"))
    return list(counted.filter(customers__gte=SAME_ON).order_by("-customers", "one")[:MOST_GROUPS])


def alike(rows: FeatureOverrideQuerySet) -> FeatureOverrideQuerySet:
    """Those behind the groups: of a value that stands on several customers."""
    same = Q(pk__in=[])
    for group in _spread(rows):
        same |= Q(**{name: group[name] for name in VALUE})
    return rows.filter(same)


def plans_of(
    rows: FeatureOverrideQuerySet, features: set[int], now: datetime
) -> dict[tuple[Any, ...], tuple[int, str]]:
    """By value, the plan with its feature that most of the customers are on who have it: its key and its name."""
    phases = "customer__subscriptions__phases"
    held = rows.filter(
        Q(**{f"{phases}__ends_at": None}) | Q(**{f"{phases}__ends_at__gt": now}),
        feature__in=features,
        customer__subscriptions__state__in=LIVE,
        **{
            f"{phases}__withdrawn_at": None,
            f"{phases}__pending_since": None,
            f"{phases}__starts_at__lte": now,
            f"{phases}__version__items__feature": F("feature"),
        },
    )
    counted = held.order_by().values_list(*VALUE, f"{phases}__version__plan", f"{phases}__version__plan__name")
    found = {}
    for *value, plan_id, name, _ in counted.annotate(n=Count("customer", distinct=True)).order_by("n"):
        found[tuple(value)] = (plan_id, name)
    return found


@admin.register(FeatureOverride)
class FeatureOverrideAdmin(ModelAdmin):
    """The frame around the register; overrides are given from the customer's page, or to many at once."""

    def get_urls(self) -> list[URLPattern]:
        inside = self.admin_site.admin_view
        return [path("", inside(register), name="entitlements_featureoverride_changelist")]
