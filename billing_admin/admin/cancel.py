"""Withdraw a scheduled change, cancel a subscription, take a cancellation back: dialogs, or pages of their own."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join

from billing_admin.admin.acts import moment
from billing_admin.admin.enable import ENABLE, permission, said
from billing_admin.admin.links import customer_link, invoice_link, link
from billing_admin.flows.cancel import AlreadyEnded, Cancellation, cancel, preview_cancel, withdraw
from billing_admin.flows.renew import catch_up
from billing_admin.pages import ActPage
from billing_admin.site import page
from catalog.money import format_minor
from customers.holdings import default_contract
from customers.journal import Actor
from customers.models import Phase, Subscription
from customers.switch import NothingScheduled
from invoicing.lines import total

CANCEL = "customers.cancel_subscription"
CYCLE_END, NOW, ON_A_DAY = "cycle_end", "now", "on_a_day"


class SubscriptionAct(ActPage):
    """An act on one subscription; it goes back to the customer's page."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.now = moment(request)
        self.actor = Actor.of(request.user)
        self.subscription = self.read(kwargs["public_id"])
        self.customer = self.subscription.customer

    def read(self, public_id: str) -> Subscription:
        subscriptions = Subscription.objects.select_related("customer").with_phases()
        found: Subscription = get_object_or_404(subscriptions, public_id=public_id)
        return found

    @cached_property
    def phase(self) -> Phase | None:
        """The phase in force, or the last there was."""
        return self.subscription.phase_at(self.now) or next(reversed(self.subscription.kept_phases()), None)

    @property
    def plan_name(self) -> str:
        return self.phase.version.plan.name if self.phase else self.subscription.product.name

    def back(self) -> str:
        return customer_link(self.customer.pk)

    def trail(self) -> list[tuple[str, str]]:
        return [
            ("Customers", link("customers_customer_changelist")),
            (self.customer.name, self.back()),
            (self.get_title(), ""),
        ]

    def leave(self, sentence: str) -> HttpResponse:
        """There is nothing to do here any more: say so where they come from."""
        messages.warning(self.request, sentence)
        if self.is_dialog:
            return HttpResponse(status=204, headers={"HX-Redirect": self.back()})
        return HttpResponseRedirect(self.back())


class WithdrawPage(SubscriptionAct):
    """Take back what is scheduled: a change of plan, else a cancellation."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.permission = self.needed()
        return super().dispatch(request, *args, **kwargs)

    def needed(self) -> str:
        """Whoever may make a change may take it back."""
        if self.next is None:
            return CANCEL
        return ENABLE if self.next.version.tailored else permission(self.next.version.plan)

    @cached_property
    def next(self) -> Phase | None:
        return self.subscription.next_phase(self.now)

    @property
    def is_cancellation(self) -> bool:
        ends_at = self.subscription.ends_at
        return self.next is None and self.subscription.is_live and ends_at is not None and ends_at > self.now

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if self.next is None and not self.is_cancellation:
            return self.leave(said(NothingScheduled()))
        return super().get(request, *args, **kwargs)

    def get_title(self) -> str:
        return "Take back the cancellation" if self.is_cancellation else "Withdraw the scheduled change"

    def get_submit(self) -> str:
        return f"Keep {self.plan_name}" if self.is_cancellation else "Withdraw the change"

    def get_outcome(self) -> str:
        stays = f"{self.customer.name} stays on {self.plan_name}{' (custom)' if self._is_custom else ''}"
        if self.next:
            name = f"{self.next.version.plan.name}{' (custom)' if self.next.version.tailored else ''}"
            return f"{stays}; the change to {name} on {self.next.starts_at:%-d %b %Y} will not happen."
        if self.subscription.ends_at:
            return f"{stays}; it no longer ends on {self.subscription.ends_at:%-d %b %Y}."
        return ""

    @property
    def _is_custom(self) -> bool:
        return self.phase is not None and self.phase.version.tailored

    def act(self, form: forms.Form) -> str:
        sentence = self.get_outcome()
        withdraw(self.subscription, actor=self.actor, now=self.now)
        messages.success(self.request, sentence)
        return self.back()


class CancelForm(forms.Form):
    when = forms.ChoiceField(widget=forms.RadioSelect)
    ends_on = forms.DateField(
        label="Last day is the one before",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    bill_use = forms.ChoiceField(label="Open usage", widget=forms.RadioSelect, required=False)
    unused = forms.ChoiceField(label="Unused fees", widget=forms.RadioSelect, required=False)
    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown in the history and wherever the effect shows.",
        error_messages={"required": "Give a reason for a cancellation; it is shown wherever the effect shows."},
    )

    def __init__(self, *args: Any, planned: Cancellation, cycle_ends_at: datetime | None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        whens = [(NOW, "Now"), (ON_A_DAY, "On another day")]
        if cycle_ends_at:
            whens.insert(0, (CYCLE_END, f"At the end of the cycle, {cycle_ends_at:%-d %b %Y}"))
        use = format_minor(total(planned.use_lines), planned.currency)
        back = format_minor(-total(planned.unused), planned.currency)
        self._offer("when", whens)
        self._offer("bill_use", [("yes", f"Bill it on a final invoice: {use}"), ("no", "Do not bill it")])
        self._offer("unused", [("credit", f"Account credit: {back}"), ("nothing", "Nothing comes back")])

    def _offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        """The first choice is the usual one."""
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices, field.initial = choices, choices[0][0]

    def clean(self) -> dict[str, Any]:
        answers = super().clean() or {}
        if answers.get("when") == ON_A_DAY and not answers.get("ends_on") and "ends_on" not in self.errors:
            self.add_error("ends_on", "Say on which day access ends.")
        return answers

    @property
    def ends_at(self) -> datetime | None:
        """The day that was typed; whatever stands there counts only when it was asked for."""
        if self.cleaned_data["when"] != ON_A_DAY:
            return None
        return datetime.combine(self.cleaned_data["ends_on"], time(), UTC)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one set of answers leads to; the page shows the one that fits what is ticked."""

    when: str
    bill_use: str
    unused: str
    sentence: str


class CancelPage(SubscriptionAct):
    permission = CANCEL
    form_class = CancelForm
    danger = True
    act_template = "enable/cancel.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._gone() or super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._gone() or super().post(request, *args, **kwargs)

    def _gone(self) -> HttpResponse | None:
        """What is overdue is carried out first; it may be that the subscription ends with it."""
        catch_up(self.customer, now=self.now)
        self.subscription = self.read(self.subscription.public_id)
        return None if self.subscription.is_live else self.leave(said(AlreadyEnded()))

    @cached_property
    def planned(self) -> Cancellation:
        return preview_cancel(self.subscription, at_once=True, now=self.now)

    def get_form_kwargs(self) -> dict[str, Any]:
        cycle_ends_at = self.subscription.period_ends_at
        return super().get_form_kwargs() | {"planned": self.planned, "cycle_ends_at": cycle_ends_at}

    def get_title(self) -> str:
        return f"Cancel {self.plan_name}"

    def extra(self) -> dict[str, Any]:
        return {
            "outcomes": self.outcomes(),
            "planned": self.planned,
            "keep": f"Keep {self.plan_name}",
            "is_invoiced": self.phase is not None and self.phase.terms().is_invoiced,
        }

    def outcomes(self) -> list[Outcome]:
        """A sentence for each set of answers."""
        found = [
            Outcome(NOW, use, unused, self._now(use_lines, unused_lines))
            for use, use_lines in (("yes", self.planned.use_lines), ("no", ()))
            for unused, unused_lines in (("credit", self.planned.unused), ("nothing", ()))
        ]
        closing = "Use beyond what is included is billed with the closing invoice. " if self._has_prices else ""
        if ends_at := self.subscription.period_ends_at:
            sentence = f"Access ends on {ends_at:%-d %b %Y}. Nothing is due now. {closing}"
            found.append(Outcome(CYCLE_END, "", "", sentence + self.afterwards))
        sentence = f"Access ends as the chosen day begins (UTC). Fees already invoiced stay. {closing}"
        found.append(Outcome(ON_A_DAY, "", "", sentence + self.afterwards))
        return found

    @cached_property
    def afterwards(self) -> str:
        """What else comes of it: a scheduled change goes, and the default product may take over."""
        others = self.customer.subscriptions.live().exclude(pk=self.subscription.pk).exists()
        default = None if others else default_contract(self.customer)
        return " ".join(filter(None, [self.planned.withdraws, f"Then {default.plan_name} applies." if default else ""]))

    def _now(self, use_lines: tuple, unused_lines: tuple) -> str:
        planned = replace(self.planned, use_lines=use_lines, unused=unused_lines)
        return f"{planned.sentence} {self.afterwards}"

    @property
    def _has_prices(self) -> bool:
        return self.phase is not None and bool(self.phase.terms().usage_items)

    def act(self, form: CancelForm) -> str:
        answers = form.cleaned_data
        try:
            operation, invoices = cancel(
                self.subscription,
                at_once=answers["when"] == NOW,
                bill_use=answers["bill_use"] != "no",
                unused=answers["unused"] or "nothing",
                ends_at=form.ends_at,
                reason=answers["reason"],
                actor=self.actor,
                now=self.now,
            )
        except ValidationError as refused:
            if getattr(refused, "code", "") != "end_in_the_past":
                raise
            raise ValidationError({"ends_on": refused.messages}) from refused
        links = format_html_join(
            "", ' <a class="desk-link" href="{}">{}</a>', ((invoice_link(i.pk), str(i)) for i in invoices)
        )
        said_now = f"{operation.summary.replace('Canceled', f'{self.plan_name} was canceled', 1)}."
        messages.success(self.request, format_html("{}{}", said_now, links))
        return self.back()


page("subscriptions/<str:public_id>/withdraw/", name="withdraw_change")(WithdrawPage.as_view())
page("subscriptions/<str:public_id>/uncancel/", name="uncancel_subscription")(WithdrawPage.as_view())
page("subscriptions/<str:public_id>/cancel/", name="cancel_subscription")(CancelPage.as_view())
