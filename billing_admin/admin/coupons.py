"""Coupons that we give out: the list, a page for each with its promo codes and who has it, and their acts."""

from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from unfold.decorators import display

from billing_admin.access import allowed, require
from billing_admin.admin.acts import moment
from billing_admin.admin.catalog import ArchivedFilter, DeskAdmin
from billing_admin.admin.links import customer_link
from billing_admin.flows import coupon_book as acts
from billing_admin.pages import ActPage
from billing_admin.reward_rows import reward_rows
from billing_admin.templatetags.desk import state
from catalog.coupons import GIVES, OF_A_KIND, CouponDraft, draft_of, gives, lasts
from catalog.models import Coupon, Feature, Plan, PromoCode
from catalog.money import plain, to_major, to_minor
from catalog.terms import METERED
from customers.journal import Actor
from customers.models import AppliedCoupon

VIEW = "catalog.view_coupon"
SHOWN = 20
NEEDED = ("percent", "amount", "currency", "duration", "periods", "free_plan", "feature", "units")
OFF = {"autocomplete": "off"}
WHEN = {"type": "datetime-local"}


def moment_field(label: str, help_text: str) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs=WHEN, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, required=False, help_text=help_text, widget=widget)


class CouponForm(forms.Form):
    """Every field of every kind; the page shows those of the chosen one, and only those count."""

    name = forms.CharField(
        max_length=120, widget=forms.TextInput(attrs=OFF), help_text="Customers read it on invoices."
    )
    code = forms.CharField(
        required=False,
        max_length=60,
        widget=forms.TextInput(attrs={**OFF, "spellcheck": "false"}),
        help_text="What the API calls it. Empty: made from the name.",
    )
    kind = forms.ChoiceField(
        label="What it gives", choices=Coupon.Kind.choices, initial=Coupon.Kind.PERCENT, widget=forms.RadioSelect
    )
    percent = forms.DecimalField(
        label="Percent", required=False, widget=forms.TextInput(attrs={"inputmode": "decimal", **OFF})
    )
    amount = forms.DecimalField(
        label="Amount", required=False, widget=forms.TextInput(attrs={"inputmode": "decimal", **OFF})
    )
    currency = forms.ChoiceField(required=False)
    duration = forms.ChoiceField(
        label="For how long", required=False, choices=Coupon.Duration.choices, initial=Coupon.Duration.ONCE
    )
    periods = forms.IntegerField(label="Billing periods", required=False)
    free_plan = forms.ModelChoiceField(
        label="Which plan",
        required=False,
        queryset=Plan.objects.none(),
        help_text="An assigned plan, given without a price.",
    )
    feature = forms.ModelChoiceField(label="Of which feature", required=False, queryset=Feature.objects.none())
    units = forms.DecimalField(
        label="Units", required=False, widget=forms.TextInput(attrs={"inputmode": "decimal", **OFF})
    )
    lasts_days = forms.IntegerField(label="Days it lasts", required=False, help_text="Empty: without end.")
    plans = forms.ModelMultipleChoiceField(
        label="Only for these plans",
        required=False,
        queryset=Plan.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: for every plan.",
    )
    item_keys = forms.CharField(
        label="Only these items",
        required=False,
        widget=forms.TextInput(attrs={**OFF, "spellcheck": "false"}),
        help_text="Keys of plan items, with commas between. Empty: everything on the invoice.",
    )
    max_redemptions = forms.IntegerField(label="How often", required=False, help_text="Empty: without limit.")
    redeem_by = moment_field("Redeem by (UTC)", "Empty: without end.")
    first_time_only = forms.BooleanField(label="Only for customers who never paid an invoice", required=False)

    def __init__(self, *args: Any, coupon: Coupon | None = None, may_change: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        currencies = [(code, code) for code in settings.CURRENCIES]
        self.fields["currency"].choices = currencies  # type: ignore[attr-defined]
        offered = Plan.objects.filter(archived_at=None, is_default=False, current_version__isnull=False)
        given = offered.filter(kind=Plan.Kind.ASSIGNED)
        self._choose("plans", offered.exclude(kind=Plan.Kind.ASSIGNED), coupon.plans.all() if coupon else None)
        self._choose("free_plan", given, _own(Plan, coupon and coupon.free_plan_id))
        features = Feature.objects.offered().filter(type=METERED)
        self._choose("feature", features, _own(Feature, coupon and coupon.feature_id))
        if coupon is None:
            self.fields["name"].widget.attrs["autofocus"] = True
        elif acts.is_held(coupon):
            for name in ("kind", *OF_A_KIND):
                self.fields[name].disabled = True
        if not may_change:
            for field in self.fields.values():
                field.disabled = True
        if not self.is_bound:
            self._mark_needed()

    def full_clean(self) -> None:
        """Which fields are needed depends on the kind, so the catalog says it; to people they are no options."""
        super().full_clean()
        self._mark_needed()

    def _mark_needed(self) -> None:
        for name in NEEDED:
            self.fields[name].required = True

    def _choose(self, name: str, rows: "QuerySet[Any]", present: "QuerySet[Any] | None") -> None:
        """What is offered, with what the coupon has already."""
        field: Any = self.fields[name]
        field.queryset = rows if present is None else (rows | present).distinct()
        if rows.model is Plan:
            field.queryset = field.queryset.select_related("product")
        field.label_from_instance = lambda row: row.title if isinstance(row, Plan) else row.name

    def draft(self) -> CouponDraft:
        """What was asked for, without the fields that do not go with its kind."""
        said = dict(self.cleaned_data)
        wanted = GIVES[said["kind"]]
        for name in OF_A_KIND:
            if name not in wanted:
                said[name] = "" if name in ("currency", "duration") else () if name == "item_keys" else None
        if said["duration"] != Coupon.Duration.REPEATING:
            said["periods"] = None
        if said["amount"] is not None:
            said["amount"] = to_minor(said["amount"], said["currency"])
        keys = said["item_keys"] or ""
        said["item_keys"] = tuple(key.strip() for key in keys.split(",") if key.strip())
        said["plans"] = tuple(said["plans"])
        return CouponDraft(**said)


def _own(model: Any, pk: Any) -> "QuerySet[Any] | None":
    return None if pk is None else model.objects.filter(pk=pk)


def initial_of(coupon: Coupon) -> dict[str, Any]:
    draft = draft_of(coupon)
    found = {name: getattr(draft, name) for name in CouponForm.base_fields}
    numbers = {name: plain(found[name]) for name in ("percent", "units") if found[name] is not None}
    amount = {"amount": plain(to_major(coupon.amount, coupon.currency))} if coupon.amount is not None else {}
    keys = {"item_keys": ", ".join(draft.item_keys), "plans": [plan.pk for plan in draft.plans]}
    return found | numbers | amount | keys


def is_over(until: datetime | None, now: datetime) -> bool:
    return until is not None and until <= now


def coupon_state(coupon: Coupon, *, times: int, expired: bool) -> str:
    """Whether somebody can still get it, as a dot and a word."""
    if coupon.archived_at is not None:
        return state("archived")
    if expired:
        return state("off", "Expired")
    if coupon.max_redemptions is not None and times >= coupon.max_redemptions:
        return state("off", "Used up")
    return state("active", "Offered")


def promo_state(promo: Any, now: datetime) -> str:
    """The same of a promo code that knows how many `times` it was redeemed."""
    if not promo.is_active:
        return state("off", "Switched off")
    if is_over(promo.expires_at, now):
        return state("off", "Expired")
    if promo.max_redemptions is not None and promo.times >= promo.max_redemptions:
        return state("off", "Used up")
    return state("active", "Offered")


# Pages ----------------------------------------------------------------------------------------------------------------


class CouponPage(ActPage):
    form_class: type[forms.BaseForm] = CouponForm
    coupon: Coupon | None = None

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if "pk" in kwargs:
            rows = Coupon.objects.select_related("free_plan__product", "feature")
            self.coupon = get_object_or_404(rows, pk=kwargs["pk"])

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request.user)

    @property
    def own(self) -> Coupon:
        assert self.coupon is not None
        return self.coupon

    def back(self) -> str:
        return reverse("admin:catalog_coupon_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Coupons", self.back()), (self.get_title(), "")]

    def its_page(self) -> str:
        return reverse("admin:catalog_coupon_change", args=[self.own.pk])


class NewCoupon(CouponPage):
    permission = "catalog.add_coupon"
    title = "New coupon"
    submit = "Create coupon"
    fields_template = "catalog/coupon_fields.html"

    def act(self, form: Any) -> str:
        self.coupon = acts.make_coupon(form.draft(), actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.coupon.name} can be given to customers now.")
        return self.its_page()


class EditCoupon(CouponPage):
    permission = VIEW
    submit = "Save"
    page_template = "catalog/coupon.html"
    fields_template = "catalog/coupon_fields.html"

    def get_title(self) -> str:
        return self.own.name

    def get_initial(self) -> dict[str, Any]:
        return initial_of(self.own)

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"coupon": self.own, "may_change": self.may_change}

    @property
    def may_change(self) -> bool:
        return allowed(self.request, "catalog.change_coupon")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require(request, "catalog.change_coupon")
        return super().post(request, *args, **kwargs)

    def act(self, form: Any) -> str:
        coupon = acts.edit_coupon(self.own, form.draft(), actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{coupon.name} was saved.")
        return self.its_page()

    def extra(self) -> dict[str, Any]:
        applied = AppliedCoupon.objects.filter(coupon=self.own)
        newest = applied.filter(pk__in=list(applied.order_by("-id").values_list("pk", flat=True)[:SHOWN]))
        times = applied.count()
        return {
            "coupon": self.own,
            "gives": gives(self.own),
            "lasts": lasts(self.own),
            "promo_codes": [
                {"row": promo, "state": promo_state(promo, self.request.now)}
                for promo in self.own.promo_codes.annotate(times=Count("applied"))
            ],
            "holders": [
                {"row": row, "url": customer_link(row.applied.customer_id)} for row in reversed(reward_rows(newest))
            ],
            "redemptions": times,
            "export_query": {"coupon": self.own.pk},
            "state": coupon_state(self.own, times=times, expired=is_over(self.own.redeem_by, self.request.now)),
            "may_change": self.may_change,
        }


class ArchiveCoupon(CouponPage):
    permission = "catalog.change_coupon"
    form_class = forms.Form
    outcome = "Nobody gets it any more, nor through its promo codes. Whoever has it keeps it."

    def get_title(self) -> str:
        return f"Archive {self.own}"

    def act(self, form: Any) -> str:
        acts.archive_coupon(self.own, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.own} was archived.")
        return self.back()


class RestoreCoupon(CouponPage):
    permission = "catalog.change_coupon"
    form_class = forms.Form
    outcome = "Customers can get it again."

    def get_title(self) -> str:
        return f"Restore {self.own}"

    def act(self, form: Any) -> str:
        acts.restore_coupon(self.own, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.own} can be given to customers again.")
        return self.its_page()


class PromoCodeForm(forms.Form):
    code = forms.CharField(
        max_length=40,
        widget=forms.TextInput(attrs={**OFF, "spellcheck": "false", "autofocus": True}),
        help_text="What customers type; upper and lower case are the same.",
    )
    max_redemptions = forms.IntegerField(label="How often", required=False, help_text="Empty: as the coupon allows.")
    expires_at = moment_field("Expires (UTC)", "Empty: with the coupon.")
    first_time_only = forms.BooleanField(label="Only for customers who never paid an invoice", required=False)


class AddPromoCode(CouponPage):
    permission = "catalog.change_coupon"
    form_class = PromoCodeForm
    submit = "Add promo code"

    def get_title(self) -> str:
        return f"Promo code for {self.own}"

    def back(self) -> str:
        return self.its_page()

    def act(self, form: Any) -> str:
        acts.make_promo_code(self.own, **form.cleaned_data, actor=self.actor, now=self.request.now)
        return self.its_page()


class TurnPromoCode(CouponPage):
    permission = "catalog.change_coupon"
    form_class = forms.Form

    @property
    def promo(self) -> PromoCode:
        found: PromoCode | None = self.own.promo_codes.filter(pk=self.kwargs["promo"]).first()
        if found is None:
            raise Http404("There is no such promo code.")
        return found

    def get_title(self) -> str:
        return f"Switch {self.promo} {'off' if self.promo.is_active else 'on'}"

    def get_outcome(self) -> str:
        if self.promo.is_active:
            return "Nobody can redeem it any more. Whoever has its coupon keeps it."
        return "It can be redeemed again."

    def back(self) -> str:
        return self.its_page()

    def act(self, form: Any) -> str:
        acts.turn_promo_code(self.promo, on=not self.promo.is_active, actor=self.actor, now=self.request.now)
        return self.its_page()


@admin.register(Coupon)
class CouponAdmin(DeskAdmin):
    list_display = ("named", "code", "gives_words", "lasts_words", "redeemed", "state_word")
    list_filter = ("kind", ArchivedFilter)
    list_select_related = ("free_plan__product", "feature")
    search_fields = ("name", "code", "promo_codes__code")
    search_help_text = "Name, code or promo code"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Coupon]":
        coupons: QuerySet[Coupon] = super().get_queryset(request)
        expired = ExpressionWrapper(Q(redeem_by__lte=moment(request)), BooleanField(null=True))
        return coupons.annotate(times=Count("applied", distinct=True), expired=expired)

    @display(description="Name", ordering="name")
    def named(self, coupon: Coupon) -> str:
        return coupon.name

    @display(description="Gives")
    def gives_words(self, coupon: Coupon) -> str:
        return gives(coupon)

    @display(description="For")
    def lasts_words(self, coupon: Coupon) -> str:
        return lasts(coupon)

    @display(description="Redeemed", ordering="times")
    def redeemed(self, coupon: Any) -> str:
        return f"{coupon.times:,} of {coupon.max_redemptions:,}" if coupon.max_redemptions else f"{coupon.times:,}"

    @display(description="State")
    def state_word(self, coupon: Any) -> str:
        return coupon_state(coupon, times=coupon.times, expired=bool(coupon.expired))

    def get_urls(self) -> list[URLPattern]:
        own = [
            self.page("<int:pk>/archive/", ArchiveCoupon.as_view(), "coupon_archive"),
            self.page("<int:pk>/restore/", RestoreCoupon.as_view(), "coupon_restore"),
            self.page("<int:pk>/promo-codes/add/", AddPromoCode.as_view(), "coupon_promo_code"),
            self.page("<int:pk>/promo-codes/<int:promo>/turn/", TurnPromoCode.as_view(), "coupon_promo_turn"),
        ]
        return own + list(super().get_urls())

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return NewCoupon.as_view()(request)

    def change_view(self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        return EditCoupon.as_view()(request, pk=self.found(object_id).pk)
