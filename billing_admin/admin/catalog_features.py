"""Features: create, edit, archive, restore; delete only what no plan ever used."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse

from billing_admin.access import allowed, require
from billing_admin.flows import catalog as acts
from billing_admin.pages import ActPage
from catalog.models import Feature, Meter, Plan, unique_key
from customers.journal import Actor

FIXED_ONCE_USED = ("slug", "type", "usage")


class AnyProduct(forms.ModelChoiceField):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs | {"empty_label": "Any plan may use it"})


class AnyMeter(forms.ModelChoiceField):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs | {"empty_label": "Units as they are reported"})


class FeatureForm(forms.ModelForm):
    slug = forms.CharField(
        label="Slug", max_length=60, required=False, help_text="What code asks for. Empty: made from the name."
    )

    class Meta:
        model = Feature
        fields = ("name", "slug", "type", "usage", "unit", "meter", "description", "product")
        labels = {"product": "Reserved for a product", "usage": "How it is used"}
        field_classes = {"product": AnyProduct, "meter": AnyMeter}
        widgets = {"description": forms.Textarea(attrs={"rows": 2})}
        help_texts = {
            "usage": "Metered features only. Consumable is used up and resets; allocated is a level, such as seats.",
            "unit": "One of it, for people: credit, token, seat.",
            "meter": "Metered features only: how events become units of it.",
            "product": "Choose one, and only its plans may use the feature.",
        }

    def __init__(self, *args: Any, is_used: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            self.fields["name"].widget.attrs["autofocus"] = True
        own = Q(archived_at=None) | Q(pk=self.instance.meter_id)
        self.fields["meter"].queryset = Meter.objects.filter(own)  # type: ignore[attr-defined]
        if is_used:
            for name in FIXED_ONCE_USED:
                self.fields[name].disabled = True
            self.fields["slug"].help_text = "Fixed: plans use this feature, and so does code."

    def clean_slug(self) -> str:
        return self.cleaned_data["slug"] or unique_key(Feature, self.cleaned_data.get("name", ""), "slug")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("type") != Feature.Type.METERED:
            cleaned["usage"] = Feature.Usage.CONSUMABLE
            cleaned["meter"] = None
        return cleaned


class FeaturePage(ActPage):
    """A form for one feature, with where it is used beside it."""

    form_class: type[forms.BaseForm] = FeatureForm
    feature: Feature | None = None

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if "pk" in kwargs:
            self.feature = get_object_or_404(Feature, pk=kwargs["pk"])

    def back(self) -> str:
        return reverse("admin:catalog_feature_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Features", self.back()), (self.get_title(), "")]

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request.user)


class NewFeature(FeaturePage):
    permission = "catalog.add_feature"
    title = "New feature"
    submit = "Create feature"

    def act(self, form: Any) -> str:
        feature = acts.save_feature(form.save(commit=False), actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{feature.name} can be put on plans now.")
        return self.back()


class EditFeature(FeaturePage):
    permission = "catalog.view_feature"
    submit = "Save"
    page_template = "catalog/feature.html"

    def get_title(self) -> str:
        return str(self.feature)

    def get_form_kwargs(self) -> dict[str, Any]:
        assert self.feature
        # The form writes into the instance while it validates; the page keeps showing what is stored.
        own = Feature.objects.get(pk=self.feature.pk)
        return super().get_form_kwargs() | {"instance": own, "is_used": self.feature.items.exists()}

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        if not self.may_change:
            for field in form.fields.values():
                field.disabled = True
        return form

    @property
    def may_change(self) -> bool:
        return allowed(self.request, "catalog.change_feature")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require(request, "catalog.change_feature")
        return super().post(request, *args, **kwargs)

    def act(self, form: Any) -> str:
        feature = acts.save_feature(form.save(commit=False), actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{feature.name} was saved.")
        return self.request.path

    def extra(self) -> dict[str, Any]:
        assert self.feature
        plans = Plan.objects.filter(versions__items__feature=self.feature).select_related("product").distinct()
        return {
            "feature": self.feature,
            "plans": plans,
            "may_change": self.may_change,
            "may_delete": allowed(self.request, "catalog.delete_feature"),
        }


class ArchiveFeature(FeaturePage):
    permission = "catalog.change_feature"
    form_class = forms.Form

    def get_title(self) -> str:
        return f"Archive {self.feature}"

    def get_outcome(self) -> str:
        return "New plans and versions cannot use it any more. Plans that have it keep it, and code may go on asking."

    def act(self, form: Any) -> str:
        assert self.feature
        acts.archive_feature(self.feature, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.feature} was archived.")
        return self.back()


class RestoreFeature(FeaturePage):
    permission = "catalog.change_feature"
    form_class = forms.Form

    def get_title(self) -> str:
        return f"Restore {self.feature}"

    def get_outcome(self) -> str:
        return "Plans can use it again."

    def act(self, form: Any) -> str:
        assert self.feature
        acts.restore_feature(self.feature, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.feature} can be put on plans again.")
        return reverse("admin:catalog_feature_change", args=[self.feature.pk])


class DeleteFeature(FeaturePage):
    permission = "catalog.delete_feature"
    form_class = forms.Form
    danger = True

    def get_title(self) -> str:
        return f"Delete {self.feature}"

    def get_outcome(self) -> str:
        return "No plan uses it, so nothing else changes. Its slug is free again."

    def act(self, form: Any) -> str:
        assert self.feature
        name = self.feature.name
        acts.delete_feature(self.feature, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{name} was deleted.")
        return self.back()
