"""What the pages of events are narrowed to."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from billing_admin.event_search import LONGEST, PROPERTY, Search, parse_property
from billing_admin.typed import in_calendar
from catalog.models import Feature

DAY = timedelta(days=1)
EVENTS, UNITS = "events", "units"


class EventForm(forms.Form):
    """What the page is narrowed to; lives in the address."""

    q = forms.CharField(
        required=False,
        max_length=255,
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Event id, key, or a property's value"}),
    )
    feature = forms.ModelChoiceField(
        Feature.objects.none(),
        required=False,
        to_field_name="slug",
        empty_label="Every feature",
        widget=forms.Select(attrs={"data-go": "", "aria-label": "Feature"}),
    )
    voided = forms.ChoiceField(
        required=False,
        choices=[("", "Voided or not"), ("no", "Not voided"), ("yes", "Voided")],
        widget=forms.Select(attrs={"data-go": "", "aria-label": "Voided"}),
    )
    name = forms.CharField(
        required=False, max_length=120, label="Name", widget=forms.TextInput(attrs={"placeholder": "Any", "size": 12})
    )
    property = forms.CharField(
        required=False,
        max_length=400,
        label="Property",
        widget=forms.TextInput(attrs={"placeholder": "model=large", "size": 14, "list": "event-properties"}),
    )
    since = forms.DateField(
        required=False, validators=[in_calendar], widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    until = forms.DateField(
        required=False, validators=[in_calendar], widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    # Below the filters, on the chart:
    by = forms.CharField(required=False, max_length=60)
    show = forms.ChoiceField(required=False, choices=[(EVENTS, "Events"), (UNITS, "Units")])

    def __init__(self, asked: QueryDict, *, features: Iterable[Feature] | None, today: date, days: int) -> None:
        if not asked.get("since") and not asked.get("until"):
            asked = asked.copy()
            asked["since"], asked["until"] = (today - timedelta(days=days - 1)).isoformat(), today.isoformat()
        super().__init__(asked)
        self.today, self.days = today, days
        if features is None:
            del self.fields["feature"]
        else:
            self.fields["feature"].queryset = features  # type: ignore[attr-defined]

    def clean_property(self) -> tuple[str, str] | None:
        text = self.cleaned_data["property"]
        return parse_property(text) if text else None

    def clean_by(self) -> str:
        name: str = self.cleaned_data["by"].strip()
        if name and not PROPERTY.fullmatch(name):
            raise ValidationError("This cannot be the name of a property.")
        return name

    def clean(self) -> dict[str, Any]:
        said: dict[str, Any] = super().clean() or {}
        until = said.get("until") or (self.today if said.get("since") is None else self._latest(said["since"]))
        since = said.get("since") or until - timedelta(days=self.days - 1)
        if since > until:
            self.add_error("until", "This is before the first day.")
        elif until - since >= LONGEST:
            self.add_error("until", f"Choose {LONGEST.days} days at most.")
        return said | {"since": since, "until": until}

    def _latest(self, since: date) -> date:
        return max(since, min(self.today, since + LONGEST - DAY))

    def controls(self) -> list[forms.BoundField]:
        """The fields that stand above the list."""
        return [field for field in self if field.name not in ("by", "show")]

    def search(self, **of: Any) -> Search:
        """What was asked for. The form is valid."""
        said = self.cleaned_data
        return Search(
            since=_begins(said["since"]),
            until=_begins(said["until"] + DAY),
            words=said["q"].strip(),
            name=said["name"],
            property=said["property"],
            voided={"yes": True, "no": False}.get(said["voided"]),
            **{"feature": said.get("feature")} | of,
        )


def _begins(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
