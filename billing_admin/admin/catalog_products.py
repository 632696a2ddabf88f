"""Products: created with only a name; a product's page lists its plans."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse

from billing_admin.access import allowed, require
from billing_admin.flows import catalog as acts
from billing_admin.middleware import DeskRequest
from billing_admin.pages import ActPage, render_page
from billing_admin.plan_page import customers_by_plan
from catalog.models import Plan, PlanVersion, Product, read_terms
from catalog.periods import PLAN_CADENCES
from customers.journal import Actor


class NewProductForm(forms.Form):
    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autofocus": True}))


class NewProduct(ActPage):
    permission = "catalog.add_product"
    title = "New Product"
    submit = "Create"
    outcome = "Its plan is assigned by hand or API and never invoiced. Next you say what it gives access to."
    form_class = NewProductForm

    def back(self) -> str:
        return reverse("admin:catalog_product_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Products", self.back()), (self.title, "")]

    def act(self, form: Any) -> str:
        actor = Actor.of(self.request.user)
        plan = acts.create_product(form.cleaned_data["name"], actor=actor, now=self.request.now)
        messages.success(self.request, f"{plan.product.name} was created. Say what it gives access to.")
        return reverse("admin:catalog_plan_edit", args=[plan.pk])


class ProductForm(forms.ModelForm):
    class Meta:
        model = Product
        fields = ("name", "description")
        widgets = {"description": forms.Textarea(attrs={"rows": 2})}


class EditProduct(ActPage):
    permission = "catalog.change_product"
    submit = "Save"
    form_class = ProductForm

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.product = get_object_or_404(Product, pk=kwargs["pk"])

    def get_title(self) -> str:
        return f"Edit {self.product.name}"

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"instance": Product.objects.get(pk=self.product.pk)}

    def back(self) -> str:
        return reverse("admin:catalog_product_change", args=[self.product.pk])

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Products", reverse("admin:catalog_product_changelist")),
            (self.product.name, self.back()),
            ("Edit", ""),
        ]

    def act(self, form: Any) -> str:
        said = form.cleaned_data
        acts.edit_product(
            self.product,
            name=said["name"],
            description=said["description"],
            actor=Actor.of(self.request.user),
            now=self.request.now,
        )
        return self.back()


class NewPlanForm(forms.Form):
    product = forms.ModelChoiceField(Product.objects.offered(), empty_label="Choose a product")
    name = forms.CharField(label="Name", max_length=120, help_text="Internal: what staff call it.")
    invoice_display_name = forms.CharField(
        label="Invoice display name", max_length=120, help_text="What customers read on invoices."
    )
    kind = forms.ChoiceField(
        label="Kind",
        widget=forms.RadioSelect,
        initial=Plan.Kind.BILLED,
        choices=[
            (Plan.Kind.BILLED, "Billed: we invoice it"),
            (Plan.Kind.ASSIGNED, "Assigned: by hand or API, never invoiced"),
        ],
    )
    add_on = forms.BooleanField(label="Add-on: stands beside the product's main plan", required=False)
    currency = forms.ChoiceField(label="Currency", choices=lambda: [(c, c) for c in settings.CURRENCIES])
    cadence = forms.ChoiceField(
        label="Cadence",
        choices=[(code, f"{code} · {word}") for code, word in PLAN_CADENCES.items()],
        help_text="How long a billing period is.",
    )
    billing_version = forms.TypedChoiceField(
        label="Billing version",
        coerce=int,
        initial=1,
        choices=[(1, "1: allowances, and a first invoice that opens the door"), (0, "0: legacy")],
        help_text="0 is legacy: no allowances, no first invoice as a gate. Choose it only for contracts that need it.",
    )


class NewPlan(ActPage):
    permission = "catalog.add_plan"
    title = "New plan"
    submit = "Create plan"
    form_class = NewPlanForm

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        wanted = request.GET.get("product", "")
        self.product = Product.objects.filter(pk=wanted if wanted.isdecimal() else 0).first()

    def get_initial(self) -> dict[str, Any]:
        return {"product": self.product}

    def back(self) -> str:
        if self.product:
            return reverse("admin:catalog_product_change", args=[self.product.pk])
        return reverse("admin:catalog_plan_changelist")

    def trail(self) -> list[tuple[str, str]]:
        if self.product:
            return [
                ("Products", reverse("admin:catalog_product_changelist")),
                (self.product.name, self.back()),
                (self.title, ""),
            ]
        return [("Plans", self.back()), (self.title, "")]

    def act(self, form: Any) -> str:
        said = dict(form.cleaned_data)
        product = said.pop("product")
        plan = acts.create_plan(product, **said, actor=Actor.of(self.request.user), now=self.request.now)
        messages.success(self.request, f"{plan.name} was created with an empty draft. Add its items, then publish.")
        return reverse("admin:catalog_plan_edit", args=[plan.pk])


def product_page(request: DeskRequest, product: Product) -> HttpResponse:
    require(request, "catalog.view_product")
    plans = list(product.plans.select_related("current_version").order_by("add_on", "archived_at", "name"))
    counts = customers_by_plan(plans, now=request.now)
    versions = PlanVersion.objects.with_items().filter(pk__in=[p.current_version_id for p in plans])
    terms = {v.plan_id: read_terms(v) for v in versions}
    drafts = PlanVersion.objects.standard().filter(plan__in=plans, state=PlanVersion.State.DRAFT)
    drafted = dict(drafts.values_list("plan_id", "number"))
    rows: list[dict[str, Any]] = [
        {
            "plan": plan,
            "customers": counts.get(plan.pk, 0),
            "terms": terms.get(plan.pk),
            "prices": [i.describe_price(plan.currency) for i in terms[plan.pk].fees] if plan.pk in terms else [],
            "draft": drafted.get(plan.pk),
        }
        for plan in plans
    ]
    groups = [
        ("Plans", "A customer has one of these at a time.", [r for r in rows if not r["plan"].add_on]),
        ("Add-ons", "They stand beside the plan and end with it.", [r for r in rows if r["plan"].add_on]),
    ]
    return render_page(
        request,
        "catalog/product.html",
        trail=[("Products", reverse("admin:catalog_product_changelist")), (product.name, "")],
        product=product,
        groups=groups,
        features=product.own_features.offered(),
        may_add=allowed(request, "catalog.add_plan"),
        may_change=allowed(request, "catalog.change_product"),
    )
