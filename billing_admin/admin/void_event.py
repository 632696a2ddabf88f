"""The dialog that voids one event of a customer."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest

from billing_admin.admin.acts import CustomerAct, moment
from billing_admin.admin.links import link
from billing_admin.flows.void_use import void_use
from billing_admin.site import page
from catalog.money import grouped
from entitlements.models import UsageEvent

TEXT = {"autocomplete": "off", "autofocus": True}


class VoidForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        help_text="Shown with the event and in the customer's history.",
        widget=forms.TextInput(attrs=TEXT),
    )


class VoidEvent(CustomerAct):
    permission = "entitlements.void_usageevent"
    form_class = VoidForm
    title = "Void this event"
    submit = "Void event"
    danger = True

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.event_id = kwargs["event_id"]

    def rows(self) -> list[UsageEvent]:
        """The event, as each feature counted it."""
        rows = UsageEvent.objects.filter(public_id=self.event_id, customer=self.customer)
        found = list(rows.select_related("feature").order_by("feature_id"))
        if not found:
            raise Http404("This customer has no such event.")
        return found

    def get_outcome(self) -> str:
        rows = self.rows()
        if rows[0].voided_at is not None:
            return "It was voided already, and nothing more will happen."
        units = ", ".join(f"{grouped(row.taken)} {row.feature.name}" for row in rows)
        meters = " Their windows are counted anew." if any(row.name for row in rows) else ""
        return f"{units} of {rows[0].at:%-d %b %Y} go back to the balances that gave them.{meters}"

    def act(self, form: Any) -> str:
        event = self.rows()[0]
        void_use(event, reason=form.cleaned_data["reason"], actor=self.actor, now=moment(self.request))
        messages.success(self.request, "The event was voided. What it took was given back.")
        return self.back()

    def back(self) -> str:
        return link("customer_events", self.customer.pk)


page("customers/customer/<str:key>/events/<str:event_id>/void/", name="customer_void_event")(VoidEvent.as_view())
