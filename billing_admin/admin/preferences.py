"""How the desk looks to one person: in which time zone it says its instants."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.urls import reverse

from billing_admin.display import KEY, choose_zone, zone_names
from billing_admin.pages import ActPage
from billing_admin.site import page


class ZoneForm(forms.Form):
    time_zone = forms.ChoiceField(
        label="Time zone",
        required=False,
        help_text="Instants are shown in it, with the exact UTC instant when you point at them. "
        "Dates that you type, and the days on which we bill, are always UTC.",
    )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["time_zone"].choices = [("", "UTC"), *((n, n.replace("_", " ")) for n in zone_names())]  # type: ignore[attr-defined]


class Preferences(ActPage):
    """Everybody's own, so it takes no permission."""

    form_class = ZoneForm
    title = "Preferences"
    submit = "Save preferences"

    def back(self) -> str:
        return reverse("admin:index")

    def trail(self) -> list[tuple[str, str]]:
        return [("Home", self.back()), (self.get_title(), "")]

    def get_initial(self) -> dict[str, Any]:
        return {"time_zone": self.request.session.get(KEY, "")}

    def act(self, form: Any) -> str:
        name = form.cleaned_data["time_zone"]
        assert isinstance(self.request.user, User)
        choose_zone(self.request, self.request.user, name)
        messages.success(self.request, f"Instants are shown in {name.replace('_', ' ') or 'UTC'} now.")
        return reverse("admin:preferences")


page("preferences/", name="preferences")(Preferences.as_view())
