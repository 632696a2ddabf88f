"""Meters: list, new, edit, archive, restore."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from unfold.decorators import display

from billing_admin.access import allowed, require
from billing_admin.admin.catalog import ArchivedFilter, DeskAdmin
from billing_admin.flows import meters as acts
from billing_admin.pages import ActPage
from billing_admin.templatetags.desk import state
from catalog.models import Meter, unique_key
from customers.journal import Actor
from entitlements.meters import Aggregation

WORDS = {
    Aggregation.SUM: "Sum",
    Aggregation.COUNT: "Number of events",
    Aggregation.MAX: "Largest value",
    Aggregation.UNIQUE_COUNT: "Different values",
    Aggregation.LATEST: "Latest value",
    Aggregation.TIME_AVERAGE: "Average over time",
}
EXAMPLES = {Aggregation.UNIQUE_COUNT: "user-7", Aggregation.TIME_AVERAGE: 12.5}


class FiltersField(forms.CharField):
    """One filter a line: `model = large, huge`."""

    def __init__(self, **more: Any) -> None:
        super().__init__(
            required=False,
            widget=forms.Textarea(attrs={"rows": 3, "placeholder": "model = large, huge"}),
            help_text="One property a line with the values that count. All lines have to match; empty: every event.",
            **more,
        )

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return "\n".join(f"{name} = {', '.join(values)}" for name, values in value.items())
        return value

    def clean(self, value: Any) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for number, line in enumerate((value or "").splitlines(), 1):
            if not line.strip():
                continue
            name, equals, texts = line.partition("=")
            values = [text.strip() for text in texts.split(",") if text.strip()]
            if not equals or not name.strip() or not values:
                raise forms.ValidationError(f"Line {number} is not of the form: property = value, value.")
            found[name.strip()] = values
        return found


class MeterForm(forms.ModelForm):
    slug = forms.CharField(
        label="Slug", max_length=60, required=False, help_text="What the API calls it. Empty: made from the name."
    )
    filters = FiltersField()

    class Meta:
        model = Meter
        fields = ("name", "slug", "event_name", "aggregation", "property", "filters")
        labels = {"event_name": "Event name", "aggregation": "What counts"}
        help_texts = {
            "event_name": "The events it reads: the eventName that your application sends.",
            "property": "Where the value stands in the event's properties. Empty: the event's own value.",
            "aggregation": "What is made of the values of one window.",
        }

    def __init__(self, *args: Any, is_fixed: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            self.fields["name"].widget.attrs["autofocus"] = True
        if is_fixed:
            for name in ("slug", *acts.RULE):
                self.fields[name].disabled = True
            self.fields["slug"].help_text = "What the API calls it."
            self.fields["event_name"].help_text = "Fixed: it has counted events. Another rule is another meter."

    def clean_slug(self) -> str:
        return self.cleaned_data["slug"] or unique_key(Meter, self.cleaned_data.get("name", ""), "slug")


class MeterPage(ActPage):
    """A form for one meter."""

    form_class: type[forms.BaseForm] = MeterForm
    meter: Meter | None = None

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if "pk" in kwargs:
            self.meter = get_object_or_404(Meter, pk=kwargs["pk"])

    def back(self) -> str:
        return reverse("admin:catalog_meter_changelist")

    def trail(self) -> list[tuple[str, str]]:
        return [("Meters", self.back()), (self.get_title(), "")]

    @property
    def actor(self) -> Actor:
        return Actor.of(self.request.user)


class NewMeter(MeterPage):
    permission = "catalog.add_meter"
    title = "New meter"
    submit = "Create meter"
    outcome = "Choose it on a metered feature, and the feature counts these events."

    def act(self, form: Any) -> str:
        meter = acts.save_meter(form.save(commit=False), actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{meter.name} was created. Choose it on the features that count by it.")
        return reverse("admin:catalog_meter_change", args=[meter.pk])


class EditMeter(MeterPage):
    permission = "catalog.view_meter"
    submit = "Save"
    page_template = "catalog/meter.html"

    def get_title(self) -> str:
        return str(self.meter)

    def get_form_kwargs(self) -> dict[str, Any]:
        assert self.meter
        own = Meter.objects.get(pk=self.meter.pk)
        return super().get_form_kwargs() | {"instance": own, "is_fixed": acts.has_counted(own)}

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        if not self.may_change:
            for field in form.fields.values():
                field.disabled = True
        return form

    @property
    def may_change(self) -> bool:
        return allowed(self.request, "catalog.change_meter")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require(request, "catalog.change_meter")
        return super().post(request, *args, **kwargs)

    def act(self, form: Any) -> str:
        meter = acts.save_meter(form.save(commit=False), actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{meter.name} was saved.")
        return self.request.path

    def extra(self) -> dict[str, Any]:
        assert self.meter
        return {
            "meter": self.meter,
            "features": self.meter.features.order_by("name"),
            "may_change": self.may_change,
            "example": json.dumps(example(self.meter), indent=2),
        }


def example(meter: Meter) -> dict[str, Any]:
    """An event that this meter counts."""
    properties: dict[str, Any] = {name: values[0] for name, values in meter.filters.items()}
    event: dict[str, Any] = {"customerId": "acme", "eventName": meter.event_name}
    value = EXAMPLES.get(Aggregation(meter.aggregation), 3)
    if meter.property:
        properties[meter.property] = value
    elif meter.aggregation != Aggregation.COUNT:
        event["value"] = value
    return event | ({"properties": properties} if properties else {}) | {"eventKey": "job-4711"}


class ArchiveMeter(MeterPage):
    permission = "catalog.change_meter"
    form_class = forms.Form
    outcome = "Its events are no longer read. What was counted stays."

    def get_title(self) -> str:
        return f"Archive {self.meter}"

    def act(self, form: Any) -> str:
        assert self.meter
        acts.archive_meter(self.meter, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.meter} was archived.")
        return self.back()


class RestoreMeter(MeterPage):
    permission = "catalog.change_meter"
    form_class = forms.Form
    outcome = "Features can count by it again."

    def get_title(self) -> str:
        return f"Restore {self.meter}"

    def act(self, form: Any) -> str:
        assert self.meter
        acts.restore_meter(self.meter, actor=self.actor, now=self.request.now)
        messages.success(self.request, f"{self.meter} can be chosen again.")
        return reverse("admin:catalog_meter_change", args=[self.meter.pk])


@admin.register(Meter)
class MeterAdmin(DeskAdmin):
    list_display = ("named", "event_name", "rule", "used_by", "state")
    list_filter = ("aggregation", ArchivedFilter)
    search_fields = ("name", "slug", "event_name")
    search_help_text = "Name, slug or event"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Meter]":
        meters: QuerySet[Meter] = super().get_queryset(request)
        return meters.annotate(using=Count("features"))

    @display(description="Name", ordering="name")
    def named(self, meter: Meter) -> str:
        return meter.name

    @display(description="What counts", ordering="aggregation")
    def rule(self, meter: Meter) -> str:
        return f"{WORDS[Aggregation(meter.aggregation)]}{f' of {meter.property}' if meter.property else ''}"

    @display(description="Features", ordering="using")
    def used_by(self, meter: Any) -> str:
        return str(meter.using) if meter.using else "—"

    @display(description="State")
    def state(self, meter: Meter) -> str:
        return state("archived") if meter.archived_at else state("active", "Reads events")

    def get_urls(self) -> list[URLPattern]:
        own = [
            self.page("<int:pk>/archive/", ArchiveMeter.as_view(), "meter_archive"),
            self.page("<int:pk>/restore/", RestoreMeter.as_view(), "meter_restore"),
        ]
        return own + list(super().get_urls())

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return NewMeter.as_view()(request)

    def change_view(self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        return EditMeter.as_view()(request, pk=self.found(object_id).pk)
