"""Pause and resume the collection of one subscription: dialogs, or pages of their own."""

from datetime import UTC, datetime, time

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError

from billing_admin.admin.cancel import SubscriptionAct
from billing_admin.flows.collection import pause, resume
from billing_admin.site import page
from customers.models import Subscription

PAUSE = "customers.pause_collection"
Behavior = Subscription.WhilePaused


class PauseForm(forms.Form):
    behavior = forms.ChoiceField(
        label="Invoices that become due meanwhile",
        choices=[
            (Behavior.KEEP_AS_DRAFT, "Stay drafts until somebody issues them"),
            (Behavior.VOID, "Are void: nothing is owed for that time"),
            (Behavior.MARK_UNCOLLECTIBLE, "Are marked as uncollectible"),
        ],
        initial=Behavior.KEEP_AS_DRAFT,
        widget=forms.RadioSelect,
    )
    resumes_on = forms.DateField(
        label="Resumes on",
        required=False,
        help_text="As that day begins (UTC). Empty: until somebody resumes it.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown in the history and wherever the effect shows.",
        error_messages={"required": "Give a reason for pausing collection; it is shown wherever the effect shows."},
    )

    @property
    def resumes_at(self) -> datetime | None:
        on = self.cleaned_data["resumes_on"]
        return datetime.combine(on, time(), UTC) if on else None


class PausePage(SubscriptionAct):
    permission = PAUSE
    form_class = PauseForm
    submit = "Pause collection"
    outcome = "The plan and its access go on. Nobody is reminded meanwhile; the days of reminders count from the end."

    def get_title(self) -> str:
        return f"Pause collection for {self.plan_name}"

    def act(self, form: PauseForm) -> str:
        try:
            pause(
                self.subscription,
                behavior=form.cleaned_data["behavior"],
                resumes_at=form.resumes_at,
                reason=form.cleaned_data["reason"],
                actor=self.actor,
                now=self.now,
            )
        except ValidationError as refused:
            if refused.code == "resumes_in_the_past":
                raise ValidationError({"resumes_on": refused}) from refused
            raise
        until = f" until {form.resumes_at:%-d %b %Y}" if form.resumes_at else ""
        messages.success(self.request, f"Collection for {self.plan_name} is paused{until}.")
        return self.back()


class ResumeForm(forms.Form):
    reason = forms.CharField(required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2}))


class ResumePage(SubscriptionAct):
    permission = PAUSE
    form_class = ResumeForm
    submit = "Resume collection"
    outcome = "Invoices are asked for again. Drafts that were kept meanwhile wait until somebody issues them."

    def get_title(self) -> str:
        return f"Resume collection for {self.plan_name}"

    def act(self, form: ResumeForm) -> str:
        resume(self.subscription, reason=form.cleaned_data["reason"], actor=self.actor, now=self.now)
        messages.success(self.request, f"Collection for {self.plan_name} goes on.")
        return self.back()


page("subscriptions/<str:public_id>/collection/pause/", name="pause_collection")(PausePage.as_view())
page("subscriptions/<str:public_id>/collection/resume/", name="resume_collection")(ResumePage.as_view())
